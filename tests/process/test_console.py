"""What a person sees of a run: how far it is, where the page is, what went wrong; on a terminal, in a log, by mail."""

import contextlib
import datetime
import email
import email.policy
import os
import pty
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import running
from aiosmtpd.controller import Controller

from millrace.common.text import plain


class Inbox:
    """What a mail server was given: whom each message is for, and the message as it came."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], bytes]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append((envelope.rcpt_tos, envelope.content))
        return "250 OK"


@contextlib.contextmanager
def mail_server() -> Iterator[tuple[Inbox, int]]:
    """A real mail server on a free port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    inbox = Inbox()
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield inbox, port
    finally:
        controller.stop()


def settings(folder: Path, port: int) -> Mapping[str, str]:
    """The environment of a run whose luigi.cfg has the lines for mail that ours shows, uncommented."""
    shown = (running.ROOT / "luigi.cfg").read_text(encoding="utf-8")
    block = re.search(r"^# \[email\]\n(?:# .*\n)+", shown, re.MULTILINE)
    assert block
    lines = [line.removeprefix("# ") for line in block[0].splitlines()]
    assert len(lines) == 6
    text = "\n".join(lines).replace("smtp.example.org", "127.0.0.1").replace("587", str(port))
    (folder / "luigi.cfg").write_text(f"{text}\nno_tls = true\n", encoding="utf-8")
    return running.environment(LUIGI_CONFIG_PATH=str(folder / "luigi.cfg"))


def plain_tasks(folder: Path, *flags: object) -> list[str]:
    (folder / "made").mkdir(exist_ok=True)
    return running.command("All", "--folder", folder / "made", "--workers", 2, *flags, module="plain_tasks")


def on_a_terminal(command: list[str], folder: Path, env: Mapping[str, str]) -> tuple[int, str]:
    """Runs a process on a terminal of its own; its exit code and all that it wrote there."""
    ours, its = pty.openpty()
    process = subprocess.Popen(command, cwd=folder, env={**env, "TERM": "xterm"}, stdin=its, stdout=its, stderr=its)
    os.close(its)
    written = b""
    with contextlib.suppress(OSError):  # Linux tells the end of a terminal by an error
        while chunk := os.read(ours, 1 << 16):
            written += chunk
    os.close(ours)
    return process.wait(60), written.decode()


def screen(written: str) -> list[str]:
    r"""The lines that a terminal shows at last: \r goes to the line's begin, ESC [ K clears from there."""
    lines, at = [""], 0
    for part in re.findall(r"\x1b\[K|\r|\n|[^\x1b\r\n]+|\x1b", written):
        if part == "\n":
            lines.append("")
        elif part == "\r":
            at = 0
        elif part == "\x1b[K":
            lines[-1] = lines[-1][:at]
        else:
            lines[-1] = lines[-1][:at] + part + lines[-1][at + len(part) :]
            at += len(part)
    return lines


def test_a_terminal_shows_how_far_a_run_is(tmp_path: Path) -> None:
    """While a run works its last line is `5 of 9`: through what others print, through errors, and gone at the end."""
    with mail_server() as (inbox, port):
        command = plain_tasks(tmp_path, "--says", 2, "--fails", 5)
        code, written = on_a_terminal(command, tmp_path, settings(tmp_path, port))
    assert code == 30, written
    shown = [int(count) for count in re.findall(r"(\d+) of 9\r", written)]
    assert shown[0] == 0
    assert shown[-1] == 7  # one failed, and so did what needs it
    assert sorted(set(shown)) == list(range(8))
    last = screen(written)
    assert not [line for line in last if re.search(r"\d of \d", line)]
    assert "a library speaks on standard error" in last
    assert len([line for line in last if line.startswith("ERROR: ")]) == 1
    assert "INFO" not in written
    assert "The page is" not in written
    assert inbox.mails == []  # whoever sits there sees it


def test_a_failed_run_sends_one_mail_and_its_log_is_safe(tmp_path: Path) -> None:
    """One mail for all that failed, with each sentence; neither it nor the log obeys a server."""
    with mail_server() as (inbox, port):
        command = plain_tasks(tmp_path, "--fails", 5, "--breaks", 6)
        ran = running.run(command, tmp_path, settings(tmp_path, port))
    assert ran.code == 30, ran
    said = "the server said \ufffd[31mred\ufffd2J \ufffdgpj ERROR: forged <b>bold</b>"
    assert len([line for line in ran.errors if said in line]) == 1
    assert plain(str(ran), keep="\n\t") == str(ran)
    assert not [line for line in str(ran).splitlines() if line.startswith(("ERROR: forged", "INFO"))]
    assert " of 9" not in str(ran)
    assert "Traceback" in str(ran)  # of the bug, for whoever mends it
    ((receivers, content),) = inbox.mails
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert receivers == ["team@example.org"]
    assert re.fullmatch(r"\[millrace\] All.* failed on .*", message["Subject"])
    (part,) = message.iter_parts()
    text = part.get_content()
    assert said in text
    assert re.search(r"One.*number=6.*: KeyError: 'nobody thought of https://…@h\.example/\?token=…", text)
    assert "hush" not in text
    assert "Traceback" not in text
    assert str(running.ROOT) not in text


def test_a_run_that_never_began_sends_its_mail_too(tmp_path: Path) -> None:
    """A wrong flag and a wrong setting stop a run before its summary; whoever is on call hears of it all the same."""
    with mail_server() as (inbox, port):
        env = settings(tmp_path, port)
        ran = running.run(running.command("Report", "--date", "2026-13-01"), tmp_path, env)
    assert ran.code == 40, ran
    ((_, content),) = inbox.mails
    (part,) = email.message_from_bytes(content, policy=email.policy.default).iter_parts()
    assert "Report.date = '2026-13-01', from the flag --date: allowed is a day as YYYY-MM-DD" in part.get_content()


def test_a_mail_that_can_not_be_sent_changes_nothing(tmp_path: Path) -> None:
    """A mail server that is not there costs a line, and the exit code stays that of the run."""
    with mail_server() as (_, port):
        pass
    ran = running.run(plain_tasks(tmp_path, "--fails", 5), tmp_path, settings(tmp_path, port))
    assert ran.code == 30, ran
    assert "smtp" in ran.err
    assert "Traceback" not in str(ran)
    assert "Warning" not in str(ran)


def test_run_that_waits_sends_no_mail(tmp_path: Path) -> None:
    """Neither ours nor, where luigi's own mails of failures are asked for, luigi's; what fails beside it has both."""
    flags = ("--folder", tmp_path, "--worker-send-failure-email")
    with mail_server() as (inbox, port):
        env = settings(tmp_path, port)
        waits = running.run(running.command("Both", *flags, module="waiting_tasks"), tmp_path, env)
        assert (waits.code, inbox.mails) == (13, []), waits
        fails = running.run(running.command("WithFailure", *flags, module="waiting_tasks"), tmp_path, env)
        assert (fails.code, len(inbox.mails)) == (30, 2), fails


def test_a_run_ends_with_the_page_and_knows_no_zone(undisturbed: Path, tmp_path: Path) -> None:
    """Made anew in India, a page is that of UTC but for when it was made; its run ends with the page's path, twice."""
    storage = tmp_path / "data"
    shutil.copytree(undisturbed, storage)
    shutil.rmtree(storage / "reports")
    broken = storage / "reports" / "date=2026-10-01" / "report.json"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"{")
    there = undisturbed / "reports" / f"date={running.DAY}"
    flags = ["--date", running.DAY, "--posts-days", 1]
    env = running.environment(TZ="Asia/Kolkata")
    ran = running.luigi("Report", *flags, storage=storage, env=env)
    assert ran.code == 0, ran
    page = storage / "reports" / f"date={running.DAY}" / "index.html"
    assert ran.err.splitlines()[-1] == f"The page is {page}"
    assert "INFO" not in str(ran)
    (warned,) = [line for line in ran.err.splitlines() if str(broken) in line]  # another day's, and damaged
    assert "clear reports/date=2026-10-01" in warned
    assert b"2026-10-01" not in (storage / "reports" / "index.html").read_bytes()
    (line,) = [line for line in ran.err.splitlines() if " Report " in line and "files" in line]
    told = re.match(r"(\d\d):(\d\d):\d\dZ  ", line)
    assert told
    now = datetime.datetime.now(datetime.UTC)
    assert (60 * now.hour + now.minute - 60 * int(told[1]) - int(told[2])) % (24 * 60) < 10
    for name in ("index.html", "report.json", "report.png"):
        old, new = ((folder / name).read_bytes() for folder in (there, page.parent))
        assert without_its_time(new) == without_its_time(old), name
    again = running.luigi("Report", *flags, storage=storage, env=env)
    assert again.err.splitlines()[-1] == f"The page is {page}"


def test_a_run_for_several_pages_ends_with_their_list(tmp_path: Path) -> None:
    """Where a task stands for others (as RangeDaily), the run ends with the list of their pages, for a browser."""
    ran = running.run(plain_tasks(tmp_path), tmp_path)
    assert ran.code == 0, ran
    listed = "https://storage.cloud.google.com/bucket/reports/index.html"
    assert ran.err.splitlines()[-1] == f"8 pages are listed in {listed}"


def without_its_time(content: bytes) -> bytes:
    """A page, or its JSON, without when it was made."""
    return re.sub(rb"Made \d+ \w+ \d+, \d\d:\d\d UTC|\"made_at\": \"[^\"]*\"", b"", content)

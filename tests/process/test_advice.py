"""Commands that messages print: each is run as printed, where the message came, and destroys no more than meant."""

import datetime
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import running
from luigi.cmdline_parser import CmdlineParser
from running import DAY

from millrace.errors import ManifestError, SettingsDifferError
from millrace.ops import clear
from millrace.tasks import advice
from workflows import Count, Fetch, Report


@pytest.fixture
def storage(tmp_path: Path, undisturbed: Path) -> Path:
    """A storage like the undisturbed run's, below a folder whose name a shell would take apart."""
    (tmp_path / "it's mine").mkdir()
    return Path(shutil.copytree(undisturbed, tmp_path / "it's mine" / "data"))


@pytest.fixture
def run(storage: Path) -> Iterator[CmdlineParser]:
    """This process as a run over that storage."""
    with CmdlineParser.global_instance(["--module", "workflows", "Etl", "--millrace-storage", str(storage)]) as parser:
        yield parser


def printed(message: str) -> list[str]:
    """The arguments of the bin/clear command in a message, as a shell takes them."""
    _, found, rest = message.partition("bin/clear ")
    assert found, message
    lexer = shlex.shlex(rest, posix=True, punctuation_chars="();")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if set(word) <= set("();"):
            break
        words.append(word)
    return words


def carry_out(message: str) -> int:
    """Does what a message says, in this process."""
    words = printed(message)
    parser, CmdlineParser._instance = CmdlineParser._instance, None
    try:
        return clear.main(words)
    finally:
        CmdlineParser._instance = parser


def test_a_broken_manifest_s_command_takes_that_partition(run: CmdlineParser, storage: Path) -> None:
    """The command names the one partition: other days', and what it was made from, stay; a run can make it anew."""
    before = set(running.complete(storage))
    (storage / f"counts/date={DAY}/_MANIFEST.json").write_text("{")
    with pytest.raises(ManifestError, match="is no manifest") as broken:
        Count(date=DAY).complete()
    assert carry_out(str(broken.value)) == 0
    made = {f"{name}/date={DAY}" for name in ("reports", *running.KEYS)}
    assert before - set(running.complete(storage)) == {f"counts/date={DAY}", *made}
    assert not Count(date=DAY).complete()


def test_other_settings_command_takes_what_depends_on_them(storage: Path) -> None:
    """What does not depend on the setting stays: raw records and posts; then a run of the new setting is no error."""
    flags = ["--posts-rules", "classic", "--posts-days", "1", "--millrace-storage", str(storage)]
    before = set(running.complete(storage))
    with CmdlineParser.global_instance(["--module", "workflows", "Etl", *flags]):
        with pytest.raises(SettingsDifferError) as differ:
            Report(date=DAY).complete()
        assert printed(str(differ.value))[:3] == ["Count", "--from", "2026-10-31"]
        there = running.files(storage)
        assert carry_out(str(differ.value)) == 1  # two days' go: it asks, and nobody is there
        assert running.files(storage) == there
        assert carry_out(f"bin/clear {shlex.join(printed(str(differ.value)))} --yes") == 0
        gone = before - set(running.complete(storage))
        assert {partition.split("/")[0] for partition in gone} == {"counts", "reports", *running.KEYS}
        assert not Report(date=DAY).complete()


def test_the_command_that_runs_a_task_again_is_the_same_task(storage: Path) -> None:
    """It has the task's parameters and the flags that were given, quoted as a shell needs it."""
    given = ["--posts-source", "a.jsonl 'b c.jsonl'", "--millrace-storage", str(storage), "--detach"]
    source = "/some where/{date:%Y}.jsonl"
    with CmdlineParser.global_instance(["--module", "workflows", "Report", "--days", "3", *given]):
        command = Fetch(date=DAY, source=source).command
    words = shlex.split(command)
    assert words[0].endswith("luigi")
    with CmdlineParser.global_instance(words[1:]) as again:
        assert again.get_task_obj() == Fetch(date=DAY, source=source)
        for flag, value in {"posts_source": given[1], "millrace_storage": str(storage), "run_detach": "true"}.items():
            assert getattr(again.known_args, flag) == value


def test_flags_are_those_that_luigi_cfg_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command finds in the project's luigi.cfg is not repeated; a relative storage becomes whole."""
    monkeypatch.chdir(running.ROOT)
    monkeypatch.delenv(advice.CALLED_FROM, raising=False)
    base = ["--module", "workflows", "Etl"]
    day = datetime.date(2026, 11, 19)
    for flags, said in {
        (): "",
        ("--millrace-storage", "data"): "",
        ("--millrace-storage", "./data/"): "",
        ("--millrace-storage", "x/{dataset}"): f" --millrace-storage '{running.ROOT}/x/{{dataset}}'",
        ("--millrace-storage", "gs://bucket-a/p/", "--gcp-project", "one"): " --millrace-storage gs://bucket-a/p"
        " --gcp-project one",
    }.items():
        with CmdlineParser.global_instance([*base, *flags]):
            assert advice.clear("Etl", day, day) == f"bin/clear Etl --from {day} --to {day}{said}"
    monkeypatch.setenv(advice.CALLED_FROM, "/")
    with CmdlineParser.global_instance(base):
        assert advice.clear(["Etl", "Count"], last=day) == f"{running.ROOT}/bin/clear Etl Count --to {day}"


def test_a_bad_day_of_one_source_costs_no_other(project: Path, undisturbed: Path) -> None:
    """As cron has it: what bin/run mails is pasted into a shell, elsewhere; only the bad source's bad day goes."""
    day = "2026-11-05"
    storage = Path(shutil.copytree(undisturbed, project / "data"))
    names = ("fine one", "bad $HOME")
    sources = [f"{project}/{name} {{date:%Y-%m-%d}}.jsonl" for name in names]
    good = [{"id": n, "created_at": f"{day}T01:00:00Z", "text": "snow on the pier"} for n in range(9)]
    running.write_posts(project / f"fine one {day}.jsonl", good)
    running.write_posts(project / f"bad $HOME {day}.jsonl", ["{", "}"])
    env = running.environment(PYTHONPATH=str(project))
    del env["LUIGI_CONFIG_PATH"]
    flags = ["--date", day, "--posts-source", shlex.join(sources), "--millrace-storage", str(storage)]
    ran = running.run([project / "bin/run", "Etl", *flags], Path("/"), env)
    assert ran.code == 30, ran
    (command,) = set(re.findall(r"\((/\S*bin/clear .*?)\), then run again", ran.err))
    before = set(running.complete(storage))
    done = running.run(["sh", "-c", command], Path("/"), env)
    assert done.code == 0, done
    raw, rejected = sorted(before - set(running.complete(storage)), reverse=True)
    assert re.fullmatch(rf"raw/source=\S*bad\S*/date={day}", raw)
    assert rejected == f"posts_rejected/date={day}"
    assert "this can't be had again where the source that it was read from has it no more" in done.err

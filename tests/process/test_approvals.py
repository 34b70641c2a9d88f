"""A flow with a gate, driven as cron and people do it: real luigi processes, and bin/approve between them."""

import datetime
import json
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import running
from luigid_asking import ask, listed
from running import LONGEST, WHOLE, Ran

DATE = ("--date", running.DAY)
GATE = f"publish of {running.DAY}"
#: A time as people are told it.
TIME = r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ"

GRAPH = """
name = "gated"
[jobs.draft]
task = "Draft"
parameters = { date = "{date}" }
[jobs.look]
after = ["draft"]
task = "Approval"
parameters = { name = "look", date = "{date}" }
[jobs.send]
after = ["look"]
task = "Aside"
parameters = { date = "{date}" }
"""

pytestmark = pytest.mark.timeout(LONGEST if WHOLE else 600)


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """Where the flow's storage is to be: a path that holds what means something elsewhere."""
    return tmp_path / "date=2020-01-01" / "it's {date} 50%"


def fire(storage: Path, *flags: object, task: str = "All", **env: str) -> Ran:
    """One run of the flow."""
    storage.parent.mkdir(parents=True, exist_ok=True)
    command = running.command(task, *DATE, "--millrace-storage", storage, *flags, module="gate_tasks")
    return running.run(command, storage.parent, running.environment(**env))


def approving(storage: Path, *arguments: object) -> list[str]:
    command = [running.python(), "-m", "millrace", "approve", "--millrace-storage", storage, "--module", "gate_tasks"]
    return [str(each) for each in [*command, *arguments]]


def approve(storage: Path, *arguments: object, **env: str) -> Ran:
    """One call of `millrace approve`."""
    return running.run(approving(storage, *arguments), storage.parent, running.environment(**env))


def kinds(storage: Path, gate: str = f"publish/date={running.DAY}") -> list[str]:
    """What has happened at a gate, as its files say."""
    return [json.loads(path.read_text())["kind"] for path in sorted((storage / "_approvals" / gate).glob("*.json"))]


def by_shell(command: str, folder: Path) -> Ran:
    """A command that was printed, typed as it stands."""
    return running.run(["sh", "-c", command], folder)


def said(ran: Ran, word: str) -> list[str]:
    """The lines of a run that hold a word."""
    return [line for line in (ran.out + ran.err).splitlines() if word in line]


@pytest.mark.parametrize("workers", [1, 3])
def test_a_flow_waits_for_its_gate_and_goes_on_when_somebody_has_approved(workers: int, storage: Path) -> None:
    """Pending is exit code 13 and no failure, and what has nothing to do with the gate is done; the command that the
    run prints approves; the next run tells who, when and why, and goes on.
    """
    for _ in range(2):
        pending = fire(storage, "--workers", workers)
        assert pending.code == 13, pending
        assert pending.errors == []
        assert running.complete(storage) == [f"{name}/date={running.DAY}" for name in ("asides", "drafts")]
        [line] = said(pending, "waiting for approval since")
        words = rf"\S+  Approval publish {running.DAY}: waiting for approval since {TIME}; .* answers"
        assert re.fullmatch(words, line), line
    assert kinds(storage) == ["asked"]
    command = line.partition("Z; ")[2].removesuffix(" answers")
    approved = by_shell(f"{command} --by ann --reason 'looks right'", storage.parent)
    assert approved.code == 0, approved
    assert re.fullmatch(rf"{GATE}: approved by ann at {TIME}: looks right\n", approved.out), approved
    done = fire(storage, "--workers", workers)
    assert done.code == 0, done
    assert re.search(rf"Approval publish {running.DAY}: approved by ann at {TIME}: looks right\n", done.err), done
    assert f"published/date={running.DAY}" in running.complete(storage)
    assert kinds(storage) == ["asked", "approved"]


def test_a_rejected_gate_fails_what_depends_on_it_until_it_is_opened_again(storage: Path) -> None:
    """The run fails with one sentence: who, when, why, and the command that opens the gate; typed as it stands, that
    one has the gate wait again, and nothing that was said is lost.
    """
    assert fire(storage).code == 13
    rejected = approve(storage, "publish", *DATE, "--by", "ann", "--reject", "--reason", "half is missing")
    assert rejected.code == 0, rejected
    for _ in range(2):
        failed = fire(storage)
        assert failed.code == 30, failed
        [error] = failed.errors
        assert re.match(
            rf"ERROR: Approval publish {running.DAY}: gate {GATE} was rejected by ann at {TIME}: half is missing; ",
            error,
        ), error
        assert "Traceback" not in failed.err
        assert f"* 2 had failed dependencies:\n        - 1 All(date={running.DAY})" in failed.err
    opened = by_shell(error.partition("missing; ")[2].removesuffix(" opens it again"), storage.parent)
    assert opened.code == 0, opened
    assert opened.out == f"{GATE}: opened again\n"
    assert fire(storage).code == 13
    assert approve(storage, "publish", *DATE, "--by", "bob").code == 0
    assert fire(storage).code == 0
    shown = approve(storage, "publish", *DATE, "--show")
    what = [re.sub(rf" at {TIME}|\(.*", "", line).strip() for line in shown.out.splitlines()]
    assert [re.sub("reopened by .*", "reopened", line) for line in what] == [
        f"{GATE}: approved by bob",
        "asked for by All",
        "rejected by ann: half is missing",
        "reopened",
        "approved by bob",
    ]


def test_an_answer_to_what_nobody_waits_for_is_refused_with_the_nearest(storage: Path) -> None:
    """A misspelt name is one sentence, exit code 1; what it prints for who means it is typed as it stands, and a run
    that comes later finds that answer.
    """
    assert fire(storage).code == 13
    wrong = approve(storage, "publsh", *DATE, "--by", "ann lee", "--reject", "--reason", "it's {0}")
    assert (wrong.code, wrong.out) == (1, "")
    [error] = wrong.err.splitlines()
    assert error.startswith(f"error: nobody waits at gate publsh of {running.DAY}: did you mean {GATE}? "), error
    assert kinds(storage, f"publsh/date={running.DAY}") == []
    ahead = by_shell(error.partition(f"is {GATE}; ")[2].removesuffix(" does it before anybody asks"), storage.parent)
    assert ahead.code == 0, ahead
    assert "rejected by ann lee at" in ahead.out
    failed = fire(storage, GATE="publsh")
    assert failed.code == 30, failed
    assert "it's {0}" in failed.errors[0]


def test_list_tells_what_waits(storage: Path) -> None:
    """Every gate that waits: since when, and for which run; in UTC, wherever the command is called."""
    assert fire(storage, TZ="America/New_York").code == 13
    assert fire(storage, task="Publish", GATE="send").code == 13
    asked = [
        json.loads((storage / f"_approvals/{name}/date={running.DAY}/0001.json").read_text())
        for name in ("publish", "send")
    ]
    since = [each["at"][:19].replace("T", " ") + "Z" for each in asked]
    listed = approve(storage, "--list", TZ="Asia/Tokyo")
    assert listed.code == 0, listed
    assert listed.out.splitlines() == [
        f"{GATE}: waiting since {since[0]}, asked for by All(date={running.DAY})",
        f"send of {running.DAY}: waiting since {since[1]}, asked for by Publish {running.DAY}",
    ]
    assert approve(storage, "send", "--list").out.splitlines() == listed.out.splitlines()[1:]
    assert approve(storage, "publish", "--date", "2020-01-01", "--list").out == ""
    answered = approve(storage, "publish", *DATE, "--by", "ann")
    assert answered.code == 0
    assert approve(storage, "--list").out.splitlines() == listed.out.splitlines()[1:]
    (storage / f"_approvals/send/date={running.DAY}/0001.json").write_text("{")
    broken = approve(storage, "--list")
    assert (broken.code, broken.out) == (1, "")
    assert re.fullmatch(r"error: .*0001\.json is damaged.*\n", broken.err), broken


def test_several_who_approve_at_once(storage: Path) -> None:
    """Of processes that answer at once one wins, and each other is told who was first; the same answer by the same
    person is given already, and ends with 0.
    """
    assert fire(storage).code == 13
    people = ["ann", "bob", "cat", "dan"]
    calls = [
        subprocess.Popen(
            approving(storage, "publish", *DATE, "--by", who, *(["--reject"] if n % 2 else [])),
            cwd=storage.parent,
            env=running.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n, who in enumerate(people)
    ]
    ended = [(who, *call.communicate(timeout=60), call.returncode) for who, call in zip(people, calls, strict=True)]
    [(winner, out)] = [(who, out) for who, out, _, code in ended if code == 0]
    for who, _, err, code in ended:
        if who != winner:
            assert code == 1
            assert re.match(
                rf"error: gate {GATE} was (approved|rejected) by {winner} at {TIME}; nothing was changed; ", err
            )
    answer = re.search("approved|rejected", out)
    assert answer
    assert kinds(storage) == ["asked", answer[0]]
    again = approve(storage, "publish", *DATE, "--by", winner, *(["--reject"] if answer[0] == "rejected" else []))
    assert (again.code, again.out) == (0, out)
    assert again.err == "note: this was said before; nothing was changed\n"


def test_a_token_answers_from_standard_input(storage: Path) -> None:
    """--token prints the secret and nothing else on standard output; --with-token - takes it from standard input."""
    assert fire(storage).code == 13
    made = approve(storage, "publish", *DATE, "--token", "--expires", "90m", "--allows", "reject", "--by", "cron")
    assert made.code == 0, made
    said_until = re.findall(rf"once, until ({TIME}),", made.err)
    [until] = [datetime.datetime.fromisoformat(each) for each in said_until]
    left = until - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(minutes=85) < left <= datetime.timedelta(minutes=90)
    [secret] = made.out.splitlines()
    assert re.fullmatch(rf"publish\.{running.DAY}\.[\w-]{{43}}", secret)
    assert re.match(rf"note: it is to reject gate {GATE}, once, until {TIME}, and can't be shown again; ", made.err), (
        made
    )

    def answer(*flags: str) -> Ran:
        call = approving(storage, "--with-token", "-", "--by", "ann", *flags)
        done = subprocess.run(
            call, cwd=storage.parent, env=running.environment(), input=made.out, capture_output=True, text=True
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    refused = answer()
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == f"error: this token was made to reject gate {GATE}, and for nothing else\n"
    rejected = answer("--reject", "--reason", "by mail")
    assert rejected.code == 0, rejected
    assert re.fullmatch(rf"{GATE}: rejected by ann with a token at {TIME}: by mail\n", rejected.out)
    assert kinds(storage) == ["asked", "token made", "rejected"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["../x", "--by", "ann"], 1, "'../x' is no name of a gate: allowed is a word of letters, digits,"),
        (["publish", "--date", "2026-13-01"], 1, "--date = '2026-13-01': allowed is a day as YYYY-MM-DD"),
        (["publish", "--token", "--expires", "31d"], 1, "--expires = '31d': allowed is a time from 1m to 30d"),
        (["publish", "--token", "--expires", "0m"], 1, "--expires = '0m': allowed is a time from 1m to 30d"),
        (["publish", "--by", ""], 1, "nobody is named for gate publish; say who it is with --by"),
        (["--with-token", "publish.no-date.x", "--by", "ann"], 1, "this token opens nothing in this storage"),
        (["publish", "--with-token", "x"], 2, "--with-token takes no NAME and no --date"),
        (["--by", "ann"], 2, "no gate is named; --list says which wait"),
        (["publish", "--reopen", "--token"], 2, "--reopen and --token exclude each other"),
        (["publish", "--show", "--reject"], 2, "--reject means nothing with --show"),
        (["publish", "--expires", "2h"], 2, "--expires means nothing here"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(arguments: list[str], code: int, words: str, storage: Path) -> None:
    """It says what is wrong, and changes nothing."""
    storage.parent.mkdir(parents=True)
    ran = approve(storage, *arguments)
    assert (ran.code, ran.out) == (code, ""), ran
    [line] = ran.err.splitlines()
    assert line.startswith(f"error: {words}"), line
    assert not storage.exists()


def test_a_gate_whose_class_names_it_wrongly_is_one_sentence(storage: Path) -> None:
    """The run says which task, and what is allowed; so does a wrong name on the command line."""
    for task, flags, words in (
        ("Open", [], "Open.name = 'not/a name': allowed is a word"),
        ("Approval", ["--name", "a/b"], "Approval.name = 'a/b', from the flag --name: allowed is a word"),
    ):
        ran = fire(storage, *flags, task=task)
        assert ran.code in (35, 40), ran
        [error] = ran.errors
        assert words in error
        assert "Traceback" not in ran.err


def test_a_gate_of_ones_own_asks_when_there_is_something_to_look_at(storage: Path) -> None:
    """What a gate requires is made before anybody is asked."""
    pending = fire(storage, task="Publish", GATE="look")
    assert pending.code == 13, pending
    assert running.complete(storage) == [f"drafts/date={running.DAY}"]
    assert said(pending, f"Look look {running.DAY}: waiting for approval since ")
    assert approve(storage, "look", *DATE, "--by", "ann").code == 0
    assert fire(storage, task="Publish", GATE="look").code == 0


@pytest.mark.parametrize("workers", [pytest.param(1, marks=running.long), 2])
def test_a_flow_that_comes_to_a_gate_in_its_midst(workers: int, storage: Path) -> None:
    """A gate that a flow's steps yield is waited for as any other, and hands the flow who answered, and why."""
    for _ in range(2):
        pending = fire(storage, "--workers", workers, task="Asks")
        assert pending.code == 13, pending
        assert said(pending, f"Approval midst {running.DAY}: waiting for approval since ")
    assert approve(storage, "midst", *DATE, "--by", "ann", "--reason", "why not").code == 0
    done = fire(storage, "--workers", workers, task="Asks")
    assert done.code == 0, done
    manifest = running.partition(storage, f"asks/date={running.DAY}")
    assert manifest is not None
    assert manifest.value is not None
    assert manifest.value.json == "ann: why not"


def test_a_job_of_a_graph_may_be_a_gate(storage: Path) -> None:
    """What comes after it begins when somebody has approved; who asked is the graph."""
    storage.parent.mkdir(parents=True)
    (storage.parent / "gated.toml").write_text(GRAPH)
    assert fire(storage, "--spec", "gated.toml", task="JobGraph").code == 13
    assert running.complete(storage) == [f"drafts/date={running.DAY}"]
    [line] = approve(storage, "--list").out.splitlines()
    assert re.fullmatch(rf"look of {running.DAY}: waiting since {TIME}, asked for by JobGraph.*", line), line
    assert approve(storage, "look", *DATE, "--by", "ann").code == 0
    assert fire(storage, "--spec", "gated.toml", task="JobGraph").code == 0
    assert running.complete(storage) == [f"{name}/date={running.DAY}" for name in ("asides", "drafts")]


def test_results_are_cleared_and_gates_are_not(storage: Path) -> None:
    """Forgetting a result, or what was made of it, takes no answer; of a gate one is told how it is opened again."""
    assert fire(storage, task="Publish", GATE="look").code == 13
    assert approve(storage, "look", *DATE, "--by", "ann").code == 0
    assert fire(storage, task="Publish", GATE="look").code == 0

    def clear(*arguments: str) -> Ran:
        command = [running.python(), "-m", "millrace", "clear", "--millrace-storage", storage, "--module", "gate_tasks"]
        return running.run([*command, *arguments], storage.parent)

    gone = clear("Draft")
    assert gone.code == 0, gone
    assert running.complete(storage) == []
    assert kinds(storage, f"look/date={running.DAY}") == ["asked", "approved"]
    gate = clear("Look")
    assert (gate.code, gate.out) == (1, ""), gate
    assert re.fullmatch(r"error: Look is a gate, which .*approve NAME --date D --reopen opens it again\n", gate.err)


# ---------------------------------------------------------------------------------------------- what a result is of


def test_a_gate_is_no_part_of_what_a_result_is_made_of(storage: Path) -> None:
    """What was made without a gate stays complete behind one, and what was made behind one without it or behind
    another; who approved, and when, changes nothing of a result.
    """
    assert fire(storage, GATE="").code == 0
    before = running.files(storage)
    for gate in ("publish", "send", "look"):
        ran = fire(storage, GATE=gate)
        assert ran.code == 0, ran
    assert running.files(storage) == before
    without = running.partition(storage, f"published/date={running.DAY}")
    made = []
    for who in ("ann", "bob"):
        other = storage.parent / who
        assert fire(other).code == 13
        assert approve(other, "publish", *DATE, "--by", who).code == 0
        assert fire(other).code == 0
        assert fire(other, GATE="").code == 0
        made.append(running.partition(other, f"published/date={running.DAY}"))
    assert without is not None
    for manifest in made:
        assert manifest is not None
        assert (manifest.settings, manifest.code) == (without.settings, without.code)
        assert [entry.partition for entry in manifest.inputs] == [f"drafts/date={running.DAY}"]


# ------------------------------------------------------------------------------------------------------- at a luigid


def test_luigid_shows_what_a_gate_waits_for_and_who_approved(server: int, storage: Path) -> None:
    """While it waits the gate is PENDING with how it is answered; then DONE with who, when and why; rejected it is
    FAILED, and opened again it is PENDING once more.
    """
    flags = ["--scheduler-port", server, "--workers", 2]
    for _ in range(2):
        assert fire(storage, *flags).code == 13
        assert fire(storage, *flags, task="Draft").code == 0  # another run ends, for which nothing waits
        [wait] = [task for task in listed(server, "PENDING").values() if task["name"] == "Waiting"]
        assert wait["params"] == {"for": f"approval of {GATE}"}
        assert listed(server, "FAILED") == listed(server, "RUNNING") == listed(server, "DISABLED") == {}
        [gate] = [task for task in listed(server, "PENDING").values() if task["name"] == "Approval"]
        assert re.match(
            rf"waiting for approval since {TIME}\n.*approve publish --date 2026-11-01 .* answers",
            gate["status_message"],
        ), gate
    assert approve(storage, "publish", *DATE, "--by", "ann", "--reject", "--reason", "<b>half</b> & more").code == 0
    assert fire(storage, *flags).code == 30
    [(task_id, failed)] = listed(server, "FAILED").items()
    assert failed["name"] == "Approval"
    error = json.loads(ask(server, "fetch_error", task_id=task_id)["error"])
    assert error.startswith(f"gate {GATE} was rejected by ann at "), error
    assert "Traceback" not in error
    assert re.match(rf"rejected by ann at {TIME}: ‹b›half‹/b› & more", failed["status_message"])
    assert approve(storage, "publish", *DATE, "--reopen", "--by", "bob").code == 0
    assert fire(storage, *flags).code == 13
    assert listed(server, "FAILED") == {}
    assert approve(storage, "publish", *DATE, "--by", "bob", "--reason", "all there").code == 0
    assert fire(storage, *flags).code == 0
    assert listed(server, "PENDING") == {}
    [done] = [task for task in listed(server, "DONE").values() if task["name"] == "Approval"]
    assert re.match(rf"approved by bob at {TIME}: all there", done["status_message"]), done


# ------------------------------------------------------------------------------------------------------------- kills


def killed(command: Sequence[str], folder: Path, crash: str, log: Path) -> int:
    """Runs a process that dies as `crash` says (crashing.py), in a group of its own; its exit code."""
    env = running.environment(CRASH=crash, CRASH_LOG=str(log))
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return process.wait(120)


def steps(storage: Path) -> list[list[str]]:
    """The commands of the whole flow, in order: a run that asks, the answer, and a run that goes on."""
    run = running.command("Publish", *DATE, "--millrace-storage", storage, "--workers", "1", module="gate_tasks")
    return [run, approving(storage, "publish", *DATE, "--by", "ann", "--reason", "looks right"), run]


#: What the commands end with, and what the flow has come to then: at its gate, and in partitions.
CODES = (13, 0, 0)
OUTCOMES = (
    ["asked", f"drafts/date={running.DAY}"],
    ["asked", "approved", f"drafts/date={running.DAY}"],
    ["asked", "approved", f"drafts/date={running.DAY}", f"published/date={running.DAY}"],
)


def outcome(storage: Path) -> list[str]:
    """What a flow has come to: what happened at its gate, what is complete, what is left over."""
    return [*kinds(storage), *running.complete(storage), *running.leftovers(storage)]


def moments(folder: Path) -> list[tuple[int, str, str]]:
    """All moments at which a process of the flow can die: the number of its command, the moment, and in words.

    What there is before the command N is kept as "before N".
    """
    found, storage = [], folder / "data"
    storage.mkdir(parents=True)
    for number, command in enumerate(steps(storage)):
        shutil.copytree(storage, folder / f"before {number}")
        log = folder / f"moments {number}"
        assert killed(command, folder, "", log) == CODES[number]
        assert outcome(storage) == OUTCOMES[number]
        counted = {"call": 0, "file": 0}
        for line in log.read_text().splitlines():
            kind, _, what = line.partition(" ")
            counted[kind] += 1
            ways = {"call": ["before", "after"], "file": ["before", *(["torn"] if what.startswith("open ") else [])]}
            found += [(number, f"{kind}:{counted[kind]}:{how}", what) for how in ways[kind]]
    return found


def trouble(before: Path, number: int, crash: str, folder: Path) -> list[str]:
    """What is wrong after a command was killed and given again; and after the others, where all is tried."""
    folder.mkdir()
    storage = Path(shutil.copytree(before, folder / "data"))
    commands = steps(storage)
    code = killed(commands[number], folder, crash, folder / "moments")
    if code != -signal.SIGKILL:
        return [f"{number} {crash}: ended with {code}"]
    for each in range(number, len(commands) if WHOLE else number + 1):
        ran = running.run(commands[each], folder)
        if ran.code != CODES[each] or outcome(storage) != OUTCOMES[each]:
            return [f"{number} {crash}: command {each}: {outcome(storage)}, {ran}"]
    return []


def test_killed_at_any_effect_of_a_flow_with_a_gate(tmp_path: Path) -> None:
    """kill -9 of a run, or of the command that approves, before or after any change of the storage: the same command
    given again brings the flow to the same place, with one question and one answer.

    Without the long matrices the calls that change a gate are tried, and some of the other moments.
    """
    counted = tmp_path / "counted"
    every = moments(counted)
    calls = [each for each in every if each[1].startswith("call:") and " _approvals/" in each[2]]
    assert [number for number, *_ in calls] == [0, 0, 1, 1]
    assert {number for number, *_ in every} == {0, 1, 2}
    files = [each for each in every if each[0] == 1 and each not in calls]
    others = [each for each in every if each[0] != 1 and each not in calls]
    chosen = every if WHOLE else [*calls, *files[::3], others[len(others) // 2]]
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(trouble, counted / f"before {number}", number, crash, tmp_path / f"{n}")
            for n, (number, crash, _) in enumerate(chosen)
        ]
        wrong = [line for job in jobs for line in job.result()]
    assert not wrong, "\n".join(wrong)

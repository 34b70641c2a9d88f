"""Flows in real luigi processes: the examples of docs/flows.md, what is handed on, and what goes wrong with them."""

import datetime
import functools
import json
import logging
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import running
from dataflow_running import Set
from luigid_asking import listed
from running import Ran

from millrace import Delay, Flow
from millrace.core import manifests
from millrace.core.manifests import Manifest
from millrace.core.storage import Storage
from millrace.tasks import session
from millrace.tasks.session import Session
from workflows.examples import AddOne, AddTwo, Log

DAY = "2026-11-19"


class Here:
    """A folder in which luigi runs flows; its storage has a name that means something elsewhere."""

    def __init__(self, folder: Path, *flags: object) -> None:
        self.folder, self.storage, self.flags = folder, folder / "it's {data}=#1", flags

    def command(self, task: str, *flags: object, module: str = "workflows.examples") -> list[str]:
        return running.command(task, "--millrace-storage", self.storage, *flags, *self.flags, module=module)

    def env(self, **changes: str) -> dict[str, str]:
        return running.environment(AT=str(self.folder), **changes)

    def run(self, task: str, *flags: object, code: int = 0, module: str = "workflows.examples", **env: str) -> Ran:
        ran = running.run(self.command(task, *flags, module=module), self.folder, self.env(**env))
        assert ran.code == code, ran
        return ran

    def start(self, task: str, *flags: object) -> "subprocess.Popen[str]":
        """A luigi process that is the leader of a group of its own."""
        return subprocess.Popen(
            self.command(task, *flags, module="flow_tasks"),
            cwd=self.folder,
            env=self.env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def value(self, partition: str) -> Any:
        """A partition's value, as its file says it."""
        return json.loads((self.storage / partition / manifests.NAME).read_text())["value"]["json"]

    def manifest(self, partition: str) -> Manifest:
        found = running.partition(self.storage, partition)
        assert found, partition
        return found

    def lines(self, name: str) -> list[str]:
        """The lines of a note of flow_tasks."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def made(ran: Ran) -> list[str]:
    """The tasks that a run has done, in their order, each with its value."""
    return [
        re.sub(" +", " ", line).partition(" ")[2].rpartition(",")[0]
        for line in ran.err.splitlines()
        if " → " in line and line[:2].isdigit()
    ]


# --- the examples


def test_value_of_one_task_is_the_parameter_of_another(here: Here) -> None:
    """AddTwo(3) is 5 by two AddOnes, each of which runs once, and its manifest names what it was made of."""
    ran = here.run("AddTwo", "--number", 3, "--workers", 1)
    assert made(ran) == ["AddOne 3 → 4", "AddOne 4 → 5", "AddTwo 3 → 5"]
    two = here.manifest("add_two/number=3")
    assert two.value is not None
    assert two.value.json == 5
    assert [entry.partition for entry in two.inputs] == ["add_one/number=3", "add_one/number=4"]
    for entry in two.inputs:
        assert entry.digest == manifests.digest((here.storage / entry.partition / manifests.NAME).read_bytes())
    assert set(two.code) == {"AddTwo", "AddOne"}
    assert made(here.run("AddTwo", "--number", 3)) == []
    assert made(here.run("AddTwo", "--number", 4)) == ["AddOne 5 → 6", "AddTwo 4 → 6"]


@pytest.mark.parametrize(("y", "divisor", "tasks"), [(462, 21, 4), (463, 1, 8)])
def test_tasks_need_others_of_their_kind(y: int, divisor: int, tasks: int, here: Here) -> None:
    """The greatest common divisor of 1071 and 462 is 21, that of 1071 and 463 is 1, by as many tasks as Euclid takes
    steps.
    """
    ran = here.run("Gcd", "--x", 1071, "--y", y)
    assert made(ran)[-1] == f"Gcd 1071 {y} → {divisor}"
    assert len(made(ran)) == tasks
    assert here.value(f"gcd/x=1071/y={y}") == divisor


def moments(here: Here, *messages: str) -> list[datetime.datetime]:
    """When a day's messages were logged."""
    found = [here.value(f"log/date={DAY}/message={message}") for message in messages]
    return [datetime.datetime.fromisoformat(each) for each in found]


def test_order_and_a_delay_without_a_process(here: Here) -> None:
    """Before the delay is over each firing ends with 12; the first that comes behind goes on; all is logged once."""
    ran = here.run("LogWaitLog", "--date", DAY, "--seconds", 3, code=12)
    assert f"{DAY}: before" in ran.err
    begun = (here.storage / f"delay/date={DAY}/name=between/seconds=3/begun.json").read_bytes()
    until = datetime.datetime.fromisoformat(json.loads(begun)["begun"]) + datetime.timedelta(seconds=3)
    since, end = (f"{moment:%Y-%m-%d %H:%M:%S}Z" for moment in (until - datetime.timedelta(seconds=3), until))
    assert f"Delay between {DAY} 3 s: waiting until {end} since {since}" in ran.err
    said = [ran.err]
    while datetime.datetime.now(datetime.UTC) < until:
        ran = running.run(here.command("LogWaitLog", "--date", DAY, "--seconds", 3), here.folder, here.env())
        said.append(ran.err)
        assert ran.code in (0, 12), ran
    if ran.code:
        said.append(here.run("LogWaitLog", "--date", DAY, "--seconds", 3).err)
    assert [each for err in said for each in re.findall(f"{DAY}: (.*)", err)] == ["before", "behind"]
    before, behind = moments(here, "before", "behind")
    assert before < until <= behind
    assert here.value(f"log_wait_log/date={DAY}/seconds=3")[::2] == [before.isoformat(), behind.isoformat()]
    assert here.value(f"delay/date={DAY}/name=between/seconds=3") == until.isoformat()
    assert (here.storage / f"delay/date={DAY}/name=between/seconds=3/begun.json").read_bytes() == begun


def test_after_one_others_in_whichever_order(here: Here) -> None:
    """What comes after a delay does not begin before it is over; what needs no order has none."""
    flags = ("--date", DAY, "--seconds", 1)
    ran = running.run(here.command("LogAfterLog", *flags), here.folder, here.env())
    while ran.code == 12:
        ran = running.run(here.command("LogAfterLog", *flags), here.folder, here.env())
    assert ran.code == 0, ran
    first, *others = moments(here, "first", "one%20more", "another")
    assert min(others) >= first + datetime.timedelta(seconds=1)
    assert here.value(f"log_after_log/date={DAY}/seconds=1") == [each.isoformat() for each in (first, *others)]


def test_diamond_whose_right_arm_fails(here: Here) -> None:
    """The left arm completes and the join waits; the rerun does the right arm and the join, and nothing else."""
    ran = here.run("Diamond", "--broken", "right", code=30)
    assert made(ran) == ["AddOne 1 → 2", "Arm left 2 → 20"]
    assert ran.errors == ["ERROR: Arm right 2: the right arm is broken; run again without --broken right"]
    assert "1 had failed dependencies:\n        - 1 Diamond" in ran.err
    assert made(here.run("Diamond")) == ["Arm right 2 → 20", "Diamond → 40"]


def test_hundred_pages_one_of_which_fails(here: Here) -> None:
    """How many tasks there are is what a task says; 99 of them are kept, and the rerun does one, then the sum."""
    ran = here.run("Book", "--broken", 57, "--workers", 1, code=30)
    assert len(made(ran)) == 1 + 99  # the contents, and pages
    assert ran.errors == ["ERROR: Page 57: page 57 is torn; run again without --broken 57"]
    assert made(here.run("Book")) == ["Page 57 → 57", "Book 100 → 5050"]  # 1 + … + 100, as young Gauss
    inputs = [entry.partition for entry in here.manifest("book/pages=100").inputs]
    assert inputs == ["contents/pages=100", *(f"page/page={number}" for number in range(1, 101))]


# --- with workers, luigid and death


def test_flows_at_luigid(server: int, tmp_path: Path) -> None:
    """With luigid in between, and several workers, all is the same, and luigid shows each task as done or waiting."""
    here = Here(tmp_path, "--scheduler-port", server, "--workers", 3)
    flags = ("--date", DAY, "--seconds", 1)
    assert len(made(here.run("Book", "--pages", 12, "--broken", 7, code=30))) == 12
    assert sorted(task["name"] for task in listed(server, "FAILED").values()) == ["Page"]
    assert made(here.run("Book", "--pages", 12))[-1] == "Book 12 → 78"
    assert listed(server, "FAILED") == {}
    both = [here.start("Sum") for _ in range(2)]
    for process in both:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0, out
    assert here.value("sum") == 22
    here.run("LogWaitLog", *flags, code=12)
    pending = listed(server, "PENDING").values()
    assert sorted(task["name"] for task in pending) == ["Delay", "LogWaitLog", "Waiting"]
    running.wait_for(lambda: running.run(here.command("LogWaitLog", *flags), tmp_path, here.env()).code == 0, 60)
    assert moments(here, "before") < moments(here, "behind")


def test_two_runs_at_once_make_each_value_once(here: Here) -> None:
    """The steps are walked with the partition claimed: of two runs one waits for the other, and finds all complete."""
    (here.folder / "held").touch()
    processes = [here.start("Times", "--number", 1) for _ in range(2)]
    running.wait_for(lambda: here.lines("times-1"), 30)
    seen = datetime.datetime.now(datetime.UTC).isoformat()
    (here.folder / "held").unlink()
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0, out
    assert len(here.lines("times-1")) == 1
    made = here.manifest("times/number=1")
    assert made.started < seen < made.ended  # the time in which the steps were walked


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_run_goes_on(workers: int, here: Here) -> None:
    """kill -9 of luigi and all its processes while a step runs: the next run does what was not done, and no more."""
    (here.folder / "held").touch()
    process = here.start("Sum", "--workers", workers)
    running.wait_for(lambda: here.lines("times-1") or here.lines("times-3"), 30)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    (here.folder / "held").unlink()
    here.run("Sum", module="flow_tasks")
    assert here.value("sum") == 2 + 6 + 4 + 10
    assert running.leftovers(here.storage) == []


def test_killed_process_of_a_task_is_a_failure_of_that_task(here: Here) -> None:
    """kill -9 of the one process: the run goes on with the rest and says which task died; the next makes all well."""
    here.run("Times", "--number", 1, module="flow_tasks")
    (here.folder / "killed").touch()
    ran = here.run("Sum", "--workers", 2, code=30, module="flow_tasks")
    assert "Times" in str(ran.errors)
    assert "its process was killed" in ran.errors[0]
    (here.folder / "killed").unlink()
    here.run("Sum", "--workers", 2, module="flow_tasks")
    assert here.value("sum") == 22


def spread(moments: Sequence[str], count: int) -> list[str]:
    """Some of the moments, spread over all; each of them where the long matrices are tried whole."""
    places = range(len(moments)) if running.WHOLE else [(2 * i + 1) * len(moments) // (2 * count) for i in range(count)]
    return [moments[place] for place in places]


@pytest.mark.timeout(running.LONGEST)
def test_death_at_every_effect_of_a_flow_with_a_delay(tmp_path: Path) -> None:
    """A run that dies before or after any change of the storage leaves nothing that the next one minds, be the change
    the moment that a delay began, a ledger's entry, or a manifest.
    """

    def finished(here: Here) -> bool:
        ran = running.run(here.command("Paused", module="flow_tasks"), here.folder, here.env())
        assert ran.code in (0, 12), ran
        return ran.code == 0

    def over(moment: datetime.datetime) -> bool:
        return datetime.datetime.now(datetime.UTC) > moment

    counted = Here(tmp_path / "counted")
    counted.folder.mkdir()
    env = {"CRASH": "", "CRASH_LOG": str(tmp_path / "moments")}
    crashing = counted.command("Paused", module="crashing_flows")
    running.wait_for(lambda: running.run(crashing, counted.folder, counted.env(**env)).code == 0, 60)
    effects = [line for line in (tmp_path / "moments").read_text().splitlines() if line.startswith("call ")]
    assert any("begun.json" in line for line in effects)
    assert sum("_MANIFEST.json" in line for line in effects) == 4
    # Those of the first firing: later ones have a count of their own.
    first = next(number for number, line in enumerate(effects, 1) if "begun.json" in line)
    kinds = spread([f"call:{n}:{how}" for n in range(1, first + 1) for how in ("before", "after")], 1)
    behind = spread([f"call:{n}:{how}" for n in range(1, len(effects) - first + 1) for how in ("before", "after")], 1)
    for number, (crash, later) in enumerate([*((each, False) for each in kinds), *((each, True) for each in behind)]):
        here = Here(tmp_path / str(number))
        here.folder.mkdir()
        begun = here.storage / "delay/name=pause/seconds=1/begun.json"
        if later:
            here.run("Paused", code=12, module="flow_tasks")
            said = begun.read_bytes()
            until = datetime.datetime.fromisoformat(json.loads(said)["begun"]) + datetime.timedelta(seconds=1)
            running.wait_for(functools.partial(over, until), 10)
        died = subprocess.run(
            here.command("Paused", module="crashing_flows"),
            cwd=here.folder,
            env=here.env(CRASH=crash, CRASH_LOG=str(here.folder / "moments")),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            start_new_session=True,
            check=False,
        )
        assert died.returncode == -signal.SIGKILL, (crash, later, died)
        running.wait_for(functools.partial(finished, here), 60)
        assert here.value("paused/seconds=1") == 6, crash
        assert running.complete(here.storage) == running.complete(counted.storage), crash
        assert running.leftovers(here.storage) == [], crash
        if later:
            assert begun.read_bytes() == said, crash


# --- what is handed on


def test_what_is_yielded_is_handed_back_in_its_form(here: Here) -> None:
    """One task, a list, a dict and both in each other come back so; nothing yields nothing; twice is once."""
    here.run("Sum", module="flow_tasks")
    assert here.value("sum") == 22
    assert len(here.lines("times-1")) == 1
    what = "{'a': [Times(number=1), (Times(number=1), {})], 'b': []}"
    here.run("Yields", "--what", what, module="flow_tasks")
    [partition] = running.complete(here.storage / "yields")
    assert here.value(f"yields/{partition}") == "{'a': [2, [2, {}]], 'b': []}"
    assert [entry.partition for entry in here.manifest(f"yields/{partition}").inputs] == ["times/number=1"]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_asked_for_twice_is_an_input_once(workers: int, here: Here) -> None:
    """What is yielded again, or is required besides, has the same value, and stands once among the inputs."""
    here.run("Again", "--workers", workers, module="flow_tasks")
    assert here.value("again") == [2, 2, 4, 6, 4]
    inputs = [entry.partition for entry in here.manifest("again").inputs]
    assert inputs == ["times/number=1", "times/number=2", "times/number=3"]
    assert [len(here.lines(f"times-{number}")) for number in (1, 2, 3)] == [1, 1, 1]


def test_tasks_that_are_no_flows_hand_on_their_output(here: Here) -> None:
    """luigi's own hand on their target, a stage its datasets, which count as what the flow was made of."""
    here.run("ReadsPlain", module="flow_tasks")
    assert here.value("reads_plain") == "plain words"
    here.run("Bytes", "--date", DAY, module="flow_tasks")
    assert here.value(f"bytes/date={DAY}") == [2, DAY]
    assert [entry.partition for entry in here.manifest(f"bytes/date={DAY}").inputs] == [f"written/date={DAY}"]
    assert [entry.partition for entry in here.manifest(f"written/date={DAY}").inputs] == ["times/number=19"]


@pytest.mark.parametrize("workers", [1, 2])
def test_days_that_a_flow_yields_are_done_in_batches(workers: int, here: Here) -> None:
    """What comes up while a run is at work is batched as what was known before: in shares of the workers."""
    ran = here.run("Week", "--first", "2026-11-01", "--workers", workers, module="flow_days")
    assert here.value("week/date=2026-11-01") == 7
    sizes = [int(each) for each in re.findall(r"(\d) days in one batch", ran.err)]
    if workers == 1:
        assert sizes == [2, 5]
    else:  # the two by two, then shares of five
        assert max(sizes) == 3
    assert [len(here.lines(f"Made-2026-11-{day:02}.runs")) for day in range(1, 8)] == [1] * 7


def test_a_flow_waits_at_a_gate(here: Here) -> None:
    """A flow that yields an approval waits with 13, and goes on once somebody has said yes."""
    here.run("Gate", code=13, module="flow_tasks")
    approve = [running.python(), "-m", "millrace", "approve", "gate", "--by", "ann", "--millrace-storage", here.storage]
    approved = running.run(approve, here.folder, here.env())
    assert approved.code == 0, approved
    here.run("Gate", module="flow_tasks")
    assert here.value("gate") == "allowed"


def test_a_step_may_wait_by_itself(here: Here) -> None:
    """A step that raises Waiting is no failure: the run ends with 12, no attempt is noted, and the next run looks."""
    ran = here.run("Looks", code=12, module="flow_tasks")
    assert "Looks: nothing is there" in ran.err
    assert [path.name for path in (here.storage / "_jobs").glob("Looks*.json")] == []
    (here.folder / "there").touch()
    here.run("Looks", module="flow_tasks")
    assert here.value("looks") == 2
    assert len(here.lines("times-1")) == 1


def test_days_of_a_flow_are_made_by_luigis_range(here: Here) -> None:
    """RangeDaily makes the days of a flow, and asks for none that is there."""
    days = ("--of", "Bytes", "--start", "2026-11-01", "--stop", "2026-11-04")
    assert len(made(here.run("RangeDaily", *days, module="flow_tasks"))) == 6  # each day's number, and its bytes
    assert made(here.run("RangeDaily", *days, module="flow_tasks")) == []


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("(1, 2)", "the value can't be handed on: value is of type tuple, which JSON does not have"),
        ("{'a': [float('nan')]}", "the value can't be handed on: value['a'][0] is nan, which JSON does not have"),
        ("'x' * (1 << 20)", "the value can't be handed on: as JSON it has 1,048,578 bytes, and 1,048,576 are allowed"),
    ],
)
def test_what_is_no_value_fails_in_one_sentence(what: str, sentence: str, here: Here) -> None:
    """The task fails with its name, the place and the type; no manifest is written, and the ledger says why."""
    ran = here.run("Odd", "--what", what, code=30, module="flow_tasks")
    assert len(ran.errors) == 1
    assert ran.errors[0].startswith(f"ERROR: Odd {what}: {sentence}")
    assert "Traceback" not in str(ran)
    assert running.complete(here.storage) == []
    [entry] = [json.loads(path.read_bytes()) for path in (here.storage / "_jobs").glob("*.json")]
    assert entry["state"] == "failed"
    assert entry["error"].startswith(sentence)


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (["Yields", "--what", "3"], "its steps yield 3, which is no task; yield a task, or a list or dict of tasks"),
        (["Yields", "--what", "[Plain().output()]"], "which is no task; yield a task"),
        (["NoSteps"], "NoSteps has no steps(); what it returns is the flow's value"),
        (["Itself"], "its steps yield the task itself, which would never be complete"),
        (["Trusting"], "what Trusting needs is there, and yet not complete; run it again"),
        (["Dice", "--workers", "1"], "Dice: its steps yield Thrown "),
        (["Dice", "--workers", "2"], "Dice: its steps yield Thrown "),
        (["Ping", "--workers", "1"], "Pong: it needs Ping, which needs Pong, so that neither can be the first"),
        (["Ping", "--workers", "2"], "Pong: it needs Ping, which needs Pong, so that neither can be the first"),
    ],
)
def test_steps_that_come_to_no_end_fail_in_one_sentence(task: list[str], sentence: str, here: Here) -> None:
    """What is no task, the task itself, and two tasks that need each other: each is said, and ends the run."""
    ran = here.run(*task, code=30, module="flow_tasks")
    assert sentence in ran.errors[0]
    assert "Traceback" not in str(ran)


def test_mistake_in_the_steps_is_luigis_failure(here: Here) -> None:
    """What a step raises is the task's failure, with its traceback; what it needed is kept."""
    ran = here.run("Breaks", code=30, module="flow_tasks")
    assert "KeyError: 'two'" in ran.err
    assert running.complete(here.storage) == ["times/number=1"]


def test_value_that_is_not_there_or_damaged_is_one_sentence(here: Here) -> None:
    """The command that the error prints makes the value, as printed; of a damaged one it makes the way free."""
    ran = here.run("Asks", code=30, module="flow_tasks")
    found = re.fullmatch(r"ERROR: Asks: Times 7 has no value yet; (.*) makes it", ran.errors[0])
    assert found, ran
    assert running.run(["bash", "-c", found[1]], here.folder, here.env()).code == 0
    path = here.storage / "times/number=7" / manifests.NAME
    path.write_bytes(path.read_bytes().replace(b'"json": 14', b'"json": 41'))
    ran = here.run("Asks", code=30, module="flow_tasks")
    found = re.fullmatch(
        r"ERROR: Asks: .* is damaged: .*; make its partition anew: (.*), then run again", ran.errors[0]
    )
    assert found, ran
    assert running.run(["bash", "-c", found[1]], here.folder, here.env()).code == 0
    here.run("Times", "--number", 7, module="flow_tasks")
    here.run("Asks", module="flow_tasks")
    assert here.value("asks") == 14


def test_who_looks_for_what_a_flow_asked_for_does_nothing_again(
    tmp_path: Path, setting: Set, caplog: pytest.LogCaptureFixture
) -> None:
    """Steps without a yield are not walked to find out what they ask for, because what they do is their effect."""
    setting("millrace", "storage", str(tmp_path))
    with caplog.at_level(logging.INFO, "millrace"), session.use(Session()):
        assert Log(date=datetime.date(2026, 11, 19), message="once").asked_for() == []
        assert AddTwo(number=3).asked_for() == [AddOne(number=3)]
    assert "once" not in caplog.text


# --- names, and what a flow depends on


def test_every_parameter_is_a_folder_and_no_two_are_the_same(here: Here) -> None:
    """Texts of any kind and length tell partitions apart, and their names are none that mean something elsewhere."""
    odd = ["", "a/b", "a%2Fb", "..", "x=1", "ü ~$HOME", "{date}", "*?[#", "long " * 100, "long " * 99 + "lang ", "a,b"]
    texts = ", ".join(f"Text(one={one!r}, two={two!r})" for one in odd for two in ("", "b"))
    here.run("Yields", "--what", f"[{texts}]", module="flow_tasks")
    partitions = [each for each in running.complete(here.storage) if each.startswith("text/")]
    assert sorted(map(here.value, partitions)) == sorted([one, two] for one in odd for two in ("", "b"))
    assert all(re.fullmatch(r"text/[\w.~%=/:+,@-]{1,130}", each, re.ASCII) for each in partitions)
    assert "text/one=a%2Fb/two=b" in partitions
    assert max(map(len, os.listdir(here.storage / "_jobs"))) < 200


class AddOneMore(AddOne):
    """A flow that builds on another."""

    def steps(self) -> int:
        return super().steps() + 1


class HTTPPages2(Flow):
    """A flow of a name with capitals."""


class Named(AddOneMore):
    """A flow that says its dataset."""

    writes = ("others",)


def test_dataset_is_called_like_the_class() -> None:
    """Each class has a dataset of its own, whatever it builds on, unless it says another."""
    assert AddOneMore(number=1).datasets()[0].partition == "add_one_more/number=1"
    assert HTTPPages2().datasets()[0].partition == "http_pages2"
    assert Named(number=1).datasets()[0].partition == "others/number=1"


def clear(here: Here, *arguments: object) -> Ran:
    command = [running.python(), "-m", "millrace", "clear", *arguments, "--millrace-storage", here.storage]
    ran = running.run([*command, "--module", "workflows.examples"], here.folder, here.env())
    assert ran.code == 0, ran
    return ran


def test_what_a_flow_was_made_of_takes_it_along(here: Here) -> None:
    """Clearing what was yielded, by its parameters, clears the flow too, and no other; then both are made anew."""
    here.run("AddTwo", "--number", 3)
    here.run("AddTwo", "--number", 8)
    clear(here, "AddOne", "--number", 3, "--yes")
    assert running.complete(here.storage) == [
        "add_one/number=4",
        "add_one/number=8",
        "add_one/number=9",
        "add_two/number=8",
    ]
    assert made(here.run("AddTwo", "--number", 3)) == ["AddOne 3 → 4", "AddTwo 3 → 5"]


def test_cleared_delay_begins_anew(here: Here) -> None:
    """A delay that is cleared has no beginning any more; one that is complete stays so."""
    here.run("Delay", "--name", "x", "--seconds", 0)
    assert made(here.run("Delay", "--name", "x", "--seconds", 0)) == []
    begun = here.storage / "delay/name=x/seconds=0/begun.json"
    assert begun.exists()
    clear(here, "Delay", "--name", "x", "--yes")
    assert not begun.exists()


def test_settings_of_what_was_yielded_are_settings_of_the_flow(here: Here) -> None:
    """A run with another setting of what the flow asked for at run time does not pass the flow off as its own."""
    here.run("Sum", module="flow_tasks")
    assert here.manifest("sum").settings["numbers.times"] == "2"
    ran = here.run("Sum", "--numbers-times", 3, code=35, module="flow_tasks")
    assert "was made with numbers.times = 2, but this run says 3 (from the flag --numbers-times)" in str(ran)
    here.run("Sum", module="flow_tasks")
    here.run("Times", "--number", 7, module="flow_tasks")
    ran = here.run("Asks", "--numbers-times", 3, code=30, module="flow_tasks")
    assert "numbers.times = 2, but this run says 3" in ran.errors[0]


def test_other_code_is_seen_and_made_anew(here: Here) -> None:
    """--refresh makes anew what was yielded, and the flow with it, where its code is another."""
    project = here.folder / "own"
    project.mkdir()
    one = "from millrace import Flow\nclass One(Flow):\n    def steps(self):\n        return 1\n"
    (project / "one_task.py").write_text(one)
    (project / "all_task.py").write_text(
        "from millrace import Flow\nfrom one_task import One\n"
        "class All(Flow):\n    version = 'same'\n    def steps(self):\n        return [(yield One())]\n"
    )
    path = os.pathsep.join([str(project), here.env()["PYTHONPATH"]])
    here.run("All", module="all_task", PYTHONPATH=path)
    assert here.value("all") == [1]
    (project / "one_task.py").write_text(one.replace("return 1", "return 2 + 0"))
    ran = here.run("All", module="all_task", PYTHONPATH=path)
    assert here.value("all") == [1]
    line = r"All: 1 partition was made of what One made by other code \(\w{4} → \w{4}\); a run with --refresh makes it"
    assert re.search(line, ran.err), ran
    here.run("All", "--refresh", module="all_task", PYTHONPATH=path)
    assert here.value("all") == [2]
    ran = here.run("All", "--refresh", module="all_task", PYTHONPATH=path)
    assert made(ran) == []
    assert "other code" not in ran.err


# --- delays


def test_delay_is_no_part_of_what_waits_for_it(here: Here) -> None:
    """A stage that requires a delay is the same after a longer one: a delay decides when, not what."""
    here.run("Late", module="flow_tasks")
    here.run("Late", "--seconds", 1, module="flow_tasks")
    assert running.complete(here.storage) == ["delay/name=late/seconds=0", "late"]


class Racing:
    """A storage in which somebody else is a moment faster with when a delay began."""

    OTHERS = "2026-11-19T05:00:00.000+00:00"

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def create(self, path: str, data: bytes, note: Any = None) -> None:
        if path.endswith("/begun.json"):
            self._storage.create(path, json.dumps({"begun": self.OTHERS}).encode())
        self._storage.create(path, data, note)


def test_of_two_that_begin_a_delay_the_first_counts(tmp_path: Path, setting: Set) -> None:
    """When a delay began is one conditional write: whoever loses goes by the other's moment."""
    setting("millrace", "storage", str(tmp_path))
    delay = Delay(name="raced", seconds=5)
    with session.use(Session(wrap=Racing)):
        assert delay.steps() == "2026-11-19T05:00:05+00:00"


def test_delay_until_a_moment(here: Here) -> None:
    """A delay may be said by its end, in any zone; one that has passed is over at once, and none is begun."""
    ran = here.run("Delay", "--until", "2026-11-20T06:00:00+01:00")
    assert made(ran) == ['Delay 2026-11-20 05:00:00+00:00 → "2026-11-20T05:00:00+00:00"']
    assert running.files(here.storage / "delay").keys() == {"until=2026-11-20T05:00:00Z/_MANIFEST.json"}
    ran = here.run("Delay", "--until", "9000-01-01T00:00:00", "--name", "far", code=12)
    assert "Delay far 9000-01-01 00:00:00+00:00: waiting until 9000-01-01 00:00:00Z" in ran.err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "a delay has either seconds or until; say one of them"),
        (["--seconds", "1", "--until", "2026-11-20T06:00:00"], "a delay has either seconds or until"),
        (["--seconds", "-1"], "Delay.seconds = '-1', from the flag --seconds: allowed is a whole number from 0 to"),
        (["--until", "tomorrow"], "Delay.until = 'tomorrow', from the flag --until: allowed is a moment such as"),
    ],
)
def test_delay_that_is_none_is_one_sentence(flags: list[str], sentence: str, here: Here) -> None:
    """Neither an end nor a length, both, or one that is none: said by name, and nothing runs."""
    ran = running.run(here.command("Delay", *flags), here.folder, here.env())
    assert ran.code != 0
    assert sentence in str(ran)
    assert "Traceback" not in str(ran)


def test_beginning_that_cannot_be_read_is_one_sentence(here: Here) -> None:
    """A file that does not say when the delay began is named, with what to do."""
    here.run("Delay", "--name", "x", "--seconds", 1000, code=12)
    begun = here.storage / "delay/name=x/seconds=1000/begun.json"
    begun.write_text("{}")
    ran = here.run("Delay", "--name", "x", "--seconds", 1000, code=30)
    assert f"{begun} does not say when the delay began; delete the file" in ran.errors[0]
    begun.unlink()
    here.run("Delay", "--name", "x", "--seconds", 1000, code=12)

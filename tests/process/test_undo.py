"""bin/clear --undo: a window's steps undo what they did outside, the last one first, whenever the process is killed."""

import dataclasses
import datetime
import json
import os
import pty
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import running
from running import DAY, Ran

from millrace.core import manifests
from millrace.core.ledger import Ledger
from millrace.core.manifests import Manifest
from millrace.core.storage import LocalStorage
from millrace.core.waiting import Waiting

ONE, TWO, THREE = "2026-11-01", "2026-11-02", "2026-11-03"


class Saga:
    """A storage, and what the steps did outside."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.storage = folder, folder / "data"
        self.outside = folder / "outside"

    def env(self, **more: str) -> Mapping[str, str]:
        return running.environment(AT=str(self.folder), CRASH_LOG=str(self.folder / "moments"), **more)

    def luigi(self, task: str, *flags: object) -> Ran:
        command = running.command(task, "--millrace-storage", self.storage, *flags, module="undo_tasks")
        return running.run(command, self.folder, self.env())

    def command(self, *arguments: object) -> list[str]:
        flags = ("--module", "undo_tasks", "--millrace-storage", self.storage)
        return [running.python(), "-m", "millrace", "clear", *map(str, (*arguments, *flags))]

    def clear(self, *arguments: object) -> Ran:
        return running.run(self.command(*arguments), self.folder, self.env())

    def killed(self, *arguments: object, **more: str) -> int:
        """Runs the command in a process group of its own, which dies; returns how it ended."""
        process = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.env(**more),
            start_new_session=True,
            capture_output=True,
            timeout=120,
        )
        return process.returncode

    def did(self, what: str) -> list[str]:
        """What was done, or undone, in order."""
        lines = self.outside.read_text().splitlines() if self.outside.exists() else []
        return [line.removeprefix(f"{what} ") for line in lines if line.startswith(f"{what} ")]

    def control(self, name: str) -> Path:
        path = self.folder / name
        path.touch()
        return path

    @property
    def complete(self) -> list[str]:
        return running.complete(self.storage)


def last_first(saga: Saga, names: Mapping[str, str]) -> list[str]:
    """The steps of some datasets that are complete, as their manifests on the disk say: last completed first."""
    ended = {}
    for path in saga.storage.rglob(manifests.NAME):
        told = json.loads(path.read_text())
        name, _, day = told["partition"].partition("/date=")
        if name in names:
            ended[f"{names[name]} {day}"] = told["ended"]
    return sorted(ended, key=ended.__getitem__, reverse=True)


STEPS = {"reserved": "Reserve", "charged": "Charge", "sent": "Send"}


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saga whose third step failed."""
    saga = Saga(tmp_path_factory.mktemp("failed"))
    saga.control(f"Send-{ONE}.broken")
    ran = saga.luigi("Send", "--date", ONE)
    assert ran.code == 30, ran
    return saga.folder


@pytest.fixture
def saga(failed: Path, tmp_path: Path) -> Saga:
    """A copy of that."""
    return Saga(Path(shutil.copytree(failed, tmp_path / "saga = {date} 1")))


@pytest.fixture
def new(tmp_path: Path) -> Saga:
    """A saga of which nothing was done."""
    return Saga(tmp_path)


def test_failed_saga_is_undone_last_step_first(saga: Saga) -> None:
    """What the third step's failure left is undone in reverse, and goes; a dry run shows just that, and does nothing.

    A step without undo() stays where nothing undone is in it, and goes where it was made from what is undone. The next
    run does all the steps again.
    """
    assert sorted(saga.did("do")) == [f"{step} {ONE}" for step in ("Charge", "Count", "Read", "Reserve")]
    before = running.files(saga.storage)
    shown = saga.clear("Send", "--undo", "--date", ONE, "--dry-run")
    assert shown.code == 0, shown
    undone = re.findall(r"^undo (\w+ \S+), done \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ$", shown.out, re.M)
    assert undone == [f"Charge {ONE}", f"Reserve {ONE}"]
    assert shown.out.endswith("\n2 would be undone, 4 partitions would go\n")
    assert "note: what Read made stays, because it declares no undo()\n" in shown.err
    assert (running.files(saga.storage), saga.did("undo")) == (before, [])
    ran = saga.clear("Send", "--undo", "--date", ONE)
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "2 undone, 4 partitions gone"), ran
    assert saga.did("undo") == [f"Charge {ONE}", f"Reserve {ONE}"]
    assert saga.complete == [f"orders/date={ONE}"]
    again = saga.clear("Send", "--undo", "--date", ONE)
    assert (again.code, again.out.splitlines()[-1]) == (0, "0 undone, 0 partitions gone"), again
    (saga.folder / f"Send-{ONE}.broken").unlink()
    assert saga.luigi("Send", "--date", ONE).code == 0
    assert saga.did("do").count(f"Read {ONE}") == 1
    assert [saga.did("do").count(f"{step} {ONE}") for step in ("Reserve", "Charge", "Send")] == [2, 2, 1]
    assert saga.clear("Send", "--undo", "--date", ONE).code == 0
    assert saga.did("undo")[2:] == [f"Send {ONE}", f"Charge {ONE}", f"Reserve {ONE}"]


def test_undo_that_fails_ends_there(saga: Saga) -> None:
    """It is named in one sentence; what was done before it is not undone before it is; the next call goes on there."""
    stuck = saga.control(f"Charge-{ONE}.stuck")
    ran = saga.clear("Send", "--undo", "--date", ONE)
    assert ran.code == 1
    (line,) = ran.errors
    assert re.match(
        rf"error: undo\(\) of Charge {ONE} failed: OSError: the other side does not answer "
        r"\(undo_tasks\.py, line \d+\); so it stays, and what was done before it; mend that, then call this again$",
        line,
    ), line
    assert "Traceback" not in str(ran)
    assert saga.did("undo") == []
    assert f"charged/date={ONE}" in saga.complete
    stuck.rename(saga.folder / f"Reserve-{ONE}.stuck")
    assert saga.clear("Send", "--undo", "--date", ONE).code == 1
    assert saga.did("undo") == [f"Charge {ONE}"]
    assert saga.complete == [f"orders/date={ONE}", f"reserved/date={ONE}"]
    (saga.folder / f"Reserve-{ONE}.stuck").unlink()
    assert saga.clear("Send", "--undo", "--date", ONE).code == 0
    assert saga.did("undo") == [f"Charge {ONE}", f"Reserve {ONE}"]


@pytest.mark.parametrize("step", ["Charge", "Reserve"])
def test_kill_right_after_an_effect_was_undone(step: str, saga: Saga) -> None:
    """Nobody knows then that it was, so that its undo() is called once more; the others' are not."""
    saga.control(f"{step}-{ONE}.dies")
    assert saga.killed("Send", "--undo", "--date", ONE) == -signal.SIGKILL
    assert saga.did("undo")[-1] == f"{step} {ONE}"
    assert saga.clear("Send", "--undo", "--date", ONE).code == 0
    expected = [f"{each} {ONE}" for each in ("Charge", "Reserve") for _ in range(1 + (each == step))]
    assert saga.did("undo") == expected
    assert saga.complete == [f"orders/date={ONE}"]


def moments() -> list[int]:
    """Which changes of the storage the process dies before: a sample of them."""
    return list(range(1, 25)) if running.WHOLE else [1, 2, 6, 9, 14]


@pytest.mark.parametrize("number", moments())
def test_kill_at_any_change_of_the_storage(number: int, saga: Saga) -> None:
    """Killed before whichever change, and called again: each step is undone, in reverse, and nothing of it is left."""
    (saga.folder / "moments").unlink(missing_ok=True)
    code = saga.killed("Send", "--undo", "--date", ONE, CRASH=f"call:{number}:before")
    if code == 0:
        assert number > 14, "there are fewer changes than the sample is of"
    else:
        assert code == -signal.SIGKILL
        assert saga.clear("Send", "--undo", "--date", ONE).code == 0
    undone = saga.did("undo")
    assert list(dict.fromkeys(undone)) == [f"Charge {ONE}", f"Reserve {ONE}"]
    assert undone == sorted(undone)  # none again once the next one's turn has come
    assert saga.complete == [f"orders/date={ONE}"]
    (saga.folder / f"Send-{ONE}.broken").unlink()
    assert saga.luigi("Send", "--date", ONE).code == 0
    assert running.leftovers(saga.storage) == []


def test_order_is_that_of_completion(new: Saga) -> None:
    """Over three days with three workers, of which the last was made first: neither names nor days decide."""
    assert new.luigi("Send", "--date", THREE).code == 0
    ran = new.luigi("RangeDaily", "--of", "Send", "--start", ONE, "--stop", THREE, "--workers", 3)
    assert ran.code == 0, ran
    expected = last_first(new, STEPS)
    assert len(expected) == 9
    assert expected[-1] == f"Reserve {THREE}"
    refused = new.clear("Send", "--undo", "--from", ONE, "--to", THREE)
    assert refused.code == 1
    assert re.search(r"error: 12 steps of 3 days, .* would be undone.*: nothing was undone; say --yes", refused.err)
    assert new.did("undo") == []
    assert new.clear("Send", "--undo", "--from", ONE, "--to", THREE, "--yes").code == 0
    assert new.did("undo") == expected
    assert new.complete == [f"orders/date={day}" for day in (ONE, TWO, THREE)]


def test_clocks_that_disagree_undo_nothing_before_what_was_made_from_it(saga: Saga) -> None:
    """A host whose clock is behind made the second step, as if before the first; that is undone first all the same."""
    path = saga.storage / f"charged/date={ONE}" / manifests.NAME
    manifest = Manifest.from_json(path.read_bytes(), str(path))
    path.write_bytes(dataclasses.replace(manifest, ended="2026-01-01T00:00:00.000+00:00").to_json())
    assert saga.clear("Send", "--undo", "--date", ONE).code == 0
    assert saga.did("undo") == [f"Charge {ONE}", f"Reserve {ONE}"]


def test_window_of_a_task_is_its_days_and_what_was_made_from_them(new: Saga) -> None:
    """Steps of other days stay unless they, or what is made from them, were made from what is undone; a task that is
    named goes also where it declares nothing; a partition that is named does not take what it was made from with it.
    """
    assert new.luigi("Page", "--date", TWO).code == 0
    there = set(new.complete)
    alone = new.clear(f"charged_notes/date={ONE}", "--undo", "--dry-run")
    assert re.findall(r"^undo (\S+ \S+),", alone.out, re.M) == [f"Send {ONE}", f"Charge {ONE}"]
    assert "2 would be undone, 4 partitions would go" in alone.out  # the page of two days, too
    page = new.clear("Page", "--undo", "--date", TWO, "--dry-run")
    assert re.findall(r"^undo (\S+ \S+),", page.out, re.M) == [
        f"{step} {TWO}" for step in ("Send", "Charge", "Reserve")
    ]
    assert f"\n{new.storage}/pages/date={TWO}\n" in f"\n{page.out}"
    assert new.clear("Reserve", "--undo", "--date", ONE, "--yes").code == 0
    assert new.did("undo") == [f"{step} {ONE}" for step in ("Send", "Charge", "Reserve")]
    gone = {f"{name}/date={ONE}" for name in ("sent", "charged", "charged_notes", "counted", "reserved")}
    assert set(new.complete) == there - gone - {f"pages/date={TWO}"}


def test_what_a_step_was_made_from_is_known_though_it_needs_something_else_now(saga: Saga) -> None:
    """Its manifest tells, where its code, or a setting, has another requires() by now."""
    saga.control(f"Charge-{ONE}.moved")
    assert saga.clear("Charge", "--undo", "--date", ONE).code == 0
    assert saga.did("undo") == [f"Charge {ONE}", f"Reserve {ONE}"]


def test_undo_has_the_parameters_that_the_step_had(new: Saga) -> None:
    """Not those that its task has unless given: the manifest knows. Where it can't tell, a sentence says what to do."""
    flags = ("--channel", "a b  'c'", "--often", 3, "--loud")
    assert new.luigi("Tell", "--date", ONE, *flags).code == 0
    assert new.clear("Tell", "--undo", "--date", ONE).code == 0
    assert new.luigi("Tell", "--date", TWO).code == 0
    assert new.clear("Tell", "--undo").code == 0
    assert new.did("undo") == new.did("do") == [f"Tell {ONE} \"a b  'c'\" 3 True", f"Tell {TWO} 'all' 1 False"]
    assert new.luigi("Tell", "--date", THREE, "--lists", "[1, 2]").code == 0
    ran = new.clear("Tell", "--undo")
    assert ran.err == (
        f"error: told/date={THREE} was made by Tell, which declares undo(), but its parameters can't be told: nothing "
        "was undone; say those of Tell as flags, or name the task that needs it\n"
    )
    assert new.clear("Tell", "--undo", "--lists", "[1, 2]").code == 0
    assert new.complete == []


def test_step_whose_name_another_task_has_is_undone(new: Saga) -> None:
    """Its name means nothing to a command line, but what needs it knows it; a step that nobody knows is told of."""
    assert new.luigi("After", "--date", ONE).code == 0
    alone = new.clear(f"twins/date={ONE}", "--undo", "--dry-run")
    assert f"note: no task is known that made twins/date={ONE}, so that nothing is undone of that" in alone.err
    assert new.clear("After", "--undo", "--date", ONE).code == 0
    assert new.did("undo") == [f"{step} {ONE}" for step in ("After", "Etl", "Reserve")]


def test_steps_that_a_flow_asked_for_are_undone(new: Saga) -> None:
    """Those of one that failed before its end, also where one of two side by side failed; and of one that is done."""
    tell = f"Tell {ONE} 'b' 1 False"
    new.control(f"Charge-{ONE}.broken")
    assert new.luigi("Order", "--date", ONE).code == 30
    assert new.clear("Order", "--undo", "--date", ONE).code == 0
    assert new.did("undo") == [tell, f"Reserve {ONE}"]
    (new.folder / f"Charge-{ONE}.broken").rename(new.folder / f"Order-{ONE}.broken")
    assert new.luigi("Order", "--date", ONE).code == 30
    before = last_first(new, {**STEPS, "told": "Tell"})
    new.control(f"Reserve-{ONE}.stuck")
    assert new.clear("Order", "--undo", "--date", ONE).code == 1
    (new.folder / f"Reserve-{ONE}.stuck").unlink()
    assert new.clear("Order", "--undo", "--date", ONE).code == 0
    assert [line.split()[0] for line in new.did("undo")[2:]] == [name.split()[0] for name in before]
    (new.folder / f"Order-{ONE}.broken").unlink()
    assert new.luigi("Order", "--date", ONE).code == 0
    assert new.clear("Order", "--undo", "--date", ONE).code == 0
    last = new.did("undo")[5:]
    assert last[:2] == [f"Order {ONE}", f"Send {ONE}"]
    assert sorted(last[2:]) == sorted([f"Charge {ONE}", tell, f"Reserve {ONE}"])
    assert last[-1] == f"Reserve {ONE}"
    assert new.complete == [f"orders/date={ONE}"]


GRAPH = """
name = "orders"
[jobs.first]
task = "Reserve"
parameters = {date = "{date}"}
[jobs.second]
task = "Tell"
after = ["first"]
parameters = {date = "{date}", channel = "c"}
[jobs.third]
task = "Send"
after = ["second"]
parameters = {date = "{date}"}
"""


def test_steps_of_a_graph_are_undone(new: Saga) -> None:
    """A graph is a window too: what its file names is undone, with what that is built on."""
    (new.folder / "orders.toml").write_text(GRAPH)
    new.control(f"Send-{ONE}.broken")
    flags = ("--date", ONE, "--spec", new.folder / "orders.toml")
    ran = new.luigi("JobGraph", *flags)
    assert ran.code == 30, ran
    assert new.clear("JobGraph", "--undo", *flags).code == 0
    assert new.did("undo") == [f"Charge {ONE}", f"Tell {ONE} 'c' 1 False", f"Reserve {ONE}"]


@pytest.mark.parametrize("kind", ["Reserve", "Rush"])
def test_of_two_kinds_that_make_a_dataset_the_ledger_tells_which(kind: str, new: Saga) -> None:
    """The one whose attempt the partition is, is asked to undo it."""
    assert new.luigi(kind, "--date", ONE).code == 0
    assert new.clear(f"reserved/date={ONE}", "--undo").code == 0
    assert new.did("undo") == [f"{kind} {ONE}"]


def test_more_steps_than_can_be_held_are_refused(new: Saga) -> None:
    """Each is claimed by an open file, or a thread; the sentence says to take fewer days."""
    assert new.luigi("Tell", "--date", ONE).code == 0
    path = new.storage / f"told/date={ONE}" / manifests.NAME
    manifest = Manifest.from_json(path.read_bytes(), str(path))
    for day in (DAY + datetime.timedelta(days=number) for number in range(1, 201)):
        other = new.storage / f"told/date={day}" / manifests.NAME
        other.parent.mkdir()
        other.write_bytes(dataclasses.replace(manifest, partition=f"told/date={day}").to_json())
    ran = new.clear("Tell", "--undo", "--yes")
    assert ran.code == 1
    assert ran.errors[0].startswith("error: 201 tasks are of this window, and at most 200 are undone at once")
    assert new.did("undo") == []
    assert new.clear("Tell", "--undo", "--yes", "--from", TWO).code == 0
    assert len(new.did("undo")) == 200
    assert new.complete == [f"told/date={ONE}"]


def test_what_changed_while_a_person_thought_is_not_undone(new: Saga) -> None:
    """At a terminal the question is asked once all is shown; by the answer a run has made more of it."""
    for day in (ONE, TWO):
        assert new.luigi("Reserve", "--date", day).code == 0
    here, there = pty.openpty()
    clear = subprocess.Popen(
        new.command("Send", "--undo", "--to", TWO),
        cwd=new.folder,
        env=new.env(),
        stdin=there,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert clear.stderr is not None
    said = b""
    while b"[y/N]" not in said:
        said += os.read(clear.stderr.fileno(), 1000)
    assert b"2 steps of 2 days, 2026-11-01 to 2026-11-02: undo them? [y/N] " in said
    assert new.luigi("Charge", "--date", TWO).code == 0
    os.write(here, b"y\n")
    assert clear.stderr.read().endswith(
        b"error: what there is to undo has changed meanwhile: nothing was undone; call this again\n"
    )
    assert (clear.wait(60), new.did("undo")) == (1, [])
    os.close(here)
    os.close(there)


def test_plain_task_may_undo_too(new: Saga) -> None:
    """One that fills a table, as what was made from a step and by itself."""
    ran = new.luigi("Fill", "--date", ONE)
    assert ran.code == 0, ran
    assert new.clear("Reserve", "--undo", "--date", ONE).code == 0
    assert new.did("undo") == [f"Fill {ONE}", f"Reserve {ONE}"]
    assert new.luigi("Fill", "--date", ONE).code == 0
    assert new.clear("Fill", "--undo", "--date", ONE).code == 0
    assert new.did("undo") == [f"Fill {ONE}", f"Reserve {ONE}"] * 2
    assert new.complete == [f"orders/date={ONE}"]


def test_window_that_a_run_is_at_work_on_is_left_alone(saga: Saga) -> None:
    """While a run is at work on the third step, nothing is undone; when that is over, its step is the first to go."""
    (saga.folder / f"Send-{ONE}.broken").unlink()
    held = saga.control(f"Send-{ONE}.held")
    flags = ("--date", ONE, "--millrace-storage", saga.storage)
    run = subprocess.Popen(
        running.command("Send", *flags, module="undo_tasks"), cwd=saga.folder, env=saga.env(), stderr=subprocess.DEVNULL
    )
    entry = saga.storage / f"_jobs/Send_sent.date={ONE}.json"
    running.wait_for(lambda: json.loads(entry.read_text())["state"] == "running", 60)
    ran = saga.clear("Send", "--undo", "--date", ONE)
    assert (ran.code, saga.did("undo")) == (1, [])
    assert ran.errors == [
        f"error: a run is at work on Send_sent.date={ONE}: nothing was undone; stop that run, or let it end, then call "
        "this again"
    ]
    held.unlink()
    assert run.wait(60) == 0
    assert saga.clear("Send", "--undo", "--date", ONE).code == 0
    assert saga.did("undo") == [f"{step} {ONE}" for step in ("Send", "Charge", "Reserve")]


def test_claims_of_a_window_are_held_to_its_end(saga: Saga) -> None:
    """While an undo() is at work, no run gets to do again what is undone already, nor the step that was not done."""
    slow = saga.control(f"Reserve-{ONE}.slow")
    clear = subprocess.Popen(
        saga.command("Send", "--undo", "--date", ONE), cwd=saga.folder, env=saga.env(), stdout=subprocess.DEVNULL
    )
    running.wait_for((saga.folder / f"Reserve-{ONE}.undoing").exists, 60)
    assert saga.did("undo") == [f"Charge {ONE}", f"Reserve {ONE}"]
    ledger = Ledger(LocalStorage(str(saga.storage)))
    for job in ("Charge_charged", "Count_counted", "Reserve_reserved", "Send_sent"):
        with pytest.raises(Waiting), ledger.claim(f"{job}.date={ONE}", wait=False):
            raise AssertionError(f"nobody holds the claim of {job}")
    slow.unlink()
    assert clear.wait(60) == 0
    with ledger.claim(f"Send_sent.date={ONE}", wait=False):
        pass


def _damage(saga: Saga) -> None:
    (saga.storage / f"charged/date={ONE}" / manifests.NAME).write_text("{}")


def test_command_for_what_can_t_be_undone_works_as_printed(saga: Saga) -> None:
    """A step whose manifest can't be read is forgotten by it, without an undo(); then the others are undone."""
    _damage(saga)
    said = saga.clear("Send", "--undo", "--date", ONE).errors[0]
    printed = re.search(r"nothing was undone; (.*) forgets it without an undo\(\)$", said)
    assert printed, said
    ran = running.run(["bash", "-c", printed[1]], saga.folder, saga.env())
    assert ran.code == 0, ran
    assert saga.clear("Send", "--undo", "--date", ONE).code == 0
    assert saga.did("undo") == [f"Reserve {ONE}"]


def _nothing(saga: Saga) -> None:
    pass


@pytest.mark.parametrize(
    ("arguments", "before", "said"),
    [
        (["Read", "--undo", "--date", TWO], _nothing, "Read: no undo() is declared, neither there nor by what it is"),
        (
            ["Send", "--undo", "--date", ONE],
            _damage,
            f"charged/date={ONE} was made by Charge, which declares undo(), but",
        ),
        (["Send", "--undo", "--stale"], _nothing, "--undo is for a TASK or PARTITION that is named"),
        (["--undo"], _nothing, "--undo is for a TASK or PARTITION that is named"),
        (["Sent", "--undo"], _nothing, "there is no task Sent; did you mean Send?"),
        (
            ["Send", "--undo", "--date", ONE, "--to", ONE],
            _nothing,
            "--date is one day, and --from and --to are several",
        ),
        (["Send", "--undo", "--date", "today"], _nothing, "--date = 'today': allowed is a day as YYYY-MM-DD"),
        (["Send", "--undo", "--often", "2"], _nothing, "--often is no parameter of Send"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    arguments: list[str], before: Callable[[Saga], None], said: str, saga: Saga
) -> None:
    """Nothing is undone, and nothing goes."""
    before(saga)
    there = running.files(saga.storage)
    ran = saga.clear(*arguments)
    assert (ran.code, saga.did("undo")) == (1, []), ran
    assert ran.err.startswith(f"error: {said}"), ran.err
    assert ran.err.count("\n") == 1
    assert running.files(saga.storage) == there


def test_clear_alone_undoes_nothing_and_says_so(saga: Saga) -> None:
    """Results can be forgotten without an undo(); a note tells what that leaves."""
    ran = saga.clear("Charge", "--date", ONE)
    assert ran.code == 0, ran
    assert "note: Charge declares undo(), which only --undo calls: what they did elsewhere stays\n" in ran.err
    assert saga.did("undo") == []
    assert f"charged/date={ONE}" not in saga.complete
    assert "undo()" not in saga.clear("Read", "--date", TWO).err


def test_day_of_the_tests_is_the_first() -> None:
    """The days above are those of the other tests."""
    assert str(DAY) == ONE

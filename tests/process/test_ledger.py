"""The ledger: one living claim a task, an entry before the work, and what it tells the next run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import running

from millrace.core.ledger import Batch, Claim, Ledger, failures
from millrace.core.storage import LocalStorage
from millrace.errors import ConflictError

#: Claims a task, enters an attempt, says so, and works until its input ends or it is killed.
HOLDER = """
import sys
from millrace.core.ledger import Ledger
from millrace.core.storage import LocalStorage
with Ledger(LocalStorage(sys.argv[1])).claim("Task_1") as claim:
    print(claim.begin("millrace-task").attempt, flush=True)
    sys.stdin.read()
    claim.close()
    print("closed", flush=True)
"""


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(str(tmp_path))


def holder(root: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root)],
        env=running.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_entry_says_who_works_and_how_it_ended(storage: LocalStorage) -> None:
    """An attempt stands as running before any work, and as done, or failed with its error, after it."""
    with Ledger(storage).claim("Task_1") as claim:
        assert claim.entry is None
        begun = claim.begin("millrace-task")
    with Ledger(storage).claim("Task_1") as claim:
        assert claim.entry == begun
        assert (begun.state, begun.number) == ("running", 1)
        assert re.fullmatch(r"millrace-task-[0-9a-f]{10}", begun.job_name)
        claim.close(error="the disk is full")
    with Ledger(storage).claim("Task_1") as claim:
        assert claim.entry is not None
        assert (claim.entry.state, claim.entry.error) == ("failed", "the disk is full")
        again = claim.begin("millrace-task")
        assert again.number == 2
        assert again.attempt != begun.attempt
        assert again.request_id != begun.request_id
        claim.close()
        assert claim.entry is not None
        assert claim.entry.state == "done"
        assert claim.entry.ended >= claim.entry.started


@pytest.mark.parametrize(
    "prefix", ["millrace-Etl-2026-11-19", "millrace-" + "VeryLongTask" * 9 + "-2026-11-19", "millrace-My_Täsk-"]
)
def test_job_names_are_dataflow_s(storage: LocalStorage, prefix: str) -> None:
    """Whatever the task is called, its jobs have valid names of at most 63 characters, and each attempt another one."""
    with Ledger(storage).claim("Task_1") as claim:
        names = [claim.begin(prefix).job_name for _ in range(3)]
    assert all(re.fullmatch(r"millrace-[-a-z0-9]{0,53}[a-z0-9]", name) for name in names), names
    assert len({*names}) == 3


def test_closing_a_closed_entry_changes_nothing(storage: LocalStorage, tmp_path: Path) -> None:
    """close() keeps what an earlier close() noted."""
    with Ledger(storage).claim("Task_1") as claim:
        claim.begin("millrace-task")
        claim.close(error="no")
        there = running.files(tmp_path)
        claim.close()
    assert running.files(tmp_path) == there


def test_dead_process_holds_nothing(tmp_path: Path, storage: LocalStorage) -> None:
    """A process that is killed while it works lets go; the next one sees its attempt and enters the next."""
    with holder(tmp_path) as process:
        attempt = said(process)
        process.kill()
        process.wait()
    with Ledger(storage).claim("Task_1") as claim:
        assert claim.entry is not None
        assert (claim.entry.attempt, claim.entry.state) == (attempt, "running")
        assert claim.begin("millrace-task").number == 2


def test_living_process_is_waited_for(tmp_path: Path) -> None:
    """A second process gets the claim only when the first is done, and sees what that did."""
    with holder(tmp_path) as first:
        attempt = said(first)
        with holder(tmp_path) as second:
            assert first.stdin is not None
            assert first.stdout is not None
            first.stdin.close()
            order = [said(first), said(second)]
            assert second.stdin is not None
            second.stdin.close()
            assert said(second) == "closed"
    assert order[0] == "closed"
    assert order[1] != attempt
    assert order[1].startswith("attempt-002-")


def test_claim_that_was_overtaken_cannot_write(storage: LocalStorage) -> None:
    """Without the lock (another host, say) the conditional write still lets only one of two claims begin."""
    mine, other = Claim(storage, "Task_1"), Claim(storage, "Task_1")
    other.begin("millrace-task")
    with pytest.raises(ConflictError):
        mine.begin("millrace-task")


def test_attempts_of_a_batch_are_one_job(storage: LocalStorage) -> None:
    """Each task has an attempt and a work of its own; name, request id and members are the same for all."""
    Claim(storage, "Task_2").begin("millrace-task")
    claims = [Claim(storage, f"Task_{number}") for number in (1, 2, 3)]
    batch = Batch("millrace-task", claims, runner="DataflowRunner", where="p/r")
    entered = [batch.enter(claim, f"work {claim.task}", "code") for claim in claims]
    assert [(each.number, each.work) for each in entered] == [
        (1, "work Task_1"),
        (2, "work Task_2"),
        (1, "work Task_3"),
    ]
    assert len({each.attempt for each in entered}) == 3
    assert len({(each.job_name, each.request_id) for each in entered}) == 1
    assert {tuple(each.members) for each in entered} == {("Task_1", "Task_2", "Task_3")}
    found = Claim(storage, "Task_2").attempt
    assert (found.attempt, list(found.members)) == (entered[1].attempt, ["Task_1", "Task_2", "Task_3"])


def test_one_of_a_batch_that_was_overtaken_is_none_of_the_others_trouble(storage: LocalStorage) -> None:
    """Only its own entry can't be written."""
    claims = [Claim(storage, f"Task_{number}") for number in (1, 2)]
    Claim(storage, "Task_1").begin("millrace-other")
    batch = Batch("millrace-task", claims, where="p/r")
    with pytest.raises(ConflictError):
        batch.enter(claims[0])
    assert batch.enter(claims[1]).job_name == Claim(storage, "Task_2").attempt.job_name
    assert Claim(storage, "Task_1").attempt.job_name.startswith("millrace-other")


def enter(storage: LocalStorage, task: str, error: str = "", **said: str) -> Claim:
    """Enter an attempt, and close it: failed, if there is an error."""
    claim = Claim(storage, task)
    claim.begin("millrace-task", **said)
    claim.close(error, counts=bool(error))
    return claim


def test_only_what_failed_has_failed_and_is_pardoned(storage: LocalStorage, tmp_path: Path) -> None:
    """A task that runs, one that is done, and what a power cut left of an entry are not told of, nor changed, whatever
    failed before.
    """
    for task in ("failed", "done", "running"):
        enter(storage, f"Task_{task}", "the disk is full")
    enter(storage, "Task_done")
    Claim(storage, "Task_running").begin("millrace-task")
    (tmp_path / "_jobs" / "Task_broken.json").write_text("{")
    assert Ledger(storage).ended("failed") == ["Task_failed"]
    before = running.files(tmp_path)
    for task in ("Task_done", "Task_running", "Task_broken", "Task_none"):
        Ledger(storage).pardon(task)
    assert running.files(tmp_path) == before
    assert Claim(storage, "Task_failed").attempt.failures == 1
    Ledger(storage).pardon("Task_failed")
    found = Claim(storage, "Task_failed").attempt
    assert (found.failures, found.state, found.error) == (0, "failed", "the disk is full")


def test_all_but_a_running_task_is_forgotten(storage: LocalStorage, tmp_path: Path) -> None:
    """The job of an attempt that may be at work must still be found; of all else nothing is left."""
    enter(storage, "Task_failed", "the disk is full")
    enter(storage, "Task_done")
    for state in ("stopped", "refused"):
        claim = Claim(storage, f"Task_{state}")
        claim.begin("millrace-task")
        claim.close("by us", state)
    Claim(storage, "Task_running").begin("millrace-task")
    (tmp_path / "_jobs" / "Task_broken.json").write_text("{")
    for task in ("failed", "done", "stopped", "refused", "running", "broken", "none"):
        Ledger(storage).forget(f"Task_{task}")
    assert [path.stem for path in tmp_path.glob("_jobs/*.json")] == ["Task_running"]


def test_failures_count_for_the_same_work_and_code(storage: LocalStorage) -> None:
    """Other input, or other code, starts at none; so does a task of which nothing is known."""
    for count in (1, 2):
        claim = enter(storage, "Task_1", "no", work="w2", code="c2")
        assert claim.attempt.failures == count
    for work, code in (("w1", "c2"), ("w3", "c2"), ("w2", "c1"), ("w2", "c3")):
        assert failures(claim.entry, work, code) == 0
    assert failures(claim.entry, "".join(["w", "2"]), "".join(["c", "2"])) == 2
    assert failures(None, "w2", "c2") == 0
    assert claim.begin("millrace-task", work="w3", code="c2").failures == 0


def test_an_entry_that_is_half_written_is_begun_anew(storage: LocalStorage, tmp_path: Path) -> None:
    """What a power cut left, or what is no entry, is none; what a later version has written besides is no trouble."""
    path = tmp_path / "_jobs" / "Task_1.json"
    for left in (b"{", b"", b"\xff", b"null", b'{"task": "Task_1"}', b"[1]"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(left)
        claim = Claim(storage, "Task_1")
        assert claim.entry is None, left
        assert claim.begin("millrace-task").number == 1
    path.write_text(path.read_text().replace("{", '{"later": 1,', 1))
    assert Claim(storage, "Task_1").attempt == claim.attempt


def test_an_attempt_runs_where_it_says(storage: LocalStorage) -> None:
    """An entry names the runner, the place, the work and the code; a task alone is no batch."""
    said = {"runner": "DataflowRunner", "where": "p/r", "work": "w", "code": "c"}
    begun = Claim(storage, "Task_1").begin("millrace-task", **said)
    assert {key: getattr(begun, key) for key in said} == said
    assert begun.members == []
    some = [Claim(storage, "Task_2"), Claim(storage, "Task_3")]
    assert Batch("millrace-task", some, runner="FnApiRunner").enter(some[0]).members == [], "it ends with its process"


def test_a_job_is_noted_once(storage: LocalStorage, tmp_path: Path) -> None:
    """The id of a job is in the entry; noted again, nothing is written."""
    claim = Claim(storage, "Task_1")
    claim.begin("millrace-task")
    claim.submitted("job-1")
    there = (tmp_path / "_jobs" / "Task_1.json").stat().st_mtime_ns
    claim.submitted("job-1")
    Claim(storage, "Task_1").submitted("job-1")
    assert (tmp_path / "_jobs" / "Task_1.json").stat().st_mtime_ns == there
    assert Claim(storage, "Task_1").attempt.job_id == "job-1"


def test_a_refused_attempt_may_still_be_closed(storage: LocalStorage) -> None:
    """What was refused is done once it is published after all; what was stopped stays so, and counts no failure."""
    claim = Claim(storage, "Task_1")
    claim.close("nothing was begun")
    assert claim.entry is None
    claim.begin("millrace-task")
    claim.close("too many rejects", "refused")
    assert (claim.attempt.state, claim.attempt.failures) == ("refused", 0)
    claim.close()
    assert (claim.attempt.state, claim.attempt.error) == ("done", "")
    claim.begin("millrace-task")
    claim.close("by us", "stopped")
    claim.close("again")
    assert (claim.attempt.state, claim.attempt.error) == ("stopped", "by us")

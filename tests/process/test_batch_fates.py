"""Several days in one pipeline, in this process: each has a fate of its own, and the ledger knows which."""

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path

import luigi
import pytest
from batch_case import Case

from millrace.core.ledger import Claim, Entry
from millrace.core.storage import LocalStorage
from millrace.errors import SourceError
from millrace.tasks import batches
from millrace.tasks.sections import millrace

DAYS = [datetime.date(2026, 11, day) for day in (1, 2, 3)]


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Path]:
    """The storage that the settings name in this test, in which all days go well at first."""
    config = luigi.configuration.get_config()
    before = millrace().storage
    config.set("millrace", "storage", str(tmp_path))
    Case.fates.clear()
    yield tmp_path
    config.set("millrace", "storage", before)


def entries(storage: Path) -> Mapping[datetime.date, Entry]:
    """What the ledger says of each day."""
    return {day: Claim(LocalStorage(str(storage)), f"Case_case.date={day}").attempt for day in DAYS}


def run() -> dict[datetime.date, BaseException | None]:
    """Run all days as one batch; what became of each."""
    tasks, fates = [Case(date=day) for day in DAYS], dict[str, BaseException | None]()
    batches.run(tasks, fates)
    return {task.date: fates[task.task_id] for task in tasks}


def complete() -> list[datetime.date]:
    """Return the days that are complete."""
    return [day for day in DAYS if Case(date=day).manifest()]


def test_a_day_that_fails_takes_no_other_with_it(storage: Path) -> None:
    """Its error arrives whole, as it was raised; the next run does that day alone, the others keep their attempt."""
    Case.fates[DAYS[1]] = "broken"
    fates = run()
    error = fates.pop(DAYS[1])
    assert isinstance(error, SourceError)
    assert (error.what, error.where, error.mend) == ("the source of 2026-11-02 is broken", "a test's", "mend it")
    assert set(fates.values()) == {None}
    assert complete() == [DAYS[0], DAYS[2]]
    assert [entry.state for entry in entries(storage).values()] == ["done", "failed", "done"]
    assert len({entry.job_name for entry in entries(storage).values()}) == 1
    Case.fates.clear()
    assert set(run().values()) == {None}
    assert complete() == DAYS
    assert [entry.number for entry in entries(storage).values()] == [1, 2, 1]
    assert not list(storage.rglob("attempt-001-*/_result.json"))[2:], "what the failed attempt left is cleared"


def test_a_pipeline_that_dies_is_done_day_by_day(storage: Path) -> None:
    """An error that belongs to no day ends the pipeline; then each is done by itself, and the bad one fails alone."""
    Case.fates[DAYS[2]] = "poison"
    fates = run()
    assert "poison" in str(fates.pop(DAYS[2]))
    assert set(fates.values()) == {None}
    assert complete() == DAYS[:2]
    assert [(entry.number, entry.state) for entry in entries(storage).values()] == [
        (2, "done"),
        (2, "done"),
        (2, "failed"),
    ]


def test_tasks_of_one_partition_take_turns_in_a_batch(storage: Path) -> None:
    """Two members that write the same partition do so one after the other, instead of waiting for themselves."""
    twice = [Case(date=DAYS[0]), Case(date=DAYS[1]), Case(date=DAYS[0])]
    twice[2].task_id += "_again"
    fates: dict[str, BaseException | None] = {}
    batches.run(twice, fates)
    assert fates == {task.task_id: None for task in twice}
    assert complete() == DAYS[:2]

"""RangeDaily: every whole day from its start on, over stages and over tasks of a user's own."""

import datetime
from pathlib import Path
from typing import Any

import luigi
import pytest
import running
from luigi.task_register import Register

from millrace import RangeDaily
from millrace.core.storage import LocalStorage
from millrace.core.warehouse import LocalWarehouse
from millrace.errors import SettingError
from workflows import DigitStream, Etl, WordCount

#: Just after a midnight, UTC.
MIDNIGHT = datetime.datetime(2026, 11, 19, tzinfo=datetime.UTC)


class Wanted(luigi.Task):
    """A daily task that is never complete."""

    date = luigi.DateParameter()

    def complete(self) -> bool:
        return False


def days(of: Any, now: datetime.datetime, **more: Any) -> list[datetime.date]:
    """The days that a RangeDaily takes."""
    return [task.date for task in RangeDaily(of=of, now=int(now.timestamp()), **more).requires()]


def test_it_is_the_one_that_luigi_takes() -> None:
    """By its name on the command line."""
    assert Register.get_task_cls("RangeDaily") is RangeDaily


@pytest.mark.parametrize(
    ("more", "count", "first", "last"),
    [
        ({"start": datetime.date(2026, 11, 18)}, 1, "2026-11-18", "2026-11-18"),
        ({"start": datetime.date(2026, 9, 1)}, 79, "2026-09-01", "2026-11-18"),
        ({"start": datetime.date(2026, 1, 1)}, 322, "2026-01-01", "2026-11-18"),
        ({"start": datetime.date(2026, 11, 1), "stop": datetime.date(2026, 11, 4)}, 3, "2026-11-01", "2026-11-03"),
        ({"start": datetime.date(2026, 11, 1), "stop": datetime.date(2027, 1, 1)}, 18, "2026-11-01", "2026-11-18"),
        ({"start": datetime.date(2026, 11, 1), "days_forward": 0}, 19, "2026-11-01", "2026-11-19"),
        ({"start": datetime.date(2026, 1, 1), "days_back": 7}, 7, "2026-11-12", "2026-11-18"),
        ({"start": datetime.date(2026, 1, 1), "task_limit": 2}, 2, "2026-01-01", "2026-01-02"),
        ({"stop": MIDNIGHT.date(), "reverse": True, "task_limit": 3}, 3, "2026-11-18", "2026-11-16"),
        ({"stop": MIDNIGHT.date(), "reverse": True}, 100, "2026-11-18", "2026-08-11"),
    ],
)
def test_which_days(more: dict[str, Any], count: int, first: str, last: str) -> None:
    """Until the last whole day, all of them, unless it is told otherwise."""
    for now in (MIDNIGHT, MIDNIGHT + datetime.timedelta(hours=23, minutes=59, seconds=59)):
        found = days(Wanted, now, **more)
        assert (len(found), str(found[0]), str(found[-1])) == (count, first, last)


def test_days_of_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages are asked all at once."""
    monkeypatch.chdir(tmp_path)
    assert len(days(Etl, MIDNIGHT, start=datetime.date(2026, 9, 1))) == 79


def test_days_to_come() -> None:
    """A start that is not over yet, or yet to come, is no day at all, which is soon done."""
    assert days(Wanted, MIDNIGHT, start=MIDNIGHT.date()) == []
    assert days(Wanted, MIDNIGHT, start=datetime.date(2027, 1, 1)) == []


@pytest.mark.parametrize("of", [WordCount, DigitStream])
def test_a_task_of_no_day_is_refused(of: Any) -> None:
    """A stage of no day, and a service, whose --start is none."""
    with pytest.raises(SettingError, match=f"RangeDaily is over tasks of a day, and {of.task_family} has no day"):
        days(of, MIDNIGHT, start=MIDNIGHT.date())


def test_backfill_of_users_own_tasks(tmp_path: Path) -> None:
    """Without --stop, over files of 62 days, and over tables: all are done; a second time there is nothing to do."""
    yesterday = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=1)

    def backfill(task: str, count: int) -> running.Ran:
        start = yesterday - datetime.timedelta(days=count - 1)
        flags = ("--of", task, "--start", start, "--millrace-storage", tmp_path / "data", "--workers", 1)
        ran = running.run(running.command("RangeDaily", *flags, module="range_tasks"), tmp_path)
        assert ran.code == 0, ran
        return ran

    backfill("Export", 62)
    assert len(list(tmp_path.glob("export*"))) == 62
    backfill("Numbers", 3)
    rows = LocalWarehouse(LocalStorage(str(tmp_path / "data"))).query(
        "SELECT COUNT(*) AS n, COUNT(DISTINCT date) AS days, CAST(MAX(date) AS STRING) AS last FROM numbers"
    )
    assert rows.to_pylist() == [{"n": 3, "days": 3, "last": str(yesterday)}]
    assert "1 complete ones were encountered" in backfill("Numbers", 3).err

"""What the library takes over from a workflow that reads sources, tried with one of web servers' logs."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest
from luigi.configuration import get_config

from millrace import BeamTask, Day, FetchStage, Settings, SourceSettings
from millrace.errors import NotThereYetError, SettingError
from millrace.tasks import session

LAST = datetime.date(2026, 11, 5)


class logs(SourceSettings, Settings):  # noqa: N801
    """Which logs are read."""


class FetchLogs(FetchStage):
    """A day's lines."""

    section = logs
    writes = ("log_lines",)
    pipeline = "pipelines.posts.fetch"
    records = "lines"


class Statuses(BeamTask):
    """A day's statuses."""

    section = logs
    writes = ("statuses",)
    date: datetime.date = Day()
    pipeline = "pipelines.logs.statuses"

    def requires(self) -> list[FetchLogs]:
        return FetchLogs.of(self)


def put(key: str, value: str) -> None:
    """Writes a setting as luigi.cfg has it."""
    get_config().set("logs", key, value.replace("%", "%%"))


def day(back: int) -> datetime.date:
    return LAST - datetime.timedelta(days=back)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of logs, a file a day."""
    put("source", f"{tmp_path}/access-{{date:%Y-%m-%d}}.log")
    with session.use(session.Session()):
        yield tmp_path
    get_config().remove_section("logs")


def fetch(date: datetime.date, end: datetime.date | None = None) -> FetchLogs:
    (source,) = logs().source
    return FetchLogs(source=source, date=date, window_end=end)


def test_a_day_is_fetched_from_each_source(folder: Path) -> None:
    """A stage's inputs are the fetches of its day; each has a partition of its source and day, and reads its file."""
    put("source", f"{folder}/a-{{date:%Y-%m-%d}}.log {folder}/b-{{date:%Y-%m-%d}}.log")
    one, other = Statuses(date=LAST).requires()
    assert {one.date, other.date} == {LAST}
    assert one.source.startswith(f"{folder}/a-")
    assert one.output().partition.startswith("log_lines/source=a-date-Y-m-d-log-")
    assert one.output().partition.endswith(f"/date={LAST}")
    assert one.output().partition != other.output().partition
    assert one.runs_here()
    (folder / f"a-{LAST}.log").write_text("")
    assert one.pipelined()


def test_only_a_source_that_has_the_windows_last_day_has_nothing_for_an_earlier_one(folder: Path) -> None:
    """Nothing yet for a window's last day is "not there yet" for all its days; with that day there, an earlier one is
    empty, unless it is itself the last day of another window that is asked for.
    """
    inner, last = fetch(day(1), LAST), fetch(LAST, LAST)
    for each in (inner, last):
        with pytest.raises(NotThereYetError, match=f"has nothing for {LAST} yet, the last day of the window"):
            each.pipelined()
    (folder / f"access-{LAST}.log").write_text("")
    assert last.pipelined()
    assert not inner.pipelined()
    # Windows of the same run that end later, or with the day itself, and are the same task to luigi.
    later = fetch(day(1), LAST + datetime.timedelta(days=3))
    assert later.task_id == inner.task_id
    assert not later.pipelined()
    fetch(day(1))
    for each in (inner, later):
        with pytest.raises(NotThereYetError, match=f"has nothing for {day(1)} yet"):
            each.pipelined()


def test_what_can_not_be_read_is_said_in_the_sections_name(folder: Path) -> None:
    """Errors of settings that sections share name the section at hand; an archive needs a stage that splits it."""
    for key, value, said in (
        ("max_dead_letter_share", "2", "logs.max_dead_letter_share = '2', .* allowed is a number from 0 to 1"),
        ("redirect_hosts", "a b/c", "logs.redirect_hosts = 'a b/c', .* allowed is names of hosts"),
        ("source", "ftp://x/{date}", r"logs.source = 'ftp://x/\{date\}', .* has the scheme ftp://"),
        ("source", "", "logs.source = '', .* allowed is one or more of a path or glob"),
    ):
        before = get_config().get("logs", key, "") if key == "source" else ""
        put(key, value)
        with pytest.raises(SettingError, match=said):
            logs()
        put(key, before) if before else get_config().remove_option("logs", key)
    put("source", f"{folder}/all.log")
    with pytest.raises(SettingError, match=r"all.log, .*, names no day; write \{date:%Y-%m-%d\} in it"):
        fetch(LAST).requires()
    tomorrow = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=1)
    put("source", f"{folder}/access-{{date:%Y-%m-%d}}.log")
    with pytest.raises(NotThereYetError, match="is not over yet .*, so the lines of source"):
        fetch(tomorrow).pipelined()

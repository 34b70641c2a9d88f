"""Which partition a stage makes, by its parameters."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import luigi.tools.range
import pytest
from luigi.configuration import get_config

from millrace import Claim, Day, Days, Hour, Outcome, Setting, Settings, Stage, Table, whole_number
from millrace.errors import SettingError
from millrace.tasks import identity, session

FIVE = datetime.datetime(2026, 11, 1, 5)


class traffic(Settings):  # noqa: N801 (named like its section)
    """What a window is."""

    days: int = Setting(convert=whole_number(1, 99), default=7, description="days of a window")


class Hourly(Stage):
    """An hour's requests."""

    section = traffic
    writes = ("hits",)
    hour: datetime.datetime = Hour()

    def execute(self, claim: Claim) -> Outcome:
        return self.empty("nothing_came", read=0)


class HourlyTable(Hourly):
    """An hour's requests, as a table, which there is not."""

    writes = ("hit_rows",)
    tables = {"hit_rows": Table({"n": "INT64", "date": "DATE"})}


class Trend(Stage):
    """A window's trend; its length is said before its end."""

    section = traffic
    writes = ("trends",)
    days: int = Days(section=traffic)
    date: datetime.date = Day()


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Path]:
    """A storage of its own."""
    get_config().set("millrace", "storage", str(tmp_path))
    with session.use(session.Session()):
        yield tmp_path
    get_config().remove_option("millrace", "storage")


def test_an_hour_is_a_partition(storage: Path) -> None:
    """A stage of an hour makes that hour's partition, with its reason where it has nothing, and luigi's RangeHourly
    leaves it out from then on; an hour is no part of what the result depends on, because it is in the partition's name.
    """
    task = Hourly(hour=FIVE)
    assert [each.partition for each in task.datasets()] == ["hits/date=2026-11-01/hour=05"]
    assert identity.of(task) == {}
    hours = [FIVE, FIVE + datetime.timedelta(hours=1)]
    assert list(Hourly.bulk_complete(hours)) == []
    task.run()
    assert task.finished().counters == {"read": 0, "nothing_came": 1}
    assert list(Hourly.bulk_complete(hours)) == [FIVE]
    span = {"start": FIVE, "stop": hours[-1] + datetime.timedelta(hours=1), "hours_back": 10**6}
    wanted = luigi.tools.range.RangeHourly(of=Hourly, now=1_800_000_000, **span).requires()
    assert [each.hour for each in wanted] == [hours[1]]


@pytest.mark.parametrize(
    "value",
    ["2026-11-01", "2026-11-01T5", "2026-11-01T24", FIVE.replace(minute=1), FIVE.date(), FIVE.replace(year=9999)],
)
def test_what_is_no_hour_is_refused(value: object) -> None:
    """An hour is its start, in the years that have four digits on both sides."""
    with pytest.raises(SettingError, match="Hourly.hour = .*allowed is an hour"):
        Hourly(hour=value)  # type: ignore[arg-type]


def test_an_hour_of_another_zone_is_one_in_utc() -> None:
    """05:00 in UTC+5 is 00:00 in UTC, and that is the hour's name."""
    east = FIVE.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=5)))
    assert Hourly(hour=east).key.folder == "date=2026-11-01/hour=00"
    assert str(Hourly(hour=FIVE).to_str_params()["hour"]) == "2026-11-01T05"  # type: ignore[no-untyped-call]


def test_tables_are_parted_as_their_stages_are(storage: Path) -> None:
    """A stage of an hour that names a table is refused before anything runs, because tables have no hours."""
    with pytest.raises(
        SettingError, match=r"HourlyTable: table [a-z_]+ is parted by date, but the stage's key is date=2026-11-01"
    ):
        HourlyTable(hour=FIVE).preflight()


def test_a_window_is_called_by_its_length_unless_that_is_the_usual_one() -> None:
    """7 days are the setting's, 30 are not; the length is part of what the result depends on."""
    date = FIVE.date()
    assert Trend(date=date).datasets()[0].partition == Trend(date=date, days=7).datasets()[0].partition
    assert Trend(date=date).datasets()[0].partition == "trends/date=2026-11-01"
    assert Trend(date=date, days=30).datasets()[0].partition == "trends_30d/date=2026-11-01"
    assert identity.of(Trend(date=date, days=30)) == {"days": "30"}
    with pytest.raises(SettingError, match="Trend.days = '100', the default: allowed is a whole number from 1 to 99"):
        Trend(date=date, days="100")  # type: ignore[arg-type]

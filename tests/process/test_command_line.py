"""What people type who have just read the docs: misspelt tasks, help, other ranges, days at the calendar's ends."""

import datetime
import shutil
import sys
from pathlib import Path

import luigi
import pytest
import running
from luigi.cmdline_parser import CmdlineParser
from luigi.parameter import ParameterException
from luigi.task_register import Register
from luigi.tools.range import RangeHourly
from running import DAY

import workflows
from millrace import BeamTask
from millrace.errors import SettingError
from millrace.ops import clear
from millrace.tasks import settings, tasks
from millrace.tasks.ranges import RangeDaily
from workflows import Aggregate, Etl, Report


@pytest.mark.parametrize("arguments", [["Raport"], ["RangeDaily", "--of", "Raport", "--start", "2026-11-01"]])
def test_a_misspelt_task_is_one_sentence(arguments: list[str], tmp_path: Path) -> None:
    """It names the nearest task, and the exit code is the one that docs/operation.md gives."""
    ran = running.luigi(*arguments, storage=tmp_path / "data")
    assert ran.code == 40
    (said,) = ran.errors
    assert "there is no task Raport; did you mean Report? There are Aggregate, Count, " in said
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--of Count --start 2026-13-01", "--start 2026-13-01: time data '2026-13-01' does not match format"),
        ("--of Count --start 2026-11-01 --task-limit few", "--task-limit few: invalid literal for int()"),
        ("--of Count --start 2026-11-02 --stop 2026-11-01", "RangeDaily: --start = 2026-11-02 is after --stop"),
        ("--of Count", "RangeDaily needs --start, the first day"),
        ("--of Count --stop 2026-11-01", "RangeDaily needs --start, the first day"),
        ("--start 2026-11-01", "RangeDaily needs --of"),
    ],
)
def test_flags_that_luigi_does_not_take_are_one_sentence(flags: str, said: str) -> None:
    """It names the flag."""
    with (
        pytest.raises((ValueError, ParameterException, SettingError)) as raised,
        CmdlineParser.global_instance(["--module", "workflows", "RangeDaily", *flags.split()]) as line,
    ):
        line.get_task_obj().requires()
    told = tasks.for_people(raised.value)
    assert isinstance(told, SettingError)
    assert str(told).startswith(said)


def test_a_bug_stays_a_bug() -> None:
    """A task that makes another one without its parameter is not somebody's flags."""
    for wrong in (RangeDaily, lambda: int("few")):
        with pytest.raises((ValueError, ParameterException)) as raised:
            wrong()
        assert tasks.for_people(raised.value) is raised.value


def test_task_behind_a_flag_that_needs_no_value() -> None:
    """`--detach Report` is no task with another name: it says how to write the flag, and each of these ways works."""
    command = ["--module", "workflows"]
    with pytest.raises(SettingError, match=r"--detach Report: allowed is true or false, .* write --detach=true"):
        CmdlineParser([*command, "--detach", "Report"])
    for way in (["--detach=true", "Report"], ["Report", "--detach"], ["--detach", "True", "Report"]):
        known = CmdlineParser([*command, *way]).known_args
        assert (known.root_task, known.run_detach) in (("Report", "true"), ("Report", "True"))


@pytest.mark.parametrize("task", [[], *([name] for name in workflows.__all__)])
def test_help_can_be_asked_for(task: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """--help-all and a task's --help print the flags; a strftime field in a description is no format."""
    for flag in ("--help-all", *(["--help"] if task else [])):
        with pytest.raises(SystemExit) as ended:
            CmdlineParser(["--module", "workflows", *task, flag])
        assert ended.value.code in (None, 0)
        said = capsys.readouterr().out
        assert ("{date:%Y-%m-%d} in it selects the day" in " ".join(said.split())) is (flag == "--help-all")


def test_every_flag_has_help() -> None:
    """Each parameter of a public task, and each setting, says what it is."""
    own = [*map(Register.get_task_cls, workflows.__all__), *settings.Settings.__subclasses__()]
    silent = [
        f"{owner.__name__}.{name}"
        for owner in own
        if not owner.__module__.startswith("tests")
        for name, parameter in owner.get_params()
        if not parameter.description
    ]
    assert silent == []


@pytest.mark.parametrize("name", sorted(path.name for path in (running.ROOT / "bin").iterdir()))
def test_each_command_has_help(name: str, project: Path) -> None:
    """bin/… --help says what the command is for, and does nothing."""
    there = sorted(project.rglob("*"))
    command = (
        [project / "bin" / name, "--help"] if name != "local-cloud" else [running.python(), "-m", "localcloud", "-h"]
    )
    ran = running.run(command, running.ROOT)
    assert (ran.code, ran.err) == (0, "")
    assert len(ran.out.split()) > 10
    assert sorted(project.rglob("*")) == there


def test_hours_of_a_daily_task_are_one_sentence() -> None:
    """RangeHourly over a daily task says which range fits, and makes no partition of an hour."""
    hours = RangeHourly(of=Report, start=datetime.datetime(2026, 11, 1), stop=datetime.datetime(2026, 11, 1, 3))
    with pytest.raises(SettingError, match=r"Report.date = 2026-11-01 01:00:00: allowed is a day; .* RangeDaily fits$"):
        hours.requires()


def test_midnight_is_a_day() -> None:
    """A datetime at midnight UTC is that day, the same task; in another zone, and at another time, it is none."""
    midnight = datetime.datetime(2026, 11, 1)
    assert Report(date=midnight) == Report(date=datetime.date(2026, 11, 1))
    assert Report(date=midnight.replace(tzinfo=datetime.UTC)).output()[0].partition == "reports/date=2026-11-01"
    india = datetime.timezone(datetime.timedelta(hours=5.5))
    for other in (midnight.replace(tzinfo=india), midnight.replace(second=1), 20261101):
        with pytest.raises(SettingError, match="Report.date = .*: allowed is a day"):
            Report(date=other)  # type: ignore[arg-type]


@pytest.mark.parametrize("day", ["0001-01-01", "0999-12-31", "9999-12-31"])
def test_days_without_a_window_are_one_sentence(day: str) -> None:
    """Where the calendar ends there is no window, and the flag says so."""
    line = ["--module", "workflows", "Report", "--date", day]
    with CmdlineParser.global_instance(line) as parser, pytest.raises(SettingError) as refused:
        parser.get_task_obj()
    assert str(refused.value).startswith(f"Report.date = {day}, ")
    assert str(refused.value).endswith(": allowed is a day in the years 1000 to 9998")


def test_windows_at_the_ends_are_whole_or_refused() -> None:
    """The first days that have a window have all of its days."""
    assert len(Aggregate(date=datetime.date(1002, 1, 2), days=366).requires()) == 732
    assert Report(date=datetime.date(9998, 12, 31)).output()
    with pytest.raises(SettingError, match="Count.date = 0999-"):
        Aggregate(date=datetime.date(1000, 1, 1), days=1).requires()


class SectionlessCount(BeamTask):
    """A task like Count of somebody who has no settings."""

    writes = ("counts",)
    date: datetime.date = settings.Day()
    pipeline = "pipelines.posts.count"

    def requires(self) -> luigi.Task:
        return Etl(date=self.date)


def test_a_task_needs_no_section(tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A BeamTask without a section has no settings, and runs."""
    storage = Path(shutil.copytree(undisturbed, tmp_path / "data"))
    flags = ["--millrace-storage", str(storage)]
    monkeypatch.setattr(sys, "argv", ["luigi", *flags])
    assert clear.main(["Count", "--from", str(DAY), *flags]) == 0
    with CmdlineParser.global_instance(["--module", "workflows", "Etl", *flags]):
        task = SectionlessCount(date=DAY)
        assert not task.complete()
        task.run()
        assert task.complete()
    assert running.select(storage, f"SELECT SUM(posts) > 0 AS some FROM counts_words WHERE date = DATE '{DAY}'") == [
        {"some": True}
    ]

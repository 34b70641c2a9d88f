"""luigi's RangeDaily, so that it does what its command line says: every whole day from --start on, over any task.

luigi's own takes the day that is not over yet, does the first 50 days and says that all is done, leaves out what is
more than 100 days ago, and takes no task whose outputs are no files with the date in their names. Of two tasks of one
name, one derived from the other, luigi takes the derived one.
"""

import datetime
from collections.abc import Iterable
from typing import Any

import luigi
import luigi.tools.range

from millrace.errors import SettingError
from millrace.tasks.settings import Day

_RangeDaily: Any = luigi.tools.range.RangeDaily


class RangeDaily(_RangeDaily):  # type: ignore[misc]
    """Each whole UTC day of a task, from --start to the last one, or to the day before --stop."""

    days_back = luigi.OptionalIntParameter(
        default=None,
        description="how many days ago to begin, at the most; from --start on unless given, or 100 without a --start",
    )
    days_forward = luigi.IntParameter(
        default=-1, description="days after today that are still done; -1: until yesterday, the last whole day (UTC)"
    )
    task_limit = luigi.IntParameter(default=100_000, description="how many days are done at the most")

    param_name = luigi.OptionalParameter(
        default=None, description="the task's parameter that is the day; its first one unless given", positional=False
    )

    def requires(self) -> Any:
        """Return the tasks of the days that are left to do.

        Raises SettingError for values that are no days, and for a task that has none.
        """
        parameters = [each for _, each in self.of_cls.get_params()]
        if self.param_name is None and not any(isinstance(each, luigi.DateParameter | Day) for each in parameters):
            raise SettingError(
                f"RangeDaily is over tasks of a day, and {self.of_cls.task_family} has no day; run it alone"
            )
        if self.start is None and not (self.stop and self.reverse):
            raise SettingError("RangeDaily needs --start, the first day")
        if self.start is not None and self.stop is not None and self.start > self.stop:
            raise SettingError(f"RangeDaily: --start = {self.start} is after --stop = {self.stop}")
        return super().requires()

    def moving_start(self, now: datetime.datetime) -> datetime.datetime:
        """Return the first day that is looked at."""
        if self.days_back is None and self.start is not None:
            start: datetime.datetime = self.parameter_to_datetime(self.start)
            return start
        return _midnight(now) - datetime.timedelta(days=100 if self.days_back is None else self.days_back)

    def moving_stop(self, now: datetime.datetime) -> datetime.datetime:
        """Return the first day that is not looked at any more."""
        return _midnight(now) + datetime.timedelta(days=self.days_forward + 1)

    def missing_datetimes(self, finite_datetimes: Iterable[datetime.datetime]) -> Any:
        """Return the days whose tasks are not complete; tasks that can't be asked all at once are asked one by one."""
        if self.of.bulk_complete.__func__ is luigi.Task.bulk_complete.__func__:  # type: ignore[attr-defined]
            # Not by the names of files, as luigi would, because a file says nothing of a table, nor of what makes it
            # complete.
            return luigi.tools.range.RangeBase.missing_datetimes(self, finite_datetimes)
        return super().missing_datetimes(finite_datetimes)


def _midnight(now: datetime.datetime) -> datetime.datetime:
    return datetime.datetime(now.year, now.month, now.day)

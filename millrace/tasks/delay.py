"""Delay: a task that is complete once a moment has passed, and for which nothing runs until then.

A run that comes before that moment ends with the exit code of what is at work, and the next firing looks again.
"""

import datetime
import json
from collections.abc import Mapping
from typing import Any, ClassVar

import luigi

from millrace.core import ledger
from millrace.core.waiting import AT_WORK, Waiting
from millrace.errors import ConflictError, ManifestError, SettingError
from millrace.tasks import session
from millrace.tasks.flows import Flow
from millrace.tasks.settings import Setting, day, saying, whole_number

#: The file that says when the delay began.
_BEGUN = "begun.json"
_YEAR = 366 * 24 * 3600


def _day(text: str) -> datetime.date | None:
    return day(text) if text else None


def _seconds(text: str) -> int | None:
    return whole_number(0, _YEAR)(text) if text else None


def _moment(text: str) -> datetime.datetime | None:
    return datetime.datetime.fromisoformat(text) if text else None


class _Until(Setting):
    """A moment as a task's parameter: in UTC unless it says another zone."""

    def normalize(self, x: Any) -> datetime.datetime | None:
        """Return the moment in UTC. Raises SettingError for what is none."""
        value = super().normalize(x)
        if value is None:
            return None
        if not isinstance(value, datetime.datetime):
            raise SettingError(f"{self._owner}.{self._key} = {value}: allowed is {self._allowed}")
        utc = value.replace(tzinfo=datetime.UTC) if value.tzinfo is None else value.astimezone(datetime.UTC)
        return utc.replace(microsecond=0)

    def serialize(self, x: datetime.datetime | None) -> str:
        return f"{x:%Y-%m-%dT%H:%M:%SZ}" if x else ""


class Delay(Flow):
    """Waits until a moment, which is said (until), or is so many seconds after a run has first asked (seconds)."""

    version = "1"
    only_orders = True
    keeps: ClassVar[tuple[str, ...]] = (_BEGUN,)
    name: str = luigi.Parameter(default="", description="what is waited for, which tells this delay from others")
    date: datetime.date | None = Setting(
        convert=saying("a day as YYYY-MM-DD", _day), description="the day that it is for", default=None
    )
    seconds: int | None = Setting(
        convert=saying(f"a whole number from 0 to {_YEAR}", _seconds),
        description="how long, from when a run has first asked",
        default=None,
    )
    until: datetime.datetime | None = _Until(
        convert=saying("a moment such as 2026-11-20T06:00:00Z", _moment), description="until when, in UTC", default=None
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if (self.seconds is None) == (self.until is None):
            raise SettingError(f"{self}: a delay has either seconds or until; say one of them")

    def steps(self) -> str:
        """Return the moment, once it has passed. Raises Waiting before."""
        began = "" if self.until else self._begun()
        until = self.until or datetime.datetime.fromisoformat(began) + datetime.timedelta(seconds=self.seconds or 0)
        if datetime.datetime.now(datetime.UTC) < until:
            raise Waiting(
                f"waiting until {until:%Y-%m-%d %H:%M:%SZ}", on=f"Delay {self._called()}", kind=AT_WORK, since=began
            )
        return until.isoformat()

    def told_apart(self) -> Mapping[str, str]:
        """Return the parameters that are given."""
        return {name: text for name, text in super().told_apart().items() if text}

    def __str__(self) -> str:
        return f"Delay {self._called()}"

    def _called(self) -> str:
        said = [self.name, self.date, f"{self.seconds} s" if self.seconds is not None else "", self.until]
        return " ".join(str(each) for each in said if each)

    def _begun(self) -> str:
        """Return when a run has first asked (UTC, ISO 8601), which is written once."""
        storage, path = session.current().storage, f"{self.datasets()[0].partition}/{_BEGUN}"
        found = storage.read(path)
        if found is None:
            began = ledger.now()
            try:
                storage.create(path, json.dumps({"begun": began}).encode() + b"\n")
            except ConflictError:  # by a process that was given up for dead
                found = storage.read(path)
            else:
                return began
        try:
            return datetime.datetime.fromisoformat(json.loads(found.data if found else b"")["begun"]).isoformat()
        except (ValueError, KeyError, TypeError):
            raise ManifestError(
                f"{storage.uri(path)} does not say when the delay began; delete the file, and the delay begins anew"
            ) from None

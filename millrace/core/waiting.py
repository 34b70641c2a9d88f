"""Waiting: what a task raises that can't go on yet, and for which no process has to wait; the next run looks again."""

import enum
from collections.abc import Mapping
from typing import Any

from millrace.common.text import moment


class Kind(enum.Enum):
    """What is waited for; the value is the exit code of a run that waits for such and has failed nowhere."""

    #: Jobs, moments, another run: what comes by itself.
    AT_WORK = 12
    #: Somebody's word.
    APPROVAL = 13


AT_WORK, APPROVAL = Kind.AT_WORK, Kind.APPROVAL
#: What a run is called that waits for such.
WORDS = {AT_WORK: "at work", APPROVAL: "waiting for approval"}


class Waiting(Exception):  # noqa: N818  # because nothing has gone wrong
    """A task waits for something that needs no process of ours.

    The rest of the run goes on; the task is neither done nor failed.

    what: how it stands, in one sentence. on: a short name of what is waited for, the same for all that wait for it.
    since: UTC, ISO 8601, "" where that is not known. url: a page that shows it, "" for none.
    """

    def __init__(self, what: str, *, on: str, kind: Kind = AT_WORK, since: str = "", url: str = "") -> None:
        super().__init__(what)
        self.what, self.on, self.kind, self.since, self.url = what, on, kind, since, url

    def __str__(self) -> str:
        since = f" since {moment(self.since)}" if self.since else ""
        return f"{self.what}{since}{f'; {self.url}' if self.url else ''}"

    def __reduce__(self) -> Any:
        return from_data, (self.as_data(),)

    def as_data(self) -> dict[str, str]:
        """Return it as JSON can carry it."""
        return {"what": self.what, "on": self.on, "kind": self.kind.name, "since": self.since, "url": self.url}


def from_data(data: Mapping[str, str]) -> Waiting:
    """Return the Waiting that `as_data` told of."""
    return Waiting(data["what"], on=data["on"], kind=Kind[data["kind"]], since=data["since"], url=data["url"])

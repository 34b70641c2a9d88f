"""Every error of Millrace, drawn as one tree.

    MillraceError              one sentence for a person: what, which value, from where, what to do
    ├── TerminalError          the same run would fail again: somebody has to change something
    │   ├── SettingError       a setting or flag is wrong or missing, or names what is not there
    │   ├── SettingsDifferError  a partition was made with other settings than this run's
    │   ├── AccessError        credentials are missing or expired, or a permission is
    │   ├── SourceError        a source of records can't be read: no permission, broken file, too large
    │   ├── DeadLetterError    too many records were rejected
    │   ├── ManifestError      a manifest, or what it describes, is not what it should be
    │   │   └── DamagedError   a file is not there any more as it was written
    │   ├── SchemaError        a table of the warehouse has other columns than what is to be loaded
    │   ├── QueryError         a query that the warehouse can't run
    │   ├── CostError          a query that would read more than the settings allow
    │   ├── RejectedError      somebody said no at a gate, at which a flow waits for a person
    │   └── JobFailedError     a Dataflow job failed
    └── TransientError         a later run may succeed without any change
        ├── NotThereYetError   the data of that day has not arrived
        ├── SourceBusyError    a source did not answer, or broke off, as often as it was asked
        ├── ServiceError       a service of Google Cloud did not answer, or broke off, as often as it was asked
        ├── JobCancelledError  a Dataflow job was cancelled, drained or replaced, by us or by somebody else
        └── ConflictError      somebody else wrote first

Whether to retry is a type check: `isinstance(error, TransientError)`.

An error carries what happened, where the value came from that led to it, what mends it, and the commands that do.
Together they make its one sentence: "WHAT, WHERE; MEND". An error travels as data (`as_data`, `from_data`), not as text
to be parsed.
"""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "AccessError",
    "Command",
    "ConflictError",
    "CostError",
    "DamagedError",
    "DeadLetterError",
    "JobCancelledError",
    "JobFailedError",
    "ManifestError",
    "MillraceError",
    "NotThereYetError",
    "QueryError",
    "RejectedError",
    "SchemaError",
    "ServiceError",
    "SettingError",
    "SettingsDifferError",
    "SourceBusyError",
    "SourceError",
    "TerminalError",
    "TransientError",
]


@dataclass(frozen=True)
class Command:
    """A command of ours that mends something, by what it does; tasks/advice.py knows how it is typed here.

    name: as in bin/NAME. arguments: as they are typed. first, last: the days that it is for. parameters: those of the
    task that it is for.
    """

    name: str
    arguments: Sequence[str] = ()
    first: datetime.date | None = None
    last: datetime.date | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


def _plainly(command: Command) -> str:
    """Return a command as it is typed in the project's folder, where luigi.cfg has all settings."""
    days = {"from": command.first, "to": command.last}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in {**days, **command.parameters}.items() if value]
    return " ".join([f"bin/{command.name}", *command.arguments, *flags])


#: How commands are spelled. Only the tasks know the settings, and where the person is, and say so once.
_spelling: Callable[[Command], str] = _plainly


def spell(how: Callable[[Command], str]) -> None:
    """Have the commands in errors of this process spelled like this."""
    global _spelling
    _spelling = how


class MillraceError(Exception):
    """Base of all errors that Millrace raises on purpose; its text is one sentence for a person.

    what: what happened, with the name and the value. where: where that came from, "" if `what` says so. mend: what to
    do, with {0}, {1} … where `commands` stand; "" if `what` says so.
    """

    def __init__(self, what: str, *commands: Command, where: str = "", mend: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.mend, self.commands = what, where, mend, commands

    def __str__(self) -> str:
        where = f", {self.where}" if self.where else ""
        return self.what + where + (f"; {self.mend.format(*map(_spelling, self.commands))}" if self.mend else "")

    def __reduce__(self) -> Any:
        return from_data, (self.as_data(),)

    def as_data(self) -> dict[str, Any]:
        """Return the error as JSON can carry it."""
        commands = [
            {
                "name": each.name,
                "arguments": list(each.arguments),
                "first": each.first and str(each.first),
                "last": each.last and str(each.last),
                "parameters": dict(each.parameters),
            }
            for each in self.commands
        ]
        said = {"what": self.what, "where": self.where, "mend": self.mend, "commands": commands}
        return {"error": type(self).__name__, **said}


def from_data(data: Mapping[str, Any]) -> MillraceError:
    """Return the error that `as_data` told of; a kind that is not known here becomes a MillraceError."""
    kind = globals().get(data["error"], MillraceError)
    if not (isinstance(kind, type) and issubclass(kind, MillraceError)):
        kind = MillraceError

    def day(value: str | None) -> datetime.date | None:
        return datetime.date.fromisoformat(value) if value else None

    commands = [
        Command(each["name"], each["arguments"], day(each["first"]), day(each["last"]), each["parameters"])
        for each in data["commands"]
    ]
    return kind(data["what"], *commands, where=data["where"], mend=data["mend"])


class TerminalError(MillraceError):
    """The same run would fail again."""


class TransientError(MillraceError):
    """A later run may succeed without any change."""


class SettingError(TerminalError):
    """A setting or flag is wrong or missing."""


class SettingsDifferError(TerminalError):
    """A partition was made with other settings than this run's."""


class SourceChangedError(SettingsDifferError):
    """A partition was made of a source, a model or a table as it is no more."""


class AccessError(TerminalError):
    """Credentials are missing or expired, or a permission is."""


class SourceError(TerminalError):
    """A source of records can't be read."""


class DeadLetterError(TerminalError):
    """More records were rejected than the settings allow."""


class ManifestError(TerminalError):
    """A manifest, or what it describes, is not what it should be."""


class DamagedError(ManifestError):
    """A file is not there any more as it was written."""


class SchemaError(TerminalError):
    """A table of the warehouse has other columns than what is to be loaded."""


class QueryError(TerminalError):
    """A query the warehouse can't run."""


class CostError(TerminalError):
    """A query that would read more than the settings allow."""


class RejectedError(TerminalError):
    """Somebody said no at a gate, at which a flow waits for a person."""


class JobFailedError(TerminalError):
    """A Dataflow job failed."""


class NotThereYetError(TransientError):
    """The data of that day has not arrived."""


class SourceBusyError(TransientError):
    """A source did not answer, or broke off, as often as it was asked."""

    #: Seconds for which the source asks to be left alone.
    wait = 0.0


class ServiceError(TransientError):
    """A service of Google Cloud did not answer, or broke off, as often as it was asked."""


class JobCancelledError(TransientError):
    """A Dataflow job was cancelled, drained or replaced, by us or by somebody else."""


class ConflictError(TransientError):
    """A conditional write lost: somebody else wrote first."""

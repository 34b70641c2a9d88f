"""Every error of Millrace, drawn as one tree.

    MillraceError              one sentence for a person: what, which value, from where, what to do
    ├── TerminalError          the same run would fail again: somebody has to change something
    │   ├── SettingError       a setting or flag is wrong or missing
    │   ├── SettingsDifferError  a partition was made with other settings than this run's
    │   ├── SourceError        a source of records can't be read: no permission, broken file, too large
    │   ├── DeadLetterError    too many records were rejected
    │   ├── ManifestError      a manifest, or what it describes, is not what it should be
    │   └── QueryError         a query the warehouse can't run
    └── TransientError         a later run may succeed without any change
        ├── NotThereYetError   the data of that day has not arrived
        ├── SourceBusyError    a source did not answer, or broke off, as often as it was asked
        └── ConflictError      somebody else wrote first

Whether to retry is a type check: `isinstance(error, TransientError)`.
"""

__all__ = [
    "ConflictError",
    "DeadLetterError",
    "ManifestError",
    "MillraceError",
    "NotThereYetError",
    "QueryError",
    "SettingError",
    "SettingsDifferError",
    "SourceBusyError",
    "SourceError",
    "TerminalError",
    "TransientError",
]


class MillraceError(Exception):
    """Base of all errors that Millrace raises on purpose; its text is one sentence for a person."""


class TerminalError(MillraceError):
    """The same run would fail again."""


class TransientError(MillraceError):
    """A later run may succeed without any change."""


class SettingError(TerminalError):
    """A setting or flag is wrong or missing."""


class SettingsDifferError(TerminalError):
    """A partition was made with other settings than this run's."""


class SourceError(TerminalError):
    """A source of records can't be read."""


class DeadLetterError(TerminalError):
    """More records were rejected than the settings allow."""


class ManifestError(TerminalError):
    """A manifest, or what it describes, is not what it should be."""


class QueryError(TerminalError):
    """A query the warehouse can't run."""


class NotThereYetError(TransientError):
    """The data of that day has not arrived."""


class SourceBusyError(TransientError):
    """A source did not answer, or broke off, as often as it was asked."""


class ConflictError(TransientError):
    """A conditional write lost: somebody else wrote first."""

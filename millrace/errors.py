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
    │   ├── QueryError         a query the warehouse can't run
    │   ├── CostError          a query that would read more than the settings allow
    │   └── JobFailedError     a Dataflow job failed
    └── TransientError         a later run may succeed without any change
        ├── NotThereYetError   the data of that day has not arrived
        ├── SourceBusyError    a source did not answer, or broke off, as often as it was asked
        ├── ServiceError       a service of Google Cloud did not answer, or broke off, as often as it was asked
        ├── JobCancelledError  a Dataflow job was cancelled, drained or replaced, by us or by somebody else
        └── ConflictError      somebody else wrote first

Whether to retry is a type check: `isinstance(error, TransientError)`.
"""

__all__ = [
    "AccessError",
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
    "SchemaError",
    "ServiceError",
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

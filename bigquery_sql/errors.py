"""What goes wrong with a statement."""

from collections.abc import Sequence


class SqlError(Exception):
    """What BigQuery refuses; one sentence."""


class UnsupportedError(SqlError):
    """What BigQuery has, and what can't be had here as BigQuery has it."""


class DuplicateError(SqlError):
    """Columns of a result that have one name."""

    def __init__(self, names: Sequence[str]) -> None:
        lowered = [name.lower() for name in names]
        twice = next(name for name in lowered if lowered.count(name) > 1)
        super().__init__(f"Duplicate column names in the result are not supported. Found duplicate(s): {twice}")
        self.names = names

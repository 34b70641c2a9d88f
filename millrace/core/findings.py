"""What a look at something found: that all is well, or what mends it."""

from collections.abc import Sequence
from dataclasses import dataclass

OK, WARNING, WRONG, NOT_ASKED = "ok", "warning", "wrong", "not asked"


@dataclass(frozen=True)
class Finding:
    """What a check found. state: one of the four words above; said: a sentence; mend: commands, or what to set."""

    state: str
    said: str
    mend: Sequence[str] = ()


def ok(said: str) -> Finding:
    """Return the finding that all is well."""
    return Finding(OK, said)


def warning(said: str, *mend: str) -> Finding:
    """Return the finding that a run works, but costs more than it should, or may not always work."""
    return Finding(WARNING, said, mend)


def wrong(said: str, *mend: str) -> Finding:
    """Return the finding that a run would fail."""
    return Finding(WRONG, said, mend)

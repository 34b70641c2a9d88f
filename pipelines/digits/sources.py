"""Where images and labels come from: which names a source may have, and what its files are like. Loads no Beam."""

from collections.abc import Sequence

from millrace.beam.sources import named
from millrace.errors import SourceError

#: The source that is built in.
SAMPLE = "sample://"


def check(source: str) -> str:
    """Return the name of a source. Raises SourceError for what can't be one."""
    named.check(source, [SAMPLE])
    if not named.is_generated(source) and not named.is_archive(source):
        raise SourceError(f"source {source!r} has a field for the day, but digits have no days; write a path or a glob")
    return source


def is_local(source: str) -> bool:
    """Return whether only this machine can read a source, or generate it."""
    return named.is_generated(source) or named.is_local(source)


def version(source: str, redirect_hosts: Sequence[str] = ()) -> str:
    """Return what a source's files are like, which changes when they do; "" where there are none."""
    return "" if named.is_generated(source) else named.version(source, redirect_hosts)

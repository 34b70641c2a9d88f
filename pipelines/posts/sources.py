"""Where posts come from: the library's sources, and the built-in sample."""

import contextlib
import datetime
import io
from collections.abc import Iterator, Sequence
from typing import IO

from millrace.beam.sources.named import SAMPLE, check, is_archive, is_local, key, named, resolve, version
from millrace.beam.sources.named import open_uri as _open_uri

__all__ = ["SAMPLE", "check", "is_archive", "is_local", "key", "named", "open_uri", "resolve", "version"]


@contextlib.contextmanager
def open_uri(
    uri: str, max_bytes: int, max_seconds: float = 3600, redirect_hosts: Sequence[str] = ()
) -> Iterator[IO[bytes]]:
    """Open a URI for reading, as the library does; a day of the sample is generated."""
    if uri.startswith(SAMPLE):
        from pipelines.posts import sample

        day = datetime.date.fromisoformat(uri.removeprefix(SAMPLE))
        yield io.BytesIO(b"".join(line + b"\n" for line in sample.lines(day)))
        return
    with _open_uri(uri, max_bytes, max_seconds, redirect_hosts) as stream:
        yield stream

"""Texts → pieces of their bytes that cut no word and no character, however long lines are.

A large text that is not compressed is read in ranges (ranges.py), each with the words that begin in it.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import IO

from millrace.beam.sources import named, ranges, records
from millrace.beam.sources.ranges import Unit
from millrace.common.text import plain
from millrace.errors import SourceError

#: Bytes of a piece, which stay in the processor's cache.
PIECE = 1 << 18
#: Where texts are cut: no word goes on after these, in any language.
ENDS = b"\n "
#: Bytes of a range that are read at a time: on Cloud Storage, a request.
_BLOCK = 8 << 20
#: Bytes without an end, from which on they are taken for no text.
_LONGEST = 64 << 20


def units(source: str, length: int, max_bytes: int, redirect_hosts: Sequence[str] = ()) -> list[Unit]:
    """Return a source's texts, those larger than `length` in ranges; [] if there are none.

    Raises SourceError and SourceBusyError for what can't be read.
    """
    found = named.stored(source, None, redirect_hosts)
    return [
        unit
        for number, file in enumerate(found)
        for unit in ranges.units(number, file, length, max_bytes, lambda first: not records.is_utf16(first))
    ]


def read(
    unit: Unit,
    max_bytes: int,
    max_seconds: float = 3600,
    redirect_hosts: Sequence[str] = (),
    *,
    longest: int = _LONGEST,
) -> Iterator[bytes]:
    """Yield a text, or a range of one, in pieces; decompressed, and in UTF-8 where it begins as UTF-16 does.

    Raises SourceError for what can't be read, and for more than `longest` bytes without an end.
    """
    with contextlib.ExitStack() as stack:
        if unit.part is None:
            stream = stack.enter_context(named.open_uri(unit.file.uri, max_bytes, max_seconds, redirect_hosts))
            first, stream = records.peek_text(stream)
        else:  # which may begin with any bytes, and they say nothing of the text
            first = b""
            stream = stack.enter_context(ranges.open_range(unit.file, unit.part, ends=ENDS, block=_BLOCK))
        try:
            yield from pieces(stream, first, longest=longest)
        except _Endless:
            raise SourceError(
                f"source {plain(unit.file.uri)} has {longest:,} bytes without a space or the end of a line, so that it "
                "is no text; name another"
            ) from None


def pieces(stream: IO[bytes], first: bytes = b"", *, size: int = PIECE, longest: int = _LONGEST) -> Iterator[bytes]:
    """Yield the bytes of a stream, cut after a space or the end of a line.

    first: what was read of it before. size: bytes that are read at a time. longest: a piece has no more than these, and
    what was read last.
    """
    data = first or stream.read(size)
    held, length = list[bytes](), 0
    while data:
        if end := max(map(data.rfind, ENDS)) + 1:
            yield b"".join([*held, data[:end]])
            held, length = [], 0
        held.append(data[end:])
        length += len(held[-1])
        if length > longest:
            raise _Endless
        data = stream.read(size)
    if length:
        yield b"".join(held)


class _Endless(Exception):  # noqa: N818 (told by who knows the source's name)
    pass

"""A large file of lines → ranges of its bytes, which are read side by side, each with the lines that begin in it.

The records are those of the whole file, line for line. A line's number needs the lines before it: those of each range
are counted first, which is a pass over the bytes that parses nothing. What can't be read from any place stays whole:
what is compressed, text in UTF-16, an API response, and what comes by HTTP.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, cast

import numpy as np

from millrace.beam.sources import named, records
from millrace.beam.sources.named import Stored
from millrace.beam.sources.unpacking import is_packed

#: Bytes of a range, where nothing else is said.
LENGTH = 256 << 20
#: Bytes read at a time where lines are counted, and where the end of a line is looked for: on Cloud Storage, a request.
_COUNTED, _CHUNK = 8 << 20, 1 << 20
#: Bytes that are counted at a time, because they stay in the processor's cache.
_CACHED = 1 << 18
_FEED = ord("\n")


@dataclass(frozen=True)
class Range:
    """The lines of a file that begin from `start` on and before `end`; number: the range's place among the file's."""

    number: int
    start: int
    end: int

    @property
    def told_from(self) -> int:
        """The place of the first byte that tells where lines of the range begin: a line does after each line feed."""
        return max(0, self.start - 1)

    @property
    def told_to(self) -> int:
        """The place after the last such byte: a line feed from there on ends the range's last line."""
        return self.end - 1


@dataclass(frozen=True)
class Unit:
    """A file of a source, by its place among a partition's, or a range of one."""

    number: int
    file: Stored
    part: Range | None = None

    @property
    def name(self) -> str:
        """What tells the unit from the partition's others; in order of names the records are in order."""
        return f"{self.number:05d}" if self.part is None else f"{self.number:05d}-{self.part.number:05d}"


def units(number: int, file: Stored, length: int, max_bytes: int) -> list[Unit]:
    """Return a file, or the ranges in which a larger one of lines is read.

    Raises SourceError and SourceBusyError for what can't be read.
    """
    if not length < file.size <= max_bytes:  # what is too large is refused where it is read whole
        return [Unit(number, file)]
    with named.open_stored(file) as stream:
        first = records.peek(stream)
    if is_packed(first) or not records.are_lines(first):
        return [Unit(number, file)]
    parts = enumerate(range(0, file.size, length))
    return [Unit(number, file, Range(part, at, min(at + length, file.size))) for part, at in parts]


def count(file: Stored, part: Range) -> int:
    """Return how many lines begin in a range."""
    lines, left = int(not part.start), part.told_to - part.told_from
    with named.open_stored(file) as stream:
        stream.seek(part.told_from)
        while left > 0 and (data := stream.read(min(left, _COUNTED))):
            found = np.frombuffer(data, np.uint8)
            lines += sum(
                int(np.count_nonzero(found[at : at + _CACHED] == _FEED)) for at in range(0, len(data), _CACHED)
            )
            left -= len(data)
    return lines


def read(
    file: Stored, part: Range, number: int, *, block: int = records.BLOCK, max_kept: int = records.MAX_KEPT
) -> Iterator[records.Block]:
    """Yield the records of a range, of which the first line has a number."""
    with named.open_stored(file) as stream:
        pieces = cast("IO[bytes]", _Pieces(_lines(stream, part, block)))
        yield from records.lines(pieces, number, block=block, max_kept=max_kept)


def _lines(stream: IO[bytes], part: Range, block: int) -> Iterator[bytes]:
    """Yield the bytes of a range's lines."""
    at, begun = part.told_from, not part.start
    stream.seek(at)
    while data := stream.read(max(_CHUNK, min(block, part.end - at))):
        known = max(0, part.told_to - at)
        first = 0 if begun else data.find(b"\n", 0, known) + 1
        begun = begun or first > 0
        last = data.find(b"\n", known) + 1
        if begun:
            yield data[first : last or None]
        at += len(data)
        if last or (not begun and at >= part.told_to):
            return


class _Pieces:
    """Pieces of bytes as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._piece = pieces, b""

    def read(self, size: int) -> bytes:
        while not self._piece:
            if (piece := next(self._pieces, None)) is None:
                return b""
            self._piece = piece
        data, self._piece = self._piece[:size], self._piece[size:]
        return data

"""A large file of lines → ranges of its bytes, which are read side by side, each with the lines that begin in it.

The records are those of the whole file, line for line. A line's number needs the lines before it: those of each range
are counted first, which is a pass over the bytes that parses nothing. What can't be read from any place stays whole:
what is compressed, text in UTF-16, an API response, and what comes by HTTP. Where lines mean nothing, as in texts,
ranges may be cut at other bytes too.
"""

import contextlib
from collections.abc import Callable, Iterator
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


def units(
    number: int, file: Stored, length: int, max_bytes: int, fits: Callable[[bytes], bool] = records.are_lines
) -> list[Unit]:
    """Return a file, or the ranges in which a larger one of lines is read.

    fits: tells by a file's first bytes, which are not compressed, whether it may be read in ranges.
    Raises SourceError and SourceBusyError for what can't be read.
    """
    if not length < file.size <= max_bytes:  # what is too large is refused where it is read whole
        return [Unit(number, file)]
    with named.open_stored(file) as stream:
        first = records.peek(stream)
    if is_packed(first) or not fits(first):
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
    with open_range(file, part, block=block) as stream:
        yield from records.lines(stream, number, block=block, max_kept=max_kept)


@contextlib.contextmanager
def open_range(file: Stored, part: Range, *, ends: bytes = b"\n", block: int = records.BLOCK) -> Iterator[IO[bytes]]:
    """Open the lines of a range as a stream; ends: the bytes of which each ends what is taken for a line."""
    with named.open_stored(file) as stream:
        yield cast("IO[bytes]", _Pieces(_lines(stream, part, block, ends)))


def _lines(stream: IO[bytes], part: Range, block: int, ends: bytes) -> Iterator[bytes]:
    """Yield the bytes of a range's lines."""
    at, begun = part.told_from, not part.start
    stream.seek(at)
    while data := stream.read(max(_CHUNK, min(block, part.end - at))):
        known = max(0, part.told_to - at)
        first = 0 if begun else _after(data, ends, 0, known)
        begun = begun or first > 0
        last = _after(data, ends, known)
        if begun:
            yield data[first : last or None]
        at += len(data)
        if last or (not begun and at >= part.told_to):
            return


def _after(data: bytes, ends: bytes, start: int, stop: int | None = None) -> int:
    """Return the place after the first byte that ends a line; 0 if there is none."""
    return min((at for end in ends if (at := data.find(end, start, stop)) >= 0), default=-1) + 1


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

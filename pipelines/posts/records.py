"""A stream of bytes → raw records, as they came, each with its place: JSON lines or a Twitter API v1.1 response."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

#: Bytes read at a time; a block of records is about as large.
BLOCK = 32 << 20
#: A line is kept up to this many bytes. Lines over parse.MAX_RECORD are rejected anyway; this bounds the memory.
MAX_KEPT = 16 << 20

#: Files of raw records: the file they came from, the line (or place in an API response) from 1, and their bytes.
SCHEMA = pa.schema(
    [("file", pa.dictionary(pa.int32(), pa.string())), ("line", pa.int64()), ("record", pa.large_binary())]
)

_WHITE = b" \t\r\n\x0b\x0c"
_BOM = b"\xef\xbb\xbf"
#: How an API response begins; a line of JSON lines is an object of other fields.
_RESPONSE = re.compile(r"\s*(?:\[\s*(?:[{\]]|$)|\{\s*\"(?:statuses|search_metadata)\"\s*:)", re.ASCII)
_PEEK = 4096
#: Reads a JSON value only to find its end. What the value is, is for `parse` to judge.
_scan = json.JSONDecoder(strict=False, parse_int=str, parse_float=str).raw_decode


@dataclass(frozen=True)
class Block:
    """Some records: line numbers (int64, from 1) and bytes (large_binary; lines with their line ends)."""

    line: pa.Array
    record: pa.Array


def read(stream: IO[bytes], *, block: int = BLOCK, max_kept: int = MAX_KEPT) -> Iterator[Block]:
    """The records of a stream, in order; blank lines are none."""
    first = b""
    while len(first) < _PEEK and (more := stream.read(_PEEK - len(first))):
        first += more
    if _RESPONSE.match(first.removeprefix(_BOM).decode("latin-1")):
        yield _response(b"".join([first, *iter(lambda: stream.read(block), b"")]))
    else:
        yield from _lines(first, stream, block, max_kept)


def _lines(first: bytes, stream: IO[bytes], block: int, max_kept: int) -> Iterator[Block]:
    number = 1
    carry, ended = first, False
    while not ended:
        data = stream.read(block)
        ended = not data
        carry += data
        cut = len(carry) if ended else carry.rfind(b"\n") + 1
        if cut:
            lines = _shortened(_split(carry[:cut]), max_kept)
            yield _nonblank(np.arange(number, number + len(lines)), lines)
            number += len(lines)
            carry = carry[cut:]
        elif len(carry) > max_kept:
            carry = carry[: max_kept + 1] + _skip_line(stream, block)


def _skip_line(stream: IO[bytes], block: int) -> bytes:
    """Passes over the rest of a line; what it read of the next ones, beginning with the line's end."""
    while data := stream.read(block):
        if (end := data.find(b"\n")) >= 0:
            return data[end:]
    return b""


def _split(block: bytes) -> pa.Array:
    """Lines of a block as a large_binary array on the block's own bytes, without a copy."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + 1
    if not len(ends) or ends[-1] != len(block):
        ends = np.append(ends, len(block))
    offsets = np.concatenate([[0], ends]).astype(np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(block)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(ends), buffers)


def _shortened(lines: pa.Array, max_kept: int) -> pa.Array:
    """The lines with no more than so many bytes before their ends."""
    if (pc.max(pc.binary_length(lines)).as_py() or 0) <= max_kept:
        return lines
    whole = ((line, line.removesuffix(b"\n")) for line in lines.to_pylist())
    return pa.array([text[:max_kept] + line[len(text) :] for line, text in whole], pa.large_binary())


def _nonblank(numbers: NDArray[np.int64], lines: pa.Array) -> Block:
    data = np.frombuffer(lines.buffers()[2], np.uint8)
    starts = np.frombuffer(lines.buffers()[1], np.int64)[: len(lines)]
    keep = np.ones(len(lines), np.bool_)
    for i in np.flatnonzero(np.isin(data[starts], np.frombuffer(_WHITE, np.uint8))):
        keep[i] = bool(lines[int(i)].as_py().strip(_WHITE))
    line = pa.array(numbers, pa.int64())
    return Block(line, lines) if keep.all() else Block(pc.filter(line, keep), pc.filter(lines, keep))


def _response(data: bytes) -> Block:
    """The statuses of an API response, each as its own text; what can't be read on from is one last record."""
    text = data.removeprefix(_BOM).decode("utf-8", "surrogateescape")
    records = [part.encode("utf-8", "surrogateescape") for part in _Responses(text).records()]
    return Block(pa.array(range(1, len(records) + 1), pa.int64()), pa.array(records, pa.large_binary()))


class _Responses:
    """API responses in a text, one or several in a row, and how far they have been read."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def records(self) -> Iterator[str]:
        """Each status as it stands there; then the rest, where the text breaks off or is something else."""
        try:
            while _RESPONSE.match(self._text, self._at):
                yield from self._array() if self._next() == "[" else self._object()
        except (ValueError, IndexError, RecursionError):
            pass
        if rest := self._text[self._at :].strip():
            yield rest

    def _array(self) -> Iterator[str]:
        self._take("[")
        if self._next() != "]":
            while True:
                self._next()
                start = self._at
                self._value()
                yield self._text[start : self._at]
                if self._next() == "]":
                    break
                self._take(",")
        self._take("]")

    def _object(self) -> Iterator[str]:
        """The statuses, at whatever place of the object they are."""
        self._take("{")
        if self._next() != "}":
            while True:
                name = self._value()
                self._take(":")
                if self._next() == "[" and name == "statuses":
                    yield from self._array()
                else:
                    self._value()
                if self._next() == "}":
                    break
                self._take(",")
        self._take("}")

    def _next(self) -> str:
        """The next character that is no white space."""
        while self._text[self._at] in " \t\r\n":
            self._at += 1
        return self._text[self._at]

    def _take(self, expected: str) -> None:
        if self._next() != expected:
            raise ValueError(expected)
        self._at += 1

    def _value(self) -> object:
        self._next()
        value, self._at = _scan(self._text, self._at)
        return value

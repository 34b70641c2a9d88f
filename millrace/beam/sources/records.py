"""A stream of bytes → raw records, as they came, each with its place: JSON lines or a Twitter API v1.1 response.

Text in UTF-16, as a byte order mark says, becomes UTF-8. Whatever the bytes, memory is bounded, and time goes by them.
"""

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from millrace.beam.sources import responses

#: Bytes read at a time; a block of records is about as large.
BLOCK = 32 << 20
#: A line is kept up to this many bytes. Lines over parse.MAX_RECORD are rejected anyway; this bounds the memory.
MAX_KEPT = 16 << 20

#: Files of raw records: the file they came from, the line (or place in an API response) from 1, and their bytes.
SCHEMA = pa.schema(
    [("file", pa.dictionary(pa.int32(), pa.string())), ("line", pa.int64()), ("record", pa.large_binary())]
)

#: Records of a block at most: of lines that are all but empty there would be millions.
MAX_LINES = 1 << 19

_WHITE = b" \t\r\n\x0b\x0c"
_IS_WHITE = np.isin(np.arange(256), list(_WHITE))
_BOM = b"\xef\xbb\xbf"
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_PEEK = 4096
_CHUNK = 1 << 20


class Rejected(Exception):  # noqa: N818 (an outcome like any other)
    """Why a record can't be used; its text is the reason, one of a few, because reasons are counted."""


@dataclass(frozen=True)
class Block:
    """Some records: line numbers (int64, from 1) and bytes (large_binary; lines with their line ends)."""

    line: pa.Array
    record: pa.Array


def table(file: str, block: Block) -> pa.Table:
    """Return some records of a file as raw records are kept, see SCHEMA."""
    name = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(block.line), np.int32)), pa.array([file]))
    return pa.Table.from_arrays([name, block.line, block.record], schema=SCHEMA)


def read(stream: IO[bytes], *, block: int = BLOCK, max_kept: int = MAX_KEPT) -> Iterator[Block]:
    """Yield the records of a stream, in order; blank lines are none."""
    first, stream = peek_text(stream)
    if are_lines(first):
        yield from _lines(first, stream, block, max_kept, 1)
    else:
        yield from _response(first, stream, block, max_kept)


def lines(stream: IO[bytes], number: int, *, block: int = BLOCK, max_kept: int = MAX_KEPT) -> Iterator[Block]:
    """Yield the records of lines in UTF-8, in order; number: the first line's."""
    yield from _lines(peek(stream), stream, block, max_kept, number)


def are_lines(first: bytes) -> bool:
    """Return whether a file that begins so is of lines, in UTF-8 or what is taken for that."""
    return not is_utf16(first) and not responses.begins(first.removeprefix(_BOM).decode("latin-1"))


def is_utf16(first: bytes) -> bool:
    """Return whether a file begins as text in UTF-16 does."""
    return first[:2] in _UTF16


def peek_text(stream: IO[bytes]) -> tuple[bytes, IO[bytes]]:
    """Return the first bytes of a stream and the stream after them, in UTF-8 where the stream is text in UTF-16."""
    first = peek(stream)
    if encoding := _UTF16.get(first[:2]):
        stream = cast("IO[bytes]", io.BufferedReader(_AsUtf8(stream, first[2:], encoding), _PEEK))
        first = peek(stream)
    return first, stream


def peek(stream: IO[bytes]) -> bytes:
    """Return the first bytes of a stream, which tell what it holds."""
    first = b""
    while len(first) < _PEEK and (more := stream.read(_PEEK - len(first))):
        first += more
    return first


class _AsUtf8(io.RawIOBase):
    """A stream of UTF-16 as one of UTF-8; what is no text, such as a lone surrogate, is no text in UTF-8 either."""

    def __init__(self, stream: IO[bytes], first: bytes, encoding: str) -> None:
        self._stream, self._ready, self._ended = stream, b"", False
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
        self._ready = self._encoded(first)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._ready and not self._ended:
            data = self._stream.read(_CHUNK)
            self._ended = not data
            self._ready = self._encoded(data)
        length = min(len(buffer), len(self._ready))
        buffer[:length], self._ready = self._ready[:length], self._ready[length:]
        return length

    def _encoded(self, data: bytes) -> bytes:
        try:
            text = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError:  # the stream ends within a character
            return b"\xff"
        return text.encode("utf-8", "surrogatepass")


def _lines(first: bytes, stream: IO[bytes], block: int, max_kept: int, number: int) -> Iterator[Block]:
    carry, ended = first, False
    if number == 1 and carry.startswith(_BOM) and not carry.removeprefix(_BOM).partition(b"\n")[0].strip(_WHITE):
        carry = carry.removeprefix(_BOM)  # its line is blank
    while not ended:
        data = stream.read(block)
        ended = not data
        carry += data
        cut = len(carry) if ended else carry.rfind(b"\n") + 1
        if cut:
            for piece in _pieces(carry[:cut]):
                lines = _shortened(_split(piece), max_kept)
                yield _nonblank(np.arange(number, number + len(lines)), lines)
                number += len(lines)
            carry = carry[cut:]
        elif len(carry) > max_kept:
            carry = carry[: max_kept + 1] + _skip_line(stream, block)


def _skip_line(stream: IO[bytes], block: int) -> bytes:
    """Pass over the rest of a line; return what was read of the next ones, beginning with the line's end."""
    while data := stream.read(block):
        if (end := data.find(b"\n")) >= 0:
            return data[end:]
    return b""


def _pieces(lines: bytes) -> Iterator[bytes]:
    """Yield lines, in pieces of no more than MAX_LINES."""
    if lines.count(b"\n") <= MAX_LINES:
        yield lines
        return
    half = len(lines) // 2
    cut = (lines.find(b"\n", half, -1) if b"\n" in lines[half:-1] else lines.rfind(b"\n", 0, half)) + 1
    yield from _pieces(lines[:cut])
    yield from _pieces(lines[cut:])


def _split(block: bytes) -> pa.Array:
    """Return the lines of a block as a large_binary array on the block's own bytes, without a copy."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + 1
    if not len(ends) or ends[-1] != len(block):
        ends = np.append(ends, len(block))
    offsets = np.concatenate([[0], ends]).astype(np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(block)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(ends), buffers)


def _shortened(lines: pa.Array, max_kept: int) -> pa.Array:
    """Return the lines with no more than so many bytes before their ends."""
    if (pc.max(pc.binary_length(lines)).as_py() or 0) <= max_kept:
        return lines
    whole = ((line, line.removesuffix(b"\n")) for line in lines.to_pylist())
    return pa.array([text[:max_kept] + line[len(text) :] for line, text in whole], pa.large_binary())


def _nonblank(numbers: NDArray[np.int64], lines: pa.Array) -> Block:
    data = np.frombuffer(lines.buffers()[2], np.uint8)
    starts = np.frombuffer(lines.buffers()[1], np.int64)[: len(lines)]
    line = pa.array(numbers, pa.int64())
    if not _IS_WHITE[data[starts]].any():
        return Block(line, lines)
    keep = pa.array(np.logical_or.reduceat(~_IS_WHITE[data], starts))
    return Block(pc.filter(line, keep), pc.filter(lines, keep))


def _response(first: bytes, stream: IO[bytes], block: int, max_kept: int) -> Iterator[Block]:
    """Yield the statuses of API responses, each as its own text; what can't be read on from is one last record."""
    number, size = 1, 0
    held: list[bytes] = []
    for record in responses.Responses(first.removeprefix(_BOM), stream, max_kept).records():
        held.append(record.encode("utf-8", "surrogateescape"))
        size += len(held[-1])
        if size >= block or len(held) >= MAX_LINES:
            yield _block(number, held)
            number, size, held = number + len(held), 0, []
    yield _block(number, held)


def _block(number: int, records: list[bytes]) -> Block:
    return Block(pa.array(range(number, number + len(records)), pa.int64()), pa.array(records, pa.large_binary()))

"""A stream of bytes → raw records, kept as they came, each with its place: JSON lines or a Twitter API v1.1 response."""

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
_RESPONSE = re.compile(rb"\s*(?:\[|\{\s*\"(?:statuses|search_metadata)\"\s*:)")


@dataclass(frozen=True)
class Block:
    """Some records: line numbers (int64, from 1) and bytes (large_binary; lines with their line ends)."""

    line: pa.Array
    record: pa.Array


def read(stream: IO[bytes]) -> Iterator[Block]:
    """The records of a stream, in order; blank lines are none."""
    first = _fill(stream, 4096)
    if _RESPONSE.match(first.removeprefix(b"\xef\xbb\xbf")):
        yield from _response(first + stream.read())
    else:
        yield from _lines(first, stream)


def _fill(stream: IO[bytes], size: int) -> bytes:
    data = b""
    while len(data) < size and (more := stream.read(size - len(data))):
        data += more
    return data


def _lines(first: bytes, stream: IO[bytes]) -> Iterator[Block]:
    number = 1
    carry, ended = first, False
    while not ended:
        data = stream.read(BLOCK)
        ended = not data
        carry += data
        cut = len(carry) if ended else carry.rfind(b"\n") + 1
        if not cut and len(carry) > MAX_KEPT:
            carry = carry[:MAX_KEPT] + _skip_line(stream)
        elif cut:
            lines = _split(carry[:cut])
            yield _nonblank(np.arange(number, number + len(lines)), lines)
            number += len(lines)
            carry = carry[cut:]


def _skip_line(stream: IO[bytes]) -> bytes:
    """Passes over the rest of a line; what it read of the next ones, beginning with the line's end."""
    while data := stream.read(BLOCK):
        if (end := data.find(b"\n")) >= 0:
            return data[end:]
    return b""


def _split(block: bytes) -> pa.Array:
    """Lines of a block as a large_binary array on the block's own bytes, without a copy."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + 1
    if not len(ends) or ends[-1] != len(block):
        ends = np.append(ends, len(block))
    offsets = np.concatenate([[0], ends]).astype(np.int64)
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(block)])


def _nonblank(numbers: NDArray[np.int64], lines: pa.Array) -> Block:
    data = np.frombuffer(lines.buffers()[2], np.uint8)
    starts = np.frombuffer(lines.buffers()[1], np.int64)[: len(lines)]
    keep = np.ones(len(lines), np.bool_)
    for i in np.flatnonzero(np.isin(data[starts], np.frombuffer(_WHITE, np.uint8))):
        keep[i] = bool(lines[int(i)].as_py().strip(_WHITE))
    line = pa.array(numbers, pa.int64())
    return Block(line, lines) if keep.all() else Block(pc.filter(line, keep), pc.filter(lines, keep))


def _response(data: bytes) -> Iterator[Block]:
    """The statuses of an API response, each as its own text; what can't be read on from is one last record."""
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    records = [part.encode("utf-8", "surrogateescape") for part in _elements(text)]
    yield Block(pa.array(range(1, len(records) + 1), pa.int64()), pa.array(records, pa.large_binary()))


def _elements(text: str) -> Iterator[str]:
    scan = json.JSONDecoder().raw_decode
    at = 0
    try:
        if text.lstrip()[0] == "{":
            at = _after_white(text, 0) + 1
            while True:  # the object's keys, up to the statuses
                name, at = scan(text, _after_white(text, at))
                at = _after_white(text, at) + 1  # the colon
                value = _after_white(text, at)
                if name == "statuses" and text[value] == "[":
                    at = value
                    break
                _, at = scan(text, value)
                at = _after_white(text, at)
                if text[at] == "}":
                    return
                at += 1  # the comma
        at = _after_white(text, at) + 1
        if text[_after_white(text, at)] == "]":
            return
        while True:
            start = _after_white(text, at)
            _, at = scan(text, start)
            # Line ends stand only between the parts of the JSON text, so a space is as good.
            yield text[start:at].replace("\n", " ").replace("\r", " ")
            start = at
            at = _after_white(text, at)
            if text[at] == "]":
                return
            if text[at] != ",":
                break
            at += 1
    except (ValueError, IndexError, RecursionError):
        pass
    if rest := text[at:].strip():
        yield rest


def _after_white(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at

"""Bytes of texts → their words, and how often each comes.

Bytes are cut into tokens where an ASCII character stands that is part of no word; numpy and Arrow do that for many
tokens at once. A token of ASCII is a word. Any other token may hold several, or bytes that are no UTF-8, and is looked
at once, however often it comes.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.beam import add_up
from millrace.beam.files import worker_threads
from millrace.beam.threads import ahead

WORD = re.compile(r"[\w']+")
#: What decoding makes of a byte that is no UTF-8; none of them is part of a word.
_INVALID = re.compile("[\udc80-\udcff]")
#: For bytes.translate: a space for each ASCII character that is part of no word.
_TOKENS = bytes(byte if byte > 127 or WORD.match(chr(byte)) else ord(" ") for byte in range(256))
#: Bytes that are counted at a time; more take more memory for each processor, and are not faster.
_COUNTED = 4 << 20

#: A key and how often it comes.
COUNTS = pa.schema([("key", pa.string()), ("count", pa.int64())])


def count_words(pieces: Iterable[bytes], threads: int | None = None) -> tuple[pa.Table, int]:
    """Return how often each word comes, as written, and how many bytes are no UTF-8; such a byte ends a word.

    pieces: of texts, which cut no word.
    """
    invalid = 0

    def parts() -> Iterator[pa.Table]:
        nonlocal invalid
        yield COUNTS.empty_table()
        for counted, wrong in ahead(_count, _several(pieces), threads or worker_threads()):
            invalid += wrong
            yield counted

    return add_up(parts(), add), invalid


def add(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the sum of several counts, in no order."""
    summed = pa.concat_tables(tables).group_by("key", use_threads=False).aggregate([("count", "sum")])
    return pa.Table.from_arrays([summed["key"], summed["count_sum"]], schema=COUNTS)


def summed(keys: pa.Array | pa.ChunkedArray, counts: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Return counts by key, of which some come more than once."""
    return add([pa.Table.from_arrays([keys, counts], schema=COUNTS)])


def _several(pieces: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield neighbours together, because counting a few costs as much as counting one."""
    held, size = list[bytes](), 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _COUNTED:
            yield held
            held, size = [], 0
    if held:
        yield held


def _count(pieces: list[bytes]) -> tuple[pa.Table, int]:
    """Return how often each word comes, and how many bytes are no UTF-8."""
    found = pa.chunked_array([_tokens(piece) for piece in pieces], pa.binary()).value_counts()
    tokens, counts = found.field("values"), found.field("counts")
    ascii_only = pc.string_is_ascii(tokens.view(pa.string()))
    words = pc.ascii_rtrim(tokens.filter(ascii_only).cast(pa.string()), " ")
    further, invalid = _words_of(tokens.filter(pc.invert(ascii_only)), counts.filter(pc.invert(ascii_only)))
    return add([summed(words, counts.filter(ascii_only)), further]), invalid


def _tokens(piece: bytes) -> pa.BinaryArray:
    """Return a piece's tokens, each with the spaces after it, so that Arrow takes the bytes as they lie there."""
    spaced = b" " + piece.translate(_TOKENS)
    is_token = np.frombuffer(spaced, np.uint8) != ord(" ")
    starts = np.flatnonzero(is_token[1:] > is_token[:-1]) + 1
    offsets = np.append(starts, len(spaced)).astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(starts), [None, pa.py_buffer(offsets), pa.py_buffer(spaced)])


def _words_of(tokens: pa.Array, counts: pa.Array) -> tuple[pa.Table, int]:
    """Return the words in tokens that are not ASCII, and how many bytes are no UTF-8."""
    counted, invalid = Counter[str](), 0
    for token, count in zip(tokens.to_pylist(), counts.to_pylist(), strict=True):
        try:
            text = token.decode()
        except UnicodeDecodeError:
            text, wrong = _INVALID.subn(" ", token.decode(errors="surrogateescape"))
            invalid += wrong * count
        for word in WORD.findall(text):
            counted[word] += count
    keys = pa.array(counted.keys(), pa.string())
    return pa.Table.from_arrays([keys, pa.array(counted.values(), pa.int64())], schema=COUNTS), invalid

"""Bytes of a text → its words, and how often each comes."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import pyarrow as pa

WORD = re.compile(r"[\w']+")
#: What decoding makes of a byte that is no UTF-8; none of them is part of a word.
_INVALID = re.compile("[\udc80-\udcff]")

#: A key and how often it comes.
COUNTS = pa.schema([("key", pa.string()), ("count", pa.int64())])


def text_of(data: bytes) -> tuple[str, int]:
    """Return a text, and how many of its bytes are no UTF-8; such a byte ends a word, as a space does."""
    try:
        return data.decode(), 0
    except UnicodeDecodeError:
        return _INVALID.subn(" ", data.decode(errors="surrogateescape"))


def count_words(pieces: Iterable[bytes]) -> tuple[Counter[str], int]:
    """Return how often each word comes, as written, and how many bytes are no UTF-8."""
    counted, invalid = Counter[str](), 0
    for piece in pieces:
        text, wrong = text_of(piece)
        counted.update(WORD.findall(text))
        invalid += wrong
    return counted, invalid


def to_table(counted: Counter[str]) -> pa.Table:
    """Return counts as a table, in no order."""
    return pa.Table.from_arrays([pa.array(counted.keys(), pa.string()), pa.array(counted.values())], schema=COUNTS)


def add(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the sum of several counts, in the order of their keys."""
    summed = pa.concat_tables(tables).group_by("key", use_threads=False).aggregate([("count", "sum")]).sort_by("key")
    return pa.Table.from_arrays([summed["key"], summed["count_sum"]], schema=COUNTS)

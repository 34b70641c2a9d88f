"""Records → posts by the column: what parse.parse says of each, at a fraction of the time.

Records of the ordinary shape are decoded and checked a column at a time; every other one goes through parse.parse,
which alone decides what a post is.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.posts import parse


@dataclass(frozen=True)
class Parsed:
    """What a block of records holds.

    posts: COLUMNS, created_at in µs since 1970. rows: the record each came from, ascending. rejects: (row, reason).
    """

    posts: pa.Table
    rows: NDArray[np.int64]
    rejects: list[tuple[int, str]]


#: The columns of posts, as parse.Post has them.
COLUMNS = pa.schema(
    [
        ("id", pa.string()),
        ("created_at", pa.int64()),
        ("user", pa.string()),
        ("text", pa.string()),
        ("urls", pa.list_(pa.string())),
        ("lang", pa.string()),
    ]
)
#: Times that Arrow reads as parse.microseconds does, and none that are impossible.
_PLAIN_TIME = (
    r"^[1-9]\d{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))"
    r"T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?Z$"
)


def parse_block(record: pa.ChunkedArray) -> Parsed:
    """Records (binary) → posts, as parse.parse has them. What is of the ordinary shape goes by the column."""
    gc_was_on = gc.isenabled()
    gc.disable()  # nothing here makes cycles, and looking for them would take longer than all else
    try:
        return _parse(record)
    finally:
        if gc_was_on:
            gc.enable()


def _parse(record: pa.ChunkedArray) -> Parsed:
    records, read = _texts(record)
    ordinary = _decoded(records)
    ids = [post.id if post.tid is None else post.tid for post in ordinary]
    text = pa.array([post.text for post in ordinary], pa.string())
    time = pa.array(_only(str, [post.created_at for post in ordinary]), pa.string())
    has_text = pc.and_not(pc.greater(pc.utf8_length(text), 0), pc.utf8_is_space(text))
    plain = pc.and_(pc.match_substring_regex(time, _PLAIN_TIME), has_text).fill_null(False)
    mask = plain.to_numpy(zero_copy_only=False).copy()
    mask &= _each(lambda value: type(value) is int, ids)
    mask &= _each(lambda value: value is None, [post.entities for post in ordinary])
    mask &= _each(lambda value: value is not None, [post.urls for post in ordinary])

    rows = np.flatnonzero(mask)
    if len(rows) < len(records):
        ordinary, ids = [ordinary[row] for row in rows], [ids[row] for row in rows]
        text, time = text.filter(pa.array(mask)), time.filter(pa.array(mask))
    columns = [
        pa.array(list(map(str, ids)), pa.string()),
        time.cast(pa.timestamp("us", "UTC")).cast(pa.int64()),
        pa.array([post.user for post in ordinary], pa.string()),
        text,
        pa.array([post.urls for post in ordinary], pa.list_(pa.string())),
        pa.array([post.lang for post in ordinary], pa.string()),
    ]
    table = pa.Table.from_arrays(columns, schema=COLUMNS)
    if len(rows) == len(records):
        return Parsed(table, rows, [])

    posts: list[parse.Post] = []
    more: list[int] = []
    rejects: list[tuple[int, str]] = []
    for row in np.flatnonzero(~mask).tolist():
        try:
            posts.append(read(row))
            more.append(row)
        except parse.Rejected as rejected:
            rejects.append((row, str(rejected)))
    fields = zip(*posts, strict=True) if posts else [()] * len(COLUMNS)
    rest = [pa.array(values, field.type) for values, field in zip(fields, COLUMNS, strict=True)]
    table = pa.concat_tables([table, pa.Table.from_arrays(rest, schema=COLUMNS)])
    rows = np.concatenate([rows, np.array(more, np.int64)])
    order = np.argsort(rows)
    return Parsed(table.take(pa.array(order)), rows[order], rejects)


def _decoded(records: list[Any]) -> list[parse.Ordinary]:
    """Each record's fields; none of them for a record that is not of the ordinary shape."""
    decoded: list[parse.Ordinary] = []
    rest = iter(records)
    while len(decoded) < len(records):
        try:
            decoded.extend(map(parse.decode_ordinary, rest))
        except (ValueError, RecursionError):  # what came before stays
            decoded.append(parse.Ordinary())
    return decoded


def _only(kind: type, values: list[Any]) -> list[Any]:
    """The values, with None in place of those of another type."""
    return values if set(map(type, values)) == {kind} else [v if type(v) is kind else None for v in values]


def _each(test: Callable[[Any], bool], values: list[Any]) -> Any:
    """A mask of the values that pass; quick where all are of one type that does."""
    if len(set(map(type, values))) == 1 and test(values[0]):
        return np.True_
    return np.fromiter(map(test, values), np.bool_, len(values))


def _texts(record: pa.ChunkedArray) -> tuple[list[str], Callable[[int], parse.Post]]:
    """The records as text, "" for what is too long or not UTF-8; and what reads one row as parse.parse does."""
    longest = pc.max(pc.binary_length(record)).as_py() or 0
    if longest <= parse.MAX_RECORD:
        try:
            texts = record.cast(pa.large_string()).to_pylist()
            return texts, lambda row: parse.parse_text(texts[row])
        except pa.ArrowInvalid:
            pass
    records = record.to_pylist()
    return [_text(record) for record in records], lambda row: parse.parse(records[row])


def _text(record: bytes) -> str:
    try:
        return parse.decoded(record)
    except parse.Rejected:
        return ""

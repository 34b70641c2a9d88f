"""Records → posts by the column: what parse.parse says of each, at a fraction of the time.

Records of the ordinary shape are decoded and checked a column at a time; every other record goes through parse.parse,
which alone decides what a post is.
"""

import contextlib
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.posts import links, parse


@dataclass(frozen=True)
class Parsed:
    """What a block of records holds.

    posts: COLUMNS, created_at in µs since 1970. rows: the record each came from, ascending. rejects: (row, reason).
    notices: records that are notices of the streaming API.
    """

    posts: pa.Table
    rows: NDArray[np.int64]
    rejects: list[tuple[int, str]]
    notices: int = 0


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


#: A URL of more bytes than these is more than a scheme.
_LONGEST_STUMP = 16

#: Records in hand at a time, so few that their Python objects stay in the processor's cache.
_STEP = 8192


def parse_block(record: pa.ChunkedArray) -> Parsed:
    """Return the posts of a block of records (binary), as parse.parse has them."""
    with _no_collector():
        parts = [(at, _parse(record.slice(at, _STEP))) for at in range(0, len(record), _STEP)]
    return Parsed(
        pa.concat_tables([part.posts for _, part in parts] or [COLUMNS.empty_table()]).combine_chunks(),
        np.concatenate([part.rows + at for at, part in parts] or [np.empty(0, np.int64)]),
        [(row + at, reason) for at, part in parts for row, reason in part.rejects],
        sum(part.notices for _, part in parts),
    )


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """Stop the garbage collector: nothing here makes cycles, and looking for them would take a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _parse(record: pa.ChunkedArray) -> Parsed:
    records: list[bytes] = record.to_pylist()
    ordinary = _decoded(_readable(record, records))
    ids = [post.id if post.tid is None else post.tid for post in ordinary]
    text = pa.array([post.text for post in ordinary], pa.string())
    time = pa.array(_only(str, [post.created_at for post in ordinary]), pa.string())
    urls = _urls(ordinary)
    plain = pc.and_not(pc.match_substring_regex(time, _PLAIN_TIME), pc.starts_with(text, "<")).fill_null(False)
    mask = plain.to_numpy(zero_copy_only=False).copy()
    mask &= _each(lambda value: type(value) is int, ids)
    mask &= np.array([post.id_str is None and parse.is_ordinary(post) for post in ordinary], np.bool_)
    mask &= urls.is_valid().to_numpy(zero_copy_only=False)

    rows = np.flatnonzero(mask)
    if len(rows) < len(records):
        ordinary, ids = [ordinary[row] for row in rows], [ids[row] for row in rows]
        text, time, urls = (column.filter(pa.array(mask)) for column in (text, time, urls))
    columns = [
        pa.array(list(map(str, ids)), pa.string()),
        time.cast(pa.timestamp("us", "UTC")).cast(pa.int64()),
        pa.array([post.user for post in ordinary], pa.string()),
        text,
        urls,
        pa.array([post.lang for post in ordinary], pa.string()),
    ]
    table = pa.Table.from_arrays(columns, schema=COLUMNS)
    if len(rows) == len(records):
        return Parsed(table, rows, [])

    posts: list[parse.Post] = []
    more: list[int] = []
    rejects: list[tuple[int, str]] = []
    notices = 0
    for row in np.flatnonzero(~mask).tolist():
        try:
            posts.append(parse.parse(records[row]))
            more.append(row)
        except parse.Rejected as rejected:
            if str(rejected) == parse.NOTICE:
                notices += 1
            else:
                rejects.append((row, str(rejected)))
    fields = zip(*posts, strict=True) if posts else [()] * len(COLUMNS)
    rest = [pa.array(values, field.type) for values, field in zip(fields, COLUMNS, strict=True)]
    table = pa.concat_tables([table, pa.Table.from_arrays(rest, schema=COLUMNS)])
    rows = np.concatenate([rows, np.array(more, np.int64)])
    order = np.argsort(rows)
    return Parsed(table.take(pa.array(order)), rows[order], rejects, notices)


def _urls(posts: list[parse.Ordinary]) -> pa.Array:
    """Return the posts' lists of URLs, without what is no link, and no longer than they may be."""
    urls = pa.array([post.urls for post in posts], pa.list_(pa.string()))
    flat = pc.list_flatten(urls)
    doubtful = pc.or_(pc.less_equal(pc.binary_length(flat), _LONGEST_STUMP), pc.match_substring(flat, "…"))
    rows = pc.list_parent_indices(urls).filter(doubtful).to_numpy()
    many = np.flatnonzero(pc.greater(pc.list_value_length(urls), links.MAX_LINKS).fill_null(False))
    if not len(rows) and not len(many):
        return urls
    for row in {*rows.tolist(), *many.tolist()}:
        post = posts[row]
        post.urls = [url for url in post.urls or () if links.is_link(url)][: links.MAX_LINKS]
    return pa.array([post.urls for post in posts], pa.list_(pa.string()))


def _decoded(records: list[bytes]) -> list[parse.Ordinary]:
    """Return each record's fields; no field is set for a record that is not of the ordinary shape."""
    decoded: list[parse.Ordinary] = []
    rest = iter(records)
    while len(decoded) < len(records):
        try:
            decoded.extend(map(parse.decode_ordinary, rest))
        except (ValueError, RecursionError):  # what was decoded before stays
            decoded.append(parse.Ordinary())
    return decoded


def _only(kind: type, values: list[Any]) -> list[Any]:
    """Return the values, with None in place of those of another type."""
    return values if set(map(type, values)) == {kind} else [v if type(v) is kind else None for v in values]


def _each(test: Callable[[Any], bool], values: list[Any]) -> Any:
    """Return a mask of the values that pass a test; quick where all are of one type that passes."""
    if len(set(map(type, values))) == 1 and test(values[0]):
        return np.True_
    return np.fromiter(map(test, values), np.bool_, len(values))


def _readable(record: pa.ChunkedArray, records: list[bytes]) -> list[bytes]:
    """Return the records, with nothing in place of those that are too long or not UTF-8, whatever is in them."""
    if (pc.max(pc.binary_length(record)).as_py() or 0) <= parse.MAX_RECORD:
        try:
            record.cast(pa.large_string())
            return records
        except pa.ArrowInvalid:
            pass
    return [each if _is_readable(each) else b"" for each in records]


def _is_readable(record: bytes) -> bool:
    try:
        parse.decoded(record)
    except parse.Rejected:
        return False
    return True

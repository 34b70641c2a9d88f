"""Records → posts by the column: what parse.parse says of each, at a fraction of the time.

Records of one shape are read together, without parsing. Of the others those with ordinary fields are decoded one by one
and checked a column at a time. What is left goes through parse.parse, which alone decides what a post is.
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

from pipelines.posts import links, parse, shapes


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


#: Sizes of times that are usual, all of one size: to the second and to the millisecond, with a Z.
_USUAL_TIMES = pa.array([20, 24], pa.int32())
#: What is plain at first sight: ids that are numbers or strings; seconds and milliseconds since 1970; links, which are
#: longer than a scheme, without white space or an ellipsis.
_PLAIN_NUMBER, _PLAIN_ID = r"^(?:0|[1-9]\d{0,17})$", r"^[!-~]+$"
_PLAIN_EPOCH, _PLAIN_LINK = r"^[1-9]\d{8,12}$", r"^[!-~]{9,}$"

#: Bytes of records in hand at a time.
_PIECE = 32 << 20
#: Records of other shapes in hand at a time, so few that their Python objects stay in the processor's cache.
_STEP = 8192


def parse_block(record: pa.ChunkedArray) -> Parsed:
    """Return the posts of a block of records (binary), as parse.parse has them."""
    parts: list[Parsed] = []
    row = 0
    with _no_collector():
        for records in record.cast(pa.large_binary()).chunks:
            for piece in shapes.pieces(records, _PIECE):
                parts.append(_moved(_parse(piece), np.arange(row, row + len(piece))))
                row += len(piece)
        return _joined(parts)


def _moved(part: Parsed, rows: NDArray[np.int64]) -> Parsed:
    """Return what was parsed of records that are these rows of a block."""
    rejects = [(int(rows[row]), reason) for row, reason in part.rejects]
    return Parsed(part.posts, rows[part.rows], rejects, part.notices)


def _joined(parts: list[Parsed]) -> Parsed:
    posts = pa.concat_tables([part.posts for part in parts] or [COLUMNS.empty_table()])
    rows = np.concatenate([part.rows for part in parts] or [np.empty(0, np.int64)])
    if not (rows[1:] > rows[:-1]).all():
        order = np.argsort(rows)
        posts, rows = posts.combine_chunks().take(pa.array(order)), rows[order]
    rejects = [reject for part in parts for reject in part.rejects]
    return Parsed(posts, rows, rejects, sum(part.notices for part in parts))


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


def _parse(records: pa.Array) -> Parsed:
    parts = [_of_shape(found) for found in shapes.read(records, _is_of_posts)]
    unread = np.ones(len(records), np.bool_)
    for part in parts:
        unread[part.rows] = False
    rows = np.flatnonzero(unread)
    rest = records.take(pa.array(rows)) if parts else records
    parts += [_moved(_decoded(rest.slice(at, _STEP)), rows[at:]) for at in range(0, len(rows), _STEP)]
    return _joined(parts)


# ------------------------------------------------------------------------------------------------ records of one shape

_IDS, _TEXTS = ("tid", "id_str", "id"), ("text", "full_text")
#: Fields by which a record is no ordinary post, see parse.is_ordinary.
_STRANGE = frozenset(["entities", "extended_tweet", "quoted_status_permalink", "retweeted_status", "truncated"])


def _is_of_posts(shape: shapes.Shape) -> bool:
    """Return whether records of a shape can be ordinary posts."""
    text = _place(shape, *_TEXTS)
    needed = (_place(shape, *_IDS), text, _place(shape, "created_at"))
    return None not in needed and _is_string(shape, text) and _STRANGE.isdisjoint(shape.fields)


def _place(shape: shapes.Shape, *fields: str) -> int | None:
    """Return the place of the first of the fields that the shape has; None where that is a list."""
    place = next((shape.fields[field] for field in fields if field in shape.fields), None)
    return place if isinstance(place, int) else None


def _is_string(shape: shapes.Shape, place: int | None) -> bool:
    return place is not None and shape.strings[place]


def _of_shape(found: shapes.Found) -> Parsed:
    """Return the posts of those records of a shape whose values are plain to see.

    Where the first of several fields is null the next one counts, so that such a record is not plain.
    """
    shape, values = found.shape, found.values
    id_, text, time = (_place(shape, *fields) or 0 for fields in (_IDS, _TEXTS, ("created_at",)))
    moments, plain = _moments(values[time], shape.strings[time])
    plain &= _matches(values[id_], _PLAIN_ID) if shape.strings[id_] else _are_plain_numbers(values[id_])
    plain &= ~_mask(pc.starts_with(values[text], "<"))
    user, lang = (
        values[place] if place is not None and shape.strings[place] else pa.nulls(len(plain), pa.string())
        for place in (_place(shape, "user"), _place(shape, "lang"))
    )
    listed = shape.fields.get("urls")
    if not isinstance(listed, tuple):
        urls = _urls_in(values[text])
    elif listed:
        urls = _listed_urls([values[place] for place in listed])
    else:
        urls = _lists(np.zeros(len(plain), np.int32), pa.array([], pa.string()))
    columns = [values[id_], pa.array(moments), user, values[text], urls, lang]
    posts = pa.Table.from_arrays(columns, schema=COLUMNS)
    return (
        Parsed(posts, found.rows, []) if plain.all() else Parsed(posts.filter(pa.array(plain)), found.rows[plain], [])
    )


def _mask(values: pa.Array) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = values.to_numpy(zero_copy_only=False)
    return mask


def _matches(values: pa.Array, pattern: str) -> NDArray[np.bool_]:
    return _mask(pc.match_substring_regex(values, pattern)).copy()


def _are_plain_numbers(values: pa.Array) -> NDArray[np.bool_]:
    """Return which scalars are integers as Python writes them; quick where all are."""
    try:
        values.cast(pa.int64())
    except pa.ArrowInvalid:
        return _matches(values, _PLAIN_NUMBER)
    return ~_mask(pc.starts_with(values, "-"))


def _moments(values: pa.Array, strings: bool) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return what parse.microseconds returns for values of created_at, and for which of them it does."""
    if (moments := _usual_moments(values)) is not None:
        return moments, np.ones(len(values), np.bool_)
    good = _matches(values, _PLAIN_TIME)
    moments = np.zeros(len(values), np.int64)
    moments[good] = _micros(values.filter(pa.array(good)))
    epoch = _matches(values, _PLAIN_EPOCH)
    number = values.filter(pa.array(epoch)).cast(pa.int64()).to_numpy()
    moments[epoch] = number * np.where(number < 10**11, 1_000_000, 1_000)
    good |= epoch
    if strings:
        for row in np.flatnonzero(~good).tolist():
            with contextlib.suppress(parse.Rejected):
                moments[row] = parse.microseconds(values[row].as_py())
                good[row] = True
    return moments, good


def _usual_moments(values: pa.Array) -> NDArray[np.int64] | None:
    """Return the times where all are as 2026-11-19T09:30:00Z or with three more digits, and None where any is not.

    Arrow itself refuses what is no time; only a year before the first one would pass.
    """
    usual = pc.and_(pc.is_in(pc.binary_length(values), _USUAL_TIMES), pc.ends_with(values, "Z"))
    if not pc.all(usual).as_py():
        return None
    try:
        moments = _micros(values)
    except pa.ArrowInvalid:
        return None
    return moments if moments.min() >= parse.FIRST else None


def _micros(times: pa.Array) -> NDArray[np.int64]:
    moments: NDArray[np.int64] = times.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    return moments


def _listed_urls(values: list[pa.Array]) -> pa.Array:
    """Return lists of the URLs that are links: of each record the first, the second and so on."""
    many = len(values)
    flat = pa.concat_arrays(values)
    if many > 1:
        flat = flat.take(pa.array(np.arange(len(flat)).reshape(many, -1).T.ravel()))
    keep = _matches(flat, _PLAIN_LINK)
    if not keep.all():
        for at in np.flatnonzero(~keep).tolist():
            keep[at] = links.is_link(flat[at].as_py())
        flat = flat.filter(pa.array(keep))
    return _lists(keep.reshape(-1, many).sum(axis=1), flat)


def _urls_in(texts: pa.Array) -> pa.Array:
    """Return lists of the links that stand in texts."""
    counts = np.zeros(len(texts), np.int32)
    found: list[str] = []
    for row in np.flatnonzero(_mask(pc.match_substring(texts, "://"))).tolist():
        urls = links.urls(texts[row].as_py())[: links.MAX_LINKS]
        counts[row] = len(urls)
        found += urls
    return _lists(counts, pa.array(found, pa.string()))


def _lists(counts: NDArray[np.integer], values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(np.append(np.int32(0), np.cumsum(counts, dtype=np.int32))), values)


# --------------------------------------------------------------------------------------------- records of other shapes


def _decoded(record: pa.Array) -> Parsed:
    records: list[bytes] = record.to_pylist()
    ordinary = _ordinary(_readable(record, records))
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
    rows = pc.list_parent_indices(urls).to_numpy()[~_matches(flat, _PLAIN_LINK)] if len(flat) else np.empty(0, np.int64)
    many = np.flatnonzero(pc.greater(pc.list_value_length(urls), links.MAX_LINKS).fill_null(False))
    if not len(rows) and not len(many):
        return urls
    for row in {*rows.tolist(), *many.tolist()}:
        post = posts[row]
        post.urls = [url for url in post.urls or () if links.is_link(url)][: links.MAX_LINKS]
    return pa.array([post.urls for post in posts], pa.list_(pa.string()))


def _ordinary(records: list[bytes]) -> list[parse.Ordinary]:
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


def _readable(record: pa.Array, records: list[bytes]) -> list[bytes]:
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

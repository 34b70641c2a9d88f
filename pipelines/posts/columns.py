"""Records → posts by the column: what parse.parse says of each, at a fraction of the time.

Records of one shape are read together, and the posts among them that are plain to see are taken as they stand. Where
most of the others have ordinary fields, they are decoded one by one and checked a column at a time. What is left goes
through parse.parse, which alone decides what a post is.
"""

import contextlib
import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
#: Sizes of the usual times, to the second and to the millisecond, with a Z.
_USUAL_TIMES = pa.array([20, 24], pa.int32())
#: What is plain at first sight: ids that are numbers or strings; seconds and milliseconds since 1970; links, which are
#: longer than a scheme, without white space or an ellipsis.
_PLAIN_NUMBER, _PLAIN_ID = r"^(?:0|[1-9]\d{0,17})$", r"^[!-~]+$"
_PLAIN_EPOCH, _PLAIN_LINK = r"^[1-9]\d{8,12}$", r"^[!-~]{9,}$"

#: Bytes of records in hand at a time.
_PIECE = 32 << 20
#: Records that become Python's at a time, so few that they stay in the processor's cache.
_STEP = 8192
#: Records that tell of what kind the others are.
_SAMPLE = 64


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
    parts = [_of_shape(found) for found in shapes.read(records, _plain_places)]
    unread = np.ones(len(records), np.bool_)
    for part in parts:
        unread[part.rows] = False
    rows = np.flatnonzero(unread)
    rest = records.take(pa.array(rows)) if parts else records
    read = _ordinary if _are_ordinary(rest) else _one_by_one
    for at in range(0, len(rows), _STEP):
        parts.append(_moved(read(rest.slice(at, _STEP)), rows[at:]))
    return _joined(parts)


def _one_by_one(records: pa.Array) -> Parsed:
    posts: list[parse.Post] = []
    rows: list[int] = []
    rejects: list[tuple[int, str]] = []
    notices = 0
    for row, record in enumerate(records.to_pylist()):
        try:
            posts.append(parse.parse(record))
            rows.append(row)
        except parse.Rejected as rejected:
            if str(rejected) == parse.NOTICE:
                notices += 1
            else:
                rejects.append((row, str(rejected)))
    fields = zip(*posts, strict=True) if posts else [()] * len(COLUMNS)
    columns = [pa.array(values, field.type) for values, field in zip(fields, COLUMNS, strict=True)]
    return Parsed(pa.Table.from_arrays(columns, schema=COLUMNS), np.array(rows, np.int64), rejects, notices)


# ------------------------------------------------------------------------------------------------ records of one shape


def _plain_places(shape: shapes.Shape) -> set[int]:
    """Return the places of what makes a post; none where no record of the shape is plain."""
    id_, time, text = (_place(shape, names) for names in (parse.IDS, ["created_at"], parse.TEXTS))
    if id_ is None or time is None or shape.string(text) is None or not parse.STRANGE.isdisjoint(shape.fields):
        return set()
    urls = shape.fields.get("urls")
    if isinstance(urls, int) and shape.kinds[urls] is shapes.Kind.SCALARS:
        return set()
    listed = [shape.string(url) for url in urls] if isinstance(urls, list) else []
    if None in listed:
        return set()
    return {place for place in (id_, time, text, *_names(shape), *listed) if place is not None}


def _names(shape: shapes.Shape) -> tuple[int | None, int | None]:
    """Return the places of user and language."""
    user = shape.fields.get("user")
    name = user.get("screen_name") if isinstance(user, dict) else user
    return shape.string(name), shape.string(shape.fields.get("lang"))


def _place(shape: shapes.Shape, names: Sequence[str]) -> int | None:
    """Return the place of the first of some fields that a shape has; None where there is no one value.

    Where the value is null the next field counts: such a record is not plain.
    """
    place = next((shape.fields[name] for name in names if name in shape.fields), None)
    return place if isinstance(place, int) else None


def _of_shape(found: shapes.Found) -> Parsed:
    """Return the posts of those records of a shape whose values are plain."""
    shape, values = found.shape, found.values
    id_, time, text = (_place(shape, names) or 0 for names in (parse.IDS, ["created_at"], parse.TEXTS))
    user, lang = (pa.nulls(len(found.rows), pa.string()) if at is None else values[at] for at in _names(shape))
    moments, plain = _moments(values[time], shape.kinds[time])
    plain &= _are_plain_ids(values[id_], shape.kinds[id_])
    plain &= ~_mask(pc.starts_with(values[text], "<"))
    listed = shape.fields.get("urls")
    if not isinstance(listed, list):
        urls = _links_in(values[text])
    elif listed:
        urls = _links([values[place] for place in listed])
    else:
        urls = _lists(np.zeros(len(found.rows), np.int32), pa.array([], pa.string()))
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


def _are_plain_ids(values: pa.Array, kind: shapes.Kind) -> NDArray[np.bool_]:
    """Return which values are ids as they stand: strings without white space, integers as Python writes them."""
    if kind is shapes.Kind.STRING:
        return _matches(values, _PLAIN_ID)
    try:  # quicker where all are integers
        values.cast(pa.int64())
    except pa.ArrowInvalid:
        return _matches(values, _PLAIN_NUMBER)
    return ~_mask(pc.starts_with(values, "-"))


def _moments(values: pa.Array, kind: shapes.Kind) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return what parse.microseconds returns for values of created_at, and for which of them it does."""
    if (moments := _usual_moments(values)) is not None:
        return moments, np.ones(len(values), np.bool_)
    good = _matches(values, _PLAIN_TIME)
    moments = np.zeros(len(values), np.int64)
    moments[good] = _micros(values.filter(pa.array(good)))
    epoch = _matches(values, _PLAIN_EPOCH)
    number = values.filter(pa.array(epoch)).cast(pa.int64()).to_numpy()
    moments[epoch] = number * np.where(number < parse.SECONDS, 1_000_000, 1_000)
    good |= epoch
    if kind is shapes.Kind.STRING:
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
    return moments if (moments >= parse.FIRST).all() else None


def _micros(times: pa.Array) -> NDArray[np.int64]:
    moments: NDArray[np.int64] = times.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    return moments


def _links(values: list[pa.Array]) -> pa.Array:
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


def _links_in(texts: pa.Array) -> pa.Array:
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


# ------------------------------------------------------------------------------------------- records of ordinary fields


def _are_ordinary(records: pa.Array) -> bool:
    """Return whether most of some records have ordinary fields, by a few of them."""
    some = records.take(pa.array(np.arange(0, len(records), 1 + len(records) // _SAMPLE))).to_pylist()
    return 2 * sum(parse.is_ordinary(post) and post.text is not None for post in _decoded(some)) > len(some)


def _ordinary(records: pa.Array) -> Parsed:
    """Return the posts of records, most of which have ordinary fields."""
    ordinary = _decoded(_readable(records))
    text = pa.array([post.text for post in ordinary], pa.string())
    time = pa.array([post.created_at if type(post.created_at) is str else None for post in ordinary], pa.string())
    urls = pa.array([post.urls for post in ordinary], pa.list_(pa.string()))
    flat = pc.list_flatten(urls)
    links_ = _matches(flat, _PLAIN_LINK) if len(flat) else np.ones(0, np.bool_)

    plain = pc.and_not(pc.match_substring_regex(time, _PLAIN_TIME), pc.starts_with(text, "<")).fill_null(False)
    mask = _mask(plain).copy()
    mask &= [type(post.id if post.tid is None else post.tid) is int for post in ordinary]
    mask &= [post.id_str is None and parse.is_ordinary(post) for post in ordinary]
    mask &= _mask(pc.less_equal(pc.list_value_length(urls), links.MAX_LINKS).fill_null(False))
    mask[pc.list_parent_indices(urls).to_numpy()[~links_]] = False

    rows, others = np.flatnonzero(mask), np.flatnonzero(~mask)
    some = [ordinary[row] for row in rows.tolist()]
    columns = [
        pa.array([str(post.id if post.tid is None else post.tid) for post in some], pa.string()),
        pa.array(_micros(time.filter(pa.array(mask)))),
        pa.array([post.user for post in some], pa.string()),
        text.filter(pa.array(mask)),
        urls.filter(pa.array(mask)),
        pa.array([post.lang for post in some], pa.string()),
    ]
    part = Parsed(pa.Table.from_arrays(columns, schema=COLUMNS), rows, [])
    return _joined([part, _moved(_one_by_one(records.take(pa.array(others))), others)])


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


def _readable(records: pa.Array) -> list[bytes]:
    """Return the records, with nothing in place of those that are too long or not UTF-8, whatever is in them."""
    if (pc.max(pc.binary_length(records)).as_py() or 0) <= parse.MAX_RECORD:
        with contextlib.suppress(pa.ArrowInvalid):
            records.cast(pa.large_string())
            return list(records.to_pylist())
    return [record if _is_readable(record) else b"" for record in records.to_pylist()]


def _is_readable(record: bytes) -> bool:
    try:
        parse.decoded(record)
    except parse.Rejected:
        return False
    return True

"""Records → posts by the column: what parse.parse says of each, at a fraction of the time.

Records of one shape are read together, and the posts among them that are plain to see are taken as they stand. Every
other record goes through parse.parse, which alone decides what a post is.
"""

import contextlib
import gc
import itertools
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


#: Sizes of times that are usual, all of one size: to the second and to the millisecond, with a Z.
_USUAL_TIMES = pa.array([20, 24], pa.int32())
#: What is plain at first sight: ids that are numbers or strings; seconds and milliseconds since 1970; links, which are
#: longer than a scheme, without white space or an ellipsis.
_PLAIN_NUMBER, _PLAIN_ID = r"^(?:0|[1-9]\d{0,17})$", r"^[!-~]+$"
_PLAIN_EPOCH, _PLAIN_LINK = r"^[1-9]\d{8,12}$", r"^[!-~]{9,}$"

#: Bytes of records in hand at a time.
_PIECE = 32 << 20
#: Records that become Python's at a time, so few that they stay in the processor's cache.
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
    if len(rows):
        parts.append(_moved(_one_by_one(records.take(pa.array(rows)) if parts else records), rows))
    return _joined(parts)


def _one_by_one(records: pa.Array) -> Parsed:
    posts: list[parse.Post] = []
    rows: list[int] = []
    rejects: list[tuple[int, str]] = []
    notices = 0
    steps = (records.slice(at, _STEP).to_pylist() for at in range(0, len(records), _STEP))
    for row, record in enumerate(itertools.chain.from_iterable(steps)):
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


def _is_of_posts(shape: shapes.Shape) -> bool:
    """Return whether records of a shape can be posts that are plain to see."""
    urls = shape.fields.get("urls")
    return (
        parse.STRANGE.isdisjoint(shape.fields)
        and None not in (_place(shape, parse.IDS), _place(shape, ["created_at"]))
        and shape.string(_place(shape, parse.TEXTS)) is not None
        and shapes.Kind.SCALARS is not (shape.kinds[urls] if isinstance(urls, int) else None)
        and (not isinstance(urls, list) or all(shape.string(url) is not None for url in urls))
    )


def _place(shape: shapes.Shape, names: Sequence[str]) -> int | None:
    """Return the place of the first of some fields that a shape has; None where there is no one value.

    Where the value is null the next field counts: such a record is not plain.
    """
    place = next((shape.fields[name] for name in names if name in shape.fields), None)
    return place if isinstance(place, int) else None


def _of_shape(found: shapes.Found) -> Parsed:
    """Return the posts of those records of a shape whose values are plain."""
    shape, fields, values = found.shape, found.shape.fields, found.values
    id_, time, text = (_place(shape, names) or 0 for names in (parse.IDS, ["created_at"], parse.TEXTS))
    user = fields.get("user")
    user, lang = (
        pa.nulls(len(found.rows), pa.string()) if (place := shape.string(name)) is None else values[place]
        for name in (user.get("screen_name") if isinstance(user, dict) else user, fields.get("lang"))
    )
    moments, plain = _moments(values[time], shape.kinds[time])
    plain &= _are_plain_ids(values[id_], shape.kinds[id_])
    plain &= ~_mask(pc.starts_with(values[text], "<"))
    listed = fields.get("urls")
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
    return moments if moments.min() >= parse.FIRST else None


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

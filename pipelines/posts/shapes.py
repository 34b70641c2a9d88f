"""JSON records of one shape, read together by the column.

A shape is what a flat object has beside its values: names, their order, white space. It is learnt from one record.
Another record is of this shape where all that stands between its values is the same, byte by byte, and each value is
JSON of the same kind. Such a record is JSON with these fields and no others, so that nothing has to parse it. A record
of which that can't be said is left to others.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

#: Bytes of records in hand at a time, so few that they and their places stay in the processor's cache.
_STEP = 2 << 20
#: Shapes of a block at most, and records of a step that are looked at to learn some.
_MOST_SHAPES, _ATTEMPTS = 32, 8
#: A shape is worth its while where one record of so many may have it.
_WORTH = 64
#: Records of more bytes or values have no shape: each value is one more pass over the records.
_LONGEST, _MOST_VALUES = 1 << 14, 64
#: Of more bytes at a time nothing is read: their places would take many times as much memory.
_MOST_BYTES = 4 << 20
_WORD = 8

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_NAME = re.compile(rb'([{,]) *"([ !#-\[\]-~]*)" *: *')
_VALUE = re.compile(rb"(%s)|(-?[0-9][0-9.eE+-]*|true|false|null)|\[ *(?:%s(?: *, *%s)*)? *\]" % ((_STRING,) * 3))
_EACH_STRING, _SPACES, _END = re.compile(_STRING), re.compile(rb" *"), re.compile(rb" *\} *")
_SCALAR = r"^(?:true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)$"

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Shape:
    """What stands before, between and after a record's values, and which of the values are strings, not scalars.

    fields: the place of each field's value; where that is a list of strings, their places.
    """

    between: tuple[bytes, ...]
    strings: tuple[bool, ...]
    fields: dict[str, int | tuple[int, ...]]
    marks: int


@dataclass(frozen=True)
class Found:
    """Records of one shape: the row of each, ascending, and their values by place; strings have no escapes left."""

    shape: Shape
    rows: Ints
    values: list[pa.Array]


def learn(record: bytes) -> Shape | None:
    """Return the shape of a record without its line end; None where the record is no flat object."""
    between: list[bytes] = []
    strings: list[bool] = []
    fields: dict[str, int | tuple[int, ...]] = {}
    at, begun, mark = _after(_SPACES, record, 0), 0, b"{"
    while (name := _NAME.match(record, at)) and name[1] == mark and (value := _VALUE.match(record, name.end())):
        field = name[2].decode()
        is_list = value[1] is None and value[2] is None
        spans = [found.span() for found in _EACH_STRING.finditer(value[0])] if is_list else [(0, len(value[0]))]
        if field in fields or max(len(fields), len(strings) + len(spans)) >= _MOST_VALUES:
            return None
        fields[field] = tuple(range(len(strings), len(strings) + len(spans))) if is_list else len(strings)
        for first, last in spans:
            marks = value[2] is None  # a string's quotation marks belong to what stands around the string
            between.append(record[begun : value.start() + first + marks])
            begun = value.start() + last - marks
            strings.append(marks)
        at, mark = _after(_SPACES, record, value.end()), b","
    if not fields or not _END.fullmatch(record, at):
        return None
    between.append(record[begun:])
    return Shape(tuple(between), tuple(strings), fields, sum(part.count(b'"') for part in between))


def _after(pattern: re.Pattern[bytes], record: bytes, at: int) -> int:
    found = pattern.match(record, at)
    return found.end() if found else at


def read(records: pa.Array, wanted: Callable[[Shape], bool]) -> Iterator[Found]:
    """Yield those of the records (large_binary) that are of wanted shapes, a shape at a time."""
    shapes: list[Shape] = []
    fits: list[list[tuple[Ints, Mask, list[pa.Array]]]] = []
    row = 0
    for piece in pieces(records, _STEP):
        if step := _step(piece):
            for number, rows, values in _fitting(step, shapes, wanted):
                fits += [[] for _ in shapes[len(fits) :]]
                fits[number].append((rows + row, step.escaped[rows], values))
        row += len(piece)
    for shape, fit in zip(shapes, fits, strict=False):
        if fit:
            yield _checked(shape, fit)


def pieces(records: pa.Array, size: int) -> Iterator[pa.Array]:
    """Yield records (large_binary) in pieces of no more than so many bytes and one record."""
    if len(records):
        offsets = _offsets(records)
        cuts = np.searchsorted(offsets, np.arange(offsets[0] + size, offsets[-1], size))
        edges = np.unique([0, *cuts, len(records)]).tolist()
        for begin, end in zip(edges[:-1], edges[1:], strict=True):
            yield records.slice(begin, end - begin)


def _offsets(records: pa.Array) -> Ints:
    offsets: Ints = np.frombuffer(records.buffers()[1], np.int64)[records.offset :][: len(records) + 1]
    return offsets


def _fitting(
    step: "_Step", shapes: list[Shape], wanted: Callable[[Shape], bool]
) -> Iterator[tuple[int, Ints, list[pa.Array]]]:
    """Yield the number of a shape, rows of records that are of the shape but for their values, and the values.

    Shapes that are met for the first time are added.
    """
    fewest = 1 + len(step.begin) // _WORTH
    attempts, tried = _ATTEMPTS, 0
    while True:
        for number, shape in enumerate(shapes[tried:], tried):
            rows = np.flatnonzero(step.unread & (step.count == shape.marks))
            if len(rows) >= fewest:
                bounds, rows = _bounds(step, shape, rows)
                step.unread[rows] = False
                if len(rows):
                    yield number, rows, _values(step, bounds)
        tried = len(shapes)
        rows = np.flatnonzero(step.unread)
        if len(rows) < fewest or tried >= _MOST_SHAPES or not attempts:
            return
        alike = rows[step.count[rows] == np.bincount(step.count[rows]).argmax()]
        if len(alike) < fewest:
            return
        attempts -= 1
        row = alike[0]
        learnt = learn(step.bytes[step.begin[row] : step.end[row]].to_pybytes())
        if learnt and learnt not in shapes and wanted(learnt):
            shapes.append(learnt)
        else:
            step.unread[row] = False


@dataclass(frozen=True)
class _Step:
    """Records in hand, as places in their bytes.

    words: the eight bytes from each place on, as a number. marks: the quotation marks but those that are escaped.
    begin, end, first, count: of each record its bounds, its first mark, and how many marks it has. unread: the records
    that may have a shape that was not tried yet. escaped: the records with a backslash.
    """

    bytes: pa.Buffer
    words: NDArray[np.uint64]
    marks: Ints
    begin: Ints
    end: Ints
    first: Ints
    count: Ints
    unread: Mask
    escaped: Mask


def _step(records: pa.Array) -> _Step | None:
    """Return the places in some records; None where these are too few bytes or too many.

    Only text without control characters may have a shape.
    """
    offsets = _offsets(records)
    if not _WORD <= offsets[-1] - offsets[0] <= _MOST_BYTES:
        return None
    buffer = records.buffers()[2].slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    data = np.frombuffer(buffer, np.uint8)
    begin, whole = offsets[:-1] - offsets[0], offsets[1:] - offsets[0]
    end = whole - (data[whole - 1] == ord("\n"))
    end -= data[end - 1] == ord("\r")
    np.maximum(begin, end, out=end)

    unread = (end - begin >= _WORD) & (end - begin <= _LONGEST)
    is_control = data < ord(" ")
    if np.count_nonzero(is_control) > int((whole - end).sum()):
        controls = np.flatnonzero(is_control)
        row = np.searchsorted(begin, controls, "right") - 1
        unread[row[controls < end[row]]] = False
    try:
        records.cast(pa.large_string())
    except pa.ArrowInvalid:
        unread &= [_is_text(record) for record in records.to_pylist()]

    is_mark = data == ord('"')
    backslashes = np.flatnonzero(data == ord("\\"))
    is_mark[_escaped(backslashes, len(data))] = False
    marks = np.flatnonzero(is_mark)
    first = np.searchsorted(marks, begin)
    words = np.ndarray((len(data) - _WORD + 1,), "<u8", buffer, strides=(1,))
    count = np.minimum(np.diff(first, append=len(marks)), 4 * _MOST_VALUES + 1)
    escaped = np.zeros(len(begin), np.bool_)
    escaped[np.searchsorted(begin, backslashes, "right") - 1] = True
    return _Step(buffer, words, marks, begin, end, first, count, unread, escaped)


def _is_text(record: bytes) -> bool:
    try:
        record.decode()
    except UnicodeDecodeError:
        return False
    return True


def _escaped(backslashes: Ints, size: int) -> Ints:
    """Return the places of what is escaped: of what stands behind an odd number of backslashes."""
    last = np.flatnonzero(np.diff(backslashes, append=size + 1) != 1)
    after: Ints = backslashes[last[np.diff(last, prepend=-1) % 2 == 1]] + 1
    return after[after < size]


def _bounds(step: _Step, shape: Shape, rows: Ints) -> tuple[NDArray[np.int32], Ints]:
    """Return what bounds the values of those records that have between them what the shape has, and their rows."""
    first, end = step.first[rows], step.end[rows]
    fits = np.ones(len(rows), np.bool_)
    bounds = np.empty((len(rows), 2 * len(shape.between)), np.int32)
    marks = 0
    for place, part in enumerate(shape.between):
        mark = part.find(b'"')
        if not place:
            at = step.begin[rows]
        else:  # a string ends with a mark; a scalar, too, is found by the mark that follows, or by the end
            at = end - len(part) if mark < 0 else step.marks[first + marks] - mark
            fits &= at >= bounds[:, 2 * place - 1]
        fits &= _stands(step.words, at, part, not place)
        bounds[:, 2 * place] = at
        bounds[:, 2 * place + 1] = at + len(part)
        marks += part.count(b'"')
    fits &= bounds[:, -1] == end
    return (bounds, rows) if fits.all() else (bounds[fits], rows[fits])


def _stands(words: NDArray[np.uint64], at: Ints, part: bytes, begins: bool) -> Mask:
    """Return at which of the places, which ascend, the bytes stand. `begins`: the places are those of whole records."""
    stands = np.ones(len(at), np.bool_)
    for by in [*range(0, len(part) - _WORD, _WORD), len(part) - _WORD]:
        word = np.uint64(int.from_bytes(part[max(0, by) : by + _WORD], "little"))
        rest = np.uint64(8 * max(0, -by))
        if begins and rest:  # a record of a shape has eight bytes, and before the first record there may be none
            stands &= _at(words, at) << rest == word << rest
        else:
            stands &= _at(words, at + by) >> rest == word
    return stands


def _at(words: NDArray[np.uint64], at: Ints) -> NDArray[np.uint64]:
    if at[0] < 0 or at[-1] >= len(words):  # of records that are not of the shape
        at = np.clip(at, 0, len(words) - 1)
    found: NDArray[np.uint64] = words[at]
    return found


def _values(step: _Step, bounds: NDArray[np.int32]) -> list[pa.Array]:
    """Return the values as they stand in the records, by place."""
    rows, width = bounds.shape
    parts = pa.StringArray.from_buffers(bounds.size - 1, pa.py_buffer(bounds), step.bytes)
    first = np.arange(0, rows * width, width)
    return [parts.take(pa.array(first + place)) for place in range(1, width - 1, 2)]


def _checked(shape: Shape, fits: list[tuple[Ints, Mask, list[pa.Array]]]) -> Found:
    """Return the records whose values are JSON."""
    rows = np.concatenate([rows for rows, _, _ in fits])
    escaped = np.flatnonzero(np.concatenate([mask for _, mask, _ in fits]))
    good = np.ones(len(rows), np.bool_)
    values: list[pa.Array] = []
    for place, is_string in enumerate(shape.strings):
        value = pa.concat_arrays([values[place] for _, _, values in fits])
        if not is_string:
            good &= _are_scalars(value)
        elif len(escaped):
            value = _unescaped(value, escaped, good)
        values.append(value)
    if good.all():
        return Found(shape, rows, values)
    return Found(shape, rows[good], [value.filter(pa.array(good)) for value in values])


def _are_scalars(values: pa.Array) -> Mask:
    """Return which of the values are true, false, null or a number; quick where all are digits."""
    offsets = np.frombuffer(values.buffers()[1], np.int32)
    digits = np.frombuffer(values.buffers()[2], np.uint8)[: offsets[-1]] - np.uint8(ord("0"))
    size = np.diff(offsets)
    if digits.max(initial=0) <= 9 and size.min() > 0 and (digits[offsets[:-1]].astype(np.bool_) | (size == 1)).all():
        return np.ones(len(values), np.bool_)
    are: Mask = pc.match_substring_regex(values, _SCALAR).to_numpy(zero_copy_only=False)
    return are


def _unescaped(strings: pa.Array, rows: Ints, good: Mask) -> pa.Array:
    """Return JSON strings, of which some rows may have escapes, as they are meant; what is no JSON is not good."""
    some = strings.take(pa.array(rows))
    escaped = pc.match_substring(some, "\\").to_numpy(zero_copy_only=False)
    if not escaped.any():
        return strings
    rows, some = rows[escaped], some.filter(pa.array(escaped))
    meant: list[str | None]
    try:
        meant = [*_strings(_array(some))]
    except ValueError:
        meant = [_string(each) for each in some.to_pylist()]
        good[rows] &= [each is not None for each in meant]
    mask = np.zeros(len(strings), np.bool_)
    mask[rows] = True
    return pc.replace_with_mask(strings, pa.array(mask), pa.array(meant, pa.string()))


def _array(strings: pa.Array) -> bytes:
    """Return a JSON array of the strings."""
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(strings)], pa.int32()), strings), '","')
    return b'["%s"]' % joined[0].as_buffer().to_pybytes()


_strings = msgspec.json.Decoder(list[str]).decode


def _string(escaped: str) -> str | None:
    try:
        return _strings(f'["{escaped}"]')[0]
    except ValueError:
        return None

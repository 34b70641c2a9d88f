"""JSON records of one shape, read together by the column.

A shape is what an object has beside its values: names, their order, nesting, white space. It is learnt from one record.
Another record is of this shape where all that stands between its values is the same, byte by byte, and each value is
JSON of the same kind. Such a record is JSON with these fields and no others, so that nothing has to parse it. A record
of which that can't be said is left to others.
"""

import enum
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

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
_LONGEST, _MOST_VALUES, _MOST_MARKS = 1 << 14, 64, 256
#: Of more bytes at a time nothing is read: their places would take many times as much memory.
_MOST_BYTES = 4 << 20
_WORD = 8

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_SCALAR = r"(?:true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)"
_SCALARS = rf"\[ *{_SCALAR}(?: *, *{_SCALAR})* *\]"
_TOKEN = re.compile(
    rb"(?P<name>%s) *:|(?P<STRING>%s)|(?P<SCALAR>%s)|(?P<SCALARS>%s)|[{}\[\]]"
    % (_STRING, _STRING, _SCALAR.encode(), _SCALARS.encode())
)

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Kind(enum.Enum):
    """What a value is: a string, a scalar, or a list of scalars without a string, which is taken as one value."""

    STRING = None
    SCALAR = f"^{_SCALAR}$"
    SCALARS = f"^{_SCALARS}$"


@dataclass(frozen=True)
class Shape:
    """What stands before, between and after a record's values, and of which kind each value is.

    fields: the object that the record is, with places of values in the place of the values.
    """

    between: tuple[bytes, ...]
    kinds: tuple[Kind, ...]
    fields: dict[str, Any]
    marks: int

    def string(self, place: object) -> int | None:
        """Return the place if that is one of a string."""
        return place if isinstance(place, int) and self.kinds[place] is Kind.STRING else None


@dataclass(frozen=True)
class Found:
    """Records of one shape: the row of each, ascending, and their values by place; strings have no escapes left."""

    shape: Shape
    rows: Ints
    values: list[pa.Array]


def learn(record: bytes) -> Shape | None:
    """Return the shape of a record without its line end; None for what is no JSON object, or has a name twice."""
    try:
        if not isinstance(msgspec.json.decode(record), dict):
            return None
    except (ValueError, RecursionError):
        return None
    between: list[bytes] = []
    kinds: list[Kind] = []
    top: list[Any] = []
    containers: list[Any] = [top]
    name, begun = "", 0
    for token in _TOKEN.finditer(record):
        what = token.lastgroup
        if what == "name":
            name = token["name"][1:-1].decode()
            continue
        if what is None and token[0] in b"}]":
            containers.pop()
            continue
        value: Any = len(kinds) if what else {} if token[0] == b"{" else []
        if isinstance(containers[-1], list):
            containers[-1].append(value)
        elif name in containers[-1] or "\\" in name:
            return None
        else:
            containers[-1][name] = value
        if what is None:
            containers.append(value)
            continue
        kinds.append(Kind[what])
        is_string = kinds[-1] is Kind.STRING  # its quotation marks belong to what stands around the string
        between.append(record[begun : token.start() + is_string])
        begun = token.end() - is_string
    between.append(record[begun:])
    marks = sum(part.count(b'"') for part in between)
    if len(kinds) > _MOST_VALUES or marks > _MOST_MARKS:
        return None
    return Shape(tuple(between), tuple(kinds), top[0], marks)


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
    count = np.minimum(np.diff(first, append=len(marks)), _MOST_MARKS + 1)
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
        else:  # any value is found by the mark that follows, or by the end
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
    for place, kind in enumerate(shape.kinds):
        value = pa.concat_arrays([values[place] for _, _, values in fits])
        if kind.value and not _are_digits(value):
            good &= pc.match_substring_regex(value, kind.value).to_numpy(zero_copy_only=False)
        elif kind is Kind.STRING and len(escaped):
            value = _unescaped(value, escaped, good)
        values.append(value)
    if good.all():
        return Found(shape, rows, values)
    return Found(shape, rows[good], [value.filter(pa.array(good)) for value in values])


def _are_digits(values: pa.Array) -> bool:
    """Return whether all of some values are JSON numbers of digits alone, as most of them are."""
    offsets = np.frombuffer(values.buffers()[1], np.int32)
    digits = np.frombuffer(values.buffers()[2], np.uint8)[: offsets[-1]] - np.uint8(ord("0"))
    size = np.diff(offsets)
    if digits.max(initial=0) > 9 or size.min() == 0:
        return False
    return bool(((digits[offsets[:-1]] > 0) | (size == 1)).all())


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

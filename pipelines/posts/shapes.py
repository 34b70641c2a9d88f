"""JSON records of one shape, read together by the column.

A shape is what an object has beside its values: names, their order, nesting, white space. It is learnt from one record.
Another record is of this shape where all that stands between its values is the same, byte by byte, and each value is
JSON of the same kind. Such a record is JSON with these fields and no others, so that nothing has to parse it. A record
of which that can't be said is left to others.
"""

import enum
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

#: Bytes of records in hand at a time, so few that they and their places stay in the processor's cache.
_STEP = 2 << 20
#: Shapes of a block at most, and records of a step and of a block that are looked at in vain to learn some.
_MOST_SHAPES, _ATTEMPTS, _MOST_VAIN = 32, 8, 16
#: A shape is worth its while where one record of so many has it.
_WORTH = 24
#: Records of more bytes or values have no shape: each value is one more pass over the records.
_LONGEST, _MOST_VALUES, _MOST_MARKS = 1 << 14, 14, 64
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
    """Records of one shape: the row of each, ascending, and the wanted values by place; strings without escapes."""

    shape: Shape
    rows: Ints
    values: dict[int, pa.Array]


#: Which places of a shape are wanted; of no shape without one anything is read.
Wanted = Callable[[Shape], Collection[int]]


def learn(record: bytes) -> Shape | None:
    """Return the shape of a record without its line end; None for what is no JSON object, or too large."""
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
        elif "\\" in name:
            return None
        else:  # of two values of one name the last one counts, as in JSON
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


@dataclass(frozen=True)
class _Met:
    """A shape that was met, and the records that have what it has between the values, a step at a time.

    values: the wanted strings and all scalars by place; of other strings those of the records with escapes.
    """

    shape: Shape
    wanted: Collection[int]
    rows: list[Ints]
    escaped: list[Mask]
    values: list[dict[int, pa.Array]]


def read(records: pa.Array, wanted: Wanted) -> Iterator[Found]:
    """Yield those of the records (large_binary) that are of wanted shapes, a shape at a time."""
    met: list[_Met] = []
    vain = _MOST_VAIN
    row = 0
    for piece in pieces(records, _STEP):
        if step := _step(piece):
            vain -= _read(step, row, met, wanted, min(_ATTEMPTS, vain))
        row += len(piece)
        if not met and not vain:
            break
    yield from map(_checked, met)


def pieces(records: pa.Array, size: int) -> Iterator[pa.Array]:
    """Yield records (large_binary) in pieces of no more than so many bytes and one record."""
    if len(records):
        offsets = _offsets(records)
        cuts = np.searchsorted(offsets, np.arange(offsets[0] + size, offsets[-1], size))
        edges = np.unique([0, *cuts, len(records)]).tolist()
        for begin, end in zip(edges[:-1], edges[1:], strict=True):
            yield records.slice(begin, end - begin)


def _offsets(records: pa.Array) -> Ints:
    """Return where each record begins in the array's bytes, and where the last one ends."""
    offsets: Ints = np.frombuffer(records.buffers()[1], np.int64)[records.offset :][: len(records) + 1]
    return offsets


def _read(step: "_Step", row: int, met: list[_Met], wanted: Wanted, attempts: int) -> int:
    """Add a step's records to the shapes that were met, and shapes that are worth it; return the attempts in vain."""
    fewest = 1 + len(step.begin) // _WORTH
    for each in met:
        _add(step, row, each, fewest)
    vain = 0
    while vain < attempts and len(met) < _MOST_SHAPES:
        rows = np.flatnonzero(step.unread)
        if len(rows) < fewest:
            break
        alike = rows[step.count[rows] == np.bincount(step.count[rows]).argmax()]
        if len(alike) < fewest:
            break
        first = alike[0]
        shape = learn(step.bytes[step.begin[first] : step.end[first]].to_pybytes())
        if shape and (places := wanted(shape)) and _add(step, row, new := _Met(shape, places, [], [], []), fewest):
            met.append(new)
        else:
            step.unread[first] = False
            vain += 1
    return vain


def _add(step: "_Step", row: int, met: _Met, fewest: int) -> bool:
    """Add the records of a shape, and return whether there are any; too few are none."""
    shape = met.shape
    rows = np.flatnonzero(step.unread & (step.count == shape.marks))
    if len(rows) < fewest:
        return False
    spans, rows = _fitting(step, shape, rows)
    if len(rows) < fewest:
        return False
    step.unread[rows] = False
    escaped = step.escaped[rows]
    values = {}
    for place, (kind, (begin, end)) in enumerate(zip(shape.kinds, spans, strict=True)):
        if place in met.wanted or kind is not Kind.STRING:
            values[place] = _parts(step, begin, end)
        elif escaped.any():
            values[place] = _parts(step, begin[escaped], end[escaped])
    met.rows.append(rows + row)
    met.escaped.append(escaped)
    met.values.append(values)
    return True


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


def _fitting(step: _Step, shape: Shape, rows: Ints) -> tuple[list[tuple[Ints, Ints]], Ints]:
    """Return where each value is in those records that have what the shape has between the values, and their rows."""
    first, end = step.first[rows], step.end[rows]
    at = step.begin[rows]
    fits = np.ones(len(rows), np.bool_)
    spans: list[tuple[Ints, Ints]] = []
    marks = 0
    for part in shape.between:
        mark = part.find(b'"')
        if marks:  # any value is found by the mark that follows, or by the end
            begin, at = at, (end - len(part) if mark < 0 else step.marks[first + marks] - mark)
            fits &= at >= begin
            spans.append((begin, at))
        fits &= _stands(step.words, at, part, not marks)
        at = at + len(part)
        marks += part.count(b'"')
    fits &= at == end
    if fits.all():
        return spans, rows
    return [(begin[fits], end[fits]) for begin, end in spans], rows[fits]


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


def _parts(step: _Step, begin: Ints, end: Ints) -> pa.Array:
    """Return what stands between the places."""
    offsets = np.stack([begin, end], axis=1).astype(np.int32)
    parts = pa.StringArray.from_buffers(offsets.size - 1, pa.py_buffer(offsets), step.bytes)
    return parts.take(pa.array(np.arange(0, offsets.size, 2)))


def _checked(met: _Met) -> Found:
    """Return the records whose values are JSON."""
    rows = np.concatenate(met.rows)
    escaped = np.flatnonzero(np.concatenate(met.escaped))
    good = np.ones(len(rows), np.bool_)
    values: dict[int, pa.Array] = {}
    for place, kind in enumerate(met.shape.kinds):
        found = [each[place] for each in met.values if place in each]
        if not found:
            continue
        value = pa.concat_arrays(found)
        if kind.value:
            if not _are_digits(value):
                good &= pc.match_substring_regex(value, kind.value).to_numpy(zero_copy_only=False)
        elif place in met.wanted:
            value = _unescaped(value, escaped, escaped, good)
        else:
            _unescaped(value, np.arange(len(escaped)), escaped, good)
        if place in met.wanted:
            values[place] = value
    if good.all():
        return Found(met.shape, rows, values)
    return Found(met.shape, rows[good], {place: value.filter(pa.array(good)) for place, value in values.items()})


def _are_digits(values: pa.Array) -> bool:
    """Return whether all of some values are JSON numbers of digits alone, as most of them are."""
    offsets = np.frombuffer(values.buffers()[1], np.int32)
    digits = np.frombuffer(values.buffers()[2], np.uint8)[: offsets[-1]] - np.uint8(ord("0"))
    size = np.diff(offsets)
    if digits.max(initial=0) > 9 or size.min() == 0:
        return False
    return bool(((digits[offsets[:-1]] > 0) | (size == 1)).all())


def _unescaped(strings: pa.Array, some: Ints, rows: Ints, good: Mask) -> pa.Array:
    """Return JSON strings, some of which may have escapes, as they are meant.

    rows: the rows of those that may; where one of them is no JSON the row is not good.
    """
    may = strings.take(pa.array(some))
    escaped = pc.match_substring(may, "\\").to_numpy(zero_copy_only=False)
    if not escaped.any():
        return strings
    may = may.filter(pa.array(escaped))
    meant: list[str | None]
    try:
        meant = [*_strings(_array(may))]
    except ValueError:
        meant = [_string(each) for each in may.to_pylist()]
        good[rows[escaped]] &= [each is not None for each in meant]
    mask = np.zeros(len(strings), np.bool_)
    mask[some[escaped]] = True
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

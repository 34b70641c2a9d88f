"""A file's bytes → images as text, told by content: `key:784 numbers` lines, IDX (MNIST's own) or CSV; and labels.

An image's text stays as it came, because whether it is an image is found out where images are scored; but levels of
grey from 0 to 255 become numbers from 0 to 1. An image without an id has its place in its file, from 0, for an id.
"""

import csv
import io
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.beam.sources import records
from millrace.beam.sources.records import Rejected
from millrace.errors import SourceError
from pipelines.digits.images import PIXELS, SIDE
from pipelines.digits.tables import TABLES

#: Images of a block, and bytes of lines that are read at a time: about as many.
BLOCK = 4096
_BYTES = 16 << 20
_PEEK = 64 << 10

DIGITS = TABLES["digits"].schema()

#: How IDX files of unsigned bytes begin: images have three dimensions, labels one.
_IMAGES, _LABELS = b"\0\0\x08\x03", b"\0\0\x08\x01"
_BOM = b"\xef\xbb\xbf"
#: What columns of ids and of labels are called.
_ID, _LABEL = {"id", "key", "imageid", "image_id"}, {"label", "class", "digit", "target"}

#: What each level of grey is as a number from 0 to 1: the shortest text that float32 reads as that number.
_NUMBERS = pa.array(["0", *(str(np.float32(level) / np.float32(255)) for level in range(1, 255)), "1"])

#: The id, the image and the label of a line; no id where the line's place is its id.
_Row = tuple[int | None, str, int | None]


class Images(NamedTuple):
    """Some images, see DIGITS. Of lines also the records, and (row, reason) of those that are none."""

    table: pa.Table
    block: records.Block | None = None
    rejects: Sequence[tuple[int, str]] = ()
    #: Whether an image's place in its file is its id.
    placed: bool = True


class _Layout(NamedTuple):
    """How lines say what they say: whether the first one is names of columns, whether places are ids, and a reader."""

    names: bool
    placed: bool
    read: Callable[[str], _Row]


def read(stream: IO[bytes], uri: str) -> Iterator[Images]:
    """Yield the images of a file, block by block. Raises SourceError for a file that is of no such kind."""
    buffered = _buffered(stream)
    first = buffered.peek(_PEEK)
    if first.startswith(b"\0\0"):
        yield from _idx(buffered, uri)
        return
    layout = _layout(first.removeprefix(_BOM).lstrip().partition(b"\n")[0].decode("utf-8", "replace").strip(), uri)
    place, levels = -1 if layout.names else 0, None
    for block in records.lines(buffered, 1, block=_BYTES):
        rows: list[_Row] = []
        rejects = []
        for at, record in enumerate(block.record.to_pylist()):
            try:
                if place >= 0:
                    number, image, label = layout.read(_text(record))
                    rows.append((place if number is None else number, image, label))
            except Rejected as reason:
                rejects.append((at, str(reason)))
            place += 1
        columns = [[row[at] for row in rows] for at in range(3)]
        table = pa.table(
            [pa.array(each, kind) for each, kind in zip(columns, DIGITS.types, strict=True)], schema=DIGITS
        )
        levels = _are_levels(table["image"]) if levels is None else levels
        if levels:
            table = table.set_column(1, DIGITS.field(1), _without_levels(table["image"]))
        yield Images(table, block, rejects, layout.placed)


def read_labels(stream: IO[bytes], uri: str) -> dict[int, int]:
    """Return labels by id: of IDX, or of lines, `id,label` or a label each. Raises SourceError."""
    buffered = _buffered(stream)
    if buffered.peek(_PEEK).startswith(b"\0\0"):
        (count,) = _header(buffered, _LABELS, uri, "labels")
        data = buffered.read()
        if len(data) != count:
            raise _broken(uri, count, len(data), "labels")
        return dict(enumerate(data))
    try:
        lines = [_text(each) for block in records.lines(buffered, 1) for each in block.record.to_pylist()]
        if lines and not any(map(str.isdigit, lines[0])):  # names of columns
            lines = lines[1:]
        rows = [[int(part.strip().strip('"')) for part in line.split(",")] for line in lines]
        if {len(row) for row in rows} not in (set(), {1}, {2}):
            raise ValueError
        found = {row[0] if len(row) == 2 else place: row[-1] for place, row in enumerate(rows)}
    except (ValueError, Rejected):
        raise SourceError(f"source {uri} is no file of labels, whose lines are `id,label`, or a label each") from None
    if len(found) < len(rows):
        raise SourceError(f"source {uri} has two labels for one id")
    return found


def text_of(levels: bytes) -> pa.Array:
    """Return images of levels of grey, 784 bytes each, as text."""
    numbers = _NUMBERS.take(pa.array(np.frombuffer(levels, np.uint8)))
    offsets = pa.array(np.arange(0, len(levels) + 1, PIXELS, dtype=np.int32))
    return pc.binary_join(pa.ListArray.from_arrays(offsets, numbers), ",")


def _buffered(stream: IO[bytes]) -> "io.BufferedReader[Any]":
    return io.BufferedReader(cast("io.RawIOBase", stream), _PEEK)


def _idx(stream: "io.BufferedReader[Any]", uri: str) -> Iterator[Images]:
    count, height, width = _header(stream, _IMAGES, uri, "images")
    if (height, width) != (SIDE, SIDE):
        raise SourceError(f"source {uri} has images of {height} × {width} pixels, not {SIDE} × {SIDE}")
    place = 0
    while levels := stream.read(BLOCK * PIXELS):
        images = len(levels) // PIXELS
        if len(levels) % PIXELS or place + images > count:
            raise _broken(uri, count, place + images, "images")
        ids = pa.array(np.arange(place, place + images))
        yield Images(pa.table([ids, text_of(levels), pa.nulls(images, pa.int64())], schema=DIGITS))
        place += images
    if place < count:
        raise _broken(uri, count, place, "images")


def _header(stream: "io.BufferedReader[Any]", magic: bytes, uri: str, what: str) -> tuple[int, ...]:
    """Return the dimensions of an IDX file."""
    head = stream.read(4)
    if head != magic:
        raise SourceError(
            f"source {uri} is no IDX file of {what}: it begins with {head.hex(' ')}, not {magic.hex(' ')}"
        )
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise SourceError(f"source {uri} is broken: it ends within its first {4 + 4 * magic[3]} bytes")
    return struct.unpack(f">{magic[3]}I", sizes)


def _broken(uri: str, said: int, found: int, what: str) -> SourceError:
    return SourceError(f"source {uri} is broken: it says that it has {said:,} {what}, but has {found:,}")


def _text(record: bytes) -> str:
    try:
        return record.removeprefix(_BOM).decode().strip()
    except UnicodeDecodeError:
        raise Rejected("not UTF-8") from None


def _layout(line: str, uri: str) -> _Layout:
    """Return how the lines of a file are laid out, by the first of them."""
    names = [name.strip().lower() for name in next(csv.reader([line]), [])]
    if not names or ":" in names[0]:
        return _Layout(False, False, _keyed)
    at_id, at_label = (next((at for at, name in enumerate(names) if name in of), None) for of in (_ID, _LABEL))
    if "image" in names:
        return _Layout(True, at_id is None, _of_table(names.index("image"), at_id, at_label))
    beside, last = len(names) - PIXELS, len(names) - 1
    named = any(name[:1].isalpha() and name not in _NO_NAMES for name in names)
    if not named:  # the label is in front, as in the usual CSV of MNIST, and an id before it
        at_id, at_label = 0 if beside == 2 else None, beside - 1 if beside in (1, 2) else None
    places = {at for at in (at_id, at_label) if at is not None}
    ahead = beside - (last in places)
    if not 0 <= beside <= 2 or places - {last} != set(range(ahead)):
        raise SourceError(
            f"source {uri} is no file of images: its first line has neither a key before a colon, nor a column image, "
            f"nor {PIXELS} pixels with an id or a label beside them, but {line[:40]!r}"
        )
    return _Layout(named, at_id is None, _of_pixels(ahead, last in places, at_id, at_label))


#: What a column of pixels may hold that is no name of a column.
_NO_NAMES = ("nan", "inf", "infinity", "null", "none", "na")


def _keyed(text: str) -> _Row:
    key, colon, image = text.partition(":")
    if not colon:
        raise Rejected("no key before a colon")
    return _id(key), image, None


def _of_table(at_image: int, at_id: int | None, at_label: int | None) -> Callable[[str], _Row]:
    """Return what reads lines with a column `image`, whose pixels have commas between and so are in quotes."""

    def of_line(text: str) -> _Row:
        try:
            (row,) = csv.reader([text], strict=True)
            named = [None if at is None else row[at] for at in (at_id, at_label)]
            return _id(named[0]), row[at_image], _label(named[1])
        except (csv.Error, IndexError, ValueError):
            raise Rejected("other columns than the first line") from None

    return of_line


def _of_pixels(ahead: int, behind: bool, at_id: int | None, at_label: int | None) -> Callable[[str], _Row]:
    """Return what reads lines of pixels. ahead: columns before them. behind: whether there is one after them."""

    def of_line(text: str) -> _Row:
        *row, image = text.split(",", ahead)
        if behind:
            image, _, last = image.rpartition(",")
            row.append(last)
        if len(row) < ahead + behind:
            raise Rejected("other columns than the first line")
        named = [None if at is None else row[min(at, len(row) - 1)] for at in (at_id, at_label)]
        return _id(named[0]), image, _label(named[1])

    return of_line


def _id(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        number = int(text)
    except ValueError:
        raise Rejected("an id that is no whole number") from None
    if not -(1 << 63) <= number < 1 << 63:
        raise Rejected("an id of more than 64 bits")
    return number


def _label(text: str | None) -> int | None:
    """Return a label, which is nothing where no digit is given."""
    text = (text or "").strip()
    return int(text) if text in _DIGITS else None


_DIGITS = set("0123456789")


def _are_levels(images: pa.ChunkedArray) -> bool:
    """Return whether images are of levels of grey up to 255: of whole numbers, some above 1."""
    whole = images.filter(pc.match_substring_regex(images, r"^\s*\d{1,3}(\s*,\s*\d{1,3})*\s*$"))
    above = pc.any(pc.match_substring_regex(whole, r"\b0*(?:[2-9]|\d\d)")).as_py()
    return bool(above) and 2 * len(whole) > len(images)


def _without_levels(images: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return images of levels of grey as numbers from 0 to 1; what is no such image stays as it came."""
    return pa.chunked_array([[_without(text) for text in images.to_pylist()]], pa.string())


def _without(image: str) -> str:
    try:
        levels = bytes(map(int, image.split(",")))
    except ValueError:
        return image
    return text_of(levels)[0].as_py() if len(levels) == PIXELS else image

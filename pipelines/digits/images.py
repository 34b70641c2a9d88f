"""What an image is: 784 numbers from 0 to 1, row by row, and the reasons for which a value is none."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

SIDE = 28
PIXELS = SIDE * SIDE

Pixels = NDArray[np.float32]

#: Why a value is no image: few, because they are counted.
NULL, LENGTH, NUMBER, NAN, RANGE = "null", "wrong length", "not a number", "NaN", "outside [0, 1]"


class NotAnImageError(ValueError):
    """Says in its text why a value is not an image; belongs to the record, which goes to the dead letters.

    kind: the reason without its details.
    """

    def __init__(self, kind: str, said: str = "") -> None:
        super().__init__(said or kind)
        self.kind = kind


def pixels_of(value: str | bytes | Sequence[float] | None) -> Pixels:
    """Return the pixels of an image as a table or a message holds it.

    A string is 784 numbers with commas between, bytes are 784 levels of grey from 0 to 255.
    """
    if value is None:
        raise NotAnImageError(NULL)
    if isinstance(value, bytes):
        _check_length(len(value))
        return of_levels(np.frombuffer(value, np.uint8))
    parts = value.split(",") if isinstance(value, str) else value
    _check_length(len(parts))
    if isinstance(parts, np.ndarray) or set(map(type, parts)) <= _PLAIN:
        try:
            at_once = np.array(parts, np.float64)
        except (ValueError, OverflowError):
            pass  # The first pixel that is none is found below.
        else:
            if ((at_once >= 0) & (at_once <= 1)).all():
                return at_once.astype(np.float32)
    return np.array([_number(part, at) for at, part in enumerate(parts)], np.float64).astype(np.float32)


#: The types of a column of images, as BigQuery calls them.
ALLOWED = "STRING, BYTES or ARRAY<FLOAT64>"


def may_be(kind: pa.DataType) -> bool:
    """Return whether a column of a type may hold images."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return bool(pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))
    return _is_text(kind) or _is_bytes(kind) or bool(pa.types.is_large_binary(kind) or pa.types.is_null(kind))


def of_levels(levels: NDArray[np.uint8]) -> Pixels:
    """Return levels of grey from 0 to 255 as numbers from 0 to 1."""
    return levels.astype(np.float32) / np.float32(255)


def read_column(column: pa.Array) -> tuple[Pixels, NDArray[np.bool_]]:
    """Return the pixels of the images of a column, in order, and of each row whether it is one.

    All rows are read at once. Whether a row that such reading can't take is an image, and if not, why, says pixels_of.
    """
    if pa.types.is_large_binary(column.type):
        column = column.cast(pa.binary())
    parts, lengths = _cut(column) if _is_text(column.type) else (column, _lengths(column))
    fits = lengths == PIXELS
    if not fits.all():
        rows = column.filter(pa.array(fits))
        parts = _cut(rows)[0] if _is_text(column.type) else rows
    pixels = _read(parts)
    # A sum that is no number has a pixel that is none.
    good = ~np.isnan(pixels.sum(axis=1))
    fits[fits] = good
    return (pixels if good.all() else pixels[good]), fits


#: Types that numpy and `_number` read alike.
_PLAIN = {str, int, float}
#: Numbers in a sample, and how many different ones make looking each up cost more than reading it.
_SAMPLE, _FEW = 64 * PIXELS, 4096


def _lengths(column: pa.Array) -> NDArray[np.int64]:
    """Return how many values each row has, of bytes or lists; -1 for null."""
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), -1, np.int64)
    found = pc.binary_length(column) if _is_bytes(kind) else pc.list_value_length(column)
    return np.asarray(found.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)).copy()


def _cut(rows: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    """Return the parts of texts, each with its comma, as one array on the texts' own bytes, and how many a text has."""
    if not len(rows):
        return rows, np.empty(0, np.int64)
    empty, comma = (pa.scalar(text, pa.large_string()) for text in ("", ","))
    texts = pc.binary_join_element_wise(rows.cast(pa.large_string()).fill_null(""), empty, comma)
    data = texts.buffers()[2]
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord(",")) + 1
    offsets = np.concatenate([[0], ends]).astype(np.int64, copy=False)
    parts = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(ends), [None, pa.py_buffer(offsets), data])
    return parts, np.diff(np.searchsorted(offsets, np.frombuffer(texts.buffers()[1], np.int64)[: len(rows) + 1]))


def _read(rows: pa.Array) -> Pixels:
    """Return the pixels of rows of the right length, of texts their parts; what is no number from 0 to 1 is NaN."""
    if not len(rows):
        return np.empty((0, PIXELS), np.float32)
    if pa.types.is_large_binary(rows.type):
        numbers = _numbers_of(rows)
    elif pa.types.is_binary(rows.type):
        first = np.frombuffer(rows.buffers()[1], np.int32)[rows.offset]
        numbers = of_levels(np.frombuffer(rows.buffers()[2], np.uint8)[first : first + len(rows) * PIXELS])
    else:
        numbers = _in_range(rows.flatten().cast(pa.float64()).fill_null(math.nan).to_numpy(zero_copy_only=False))
    return numbers.reshape(-1, PIXELS)


def _numbers_of(parts: pa.Array) -> Pixels:
    """Return the numbers of parts of texts.

    Images have few levels of grey, so that the same texts come again and again: each is read once.
    """
    if len(parts[:_SAMPLE].unique()) > _FEW:
        return _numbers(_without_comma(parts))
    encoded = parts.dictionary_encode()
    found: Pixels = _numbers(_without_comma(encoded.dictionary))[encoded.indices.to_numpy()]
    return found


def _without_comma(parts: pa.Array) -> pa.Array:
    return pc.utf8_slice_codeunits(parts.cast(pa.large_string()), 0, -1)


def _numbers(texts: pa.Array) -> Pixels:
    try:
        return _in_range(texts.cast(pa.float64()).to_numpy())
    except pa.ArrowInvalid:
        return _in_range(np.array([_or_nan(text) for text in texts.to_pylist()], np.float64))


def _or_nan(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _in_range(numbers: Any) -> Pixels:
    found: Pixels = np.where((numbers >= 0) & (numbers <= 1), numbers, math.nan).astype(np.float32)
    return found


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind))


def _number(part: object, at: int) -> float:
    """Return one pixel as a number from 0 to 1."""
    # A boolean is an int to Python, and None and lists are what JSON may hold in place of a number.
    if isinstance(part, bool) or not isinstance(part, str | int | float | np.number):
        raise NotAnImageError(NUMBER, f"pixel {at} is not a number: {str(part)[:20]!r}")
    try:
        number = float(part)
    except (ValueError, OverflowError):
        raise NotAnImageError(NUMBER, f"pixel {at} is not a number: {str(part)[:20]!r}") from None
    if math.isnan(number):
        raise NotAnImageError(NAN, f"pixel {at} is NaN")
    if not 0 <= number <= 1:
        raise NotAnImageError(RANGE, f"pixel {at} is outside [0, 1]: {number:g}")
    return number


def _check_length(length: int) -> None:
    if length != PIXELS:
        raise NotAnImageError(LENGTH, f"{length} values, not {PIXELS}")

"""What an image is: 784 numbers from 0 to 1, row by row, and the reasons for which a value is none."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SIDE = 28
PIXELS = SIDE * SIDE

Pixels = NDArray[np.float32]


class NotAnImageError(ValueError):
    """Says in its text why a value is not an image; belongs to the record, which goes to the dead letters."""


def pixels_of(value: str | bytes | Sequence[float] | None) -> Pixels:
    """Return the pixels of an image as a table or a message holds it.

    A string is 784 numbers with commas between, bytes are 784 levels of grey from 0 to 255.
    """
    if value is None:
        raise NotAnImageError("null")
    if isinstance(value, bytes):
        _check_length(len(value))
        return np.frombuffer(value, np.uint8).astype(np.float32) / np.float32(255)
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


#: Types that numpy and `_number` read alike.
_PLAIN = {str, int, float}


def _number(part: object, at: int) -> float:
    """Return one pixel as a number from 0 to 1."""
    # A boolean is an int to Python, and None and lists are what JSON may hold in place of a number.
    if isinstance(part, bool) or not isinstance(part, str | int | float | np.number):
        raise NotAnImageError(f"pixel {at} is not a number: {str(part)[:20]!r}")
    try:
        number = float(part)
    except (ValueError, OverflowError):
        raise NotAnImageError(f"pixel {at} is not a number: {str(part)[:20]!r}") from None
    if math.isnan(number):
        raise NotAnImageError(f"pixel {at} is NaN")
    if not 0 <= number <= 1:
        raise NotAnImageError(f"pixel {at} is outside [0, 1]: {number:g}")
    return number


def _check_length(length: int) -> None:
    if length != PIXELS:
        raise NotAnImageError(f"{length} values, not {PIXELS}")

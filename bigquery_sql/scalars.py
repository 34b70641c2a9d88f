"""Functions of GoogleSQL on strings, bytes and numbers that DuckDB has nothing equal for, in Python."""

import decimal
import hashlib
import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal, cast

from bigquery_sql import farmhash

#: Letters between words for INITCAP, as its reference lists them.
_DELIMITERS = set(' \t\n\r\v\f[](){}/|<>!?@"^#$&~_,.:;*%+-\\')
_EXACT = decimal.Context(prec=100, rounding=decimal.ROUND_HALF_UP)
_NANO = Decimal("1e-9")
_LARGEST = Decimal("99999999999999999999999999999.999999999")
_CODES = dict(zip("BFPVCGJKQSXZDTLMNR", "111122222222334556", strict=True))


def numeric(op: str, a: Decimal, b: Decimal) -> Decimal:
    """Return the result of an operation on NUMERIC: 9 digits after the point, half rounded away from zero."""
    if op in ("/", "//", "%") and not b:
        raise ValueError(f"division by zero: {a.normalize():f} {op} 0")
    if op in ("round", "trunc"):
        rounding = decimal.ROUND_HALF_UP if op == "round" else decimal.ROUND_DOWN
        digits = max(min(int(b), 9), -30)
        return _fit(a.quantize(Decimal(1).scaleb(-digits), rounding=rounding, context=_EXACT))
    if op == "*":
        return _fit(_EXACT.multiply(a, b))
    if op == "/":
        return _fit(_EXACT.divide(a, b))
    return _fit(_EXACT.divide_int(a, b) if op == "//" else _EXACT.remainder(a, b))


def numeric_of(text: str) -> Decimal:
    """Return text as NUMERIC."""
    if not re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", text, re.ASCII):
        raise ValueError(f"Invalid NUMERIC value: {text}")
    return _fit(Decimal(text.strip()))


def _fit(value: Decimal) -> Decimal:
    found = value.quantize(_NANO, context=_EXACT) if abs(value) <= _LARGEST + 1 else value
    if abs(found) > _LARGEST:
        raise ValueError("numeric overflow")
    return found


def int64(text: str) -> int:
    """Return text as INT64: decimal, or hexadecimal after 0x."""
    if not re.fullmatch(r"\s*[+-]?(\d+|0[xX][\da-fA-F]+)\s*", text, re.ASCII):
        raise ValueError(f"Bad int64 value: {text}")
    value = int(text, 16 if "x" in text.lower() else 10)
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"Bad int64 value: {text}")
    return value


def float64(text: str) -> float:
    """Return text as FLOAT64."""
    number = r"\s*[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf|infinity|nan)\s*"
    if not re.fullmatch(number, text, re.ASCII | re.IGNORECASE):
        raise ValueError(f"Bad double value: {text}")
    return float(text)


def float_text(value: float) -> str:
    """Return FLOAT64 as text: the fewest of 15 or 17 digits that give the value again; 0 and NaN without a sign."""
    if value == 0:
        return "0"
    short = f"{value:.15g}"
    return short if value != value or float(short) == value else f"{value:.17g}"


def trunc(value: float, digits: int) -> float:
    """Return TRUNC to some digits after the point, or before it."""
    if digits > 300:
        return value
    cut = Decimal(repr(value)).quantize(Decimal(1).scaleb(-digits), rounding=decimal.ROUND_DOWN, context=_wide())
    return float(cut)


def _wide() -> decimal.Context:
    return decimal.Context(prec=700)


def shift(value: int, by: int, left: bool) -> int:
    """Return value << by, or value >> by; bits that go out are lost, and the sign's bit is one like others."""
    if by < 0:
        raise ValueError(f"bitwise shift by a negative number: {by}")
    bits = value & (2**64 - 1)
    bits = 0 if by > 63 else (bits << by if left else bits >> by) & (2**64 - 1)
    return bits - 2**64 if bits >= 2**63 else bits


def series(first: float, last: float, step: float) -> list[float]:
    """Return GENERATE_ARRAY of FLOAT64."""
    if step == 0:
        raise ValueError("Sequence step cannot be 0")
    count = int((last - first) / step + 1e-9) + 1 if (last - first) / step >= 0 else 0
    return [first + at * step for at in range(count)]


def cut(data: bytes, position: int, length: int | None) -> bytes | None:
    """Return SUBSTR of BYTES."""
    if data is None or position is None:
        return None
    start = max(len(data) + position, 0) if position < 0 else max(position - 1, 0)
    return data[start:] if length is None else data[start : start + length]


def instr(text: str, part: str, position: int, occurrence: int) -> int:
    """Return INSTR: where the nth occurrence begins, from 1; 0 for none. A negative position searches backwards."""
    if position == 0 or occurrence < 1:
        raise ValueError("position and occurrence of INSTR must not be 0, occurrence not negative")
    if not part:
        raise ValueError("INSTR of an empty string is not supported on one machine")
    step = 1 if position > 0 else -1
    at = position - 1 if position > 0 else len(text) + position
    at = min(at, len(text) - len(part)) if step < 0 else at
    while 0 <= at <= len(text) - len(part):
        if text.startswith(part, at):
            occurrence -= 1
            if occurrence == 0:
                return at + 1
        at += step
    return 0


def pad(name: str, text: str, length: int, pattern: str) -> str:
    """Return LPAD or RPAD."""
    if length < 0 or not pattern:
        raise ValueError(f"{name} needs a length that is not negative, and a pattern that is not empty")
    if length <= len(text):
        return text[:length]
    missing = length - len(text)
    padding = (pattern * (missing // len(pattern) + 1))[:missing]
    return padding + text if name == "LPAD" else text + padding


def initcap(text: str, delimiters: str | None) -> str | None:
    """Return INITCAP: the first letter of each word upper case, the others lower."""
    if text is None:
        return None
    between = _DELIMITERS if delimiters is None else set(delimiters)
    return "".join(
        letter.upper() if at == 0 or text[at - 1] in between else letter.lower() for at, letter in enumerate(text)
    )


def translate(text: str, source: str, target: str) -> str:
    """Return TRANSLATE."""
    if len(set(source)) < len(source):
        raise ValueError("Duplicate characters in TRANSLATE source characters are not supported")
    pairs = {letter: target[at] if at < len(target) else "" for at, letter in enumerate(source)}
    return "".join(pairs.get(letter, letter) for letter in text)


def normalize(text: str, form: str, casefold: bool) -> str:
    """Return NORMALIZE or NORMALIZE_AND_CASEFOLD."""
    if form not in ("NFC", "NFKC", "NFD", "NFKD"):
        raise ValueError(f"invalid normalization mode {form}")
    whole = cast("Literal['NFC', 'NFKC', 'NFD', 'NFKD']", form)
    if not casefold:
        return unicodedata.normalize(whole, text)
    return unicodedata.normalize(whole, unicodedata.normalize("NFD", text).casefold())


def soundex(text: str) -> str:
    """Return SOUNDEX of a word's Latin letters."""
    letters = [letter for letter in text.upper() if "A" <= letter <= "Z"]
    if not letters:
        return ""
    found, last = letters[0], _CODES.get(letters[0], "")
    for letter in letters[1:]:
        code = _CODES.get(letter, "")
        if code and code != last:
            found += code
        if letter not in "HW":
            last = code
    return found[:4].ljust(4, "0")


def points(text: str) -> list[int]:
    """Return TO_CODE_POINTS of a STRING."""
    return [ord(letter) for letter in text]


def bytes_points(data: bytes) -> list[int]:
    """Return TO_CODE_POINTS of BYTES."""
    return list(data)


def string_of(codes: list[int]) -> str | None:
    """Return CODE_POINTS_TO_STRING."""
    if None in codes:
        return None
    for code in codes:
        if not 0 <= code <= 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise ValueError(f"Invalid codepoint {code}")
    return "".join(map(chr, codes))


def bytes_of(codes: list[int]) -> bytes | None:
    """Return CODE_POINTS_TO_BYTES."""
    if None in codes:
        return None
    for code in codes:
        if not 0 <= code <= 255:
            raise ValueError(f"Invalid extended ASCII code point {code}")
    return bytes(codes)


def decode(data: bytes) -> str:
    """Return SAFE_CONVERT_BYTES_TO_STRING: what is no UTF-8 becomes U+FFFD."""
    return data.decode("utf-8", "replace")


def join(texts: list[str], between: str) -> str:
    """Return ARRAY_TO_STRING of what is not NULL."""
    return between.join(text for text in texts if text is not None)


def sha512(data: bytes) -> bytes:
    """Return SHA512."""
    return hashlib.sha512(data).digest()


def contains(text: str, part: str) -> bool:
    """Return CONTAINS_SUBSTR of a STRING: normalised, upper and lower case alike."""
    return normalize(part, "NFKC", True) in normalize(text, "NFKC", True)


def distance(a: str, b: str, most: int | None) -> int | None:
    """Return EDIT_DISTANCE by letters; at most max_distance where that is given."""
    if a is None or b is None:
        return None
    if most is not None and most < 0:
        raise ValueError("max_distance of EDIT_DISTANCE must not be negative")
    row = list(range(len(b) + 1))
    for at, left in enumerate(a, 1):
        before, row[0] = row[0], at
        for to, right in enumerate(b, 1):
            before, row[to] = row[to], min(row[to] + 1, row[to - 1] + 1, before + (left != right))
    return row[-1] if most is None else min(row[-1], most)


Known = tuple[Callable[..., Any], list[Any], str]
_N = "DECIMAL(38,9)"
#: Name → function, types of its arguments, type of its result.
FUNCTIONS: dict[str, Known] = {
    "py_numeric": (numeric, ["VARCHAR", _N, _N], _N),
    "py_numeric_of": (numeric_of, ["VARCHAR"], _N),
    "py_int64": (int64, ["VARCHAR"], "BIGINT"),
    "py_float64": (float64, ["VARCHAR"], "DOUBLE"),
    "py_float_text": (float_text, ["DOUBLE"], "VARCHAR"),
    "py_trunc": (trunc, ["DOUBLE", "BIGINT"], "DOUBLE"),
    "py_shift": (shift, ["BIGINT", "BIGINT", "BOOLEAN"], "BIGINT"),
    "py_series": (series, ["DOUBLE", "DOUBLE", "DOUBLE"], "DOUBLE[]"),
    "py_cut": (cut, ["BLOB", "BIGINT", "BIGINT"], "BLOB"),
    "py_instr": (instr, ["VARCHAR", "VARCHAR", "BIGINT", "BIGINT"], "BIGINT"),
    "py_pad": (pad, ["VARCHAR", "VARCHAR", "BIGINT", "VARCHAR"], "VARCHAR"),
    "py_initcap": (initcap, ["VARCHAR", "VARCHAR"], "VARCHAR"),
    "py_translate": (translate, ["VARCHAR", "VARCHAR", "VARCHAR"], "VARCHAR"),
    "py_normalize": (normalize, ["VARCHAR", "VARCHAR", "BOOLEAN"], "VARCHAR"),
    "py_soundex": (soundex, ["VARCHAR"], "VARCHAR"),
    "py_points": (points, ["VARCHAR"], "BIGINT[]"),
    "py_bytes_points": (bytes_points, ["BLOB"], "BIGINT[]"),
    "py_string_of": (string_of, ["BIGINT[]"], "VARCHAR"),
    "py_bytes_of": (bytes_of, ["BIGINT[]"], "BLOB"),
    "py_decode": (decode, ["BLOB"], "VARCHAR"),
    "py_join": (join, ["VARCHAR[]", "VARCHAR"], "VARCHAR"),
    "py_sha512": (sha512, ["BLOB"], "BLOB"),
    "py_farm_fingerprint": (farmhash.fingerprint, ["BLOB"], "BIGINT"),
    "py_contains": (contains, ["VARCHAR", "VARCHAR"], "BOOLEAN"),
    "py_distance": (distance, ["VARCHAR", "VARCHAR", "BIGINT"], "BIGINT"),
}
#: Functions that are called with NULLs too.
TAKE_NULL = {"py_cut", "py_initcap", "py_distance"}

"""Functions of GoogleSQL on JSON: numbers keep the digits that they are written with."""

import base64
import datetime
import json
import math
import re
from decimal import Decimal
from typing import Any

from bigquery_sql.scalars import Known, float64, float_text

_STEP = re.compile(
    r"""\.(?P<name>[^.\["']+)|\."(?P<quoted>[^"]*)"|\[(?P<at>\d+)\]|\['(?P<key>[^']*)'\]|\["(?P<key2>[^"]*)"\]"""
)


_SPACE = re.compile(r"[ \t\n\r]*")


class _Number(str):
    """A number as it is written."""


class _Object(dict[str, Any]):
    """An object: of members with one name the first counts; all of them, as they are written, are pairs."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(reversed(pairs))
        self.pairs = pairs


class _MissingError(Exception):
    """No such thing in a value."""


def _refuse(name: str) -> Any:
    raise ValueError(f"invalid JSON: {name}")


_DECODER = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_refuse, object_pairs_hook=_Object)


def _load(text: str) -> Any:
    return _DECODER.decode(text)


def _dump(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, _Object):
        return "{" + ",".join(f"{_dump(key)}:{_dump(each)}" for key, each in value.pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_dump, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _at(text: str, path: str) -> Any:
    """Return what a path leads to. Raises _MissingError, or ValueError for a path that is none."""
    steps = _steps(path)
    try:
        if not steps:
            return _load(text)
        at = _next(text, 0)
        for step in steps:
            at = _member(text, at, step)
        return _DECODER.raw_decode(text, at)[0]
    except (ValueError, IndexError):
        raise _MissingError from None


def _next(text: str, at: int) -> int:
    """Return where what follows white space begins."""
    found = _SPACE.match(text, at)
    assert found
    return found.end()


def _member(text: str, at: int, step: str | int) -> int:
    """Return where a member of an object or an item of an array begins, given where the object or array begins.

    What comes after the member is not read, because BigQuery finds what stands in the valid beginning of a text that is
    no JSON as a whole.
    """
    if text[at] != ("{" if isinstance(step, str) else "["):
        raise _MissingError
    place = 0
    while True:
        at, key = _next(text, at + 1), place
        if text[at] in "}]":
            raise _MissingError
        if isinstance(step, str):
            key, at = _DECODER.raw_decode(text, at)
            at = _next(text, at)
            if text[at] != ":":
                raise _MissingError
            at = _next(text, at + 1)
        if key == step:
            return at
        at = _next(text, _DECODER.raw_decode(text, at)[1])
        if text[at] != ",":
            raise _MissingError
        place += 1


def _steps(path: str) -> list[str | int]:
    if not path.startswith("$"):
        raise ValueError(f"JSONPath must start with '$': {path}")
    steps: list[str | int] = []
    at = 1
    while at < len(path):
        found = _STEP.match(path, at)
        if not found:
            raise ValueError(f"Unsupported JSONPath: {path}")
        named = next(value for value in found.groups() if value is not None)
        steps.append(int(named) if found.lastgroup == "at" else named)
        at = found.end()
    return steps


def _scalar(value: Any) -> str | None:
    if value is None or isinstance(value, dict | list):
        return None
    return value if isinstance(value, str) else _dump(value)


def value(text: str, path: str) -> str | None:
    """Return JSON_VALUE: a scalar as text; NULL for anything else."""
    try:
        return _scalar(_at(text, path))
    except _MissingError:
        return None


def query(text: str, path: str) -> str | None:
    """Return JSON_QUERY of JSON: whatever is there, as JSON."""
    try:
        return _dump(_at(text, path))
    except _MissingError:
        return None


def query_text(text: str, path: str) -> str | None:
    """Return JSON_QUERY of a STRING, where null is NULL."""
    found = query(text, path)
    return None if found == "null" else found


def values(text: str, path: str) -> list[str | None] | None:
    """Return JSON_VALUE_ARRAY: an array of scalars as texts; NULL for anything else."""
    try:
        found = _at(text, path)
    except _MissingError:
        return None
    if not isinstance(found, list) or any(isinstance(each, dict | list) for each in found):
        return None
    return [_scalar(each) for each in found]


def queries(text: str, path: str) -> list[str] | None:
    """Return JSON_QUERY_ARRAY: an array's items as JSON."""
    try:
        found = _at(text, path)
    except _MissingError:
        return None
    return [_dump(each) for each in found] if isinstance(found, list) else None


def parse(text: str) -> str:
    """Return PARSE_JSON. Raises ValueError for a number that FLOAT64 and INT64 don't hold exactly."""
    return _dump(_normal(_load(text)))


def _normal(value: Any) -> Any:
    """Return a value as the type JSON holds it: of members with one name the first, and only numbers that fit."""
    if isinstance(value, _Object):
        return _Object([(name, _normal(value[name])) for name in sorted(value)])
    if isinstance(value, list):
        return [_normal(each) for each in value]
    if not isinstance(value, _Number):
        return value
    if not _holds(value):
        raise ValueError(f"Input number: {value} cannot round-trip through string representation")
    return _Number(value if re.fullmatch(r"-?\d+", value) else repr(float(value)))


def _holds(number: str) -> bool:
    """Return whether INT64, UINT64 or FLOAT64 holds a number exactly, as far as its digits go."""
    if re.fullmatch(r"-?\d+", number) and -(2**63) <= int(number) < 2**64:
        return True
    return math.isfinite(float(number)) and Decimal(repr(float(number))) == Decimal(number)


def field(text: str, key: str) -> str | None:
    """Return a member of an object, or an array's item, of JSON."""
    found = _load(text)
    try:
        return _dump(found[int(key) if isinstance(found, list) else key])
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def kind(text: str) -> str:
    """Return JSON_TYPE."""
    found = _load(text)
    if isinstance(found, _Number):
        return "number"
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names[type(found)]


def lax_bool(text: str) -> bool | None:
    """Return LAX_BOOL."""
    found = _load(text)
    if isinstance(found, _Number):
        return float(found) != 0
    if isinstance(found, str):
        return {"true": True, "false": False}.get(found.lower())
    return found if isinstance(found, bool) else None


def lax_int64(text: str) -> int | None:
    """Return LAX_INT64."""
    found = _load(text)
    if isinstance(found, bool):
        return int(found)
    try:
        exact = Decimal(found) if isinstance(found, str) else None
        rounded = None if exact is None else int(exact.to_integral_value("ROUND_HALF_UP"))
    except (ArithmeticError, ValueError):
        return None
    return rounded if rounded is not None and -(2**63) <= rounded < 2**63 else None


def lax_float64(text: str) -> float | None:
    """Return LAX_FLOAT64."""
    found = _load(text)
    try:
        return float64(found) if isinstance(found, str) else None
    except ValueError:
        return None


def lax_string(text: str) -> str | None:
    """Return LAX_STRING."""
    found = _load(text)
    if isinstance(found, _Number) and not re.fullmatch(r"-?\d+", found):
        return float_text(float(found))
    return _scalar(found)


def strict_bool(text: str) -> bool:
    """Return BOOL of JSON."""
    found = _load(text)
    if not isinstance(found, bool):
        raise ValueError("The provided JSON input is not a boolean")
    return found


def strict_int64(text: str) -> int:
    """Return INT64 of JSON."""
    found = _load(text)
    exact = Decimal(found) if isinstance(found, _Number) else None
    if exact is None or exact != int(exact) or not -(2**63) <= exact < 2**63:
        raise ValueError("The provided JSON input is not an integer")
    return int(exact)


def strict_float64(text: str) -> float:
    """Return FLOAT64 of JSON."""
    found = _load(text)
    if not isinstance(found, _Number):
        raise ValueError("The provided JSON input is not a number")
    return float(found)


def strict_string(text: str) -> str:
    """Return STRING of JSON."""
    found = _load(text)
    if isinstance(found, _Number) or not isinstance(found, str):
        raise ValueError("The provided JSON input is not a string")
    return found


def json_of(value: Any) -> str:
    """Return TO_JSON."""
    return _written(value, wide=True)


def to_json(value: Any) -> str:
    """Return TO_JSON_STRING."""
    return _written(value, wide=False)


def _written(value: Any, wide: bool) -> str:
    """Return a value of any type as JSON. wide: an INT64 that FLOAT64 does not hold is written as a number too."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int):
        return str(value) if wide or abs(value) <= 2**53 else f'"{value}"'
    if isinstance(value, float):
        if not math.isfinite(value):
            return '"NaN"' if value != value else '"Infinity"' if value > 0 else '"-Infinity"'
        return float_text(value)
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, bytes | bytearray | memoryview):
        return f'"{base64.b64encode(bytes(value)).decode()}"'
    if isinstance(value, datetime.datetime):
        zone = "Z" if value.tzinfo else ""
        plain = value.replace(tzinfo=None)
        return (
            f'"{plain.isoformat(timespec="auto")}{zone}"' if plain.microsecond % 1000 else f'"{_millis(plain)}{zone}"'
        )
    if isinstance(value, datetime.date | datetime.time):
        return f'"{value.isoformat()}"'
    if isinstance(value, dict):
        if set(value) == {"json$"}:
            return str(value["json$"])
        return "{" + ",".join(f"{_dump(key)}:{_written(each, wide)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_written(each, wide) for each in value) + "]"
    return _dump(str(value))


def _millis(value: datetime.datetime) -> str:
    return value.isoformat(timespec="milliseconds" if value.microsecond else "seconds")


_TEXT, _TWO = ["VARCHAR"], ["VARCHAR", "VARCHAR"]
#: Name → function, types of its arguments, type of its result.
FUNCTIONS: dict[str, Known] = {
    "py_json_value": (value, _TWO, "VARCHAR"),
    "py_json_query": (query, _TWO, "VARCHAR"),
    "py_json_query_text": (query_text, _TWO, "VARCHAR"),
    "py_json_values": (values, _TWO, "VARCHAR[]"),
    "py_json_queries": (queries, _TWO, "VARCHAR[]"),
    "py_parse_json": (parse, _TEXT, "VARCHAR"),
    "py_json_field": (field, _TWO, "VARCHAR"),
    "py_json_type": (kind, _TEXT, "VARCHAR"),
    "py_json_lax_bool": (lax_bool, _TEXT, "BOOLEAN"),
    "py_json_lax_int64": (lax_int64, _TEXT, "BIGINT"),
    "py_json_lax_float64": (lax_float64, _TEXT, "DOUBLE"),
    "py_json_lax_string": (lax_string, _TEXT, "VARCHAR"),
    "py_json_bool": (strict_bool, _TEXT, "BOOLEAN"),
    "py_json_int64": (strict_int64, _TEXT, "BIGINT"),
    "py_json_float64": (strict_float64, _TEXT, "DOUBLE"),
    "py_json_string": (strict_string, _TEXT, "VARCHAR"),
}

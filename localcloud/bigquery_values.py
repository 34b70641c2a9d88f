"""Values of the local BigQuery's columns as JSON, CSV and Avro write them."""

import base64
import datetime
import json
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from localcloud.bigquery_errors import unsupported
from localcloud.bigquery_fields import Field, plain

_WORDS = {"true": True, "t": True, "yes": True, "y": True, "1": True, "false": False, "f": False, "no": False}
_WORDS |= {"n": False, "0": False}
_UTC = datetime.UTC


def from_row(row: Mapping[str, Any], fields: Sequence[Field], *, unknown: bool = False) -> dict[str, Any]:
    """Return a row of JSON as Python's values, by the fields' names. Raises ValueError.

    unknown: names that are no fields are passed over.
    """
    given = {name.lower(): value for name, value in row.items()}
    names = {each["name"].lower() for each in fields}
    for name in row:
        if name.lower() not in names and not unknown:
            raise ValueError(f"no such field: {name}.")
    return {each["name"]: from_json(given.get(each["name"].lower()), each, unknown=unknown) for each in fields}


def from_json(value: Any, each: Field, *, unknown: bool = False) -> Any:
    """Return a value of JSON as Python's. Raises ValueError for one that does not fit the field."""
    if each["mode"] == "REPEATED":
        if value is not None and not isinstance(value, list):
            raise ValueError(f"Array specified for non-repeated field or a value for the array {each['name']}.")
        return [from_json(one, {**each, "mode": "NULLABLE"}, unknown=unknown) for one in value or []]
    if value is None:
        if each["mode"] == "REQUIRED":
            raise ValueError(f"Missing required field: {each['name']}.")
        return None
    if each["type"] == "RECORD":
        if not isinstance(value, Mapping):
            raise ValueError(f"This field: {each['name']} is not a record.")
        return from_row(value, each["fields"], unknown=unknown)
    if each["type"] == "JSON":
        return _json(value)
    if isinstance(value, list | dict):
        raise ValueError(f"{json.dumps(value)} is no {each['type']} (field {each['name']}).")
    try:
        return _scalar(value if isinstance(value, str) else json.dumps(value), each["type"])
    except (ValueError, ArithmeticError):
        raise ValueError(f"Could not convert value {value!r} to {each['type']} (field {each['name']}).") from None


def _json(value: Any) -> str:
    if isinstance(value, str):
        try:
            json.loads(value)
            return value
        except ValueError:
            return json.dumps(value)
    return json.dumps(value, separators=(",", ":"))


def _scalar(text: str, kind: str) -> Any:
    if kind == "STRING":
        return text
    if kind == "BYTES":
        return base64.b64decode(text, validate=True)
    text = text.strip()
    if kind == "INTEGER":
        value = int(text) if re.fullmatch(r"[+-]?\d+", text) else _whole(float(text))
        if not -(1 << 63) <= value < 1 << 63:
            raise ValueError(text)
        return value
    if kind == "FLOAT":
        return float(text)
    if kind in ("NUMERIC", "BIGNUMERIC"):
        return Decimal(text)
    if kind == "BOOLEAN":
        if text.lower() not in _WORDS:
            raise ValueError(text)
        return _WORDS[text.lower()]
    if kind == "DATE":
        return datetime.date.fromisoformat(text)
    if kind == "TIME":
        return datetime.time.fromisoformat(text)
    return _moment(text, kind)


def _whole(value: float) -> int:
    if not value.is_integer():
        raise ValueError(value)
    return int(value)


def _moment(text: str, kind: str) -> datetime.datetime:
    if kind == "TIMESTAMP" and re.fullmatch(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", text):
        micros = int(Decimal(text) * 1_000_000)
        return datetime.datetime(1970, 1, 1, tzinfo=_UTC) + datetime.timedelta(microseconds=micros)
    found = datetime.datetime.fromisoformat(re.sub(r"\s*(UTC|Z)$", "+00:00", text))
    if kind == "DATETIME":
        return found.replace(tzinfo=None)
    return found.replace(tzinfo=_UTC) if found.tzinfo is None else found.astimezone(_UTC)


def to_text(value: Any, each: Field) -> str:
    """Return a value of no RECORD as CSV has it, and text in JSON."""
    kind = each["type"]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, float):
        if math.isnan(value) or math.isinf(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if kind == "TIMESTAMP":
        return f"{_seconds(value)} UTC"
    if kind == "DATETIME":
        return str(value.isoformat())
    return str(value)


def _seconds(value: datetime.datetime) -> str:
    shown = f"{value:%Y-%m-%d %H:%M:%S}"
    return f"{shown}.{value.microsecond:06d}".rstrip("0") if value.microsecond else shown


def to_row(row: Mapping[str, Any], fields: Sequence[Field]) -> dict[str, Any]:
    """Return a row as a line of an extracted file of JSON: a whole number is text, and what is NULL is left out."""
    return {each["name"]: to_json(row[each["name"]], each) for each in fields if row[each["name"]] is not None}


def to_json(value: Any, each: Field) -> Any:
    """Return a value as an extracted file of JSON has it."""
    if each["mode"] == "REPEATED":
        return [to_json(one, {**each, "mode": "NULLABLE"}) for one in value or []]
    if value is None:
        return None
    if each["type"] == "RECORD":
        return to_row(value, each["fields"])
    if each["type"] == "JSON":
        return json.loads(value)
    if isinstance(value, bool) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return to_text(value, each)


#: Avro's types without and with a logical one → those of BigQuery.
_OF_AVRO = {
    "string": "STRING",
    "enum": "STRING",
    "bytes": "BYTES",
    "fixed": "BYTES",
    "int": "INTEGER",
    "long": "INTEGER",
    "float": "FLOAT",
    "double": "FLOAT",
    "boolean": "BOOLEAN",
}
_LOGICAL = {
    "date": "DATE",
    "time-millis": "TIME",
    "time-micros": "TIME",
    "timestamp-millis": "TIMESTAMP",
    "timestamp-micros": "TIMESTAMP",
    "local-timestamp-micros": "DATETIME",
    "datetime": "DATETIME",
}


def fields_of_avro(schema: Mapping[str, Any], *, logical: bool) -> list[Field]:
    """Return the fields of a record of Avro's. Raises ApiError for a type that is not served.

    logical: useAvroLogicalTypes.
    """
    return [_field_of_avro(each["name"], each["type"], logical) for each in schema["fields"]]


def _field_of_avro(name: str, kind: Any, logical: bool) -> Field:
    if isinstance(kind, list):
        inner = [each for each in kind if each != "null"]
        if len(inner) != 1:
            raise unsupported(f"the union {kind} of Avro in the field {name}")
        found = _field_of_avro(name, inner[0], logical)
        return {**found, "mode": "NULLABLE" if found["mode"] == "REQUIRED" else found["mode"]}
    about = kind if isinstance(kind, Mapping) else {"type": kind}
    if isinstance(about["type"], Mapping | list):
        return _field_of_avro(name, about["type"], logical)
    if about["type"] == "array":
        return {**_field_of_avro(name, about["items"], logical), "mode": "REPEATED"}
    if about["type"] == "record":
        inside = [_field_of_avro(each["name"], each["type"], logical) for each in about["fields"]]
        return {"name": name, "type": "RECORD", "mode": "REQUIRED", "fields": inside}
    if about["type"] not in _OF_AVRO:
        raise unsupported(f"the type {about['type']} of Avro in the field {name}")
    meant = about.get("logicalType")
    if meant and not logical and meant != "datetime":
        raise unsupported(f"Avro's logical type {meant} of the field {name} without useAvroLogicalTypes")
    if meant == "decimal":
        narrow = about.get("scale", 0) <= 9 and about["precision"] - about.get("scale", 0) <= 29
        return {"name": name, "type": "NUMERIC" if narrow else "BIGNUMERIC", "mode": "REQUIRED"}
    return {"name": name, "type": _LOGICAL.get(meant or "", _OF_AVRO[about["type"]]), "mode": "REQUIRED"}


def avro_schema(fields: Sequence[Field], *, logical: bool, name: str = "Root") -> dict[str, Any]:
    """Return the schema of an extracted file of Avro."""
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": each["name"], "type": _avro_type(each, logical, name)} for each in fields],
    }


def _avro_type(each: Field, logical: bool, where: str) -> Any:
    if each["mode"] == "REPEATED":
        return {"type": "array", "items": _avro_type({**each, "mode": "REQUIRED"}, logical, where)}
    if each["mode"] != "REQUIRED":
        return ["null", _avro_type({**each, "mode": "REQUIRED"}, logical, where)]
    kinds: dict[str, Any] = {
        "STRING": "string",
        "JSON": {"type": "string", "sqlType": "JSON"},
        "BYTES": "bytes",
        "INTEGER": "long",
        "FLOAT": "double",
        "BOOLEAN": "boolean",
        "NUMERIC": {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 9},
        "BIGNUMERIC": {"type": "bytes", "logicalType": "decimal", "precision": 77, "scale": 38},
        "TIMESTAMP": {"type": "long", "logicalType": "timestamp-micros"},
        "TIME": {"type": "long", "logicalType": "time-micros"},
        "DATE": {"type": "int", "logicalType": "date"} if logical else {"type": "string", "sqlType": "DATE"},
        "DATETIME": {"type": "string", **({"logicalType": "datetime"} if logical else {"sqlType": "DATETIME"})},
    }
    if each["type"] == "RECORD":
        return avro_schema(each["fields"], logical=logical, name=f"{where}_{each['name']}")
    return kinds[each["type"]]


def to_avro(value: Any, each: Field, *, logical: bool) -> Any:
    """Return a value as fastavro takes it."""
    if each["mode"] == "REPEATED":
        return [to_avro(one, {**each, "mode": "REQUIRED"}, logical=logical) for one in value or []]
    if value is None:
        return None
    if each["type"] == "RECORD":
        return {one["name"]: to_avro(value[one["name"]], one, logical=logical) for one in each["fields"]}
    if each["type"] == "DATETIME" or (each["type"] == "DATE" and not logical):
        return value.isoformat()
    return value

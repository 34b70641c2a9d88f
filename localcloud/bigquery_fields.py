"""Fields of the local BigQuery's tables: their types, what changes they take, and their values as the API writes them.

A field is a dict as in BigQuery's API: name, type (by its old name: INTEGER, not INT64), mode, and fields of a RECORD.
"""

import base64
import datetime
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from localcloud.bigquery_errors import ApiError, only, unsupported

Field = dict[str, Any]

_ARROW = {
    "STRING": pa.string(),
    "BYTES": pa.binary(),
    "INTEGER": pa.int64(),
    "FLOAT": pa.float64(),
    "NUMERIC": pa.decimal128(38, 9),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMP": pa.timestamp("us", "UTC"),
    "DATETIME": pa.timestamp("us"),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "JSON": pa.string(),
    "BIGNUMERIC": pa.decimal256(76, 38),
}
_OLD_NAMES = {
    "INT64": "INTEGER",
    "FLOAT64": "FLOAT",
    "BOOL": "BOOLEAN",
    "STRUCT": "RECORD",
    "DECIMAL": "NUMERIC",
    "BIGDECIMAL": "BIGNUMERIC",
}
#: What may be said of a field; the lengths and precisions of types are kept and shown, and not enforced.
_KNOWN = "name type mode fields description policyTags maxLength precision scale"
#: Bytes of a value, where they do not depend on it.
_SIZES = {"BOOLEAN": 1, "NUMERIC": 16, "BIGNUMERIC": 32}


def normal(fields: Sequence[Mapping[str, Any]]) -> list[Field]:
    """Return fields with types by their old names and a mode each. Raises ApiError for a type that is not supported."""
    found = []
    for each in fields:
        only(each, _KNOWN, f"the field {each['name']}")
        kind = _OLD_NAMES.get(each["type"].upper(), each["type"].upper())
        if kind not in _ARROW and kind != "RECORD":
            raise unsupported(f"the type {kind} of the field {each['name']}")
        if not re.fullmatch(r"[A-Za-z_]\w{0,299}", each["name"]):
            raise ApiError("invalid", f'Invalid field name "{each["name"]}".')
        whole = {**each, "type": kind, "mode": (each.get("mode") or "NULLABLE").upper()}
        if kind == "RECORD":
            whole["fields"] = normal(each.get("fields", []))
        found.append(whole)
    names = [each["name"].lower() for each in found]
    for name in names:
        if names.count(name) > 1:
            raise ApiError("invalid", f"Duplicate field name in the schema: {name}")
    return found


def merge(name: object, there: Sequence[Field], new: Sequence[Field], updates: Sequence[str]) -> list[Field]:
    """Return the schema of a table after rows of another schema came in. Raises ApiError if it can't take them.

    updates: ALLOW_FIELD_ADDITION, ALLOW_FIELD_RELAXATION.
    """
    mismatch = f"Provided Schema does not match Table {name}."
    merged = {each["name"].lower(): dict(each) for each in there}
    for each in new:
        old = merged.get(each["name"].lower())
        if old is None:
            if "ALLOW_FIELD_ADDITION" not in updates:
                raise ApiError("invalid", f"{mismatch} Cannot add fields (field: {each['name']})")
            if each["mode"] == "REQUIRED":
                raise ApiError(
                    "invalid", f"{mismatch} Cannot add required fields to an existing schema. (field: {each['name']})"
                )
            merged[each["name"].lower()] = dict(each)
            continue
        if old["type"] != each["type"]:
            change = f"type from {old['type']} to {each['type']}"
            raise ApiError("invalid", f"{mismatch} Field {old['name']} has changed {change}")
        if old["mode"] == "REQUIRED" and each["mode"] == "NULLABLE" and "ALLOW_FIELD_RELAXATION" in updates:
            old["mode"] = "NULLABLE"
        if old["mode"] != each["mode"] and (old["mode"], each["mode"]) != ("NULLABLE", "REQUIRED"):
            change = f"mode from {old['mode']} to {each['mode']}"
            raise ApiError("invalid", f"{mismatch} Field {old['name']} has changed {change}")
        if old["type"] == "RECORD":
            old["fields"] = merge(name, old["fields"], each["fields"], updates)
    missing = {each["name"].lower() for each in there if each["mode"] == "REQUIRED"} - {x["name"].lower() for x in new}
    for absent in sorted(missing):
        raise ApiError("invalid", f"{mismatch} Field {merged[absent]['name']} is missing in new schema")
    return list(merged.values())


def alter(name: object, there: Sequence[Field], new: Sequence[Field]) -> list[Field]:
    """Return the schema that a patch or update of a table makes.

    Raises ApiError for anything but new nullable fields and required fields that become nullable.
    """
    kept = {each["name"].lower() for each in new}
    for each in there:
        if each["name"].lower() not in kept:
            message = f"Provided Schema does not match Table {name}. Field {each['name']} is missing in new schema"
            raise ApiError("invalid", message)
    modes = {each["name"].lower(): each["mode"] for each in there}
    for each in new:
        if each["mode"] == "REQUIRED" and modes.get(each["name"].lower()) == "NULLABLE":
            change = f"Field {each['name']} has changed mode from NULLABLE to REQUIRED"
            raise ApiError("invalid", f"Provided Schema does not match Table {name}. {change}")
    return merge(name, there, new, ("ALLOW_FIELD_ADDITION", "ALLOW_FIELD_RELAXATION"))


def arrow_schema(fields: Sequence[Field]) -> pa.Schema:
    """Return fields as Arrow's; a TIMESTAMP is in UTC, a DATETIME has no zone."""
    return pa.schema([pa.field(each["name"], _arrow_type(each)) for each in fields])


def _arrow_type(each: Field) -> pa.DataType:
    kind = pa.struct(list(arrow_schema(each["fields"]))) if each["type"] == "RECORD" else _ARROW[each["type"]]
    return pa.list_(kind) if each["mode"] == "REPEATED" else kind


def fields_of(schema: pa.Schema) -> list[Field]:
    """Return the fields that BigQuery makes of Arrow's or Parquet's.

    Raises ApiError for a type that is not supported.
    """
    return [_field_of(each) for each in schema]


def _field_of(each: pa.Field) -> Field:
    kind = each.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return {**_field_of(pa.field(each.name, kind.value_type)), "mode": "REPEATED"}
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    mode = "NULLABLE" if each.nullable else "REQUIRED"
    if pa.types.is_struct(kind):
        return {"name": each.name, "type": "RECORD", "mode": mode, "fields": fields_of(pa.schema(list(kind)))}
    return {"name": each.name, "type": _type_of(each.name, kind), "mode": mode}


def _type_of(name: str, kind: pa.DataType) -> str:
    tests = {
        "STRING": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
        "BYTES": (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary),
        "INTEGER": (pa.types.is_integer, pa.types.is_null),
        "FLOAT": (pa.types.is_floating,),
        "BOOLEAN": (pa.types.is_boolean,),
        "TIMESTAMP": (pa.types.is_timestamp,),
        "DATE": (pa.types.is_date,),
        "TIME": (pa.types.is_time,),
    }
    for bigquery, fits in tests.items():
        if any(fit(kind) for fit in fits):
            return bigquery
    if pa.types.is_decimal(kind) and kind.scale <= 9 and kind.precision - kind.scale <= 29:
        return "NUMERIC"
    if kind == pa.decimal128(38, 0):  # DuckDB's HUGEINT, which a sum of whole numbers is
        return "INTEGER"
    if pa.types.is_decimal(kind) and kind.scale <= 38 and kind.precision - kind.scale <= 38:
        return "BIGNUMERIC"
    raise unsupported(f"the type {kind} of the field {name}")


def conform(rows: pa.Table, fields: Sequence[Field]) -> pa.Table:
    """Return rows with exactly these fields, nulls where they had none. Raises ApiError where a value does not fit."""
    columns = []
    names = [name.lower() for name in rows.column_names]
    for each, target in zip(fields, arrow_schema(fields), strict=True):
        if each["name"].lower() in names:
            column = rows.column(names.index(each["name"].lower()))
            try:
                column = column.cast(target.type)
            except pa.ArrowException as error:
                message = f"Error while reading data, error message: field {each['name']}: {error}"
                raise ApiError("invalid", message) from None
        else:
            column = pa.chunked_array([pa.nulls(rows.num_rows, target.type)])
        if each["mode"] == "REQUIRED" and column.null_count:
            raise ApiError("invalid", f"Required field {each['name']} cannot be null")
        columns.append(column)
    return pa.table(columns, schema=arrow_schema(fields))


#: What DuckDB holds as text in a struct with one field.
_HELD = {"JSON": "json$", "BIGNUMERIC": "bignumeric$"}


def for_engine(rows: pa.Table, fields: Sequence[Field]) -> pa.Table:
    """Return rows as bigquery_sql takes them, in which a JSON and a BIGNUMERIC are a struct with text."""
    for at, each in enumerate(fields):
        if each["type"] in _HELD:
            column = rows.column(each["name"]).combine_chunks()
            rows = rows.set_column(at, each["name"], _held(column, _HELD[each["type"]], each["mode"] == "REPEATED"))
        elif each["type"] == "RECORD" and any(one["type"] in _HELD for one in each["fields"]):
            raise unsupported(f"a query of a JSON or BIGNUMERIC in the RECORD {each['name']}")
    return rows


def _held(column: pa.Array, name: str, repeated: bool) -> pa.Array:
    if repeated:
        return pa.ListArray.from_arrays(column.offsets, _held(column.values, name, False), mask=column.is_null())
    text = column.cast(pa.string())
    if name == _HELD["BIGNUMERIC"]:
        text = pa.array([None if each is None else plain(each) for each in column.to_pylist()], pa.string())
    return pa.StructArray.from_arrays([text], [name], mask=column.is_null())


def plain(value: Decimal) -> str:
    """Return a number as the API writes it: without zeros at its end."""
    return format(value.normalize(Context(prec=80)), "f")


def table_bytes(rows: pa.Table) -> dict[str, int]:
    """Return column → how many bytes BigQuery counts for its values."""
    return {name: _bytes(rows.column(name).combine_chunks()) for name in rows.column_names}


def _bytes(values: pa.Array) -> int:
    kind = values.type
    if pa.types.is_list(kind):
        return _bytes(values.flatten())
    if pa.types.is_struct(kind):
        return sum(_bytes(child) for child in values.flatten())
    there: int = len(values) - values.null_count
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return int(pc.sum(pc.binary_length(values)).as_py() or 0) + 2 * there
    return there * _SIZES.get(_type_of("", kind), 8)


def cells(rows: pa.Table, fields: Sequence[Field], *, micros: bool) -> list[dict[str, Any]]:
    """Return rows as the API writes them. micros: a TIMESTAMP as microseconds, otherwise as seconds with a fraction."""
    if not fields:
        # Of a table without columns Arrow makes rows, as many as are asked for.
        return []
    return [
        {"f": [{"v": _cell(row[each["name"]], each, micros)} for each in fields]}
        for row in rows.select([each["name"] for each in fields]).to_pylist()
    ]


def _cell(value: Any, each: Field, micros: bool) -> Any:
    if each["mode"] == "REPEATED":
        return [{"v": _cell(one, {**each, "mode": "NULLABLE"}, micros)} for one in value or []]
    if value is None:
        return None
    if each["type"] == "RECORD":
        return {"f": [{"v": _cell(value[sub["name"]], sub, micros)} for sub in each["fields"]]}
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Decimal):
        return plain(value)
    if each["type"] == "TIMESTAMP":
        since = (value - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(microseconds=1)
        return str(since) if micros else repr(since / 1e6)
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)


def millis(seconds: float) -> str:
    """Return a time as the API writes it."""
    return str(int(seconds * 1000))

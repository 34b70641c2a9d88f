"""What the local BigQuery holds: tables as Arrow, their schemas and partitions, and which writes they take.

A field is a dict as in BigQuery's API: name, type (by its old name: INTEGER, not INT64), mode, and fields of a RECORD.
"""

import base64
import datetime
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

Field = dict[str, Any]

_STATUS = {"accessDenied": 403, "notFound": 404, "duplicate": 409, "conditionNotMet": 412, "notImplemented": 501}
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
}
_OLD_NAMES = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "STRUCT": "RECORD"}
#: Bytes of a value, where they do not depend on it.
_SIZES = {"BOOLEAN": 1, "NUMERIC": 16}
NO_DAY = "__NULL__"


class ApiError(Exception):
    """What BigQuery answers instead: a reason of its list, such as "notFound", a sentence, and the URI that it is
    about.
    """

    def __init__(self, reason: str, message: str, location: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.location = location

    @property
    def status(self) -> int:
        """The HTTP status that goes with the reason."""
        return _STATUS.get(self.reason, 400)


def unsupported(what: str) -> ApiError:
    """Return the error for what the real service can do and this one can't."""
    return ApiError("notImplemented", f"the local BigQuery does not support {what}")


def only(given: Mapping[str, Any], known: str, where: str) -> None:
    """Raise ApiError if anything is asked for besides what is known (names in one string)."""
    asked = {key for key, value in given.items() if value not in (None, False, "", [], {})} - set(known.split())
    if asked:
        raise unsupported(f"{', '.join(sorted(asked))} in {where}")


@dataclass(frozen=True)
class Name:
    """A table's name; day: the partition (YYYYMMDD) where the name has one, as in table$20261119."""

    project: str
    dataset: str
    table: str
    day: str = ""

    @staticmethod
    def of(reference: Mapping[str, str]) -> "Name":
        """Return the name that a tableReference of the API gives. Raises ApiError for a bad partition."""
        table, _, day = reference["tableId"].partition("$")
        if day and not re.fullmatch(rf"\d{{8}}|{NO_DAY}", day):
            raise ApiError("invalid", f"Invalid partition decorator: {reference['tableId']} is not a day's partition")
        if not re.fullmatch(r"[\w\- ]{1,1024}", table):
            raise ApiError("invalid", f'Invalid table ID "{table}".')
        return Name(reference["projectId"], reference["datasetId"], table, day)

    @property
    def whole(self) -> "Name":
        """The table's name without a partition."""
        return Name(self.project, self.dataset, self.table)

    @property
    def reference(self) -> dict[str, str]:
        """As the API writes it."""
        table = f"{self.table}${self.day}" if self.day else self.table
        return {"projectId": self.project, "datasetId": self.dataset, "tableId": table}

    def __str__(self) -> str:
        return f"{self.project}:{self.dataset}.{self.reference['tableId']}"


@dataclass
class Table:
    """A table. about: schema, timePartitioning, clustering, labels, description, as in the request that made it."""

    name: Name
    about: dict[str, Any]
    rows: pa.Table
    location: str
    created: float
    changed: float
    version: int = 1
    #: Partition → when rows were last written to it.
    written: dict[str, float] = field(default_factory=dict)

    @property
    def is_view(self) -> bool:
        """Whether it is a view, which holds no rows itself."""
        return bool(self.about.get("type", "TABLE") != "TABLE")

    @property
    def fields(self) -> list[Field]:
        """The schema."""
        return list(self.about.get("schema", {}).get("fields", []))

    def touch(self, days: Sequence[str]) -> None:
        """Note that rows of these partitions were written."""
        self.written |= dict.fromkeys(days, self.changed)

    @property
    def day_field(self) -> str | None:
        """The field that its partitions go by; None for a table without partitions."""
        return (self.about.get("timePartitioning") or {}).get("field")

    def days(self) -> pa.ChunkedArray:
        """Return the partition of every row. Raises ApiError for a table without partitions."""
        if not self.day_field:
            raise ApiError("invalid", f"Table {self.name} is not partitioned.")
        return days_of(self.rows, self.day_field)

    def unexpired(self, rows: pa.Table) -> pa.Table:
        """Return the rows whose partition has not expired, of rows in the table's schema."""
        kept = (self.about.get("timePartitioning") or {}).get("expirationMs")
        if not kept:
            return rows
        gone = datetime.datetime.now(datetime.UTC) - datetime.timedelta(milliseconds=int(kept))
        return rows.filter(pc.greater(days_of(rows, str(self.day_field)), f"{gone:%Y%m%d}"))

    def partitions(self) -> dict[str, pa.Table]:
        """Return day → its rows, in order; {"": all} for a table without partitions."""
        if not self.day_field:
            return {"": self.rows}
        days = self.days()
        return {day: self.rows.filter(pc.equal(days, day)) for day in sorted(pc.unique(days).to_pylist())}

    def read(self, day: str) -> pa.Table:
        """Return the rows of a partition; "" is all."""
        return self.rows.filter(pc.equal(self.days(), day)) if day else self.rows

    def resource(self, day: str = "") -> dict[str, Any]:
        """Return the table as the API shows it; the size is the partition's where one is named."""
        name = Name(**{**self.name.__dict__, "day": day})
        rows = self.read(day)
        return {
            "kind": "bigquery#table",
            "etag": f'"{self.created}-{self.version}"',
            "id": str(name),
            "type": "TABLE",
            **self.about,
            "tableReference": name.reference,
            "location": self.location,
            "creationTime": millis(self.created),
            "lastModifiedTime": millis(self.changed),
            "numRows": str(rows.num_rows),
            "numBytes": str(sum(table_bytes(rows).values())),
        }


@dataclass(frozen=True)
class Write:
    """How rows come into a table, as a job's configuration says it."""

    disposition: str
    updates: Sequence[str] = field(default_factory=tuple)

    def apply(self, table: Table, day: str, rows: pa.Table, fields: Sequence[Field]) -> tuple[list[Field], pa.Table]:
        """Return the schema and all rows that the table has afterwards. Raises ApiError; changes nothing.

        fields: of the rows. day: the partition written to; "" is the whole table.
        """
        if self.disposition not in ("WRITE_APPEND", "WRITE_EMPTY", "WRITE_TRUNCATE"):
            raise unsupported(self.disposition)
        replaces = self.disposition == "WRITE_TRUNCATE"
        if self.updates and not (self.disposition == "WRITE_APPEND" or (replaces and day)):
            raise ApiError(
                "invalid",
                "Schema update options should only be specified with WRITE_APPEND disposition, or with WRITE_TRUNCATE "
                "disposition on a table partition.",
            )
        if self.disposition == "WRITE_EMPTY" and table.read(day).num_rows:
            raise ApiError("duplicate", f"Already Exists: Table {table.name}")
        fresh = not table.fields or (replaces and not day)
        merged = list(fields) if fresh else merge(table.name, table.fields, fields, self.updates)
        if table.day_field and table.day_field not in {each["name"] for each in merged}:
            raise ApiError("invalid", "The field specified for partitioning cannot be found in the schema.")
        incoming = conform(rows, merged)
        if day:
            table.days()
            if pc.any(pc.not_equal(days_of(incoming, str(table.day_field)), day)).as_py():
                raise ApiError(
                    "invalid", f"Some rows belong to different partitions rather than destination partition {day}"
                )
        kept = table.rows
        if replaces:
            kept = kept.filter(pc.not_equal(table.days(), day)) if day else kept.slice(0, 0)
        return merged, incoming if fresh else pa.concat_tables([conform(kept, merged), incoming])


def days_of(rows: pa.Table, name: str) -> pa.ChunkedArray:
    """Return the partition that a DATE, TIMESTAMP or DATETIME field puts each row into."""
    return pc.fill_null(pc.strftime(rows.column(name).cast(pa.date32()), format="%Y%m%d"), NO_DAY)


def normal(fields: Sequence[Mapping[str, Any]]) -> list[Field]:
    """Return fields with types by their old names and a mode each. Raises ApiError for a type that is not supported."""
    found = []
    for each in fields:
        only(each, "name type mode fields description", f"the field {each['name']}")
        kind = _OLD_NAMES.get(each["type"].upper(), each["type"].upper())
        if (kind not in _ARROW and kind != "RECORD") or kind == "JSON":
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


def check_shape(about: Mapping[str, Any]) -> None:
    """Raise ApiError if a table can't be partitioned and clustered as is said."""
    kinds = {each["name"]: each["type"] for each in about.get("schema", {}).get("fields", [])}
    if partitioning := about.get("timePartitioning"):
        only(partitioning, "type field expirationMs", "timePartitioning")
        if partitioning.get("type", "DAY") != "DAY" or not partitioning.get("field"):
            raise unsupported("partitions other than by the day of a field")
        if partitioning["field"] not in kinds:
            raise ApiError("invalid", "The field specified for partitioning cannot be found in the schema.")
        if kinds[partitioning["field"]] not in ("DATE", "TIMESTAMP", "DATETIME"):
            raise ApiError("invalid", f"The field {partitioning['field']} for partitioning is no date or time.")
    clustered = (about.get("clustering") or {}).get("fields", [])
    for name in clustered:
        if name not in kinds:
            raise ApiError("invalid", f"The field specified for clustering cannot be found in the schema: {name}")
    if len(clustered) > 4:
        raise ApiError("invalid", "Too many fields specified for clustering, at most 4 are allowed.")


def merge(name: Name, there: Sequence[Field], new: Sequence[Field], updates: Sequence[str]) -> list[Field]:
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


def alter(name: Name, there: Sequence[Field], new: Sequence[Field]) -> list[Field]:
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
        return format(value.normalize(), "f")
    if each["type"] == "TIMESTAMP":
        since = (value - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(microseconds=1)
        return str(since) if micros else repr(since / 1e6)
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)


def millis(seconds: float) -> str:
    """Return a time as the API writes it."""
    return str(int(seconds * 1000))

"""Whether a table of BigQuery can take the rows of one of ours: its columns, and how it is partitioned."""

import datetime
from typing import TYPE_CHECKING

from millrace.common.tables import Table
from millrace.core.keys import Key
from millrace.errors import SchemaError

if TYPE_CHECKING:
    from google.cloud import bigquery as api

#: BigQuery's older names of types, which its API answers with.
_TYPES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}


def schema(table: Table) -> "list[api.SchemaField]":
    """Return a table's columns as BigQuery's API has them."""
    from google.cloud import bigquery as api

    return [api.SchemaField(name, kind) for name, kind in table.columns.items()]


def clustering(table: Table) -> list[str] | None:
    """Return the columns that BigQuery sorts a table by; the names of its partitions first, so that a name is found."""
    names = [table.by] if table.by not in ("", "date") else []
    return [*names, *(column for column in table.cluster_by if column not in names)][:4] or None


def where(key: Key) -> tuple[str, dict[str, object]]:
    """Return which rows of a table are a key's partition, as a condition of SQL and its parameters."""
    return (f"`{key.by}` = @value", {"value": key.value}) if key.by else ("TRUE", {})


def columns(there: "api.Table") -> dict[str, str]:
    """Return the types of a table's columns, by name, as SQL has them."""
    kinds = {field.name: _TYPES.get(field.field_type, field.field_type) for field in there.schema}
    return {f.name: f"ARRAY<{kinds[f.name]}>" if f.mode == "REPEATED" else kinds[f.name] for f in there.schema}


def merged(there: "api.Table", table: Table) -> "list[api.SchemaField]":
    """Return the columns of a table, and those of ours that it lacks, because a load that leaves one out is refused."""
    named = {field.name.lower() for field in there.schema}
    return [*there.schema, *(field for field in schema(table) if field.name.lower() not in named)]


def differences(there: "api.Table", table: Table) -> list[str]:
    """Return what keeps a table from taking rows, in words; a column more or less does not, unless it must have a
    value.

    One column more and one less of the same type are taken for a column that somebody has renamed.
    """
    found: list[str] = []
    lacking: dict[str, str] = {}
    columns = {field.name.lower(): field for field in there.schema}
    for name, kind in table.columns.items():
        field = columns.pop(name.lower(), None)
        if field is None:
            lacking[name] = kind
            continue
        its = _TYPES.get(field.field_type, field.field_type)
        if (its, field.mode) != (kind, "NULLABLE"):
            found.append(f"column {name} is {its} {field.mode} and should be {kind} NULLABLE")
    for field in columns.values():
        if field.mode == "REQUIRED":
            found.append(f"column {field.name} is REQUIRED, but no row has it")
    extra = {field.name: _TYPES.get(field.field_type, field.field_type) for field in columns.values()}
    for name, kind in lacking.items():
        if alike := [other for other, its in extra.items() if its == kind]:
            found.append(f"column {name} {kind} is missing, as if it had been renamed to {' or '.join(alike)}")
    if there.table_type not in (None, "TABLE"):
        found.append(f"it is a {there.table_type} and should be a table")
    days = there.time_partitioning
    if table.by != "date":
        if days:
            found.append(f"it is partitioned by {days.type_} of {days.field or 'loading'} and should not be")
    elif days is None or (days.type_, days.field) != ("DAY", "date"):
        its = f"by {days.type_} of {days.field or 'loading'}" if days else "not by day"
        found.append(f"it is partitioned {its} and should be by DAY of date")
    return [f"table {there.project}.{there.dataset_id}.{there.table_id}: {each}" for each in found]


def check_stays(there: "api.Table", date: datetime.date) -> None:
    """Raise SchemaError if rows of that day would vanish with the job that loads them."""
    kept = datetime.timedelta(milliseconds=there.time_partitioning.expiration_ms or 0)
    begin = datetime.datetime.combine(date, datetime.time(), datetime.UTC)
    if kept and begin + kept <= datetime.datetime.now(datetime.UTC):
        name = f"{there.project}.{there.dataset_id}.{there.table_id}"
        raise SchemaError(
            f"table {name} drops each day {kept / datetime.timedelta(days=1):g} days after its begin (its partition "
            f"expiration), so that it can't hold {date}; ask for later days, or run in BigQuery "
            f"`ALTER TABLE {name} SET OPTIONS (partition_expiration_days = NULL)`"
        )

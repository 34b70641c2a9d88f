"""The local BigQuery's INFORMATION_SCHEMA: views over a dataset's tables."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from localcloud.bigquery_errors import unsupported
from localcloud.bigquery_fields import Field, fields_of, table_bytes
from localcloud.bigquery_tables import Name, Source, Table

PREFIX = "INFORMATION_SCHEMA."
_SQL_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
_UTC = datetime.UTC


def sql_type(field: Field) -> str:
    """Return a field's type as GoogleSQL writes it."""
    kind = _SQL_NAMES.get(field["type"]) or str(field["type"])
    if kind == "RECORD":
        inner = ", ".join(f"`{each['name']}` {sql_type(each)}" for each in field["fields"])
        kind = f"STRUCT<{inner}>"
    return f"ARRAY<{kind}>" if field["mode"] == "REPEATED" else kind


def information(view: str, tables: Sequence[Table]) -> Source:
    """Return a view of INFORMATION_SCHEMA over a dataset's tables. Raises ApiError for one that is not supported."""
    makers = {"PARTITIONS": _partitions, "TABLES": _tables, "COLUMNS": _columns}
    if view.removeprefix(PREFIX) not in makers:
        raise unsupported(view)
    rows = makers[view.removeprefix(PREFIX)](tables)
    return Source(rows, fields_of(rows.schema), is_view=True)


def is_information(name: Name) -> bool:
    """Return whether a table is a view of INFORMATION_SCHEMA."""
    return name.table.startswith(PREFIX)


_TIME = pa.timestamp("us", "UTC")


def _rows(schema: Mapping[str, pa.DataType], rows: Iterable[Sequence[Any]]) -> pa.Table:
    """Return rows with the table's catalog, schema and name before them, as in every view."""
    whole = pa.schema({"table_catalog": pa.string(), "table_schema": pa.string(), "table_name": pa.string(), **schema})
    return pa.Table.from_pylist([dict(zip(whole.names, row, strict=True)) for row in rows], whole)


def _key(table: Table) -> tuple[str, str, str]:
    return table.name.project, table.name.dataset, table.name.table


def _at(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, _UTC)


def _partitions(tables: Sequence[Table]) -> pa.Table:
    schema = {
        "partition_id": pa.string(),
        "total_rows": pa.int64(),
        "total_logical_bytes": pa.int64(),
        "last_modified_time": _TIME,
        "storage_tier": pa.string(),
    }
    return _rows(
        schema,
        (
            (
                *_key(table),
                day or None,
                rows.num_rows,
                sum(table_bytes(rows).values()),
                _at(table.written.get(day, table.created)),
                "ACTIVE",
            )
            for table in tables
            if not table.is_view
            for day, rows in table.partitions().items()
        ),
    )


def _tables(tables: Sequence[Table]) -> pa.Table:
    schema = {"table_type": pa.string(), "creation_time": _TIME}
    return _rows(
        schema, ((*_key(t), "BASE TABLE" if not t.is_view else t.about["type"], _at(t.created)) for t in tables)
    )


def _columns(tables: Sequence[Table]) -> pa.Table:
    schema = {
        "column_name": pa.string(),
        "ordinal_position": pa.int64(),
        "is_nullable": pa.string(),
        "data_type": pa.string(),
        "is_partitioning_column": pa.string(),
        "clustering_ordinal_position": pa.int64(),
    }

    def row(table: Table, position: int, field: Field) -> Sequence[Any]:
        name = field["name"]
        clustered = (table.about.get("clustering") or {}).get("fields", [])
        return (
            *_key(table),
            name,
            position,
            "NO" if field["mode"] == "REQUIRED" else "YES",
            sql_type(field),
            "YES" if name == table.day_field else "NO",
            clustered.index(name) + 1 if name in clustered else None,
        )

    return _rows(schema, (row(t, at, f) for t in tables for at, f in enumerate(t.fields, 1)))

"""Running a translated query on DuckDB."""

import datetime
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

import duckdb
from sqlglot import exp

from bigquery_sql import macros
from bigquery_sql.build import call, cast, text, unsupported
from bigquery_sql.errors import DuplicateError, SqlError
from bigquery_sql.translate import Translator

if TYPE_CHECKING:
    import pyarrow as pa

#: DuckDB's types that GoogleSQL has too; the others of a result become one of them or are refused.
_TYPES = {
    "BIGINT",
    "DOUBLE",
    "VARCHAR",
    "BOOLEAN",
    "BLOB",
    "DATE",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMP WITH TIME ZONE",
    "JSON",
}
#: Types that DuckDB has not: a struct with one field, which holds text.
_HELD = {"JSON": "json$", "BIGNUMERIC": "bignumeric$"}
_WIDER = {
    "INTEGER": "BIGINT",
    "SMALLINT": "BIGINT",
    "TINYINT": "BIGINT",
    "UINTEGER": "BIGINT",
    "USMALLINT": "BIGINT",
    "UTINYINT": "BIGINT",
    "HUGEINT": "BIGINT",
    "UBIGINT": "BIGINT",
    "FLOAT": "DOUBLE",
    '"NULL"': "BIGINT",
    "NULL": "BIGINT",
    "TIMESTAMP_S": "TIMESTAMP",
    "TIMESTAMP_MS": "TIMESTAMP",
    "TIMESTAMP_NS": "TIMESTAMP",
}


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Set up a connection so that nothing depends on the machine: the zone is UTC."""
    connection.execute("SET TimeZone = 'UTC'")


def translate(
    connection: duckdb.DuckDBPyConnection, tree: exp.Query, parameters: Mapping[str, exp.Expr] | None = None
) -> str:
    """Return a query in DuckDB's words, with what it needs made on the connection. Raises SqlError.

    parameters: name, in lower case, → an expression, as `literal` gives it.
    """
    translated = Translator(parameters or {}).query(tree.copy())
    sql = str(translated.sql(dialect="duckdb", identify=True, comments=False))
    try:
        macros.provide(connection, sql)
    except duckdb.Error as error:
        raise SqlError(told(error)) from None
    return sql


def fetch(
    connection: duckdb.DuckDBPyConnection, sql: str, *, only_types: bool = False, wide: bool = False
) -> tuple["pa.Table", list[str]]:
    """Return the rows that a translated query gives, and for each column DuckDB's type, or JSON, or BIGNUMERIC.

    connection: prepared, with the tables that the query reads. only_types: no rows. wide: a BIGNUMERIC is given, as its
    text. Raises SqlError.
    """
    try:
        relation = connection.sql(sql)
        names = list(relation.columns)
        if len({name.lower() for name in names}) < len(names):
            raise DuplicateError(names)
        kinds = [_known(str(kind), name) for kind, name in zip(relation.types, names, strict=True)]
        if not wide and any(kind.startswith("BIGNUMERIC") for kind in kinds):
            raise unsupported("a result of the type BIGNUMERIC")
        plain = [_column(name, str(was), kind) for name, was, kind in zip(names, relation.types, kinds, strict=True)]
        relation = relation.project(", ".join(plain))
        table = (relation.limit(0) if only_types else relation).to_arrow_table()
    except duckdb.Error as error:
        raise SqlError(told(error)) from None
    for name, column in zip(table.column_names, table.columns, strict=True):
        _check_items(name, column)
    return table, kinds


def _column(name: str, was: str, kind: str) -> str:
    """Return a column of a result as a type that GoogleSQL has."""
    quoted = '"' + name.replace('"', '""') + '"'
    if kind.removesuffix("[]") in _HELD:
        inside = _HELD[kind.removesuffix("[]")]
        if kind.endswith("[]"):
            return f"list_transform({quoted}, lambda j: j['{inside}']) AS {quoted}"
        return f"{quoted}['{inside}'] AS {quoted}"
    return quoted if was == kind else f"CAST({quoted} AS {kind}) AS {quoted}"


def _known(kind: str, name: str) -> str:
    """Return a type that GoogleSQL has, as wide as another. Raises SqlError for one that it has not."""
    if kind.endswith("[]"):
        if kind.endswith("[][]"):
            raise SqlError(f"column {name} is an array of arrays, which BigQuery does not have")
        return _known(kind[:-2], name) + "[]"
    for held, inside in _HELD.items():
        if kind == f'STRUCT("{inside}" VARCHAR)':
            return held
    if kind.startswith("STRUCT("):
        built = exp.DataType.build(kind, dialect="duckdb")
        inner = ", ".join(
            '"' + each.name.replace('"', '""') + '" ' + _known(each.args["kind"].sql("duckdb"), name)
            for each in built.expressions
        )
        return f"STRUCT({inner})"
    if kind.startswith("DECIMAL("):
        return "DECIMAL(38,9)"
    kind = {"TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE", "TEXT": "VARCHAR", "INT": "INTEGER", "REAL": "FLOAT"}.get(
        kind, kind
    )
    if kind not in _TYPES and kind not in _WIDER:
        raise unsupported(f"a result of the type {kind} (column {name})")
    return _WIDER.get(kind, kind)


def _check_items(name: str, column: "pa.ChunkedArray") -> None:
    import pyarrow as pa

    # Flattening loads pyarrow.compute, which takes longer than a small query.
    holes = [chunk for chunk in column.chunks if pa.types.is_list(column.type) and chunk.values.null_count]
    if any(chunk.flatten().null_count for chunk in holes):
        raise SqlError(f"Array cannot have a null element; error in writing field {name}")


def told(error: duckdb.Error) -> str:
    """Return what DuckDB says of an error, in GoogleSQL's words where a macro raised it."""
    whole = str(error).strip()
    if ours := re.search(r"string 'bq: (.*)' to INT64", whole, re.DOTALL):
        return ours[1]
    if raised := re.search(r"executing the UDF: \w+: (.*)", whole):
        return raised[1].splitlines()[0]
    first = whole.splitlines()[0]
    if column := re.search(r'Referenced column "([^"]+)" not found', first):
        return f"Unrecognized name: {column[1]}"
    if macro := re.search(r"Macro (?:bq_)?(\w+?)_?\(\) does not support the supplied arguments", first):
        return f"no matching signature for {macro[1].upper()} with arguments of these types"
    return first


def literal(value: object) -> exp.Expr | None:
    """Return a value of Python's as an expression of the type that it has in BigQuery; None for one that has none."""
    kinds: list[tuple[type, str]] = [
        (bool, "BOOLEAN"),
        (int, "BIGINT"),
        (float, "DOUBLE"),
        (str, "VARCHAR"),
        (Decimal, "DECIMAL(38,9)"),
        (datetime.datetime, "TIMESTAMPTZ"),
        (datetime.date, "DATE"),
        (datetime.time, "TIME"),
    ]
    if isinstance(value, bytes):
        return call("unhex", text(value.hex()))
    for kind, name in kinds:
        if isinstance(value, kind):
            shown = str(value)
            if isinstance(value, datetime.datetime) and value.tzinfo is None:
                shown += "+00"
            return cast(text(shown), name)
    return None

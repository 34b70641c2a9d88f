"""Statements of GoogleSQL for the local BigQuery: what they read and write. bigquery_sql runs their queries."""

import datetime
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import sqlglot
from sqlglot import exp

import bigquery_sql
from localcloud.bigquery_tables import ApiError, Field, Name, Table, conform, fields_of, table_bytes, unsupported

_MB = 1 << 20
_INFORMATION = "INFORMATION_SCHEMA."
_SQL_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
_T = exp.DataType.Type
#: Types of DuckDB's by the names of the API.
_NAMES = {
    _T.BIGINT: "INTEGER",
    _T.DOUBLE: "FLOAT",
    _T.DECIMAL: "NUMERIC",
    _T.TEXT: "STRING",
    _T.VARCHAR: "STRING",
    _T.BOOLEAN: "BOOLEAN",
    _T.VARBINARY: "BYTES",
    _T.BINARY: "BYTES",
    _T.DATE: "DATE",
    _T.TIME: "TIME",
    _T.TIMESTAMP: "DATETIME",
    _T.TIMESTAMPNTZ: "DATETIME",
    _T.TIMESTAMPTZ: "TIMESTAMP",
}
_SCALARS = "STRING INT64 FLOAT64 NUMERIC BOOL BYTES DATE DATETIME TIME TIMESTAMP INTEGER FLOAT BOOLEAN".split()
_UTC = datetime.UTC


@dataclass
class Source:
    """A table as a query reads it."""

    rows: pa.Table
    fields: list[Field]
    is_view: bool = False


@dataclass
class Statement:
    """A statement that was understood. kind: SELECT, CREATE_TABLE_AS_SELECT, DELETE or MERGE.

    select: what to run for it. target: the table that is written. names: the tables that are read, t0, t1 … in
    `select`. replaces: OR REPLACE. deletion: what a MERGE deletes, before it inserts what `select` gives.
    """

    kind: str
    select: exp.Query
    names: list[Name]
    target: Name | None = None
    replaces: bool = False
    deletion: "Statement | None" = None

    def bytes_processed(self, sources: Sequence[Source]) -> list[int]:
        """Return the bytes that the statement reads, by table: those of the columns that it names; 10 MB for a view."""
        columns = {column.name.lower() for column in self.select.find_all(exp.Column)}
        whole = any(
            star.parent is None or star.parent.name.upper() != "COUNT" for star in self.select.find_all(exp.Star)
        )
        return [
            10 * _MB
            if source.is_view
            else sum(size for name, size in table_bytes(source.rows).items() if whole or name.lower() in columns)
            for source in sources
        ]

    def run(self, sources: Sequence[Source], *, only_types: bool = False) -> tuple[pa.Table, list[Field]]:
        """Return the rows that the statement gives, with their fields; only_types: no rows. Raises ApiError."""
        settings: dict[str, str | bool | int | float | list[str]] = {"python_enable_replacements": False, "threads": 1}
        with duckdb.connect(":memory:", config=settings) as connection:
            bigquery_sql.prepare(connection)
            for at, source in enumerate(sources):
                connection.register(f"t{at}", source.rows)
            connection.execute("SET enable_external_access = false")
            try:
                translated = bigquery_sql.translate(connection, self.select)
                found, kinds = bigquery_sql.fetch(connection, translated, only_types=only_types)
            except bigquery_sql.UnsupportedError as error:
                raise ApiError("notImplemented", str(error)) from None
            except bigquery_sql.SqlError as error:
                raise ApiError("invalidQuery", str(error)) from None
        fields = [_field(name, kind) for name, kind in zip(found.column_names, kinds, strict=True)]
        return conform(found, fields), fields


def bytes_billed(processed: Iterable[int]) -> int:
    """Return the bytes that are paid for, given those read by table: whole MB, and at least 10 MB a table."""
    return sum(max(10 * _MB, -(-size // _MB) * _MB) for size in processed)


def parse(sql: str, config: Mapping[str, Any], project: str) -> Statement:
    """Return a statement as it is understood. Raises ApiError.

    config: of the query job, for its parameters and default dataset.
    """
    if config.get("useLegacySql", True):
        raise unsupported("legacy SQL")
    parameters = config.get("queryParameters", [])
    if config.get("parameterMode") == "POSITIONAL":
        sql = _numbered(sql)
        parameters = [{**each, "name": f"positional_{at}"} for at, each in enumerate(parameters)]
    try:
        trees = bigquery_sql.parse(sql)
    except bigquery_sql.SqlError as error:
        raise ApiError("invalidQuery", str(error)) from None
    if len(trees) != 1:
        raise unsupported("a script of several statements") if trees else ApiError("invalidQuery", "Syntax error")
    statement = _understood(trees[0], config.get("defaultDataset"), project, config.get("tableDefinitions", {}))
    for each in [statement, statement.deletion]:
        if each:
            _set_parameters(each.select, {parameter["name"].lower(): parameter for parameter in parameters})
    return statement


def _understood(
    tree: exp.Expr, default: Mapping[str, str] | None, project: str, definitions: Collection[str]
) -> Statement:
    """Return what a statement does. definitions: the tables of files that the job defines for itself."""
    deletion: Statement | None = None
    if isinstance(tree, exp.Query):
        kind, select, target = "SELECT", tree, None
    elif isinstance(tree, exp.Create) and tree.kind == "TABLE" and isinstance(tree.expression, exp.Query):
        if tree.args.get("properties") or tree.args.get("exists") or isinstance(tree.this, exp.Schema):
            raise unsupported("CREATE TABLE AS with anything but a query")
        kind, select, target = "CREATE_TABLE_AS_SELECT", tree.expression, _name(tree.this, default, project)
    elif isinstance(tree, exp.Delete):
        where = tree.args.get("where")
        if where is None:
            raise ApiError("invalidQuery", "DELETE must have a WHERE clause")
        kind, target = "DELETE", _name(tree.this, default, project)
        stays = exp.not_(exp.Anonymous(this="COALESCE", expressions=[where.this.copy(), exp.false()]))
        select = exp.select("*").from_(tree.this.copy()).where(stays)
    elif isinstance(tree, exp.Merge):
        kind, target = "MERGE", _name(tree.this, default, project)
        gone, select = _merged(tree)
        deletion = _understood(gone, default, project, definitions)
    else:
        raise unsupported(f"the statement {tree.key.upper()}")
    select = select.copy()
    defined = {cte.alias_or_name for cte in select.find_all(exp.CTE)}
    names: list[Name] = []
    for table in list(select.find_all(exp.Table)):
        if not table.name or (len(table.parts) == 1 and table.name in defined and not _in_own_definition(table)):
            continue
        own = len(table.parts) == 1 and table.name in definitions
        name = Name("", "", table.name) if own else _name(table, default, project)
        if name not in names:
            names.append(name)
        if not table.alias:
            table.set("alias", exp.TableAlias(this=exp.to_identifier(name.table.split(".")[-1])))
        table.set("this", exp.to_identifier(f"t{names.index(name)}"))
        table.set("db", None)
        table.set("catalog", None)
    return Statement(kind, select, names, target, replaces=bool(tree.args.get("replace")), deletion=deletion)


def _merged(tree: exp.Merge) -> tuple[exp.Delete, exp.Select]:
    """Return what a MERGE whose condition never holds deletes, and the rows that it inserts, which are all of its
    source's. Raises ApiError for any other MERGE.
    """
    whens = {bool(when.args.get("source")): when for when in tree.args["whens"].expressions}
    gone, new = whens.get(True), whens.get(False)
    never = tree.args["on"] == exp.false() and not any(when.args.get("matched") for when in whens.values())
    two = len(whens) == len(tree.args["whens"].expressions) == 2
    if not (never and two) or not gone or gone.args["then"].name != "DELETE" or gone.args.get("condition") is None:
        raise unsupported("MERGE other than ON FALSE, with NOT MATCHED BY SOURCE AND … DELETE and NOT MATCHED … INSERT")
    insert = new.args["then"] if new and not new.args.get("condition") else None
    if not isinstance(insert, exp.Insert) or not isinstance(insert.expression, exp.Tuple):
        raise unsupported("MERGE with anything but INSERT (columns) VALUES (values)")
    values = [
        exp.alias_(value.copy(), column.name, quoted=True)
        for column, value in zip(insert.this.expressions, insert.expression.expressions, strict=True)
    ]
    deletion = exp.Delete(this=tree.this.copy(), where=exp.Where(this=gone.args["condition"].copy()))
    return deletion, exp.select(*values).from_(tree.args["using"].copy())


def _in_own_definition(table: exp.Table) -> bool:
    """Return whether a table stands in the query that WITH gives its name to, and so means the stored table."""
    clause = table.find_ancestor(exp.CTE)
    while clause and clause.alias_or_name != table.name:
        clause = clause.find_ancestor(exp.CTE)
    return clause is not None and not (clause.parent and clause.parent.args.get("recursive"))


def _name(table: exp.Expr, default: Mapping[str, str] | None, project: str) -> Name:
    """Return the table that a name in SQL means; a view of INFORMATION_SCHEMA is a table INFORMATION_SCHEMA.X."""
    if not isinstance(table, exp.Table):
        raise unsupported(f"{table.sql('bigquery')} as a table")
    spelled = ".".join(part.name for part in table.parts)
    before, view = re.fullmatch(rf"(?i)(.*?)({re.escape(_INFORMATION)}.*)?", spelled).groups()  # type: ignore[union-attr]
    parts = [part for part in before.split(".") if part] + ([view.upper()] if view else [])
    if len(parts) == 1 and default is None:
        message = f'Table "{spelled}" must be qualified with a dataset (e.g. dataset.table).'
        raise ApiError("invalidQuery", message)
    if not 1 <= len(parts) <= 3 or "$" in spelled:
        raise ApiError("invalidQuery", f"Invalid table name: `{spelled}`")
    if len(parts) == 1 and default:
        parts = [default.get("projectId", project), default["datasetId"], *parts]
    if len(parts) == 2:
        parts = [project, *parts]
    return Name(*parts)


def _numbered(sql: str) -> str:
    """Return the statement with names in place of question marks."""
    pieces, end, count = [], 0, 0
    try:
        tokens = sqlglot.tokenize(sql, read="bigquery")
    except sqlglot.errors.SqlglotError as error:
        raise ApiError("invalidQuery", f"Syntax error: {_syntax(error)}") from None
    for token in tokens:
        if token.token_type == sqlglot.TokenType.PLACEHOLDER:
            pieces += [sql[end : token.start], f"@positional_{count}"]
            end, count = token.end + 1, count + 1
    return "".join([*pieces, sql[end:]])


def _set_parameters(select: exp.Query, parameters: Mapping[str, Mapping[str, Any]]) -> None:
    for node in list(select.find_all(exp.Parameter, exp.Placeholder)):
        if node.name.lower() not in parameters:
            raise ApiError("invalidQuery", f"Query parameter '{node.name}' not found")
        given = parameters[node.name.lower()]
        node.replace(_literal(given["parameterType"], given.get("parameterValue") or {}))


def _literal(kind: Mapping[str, Any], value: Mapping[str, Any]) -> exp.Expr:
    """Return a parameter as an expression of its type."""
    if kind["type"] == "ARRAY":
        items = [_literal(kind["arrayType"], item) for item in value.get("arrayValues", [])]
        return exp.cast(exp.Array(expressions=items), f"ARRAY<{kind['arrayType']['type']}>", dialect="bigquery")
    if kind["type"] not in _SCALARS:
        raise unsupported(f"query parameters of the type {kind['type']}")
    text = value.get("value")
    if text is None:
        return exp.cast(exp.null(), kind["type"], dialect="bigquery")
    if kind["type"] == "BYTES":
        return exp.Anonymous(this="FROM_BASE64", expressions=[exp.Literal.string(text)])
    return exp.cast(exp.Literal.string(str(text)), kind["type"], dialect="bigquery")


def _field(name: str, kind: str) -> Field:
    """Return a field of a type of DuckDB's."""
    return _field_of(name, exp.DataType.build("TEXT" if kind.startswith("JSON") else kind, dialect="duckdb"), kind)


def _field_of(name: str, kind: exp.DataType, spelled: str) -> Field:
    if spelled in ("JSON", "JSON[]"):
        return {"name": name, "type": "JSON", "mode": "REPEATED" if spelled.endswith("]") else "NULLABLE"}
    if kind.this in (exp.DataType.Type.ARRAY, exp.DataType.Type.LIST):
        return {**_field_of(name, kind.expressions[0], ""), "mode": "REPEATED"}
    if kind.this == exp.DataType.Type.STRUCT:
        inner = [_field_of(each.name, each.args["kind"], "") for each in kind.expressions]
        return {"name": name, "type": "RECORD", "mode": "NULLABLE", "fields": inner}
    return {"name": name, "type": _NAMES[kind.this], "mode": "NULLABLE"}


def _sql_type(field: Field) -> str:
    kind = _SQL_NAMES.get(field["type"]) or str(field["type"])
    if kind == "RECORD":
        inner = ", ".join(f"`{each['name']}` {_sql_type(each)}" for each in field["fields"])
        kind = f"STRUCT<{inner}>"
    return f"ARRAY<{kind}>" if field["mode"] == "REPEATED" else kind


def _syntax(error: sqlglot.errors.SqlglotError) -> str:
    details = getattr(error, "errors", None)
    if not details:
        return str(error).splitlines()[0]
    return f"{details[0]['description']} at [{details[0]['line']}:{details[0]['col']}]"


def information(view: str, tables: Sequence[Table]) -> Source:
    """Return a view of INFORMATION_SCHEMA over a dataset's tables. Raises ApiError for one that is not supported."""
    makers = {"PARTITIONS": _partitions, "TABLES": _tables, "COLUMNS": _columns}
    if view.removeprefix(_INFORMATION) not in makers:
        raise unsupported(view)
    rows = makers[view.removeprefix(_INFORMATION)](tables)
    return Source(rows, fields_of(rows.schema), is_view=True)


def is_information(name: Name) -> bool:
    """Return whether a table is a view of INFORMATION_SCHEMA."""
    return name.table.startswith(_INFORMATION)


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
            _sql_type(field),
            "YES" if name == table.day_field else "NO",
            clustered.index(name) + 1 if name in clustered else None,
        )

    return _rows(schema, (row(t, at, f) for t in tables for at, f in enumerate(t.fields, 1)))

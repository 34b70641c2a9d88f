"""GoogleSQL on DuckDB: sqlglot translates a statement and tells the types of what it gives, DuckDB runs it.

A TIMESTAMP is a time without a zone in DuckDB, and means UTC.
"""

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import sqlglot
from sqlglot import exp
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify

from cloud.bigquery_tables import ApiError, Field, Name, Table, conform, fields_of, normal, table_bytes, unsupported

_MB = 1 << 20
_INFORMATION = "INFORMATION_SCHEMA."
_SQL_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
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
    """A statement that was understood. kind: SELECT, CREATE_TABLE_AS_SELECT or DELETE; select: what to run for it.

    target: the table that is written. names: the tables that are read, t0, t1 … in `select`. replaces: OR REPLACE.
    """

    kind: str
    select: exp.Query
    names: list[Name]
    target: Name | None = None
    replaces: bool = False

    def bytes_processed(self, sources: Sequence[Source]) -> list[int]:
        """Bytes that the statement reads, by table: those of the columns that it names; 10 MB for a view."""
        columns = {column.name.lower() for column in self.select.find_all(exp.Column)}
        whole = any(not isinstance(star.parent, exp.Count) for star in self.select.find_all(exp.Star))
        return [
            10 * _MB
            if source.is_view
            else sum(size for name, size in table_bytes(source.rows).items() if whole or name.lower() in columns)
            for source in sources
        ]

    def run(self, sources: Sequence[Source], *, only_types: bool = False) -> tuple[pa.Table, list[Field]]:
        """The rows that it gives, with their fields; only_types: no rows. Raises ApiError."""
        select = _for_duckdb(self.select.copy()).sql(dialect="duckdb")
        settings: dict[str, str | bool | int | float | list[str]] = {"python_enable_replacements": False, "threads": 1}
        try:
            with duckdb.connect(":memory:", config=settings) as connection:
                for at, source in enumerate(sources):
                    connection.register(f"t{at}", _zoneless(source.rows))
                connection.execute("SET enable_external_access = false")
                relation = connection.sql(select)
                names = [name.lower() for name in relation.columns]
                found = (relation.limit(0) if only_types else relation).to_arrow_table()
        except duckdb.Error as error:
            raise ApiError("invalidQuery", _told(error)) from None
        for name in names:
            if names.count(name) > 1:
                message = f"Duplicate column names in the result are not supported. Found duplicate(s): {name}"
                raise ApiError("invalidQuery", message)
        fields = _fields(self.select, sources, found.schema)
        return conform(found, fields), fields


def bytes_billed(processed: Iterable[int]) -> int:
    """Bytes that are paid for, given those read by table: whole MB, and at least 10 MB a table."""
    return sum(max(10 * _MB, -(-size // _MB) * _MB) for size in processed)


def parse(sql: str, config: Mapping[str, Any], project: str) -> Statement:
    """Understands a statement. config: of the query job, for its parameters and default dataset. Raises ApiError."""
    if config.get("useLegacySql", True):
        raise unsupported("legacy SQL")
    parameters = config.get("queryParameters", [])
    if config.get("parameterMode") == "POSITIONAL":
        sql = _numbered(sql)
        parameters = [{**each, "name": f"positional_{at}"} for at, each in enumerate(parameters)]
    try:
        trees = [tree for tree in sqlglot.parse(sql, read="bigquery") if tree is not None]
    except sqlglot.errors.SqlglotError as error:
        raise ApiError("invalidQuery", f"Syntax error: {_syntax(error)}") from None
    if len(trees) != 1:
        raise unsupported("a script of several statements") if trees else ApiError("invalidQuery", "Syntax error")
    statement = _understood(trees[0], config.get("defaultDataset"), project)
    _set_parameters(statement.select, {each["name"].lower(): each for each in parameters})
    return statement


def _understood(tree: exp.Expr, default: Mapping[str, str] | None, project: str) -> Statement:
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
        stays = exp.not_(exp.Coalesce(this=where.this.copy(), expressions=[exp.false()]))
        select = exp.select("*").from_(tree.this.copy()).where(stays)
    else:
        raise unsupported(f"the statement {tree.key.upper()}")
    select = select.copy()
    _name_columns(select)
    defined = {cte.alias_or_name for cte in select.find_all(exp.CTE)}
    names: list[Name] = []
    for table in list(select.find_all(exp.Table)):
        if not table.name or (len(table.parts) == 1 and table.name in defined and not _in_own_definition(table)):
            continue
        name = _name(table, default, project)
        if name not in names:
            names.append(name)
        if not table.alias:
            table.set("alias", exp.TableAlias(this=exp.to_identifier(name.table.split(".")[-1])))
        table.set("this", exp.to_identifier(f"t{names.index(name)}"))
        table.set("db", None)
        table.set("catalog", None)
    return Statement(kind, select, names, target, replaces=bool(tree.args.get("replace")))


def _in_own_definition(table: exp.Table) -> bool:
    """Whether it stands in the WITH clause that gives its name to something else, and so means the table."""
    clause = table.find_ancestor(exp.CTE)
    while clause and clause.alias_or_name != table.name:
        clause = clause.find_ancestor(exp.CTE)
    return clause is not None and not (clause.parent and clause.parent.args.get("recursive"))


def _name(table: exp.Expr, default: Mapping[str, str] | None, project: str) -> Name:
    """The table that a name in SQL means; a view of INFORMATION_SCHEMA is a table INFORMATION_SCHEMA.X."""
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


def _name_columns(select: exp.Query) -> None:
    """What has no name is called f0_, f1_ …"""
    unnamed = 0
    for column in list(select.selects):
        if not isinstance(column, exp.Alias | exp.Column | exp.Dot | exp.Star):
            column.replace(exp.alias_(column.copy(), f"f{unnamed}_"))
            unnamed += 1


def _numbered(sql: str) -> str:
    """Names instead of question marks."""
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
    """A parameter as an expression of its type."""
    if kind["type"] == "ARRAY":
        items = [_literal(kind["arrayType"], item) for item in value.get("arrayValues", [])]
        return exp.cast(exp.Array(expressions=items), f"ARRAY<{kind['arrayType']['type']}>", dialect="bigquery")
    if kind["type"] not in _SCALARS:
        raise unsupported(f"query parameters of the type {kind['type']}")
    text = value.get("value")
    if text is None:
        return exp.cast(exp.null(), kind["type"], dialect="bigquery")
    if kind["type"] == "BYTES":
        return exp.FromBase64(this=exp.Literal.string(text))
    return exp.cast(exp.Literal.string(str(text)), kind["type"], dialect="bigquery")


def _for_duckdb(select: exp.Query) -> exp.Query:
    for kind in list(select.find_all(exp.DataType)):
        if kind.this in (exp.DataType.Type.TIMESTAMPTZ, exp.DataType.Type.TIMESTAMPLTZ):
            kind.replace(exp.DataType.build("TIMESTAMP", dialect="duckdb"))
        elif kind.this == exp.DataType.Type.DECIMAL and not kind.expressions:
            kind.replace(exp.DataType.build("DECIMAL(38, 9)", dialect="duckdb"))
    for division in reversed(list(select.find_all(exp.Div))):
        # DuckDB gives NULL or infinity, BigQuery an error.
        by_zero = exp.EQ(this=division.expression.copy(), expression=exp.Literal.number(0))
        error = exp.func("error", exp.Literal.string("division by zero"))
        division.replace(exp.Case().when(by_zero, error).else_(division.copy()))
    # From the inside out: a replaced expression holds the old one.
    for node in reversed(list(select.find_all(exp.DateAdd, exp.DateSub, exp.CurrentTimestamp, exp.CurrentDate))):
        if isinstance(node, exp.DateAdd | exp.DateSub):
            node.replace(exp.cast(node.copy(), "DATE"))
        else:
            now = datetime.datetime.now(_UTC).replace(tzinfo=None)
            stamp = isinstance(node, exp.CurrentTimestamp)
            text = str(now if stamp else now.date())
            node.replace(exp.cast(exp.Literal.string(text), "TIMESTAMP" if stamp else "DATE", dialect="duckdb"))
    return select


def _zoneless(rows: pa.Table) -> pa.Table:
    return rows.cast(pa.schema([pa.field(each.name, _without_zone(each.type)) for each in rows.schema]))


def _without_zone(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us")
    if pa.types.is_list(kind):
        return pa.list_(_without_zone(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(each.name, _without_zone(each.type)) for each in kind])
    return kind


def _fields(select: exp.Query, sources: Sequence[Source], found: pa.Schema) -> list[Field]:
    """The fields of a result: BigQuery's types as sqlglot derives them, or DuckDB's where it can't tell."""
    schema: dict[str, object] = {
        f"t{at}": {f["name"]: _sql_type(f) for f in source.fields} for at, source in enumerate(sources)
    }
    try:
        typed = annotate_types(qualify(select.copy(), schema=schema, dialect="bigquery"), schema, dialect="bigquery")
        kinds = [column.type for column in typed.selects]
    except sqlglot.errors.SqlglotError:
        kinds = []
    if len(kinds) != len(found):
        kinds = [None] * len(found)
    return [
        _field(column.name, kind) or fields_of(pa.schema([column]))[0]
        for column, kind in zip(found, kinds, strict=True)
    ]


def _field(name: str, kind: Any) -> Field | None:
    """A field of a type of sqlglot's; None for one that says nothing."""
    if kind is None or kind.this in (exp.DataType.Type.UNKNOWN, exp.DataType.Type.NULL):
        return None
    if kind.this == exp.DataType.Type.ARRAY:
        item = _field(name, kind.expressions[0]) if kind.expressions else None
        return item and {**item, "mode": "REPEATED"}
    if kind.this == exp.DataType.Type.STRUCT:
        inner = [_field(each.name, each.args.get("kind")) for each in kind.expressions]
        whole = [each for each in inner if each]
        return {"name": name, "type": "RECORD", "mode": "NULLABLE", "fields": whole} if whole == inner else None
    return normal([{"name": name, "type": re.sub(r"\(.*", "", kind.sql("bigquery"))}])[0]


def _sql_type(field: Field) -> str:
    kind = _SQL_NAMES.get(field["type"]) or str(field["type"])
    if kind == "RECORD":
        inner = ", ".join(f"`{each['name']}` {_sql_type(each)}" for each in field["fields"])
        kind = f"STRUCT<{inner}>"
    return f"ARRAY<{kind}>" if field["mode"] == "REPEATED" else kind


def _told(error: duckdb.Error) -> str:
    first = str(error).strip().splitlines()[0]
    column = re.search(r'Referenced column "([^"]+)" not found', first)
    return f"Unrecognized name: {column[1]}" if column else first


def _syntax(error: sqlglot.errors.SqlglotError) -> str:
    details = getattr(error, "errors", None)
    if not details:
        return str(error).splitlines()[0]
    return f"{details[0]['description']} at [{details[0]['line']}:{details[0]['col']}]"


def information(view: str, tables: Sequence[Table]) -> Source:
    """A view of INFORMATION_SCHEMA over a dataset's tables. Raises ApiError for one that is not supported."""
    makers = {"PARTITIONS": _partitions, "TABLES": _tables, "COLUMNS": _columns}
    if view.removeprefix(_INFORMATION) not in makers:
        raise unsupported(view)
    rows = makers[view.removeprefix(_INFORMATION)](tables)
    return Source(rows, fields_of(rows.schema), is_view=True)


def is_information(name: Name) -> bool:
    """Whether a table is a view of INFORMATION_SCHEMA."""
    return name.table.startswith(_INFORMATION)


_TIME = pa.timestamp("us", "UTC")


def _rows(schema: Mapping[str, pa.DataType], rows: Iterable[Sequence[Any]]) -> pa.Table:
    """Rows that begin with the table's catalog, schema and name, as those of every view do."""
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

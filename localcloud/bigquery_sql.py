"""Statements of GoogleSQL for the local BigQuery: what they read, and what they do to their target.

Every statement comes down to queries, which bigquery_sql runs: a MERGE, say, to one for each of its clauses, which
gives the numbers of the target's rows and their new values.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa
from sqlglot import exp

import bigquery_sql
from localcloud import bigquery_changes
from localcloud import bigquery_parameters as parameters
from localcloud.bigquery_changes import ROW, Step
from localcloud.bigquery_errors import ApiError, unsupported
from localcloud.bigquery_fields import Field, conform, for_engine, table_bytes
from localcloud.bigquery_information import PREFIX
from localcloud.bigquery_tables import Name, Source

_MB = 1 << 20
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
#: What DuckDB holds as text in a struct with one field.
_HELD = ("JSON", "BIGNUMERIC")
_CHANGES: dict[type, str] = {exp.Insert: "INSERT", exp.Update: "UPDATE", exp.Delete: "DELETE", exp.Merge: "MERGE"}


@dataclass
class Statement:
    """A statement that was understood. kind: as in BigQuery's statementType.

    names: the tables that are read, t0, t1 … in the steps; n0 … with the numbers of their rows. target: the table that
    is changed or made. tree: of a definition (CREATE, DROP, ALTER, TRUNCATE).
    """

    kind: str
    steps: list[Step] = field(default_factory=list)
    names: list[Name] = field(default_factory=list)
    target: Name | None = None
    tree: exp.Expr | None = None

    def bytes_processed(self, sources: Sequence[Source]) -> list[int]:
        """Return the bytes that the statement reads, by table: those of the columns that it names; 10 MB for a view of
        INFORMATION_SCHEMA.
        """
        selects = [step.select for step in self.steps]
        columns = {column.name.lower() for select in selects for column in select.find_all(exp.Column)}
        whole = any(
            star.parent is None or star.parent.name.upper() != "COUNT"
            for select in selects
            for star in select.find_all(exp.Star)
        )
        return [
            10 * _MB
            if source.is_view
            else sum(size for name, size in table_bytes(source.rows).items() if whole or name.lower() in columns)
            for source in sources
        ]

    def run(self, step: Step, sources: Sequence[Source], *, only_types: bool = False) -> tuple[pa.Table, list[Field]]:
        """Return the rows that a step gives, with their fields; only_types: no rows. Raises ApiError."""
        _check_held(step.select, sources)
        settings: dict[str, str | bool | int | float | list[str]] = {"python_enable_replacements": False, "threads": 1}
        with duckdb.connect(":memory:", config=settings) as connection:
            bigquery_sql.prepare(connection)
            for at, source in enumerate(sources):
                rows = for_engine(source.rows, source.fields)
                connection.register(f"t{at}", rows)
                if self.target and self.names[at] == self.target:
                    numbers = pa.array(range(rows.num_rows), pa.int64())
                    connection.register(f"n{at}", rows.append_column(ROW, numbers))
            connection.execute("SET enable_external_access = false")
            try:
                translated = bigquery_sql.translate(connection, step.select)
                found, kinds = bigquery_sql.fetch(connection, translated, only_types=only_types, wide=True)
            except bigquery_sql.UnsupportedError as error:
                raise ApiError("notImplemented", str(error)) from None
            except bigquery_sql.SqlError as error:
                raise ApiError("invalidQuery", str(error)) from None
        fields = [_field(name, kind) for name, kind in zip(found.column_names, kinds, strict=True)]
        return (found if ROW in found.column_names else conform(found, fields)), fields


def bytes_billed(processed: Iterable[int]) -> int:
    """Return the bytes that are paid for, given those read by table: whole MB, and at least 10 MB a table."""
    return sum(max(10 * _MB, -(-size // _MB) * _MB) for size in processed)


def parse(sql: str, config: Mapping[str, Any]) -> list[exp.Expr]:
    """Return the statements of a text, with the values of the job's parameters. Raises ApiError."""
    if config.get("useLegacySql", True):
        raise unsupported("legacy SQL; say useLegacySql=false, or bq query --nouse_legacy_sql")
    given = config.get("queryParameters", [])
    if config.get("parameterMode") == "POSITIONAL" or any(not each.get("name") for each in given):
        sql = parameters.numbered(sql)
        given = [{**each, "name": f"positional_{at}"} for at, each in enumerate(given)]
    try:
        trees = bigquery_sql.parse(sql)
    except bigquery_sql.SqlError as error:
        raise ApiError("invalidQuery", str(error)) from None
    if not trees:
        raise ApiError("invalidQuery", "Syntax error: Unexpected end of script")
    named = {each["name"].lower(): each for each in given}
    for tree in trees:
        parameters.set_parameters(tree, named)
    return trees


class Reader:
    """Understands statements. default: the default dataset; definitions: the tables of files that the job defines."""

    def __init__(self, default: Mapping[str, str] | None, project: str, definitions: Collection[str] = ()) -> None:
        self._default, self._project, self._definitions = default, project, definitions

    def statement(self, tree: exp.Expr) -> Statement:
        """Return what a statement does. Raises ApiError."""
        if isinstance(tree, exp.Query):
            found = Statement("SELECT", [Step("select", tree)])
        elif type(tree) in _CHANGES:
            target, steps = bigquery_changes.steps(tree)
            found = Statement(_CHANGES[type(tree)], steps, target=self.name(target))
        elif isinstance(tree, exp.TruncateTable):
            found = Statement("TRUNCATE_TABLE", target=self.name(tree.expressions[0]), tree=tree)
        elif isinstance(tree, exp.Create | exp.Drop | exp.Alter):
            found = self._definition(tree)
        else:
            word = tree.name if isinstance(tree, exp.Command) else tree.key
            raise unsupported(f"the statement {word.upper()}")
        for step in found.steps:
            step.select = self._bound(step.select, found.names)
        if found.kind in _CHANGES.values() and found.target and found.target not in found.names:
            found.names.append(found.target)
        return found

    def _definition(self, tree: exp.Create | exp.Drop | exp.Alter) -> Statement:
        kind = str(tree.args.get("kind") or "").upper()
        properties = (tree.args.get("properties") or exp.Properties()).expressions
        materialized = any(isinstance(each, exp.MaterializedProperty) for each in properties) or bool(
            tree.args.get("materialized")
        )
        if kind not in ("TABLE", "VIEW", "SCHEMA"):
            raise unsupported(f"the statement {tree.key.upper()} {kind}")
        verb = f"{tree.key.upper()}_{'MATERIALIZED_' * materialized}{kind}"
        place = tree.args["tables"][0] if isinstance(tree, exp.Drop) else tree.this
        place = place.this if isinstance(place, exp.Schema) else place
        if kind == "SCHEMA":
            return Statement(verb, tree=tree)
        query = tree.args.get("expression")
        if query is not None and not isinstance(query, exp.Query):
            raise ApiError("invalidQuery", f"Syntax error: {verb.replace('_', ' ')} needs a query after AS")
        found = Statement(verb, target=self.name(place), tree=tree)
        if query is not None:
            found.steps = [Step("select", query)]
            if kind == "TABLE":
                found.kind = "CREATE_TABLE_AS_SELECT"
        return found

    def dataset(self, place: exp.Table) -> tuple[str, str]:
        """Return the project and the name of a dataset that a statement names."""
        parts = [part for each in place.parts for part in each.name.split(".")]
        return (parts[0], parts[1]) if len(parts) == 2 else (self._project, parts[-1])

    def _bound(self, select: exp.Query, names: list[Name]) -> exp.Query:
        """Return a query whose tables are t0, t1 …, and note their names."""
        select = select.copy()
        defined = {cte.alias_or_name for cte in select.find_all(exp.CTE)}
        for table in list(select.find_all(exp.Table)):
            if not table.name or (len(table.parts) == 1 and table.name in defined and not _in_own_definition(table)):
                continue
            own = len(table.parts) == 1 and table.name in self._definitions
            name = Name("", "", table.name) if own else self.name(table)
            if name not in names:
                names.append(name)
            if not table.alias:
                table.set("alias", exp.TableAlias(this=exp.to_identifier(name.table.split(".")[-1])))
            letter = "n" if table.meta.get("numbered") else "t"
            table.set("this", exp.to_identifier(f"{letter}{names.index(name)}"))
            table.set("db", None)
            table.set("catalog", None)
        return select

    def name(self, table: exp.Expr) -> Name:
        """Return the table that a name in SQL means; a view of INFORMATION_SCHEMA is a table INFORMATION_SCHEMA.X."""
        if not isinstance(table, exp.Table):
            raise unsupported(f"{table.sql('bigquery')} as a table")
        spelled = ".".join(part.name for part in table.parts)
        found = re.fullmatch(rf"(?i)(.*?)({re.escape(PREFIX)}.*)?", spelled)
        before, view = (found[1], found[2]) if found else (spelled, None)
        parts = [part for part in before.split(".") if part] + ([view.upper()] if view else [])
        if len(parts) == 1 and self._default is None:
            message = f'Table "{spelled}" must be qualified with a dataset (e.g. dataset.table).'
            raise ApiError("invalidQuery", message)
        if not 1 <= len(parts) <= 3 or "$" in spelled:
            raise ApiError("invalidQuery", f"Invalid table name: `{spelled}`")
        if "*" in spelled:
            raise unsupported(f"the wildcard table `{spelled}`")
        if len(parts) == 1 and self._default:
            parts = [self._default.get("projectId", self._project), self._default["datasetId"], *parts]
        if len(parts) == 2:
            parts = [self._project, *parts]
        return Name(*parts)


def _in_own_definition(table: exp.Table) -> bool:
    """Return whether a table stands in the query that WITH gives its name to, and so means the stored table."""
    clause = table.find_ancestor(exp.CTE)
    while clause and clause.alias_or_name != table.name:
        clause = clause.find_ancestor(exp.CTE)
    return clause is not None and not (clause.parent and clause.parent.args.get("recursive"))


def _check_held(select: exp.Query, sources: Sequence[Source]) -> None:
    """Raise ApiError where a BIGNUMERIC is more than handed on, because DuckDB has no number that is so wide."""
    wide = {each["name"].lower() for source in sources for each in source.fields if each["type"] == "BIGNUMERIC"}
    for column in select.find_all(exp.Column):
        parent = column.parent.parent if isinstance(column.parent, exp.Alias) else column.parent
        if column.name.lower() in wide and not isinstance(parent, exp.Select | exp.Is):
            raise unsupported(f"computing with the BIGNUMERIC {column.name}")
    ordered = [each for each in select.find_all(exp.Select) if each.args.get("distinct") or each.args.get("group")]
    if wide and ordered:
        raise unsupported("DISTINCT and GROUP BY over tables with a BIGNUMERIC")


def _field(name: str, kind: str) -> Field:
    """Return a field of a type of DuckDB's."""
    return _field_of(name, exp.DataType.build("TEXT" if kind.startswith(_HELD) else kind, dialect="duckdb"), kind)


def _field_of(name: str, kind: exp.DataType, spelled: str) -> Field:
    if spelled.removesuffix("[]") in _HELD:
        mode = "REPEATED" if spelled.endswith("]") else "NULLABLE"
        return {"name": name, "type": spelled.removesuffix("[]"), "mode": mode}
    if kind.this in (exp.DataType.Type.ARRAY, exp.DataType.Type.LIST):
        return {**_field_of(name, kind.expressions[0], ""), "mode": "REPEATED"}
    if kind.this == exp.DataType.Type.STRUCT:
        inner = [_field_of(each.name, each.args["kind"], "") for each in kind.expressions]
        return {"name": name, "type": "RECORD", "mode": "NULLABLE", "fields": inner}
    return {"name": name, "type": _NAMES[kind.this], "mode": "NULLABLE"}

"""INSERT, UPDATE, DELETE and MERGE of the local BigQuery: the queries that they come down to, and what those change."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from sqlglot import exp

from localcloud.bigquery_errors import ApiError, unsupported
from localcloud.bigquery_fields import Field, conform
from localcloud.bigquery_information import sql_type
from localcloud.bigquery_tables import Table

#: The column with the number of a target's row.
ROW = "row$"
#: What a value of one type may become without being cast.
_COERCED = {
    "INTEGER": ("FLOAT", "NUMERIC", "BIGNUMERIC"),
    "NUMERIC": ("FLOAT", "BIGNUMERIC"),
    "BIGNUMERIC": ("FLOAT",),
    "DATE": ("DATETIME",),
}
#: The types that a literal of text becomes where it is written for a column of them.
_OF_TEXT = ("DATE", "DATETIME", "TIME", "TIMESTAMP")
_TWICE = "UPDATE/MERGE must match at most one source row for each target row"


@dataclass
class Step:
    """A query of a statement, and what its rows are: a result (select), or rows to insert, update or delete.

    columns: those of the target that the query's own are for, after the row's number; none for all of them.
    """

    action: str
    select: exp.Query
    columns: list[str] = field(default_factory=list)


def steps(tree: exp.Expr) -> tuple[exp.Expr, list[Step]]:
    """Return the table that a statement changes, and its steps. Raises ApiError."""
    if isinstance(tree, exp.Insert):
        return _insert(tree)
    if isinstance(tree, exp.Update):
        return _update(tree)
    if isinstance(tree, exp.Delete):
        return _delete(tree)
    assert isinstance(tree, exp.Merge)
    return _merge(tree)


def _insert(tree: exp.Insert) -> tuple[exp.Expr, list[Step]]:
    columns: list[str] = []
    target = tree.this
    if isinstance(target, exp.Schema):
        target, columns = target.this, [each.name for each in target.expressions]
    query = tree.expression
    if isinstance(query, exp.Values):
        rows = [each.expressions if isinstance(each, exp.Tuple) else [each] for each in query.expressions]
        if len({len(row) for row in rows}) != 1:
            raise ApiError("invalidQuery", "Inserted rows have different numbers of values")
        return target, [Step("insert", _values(row, None), columns) for row in rows]
    if not isinstance(query, exp.Query):
        raise unsupported("INSERT of anything but VALUES or a query")
    return target, [Step("insert", query, columns)]


def _values(values: Sequence[exp.Expr], source: exp.Expr | None) -> exp.Select:
    """Return the query that gives one row of values for each of a source's."""
    found = exp.select(*(exp.alias_(_value(each), f"v{at}", quoted=True) for at, each in enumerate(values)))
    return found.from_(source.copy()) if source is not None else found


def _value(value: exp.Expr) -> exp.Expr:
    """Return a value of VALUES or SET; DEFAULT is NULL, because columns have no other default here."""
    if isinstance(value, exp.Var | exp.Column) and value.name.upper() == "DEFAULT":
        return exp.null()
    return value.copy()


def _update(tree: exp.Update) -> tuple[exp.Expr, list[Step]]:
    where = _where(tree, "UPDATE")
    columns, values = _settings(tree, tree.this)
    select = exp.select(_row(tree.this), *values).from_(_numbered(tree.this))
    if tree.args.get("from_"):
        select = select.join(tree.args["from_"].this.copy(), join_type="cross")
    return tree.this, [Step("update", select.where(where), columns)]


def _delete(tree: exp.Delete) -> tuple[exp.Expr, list[Step]]:
    target = tree.this or (tree.args.get("tables") or [None])[0]
    if target is None:
        raise ApiError("invalidQuery", "DELETE needs a table")
    select = exp.select(_row(target)).from_(_numbered(target)).where(_where(tree, "DELETE"))
    return target, [Step("delete", select)]


def _where(tree: exp.Expr, verb: str) -> exp.Expr:
    where = tree.args.get("where")
    if where is None:
        raise ApiError("invalidQuery", f"{verb} must have a WHERE clause")
    condition: exp.Expr = where.this.copy()
    return condition


def _settings(tree: exp.Expr, target: exp.Expr) -> tuple[list[str], list[exp.Expr]]:
    """Return the columns that SET names, and their new values."""
    columns, values = [], []
    for at, each in enumerate(tree.expressions):
        column = each.this
        alone = isinstance(column, exp.Column) and column.table.lower() in ("", target.alias_or_name.lower())
        if not isinstance(each, exp.EQ) or not alone:
            raise unsupported(f"SET {each.sql('bigquery')}, which is not of a whole column")
        columns.append(column.name)
        values.append(exp.alias_(_value(each.expression), f"v{at}", quoted=True))
    return columns, values


def _row(target: exp.Expr) -> exp.Expr:
    return exp.column(ROW, table=target.alias_or_name, quoted=True)


def _numbered(target: exp.Expr) -> exp.Expr:
    """Return the target as a table whose rows are numbered."""
    found = target.copy()
    found.meta["numbered"] = True
    return found


def _merge(tree: exp.Merge) -> tuple[exp.Expr, list[Step]]:
    target, source, on = tree.this, tree.args["using"], tree.args["on"]
    if on is None:
        raise unsupported("MERGE without ON")
    joined = exp.select().from_(_numbered(target)).join(source.copy(), on=on.copy())
    unmatched = exp.select().from_(source.copy()).where(_nowhere(target, on))
    alone = exp.select().from_(_numbered(target)).where(_nowhere(source, on))
    found, before = [], dict[str, list[exp.Expr]]()
    for when in tree.args["whens"].expressions:
        of = "joined" if when.args.get("matched") else "alone" if when.args.get("source") else "unmatched"
        rows = {"joined": joined, "alone": alone, "unmatched": unmatched}[of].copy()
        condition = when.args.get("condition")
        # A row belongs to the first clause whose condition holds for it.
        for earlier in before.setdefault(of, []):
            rows = rows.where(exp.not_(_true(earlier)))
        before[of].append(condition if condition is not None else exp.true())
        if condition is not None:
            rows = rows.where(condition.copy())
        then = when.args["then"]
        if isinstance(then, exp.Update):
            columns, values = _settings(then, target)
            found.append(Step("update", rows.select(_row(target), *values), columns))
        elif isinstance(then, exp.Insert):
            found.append(_inserted(then, rows, source))
        elif then.name.upper() == "DELETE":
            found.append(Step("delete", rows.select(_row(target))))
        else:
            raise unsupported(f"WHEN … THEN {then.sql('bigquery')}")
    return target, found


def _nowhere(table: exp.Expr, on: exp.Expr) -> exp.Expr:
    """Return the condition that no row of a table fits."""
    there = exp.select(exp.Literal.number(1)).from_(table.copy()).where(on.copy())
    return exp.not_(exp.Exists(this=there))


def _true(condition: exp.Expr) -> exp.Expr:
    """Return a condition that is false where another is NULL."""
    return exp.Anonymous(this="COALESCE", expressions=[condition.copy(), exp.false()])


def _inserted(then: exp.Insert, rows: exp.Select, source: exp.Expr) -> Step:
    """Return the step of WHEN NOT MATCHED THEN INSERT."""
    columns: list[str] = []
    given = then.this
    if isinstance(given, exp.Var) and given.name.upper() == "ROW":
        return Step("insert", rows.select(exp.Column(this=exp.Star(), table=exp.to_identifier(source.alias_or_name))))
    if isinstance(given, exp.Tuple) and not isinstance(then.expression, exp.Tuple):
        # INSERT VALUES (…) is read as a call of VALUES.
        (call,) = given.expressions
        values = call.expressions
    elif isinstance(then.expression, exp.Tuple):
        columns, values = [each.name for each in given.expressions], then.expression.expressions
    else:
        raise unsupported("MERGE with anything but INSERT (columns) VALUES (values) or INSERT ROW")
    if columns and len(columns) != len(values):
        raise ApiError("invalidQuery", f"Inserted row has {len(values)} values for {len(columns)} columns")
    return Step("insert", rows.select(*_values(values, None).expressions), columns)


def typed(step: Step, fields: Sequence[Field]) -> None:
    """Give literals and NULLs among a step's values the types of the columns that they are for. Raises ApiError.

    fields: of the target. Where a step names no columns its values are for all of them, in order.
    """
    named = {each["name"].lower(): each for each in fields}
    for column in step.columns:
        if column.lower() not in named:
            raise ApiError("invalidQuery", f"Column {column} is not present in the table")
    if len({column.lower() for column in step.columns}) < len(step.columns):
        raise ApiError("invalidQuery", f"Duplicate column names: {', '.join(step.columns)}")
    targets = [named[column.lower()] for column in step.columns] or list(fields)
    values = [each for each in step.select.expressions if each.alias.startswith("v") or step.action == "insert"]
    for value, target in zip(values, targets, strict=False):
        plain = value.this if isinstance(value, exp.Alias) else value
        if _takes_type(plain, target):
            plain.replace(exp.cast(plain.copy(), sql_type(target), dialect="bigquery"))


def joined(steps: Sequence[Step]) -> list[Step]:
    """Return the same steps, with the rows of one VALUES in one query."""
    plain = [step for step in steps if step.action == "insert" and step.select.args.get("from_") is None]
    if len(plain) < 2 or len(plain) < len(steps) or not all(isinstance(step.select, exp.Select) for step in plain):
        return list(steps)
    whole: exp.Query = plain[0].select
    for step in plain[1:]:
        whole = exp.Union(this=whole, expression=step.select, distinct=False)
    return [Step("insert", whole, plain[0].columns)]


def _takes_type(value: exp.Expr, target: Field) -> bool:
    if isinstance(value, exp.Null):
        return True
    if isinstance(value, exp.Array) and not value.expressions:
        return bool(target["mode"] == "REPEATED")
    if target["mode"] == "REPEATED" or not isinstance(value, exp.Literal):
        return False
    return target["type"] in (_OF_TEXT if value.is_string else ("FLOAT", "NUMERIC"))


@dataclass
class Change:
    """What a statement does to a table: its rows afterwards, and how many were inserted, updated and deleted."""

    rows: pa.Table
    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    @property
    def statistics(self) -> dict[str, Any]:
        """As the API tells them."""
        counts = {"insertedRowCount": self.inserted, "updatedRowCount": self.updated, "deletedRowCount": self.deleted}
        return {
            "numDmlAffectedRows": str(sum(counts.values())),
            "dmlStats": {name: str(count) for name, count in counts.items()},
        }


def applied(table: Table, results: Sequence[tuple[Step, pa.Table, list[Field]]]) -> Change:
    """Return what the rows of a statement's steps make of a table. Raises ApiError; changes nothing."""
    fields, rows = table.fields, table.rows
    places: dict[str, list[int]] = {each["name"]: list(range(rows.num_rows)) for each in fields}
    columns: dict[str, list[pa.ChunkedArray]] = {each["name"]: [rows.column(each["name"])] for each in fields}
    lengths = dict.fromkeys(places, rows.num_rows)
    change, new, changed, gone = Change(rows), [rows.slice(0, 0)], set[int](), set[int]()
    for step, found, kinds in results:
        if step.action == "insert":
            new.append(_for_table(step, found, kinds, fields))
            change.inserted += found.num_rows
            continue
        numbers = found.column(ROW).to_pylist()
        if len(set(numbers)) < len(numbers) and step.action == "delete":
            numbers = list(dict.fromkeys(numbers)) if len(results) == 1 else numbers
        if len(set(numbers)) < len(numbers) or changed.intersection(numbers):
            raise ApiError("invalidQuery", _TWICE)
        changed.update(numbers)
        if step.action == "delete":
            gone.update(numbers)
            change.deleted += len(numbers)
            continue
        change.updated += len(numbers)
        for at, column in enumerate(step.columns):
            target = next(each for each in fields if each["name"].lower() == column.lower())
            value = _assigned(found.column(at + 1), kinds[at + 1], target, f"to {column}")
            columns[target["name"]].append(value)
            for place, number in enumerate(numbers, lengths[target["name"]]):
                places[target["name"]][number] = place
            lengths[target["name"]] += len(value)
    kept = [number for number in range(rows.num_rows) if number not in gone]
    whole = {
        name: pa.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type).take(
            pa.array([places[name][number] for number in kept], pa.int64())
        )
        for name, parts in columns.items()
    }
    there = conform(pa.table(whole), fields) if fields else rows
    change.rows = pa.concat_tables([there, *new])
    return change


def _for_table(step: Step, found: pa.Table, kinds: Sequence[Field], fields: Sequence[Field]) -> pa.Table:
    """Return rows that are to be inserted, in the table's columns."""
    named = {each["name"].lower(): each for each in fields}
    targets = [named[column.lower()] for column in step.columns] or list(fields)
    if len(targets) != found.num_columns:
        message = f"Inserted row has wrong column count; Has {found.num_columns}, expected {len(targets)}"
        raise ApiError("invalidQuery", message)
    values = {
        target["name"]: _assigned(found.column(at), kinds[at], target, f"which is inserted into {target['name']}")
        for at, target in enumerate(targets)
    }
    return conform(pa.table(values), fields)


def _assigned(column: pa.ChunkedArray, kind: Field, target: Field, where: str) -> pa.ChunkedArray:
    """Return a column as another field's. Raises ApiError where its type is another one."""
    there, wanted = kind["type"], target["type"]
    same = (there == wanted or wanted in _COERCED.get(there, ())) and (
        (kind["mode"] == "REPEATED") == (target["mode"] == "REPEATED")
    )
    if not same and column.null_count < len(column):
        message = f"Value of type {sql_type(kind)} cannot be assigned {where}, which has type {sql_type(target)}"
        raise ApiError("invalidQuery", message)
    if not same:
        column = pa.chunked_array([pa.nulls(len(column))])
    return conform(pa.table({target["name"]: column}), [{**target}]).column(0)

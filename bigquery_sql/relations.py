"""What rows come from and go through: SELECT, set operations, ORDER BY, tables, UNNEST, PIVOT and UNPIVOT."""

from sqlglot import exp

from bigquery_sql import aggregates, layers
from bigquery_sql.build import Translator, call, is_text, is_whole, unsupported
from bigquery_sql.casts import named_struct
from bigquery_sql.errors import SqlError

_SELECT = set(
    "with_ expressions distinct from_ joins where group having qualify windows order limit offset kind".split()
)


def select(translator: Translator, node: exp.Expr) -> exp.Expr:
    """Return a SELECT."""
    for key, value in node.args.items():
        if value and key not in _SELECT and key != "operation_modifiers":
            raise unsupported(f"{key.upper()} in a SELECT")
    kind = node.args.get("kind")
    node.set("kind", None)
    if kind not in (None, "STRUCT", "VALUE") or (kind and node.args.get("distinct")):
        raise unsupported(f"SELECT AS {kind}")
    _name_columns(node)
    _drop_nan(node)
    _refuse_structs(node)
    order = node.args.get("order")
    if node.args.get("distinct"):
        # What is ordered by are the columns that are left.
        node.set("order", None)
    layers.split(translator, node)
    for key, value in list(node.args.items()):
        if key == "order" or value is None:
            continue
        if key == "distinct":
            if value.args.get("on"):
                raise unsupported("DISTINCT ON")
        elif isinstance(value, exp.Expr):
            node.set(key, translator.node(value))
        elif isinstance(value, list):
            node.set(key, translator.all(value))
    if order is not None and node.args.get("distinct"):
        node.set("order", order)
        return _outside(translator, node)
    if order is not None:
        node.set("order", translator.node(order))
    if kind == "STRUCT":
        _as_struct(node)
    return node


def _refuse_structs(node: exp.Expr) -> None:
    """Make * fail for a STRUCT that UNNEST gives, because BigQuery gives the fields there; unnest() does that for
    literals.
    """
    tables = [from_.this for from_ in [node.args.get("from_")] if from_ is not None]
    tables += [each.this for each in node.args.get("joins") or []]
    names = [_item_name(each) for each in tables if isinstance(each, exp.Unnest) and not _known_structs(each)]
    for star in [each for each in node.expressions if isinstance(each, exp.Star)]:
        gone = {each.name.lower() for each in star.args.get("except_") or []}
        gone |= {each.alias.lower() for each in star.args.get("replace") or []}
        kept = [
            exp.alias_(layers.Done(this=call("bq_no_struct", exp.column(name, quoted=True))), name, quoted=True)
            for name in names
            if name.lower() not in gone
        ]
        star.set("replace", [*(star.args.get("replace") or []), *kept])


def _drop_nan(node: exp.Expr) -> None:
    """Leave out the rows that DuckDB's inner JOIN … USING joins by NaN, because NaN equals nothing in BigQuery."""
    joins = [each for each in node.args.get("joins") or [] if not each.side]
    for name in [each.name for join in joins for each in join.args.get("using") or []]:
        held: exp.Expr = layers.Done(this=call("bq_number", exp.column(name, quoted=True)))
        if (where := node.args.get("where")) is not None:
            held = exp.And(this=exp.Paren(this=where.this), expression=held)
        node.set("where", exp.Where(this=held))


def _as_struct(node: exp.Expr) -> None:
    """Make one column of SELECT AS STRUCT, a struct of the others."""
    if any(each.is_star for each in node.expressions):
        raise unsupported("SELECT AS STRUCT *")
    fields = {each.alias_or_name: each.this if isinstance(each, exp.Alias) else each for each in node.expressions}
    if len(fields) < len(node.expressions):
        raise unsupported("a STRUCT with two fields of one name")
    node.set("expressions", [exp.alias_(named_struct(fields), "f0_", quoted=True)])


def _name_columns(node: exp.Expr) -> None:
    """Name the columns that have no name f0_, f1_ …, as BigQuery does."""
    unnamed = 0
    for column in list(node.expressions):
        if isinstance(column, exp.Dot) and not column.is_star:
            column.replace(exp.alias_(column.copy(), column.expression.name, quoted=True))
        elif not isinstance(column, exp.Alias | exp.Column | exp.Dot | exp.Star):
            column.replace(exp.alias_(column.copy(), f"f{unnamed}_", quoted=True))
            unnamed += 1


def _outside(translator: Translator, node: exp.Expr) -> exp.Expr:
    """Return ORDER BY, LIMIT and OFFSET around rows that are distinct or come from several queries.

    There DuckDB takes no key but the columns themselves.
    """
    taken = {key: node.args.pop(key) for key in ("order", "limit", "offset", "with_") if node.args.get(key) is not None}
    whole = exp.Select(expressions=[exp.Star()]).from_(
        exp.Subquery(this=node, alias=exp.TableAlias(this=exp.to_identifier("rows_")))
    )
    for key, value in taken.items():
        if key == "order":
            for each in value.expressions:
                if isinstance(each.this, exp.Column):
                    each.this.set("table", None)
            value = translator.node(value)
        whole.set(key, value)
    return whole


def combined(translator: Translator, node: exp.Expr) -> exp.Expr:
    """Return UNION, INTERSECT or EXCEPT."""
    for key in ("by_name", "side", "kind", "on"):
        if node.args.get(key):
            raise unsupported(f"{key.upper()} in a set operation")
    for key in ("with_", "this", "expression", "limit", "offset"):
        value = node.args.get(key)
        if isinstance(value, exp.Expr):
            node.set(key, translator.node(value))
    return _outside(translator, node) if node.args.get("order") is not None else node


def order(translator: Translator, node: exp.Expr) -> exp.Expr:
    """Return ORDER BY. NaN is less than all numbers there, and more than NULL."""
    keys: list[exp.Expr] = []
    for each in node.expressions:
        if not isinstance(each, exp.Ordered) or each.args.get("with_fill"):
            raise unsupported("such an ORDER BY")
        if not is_whole(each.this):
            each.set("this", translator.node(each.this))
            number = each.copy()
            number.set("this", call("bq_number", each.this.copy()))
            keys.append(number)
        keys.append(each)
    node.set("expressions", keys)
    return node


def star(translator: Translator, node: exp.Expr) -> exp.Expr:
    """Return *, with EXCEPT and REPLACE."""
    if node.args.get("rename"):
        raise unsupported("RENAME")
    if replaced := node.args.get("replace"):
        node.set("replace", translator.all(replaced))
    return node


def table(translator: Translator, node: exp.Expr) -> exp.Expr:
    """Return a table by its name."""
    pivots = node.args.pop("pivots", None)
    for key, value in node.args.items():
        if value and key not in ("this", "db", "catalog", "alias", "joins"):
            raise unsupported(f"{key.upper()} of a table")
    if not isinstance(node.this, exp.Identifier):
        raise unsupported(f"the table function {node.sql('bigquery')}")
    return _pivoted(translator, node, pivots) if pivots else node


def subquery(translator: Translator, node: exp.Expr) -> exp.Expr:
    """Return a query in parentheses."""
    pivots = node.args.pop("pivots", None)
    translator.parts(node)
    return _pivoted(translator, node, pivots) if pivots else node


def unnest(translator: Translator, node: exp.Expr) -> exp.Expr:
    """Return UNNEST in FROM: a column of the items, and with OFFSET their places from 0; of structs, the fields."""
    if len(node.expressions) != 1:
        raise unsupported("UNNEST of several arrays")
    (array,) = node.expressions
    name, structs = _item_name(node), _known_structs(node)
    offset = node.args.get("offset")
    items = call("unnest", translator.node(array))
    columns: list[exp.Expr] = [exp.alias_(items, "item" if structs else name, quoted=True)]
    if offset:
        places = call("generate_subscripts", items.expressions[0].copy(), exp.Literal.number(1))
        place = offset.name if isinstance(offset, exp.Expr) and offset.name else "offset"
        columns.append(exp.alias_(exp.Sub(this=places, expression=exp.Literal.number(1)), place, quoted=True))
    rows = exp.Select(expressions=columns)
    if structs:
        rest = [exp.column(column.alias, quoted=True) for column in columns[1:]]
        fields = exp.Column(this=exp.Star(), table=exp.to_identifier("item", quoted=True))
        rows = exp.Select(expressions=[fields, *rest]).from_(
            exp.Subquery(this=rows, alias=exp.TableAlias(this=exp.to_identifier("items_")))
        )
        rows.set("expressions", [call("unnest", exp.column("item", quoted=True)), *rest])
    called = name if structs else translator.unnest_name()
    return exp.Subquery(this=rows, alias=exp.TableAlias(this=exp.to_identifier(called, quoted=True)))


def _item_name(node: exp.Expr) -> str:
    """Return what the column of an UNNEST's items is called."""
    given = node.args.get("alias")
    names = [each.name for each in (given.args.get("columns") or [])] if given else []
    return str(names[0] if names else given.name if given and given.name else "f0_")


def _known_structs(node: exp.Expr) -> bool:
    """Return whether an UNNEST's array is written with structs."""
    array = node.expressions[0]
    if isinstance(array, exp.Cast):
        return _of_structs(array.args["to"])
    return isinstance(array, exp.Array) and any(_is_struct(each) for each in array.expressions)


def _is_struct(node: exp.Expr) -> bool:
    if isinstance(node, exp.Cast):
        return bool(node.args["to"].this == exp.DataType.Type.STRUCT)
    return isinstance(node, exp.Struct | exp.Tuple) or (
        isinstance(node, exp.Anonymous) and node.name.upper() == "STRUCT"
    )


def _of_structs(kind: exp.DataType) -> bool:
    return bool(kind.expressions) and kind.expressions[0].this == exp.DataType.Type.STRUCT


def _pivoted(translator: Translator, source: exp.Expr, pivots: list[exp.Expr]) -> exp.Expr:
    if len(pivots) != 1:
        raise unsupported("several PIVOT of one table")
    (pivot,) = pivots
    rows = _unpivoted(source, pivot) if pivot.args.get("unpivot") else _spread(translator, source, pivot)
    name = pivot.alias or translator.unnest_name()
    return exp.Subquery(this=rows, alias=exp.TableAlias(this=exp.to_identifier(name, quoted=True)))


def _spread(translator: Translator, source: exp.Expr, pivot: exp.Expr) -> exp.Expr:
    """Return PIVOT: a column for each value; the other columns are grouped by."""
    (chosen,) = pivot.args["fields"]
    if not isinstance(chosen, exp.In) or not isinstance(chosen.this, exp.Column):
        raise unsupported("such a PIVOT")
    gone, made, shown = [chosen.this.name], [], []
    for value in chosen.expressions:
        wanted = value.this if isinstance(value, exp.Alias | exp.PivotAlias) else value
        label = value.alias or (wanted.name if is_text(wanted) else f"_{wanted.name}" if is_whole(wanted) else "")
        if not label:
            raise unsupported("PIVOT by a value that is neither a STRING, an INT64 nor has a name")
        for total in pivot.expressions:
            plain = total.this if isinstance(total, exp.Alias) else total
            if not isinstance(plain, exp.Anonymous) or plain.name.upper() not in (
                "SUM",
                "AVG",
                "MIN",
                "MAX",
                "COUNT",
                "ANY_VALUE",
                "COUNTIF",
            ):
                raise unsupported("PIVOT with such an aggregate")
            if len(pivot.expressions) > 1 and not total.alias:
                raise unsupported("PIVOT with several aggregates of which one has no name")
            gone += [column.name for column in plain.find_all(exp.Column)]
            name = f"{total.alias}_{label}" if total.alias else label
            held = exp.EQ(this=chosen.this.copy(), expression=wanted.copy())
            if plain.name.upper() == "COUNT" and any(isinstance(each, exp.Star) for each in plain.expressions):
                cell: exp.Expr = exp.Anonymous(this="COUNTIF", expressions=[held])
            else:
                inner = exp.Anonymous(this="IF", expressions=[held, plain.expressions[0].copy(), exp.null()])
                cell = exp.Anonymous(this=plain.name, expressions=[inner])
            found, wrap = aggregates.made(translator, cell)
            made.append(exp.alias_(found, name, quoted=True))
            shown.append(exp.alias_(wrap(exp.column(name, quoted=True)), name, quoted=True))
    left = exp.Star(except_=[exp.to_identifier(each, quoted=True) for each in dict.fromkeys(gone)])
    rows = exp.Select(expressions=[left, *made]).from_(source)
    rows.set("group", exp.Group(all=True))
    under = exp.Subquery(this=rows, alias=exp.TableAlias(this=exp.to_identifier("spread", quoted=True)))
    return exp.Select(expressions=[exp.Star(replace=shown)]).from_(under)


def _unpivoted(source: exp.Expr, pivot: exp.Expr) -> exp.Expr:
    """Return UNPIVOT: a row for each of some columns, without those that are NULL."""
    (chosen,) = pivot.args["fields"]
    if pivot.args.get("include_nulls") or len(pivot.expressions) != 1 or not isinstance(chosen, exp.In):
        raise unsupported("UNPIVOT INCLUDE NULLS, or of several columns at once")
    value, label = pivot.expressions[0].name, chosen.this.name
    parts: list[exp.Expr] = []
    columns = [
        (each.this if isinstance(each, exp.PivotAlias | exp.Alias) else each, each) for each in chosen.expressions
    ]
    names = [column.name for column, _ in columns]
    for column, given in columns:
        shown = given.alias if isinstance(given, exp.PivotAlias | exp.Alias) else column.name
        if not isinstance(column, exp.Column) or not shown:
            raise unsupported("such an UNPIVOT")
        left = exp.Star(except_=[exp.to_identifier(each, quoted=True) for each in names])
        taken = exp.column(column.name, quoted=True)
        row = exp.Select(
            expressions=[
                left,
                exp.alias_(taken, value, quoted=True),
                exp.alias_(exp.cast(exp.Literal.string(shown), "VARCHAR", dialect="duckdb"), label, quoted=True),
            ]
        ).from_(source.copy())
        parts.append(row.where(exp.Not(this=exp.Is(this=taken.copy(), expression=exp.null()))))
    if not parts:
        raise SqlError("UNPIVOT needs columns")
    whole = parts[0]
    for part in parts[1:]:
        whole = exp.Union(this=whole, expression=part, distinct=False)
    return whole

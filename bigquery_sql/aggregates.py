"""Aggregates and window functions, with their DISTINCT, ORDER BY, LIMIT, IGNORE NULLS and HAVING MAX."""

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlglot import exp

from bigquery_sql.build import (
    Translator,
    call,
    cast,
    count_arguments,
    is_text,
    is_whole,
    number,
    text,
    typed,
    unsupported,
)
from bigquery_sql.errors import SqlError

Wrap = Callable[[exp.Expr], exp.Expr]
#: Functions that mean the same in DuckDB, of FLOAT64 alone where they give it.
_SAME = {
    "LOGICAL_AND": "bool_and",
    "LOGICAL_OR": "bool_or",
    "BIT_AND": "bit_and",
    "BIT_OR": "bit_or",
    "BIT_XOR": "bit_xor",
    "ANY_VALUE": "any_value",
    "MAX": "max",
}
_FLOATING = {
    "STDDEV": "stddev_samp",
    "STDDEV_SAMP": "stddev_samp",
    "STDDEV_POP": "stddev_pop",
    "VARIANCE": "var_samp",
    "VAR_SAMP": "var_samp",
    "VAR_POP": "var_pop",
    "CORR": "corr",
    "COVAR_POP": "covar_pop",
    "COVAR_SAMP": "covar_samp",
}
#: Functions of a window alone → least and most arguments.
_NUMBERING = {
    "RANK": (0, 0),
    "DENSE_RANK": (0, 0),
    "ROW_NUMBER": (0, 0),
    "PERCENT_RANK": (0, 0),
    "CUME_DIST": (0, 0),
    "NTILE": (1, 1),
    "LAG": (1, 3),
    "LEAD": (1, 3),
    "FIRST_VALUE": (1, 1),
    "LAST_VALUE": (1, 1),
    "NTH_VALUE": (2, 2),
}
_OTHERS = (
    "COUNT COUNTIF SUM AVG MIN ARRAY_AGG ARRAY_CONCAT_AGG APPROX_COUNT_DISTINCT APPROX_QUANTILES APPROX_TOP_COUNT "
    "MAX_BY MIN_BY PERCENTILE_CONT PERCENTILE_DISC GROUPING"
).split()
NAMES = {*_SAME, *_FLOATING, *_NUMBERING, *_OTHERS}


@dataclass
class _Parts:
    """An aggregate's arguments without what stands around them."""

    values: list[exp.Expr]
    order: list[exp.Expr] = field(default_factory=list)
    limit: int | None = None
    distinct: bool = False
    ignores: bool | None = None
    most: exp.Expr | None = None
    least: exp.Expr | None = None


def _peeled(arguments: list[exp.Expr]) -> _Parts:
    parts = _Parts([])
    for given in arguments:
        node = given
        while isinstance(
            node, exp.Limit | exp.Order | exp.IgnoreNulls | exp.RespectNulls | exp.Distinct | exp.HavingMax
        ):
            if isinstance(node, exp.Limit):
                if not is_whole(node.expression):
                    raise unsupported("LIMIT of an aggregate that is no literal")
                parts.limit = int(node.expression.name)
            elif isinstance(node, exp.Order):
                parts.order = node.expressions
            elif isinstance(node, exp.Distinct):
                parts.distinct = True
                parts.values += node.expressions[:-1]
                node = node.expressions[-1]
                continue
            elif isinstance(node, exp.HavingMax):
                parts.most, parts.least = (node.expression, None) if node.args.get("max") else (None, node.expression)
            else:
                parts.ignores = isinstance(node, exp.IgnoreNulls)
            node = node.this
        parts.values.append(node)
    return parts


def made(translator: Translator, node: exp.Expr) -> tuple[exp.Expr, Wrap]:
    """Return an aggregate over the rows of a group, and what is to be done with its result in the layer above."""
    if isinstance(node, exp.GroupConcat):
        return _string_agg(translator, node)
    name = node.name.upper()
    if name in _NUMBERING or name in ("PERCENTILE_CONT", "PERCENTILE_DISC"):
        raise SqlError(f"{name} needs an OVER clause")
    return _made(translator, name, _peeled(node.expressions), over=False)


def windowed(translator: Translator, node: exp.Expr) -> tuple[exp.Expr, Wrap]:
    """Return a function with OVER, and what is to be done with its result in the layer above."""
    this = node.this
    if isinstance(this, exp.GroupConcat):
        found, wrap = _string_agg(translator, this)
    elif isinstance(this, exp.Anonymous) and this.name.upper() in NAMES:
        found, wrap = _made(translator, this.name.upper(), _peeled(this.expressions), over=True)
    else:
        raise unsupported(f"{this.sql('bigquery')} with OVER")
    if node.args.get("alias") or node.args.get("first") is not None:
        raise unsupported("a window by its name")
    node.set("this", found)
    node.set("partition_by", translator.all(node.args.get("partition_by") or []))
    if order := node.args.get("order"):
        spec = node.args.get("spec")
        by_value = (
            spec is not None
            and spec.args.get("kind") == "RANGE"
            and any(isinstance(spec.args.get(side), exp.Expr) for side in ("start", "end"))
        )
        node.set("order", translator.node(order) if not by_value else _one_key(translator, order))
    return node, wrap


def _one_key(translator: Translator, order: exp.Expr) -> exp.Expr:
    """Return the order of a frame by distance, which has one key."""
    for each in order.expressions:
        each.set("this", translator.node(each.this))
    return order


def _made(translator: Translator, name: str, parts: _Parts, over: bool) -> tuple[exp.Expr, Wrap]:
    """Return a function of DuckDB's, and what is done with its result."""
    values = [each if isinstance(each, exp.Star) else translator.node(each) for each in parts.values]
    if name in _NUMBERING:
        return _numbering(name, values, parts), _as_is
    if parts.limit is not None and name not in ("ARRAY_AGG", "ARRAY_CONCAT_AGG"):
        raise unsupported(f"{name} with LIMIT")
    if name in ("MAX_BY", "MIN_BY") or parts.most is not None or parts.least is not None:
        return _by(translator, name, values, parts), _as_is
    if name == "COUNT":
        count_arguments(name, values, 1, 1)
        return _called("count", values, parts), _as_is
    if name in ("COUNTIF", "APPROX_COUNT_DISTINCT", "SUM", "AVG", "MIN", "GROUPING", "ARRAY_CONCAT_AGG", *_SAME):
        count_arguments(name, values, 1, 1)
    if name == "COUNTIF":
        held = exp.Case(ifs=[exp.If(this=values[0], true=number(1))])
        return _called("count", [held], parts if not parts.distinct else _refuse("COUNTIF(DISTINCT)")), _as_is
    if name == "APPROX_COUNT_DISTINCT":
        return _called("count", values, _Parts([], distinct=True)), _as_is
    if name == "SUM":
        return _called("sum", values, parts), lambda made: call("bq_narrow", made)
    if name == "AVG":
        if over or parts.distinct:
            return _called("avg", [call("bq_float_only", values[0])], parts), _as_is
        return call("bq_avg", values[0]), _as_is
    if name == "MIN":
        return (
            _called("min", [call("bq_min_window", values[0])], parts) if over else call("bq_min", values[0])
        ), _as_is
    if name == "GROUPING":
        return call("grouping", values[0]), lambda made: cast(made, "BIGINT")
    if name in _SAME:
        return _called(_SAME[name], values, parts), _as_is
    if name in _FLOATING:
        count_arguments(name, values, *((2, 2) if name[:4] in ("CORR", "COVA") else (1, 1)))
        return _called(_FLOATING[name], [call("bq_float_only", each) for each in values], parts), _as_is
    if name in ("ARRAY_AGG", "ARRAY_CONCAT_AGG"):
        return _array_agg(translator, name, values, parts)
    return _quantiles(name, values, parts, over)


def _refuse(what: str) -> _Parts:
    raise unsupported(what)


def _as_is(made: exp.Expr) -> exp.Expr:
    return made


def _called(
    name: str,
    values: list[exp.Expr],
    parts: _Parts,
    order: list[exp.Expr] | None = None,
    rest: list[exp.Expr] | None = None,
) -> exp.Expr:
    """Return a call with DISTINCT and ORDER BY; rest: further arguments, which are constant."""
    inner = [each if isinstance(each, exp.Star) else typed(each) for each in values]
    if parts.distinct:
        inner = [exp.Distinct(expressions=[*inner, *(rest or [])])]
    else:
        inner += rest or []
    if order:
        inner[-1] = exp.Order(this=inner[-1], expressions=order)
    return exp.Anonymous(this=name, expressions=inner)


def _ordered(translator: Translator, parts: _Parts) -> list[exp.Expr]:
    if not parts.order:
        return []
    if parts.distinct:
        # With DISTINCT the order is by the value itself, and DuckDB takes no further key.
        return list(_one_key(translator, exp.Order(expressions=parts.order)).expressions)
    return list(translator.node(exp.Order(expressions=parts.order)).expressions)


def _numbering(name: str, values: list[exp.Expr], parts: _Parts) -> exp.Expr:
    count_arguments(name, values, *_NUMBERING[name])
    if parts.ignores:
        if name not in ("FIRST_VALUE", "LAST_VALUE", "NTH_VALUE"):
            raise unsupported(f"{name} with IGNORE NULLS")
        if len(values) == 2:
            raise unsupported("NTH_VALUE with IGNORE NULLS")
        # As text, because sqlglot leaves IGNORE NULLS out of a function that it does not know.
        values = [exp.Var(this=f"{typed(values[0]).sql(dialect='duckdb', identify=True)} IGNORE NULLS")]
    return exp.Anonymous(this=name.lower(), expressions=[typed(each) for each in values])


def _by(translator: Translator, name: str, values: list[exp.Expr], parts: _Parts) -> exp.Expr:
    """Return ANY_VALUE(… HAVING MAX or MIN …): the value of the row in which something else is largest or smallest."""
    if name in ("MAX_BY", "MIN_BY"):
        count_arguments(name, values, 2, 2)
        return call("arg_max" if name == "MAX_BY" else "arg_min", values[0], call("bq_ranked", values[1]))
    if name != "ANY_VALUE":
        raise unsupported(f"{name} with HAVING MAX or MIN")
    by = parts.most if parts.most is not None else parts.least
    assert by is not None
    return call("arg_max" if parts.most is not None else "arg_min", values[0], call("bq_ranked", translator.node(by)))


def _array_agg(translator: Translator, name: str, values: list[exp.Expr], parts: _Parts) -> tuple[exp.Expr, Wrap]:
    count_arguments(name, values, 1, 1)
    made = _called("list", values, parts, _ordered(translator, parts))
    if parts.ignores or name == "ARRAY_CONCAT_AGG":
        kept = exp.Not(this=exp.Is(this=values[0].copy(), expression=exp.null()))
        made = exp.Filter(this=made, expression=exp.Where(this=kept))
    limit = parts.limit

    def wrap(found: exp.Expr) -> exp.Expr:
        if limit is not None:
            found = call("list_slice", found, number(1), number(limit))
        return call("flatten", found) if name == "ARRAY_CONCAT_AGG" else found

    return made, wrap


def _quantiles(name: str, values: list[exp.Expr], parts: _Parts, over: bool) -> tuple[exp.Expr, Wrap]:
    count_arguments(name, values, 2, 2)
    if name in ("PERCENTILE_CONT", "PERCENTILE_DISC"):
        if not over or parts.ignores is False:
            raise unsupported(f"{name} with RESPECT NULLS or without OVER")
        if name == "PERCENTILE_CONT":
            return call("quantile_cont", call("bq_to_float64", values[0]), values[1]), _as_is
        return call("quantile_disc", *values), _as_is
    count = parts.values[1]
    if not is_whole(count):
        raise unsupported(f"{name} with a number that is no literal")
    if name == "APPROX_QUANTILES":
        if parts.ignores is False:
            raise unsupported("APPROX_QUANTILES with RESPECT NULLS")
        size = int(count.name)
        points = exp.Array(expressions=[cast(text(repr(at / size)), "DOUBLE") for at in range(size + 1)])
        return _called(
            "quantile_disc",
            [values[0], points],
            _Parts([], distinct=False) if not parts.distinct else _refuse("APPROX_QUANTILES(DISTINCT)"),
        ), _as_is

    def top(found: exp.Expr) -> exp.Expr:
        return call("bq_top", found, number(int(count.name)))

    return _called("histogram", values[:1], parts), top


def _string_agg(translator: Translator, node: exp.Expr) -> tuple[exp.Expr, Wrap]:
    parts = _peeled([node.this])
    count_arguments("STRING_AGG", parts.values, 1, 1)
    separator = node.args.get("separator")
    by = _peeled([separator]) if separator is not None else _Parts([])
    # sqlglot hangs ORDER BY and LIMIT on the last argument.
    parts.order, parts.limit = parts.order or by.order, by.limit if parts.limit is None else parts.limit
    (value,) = translator.all(parts.values)
    between = typed(translator.node(by.values[0])) if by.values else typed(text(","))
    if parts.limit is None and not parts.distinct and (not by.values or is_text(by.values[0])):
        literal = by.values[0] if by.values else text(",")
        return _called("string_agg", [value], parts, _ordered(translator, parts), [literal]), _as_is
    made = _called("list", [value], parts, _ordered(translator, parts))
    kept = exp.Not(this=exp.Is(this=typed(value.copy()), expression=exp.null()))
    limit = parts.limit

    def wrap(found: exp.Expr) -> exp.Expr:
        if limit is not None:
            found = call("list_slice", found, number(1), number(limit))
        return call("bq_joined", found, between)

    return exp.Filter(this=made, expression=exp.Where(this=kept)), wrap

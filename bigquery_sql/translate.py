"""A query's tree, from GoogleSQL's meaning to DuckDB's. What is not known to be right is refused by name."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlglot import exp

from bigquery_sql import casts, functions, layers, relations
from bigquery_sql.build import call, cast, is_text, is_whole, text, typed, unsupported
from bigquery_sql.errors import SqlError

#: Nodes that mean the same in both, once their parts are translated.
_PLAIN = (
    "Alias And Boolean Column ColumnDef CTE Dot Except Exists From Having HavingMax Identifier If "
    "Intersect Join Not Null Or Paren PropertyEQ Qualify Subquery Union Where With Having Tuple NullSafeEQ NullSafeNEQ "
    "Is TableAlias Var Rollup Cube GroupingSets"
).split()
_COMPARED = {exp.EQ: "eq", exp.NEQ: "ne", exp.LT: "lt", exp.LTE: "le", exp.GT: "gt", exp.GTE: "ge"}
_TURNED = {"gt": "lt", "ge": "le"}
_BINARY = {
    exp.Add: "bq_add",
    exp.Sub: "bq_sub",
    exp.Mul: "bq_mul",
    exp.Div: "bq_div_",
    exp.DPipe: "bq_concat_",
    exp.BitwiseAnd: "bq_and",
    exp.BitwiseOr: "bq_or",
    exp.BitwiseXor: "bq_xor",
    exp.BitwiseLeftShift: "bq_shl",
    exp.BitwiseRightShift: "bq_shr",
}


class Translator:
    """Translates one statement. parameters: name, in lower case, → an expression of DuckDB's."""

    def __init__(self, parameters: Mapping[str, exp.Expr]) -> None:
        self._parameters = parameters
        self._unnests = 0

    def query(self, tree: exp.Query) -> exp.Expr:
        """Return the tree in DuckDB's words. Raises SqlError."""
        return self.node(tree)

    def node(self, node: exp.Expr) -> exp.Expr:
        """Return a node in DuckDB's words."""
        kind = type(node)
        if kind in _HANDLERS:
            return _HANDLERS[kind](self, node)
        if kind in _COMPARED:
            return self._compared(node, _COMPARED[kind])
        if kind in (exp.Add, exp.Sub) and (moved := self._moved(node)) is not None:
            return moved
        if kind in _BINARY:
            return call(_BINARY[kind], self.node(node.this), self.node(node.expression))
        if kind.__name__ not in _PLAIN:
            raise unsupported(_told(node))
        return self.parts(node)

    def parts(self, node: exp.Expr) -> exp.Expr:
        """Return the same node with its parts translated."""
        for key, value in list(node.args.items()):
            if isinstance(value, exp.Expr):
                node.set(key, self.node(value))
            elif isinstance(value, list):
                node.set(key, [self.node(each) if isinstance(each, exp.Expr) else each for each in value])
        return node

    def all(self, nodes: list[exp.Expr]) -> list[exp.Expr]:
        """Return several nodes in DuckDB's words."""
        return [self.node(each) for each in nodes]

    def unnest_name(self) -> str:
        """Return another name for a table of UNNEST."""
        self._unnests += 1
        return f"unnest_{self._unnests}"

    def _compared(self, node: exp.Expr, name: str) -> exp.Expr:
        """Return a comparison; text that is compared as a date or time stays a literal, which takes the other side's
        type.
        """
        plain = any(is_text(side) or isinstance(side, exp.Null | exp.Tuple) for side in (node.this, node.expression))
        if plain:
            return self.parts(node)
        left, right = self.node(node.this), self.node(node.expression)
        return call(*(f"bq_{_TURNED[name]}", right, left) if name in _TURNED else (f"bq_{name}", left, right))

    def literal(self, node: exp.Expr) -> exp.Expr:
        """Return a literal; a number is INT64 or FLOAT64."""
        if node.is_string:
            return node
        return cast(text(node.name), "BIGINT" if node.name.isdigit() else "DOUBLE")

    def negated(self, node: exp.Expr) -> exp.Expr:
        """Return a minus, which belongs to a literal's value, as in the smallest INT64."""
        if is_whole(node.this):
            return cast(text(f"-{node.this.name}"), "BIGINT")
        return call("bq_neg", self.node(node.this))

    def parameter(self, node: exp.Expr) -> exp.Expr:
        """Return a parameter's value."""
        if node.name.lower() not in self._parameters:
            raise SqlError(f"Query parameter '{node.name}' not found")
        return self._parameters[node.name.lower()].copy()

    def hexadecimal(self, node: exp.Expr) -> exp.Expr:
        """Return a number such as 0xFF."""
        return cast(text(str(int(node.name, 16))), "BIGINT")

    def bracket(self, node: exp.Expr) -> exp.Expr:
        """Return array[OFFSET(n)] or one of its like, or json['name']."""
        if len(node.expressions) != 1:
            raise unsupported(_told(node))
        (index,) = node.expressions
        if is_text(index):
            return call("bq_json_field", self.node(node.this), self.node(index))
        base = cast(text(str(node.args.get("offset") or 0)), "BIGINT")
        name = "bq_safe_offset" if node.args.get("safe") else "bq_offset"
        return call(name, self.node(node.this), self.node(index), base)

    def like(self, node: exp.Expr) -> exp.Expr:
        """Return LIKE, in which a backslash escapes."""
        if isinstance(node.expression, exp.Any | exp.All):
            return self._like_several(node)
        return call("bq_like", self.node(node.this), self.node(node.expression))

    def _like_several(self, node: exp.Expr) -> exp.Expr:
        """Return LIKE ANY (…) or LIKE ALL (…)."""
        given = node.expression.this
        if node.args.get("negate") or not isinstance(given, exp.Paren | exp.Tuple):
            raise unsupported("NOT LIKE ANY, NOT LIKE ALL, or LIKE ANY of anything but patterns in parentheses")
        patterns = given.expressions if isinstance(given, exp.Tuple) else [given.this]
        if any(isinstance(each, exp.Query) for each in patterns):
            raise unsupported("LIKE ANY of a query")
        this = self.node(node.this)
        both = exp.Or if isinstance(node.expression, exp.Any) else exp.And
        found = call("bq_like", this, self.node(patterns[0]))
        for each in patterns[1:]:
            found = both(this=found, expression=call("bq_like", this.copy(), self.node(each)))
        return exp.Paren(this=found)

    def contained(self, node: exp.Expr) -> exp.Expr:
        """Return x IN (…), IN (SELECT …) or IN UNNEST(…). NaN is in nothing."""
        this = self.node(node.this)
        unnest = node.args.get("unnest")
        if unnest is not None:
            of = unnest.expressions[0] if isinstance(unnest, exp.Unnest) else unnest
            select = exp.Select(expressions=[call("unnest", self.node(of))])
            return self._of_numbers(exp.In(this=this, query=exp.Subquery(this=select)))
        if query := node.args.get("query"):
            return self._of_numbers(exp.In(this=this, query=self.node(query)))
        if any(is_text(each) for each in (node.this, *node.expressions)):
            return exp.In(this=this, expressions=self.all(node.expressions))
        return self._of_numbers(exp.In(this=this, expressions=self.all(node.expressions)))

    def _of_numbers(self, found: exp.In) -> exp.Expr:
        """Return IN with a condition that what is looked for is no NaN."""
        if isinstance(found.this, exp.Null | exp.Tuple | exp.Struct) or is_text(found.this):
            return found
        return exp.Paren(this=exp.And(this=found, expression=call("bq_number", found.this.copy())))

    def between(self, node: exp.Expr) -> exp.Expr:
        """Return x BETWEEN low AND high, which is false where high is NaN."""
        if any(each.name.upper() == "RAND" for each in node.this.find_all(exp.Anonymous)):
            # DuckDB would draw twice, once for each end.
            raise unsupported(f"RAND() in {_told(node)}")
        self.parts(node)
        high = node.args["high"]
        if is_text(high) or isinstance(high, exp.Null):
            return node
        return exp.Paren(this=exp.And(this=node, expression=call("bq_number", high.copy())))

    def case(self, node: exp.Expr) -> exp.Expr:
        """Return CASE; in CASE x WHEN y no NaN is matched."""
        simple = node.args.get("this") is not None
        self.parts(node)
        for each in node.args["ifs"] if simple else []:
            each.set("this", functions.matched(each.this))
        return node

    def array(self, node: exp.Expr) -> exp.Expr:
        """Return […] or ARRAY(SELECT …)."""
        if len(node.expressions) == 1 and isinstance(node.expressions[0], exp.Query):
            return exp.Anonymous(this="ARRAY", expressions=self.all(node.expressions))
        items = [typed(each) for each in self.all(node.expressions)]
        first = items[0] if items else None
        if isinstance(first, exp.Struct):
            # All items have the names that the first one has.
            names = [each.name for each in first.expressions]
            items = [first, *(self._as_named(each, names) for each in items[1:])]
        return exp.Array(expressions=items)

    def _as_named(self, item: exp.Expr, names: list[str]) -> exp.Expr:
        """Return a struct in an array, with the fields' names of another."""
        if not isinstance(item, exp.Struct | exp.Tuple) or len(item.expressions) != len(names):
            raise unsupported("an array of such structs")
        values = [each.expression if isinstance(each, exp.PropertyEQ) else each for each in item.expressions]
        return casts.named_struct(dict(zip(names, values, strict=True)))

    def interval(self, node: exp.Expr) -> exp.Expr:
        """Return INTERVAL n PART as a value; _moved has what is added to a time or taken from one."""
        raise unsupported(f"{_told(node)} where it is neither added nor subtracted")

    def _moved(self, node: exp.Expr) -> exp.Expr | None:
        """Return a time plus or minus an INTERVAL, by which a DATE becomes a DATETIME; None for other sums."""
        value, interval = node.this.unnest(), node.expression.unnest()
        if isinstance(node, exp.Add) and isinstance(value, exp.Interval):
            value, interval = interval, value
        if not isinstance(interval, exp.Interval):
            return None
        if interval.args.get("unit") is None or isinstance(value, exp.Interval):
            raise unsupported(_told(node))
        sign = 1 if isinstance(node, exp.Add) else -1
        return functions.plus(self, "an INTERVAL", call("bq_moment", self.node(value)), interval, sign)

    def limit(self, node: exp.Expr) -> exp.Expr:
        """Return LIMIT or OFFSET, of a literal or a parameter."""
        if isinstance(node.expression, exp.Parameter | exp.Placeholder | exp.Cast):
            node.set("expression", self.node(node.expression))
        elif not is_whole(node.expression):
            raise unsupported(_told(node))
        return node

    def safe(self, node: exp.Expr) -> exp.Expr:
        """Return SAFE.function(…)."""
        if not isinstance(node.this, exp.Anonymous):
            raise unsupported(_told(node))
        return call("TRY", self.node(node.this))


def _told(node: exp.Expr) -> str:
    shown = node.sql(dialect="bigquery")
    return shown if len(shown) <= 60 else f"{type(node).__name__.upper()} in {shown[:60]}…"


_HANDLERS: dict[type, Callable[[Any, Any], exp.Expr]] = {
    exp.Literal: Translator.literal,
    exp.Neg: Translator.negated,
    exp.BitwiseNot: lambda t, n: call("bq_not", t.node(n.this)),
    exp.Parameter: Translator.parameter,
    exp.Placeholder: Translator.parameter,
    exp.HexString: Translator.hexadecimal,
    exp.Bracket: Translator.bracket,
    exp.Like: Translator.like,
    exp.In: Translator.contained,
    exp.Between: Translator.between,
    exp.Case: Translator.case,
    exp.Array: Translator.array,
    exp.Interval: Translator.interval,
    exp.SafeFunc: Translator.safe,
    exp.Cast: casts.cast_to,
    exp.TryCast: casts.try_cast,
    exp.ParseJSON: lambda t, n: call("bq_parse_json", t.node(n.this)),
    exp.Extract: functions.extract,
    exp.Anonymous: functions.function,
    layers.Done: lambda t, n: n.this,
    exp.CurrentDate: lambda t, n: call("bq_current_date"),
    exp.CurrentTimestamp: lambda t, n: call("bq_current_timestamp"),
    exp.CurrentDatetime: lambda t, n: call("bq_current_datetime"),
    exp.CurrentTime: lambda t, n: call("bq_current_time"),
    exp.Select: relations.select,
    exp.Union: relations.combined,
    exp.Intersect: relations.combined,
    exp.Except: relations.combined,
    exp.Subquery: relations.subquery,
    exp.Order: relations.order,
    exp.Limit: Translator.limit,
    exp.Offset: Translator.limit,
    exp.Star: relations.star,
    exp.Table: relations.table,
    exp.Unnest: relations.unnest,
}

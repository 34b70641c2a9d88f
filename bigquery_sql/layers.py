"""A SELECT in layers: aggregates below, window functions above them, and what is made of both on top.

DuckDB takes no overloaded macro around an aggregate or a window function of the same SELECT, because it can't tell the
types there. In a layer above, aggregates and window functions are columns like others.
"""

from collections.abc import Callable, Iterator

from sqlglot import exp

from bigquery_sql import aggregates
from bigquery_sql.build import Translator, is_whole, unsupported
from bigquery_sql.errors import SqlError

_CLAUSES = ("having", "qualify", "order")


class Done(exp.Expression):
    """What is translated already."""

    arg_types = {"this": True}


def split(translator: Translator, node: exp.Expr) -> None:
    """Move the aggregates and window functions of a SELECT into queries of its FROM."""
    _name_windows(node)
    _spell_aliases(node)
    group = node.args.get("group")
    if group is not None or any(_aggregates(node)):
        _grouped(translator, node, group)
    if any(True for part in _tops(node) for _ in _within(part, _is_window)) or _uses_aliases(node):
        _windowed(translator, node)


def _uses_aliases(node: exp.Expr) -> bool:
    """Return whether the SELECT's columns or its WHERE have a name that a column is given.

    DuckDB would take the given name there; BigQuery knows only what FROM has, as a query below does.
    """
    if any(each.find(exp.Query) for each in node.expressions):
        # What a query within takes of the FROM stays in reach of that query.
        return False
    given = {each.alias.lower() for each in node.expressions if isinstance(each, exp.Alias)}
    where = node.args.get("where")
    for part in [*node.expressions, *([where] if where is not None else [])]:
        own = part.alias.lower() if isinstance(part, exp.Alias) else ""
        for column in _within(part, lambda each: isinstance(each, exp.Column)):
            if not column.args.get("table") and column.name.lower() in given - {own}:
                return True
    return False


def _name_windows(node: exp.Expr) -> None:
    """Put what WINDOW says of a name in the places of the name."""
    named = {each.name.lower(): each for each in node.args.get("windows") or []}
    node.set("windows", None)

    def spell(window: exp.Expr) -> None:
        name = window.args.get("alias")
        if name is None:
            return
        meant = named.get(name.name.lower())
        if meant is None or meant is window:
            raise SqlError(f"Unrecognized window alias {name.name}")
        window.set("alias", None)
        spell(meant)
        for key in ("partition_by", "order", "spec"):
            value = meant.args.get(key)
            if value is None or value == []:
                continue
            if window.args.get(key):
                raise SqlError(f"window {name.name} has its own {key.replace('_', ' ').upper()}")
            window.set(key, [each.copy() for each in value] if isinstance(value, list) else value.copy())

    for definition in named.values():
        spell(definition)
    for part in _tops(node):
        for window in _within(part, _is_window):
            spell(window)


def _tops(node: exp.Expr) -> list[exp.Expr]:
    """Return the expressions of a SELECT that stand after FROM, WHERE and GROUP BY."""
    return [*node.expressions, *(node.args[key] for key in _CLAUSES if node.args.get(key) is not None)]


def _within(node: exp.Expr, wanted: Callable[[exp.Expr], bool]) -> Iterator[exp.Expr]:
    """Yield the outermost nodes of some kind in an expression, those of queries within it left out."""
    if wanted(node):
        yield node
        return
    if isinstance(node, exp.Query | Done):
        return
    function = node.this if isinstance(node, exp.Window) else None
    for each in list(node.iter_expressions()):
        # A function with OVER is no aggregate of the SELECT, but its arguments may hold some.
        for part in list(each.iter_expressions()) if each is function else [each]:
            yield from _within(part, wanted)


def _is_window(node: exp.Expr) -> bool:
    return isinstance(node, exp.Window)


def _is_aggregate(node: exp.Expr) -> bool:
    if isinstance(node, exp.GroupConcat):
        return True
    return isinstance(node, exp.Anonymous) and node.name.upper() in aggregates.NAMES


def _aggregates(node: exp.Expr) -> Iterator[exp.Expr]:
    for part in _tops(node):
        yield from _within(part, _is_aggregate)


def _spell_aliases(node: exp.Expr) -> None:
    """Put into HAVING, QUALIFY and ORDER BY what the names of the SELECT's columns stand for."""
    named = {each.alias.lower(): each.this for each in node.expressions if isinstance(each, exp.Alias)}
    for key in _CLAUSES:
        clause = node.args.get(key)
        if clause is None:
            continue
        for place in [each for each in clause.expressions if isinstance(each, exp.Ordered) and is_whole(each.this)]:
            place.set("this", _meant(node, place.this))
        for column in list(_within(clause, lambda each: isinstance(each, exp.Column))):
            meant = named.get(column.name.lower())
            if meant is None or column.args.get("table"):
                continue
            ordered = isinstance(column.parent, exp.Ordered)
            if ordered or not any(_same(column, each) for each in meant.find_all(exp.Column)):
                column.replace(meant.copy() if ordered else exp.Paren(this=meant.copy()))


def _same(a: exp.Expr, b: exp.Expr) -> bool:
    if isinstance(a, exp.Column) and isinstance(b, exp.Column):
        return a.name.lower() == b.name.lower() and (not a.table or not b.table or a.table.lower() == b.table.lower())
    return a == b


def _column(name: str) -> exp.Expr:
    return exp.column(name, quoted=True)


def _grouped(translator: Translator, node: exp.Expr, group: exp.Expr | None) -> None:
    keys = _keys(node, group)
    below = _lifted(list(_aggregates(node)), "aggregate", lambda each: aggregates.made(translator, each))
    for at, key in enumerate(keys):
        for part in _tops(node):
            for found in list(_within(part, lambda each, key=key: _same(each, key))):  # type: ignore[misc]
                _swap(node, found, Done(this=_column(f"key_{at}")))
    translated = [translator.node(key.copy()) for key in keys]
    below = [*(exp.alias_(key.copy(), f"key_{at}", quoted=True) for at, key in enumerate(translated)), *below]
    if not below:
        raise unsupported("a GROUP BY of nothing")
    inner = _below(translator, node, below)
    if group is not None:
        if sets := _sets(group):
            inner.set("group", exp.Group(expressions=[_resolved(translator, node, each) for each in sets]))
        if inner.args.get("group") is None and keys:
            inner.set("group", exp.Group(expressions=translated))
        node.set("group", None)
    _stand_on(node, inner)
    if having := node.args.get("having"):
        node.set("having", None)
        node.set("where", exp.Where(this=having.this))


def _lifted(
    found: list[exp.Expr], kind: str, make: Callable[[exp.Expr], tuple[exp.Expr, aggregates.Wrap]]
) -> list[exp.Expr]:
    """Return columns of the layer below for these nodes, and put what `make` gives in their places; like nodes share a
    column.
    """
    below: list[exp.Expr] = []
    seen: list[tuple[exp.Expr, exp.Expr]] = []
    for each in found:
        known = next((done for there, done in seen if there == each), None)
        if known is None:
            name = f"{kind}_{len(below)}"
            made, wrap = make(each.copy())
            below.append(exp.alias_(made, name, quoted=True))
            known = wrap(_column(name))
            seen.append((each.copy(), known))
        each.replace(Done(this=known.copy()))
    return below


def _swap(node: exp.Expr, found: exp.Expr, by: exp.Expr) -> None:
    """Put an expression in a node's place; a column of the SELECT keeps its name."""
    if found.parent is node and found.arg_key == "expressions" and isinstance(found, exp.Column | exp.Dot):
        by = exp.alias_(by, found.name, quoted=True)
    found.replace(by)


def _keys(node: exp.Expr, group: exp.Expr | None) -> list[exp.Expr]:
    """Return the expressions that are grouped by, with places and names of columns spelt out."""
    if group is None:
        return []
    if group.args.get("all"):
        return [
            (each.this if isinstance(each, exp.Alias) else each).copy()
            for each in node.expressions
            if not any(_within(each, _is_aggregate))
        ]
    sets = _sets(group)
    given = [leaf for each in sets for leaf in _leaves(each)] if sets else list(group.expressions)
    if sets and len(sets) < len(group.expressions):
        raise unsupported("GROUP BY of both plain columns and ROLLUP, CUBE or GROUPING SETS")
    keys: list[exp.Expr] = []
    for each in given:
        key = _meant(node, each)
        if not any(_same(key, there) for there in keys):
            keys.append(key)
    return keys


def _sets(group: exp.Expr) -> list[exp.Expr]:
    return [each for each in group.expressions if isinstance(each, exp.Rollup | exp.Cube | exp.GroupingSets)]


def _leaves(node: exp.Expr) -> Iterator[exp.Expr]:
    for each in node.expressions:
        if isinstance(each, exp.Rollup | exp.Cube):
            raise unsupported("ROLLUP or CUBE within GROUPING SETS")
        if isinstance(each, exp.Tuple):
            yield from each.expressions
        else:
            yield each.this if isinstance(each, exp.Paren) else each


def _resolved(translator: Translator, node: exp.Expr, sets: exp.Expr) -> exp.Expr:
    """Return ROLLUP, CUBE or GROUPING SETS with places and names of columns spelt out."""
    made = sets.copy()
    for each in list(_leaves(made)):
        each.replace(translator.node(_meant(node, each)))
    return made


def _meant(node: exp.Expr, key: exp.Expr) -> exp.Expr:
    if is_whole(key):
        place = int(key.name)
        if not 1 <= place <= len(node.expressions):
            raise unsupported(f"GROUP BY {place}, which is no column's place,")
        column = node.expressions[place - 1]
        found: exp.Expr = (column.this if isinstance(column, exp.Alias) else column).copy()
        return found
    if isinstance(key, exp.Column) and not key.table:
        for each in node.expressions:
            if isinstance(each, exp.Alias) and each.alias.lower() == key.name.lower():
                if any(_same(key, column) for column in each.this.find_all(exp.Column)):
                    break
                meant: exp.Expr = each.this.copy()
                return meant
    return key.copy()


def _windowed(translator: Translator, node: exp.Expr) -> None:
    """Move window functions, and the columns that the SELECT names, into a query below."""
    found = [each for part in _tops(node) for each in list(_within(part, _is_window))]
    below = _lifted(found, "window", lambda each: aggregates.windowed(translator, each))
    columns: list[exp.Expr] = []
    for part in _tops(node):
        for each in list(_within(part, lambda one: isinstance(one, exp.Column) and not isinstance(one.this, exp.Star))):
            at = next((at for at, there in enumerate(columns) if there == each), len(columns))
            if at == len(columns):
                columns.append(each.copy())
            _swap(node, each, Done(this=_column(f"column_{at}")))
    below += [exp.alias_(translator.node(each), f"column_{at}", quoted=True) for at, each in enumerate(columns)]
    done = [each for part in _tops(node) for each in part.find_all(Done)]
    below += [
        exp.alias_(column.copy(), column.name, quoted=True)
        for column in {c.name: c for each in done for c in each.find_all(exp.Column)}.values()
        if column.name.startswith(("key_", "aggregate_"))
    ]
    stars = [each for each in node.expressions if each.is_star]
    if stars:
        if any(not isinstance(each, exp.Star) for each in stars) or len(stars) > 1:
            raise unsupported("t.* beside a function with OVER")
        hidden = [exp.to_identifier(each.alias, quoted=True) for each in below]
        below = [exp.Star(), *below]
        stars[0].set("except_", [*(stars[0].args.get("except_") or []), *hidden])
    inner = _below(translator, node, below)
    _stand_on(node, inner)
    if qualify := node.args.get("qualify"):
        node.set("qualify", None)
        node.set("where", exp.Where(this=qualify.this))


def _below(translator: Translator, node: exp.Expr, columns: list[exp.Expr]) -> exp.Expr:
    """Return a query of the SELECT's rows, by its FROM and WHERE."""
    inner = exp.Select(expressions=columns)
    for key in ("from_", "joins", "where"):
        value = node.args.get(key)
        if isinstance(value, list):
            inner.set(key, translator.all(value))
        elif value is not None:
            inner.set(key, translator.node(value))
        node.set(key, None)
    return inner


def _stand_on(node: exp.Expr, inner: exp.Expr) -> None:
    rows = exp.Subquery(this=inner, alias=exp.TableAlias(this=exp.to_identifier("layer", quoted=True)))
    node.set("from_", exp.From(this=Done(this=rows)))

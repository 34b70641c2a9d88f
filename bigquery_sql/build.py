"""Small pieces that trees are built of."""

from collections.abc import Sequence
from typing import Protocol

from sqlglot import exp

from bigquery_sql.errors import SqlError, UnsupportedError


class Translator(Protocol):
    """What translates the parts of a node: `translate.Translator`, as the modules see it that it calls itself."""

    def node(self, node: exp.Expr) -> exp.Expr:
        """Return a node in DuckDB's words."""

    def parts(self, node: exp.Expr) -> exp.Expr:
        """Return the same node with its parts translated."""

    def all(self, nodes: list[exp.Expr]) -> list[exp.Expr]:
        """Return several nodes in DuckDB's words."""

    def array(self, node: exp.Expr) -> exp.Expr:
        """Return […] or ARRAY(SELECT …)."""

    def unnest_name(self) -> str:
        """Return another name for a table of UNNEST."""


def call(name: str, *arguments: exp.Expr) -> exp.Expr:
    """Return a call of a function or macro of DuckDB's, in which literals of text are VARCHAR and of no other type."""
    return exp.Anonymous(this=name, expressions=[typed(each) for each in arguments])


def typed(node: exp.Expr) -> exp.Expr:
    """Return a literal of text with its type; other nodes as they are."""
    return cast(node, "VARCHAR") if is_text(node) else node


def cast(node: exp.Expr, kind: str) -> exp.Expr:
    """Return a cast to a type of DuckDB's."""
    return exp.Cast(this=node, to=exp.DataType.build(kind, dialect="duckdb"))


def is_text(node: object) -> bool:
    """Return whether a node is a literal of text."""
    return isinstance(node, exp.Literal) and bool(node.is_string)


def is_whole(node: object) -> bool:
    """Return whether a node is a literal of a whole number."""
    return isinstance(node, exp.Literal) and not node.is_string and str(node.this).isdigit()


def number(value: int) -> exp.Expr:
    """Return a whole number as DuckDB's INTEGER."""
    return exp.Literal.number(value)


def text(value: str) -> exp.Expr:
    """Return a literal of text."""
    return exp.Literal.string(value)


def unsupported(what: str) -> UnsupportedError:
    """Return the error for what BigQuery can do and one machine can't."""
    return UnsupportedError(f"{what} is not supported on one machine")


def count_arguments(name: str, arguments: Sequence[object], least: int, most: int) -> None:
    """Raise SqlError if a function has more or fewer arguments than it takes."""
    if not least <= len(arguments) <= most:
        raise SqlError(f"no matching signature for {name.upper()} with {len(arguments)} arguments")

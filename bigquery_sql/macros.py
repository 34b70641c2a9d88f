"""The macros of the .sql files beside this one: which there are, and which others and Python functions each needs."""

import functools
import re
from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING, Any

from bigquery_sql import json_values, printf, scalars, times

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_FUNCTIONS = {**scalars.FUNCTIONS, **json_values.FUNCTIONS, **times.FUNCTIONS}
#: Functions that take values of any types.
_OF_ANYTHING: dict[str, Callable[..., Any]] = {
    "py_format": printf.text_format,
    "py_to_json": json_values.to_json,
    "py_json_of": json_values.json_of,
}


@functools.cache
def known() -> dict[str, str]:
    """Return name → the statement that makes the macro."""
    texts = [resources.files("bigquery_sql").joinpath(name).read_text("utf-8") for name in ("macros.sql", "times.sql")]
    statements = re.findall(r"^CREATE MACRO (\w+)(.*);$", "\n".join(texts), re.MULTILINE)
    json = 'STRUCT("json$" VARCHAR)'
    return {name: re.sub(r" JSON(?=[,)])", f" {json}", f"CREATE TEMP MACRO {name}{rest}") for name, rest in statements}


def provide(connection: "DuckDBPyConnection", sql: str) -> None:
    """Make the macros and functions that a statement uses."""
    from duckdb.func import FunctionNullHandling

    made: set[str] = set()

    def make(name: str) -> None:
        """Make one macro or function, after those that it needs itself."""
        made.add(name)
        for other in sorted(_names(known().get(name, ""))):
            if other not in made:
                make(other)
        if name in _OF_ANYTHING:
            connection.create_function(
                name, _OF_ANYTHING[name], None, "VARCHAR", null_handling=FunctionNullHandling.SPECIAL
            )
        elif name in _FUNCTIONS:
            function, takes, gives = _FUNCTIONS[name]
            taken = function if name in scalars.TAKE_NULL else _of_values(function)
            connection.create_function(name, taken, takes, gives, null_handling=FunctionNullHandling.SPECIAL)
        else:
            connection.execute(known()[name])

    for name in sorted(_names(sql)):
        if name not in made:
            make(name)


def _of_values(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with NULL as its result where an argument is NULL."""

    @functools.wraps(function)
    def made(*values: object) -> object:
        return None if None in values else function(*values)

    return made


def _names(sql: str) -> set[str]:
    found = {name.lower() for name in re.findall(r"\b(?:bq|py)_\w+", sql, re.IGNORECASE)}
    return {name for name in found if name in known() or name in _FUNCTIONS or name in _OF_ANYTHING}

"""Parameters of the local BigQuery's queries: their values as expressions of GoogleSQL."""

from collections.abc import Mapping
from typing import Any

import sqlglot
from sqlglot import exp

from localcloud.bigquery_errors import ApiError, unsupported

_SCALARS = (
    "STRING INT64 FLOAT64 NUMERIC BIGNUMERIC BOOL BYTES DATE DATETIME TIME TIMESTAMP JSON INTEGER FLOAT BOOLEAN".split()
)


def numbered(sql: str) -> str:
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


def set_parameters(select: exp.Expr, parameters: Mapping[str, Mapping[str, Any]]) -> None:
    """Put the values of parameters in their places. Raises ApiError for one that is not given."""
    for node in list(select.find_all(exp.Parameter, exp.Placeholder)):
        if node.name.lower() not in parameters:
            raise ApiError("invalidQuery", f"Query parameter '{node.name}' not found")
        given = parameters[node.name.lower()]
        node.replace(literal(given["parameterType"], given.get("parameterValue") or {}))


def _spelled(kind: Mapping[str, Any]) -> str:
    """Return a parameter's type as GoogleSQL writes it. Raises ApiError."""
    if kind["type"] == "ARRAY":
        return f"ARRAY<{_spelled(kind['arrayType'])}>"
    if kind["type"] == "STRUCT":
        if any(not each.get("name") for each in kind["structTypes"]):
            raise unsupported("query parameters of the type STRUCT whose fields have no names")
        return (
            f"STRUCT<{', '.join('`' + each['name'] + '` ' + _spelled(each['type']) for each in kind['structTypes'])}>"
        )
    if kind["type"] not in _SCALARS:
        raise unsupported(f"query parameters of the type {kind['type']}")
    return str(kind["type"])


def literal(kind: Mapping[str, Any], value: Mapping[str, Any]) -> exp.Expr:
    """Return a parameter as an expression of its type."""
    if kind["type"] == "ARRAY":
        items = [literal(kind["arrayType"], item) for item in value.get("arrayValues", [])]
        return exp.cast(exp.Array(expressions=items), _spelled(kind), dialect="bigquery")
    if kind["type"] == "STRUCT":
        given = value.get("structValues", {})
        parts = [literal(each["type"], given.get(each["name"], {})) for each in kind["structTypes"]]
        return exp.cast(exp.Struct(expressions=parts), _spelled(kind), dialect="bigquery")
    if kind["type"] not in _SCALARS:
        raise unsupported(f"query parameters of the type {kind['type']}")
    text = value.get("value")
    if text is None:
        return exp.cast(exp.null(), kind["type"], dialect="bigquery")
    if kind["type"] == "BYTES":
        return exp.Anonymous(this="FROM_BASE64", expressions=[exp.Literal.string(text)])
    return exp.cast(exp.Literal.string(str(text)), kind["type"], dialect="bigquery")


def _syntax(error: sqlglot.errors.SqlglotError) -> str:
    details = getattr(error, "errors", None)
    if not details:
        return str(error).splitlines()[0]
    return f"{details[0]['description']} at [{details[0]['line']}:{details[0]['col']}]"

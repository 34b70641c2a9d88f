"""GoogleSQL, BigQuery's dialect, on DuckDB: one translation, for one machine's warehouse and for the local BigQuery.

A query means what it means in BigQuery, or it is refused in one sentence: functions and forms that are not known to be
right are not passed on. Tables are DuckDB's, with columns of the types that GoogleSQL has: a TIMESTAMP is a
TIMESTAMPTZ, a DATETIME a TIMESTAMP, a NUMERIC a DECIMAL(38,9).
"""

from bigquery_sql.dialect import parse
from bigquery_sql.engine import fetch, literal, prepare, told, translate
from bigquery_sql.errors import DuplicateError, SqlError, UnsupportedError

__all__ = [
    "DuplicateError",
    "SqlError",
    "UnsupportedError",
    "fetch",
    "literal",
    "parse",
    "prepare",
    "told",
    "translate",
]

"""The table of GoogleSQL's expressions and what gives them: one machine's warehouse, and the local BigQuery.

As a program it prints what differs, one line each, in the zone that TZ names.
"""

import datetime
import json
import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from localcloud import bigquery_sql as local_bigquery
from localcloud.bigquery_errors import ApiError
from millrace.core.storage import LocalStorage
from millrace.core.warehouse import LocalWarehouse
from millrace.errors import QueryError

TABLE = Path(__file__).with_name("bigquery_sql") / "expressions.tsv"
CASES = Path(__file__).resolve().parents[2] / "shared" / "cases" / "sql.tsv"
#: Which refusals of the local BigQuery say that the real one would not refuse.
UNSUPPORTED = "notImplemented"


@dataclass(frozen=True)
class Case:
    """An expression, GoogleSQL's type of it ("" where the table says none), and its value in JSON, ERROR or REFUSED."""

    sql: str
    kind: str
    expected: str

    @property
    def fails(self) -> bool:
        """Whether it gives no value."""
        return self.expected in ("ERROR", "REFUSED")


def cases() -> list[Case]:
    """All of the table, and the cases that failed once where they are there."""
    lines = [line.split("\t") for line in TABLE.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    found = [Case(sql, kind, expected) for sql, kind, expected in lines]
    if CASES.exists():
        lines = [line.split("\t") for line in CASES.read_text("utf-8").splitlines()]
        found += [Case(sql.removeprefix("SELECT "), "", expected) for sql, expected in lines]
    return found


class Refused(Exception):  # noqa: N818
    """A query got no answer; known: by a name that is not supported."""

    def __init__(self, message: str, known: bool) -> None:
        super().__init__(message)
        self.known = known


Runner = Callable[[str], tuple[pa.Table, list[str] | None]]


def warehouse(sql: str) -> tuple[pa.Table, list[str] | None]:
    """One machine's warehouse, without tables."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return LocalWarehouse(LocalStorage(folder)).query(sql), None
        except QueryError as error:
            raise Refused(str(error), "not supported" in str(error)) from None


def bigquery(sql: str) -> tuple[pa.Table, list[str] | None]:
    """The local BigQuery's statement, without its service."""
    try:
        (tree,) = local_bigquery.parse(sql, {"useLegacySql": False})
        statement = local_bigquery.Reader(None, "p").statement(tree)
        rows, fields = statement.run(statement.steps[0], [])
    except ApiError as error:
        raise Refused(error.message, error.reason == UNSUPPORTED) from None
    return rows, [_spelled(field) for field in fields]


def _spelled(field: dict[str, Any]) -> str:
    names = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "RECORD": "STRUCT"}
    kind = names.get(field["type"], field["type"])
    return f"ARRAY<{kind}>" if field["mode"] == "REPEATED" else kind


def differences(run: Runner) -> list[str]:
    """What a runner gives that is not what the table says."""
    whole = cases()
    giving = [case for case in whole if not case.fails]
    found = [line for start in range(0, len(giving), 50) for line in _compared(run, giving[start : start + 50])]
    for case in whole:
        if case.fails:
            try:
                table, _ = run(f"SELECT {case.sql}")
                found.append(f"{case.sql} gives {table.to_pylist()}, not {case.expected}")
            except Refused as refused:
                if "\n" in str(refused) or "Binder Error" in str(refused):
                    found.append(f"{case.sql} is refused by: {refused}")
                if case.expected == "REFUSED" and not refused.known:
                    found.append(f"{case.sql} is refused as an error, not as not supported: {refused}")
    return found


def _compared(run: Runner, part: list[Case]) -> list[str]:
    sql = "SELECT " + ",\n".join(f"({case.sql}) AS c{at}" for at, case in enumerate(part))
    try:
        table, kinds = run(sql)
    except Refused as refused:
        if len(part) == 1:
            return [f"{part[0].sql} is refused: {refused}"]
        middle = len(part) // 2
        return _compared(run, part[:middle]) + _compared(run, part[middle:])
    (row,) = table.to_pylist()
    found = []
    for at, case in enumerate(part):
        value = as_json(row[f"c{at}"], case.kind)
        if not same(value, json.loads(case.expected)):
            found.append(f"{case.sql} gives {json.dumps(value, ensure_ascii=False)}, not {case.expected}")
        kind = kinds[at] if kinds else arrow_kind(table.schema.field(f"c{at}").type)
        # Arrow alone does not tell a DATETIME, nor JSON.
        wanted = case.kind if kinds else {"DATETIME": "TIMESTAMP", "JSON": "STRING"}.get(case.kind, case.kind)
        if wanted and kind != wanted:
            found.append(f"{case.sql} is {kind}, not {wanted}")
    return found


def same(value: object, expected: object) -> bool:
    """Whether values are equal, numbers of one kind to 15 digits."""
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(same, value, expected))
    if isinstance(value, float) and isinstance(expected, float):
        return math.isclose(value, expected, rel_tol=1e-14, abs_tol=1e-15)
    return type(value) is type(expected) and value == expected


def as_json(value: Any, kind: str) -> object:
    """A value as the table writes it."""
    if isinstance(value, list):
        return [as_json(each, kind.removeprefix("ARRAY<").removesuffix(">")) for each in value]
    if isinstance(value, dict):
        return {name: as_json(each, "") for name, each in value.items()}
    if isinstance(value, datetime.datetime):
        return str(value.replace(tzinfo=None)) + ("" if kind == "DATETIME" else "+00")
    if isinstance(value, datetime.date | datetime.time):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def arrow_kind(kind: pa.DataType) -> str:
    """GoogleSQL's name of a type of Arrow's."""
    names = {
        pa.int64(): "INT64",
        pa.float64(): "FLOAT64",
        pa.string(): "STRING",
        pa.binary(): "BYTES",
        pa.bool_(): "BOOL",
        pa.date32(): "DATE",
        pa.time64("us"): "TIME",
        pa.timestamp("us"): "TIMESTAMP",
        pa.decimal128(38, 9): "NUMERIC",
    }
    if pa.types.is_list(kind):
        return f"ARRAY<{arrow_kind(kind.value_type)}>"
    return "STRUCT" if pa.types.is_struct(kind) else names.get(kind, str(kind))


def main() -> None:
    """Prints what differs, of those that are named: warehouse, BigQuery."""
    runners = {"warehouse": warehouse, "BigQuery": bigquery}
    for name in sys.argv[1:]:
        for line in differences(runners[name]):
            print(f"{name}: {line}")


if __name__ == "__main__":
    main()

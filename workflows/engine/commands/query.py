"""The command behind bin/query: one SELECT in BigQuery's dialect over the warehouse, printed."""

import argparse
import csv
import json
import sys
from typing import TYPE_CHECKING

from pipelines.errors import MillraceError
from workflows.engine import clients, console

if TYPE_CHECKING:
    import pyarrow as pa


def main() -> int:
    """Runs the query of the command line; the exit code."""
    parser = argparse.ArgumentParser(prog="bin/query", description="Queries the warehouse, in BigQuery's dialect.")
    parser.add_argument("sql", nargs="?", help="one SELECT; without it the tables are listed")
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table")
    arguments = parser.parse_args()
    try:
        if arguments.sql is None:
            print("\n".join(clients.warehouse().tables()))
            return 0
        _PRINTERS[arguments.format](clients.warehouse().query(arguments.sql))
    except MillraceError as error:
        return console.print_error(error)
    except BrokenPipeError:  # the reader has seen enough
        sys.stderr.close()
    return 0


def _print_table(table: "pa.Table") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, header_style="bold", pad_edge=False)
    numbers = [str(field.type).startswith(("int", "uint", "double", "float", "decimal")) for field in table.schema]
    for name, right in zip(table.column_names, numbers, strict=True):
        drawn.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in table.to_pylist():
        drawn.add_row(*(Text(_as_text(value)) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(drawn)


def _print_csv(table: "pa.Table") -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(table.column_names)
    writer.writerows([_as_text(value) for value in row.values()] for row in table.to_pylist())


def _print_json(table: "pa.Table") -> None:
    for row in table.to_pylist():
        print(json.dumps(row, default=_as_text, ensure_ascii=False))


_PRINTERS = {"table": _print_table, "csv": _print_csv, "json": _print_json}


def _as_text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return "" if value is None else str(value)


if __name__ == "__main__":
    sys.exit(main())

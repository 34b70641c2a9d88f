"""Ask the warehouse: one SELECT in BigQuery's dialect. Without it the tables are listed, with their columns.

What is printed is safe to look at, because a post may hold anything: the table shows what would act on a terminal as
U+FFFD, JSON escapes it, and CSV keeps a spreadsheet from taking a text for a formula.
"""

import csv
import datetime
import decimal
import json
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from millrace.common.text import plain
from millrace.core.warehouse import parse, table_names
from millrace.errors import QueryError
from millrace.ops import arguments
from millrace.tasks import session

if TYPE_CHECKING:
    import pyarrow as pa

#: What spreadsheets take for the beginning of a formula, in full width too, or jump over to find one.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
#: How a warehouse says that it knows no such column.
_NO_COLUMN = re.compile(r"\bcolumn\b|unrecognized name|\bname\b.* not found", re.IGNORECASE)


def _found(sql: str) -> "pa.Table":
    try:
        return session.current().warehouse.query(sql)
    except QueryError as error:
        if not _NO_COLUMN.search(str(error)):
            raise
        there = session.current().warehouse.columns()
        known = [f"{name} has {', '.join(there[name])}" for name in sorted(table_names(parse(sql))) if name in there]
        raise QueryError("; ".join([str(error).rstrip("!. "), *known])) from None


def _columns() -> "pa.Table":
    """Return all tables' columns, a row each."""
    import pyarrow as pa

    rows = [
        (table, column, kind)
        for table, columns in sorted(session.current().warehouse.columns().items())
        for column, kind in columns.items()
    ]
    names = ("table", "column", "type")
    return pa.table({name: pa.array([row[n] for row in rows], pa.string()) for n, name in enumerate(names)})


def _print_table(table: "pa.Table") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, header_style="bold", pad_edge=False)
    numbers = [str(field.type).startswith(("int", "uint", "double", "float", "decimal")) for field in table.schema]
    for name, right in zip(table.column_names, numbers, strict=True):
        drawn.add_column(Text(_on_a_line(name)), justify="right" if right else "left", overflow="fold")
    for row in table.to_pylist():
        drawn.add_row(*(Text(_on_a_line(_as_text(value))) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(drawn)


def _on_a_line(text: str) -> str:
    return plain(re.sub(r"\r\n|[\r\n\t]", " ", text))


def _print_csv(table: "pa.Table") -> None:
    plainly, quoted = csv.writer(sys.stdout), csv.writer(sys.stdout, quoting=csv.QUOTE_ALL)
    for row in [table.column_names, *([*row.values()] for row in table.to_pylist())]:
        cells = [_as_cell(value) for value in row]
        # Some spreadsheets take another separator for the end of a cell, and what follows for a formula.
        writer = quoted if any(separator in cell for cell in cells for separator in ";\t") else plainly
        writer.writerow(cells)


def _print_raw_csv(table: "pa.Table") -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(table.column_names)
    writer.writerows([_as_text(value) for value in row.values()] for row in table.to_pylist())


def _as_cell(value: object) -> str:
    """Return a value for a spreadsheet: numbers and times are left as they are, texts can't be formulas."""
    text = _as_text(value)
    if isinstance(value, int | float | decimal.Decimal | datetime.date | datetime.time):
        return text
    return ("'" if text.startswith(_FORMULA) else "") + plain(text, keep="\n\t")


def _print_json(table: "pa.Table") -> None:
    for row in table.to_pylist():
        line = json.dumps(row, default=_as_text, ensure_ascii=False)
        print(line if plain(line) == line else json.dumps(row, default=_as_text))


_PRINTERS = {"table": _print_table, "csv": _print_csv, "csv-raw": _print_raw_csv, "json": _print_json}


def _as_text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return "" if value is None else str(value)


@click.command("query", cls=arguments.Command, help=__doc__)
@click.argument("sql", required=False)
@click.option(
    "--format",
    type=click.Choice(list(_PRINTERS)),
    default="table",
    help="table, for people, is the default; csv is for spreadsheets, a text that they would take for a formula begins "
    "with an apostrophe; csv-raw and json are for programs, with nothing changed",
)
def command(sql: str | None, format: str) -> None:
    """Print what the query finds, or all tables' columns."""
    try:
        _PRINTERS[format](_columns() if sql is None else _found(sql))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough
        sys.stderr.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    return arguments.run(command, argv)

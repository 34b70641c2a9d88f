"""bin/query: what it lists, and how it prints what a post may hold. In this process, over a real storage."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from running import DAY, Ran

from millrace.common.tables import Table, type_of
from millrace.ops import query

Query = Callable[..., Ran]
#: An escape sequence, a C1 control, a bidi override, and line ends that would forge a line.
HOSTILE = (
    "SELECT '\\u001b[31mred' AS esc, '\\u009b2J' AS c1, 'a\\u202eb' AS bidi, 'x\\r\\nerror: all is lost' AS forged"
)


@pytest.fixture
def call(undisturbed: Path, capsys: pytest.CaptureFixture[str]) -> Query:
    """Calls bin/query over the undisturbed run's storage, by a setting's flag."""

    def call(*arguments: object) -> Ran:
        code = query.main([*map(str, arguments), "--millrace-storage", str(undisturbed)])
        return Ran(code, *capsys.readouterr())

    return call


def test_without_a_query_tables_are_listed_with_their_columns(call: Query) -> None:
    """Each column of each table is a line, with BigQuery's type; as CSV and JSON too."""
    lines = [line.split() for line in call().out.splitlines()]
    assert lines[0] == ["table", "column", "type"]
    expected = {
        ("word_counts", "percent", "FLOAT64"),
        ("word_counts", "ts", "TIMESTAMP"),
        ("urls", "count", "INT64"),
        ("posts", "urls", "ARRAY<STRING>"),
        ("posts", "date", "DATE"),
        ("posts_rejected", "record", "BYTES"),
        ("counts_pairs", "word", "STRING"),
    }
    assert expected <= {tuple(line) for line in lines}
    as_json = [tuple(json.loads(line).values()) for line in call("--format", "json").out.splitlines()]
    assert as_json == [tuple(line) for line in lines[1:]]


def test_listed_columns_are_those_of_a_query(call: Query) -> None:
    """What is listed is what SELECT * gives."""
    listed = [json.loads(line) for line in call("--format", "json").out.splitlines()]
    for table in ("posts", "posts_rejected", "raw", "counts_words", "emerging_pairs"):
        (row,) = call(f"SELECT * FROM {table} LIMIT 1", "--format", "json").out.splitlines()[:1] or ["{}"]
        columns = {each["column"] for each in listed if each["table"] == table}
        assert columns == json.loads(row).keys() or row == "{}"


def test_a_column_that_is_not_there_is_answered_by_those_that_are(call: Query) -> None:
    """An unknown column's sentence says which columns the query's tables have."""
    ran = call("SELECT nothing FROM urls")
    assert ran.code == 1
    assert ran.err.startswith("error: the query can't be run: ")
    assert ran.err.endswith("urls has count, date, ts, url\n")
    assert ran.err.count("\n") == 1


def test_a_table_on_a_terminal_shows_no_control_characters(call: Query) -> None:
    """Nothing that acts on a terminal, turns text round or forges a line is printed: not in cells, not in names."""
    out = call(HOSTILE.replace("AS c1", r"AS `c\u001b`")).out
    assert not {"\x1b", "\x9b", "\u202e", "\r"} & set(out)
    assert "\ufffd[31mred" in out
    assert len(out.splitlines()) == 2


def test_json_escapes_what_acts_on_a_terminal(call: Query) -> None:
    """JSON holds the same values, and no character that does more than be seen."""
    (line,) = call(HOSTILE, "--format", "json").out.splitlines()
    assert line.isprintable()
    expected = {"esc": "\x1b[31mred", "c1": "\x9b2J", "bidi": "a\u202eb", "forged": "x\r\nerror: all is lost"}
    assert json.loads(line) == expected


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\\t", "\\r", "\\n=", "＝", "＠"])
def test_csv_holds_no_formulas(begin: str, call: Query) -> None:
    """A text that a spreadsheet takes for a formula gets an apostrophe, in names too; numbers stay what they are."""
    sql = f"SELECT '{begin}1+1' AS text, -1.5 AS number, DATE '{DAY}' AS day, 'a;={begin}2' AS later, ['=x'] AS many"
    out = call(sql, "--format", "csv").out
    (row,) = csv.DictReader(io.StringIO(out, newline=""))
    assert row["text"].startswith("'")
    assert (row["number"], row["day"]) == ("-1.5", str(DAY))
    assert '"a;=' in out  # where ; ends a cell, quotes keep it together
    assert not {"\x1b", "\x9b", "\u202e"} & set(call(HOSTILE, "--format", "csv").out)
    assert call("SELECT 1 AS `=1+1`", "--format", "csv").out.startswith("'=1+1")


def test_raw_csv_changes_nothing(call: Query) -> None:
    """--format csv-raw is for programs: the values as they are."""
    out = call("SELECT '=1+1' AS text, '\\u001b' AS esc, -1 AS number", "--format", "csv-raw").out
    assert list(csv.reader(io.StringIO(out, newline=""))) == [["text", "esc", "number"], ["=1+1", "\x1b", "-1"]]


def test_types_are_called_as_bigquery_calls_them() -> None:
    """The types of Table come back as they were; lists are arrays."""
    kinds = ["STRING", "INT64", "FLOAT64", "BOOL", "BYTES", "TIMESTAMP"]
    table = Table({**{kind.lower(): kind for kind in kinds}, "date": "DATE"})
    assert [type_of(str(field.type)) for field in table.schema()] == [*kinds, "DATE"]
    lists = {
        pa.list_(pa.string()): "ARRAY<STRING>",
        pa.list_(pa.field("item", pa.int32(), nullable=False)): "ARRAY<INT64>",
    }
    assert {kind: type_of(str(kind)) for kind in lists} == lists

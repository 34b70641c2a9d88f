"""One machine's warehouse and the local BigQuery give what Google's function reference says, or refuse, in any zone."""

import sys
from pathlib import Path

import pytest
import running
import sql_expressions

ASKED = [("Asia/Kolkata", "warehouse BigQuery"), ("America/New_York", "BigQuery"), ("UTC", "warehouse")]


@pytest.mark.parametrize(("zone", "asked"), ASKED)
def test_an_expression_gives_what_the_reference_says(zone: str, asked: str, tmp_path: Path) -> None:
    """Every expression of the table has its value and its type, on a machine of any zone, through both."""
    program = [sys.executable, Path(sql_expressions.__file__), *asked.split()]
    ran = running.run(program, tmp_path, running.environment(TZ=zone))
    assert (ran.code, ran.out) == (0, ""), ran


def test_the_table_is_large() -> None:
    """The table has more than 500 different expressions."""
    assert len({case.sql for case in sql_expressions.cases()}) > 500

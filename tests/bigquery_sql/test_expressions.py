"""One machine's warehouse and the local BigQuery give what Google's function reference says, or refuse, in any zone."""

import sys
from pathlib import Path

import pytest
import running
import sql_expressions

#: Each way in by a zone of its own; where all is tested, by two.
ASKED = [("Asia/Kolkata", "warehouse"), ("America/New_York", "BigQuery")]
ASKED += [("Asia/Kolkata", "BigQuery"), ("UTC", "warehouse")] if running.WHOLE else []


@pytest.mark.parametrize(("zone", "asked"), ASKED)
def test_an_expression_gives_what_the_reference_says(zone: str, asked: str, tmp_path: Path) -> None:
    """Every expression of the table has its value and its type, in either zone and by either way in."""
    program = [sys.executable, Path(sql_expressions.__file__), *asked.split()]
    ran = running.run(program, tmp_path, running.environment(TZ=zone))
    assert (ran.code, ran.out) == (0, ""), ran


def test_the_table_is_large() -> None:
    """The table has more than 800 different expressions."""
    assert len({case.sql for case in sql_expressions.cases()}) > 800

"""What a table looks like is checked where it is said, not by the first job that meets it."""

from collections.abc import Mapping

import pyarrow as pa
import pytest

from millrace.common.tables import Table


def test_every_type_has_one_in_arrow() -> None:
    kinds = ("STRING", "INT64", "FLOAT64", "BOOL", "BYTES", "TIMESTAMP")
    assert Table({**{kind.lower(): kind for kind in kinds}, "date": "DATE"}).schema() == pa.schema(
        {
            "string": pa.string(),
            "int64": pa.int64(),
            "float64": pa.float64(),
            "bool": pa.bool_(),
            "bytes": pa.binary(),
            "timestamp": pa.timestamp("us", tz="UTC"),
            "date": pa.date32(),
        }
    )


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"n": "INTEGER", "date": "DATE"}, "column n is 'INTEGER', which is none of STRING, INT64, "),
        ({"n": "INT64"}, "no column is `date DATE`, the partition's day: n"),
        ({"n": "INT64", "date": "TIMESTAMP"}, "no column is `date DATE`"),
        ({"word": "STRING", "Word": "STRING", "date": "DATE"}, "column word is there twice, in other case"),
    ],
)
def test_another_type_or_no_day_is_an_error(columns: Mapping[str, str], said: str) -> None:
    """INTEGER is an old name of INT64, by which the table that was made of it would differ from this one."""
    with pytest.raises(ValueError, match=said):
        Table(columns)

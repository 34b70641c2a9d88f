"""One machine's warehouse: Parquet files of partitions as tables, wherever they lie."""

import datetime
import io
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from millrace.core import manifests
from millrace.core.manifests import FileEntry, Manifest
from millrace.core.storage import LocalStorage, crc32c
from millrace.core.warehouse import LocalWarehouse, parse, renamed, table_names
from millrace.errors import QueryError

DAY = datetime.date(2026, 11, 19)


def fill(root: Path, table: pa.Table, name: str = "t", day: datetime.date = DAY) -> LocalWarehouse:
    """A warehouse below a folder, with these rows as a partition of a table."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    data = sink.getvalue()
    partition = f"{name}/date={day}"
    file = FileEntry(f"{partition}/a/part.parquet", name.split("/")[0], table.num_rows, len(data), crc32c(data))
    manifest = Manifest(partition, "a", [file], {}, [], "", "", {}, {}, "direct", None, "", "")
    (root / partition / "a").mkdir(parents=True)
    (root / file.path).write_bytes(data)
    (root / partition / manifests.NAME).write_bytes(manifest.to_json())
    return LocalWarehouse(LocalStorage(str(root)))


@pytest.mark.parametrize("above", ["date=2020-01-01", "hour=5", "word=x/n=2", "DATE=1", "{dataset}", "a b='c'"])
def test_folders_above_a_storage_are_no_columns(tmp_path: Path, above: str) -> None:
    """A row has its file's columns and its partition's day, whatever the folders are called that the storage is in."""
    fill(tmp_path / above, pa.table({"word": ["a"], "n": [1]}))
    warehouse = fill(tmp_path / above, pa.table({"n": [2], "word": ["b"]}), day=DAY + datetime.timedelta(1))
    assert warehouse.query("SELECT * FROM t ORDER BY date").to_pylist() == [
        {"word": "a", "n": 1, "date": DAY},
        {"word": "b", "n": 2, "date": DAY + datetime.timedelta(1)},
    ]


def test_what_a_partition_s_name_tells_is_a_column(tmp_path: Path) -> None:
    """raw/source=…/date=… has a source, its own and not that of a folder above; a file's own column comes before it."""
    above = tmp_path / "source=other"
    fill(above, pa.table({"n": [1]}), "raw/source=a%2Fb")
    warehouse = fill(above, pa.table({"n": [2], "source": ["mine"]}), "posts/source=x")
    assert warehouse.query("SELECT * FROM raw").to_pylist() == [{"n": 1, "date": DAY, "source": "a%2Fb"}]
    assert warehouse.query("SELECT * FROM posts").to_pylist() == [{"n": 2, "source": "mine", "date": DAY}]
    assert warehouse.columns()["raw"]["source"] == "STRING"


def test_a_partitions_day_is_that_of_its_folder(tmp_path: Path) -> None:
    """A column `date` of a file gives way to the partition's day, as in a table that is partitioned by it."""
    warehouse = fill(tmp_path, pa.table({"Date": [datetime.date(2000, 1, 1)], "n": [1]}))
    assert warehouse.query("SELECT * FROM t").to_pylist() == [{"n": 1, "date": DAY}]


@pytest.mark.parametrize("names", [("word", "Word"), ("n_1", "N_1")])
def test_columns_that_differ_only_in_case_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    """BigQuery loads no such file; the error names the columns and the file."""
    warehouse = fill(tmp_path, pa.table([["a"], ["b"]], names=list(names)))
    with pytest.raises(QueryError, match=rf"columns of t differ only in case.*: {', '.join(names)} in {tmp_path}"):
        warehouse.query("SELECT * FROM t")


def test_a_column_whose_name_ends_with_a_number_is_no_second_one(tmp_path: Path) -> None:
    """word and word_1 are two columns of a file, and no sign of one that is there twice."""
    row: Mapping[str, str] = {"word": "a", "word_1": "b"}
    warehouse = fill(tmp_path, pa.table({name: [value] for name, value in row.items()}))
    assert warehouse.query("SELECT word, word_1 FROM t").to_pylist() == [row]


def test_columns_of_a_result_differ_by_more_than_case(tmp_path: Path) -> None:
    """Two names that differ only in case are one name, as in BigQuery."""
    with pytest.raises(QueryError, match="two columns have one name in a, A"):
        LocalWarehouse(LocalStorage(str(tmp_path))).query("SELECT 1 AS a, 2 AS A")


def test_rejected_records_are_read_as_text(tmp_path: Path) -> None:
    """Bytes are read as UTF-8, what is none is an error, NULL or U+FFFD, as the query says."""
    records = pa.array(['{"text": "é\\""}'.encode(), b"\xff"], pa.binary())
    warehouse = fill(tmp_path, pa.table({"line": [1, 2], "record": records}), "posts_rejected")
    found = warehouse.query("SELECT CAST(record AS STRING) AS text FROM posts_rejected WHERE line = 1")
    assert found.to_pylist() == [{"text": '{"text": "é\\""}'}]
    sql = "SELECT SAFE_CAST(record AS STRING) AS a, SAFE_CONVERT_BYTES_TO_STRING(record) AS b FROM posts_rejected"
    assert warehouse.query(f"{sql} WHERE line = 2").to_pylist() == [{"a": None, "b": "\ufffd"}]
    with pytest.raises(QueryError, match="the query can't be run"):
        warehouse.query("SELECT CAST(record AS STRING) AS text FROM posts_rejected")


@pytest.mark.parametrize(
    "kind", [pa.int32(), pa.uint64(), pa.float32(), pa.timestamp("ms"), pa.timestamp("us", "Asia/Tokyo")]
)
def test_columns_of_any_file_have_bigquerys_types(tmp_path: Path, kind: pa.DataType) -> None:
    """A column is an INT64, a FLOAT64 or a TIMESTAMP, however narrow it is in the file, and whatever its zone there."""
    warehouse = fill(tmp_path, pa.table({"v": pa.array([3], kind)}))
    wide = {pa.int32(): pa.int64(), pa.uint64(): pa.int64(), pa.float32(): pa.float64()}.get(kind, pa.timestamp("us"))
    assert warehouse.query("SELECT v FROM t WHERE v IS NOT NULL").schema.types == [wide]
    if pa.types.is_timestamp(kind):
        micros = 3000 if kind.unit == "ms" else 3
        assert warehouse.query("SELECT UNIX_MICROS(v) AS m FROM t").to_pylist() == [{"m": micros}]
    else:
        assert warehouse.query("SELECT SUM(v) / COUNT(*) AS m FROM t").to_pylist() == [{"m": 3.0}]


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT 1", set()),
        ("SELECT * FROM a JOIN b USING (x), (SELECT * FROM c)", {"a", "b", "c"}),
        ("WITH a AS (SELECT 1 AS x), b AS (SELECT x FROM a) SELECT * FROM b", set()),
        ("WITH a AS (SELECT * FROM a) SELECT * FROM a", {"a"}),
        ("WITH a AS (WITH b AS (SELECT * FROM a) SELECT * FROM b) SELECT * FROM a", {"a"}),
        ("WITH a AS (WITH b AS (SELECT 1 AS x) SELECT * FROM b) SELECT * FROM a", set()),
        ("WITH RECURSIVE a AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM a WHERE x < 3) SELECT * FROM a, b", {"b"}),
    ],
)
def test_tables_are_what_with_does_not_name(sql: str, tables: set[str]) -> None:
    """A name that WITH gives is no table, but in the query that it names: there it is the table of that name, unless
    WITH is RECURSIVE (GoogleSQL, "Visibility of CTEs").
    """
    assert table_names(parse(sql)) == tables
    new = {name: f"{name}_30d" for name in "abc"}
    assert table_names(parse(renamed(sql, new))) == {new[name] for name in tables}

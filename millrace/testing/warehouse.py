"""The contract of `Warehouse`, as tests."""

import datetime
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from millrace.common.tables import Table
from millrace.core import keys, manifests
from millrace.core.keys import Key
from millrace.core.manifests import FileEntry, Manifest
from millrace.core.storage import Storage, crc32c
from millrace.core.warehouse import Warehouse
from millrace.errors import ManifestError, QueryError, SchemaError

DAY = keys.day(datetime.date(2026, 11, 19))
NEXT = keys.day(datetime.date(2026, 11, 20))
#: The table of these tests.
WORDS = Table({"word": "STRING", "count": "INT64", "percent": "FLOAT64", "ts": "TIMESTAMP", "date": "DATE"}, ["word"])
#: A table whose partitions are names, and one that is a single partition.
TOTALS = Table({"word": "STRING", "count": "INT64", "source": "STRING"}, ["word"], by="source")
WHOLE = Table({"word": "STRING", "count": "INT64"}, by="")
LEAR, LEA = keys.name("source=King Lear's"), keys.name("source=King Lear")
#: Makes rows a partition of a table, as a stage does: words, key, table, and a name for this making of it.
Put = Callable[..., None]


class WarehouseContract:
    """What every Warehouse does with the partitions that stages make.

    Fixtures: `storage`, empty, where partitions lie that the warehouse can publish; `warehouse`, whose tables are those
    of that storage, none at first.
    """

    @pytest.fixture
    def copies(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Return a folder where a test puts copies, which the storage does not lie in."""
        return tmp_path_factory.mktemp("copies")

    @pytest.fixture
    def put(self, storage: Storage, warehouse: Warehouse) -> Put:
        """Return what makes rows a partition: a file, a manifest that names it, and publishing it."""

        def make(words: Sequence[str], key: Key = DAY, name: str = "words", making: str = "a") -> None:
            folder, table = key.partition(name), {"date": WORDS, "source": TOTALS, "": WHOLE}[key.by]
            rows = _rows(words, key.date) if key.date else _totals(words, key)
            files = [_written(storage, f"{folder}/{making}/part.parquet", rows, name)] if words else []
            data = _manifest(folder, making, files, {name: {each.name: str(each.type) for each in table.schema()}})
            storage.replace(f"{folder}/{manifests.NAME}", data)
            uris = [storage.uri(file.path) for file in files]
            warehouse.publish(name, table, key, manifests.digest(data), uris, len(words))

        return make

    def test_what_is_published_can_be_asked_for(self, warehouse: Warehouse, put: Put) -> None:
        """Every column with its type; a timestamp without its zone, which is UTC."""
        put(["x", "y"])
        put(["z"], NEXT)
        found = warehouse.query("SELECT word, count, percent, ts, date FROM words WHERE date = @day", {"day": DAY.date})
        assert sorted(found.to_pylist(), key=lambda row: str(row["word"])) == [
            {"word": word, "count": 2, "percent": 0.5, "ts": datetime.datetime(2026, 11, 20), "date": DAY.date}
            for word in ("x", "y")
        ]
        assert found.schema.types == [pa.string(), pa.int64(), pa.float64(), pa.timestamp("us"), pa.date32()]
        assert warehouse.tables() == ["words"]
        assert warehouse.columns() == {"words": WORDS.columns}

    def test_one_partition_is_replaced_as_a_whole(self, warehouse: Warehouse, put: Put) -> None:
        """Made anew, a day has the new rows and no others; the other days, and other tables, have what they had."""
        put(["x", "y"])
        put(["z"], NEXT)
        put(["o"], name="others")
        put(["w"], making="b")
        assert _words(warehouse) == ["w", "z"]
        assert _words(warehouse, "others") == ["o"]
        assert (warehouse.count("words", DAY), warehouse.count("words", NEXT)) == (1, 1)

    def test_publishing_again_changes_nothing(self, warehouse: Warehouse, put: Put) -> None:
        """What is published twice is there once; and what was there before comes back if it is made again."""
        for making, word in (("a", "x"), ("a", "x"), ("b", "y"), ("b", "y"), ("a", "x"), ("a", "x")):
            put([word], making=making)
            assert _words(warehouse) == [word]

    def test_an_empty_partition_is_one_without_rows(self, warehouse: Warehouse, put: Put) -> None:
        """Whether or not it had some before."""
        put(["x"])
        put([], NEXT)
        assert _words(warehouse) == ["x"]
        put(["y"], NEXT)
        put([], making="b")
        assert _words(warehouse) == ["y"]
        assert (warehouse.count("words", DAY), warehouse.count("words", NEXT)) == (0, 1)

    def test_rows_are_counted_by_the_day(self, warehouse: Warehouse, put: Put) -> None:
        """A day has a number of rows, 0 for none; rows tells all of them, where that may differ from the manifests."""
        assert warehouse.count("words", DAY) == 0
        put(["x", "y"])
        put(["z"], NEXT)
        assert warehouse.count("words", DAY) == 2
        assert warehouse.count("words", keys.day(datetime.date(2026, 11, 21))) == 0
        assert warehouse.rows({"words": WORDS, "none": WORDS}) in (None, {"words": {DAY.folder: 2, NEXT.folder: 1}})

    def test_a_partition_that_is_forgotten_is_gone(self, storage: Storage, warehouse: Warehouse, put: Put) -> None:
        """Its folder and its rows deleted, nothing of it is found; the other days stay, and so does deleting again."""
        put(["x"])
        put(["y"], NEXT)
        storage.delete(f"words/{DAY.folder}")
        for _ in range(2):
            warehouse.delete("words", DAY)
        warehouse.delete("none", DAY)
        assert _words(warehouse) == ["y"]
        assert warehouse.count("words", DAY) == 0
        put(["x"])
        assert _words(warehouse) == ["x", "y"]

    def test_a_name_is_a_partition_and_is_replaced_as_one(self, warehouse: Warehouse, put: Put) -> None:
        """Made anew, a name has the new rows and no others; another name, and a quoted one, has its own."""
        put(["x", "y"], LEAR, "totals")
        put(["z"], LEA, "totals")
        assert _words(warehouse, "totals") == ["x", "y", "z"]
        for making, found in (("b", ["u", "v", "w"]), ("b", ["u", "v", "w"]), ("a", ["x", "y"]), ("c", [])):
            put(found, LEAR, "totals", making)
            assert _words(warehouse, "totals") == sorted([*found, "z"])
            assert (warehouse.count("totals", LEAR), warehouse.count("totals", LEA)) == (len(found), 1)
        put(["z", "z"], LEAR, "totals", "d")
        expected = {LEAR.folder: 2, LEA.folder: 1}
        assert warehouse.rows({"totals": TOTALS, "none": TOTALS}) in (None, {"totals": expected})
        found = warehouse.query("SELECT source, COUNT(*) AS n FROM totals GROUP BY source ORDER BY source").to_pylist()
        assert found == [{"source": "King Lear", "n": 1}, {"source": "King Lear's", "n": 2}]
        assert (warehouse.tables(), warehouse.columns()) == (["totals"], {"totals": TOTALS.columns})

    def test_a_whole_table_is_replaced(self, warehouse: Warehouse, put: Put) -> None:
        """A table without partitions has the rows that were made last, and no others."""
        for making, found in (("a", ["x", "y"]), ("a", ["x", "y"]), ("b", ["z"]), ("a", ["x", "y"]), ("c", [])):
            put(found, keys.NONE, "whole", making)
            assert warehouse.count("whole", keys.NONE) == len(found)
            assert warehouse.rows({"whole": WHOLE}) in (None, {"whole": {"": len(found)}})
            if found:
                assert _words(warehouse, "whole") == found
                assert (warehouse.tables(), warehouse.columns()) == (["whole"], {"whole": WHOLE.columns})

    @pytest.mark.parametrize(("key", "name"), [(LEAR, "totals"), (keys.NONE, "whole")])
    def test_whole_tables_are_exported_and_names_too_are_forgotten(
        self, storage: Storage, warehouse: Warehouse, put: Put, copies: Path, key: Key, name: str
    ) -> None:
        put(["x", "y"], key, name)
        if key.folder:
            put(["z"], LEA, name)
        for folder in ("one", "one") if not key.folder else ():
            uris = warehouse.export(name, key, storage.uri(f"export/{folder}"))
            paths = [storage.fetch(uri.removeprefix(storage.uri("")).lstrip("/"), str(copies)) for uri in uris]
            assert sorted(row for path in paths for row in pq.read_table(path)["word"].to_pylist()) == ["x", "y"]
        storage.delete(key.partition(name))
        for _ in range(2):
            warehouse.delete(name, key)
            warehouse.delete("none", key)
        assert warehouse.count(name, key) == 0
        put(["w"], key, name)
        assert _words(warehouse, name) == (["w", "z"] if key.folder else ["w"])

    def test_a_day_is_exported_for_pipelines(
        self, storage: Storage, warehouse: Warehouse, put: Put, copies: Path
    ) -> None:
        """As Parquet files with that day's rows, also the second time; no files for no partition, no table is told."""
        put(["x", "y"])
        put(["z"], NEXT)
        for _ in range(2):
            uris = warehouse.export("words", DAY, storage.uri("export/one"))
            paths = [storage.fetch(uri.removeprefix(storage.uri("")).lstrip("/"), str(copies)) for uri in uris]
            assert sorted(row for path in paths for row in pq.read_table(path)["word"].to_pylist()) == ["x", "y"]
        assert warehouse.export("words", keys.day(datetime.date(2026, 11, 21)), storage.uri("export/two")) == []
        with pytest.raises(QueryError, match="there is no table none; there are: words"):
            warehouse.export("none", DAY, storage.uri("export/three"))

    @pytest.mark.parametrize(
        ("sql", "said"),
        [
            ("DROP TABLE words", "one SELECT"),
            ("SELECT 1; SELECT 2", "one SELECT"),
            ("SELECT FROM WHERE", "not a query"),
            ("SELECT * FROM none", "there is no table none; there are: words"),
            ("SELECT nothing FROM words", "the query can't be run"),
            ("SELECT word, count AS Word FROM words", "two columns have one name"),
        ],
    )
    def test_a_query_that_can_not_be_run_is_told_why(self, warehouse: Warehouse, put: Put, sql: str, said: str) -> None:
        """In one line."""
        put(["x"])
        with pytest.raises(QueryError, match=said) as raised:
            warehouse.query(sql)
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize(
        "value", [1, 1.5, "it's", True, b"\x00\xff", DAY.date], ids=lambda value: type(value).__name__
    )
    def test_a_parameter_is_a_value_of_its_type(self, warehouse: Warehouse, put: Put, value: object) -> None:
        """Whatever is in it, a parameter is no part of the query."""
        put(["x"])
        assert warehouse.query("SELECT @given AS v FROM words", {"given": value}).to_pylist() == [{"v": value}]

    def test_tables_that_fit_pass_the_check(self, warehouse: Warehouse, put: Put) -> None:
        """So does one that is not there yet; the check changes nothing."""
        warehouse.check({"words": WORDS})
        assert warehouse.tables() == []
        put(["x"])
        warehouse.check({"words": WORDS, "new": WORDS})
        assert warehouse.tables() == ["words"]

    def test_other_columns_are_refused_before_any_row_is_lost(
        self, storage: Storage, warehouse: Warehouse, put: Put
    ) -> None:
        """A warehouse with tables of its own refuses rows that do not fit, and keeps what it has."""
        put(["x"])
        if warehouse.rows({"words": WORDS}) is None:
            pytest.skip("the files are the tables")
        other = Table({"word": "INT64", "date": "DATE"})
        with pytest.raises(SchemaError, match="column word is STRING"):
            warehouse.check({"words": other})
        file = _written(storage, "words/b.parquet", pa.table({"word": [1], "date": pa.array([DAY.date])}), "words")
        with pytest.raises(SchemaError, match="column word is STRING"):
            warehouse.publish("words", other, DAY, "b", [storage.uri(file.path)], 1)
        assert _words(warehouse) == ["x"]

    def test_other_rows_than_the_manifest_says_are_told_of(
        self, storage: Storage, warehouse: Warehouse, put: Put
    ) -> None:
        """A warehouse with tables of its own counts what it takes; a file that is gone, or of another day, is named."""
        put(["x"])
        if warehouse.rows({"words": WORDS}) is None:
            pytest.skip("the files are the tables")
        file = _written(storage, "words/b.parquet", _rows(["y", "z"], DAY.date), "words")
        with pytest.raises(ManifestError, match=r"got 2 rows for 2026-11-19 from .*b.parquet.*its manifest says 3"):
            warehouse.publish("words", WORDS, DAY, "b", [storage.uri(file.path)], 3)
        with pytest.raises(ManifestError, match=r"gone\.parquet"):
            warehouse.publish("words", WORDS, DAY, "c", [storage.uri("words/gone.parquet")], 1)
        file = _written(storage, "words/d.parquet", _rows(["y"], NEXT.date), "words")
        with pytest.raises(ManifestError, match="20261119"):
            warehouse.publish("words", WORDS, DAY, "d", [storage.uri(file.path)], 1)


def _rows(words: Sequence[str], date: datetime.date | None) -> pa.Table:
    """Return rows of the table WORDS."""
    assert date
    end = datetime.datetime.combine(date, datetime.time(), datetime.UTC) + datetime.timedelta(days=1)
    rows = [{"word": word, "count": 2, "percent": 0.5, "ts": end, "date": date} for word in words]
    return pa.Table.from_pylist(rows, schema=WORDS.schema())


def _totals(words: Sequence[str], key: Key) -> pa.Table:
    """Return rows of the table TOTALS or WHOLE."""
    table = TOTALS if key.by else WHOLE
    rows = [{"word": word, "count": 2, "source": key.value} for word in words]
    return pa.Table.from_pylist(rows, schema=table.schema())


def _written(storage: Storage, path: str, rows: pa.Table, name: str) -> FileEntry:
    """Write a Parquet file; return what a manifest says of it."""
    sink = io.BytesIO()
    pq.write_table(rows, sink)
    storage.replace(path, sink.getvalue())
    return FileEntry(path, name, rows.num_rows, len(sink.getvalue()), crc32c(sink.getvalue()))


def _manifest(
    partition: str, attempt: str, files: Sequence[FileEntry], schemas: Mapping[str, Mapping[str, str]]
) -> bytes:
    made = Manifest(partition, attempt, files, schemas, [], "", "", {}, {}, "", None, "", "")
    return made.to_json()


def _words(warehouse: Warehouse, table: str = "words") -> list[str]:
    """Return the words that lie in a table."""
    return [str(word) for word in warehouse.query(f"SELECT word FROM {table} ORDER BY word")["word"].to_pylist()]

"""Files that pipelines write are what they say that they are, and come back as they were."""

import json
from pathlib import Path

import apache_beam as beam
import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.coders.typecoders import registry
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import files
from pipelines.errors import SourceError

ENCODED = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [("w", ENCODED), ("n", pa.int64()), ("at", pa.timestamp("us", "UTC")), ("list", pa.list_(pa.string()))]
)


def table(words: list[str | None]) -> pa.Table:
    columns = [
        pa.array(words, pa.string()).dictionary_encode(),
        pa.array(range(len(words)), pa.int64()),
        pa.array([n * 10**6 for n in range(len(words))], pa.timestamp("us", "UTC")),
        pa.array([[word] if word else [] for word in words], pa.list_(pa.string())),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def test_a_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """And the file is described by its path, label, rows, bytes and checksum, and the columns by their types."""
    rows = table(["b", "a", None, "b"])
    written = files.write_parquet(f"{tmp_path}/{{dataset}}/x", "things", "part-0", rows, label="some")
    (file,) = written.files
    data = Path(file.path).read_bytes()
    assert file.path == f"{tmp_path}/things/x/part-0.parquet"
    assert (file.table, file.rows, file.bytes) == ("some", 4, len(data))
    assert file.crc32c == google_crc32c.Checksum(data).hexdigest().decode()
    assert written.schemas == {"some": {f.name: str(f.type) for f in SCHEMA}}
    assert files.read_parquet(file.path, dictionaries=["w"]).equals(rows)
    assert files.read_parquet(file.path, ["n", "w"]).column_names == ["n", "w"]


def test_dictionaries_stay_and_are_one(tmp_path: Path) -> None:
    """Whatever a row group's own dictionary was, and however many words the vocabulary has."""
    words = [f"word {n}" for n in range(200_000)]
    for groups in ([words], [words, words[5:], ["new"]]):
        file = files.ParquetFile(str(tmp_path), "things", f"part-{len(groups)}", SCHEMA)
        for group in groups:
            file.write(table(list(group)))
        (described,) = file.close().files
        found = files.read_parquet(described.path, dictionaries=["w"])
        (chunk,) = found["w"].chunks
        assert found.schema.field("w").type == ENCODED
        assert len(set(chunk.dictionary.to_pylist())) == len(chunk.dictionary)
        assert found["w"].to_pylist() == [word for group in groups for word in group]


def test_each_table_written_is_a_row_group_and_there_is_one_at_least(tmp_path: Path) -> None:
    """The row groups are the blocks of work; a file of no rows is a block of none."""
    paths = []
    for number, sizes in enumerate([[3, 1, 2], [], [0, 2]]):
        file = files.ParquetFile(str(tmp_path), "things", f"part-{number}", SCHEMA)
        for size in sizes:
            file.write(table(["x"] * size))
        written = file.close()
        assert [f.rows for f in written.files] == [sum(sizes)]
        paths.append(written.files[0].path)
    blocks = files.blocks(paths)
    assert blocks == [(order, paths[order], group) for order, groups in enumerate([3, 1, 1]) for group in range(groups)]
    found = [files.read_block(path, group, ["n", "w"]) for _, path, group in blocks]
    assert [block.num_rows for block in found] == [3, 1, 2, 0, 2]
    assert files.read_parquet(paths[1]).schema.equals(SCHEMA)


@pytest.mark.parametrize("rows", [table([]), table(["b", "a", None])], ids=["empty", "rows"])
def test_a_table_travels_between_stages_as_it_is(rows: pa.Table) -> None:
    coder = registry.get_coder(pa.Table)
    assert coder.decode(coder.encode(rows)).equals(rows)


# --------------------------------------------------------------------------------------------------------- results

_written = st.builds(
    files.Written,
    st.lists(
        st.builds(files.File, st.text(), st.text(), st.integers(0), st.integers(0), st.just("00000000")), max_size=3
    ),
    st.dictionaries(st.sampled_from(["read", "kept", "rejected: bad JSON"]), st.integers(0, 1 << 40)),
    st.dictionaries(st.sampled_from(["a", "b"]), st.just({"x": "int64"})),
)


@settings(deadline=None)
@given(st.lists(_written, max_size=5), st.randoms(use_true_random=False), st.integers(0, 5))
def test_written_adds_up_in_any_order_and_in_any_groups(parts: list[files.Written], random: object, cut: int) -> None:
    """No file is lost, counters are sums; merging merged parts gives the same."""
    whole = files.merge_written(parts)
    assert sorted(map(repr, whole.files)) == sorted(repr(file) for part in parts for file in part.files)
    assert [file.path for file in whole.files] == sorted(file.path for part in parts for file in part.files)
    names = {name for part in parts for name in part.counters}
    assert whole.counters == {name: sum(part.counters.get(name, 0) for part in parts) for name in names}
    assert list(whole.counters) == sorted(names)
    assert set(whole.schemas) == {name for part in parts for name in part.schemas}
    regrouped = files.merge_written([files.merge_written(parts[:cut]), files.merge_written(parts[cut:])])
    assert regrouped == whole
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = files.merge_written(shuffled)
    assert (again.counters, again.schemas) == (whole.counters, whole.schemas)
    assert sorted(map(repr, again.files)) == sorted(map(repr, whole.files))


def test_a_result_gathers_what_all_bundles_wrote(tmp_path: Path) -> None:
    """One file, `_result.json`, that reads back as their sum."""
    file = files.File("a/b.parquet", "t", 3, 100, "0a0b0c0d")
    parts = [files.Written([file], {"read": 3}, {"t": {"x": "int64"}}), files.Written(counters={"read": 4, "kept": 1})]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        _ = (
            pipeline
            | beam.Create(list(map(files.keyed, parts)))
            | files.WriteResult(f"{tmp_path}/{{dataset}}/day", "things")
        )
    data = (tmp_path / "things" / "day" / files.RESULT).read_bytes()
    assert files.read_result(data) == files.merge_written(parts)
    assert json.loads(data)["counters"] == {"kept": 1, "read": 7}


# ---------------------------------------------------------------------------------------------------------- inputs


def test_an_input_is_a_pattern_a_list_or_a_file_with_a_list(tmp_path: Path) -> None:
    """Patterns give their files in order; lists are taken as they are, in their order, empty too."""
    for name in ("b.x", "a.x", "c.y"):
        (tmp_path / name).touch()
    assert files.expand(f"{tmp_path}/*.x") == [f"{tmp_path}/a.x", f"{tmp_path}/b.x"]
    assert files.expand('["b", "a", "b"]') == ["b", "a", "b"]
    assert files.expand("[]") == []
    (tmp_path / "list.json").write_text('["z", "y"]')
    assert files.expand(f"@{tmp_path}/list.json") == ["z", "y"]
    with pytest.raises(SourceError, match=r"--input .*/\*\.z matches no file"):
        files.expand(f"{tmp_path}/*.z")


@pytest.mark.parametrize(
    ("path", "date"),
    [
        ("data/posts/date=2017-08-27/0/posts.parquet", "2017-08-27"),
        ("gs://bucket/x/date=2017-08-27/y", "2017-08-27"),
        ("data/posts.parquet", ""),
        ("data/update=2017-08-27/x", ""),
        ("data/date=today/x", ""),
    ],
)
def test_a_partitions_date_stands_in_the_path(path: str, date: str) -> None:
    assert files.partition_date(path) == date


def test_files_have_no_statistics_that_readers_would_pay_for(tmp_path: Path) -> None:
    """What is written once and read whole needs none."""
    (file,) = files.write_parquet(str(tmp_path), "things", "part", table(["a"])).files
    assert pq.ParquetFile(file.path).metadata.row_group(0).column(1).statistics is None

"""Files that pipelines write are what they say that they are, and come back as they were."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.storage import Storage
from millrace.beam import files, gcs
from millrace.common import checksums, results
from millrace.common.checksums import Input
from millrace.core.storage import LocalStorage
from millrace.errors import DamagedError, SourceError

ENCODED = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [("w", ENCODED), ("n", pa.int64()), ("at", pa.timestamp("us", "UTC")), ("list", pa.list_(pa.string()))]
)


def table(words: Sequence[str | None]) -> pa.Table:
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
    inputs = [Input(path) for path in paths]
    groups = files.row_groups(inputs)
    assert [(group.order, group.file, group.number, group.rows) for group in groups] == [
        (0, inputs[0], 0, 3), (0, inputs[0], 1, 1), (0, inputs[0], 2, 2), (1, inputs[1], 0, 0), (2, inputs[2], 0, 2)
    ]  # fmt: skip
    assert all(group.bytes > 0 for group in groups if group.rows)
    found = [files.read_block(group.file, group.number, ["n", "w"]) for group in groups]
    assert [block.num_rows for block in found] == [3, 1, 2, 0, 2]
    assert files.read_parquet(paths[1]).schema.equals(SCHEMA)


# --------------------------------------------------------------------------------------------------------- results

_written = st.builds(
    results.Written,
    st.lists(
        st.builds(results.File, st.text(), st.text(), st.integers(0), st.integers(0), st.just("00000000")), max_size=3
    ),
    st.dictionaries(st.sampled_from(["read", "kept", "rejected: bad JSON"]), st.integers(0, 1 << 40)),
    st.dictionaries(st.sampled_from(["a", "b"]), st.just({"x": "int64"})),
)


@settings(deadline=None)
@given(st.lists(_written, max_size=5), st.randoms(use_true_random=False), st.integers(0, 5))
def test_written_adds_up_in_any_order_and_in_any_groups(parts: list[results.Written], random: object, cut: int) -> None:
    """No file is lost, counters are sums; merging merged parts gives the same."""
    whole = results.merge_written(parts)
    assert sorted(map(repr, whole.files)) == sorted(repr(file) for part in parts for file in part.files)
    assert [file.path for file in whole.files] == sorted(file.path for part in parts for file in part.files)
    names = {name for part in parts for name in part.counters}
    assert whole.counters == {name: sum(part.counters.get(name, 0) for part in parts) for name in names}
    assert list(whole.counters) == sorted(names)
    assert set(whole.schemas) == {name for part in parts for name in part.schemas}
    regrouped = results.merge_written([results.merge_written(parts[:cut]), results.merge_written(parts[cut:])])
    assert regrouped == whole
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = results.merge_written(shuffled)
    assert (again.counters, again.schemas) == (whole.counters, whole.schemas)
    assert sorted(map(repr, again.files)) == sorted(map(repr, whole.files))


# ---------------------------------------------------------------------------------------------------------- inputs


def test_an_input_is_a_pattern_a_list_or_a_file_with_a_list(tmp_path: Path) -> None:
    """Patterns give their files in order; lists are taken as they are, in their order, empty too."""
    for name in ("b.x", "a.x", "c.y"):
        (tmp_path / name).touch()
    assert [file.path for file in files.expand(f"{tmp_path}/*.x")] == [f"{tmp_path}/a.x", f"{tmp_path}/b.x"]
    assert [file.path for file in files.expand('["b", "a", "b"]')] == ["b", "a", "b"]
    assert files.expand("[]") == []
    assert files.expand('["a", ["b", "0123abcd", 5]]') == [Input("a"), Input("b", "0123abcd", 5)]
    (tmp_path / "list.json").write_text('["z", "y"]')
    assert [file.path for file in files.expand(f"@{tmp_path}/list.json")] == ["z", "y"]
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
        ("/data/date=2020-01-01/hour=5/posts/date=2017-08-27/0/x", "2017-08-27"),
        ("date=2020-01-01/date=2017-08-27/x", "2017-08-27"),
    ],
)
def test_a_partitions_date_stands_in_the_path(path: str, date: str) -> None:
    assert files.partition_date(path) == date


def test_a_datasets_folder_may_lie_in_one_of_the_same_look() -> None:
    """The last {dataset} of an output stands for the dataset's name; others are names of folders."""
    assert files.folder_of("/x/{dataset}/data/{dataset}/date=1", "posts") == "/x/{dataset}/data/posts/date=1"
    assert files.folder_of("/x/y", "posts") == "/x/y"


def test_files_have_no_statistics_that_readers_would_pay_for(tmp_path: Path) -> None:
    """What is written once and read whole needs none."""
    (file,) = files.write_parquet(str(tmp_path), "things", "part", table(["a"])).files
    assert pq.ParquetFile(file.path).metadata.row_group(0).column(1).statistics is None


# ----------------------------------------------------------------------------------------------- bundles tried again

#: A process that begins a file, says so, waits for a line, ends the file and tells how the file is described.
_TRY = """
import sys, pyarrow as pa
from millrace.beam import files
table = pa.table({"n": list(map(int, sys.argv[2].split()))})
with files.ParquetFile(sys.argv[1], "things", "pairs-00001-of-00004", table.schema) as file:
    file.write(table)
    print("begun", flush=True)
    sys.stdin.readline()
    (found,) = file.close().files
print(found.path, found.rows, found.bytes, found.crc32c)
"""


class Try:
    """A worker's process that writes a file."""

    def __init__(self, folder: Path, numbers: str) -> None:
        given = [sys.executable, "-c", _TRY, str(folder), numbers]
        self._process = subprocess.Popen(given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "begun\n"

    def end(self) -> results.File:
        told, _ = self._process.communicate("go on\n", timeout=60)
        path, rows, size, crc32c = told.rsplit(maxsplit=3)
        return results.File(path, "things", int(rows), int(size), crc32c)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=60)
        assert self._process.returncode == -9


def described(file: results.File) -> bool:
    """Whether a file's bytes are those that its description says."""
    data = Path(file.path).read_bytes()
    return (len(data), google_crc32c.Checksum(data).hexdigest().decode()) == (file.bytes, file.crc32c)


def visible(folder: Path) -> list[str]:
    """The files that a storage lists, those of a killed process apart."""
    return sorted(LocalStorage(str(folder)).list(""))


def test_a_bundle_that_is_tried_again_late_leaves_the_committed_file_as_it_is(tmp_path: Path) -> None:
    """In processes, as workers are: tries that began before the first ended, or long after. One with other bytes gets a
    path of its own under the same name, and stands where the first would stand; one with the same bytes is the first.
    """
    folder = tmp_path / "it's {x} %41=b/date=2026-11-19"
    slow, killed, first = (Try(folder, numbers) for numbers in ("2 1", "1 2", "1 2"))
    committed = first.end()
    assert committed.path == f"{folder}/pairs-00001-of-00004.parquet"
    before, number = Path(committed.path).read_bytes(), os.stat(committed.path).st_ino
    killed.kill()
    late = slow.end()
    (same,) = files.write_parquet(str(folder), "things", "pairs-00001-of-00004", pa.table({"n": [1, 2]})).files
    assert same == committed
    assert late.path != committed.path
    assert Path(late.path).name == Path(committed.path).name
    assert (Path(committed.path).read_bytes(), os.stat(committed.path).st_ino) == (before, number)
    assert described(committed)
    assert described(late)
    assert visible(folder) == sorted(os.path.relpath(file.path, folder) for file in (committed, late))
    others = [
        replace(late, path=f"{folder}/{name}.parquet") for name in ("pairs-00000-of-00004", "pairs-00002-of-00004")
    ]
    merged = results.merge_written([results.Written([file]) for file in (others[1], late, others[0])])
    assert [file.path for file in merged.files] == [others[0].path, late.path, others[1].path]


def test_a_name_that_a_killed_process_took_is_not_taken_for_the_file(tmp_path: Path) -> None:
    """A process that dies just before its file gets the name leaves an empty one so called."""
    (tmp_path / "part.parquet").touch()
    (file,) = files.write_parquet(str(tmp_path), "things", "part", table(["a"])).files
    assert described(file)
    assert files.read_parquet(file.path)["w"].to_pylist() == ["a"]


def test_of_many_tries_at_once_each_is_described_by_its_own_bytes(tmp_path: Path) -> None:
    """One has the name; whoever has the same bytes has the same file."""
    table_of = [pa.table({"n": [number % 3] * 1000}) for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(lambda each: files.write_parquet(str(tmp_path), "things", "part", each).files[0], table_of)
        )
    assert all(map(described, found))
    assert [pq.read_table(file.path)["n"][0].as_py() for file in found] == [number % 3 for number in range(24)]
    assert f"{tmp_path}/part.parquet" in {file.path for file in found}
    assert not list(tmp_path.rglob(".*"))


def test_an_object_that_has_its_name_is_not_written_over(cloud_storage: Storage) -> None:
    """Nor is what a manifest names by then: a late copy with other bytes has another name, one with the same is that
    object, as is one whose answer was lost.
    """
    first, late, same = (
        files.write_parquet("gs://bucket", "things", "part", table(words)).files[0] for words in (["a"], ["b"], ["a"])
    )
    assert first == same
    assert first.path == "gs://bucket/part.parquet"
    assert late.path != first.path
    for file, word in ((first, "a"), (late, "b")):
        known = Input(file.path, file.crc32c, file.bytes)
        assert files.read_parquet(known)["w"].to_pylist() == [word]
    assert {found.uri for found in gcs.match("gs://bucket/**")} == {first.path, late.path}


# --------------------------------------------------------------------------------------------------- Cloud Storage


def requests(storage: Storage) -> Counter[str]:
    """What was asked since the last time, by call."""
    asked = Counter(request.call for request in storage.requests if request.call != "buckets.get")
    storage.requests.clear()
    return asked


def test_a_table_on_cloud_storage_is_what_it_would_be_on_a_disk(cloud_storage: Storage, tmp_path: Path) -> None:
    """The same bytes, described the same, by one request; and read by one."""
    rows = table(["b", "a", None, "b"])
    (there,) = files.write_parquet("gs://bucket/{dataset}/x", "things", "part-0", rows).files
    assert requests(cloud_storage) == {"objects.insert": 1}
    (here,) = files.write_parquet(f"{tmp_path}/{{dataset}}/x", "things", "part-0", rows).files
    assert there == replace(here, path="gs://bucket/things/x/part-0.parquet")
    assert files.read_input(there.path) == Path(here.path).read_bytes()
    requests(cloud_storage)
    assert files.read_parquet(there.path, dictionaries=["w"]).equals(rows)
    assert requests(cloud_storage) == {"objects.get": 1}
    known = Input(there.path, there.crc32c, there.bytes)
    assert [[each.num_rows for each in window] for window in files.read_windows([[known]] * 20)] == [[4]] * 20
    assert requests(cloud_storage) == {"objects.get": 1}


@pytest.mark.parametrize("rows", [10, 1_500_000], ids=["small", "large"])
def test_blocks_on_cloud_storage_cost_few_requests(cloud_storage: Storage, rows: int) -> None:
    """Two a footer; a small file's block is its metadata and its bytes, a large one's not much more than itself."""
    numbers = np.random.default_rng(1).integers(0, 1 << 62, rows)
    with files.ParquetFile("gs://bucket", "things", "part", pa.schema([("n", pa.int64()), ("m", pa.int64())])) as file:
        for sign in (1, -1, 2):
            file.write(pa.table({"n": numbers * sign, "m": numbers}))
        (described,) = file.close().files
    requests(cloud_storage)
    known = Input(described.path, described.crc32c, described.bytes)
    assert [group.number for group in files.row_groups([known] * 3)] == [0, 1, 2] * 3
    assert requests(cloud_storage)["objects.get"] <= 3 * 2
    assert files.read_block(known, 1, ["n"])["n"].to_numpy().tolist() == (-numbers).tolist()
    asked = requests(cloud_storage)["objects.get"]
    assert asked == 2 if rows == 10 else asked <= 4


def damage(data: bytes, how: str) -> bytes:
    """What becomes of a file's bytes."""
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    return {"flipped": flipped, "cut": data[:-1], "empty": b"", "longer": data + b"x", "zeros": bytes(len(data))}[how]


def remove(path: str) -> None:
    if path.startswith("gs://"):
        gcs.delete(path)
    else:
        Path(path).unlink()


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "longer", "zeros", "gone"])
@pytest.mark.parametrize("place", ["here", "there"])
def test_a_damaged_file_is_not_read(cloud_storage: Storage, tmp_path: Path, place: str, how: str) -> None:
    """Whoever reads a file that is not as it was written, by blocks or whole, says so, and which it is."""
    root = str(tmp_path) if place == "here" else "gs://bucket"
    (file,) = files.write_parquet(root, "things", how, table(["b", "a"])).files
    known = Input(file.path, file.crc32c, file.bytes)
    assert files.read_block(known, 0, ["n"]).num_rows == 2
    assert files.read_parquet(known).num_rows == 2
    if how != "gone":
        data = damage(files.read_input(file.path), how)
    remove(file.path)
    if how != "gone":
        with files.open_output(file.path) as stream:
            stream.write(data)
    said = "was written, but" if how == "gone" else "is damaged: it has .* bytes"
    reads: list[Callable[[], object]] = [
        lambda: files.row_groups([known]),
        lambda: files.read_block(known, 0, ["n"]),
        lambda: files.read_parquet(known),
    ]
    for read in reads:
        with pytest.raises(DamagedError, match=f"^{file.path} {said}"):
            read()
    for window in files.read_windows([[known]]):
        with pytest.raises(DamagedError, match=f"^{file.path} {said}"):
            next(window)


def test_a_checksum_is_computed_once(tmp_path: Path) -> None:
    """A file of many blocks is read for its checksum once, and again when somebody has written to it."""
    (file,) = files.write_parquet(str(tmp_path), "things", "part", table(["b", "a"])).files
    known, before = Input(file.path, file.crc32c, file.bytes), checksums._computed.cache_info().misses
    for _ in range(3):
        files.read_block(known, 0, ["n"])
    assert checksums._computed.cache_info().misses == before + 1
    Path(file.path).write_bytes(damage(Path(file.path).read_bytes(), "flipped"))
    with pytest.raises(DamagedError):
        files.read_block(known, 0, ["n"])


@pytest.mark.parametrize("place", ["here", "there"])
def test_a_file_that_breaks_off_never_comes_to_be(cloud_storage: Storage, tmp_path: Path, place: str) -> None:
    folder = f"{tmp_path}/folder" if place == "here" else "gs://bucket"

    def broken() -> None:
        with files.ParquetFile(folder, "things", "part", SCHEMA) as file:
            file.write(table(["a"]))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert list(Path(folder).iterdir() if place == "here" else gcs.match("gs://bucket/**")) == []


def test_an_input_on_cloud_storage_is_a_pattern_or_a_file_with_a_list(cloud_storage: Storage) -> None:
    """A list may be longer than what a command line takes."""
    for name in ("b.x", "a.x", "c.y", "deep/d.x"):
        with files.open_output(f"gs://bucket/{name}") as stream:
            stream.write(b"x")
    assert [file.path for file in files.expand("gs://bucket/*.x")] == ["gs://bucket/a.x", "gs://bucket/b.x"]
    paths = [f"gs://bucket/posts/date=2026-11-19/attempt-1/posts-{n:05d}.parquet" for n in range(100_000)]
    with files.open_output("gs://bucket/list.json") as stream:
        stream.write(json.dumps(paths).encode())
    assert [file.path for file in files.expand("@gs://bucket/list.json")] == paths
    with pytest.raises(SourceError, match=r"--input gs://bucket/\*\.z matches no file"):
        files.expand("gs://bucket/*.z")
    with pytest.raises(SourceError, match="could not read gs://bucket/none: it does not exist"):
        files.expand("@gs://bucket/none")

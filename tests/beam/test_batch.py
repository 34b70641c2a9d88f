"""A batch computes each of its partitions as if it were alone: what it writes, what it counts, how it fails."""

import datetime
import gzip
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.coders.typecoders import registry
from apache_beam.options.pipeline_options import PipelineOptions

from millrace.beam import files, options
from millrace.beam.batch import Batch, Block, Item, Pack
from millrace.common.checksums import Input
from millrace.common.partitions import Partition, from_json, to_json
from millrace.common.results import File, Written, merge_written, read_result, to_result
from millrace.errors import Command, MillraceError, ServiceError, SourceError

NUMBERS = pa.schema([("n", pa.int64())])


class Options(options.StageOptions):
    """Options of the pipelines of these tests."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        parser.add_argument("--times", type=int, default=1)
        parser.add_argument("--words", type=json.loads, default=[])
        parser.add_argument("--loud", action="store_true")


def parquet(folder: Path, name: str, *groups: Sequence[int]) -> Input:
    """A file of numbers, a row group each."""
    with files.ParquetFile(str(folder), "in", name, NUMBERS) as file:
        for group in groups:
            file.write(pa.table({"n": group}, schema=NUMBERS))
        (made,) = file.close().files
    return Input(made.path, made.crc32c, made.bytes)


def run(
    build: Callable[[Batch], Any], partitions: Iterable[Partition], *flags: str
) -> dict[str, Written | MillraceError]:
    """Runs a pipeline over partitions → what each one's result says."""
    partitions = list(partitions)

    def built(pipeline: beam.Pipeline, given: PipelineOptions) -> None:
        batch = Batch(pipeline, given, Options)
        build(batch)
        batch.results("out")

    options.run(built, [f"--partitions={to_json(partitions)}", *flags])
    return {each.key: result(each) for each in partitions}


def result(partition: Partition) -> Written | MillraceError:
    try:
        return read_result(Path(files.folder_of(partition.output, "out"), "_result.json").read_bytes())
    except MillraceError as error:
        return error


def total(day: Partition, block: Block) -> Iterator[Item]:
    """The sum of a block, as a table by parity."""
    numbers = block.table["n"].to_pylist()
    for name, wanted in (("even", 0), ("odd", 1)):
        yield name, pa.table({"n": [sum(n for n in numbers if n % 2 == wanted) * day.options["times"]]}, schema=NUMBERS)
    yield Written(counters={"read": len(numbers)})


def summed(day: Partition, name: str, tables: Iterable[pa.Table]) -> Iterator[Item]:
    number = sum(n for table in tables for n in table["n"].to_pylist())
    yield files.write_parquet(day.output, "out", name, pa.table({"n": [number]}, schema=NUMBERS), label=name)


def totals(batch: Batch) -> None:
    batch.blocks("n").each(total).by_key(summed)


def numbers(found: Written | MillraceError) -> dict[str, int]:
    assert isinstance(found, Written), found
    return {file.table: files.read_parquet(file.path)["n"][0].as_py() for file in found.files}


def three(folder: Path, **given: Any) -> list[Partition]:
    """Three partitions: of two files with several blocks, of one block, and of nothing."""
    inputs = {
        "many": [parquet(folder, "a", [1, 2], [3]), parquet(folder, "b", [4])],
        "one": [parquet(folder, "c", [5, 6])],
        "none": [],
    }
    return [Partition(key, f"{folder}/{{dataset}}/{key}", files_, given) for key, files_ in inputs.items()]


# --------------------------------------------------------------------------------------------- partitions and options


def test_partitions_are_what_was_said(tmp_path: Path) -> None:
    """In the option or in a file that it names; a key that is there twice is refused."""
    parts = [Partition("date=2026-11-01", "/x/{dataset}", [Input("a=b/{}.x", "0a", 3)], {"n": 1, "s": ["é"]})]
    assert from_json(to_json(parts)) == parts
    assert from_json('[{"key": "k", "output": "o"}]') == [Partition("k", "o", [])]
    assert from_json('[{"key": "k", "output": "o", "input": ["p"]}]')[0].input == [Input("p")]
    with pytest.raises(ValueError, match="names date=2026-11-01 twice"):
        from_json(to_json(parts * 2))
    (tmp_path / "list.json").write_text(to_json(parts))
    (found,) = options.partitions(PipelineOptions([f"--partitions=@{tmp_path}/list.json"]), Options)
    assert (found.key, found.output, found.input) == (parts[0].key, parts[0].output, parts[0].input)


@pytest.mark.parametrize(
    "own",
    [{"times": 3, "words": ["a", "--b=c"], "loud": True}, {"times": "3", "words": '["a", "--b=c"]', "loud": True}],
)
def test_options_are_typed_and_a_partitions_own_go_before_flags(own: Mapping[str, Any]) -> None:
    """Whether the launcher wrote them as values or as text; one that a partition does not have is the flag's."""
    parts = [Partition("a", "o", options=own), Partition("b", "o", options={"loud": False})]
    a, b = options.partitions(PipelineOptions([f"--partitions={to_json(parts)}", "--times=2"]), Options)
    assert {name: a.options[name] for name in own} == {"times": 3, "words": ["a", "--b=c"], "loud": True}
    assert {name: b.options[name] for name in own} == {"times": 2, "words": [], "loud": False}


def test_without_partitions_the_flags_make_one(tmp_path: Path) -> None:
    file = parquet(tmp_path, "a", [1])
    given = PipelineOptions([f"--input={file.path}", "--output=o", "--times=7"])
    (one,) = options.partitions(given, Options)
    assert (one.key, one.output, one.input, one.options["times"]) == ("", "o", [Input(file.path)], 7)


# ------------------------------------------------------------------------------------------------------------- results


def test_each_partition_has_its_result_also_one_of_nothing(tmp_path: Path) -> None:
    """Sums computed by hand; files, counters and schemas of each are its own."""
    found = run(totals, three(tmp_path, times=10))
    assert numbers(found["many"]) == {"even": 60, "odd": 40}
    assert numbers(found["one"]) == {"even": 60, "odd": 50}
    assert found["none"] == Written([], {}, {})
    assert isinstance(found["many"], Written)
    assert found["many"].counters == {"read": 4}
    assert found["many"].schemas == {"even": {"n": "int64"}, "odd": {"n": "int64"}}
    assert all("/out/many/" in file.path for file in found["many"].files)


def digests(folder: Path) -> dict[str, str]:
    """The bytes of every file, results with their folder left out."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes().replace(str(folder).encode(), b"")).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_batch_writes_what_pipelines_one_by_one_write(tmp_path: Path) -> None:
    """Byte for byte, results too."""
    together, alone = tmp_path / "together", tmp_path / "alone"
    run(totals, three(together))
    for each in three(alone):
        run(totals, [each])
    assert digests(together) == digests(alone)
    assert len(digests(together)) == 3 + 2 * 2 + 3


def test_tables_of_several_names_meet_in_one(tmp_path: Path) -> None:
    """Also where each partition is a block, whose own tables are not shuffled."""

    def called_all(day: Partition, name: str, tables: Iterable[pa.Table]) -> Iterator[Item]:
        yield "all", pa.concat_tables(tables)

    (one,) = three(tmp_path)[1:2]
    found = run(lambda batch: batch.blocks("n").each(total).by_key(called_all).by_key(summed), [one])
    assert numbers(found["one"]) == {"all": 11}


def test_tables_are_chosen_by_name_joined_and_looked_up(tmp_path: Path) -> None:
    """A partition looks up its own, and one function may work in several steps."""

    def added(day: Partition, name: str, tables: Iterable[pa.Table], odd: Any) -> Iterator[Item]:
        yield name, pa.table({"n": [sum(n for t in [*tables, *odd[day.key, "odd"]] for n in t["n"].to_pylist())]})

    def build(batch: Batch) -> None:
        made = batch.blocks("n").each(total)
        odd = made.named("odd").by_name()
        (made.named("even").by_key(added, odd) + made.without("even").by_key(added, odd)).by_key(summed)

    found = run(build, three(tmp_path))
    assert numbers(found["many"]) == {"even": 6 + 4, "odd": 4 + 4}
    assert numbers(found["one"]) == {"even": 6 + 5, "odd": 5 + 5}
    assert found["none"] == Written([], {}, {})


def test_tables_of_one_name_are_added_up_before_they_are_written(tmp_path: Path) -> None:
    """Each partition has every name once then; what a partition's input is decides an option of its own."""

    def add(tables: Sequence[pa.Table]) -> pa.Table:
        return pa.table({"n": [sum(n for table in tables for n in table["n"].to_pylist())]})

    def once(day: Partition, name: str, tables: Iterable[pa.Table]) -> Iterator[Item]:
        (alone,) = tables
        yield f"{name} of {day.options['groups']}", alone

    def build(batch: Batch) -> None:
        batch.decide(lambda day, groups: {"groups": len(groups)})
        batch.blocks("n").each(total).add_up(add).by_key(once).by_key(summed)

    found = run(build, three(tmp_path))
    (tmp_path / "plain").mkdir()
    plain = run(lambda batch: batch.blocks("n").each(total).by_key(summed), three(tmp_path / "plain"))
    for key in ("many", "one"):
        told = {name.partition(" of ")[0]: number for name, number in numbers(found[key]).items()}
        assert told == numbers(plain[key])
    assert {name.partition(" of ")[2] for name in numbers(found["one"])} == {"1"}
    assert {name.partition(" of ")[2] for name in numbers(found["many"])} != {"1"}


def test_neighbours_that_are_small_are_read_together(tmp_path: Path) -> None:
    """In the order of the input, none of more bytes than a pack has room for, and each knows how many there are."""
    inputs = [parquet(tmp_path, f"f{n}", list(range(size))) for n, size in enumerate([1, 1, 2000, 1, 3000, 1, 1])]

    def tell(day: Partition, pack: Pack) -> Iterator[Item]:
        rows = [n for block in pack.blocks for n in [block.order, block.table.num_rows]]
        yield files.write_parquet(day.output, "out", f"{pack.number}-of-{pack.of}", pa.table({"n": rows}))

    day = Partition("x", f"{tmp_path}/{{dataset}}", inputs)
    found = run(lambda batch: batch.packs(lambda day: 5000, "n").each(tell), [day])["x"]
    assert isinstance(found, Written)
    told = {Path(file.path).stem: files.read_parquet(file.path)["n"].to_pylist() for file in found.files}
    assert list(told) == [f"{number}-of-{len(told)}" for number in range(len(told))]
    assert [order for rows in told.values() for order in rows[::2]] == list(range(7))
    assert [rows[1::2] for rows in told.values()] == [[1, 1], [2000], [1], [3000], [1, 1]]


def test_lines_are_blocks_of_records(tmp_path: Path) -> None:
    """Packed or not, with their numbers; blank ones are none."""
    (tmp_path / "a").write_bytes(b"one\n\ntwo")
    (tmp_path / "b").write_bytes(gzip.compress(b"three\n"))

    def keep(day: Partition, block: Block) -> Iterator[Item]:
        yield files.write_parquet(day.output, "out", block.name, block.table)

    inputs = [Input(f"{tmp_path}/{name}") for name in "ab"]
    found = run(lambda batch: batch.lines().each(keep), [Partition("x", f"{tmp_path}/{{dataset}}", inputs)])["x"]
    assert isinstance(found, Written)
    rows = [
        (Path(file.path).name, *row.values())
        for file in found.files
        for row in files.read_parquet(file.path).to_pylist()
    ]
    assert rows == [
        ("00000-00000.parquet", f"{tmp_path}/a", 1, b"one\n"),
        ("00000-00000.parquet", f"{tmp_path}/a", 3, b"two"),
        ("00001-00000.parquet", f"{tmp_path}/b", 1, b"three\n"),
    ]


# -------------------------------------------------------------------------------------------------------------- errors

ERROR = SourceError("x is broken", Command("clear", ["x"], datetime.date(2026, 11, 1)), where="[a] b", mend="mend {0}")


def broken_block(day: Partition, block: Block) -> Iterator[Item]:
    yield from total(day, block)
    if day.key == "many":
        raise ERROR


def broken_sum(day: Partition, name: str, tables: Iterable[pa.Table]) -> Iterator[Item]:
    yield from summed(day, name, tables)
    if (day.key, name) == ("many", "odd"):
        raise ERROR


def broken_find(day: Partition) -> list[int]:
    if day.key == "many":
        raise ERROR
    return [1]


def of_shared(partitions: Mapping[str, Partition], unit: int) -> Iterator[tuple[str, Item | MillraceError]]:
    for key, day in partitions.items():
        table = pa.table({"n": [unit]}, schema=NUMBERS)
        yield key, files.write_parquet(day.output, "out", "even", table)
        if key == "many":
            yield key, ERROR


def in_find(batch: Batch) -> None:
    batch.units(broken_find)
    totals(batch)


BROKEN: dict[str, Callable[[Batch], Any]] = {
    "where it is built": in_find,
    "in a block": lambda batch: batch.blocks("n").each(broken_block).by_key(summed),
    "after a block": lambda batch: batch.blocks("n").each(total).by_key(broken_sum),
    "in what partitions share": lambda batch: batch.shared([(["many", "one"], 1)]).each(of_shared),
}


@pytest.mark.parametrize("where", BROKEN)
def test_an_error_of_ours_is_its_partitions_and_travels_whole(where: str, tmp_path: Path) -> None:
    """The others are as if it were not there, whether the functions are fused or not: "one" alone is not shuffled."""
    parts = three(tmp_path)
    found = run(BROKEN[where], parts)
    error = found["many"]
    assert isinstance(error, SourceError)
    assert error.as_data() == ERROR.as_data()
    folder = Path(files.folder_of(parts[0].output, "out"))
    assert json.loads((folder / "_result.json").read_text()) == {"error": ERROR.as_data()}
    assert isinstance(found["one"], Written)
    assert found["one"].files
    assert found["none"] == Written([], {}, {})
    fused = [replace_input(part) for part in parts]  # a block each: nothing is shuffled
    assert isinstance(run(BROKEN[where], fused)["many"], SourceError)


def replace_input(part: Partition) -> Partition:
    return Partition(part.key, part.output, part.input[1:] or part.input, part.options)


def test_a_damaged_or_missing_file_is_its_partitions_error(tmp_path: Path) -> None:
    parts = three(tmp_path)
    Path(parts[0].input[1].path).unlink()
    found = run(totals, parts)
    assert "was written, but is not there any more" in str(found["many"])
    assert numbers(found["one"]) == {"even": 6, "odd": 5}


def test_of_several_errors_the_one_that_would_come_again_is_told(tmp_path: Path) -> None:
    """Whatever comes first; results merge the same in any order."""
    passing, lasting = (Written(error=kind("x").as_data()) for kind in (ServiceError, SourceError))
    some = Written([File("p", "t", 1, 1, "00")], {"n": 1})
    for parts in ([passing, some, lasting], [lasting, passing, some]):
        with pytest.raises(SourceError):
            read_result(to_result(merge_written(parts)))
    with pytest.raises(ServiceError):
        read_result(to_result(merge_written([some, passing])))


def test_an_error_of_a_bundle_that_is_tried_again_is_forgotten(tmp_path: Path) -> None:
    """On a runner that tries bundles again: the first one tells an error of ours and of a file, then fails."""

    def of_two(partitions: Mapping[str, Partition], unit: int) -> Iterator[tuple[str, Item | MillraceError]]:
        tries = tmp_path / "tries"
        with tries.open("a") as stream:
            stream.write("x")
        if tries.read_text() == "x":
            yield "many", ERROR
            yield "one", Written(counters={"read": 1000})
            raise OSError("the worker is gone")
        for key in partitions:
            yield key, Written(counters={"read": unit})

    flags = ["--runner=BundleBasedDirectRunner", "--direct_runner_bundle_retry"]
    found = run(lambda batch: batch.shared([(["many", "one"], 7)]).each(of_two), three(tmp_path), *flags)
    assert (tmp_path / "tries").read_text() == "xx"
    assert found == {
        "many": Written([], {"read": 7}, {}),
        "one": Written([], {"read": 7}, {}),
        "none": Written([], {}, {}),
    }


@pytest.mark.parametrize("error", [ValueError("no error of ours"), SourceError("raised by another step")])
def test_what_is_no_partitions_error_fails_the_pipeline(error: Exception, tmp_path: Path) -> None:
    """Another exception anywhere; and one of ours in a step that is not the library's, which it is fused with."""

    def step(named: Any) -> Any:
        raise error

    with pytest.raises(type(error)):
        run(lambda batch: batch.blocks("n").each(total).pcollection | beam.Map(step), three(tmp_path))
    assert not list(tmp_path.rglob("_result.json"))


def test_alone_an_error_is_raised(tmp_path: Path) -> None:
    """A person who runs a pipeline without partitions sees what went wrong, typed."""
    file = parquet(tmp_path, "a", [1])

    def build(pipeline: beam.Pipeline, given: PipelineOptions) -> None:
        batch = Batch(pipeline, given, Options)

        def fail(day: Partition, block: Block) -> Iterator[Item]:
            raise ERROR
            yield

        batch.blocks("n").each(fail)
        batch.results("out")

    with pytest.raises(SourceError, match="x is broken"):
        options.run(build, [f"--input={file.path}", f"--output={tmp_path}/{{dataset}}"])
    with pytest.raises(SourceError, match="matches no file"):
        options.run(build, [f"--input={tmp_path}/none*", f"--output={tmp_path}/{{dataset}}"])


def test_a_name_that_comes_twice_for_a_unit_is_refused(tmp_path: Path) -> None:
    """Where nothing is shuffled, each would be taken for all there is of that name."""

    def twice(day: Partition, block: Block) -> Iterator[Item]:
        yield from [("a", block.table), ("a", block.table)]

    with pytest.raises(ValueError, match="twice yields 'a' twice"):
        run(lambda batch: batch.blocks("n").each(twice).by_key(summed), three(tmp_path)[1:2])


# ------------------------------------------------------------------------------------------------------ what is shared


def test_windows_read_a_file_once_and_forget_it(tmp_path: Path) -> None:
    """Tables of each window in its order; a file that can't be read is an error of the windows that have it."""
    inputs = [parquet(tmp_path, f"f{n}", [n]) for n in range(5)]
    windows = [inputs[n : n + 3] for n in range(3)]
    found: list[list[list[int]]] = []
    for n, tables in enumerate(files.read_windows(windows)):
        if n == 2:
            with pytest.raises(MillraceError):
                list(tables)
            continue
        found.append([table["n"].to_pylist() for table in tables])
        if n == 0:
            Path(inputs[2].path).unlink()  # it has been read, and is not read again
            Path(inputs[4].path).unlink()
    assert found == [[[0], [1], [2]], [[1], [2], [3]]]


@pytest.mark.parametrize("rows", [[], [3, 1]], ids=["empty", "rows"])
def test_a_table_travels_between_stages_as_it_is(rows: list[int]) -> None:
    """And its size is told without encoding it."""
    table = pa.table({"n": rows, "w": pa.array(["x"] * len(rows)).dictionary_encode()})
    coder = registry.get_coder(pa.Table)
    assert coder.decode(coder.encode(table)).equals(table)
    assert coder.estimate_size(table) == table.nbytes

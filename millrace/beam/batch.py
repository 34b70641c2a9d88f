"""A batch: several partitions of one stage in one pipeline, each computed by itself.

    def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
        batch = Batch(pipeline, options, CountOptions)
        batch.blocks("text", "lang").each(count_block).by_key(merge_shard)
        batch.results("counts")

Functions do the work. They get the partition, with its options, and something to work on; they yield tables by name,
and what they wrote:

    def count_block(day: Partition, block: Block) -> Iterator[tuple[str, pa.Table] | Written]: ...
    def merge_shard(day: Partition, name: str, tables: Iterable[pa.Table]) -> Iterator[Written]: ...

An error of ours that a function raises is its partition's: the other partitions are computed, and this one's result is
the error. It travels as an element, so that one from a bundle that a runner tries again counts no more than what that
bundle wrote. Any other exception fails the pipeline.
"""

import contextlib
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

import apache_beam as beam
import pyarrow as pa
from apache_beam.coders.typecoders import registry
from apache_beam.options.pipeline_options import PipelineOptions

from millrace.beam import files, steps
from millrace.beam.adding import Adding
from millrace.beam.options import StageOptions, partitions
from millrace.beam.sources import records
from millrace.beam.sources.unpacking import told, unpacked
from millrace.common.checksums import Input
from millrace.common.partitions import Partition
from millrace.common.results import RESULT, Written, merge_written, to_result
from millrace.errors import MillraceError

T = TypeVar("T")
#: Bytes of a pack, as many as sources.records gives a block.
PACK = records.BLOCK
#: What a function yields: a table by name, or what it wrote.
Item: TypeAlias = tuple[str, Any] | Written
#: As an element: partition and name, and a table.
_Named: TypeAlias = tuple[tuple[str, str], pa.Table]
_Grouped: TypeAlias = tuple[tuple[str, str], Iterable[pa.Table]]


@dataclass(frozen=True)
class Block:
    """Rows of an input file, the unit of work: order is the file's place in the partition's input."""

    order: int
    file: Input
    number: int
    table: pa.Table

    @property
    def name(self) -> str:
        """Return what tells the block from the partition's others, safe in the name of a file."""
        return f"{self.order:05d}-{self.number:05d}"


@dataclass(frozen=True)
class Pack:
    """Blocks that are read together, neighbours in the partition's input, which has `of` packs, numbered from 0."""

    number: int
    of: int
    blocks: Sequence[Block]


class TableCoder(beam.coders.Coder):
    """How Arrow tables travel between stages of a pipeline: as bytes of Arrow's IPC stream."""

    def encode(self, value: pa.Table) -> bytes:
        sink = pa.BufferOutputStream()
        # A runner in one process keeps all that it shuffles in memory, more than once.
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_stream(sink, value.schema, options=options) as writer:
            writer.write_table(value)
        return bytes(sink.getvalue().to_pybytes())

    def decode(self, encoded: bytes | memoryview) -> pa.Table:
        return pa.ipc.open_stream(encoded).read_all()

    def estimate_size(self, value: pa.Table) -> int:
        """Return the bytes of a table; Beam asks of what it hands on, and would encode the table to know."""
        return int(value.nbytes)

    def is_deterministic(self) -> bool:
        return False

    def to_type_hint(self) -> type:
        return pa.Table  # type: ignore[no-any-return]


registry.register_coder(pa.Table, TableCoder)


class _Yielded:
    """The type, for Beam, of a table or Written."""


class _YieldedCoder(TableCoder):
    """How a table or Written travels, where a runner does not fuse a function with what tells the two apart."""

    def encode(self, value: pa.Table | Written) -> bytes:
        return b"w" + pickle.dumps(value) if isinstance(value, Written) else b"t" + super().encode(value)

    def decode(self, encoded: bytes | memoryview) -> pa.Table | Written:
        rest = memoryview(encoded)[1:]
        return pickle.loads(rest) if encoded[:1] == b"w" else super().decode(rest)

    def estimate_size(self, value: pa.Table | Written) -> int:
        return 0 if isinstance(value, Written) else super().estimate_size(value)

    def to_type_hint(self) -> type:
        return _Yielded


registry.register_coder(_Yielded, _YieldedCoder)


class Batch:
    """The partitions of a pipeline, and where all that is told of them comes together."""

    def __init__(
        self, pipeline: beam.Pipeline, options: PipelineOptions, of: type[StageOptions] = StageOptions
    ) -> None:
        self._pipeline = pipeline
        found = partitions(options, of)
        self.partitions: Mapping[str, Partition] = {each.key: each for each in found}
        #: Whether an error is raised at once, as it is without `--partitions`, because a person at a terminal wants it
        #: so.
        self._alone = not options.view_as(StageOptions).partitions
        self._failed: dict[str, MillraceError] = {}
        self._row_groups: Mapping[str, Sequence[files.RowGroup]] | None = None
        self._written: list[Any] = []
        self._labels: dict[str, int] = {}

    def find(self, function: Callable[[Partition], T]) -> dict[str, T]:
        """Return what a function finds of each partition, here, where the pipeline is built; it may look at the inputs.

        Where the function raises an error of ours, the partition fails; partitions that have failed before are left
        out.
        """

        def of(partition: Partition) -> T | MillraceError:
            try:
                return function(partition)
            except MillraceError as error:
                return error

        there = [each for key, each in self.partitions.items() if key not in self._failed]
        with ThreadPoolExecutor(files.threads([file.path for each in there for file in each.input])) as pool:
            found = {each.key: value for each, value in zip(there, pool.map(of, there), strict=True)}
        errors = {key: value for key, value in found.items() if isinstance(value, MillraceError)}
        if errors and self._alone:
            raise next(iter(errors.values()))
        self._failed |= errors
        return {key: value for key, value in found.items() if not isinstance(value, MillraceError)}

    def units(self, function: Callable[[Partition], Iterable[Any]]) -> "Units":
        """Return the units of work that a function finds in each partition, see find()."""
        found = self.find(lambda partition: list(function(partition)))
        return Units(self, [(key, unit) for key, units in found.items() for unit in units], _as_is, _one_each(found))

    def row_groups(self) -> Mapping[str, Sequence[files.RowGroup]]:
        """Return the row groups of each partition's input, which are Parquet files; looked for once."""
        if self._row_groups is None:
            self._row_groups = self.find(lambda partition: files.row_groups(partition.input))
        return self._row_groups

    def blocks(self, *columns: str) -> "Units":
        """Return the row groups of the input, which are Parquet files, as `Block`; columns: those to read."""
        units = [(key, (unit, columns)) for key, units in self.row_groups().items() for unit in units]
        return Units(self, units, _read_block, _one_each(self.row_groups()))

    def packs(self, size: Callable[[Partition], int], *columns: str) -> "Units":
        """Return the row groups of the input, which are Parquet files, as `Pack`; columns: those to read.

        size: bytes of a partition's packs, when not compressed, such as PACK; more only where one row group has more.
        """
        found = {key: _packed(groups, size(self.partitions[key])) for key, groups in self.row_groups().items()}
        units = [
            (key, (number, len(packs), pack, columns))
            for key, packs in found.items()
            for number, pack in enumerate(packs)
        ]
        return Units(self, units, _read_pack, _one_each(found))

    def lines(self) -> "Units":
        """Return the records of the input, as `Block`s with the columns of records.SCHEMA: file, line, record.

        The files are of lines, packed or not, or what a fetch kept of such (.parquet).
        """

        def of(partition: Partition) -> list[tuple[int, Input, int | None]]:
            kept = [order for order, file in enumerate(partition.input) if file.path.endswith(".parquet")]
            groups = files.row_groups([partition.input[order] for order in kept])
            rest = sorted({*range(len(partition.input))}.difference(kept))
            return [
                *((kept[group.order], group.file, group.number) for group in groups),
                *((order, partition.input[order], None) for order in rest),
            ]

        found = self.find(of)
        return Units(self, [(key, unit) for key, units in found.items() for unit in units], _read_lines, once=False)

    def decide(self, options: Callable[[Partition, Sequence[files.RowGroup]], Mapping[str, Any]]) -> None:
        """Give the partitions options that follow from the row groups of their input."""
        groups = self.row_groups()
        self.partitions = {
            key: replace(each, options={**each.options, **options(each, groups.get(key, ()))})
            for key, each in self.partitions.items()
        }

    def shared(self, units: Sequence[tuple[Sequence[str], Any]]) -> "Units":
        """Return units that several partitions share, each with their keys.

        A function gets the partitions by key, the unit, and yields (key, item). An item may be an error of ours.
        """
        there = [([key for key in keys if key not in self._failed], unit) for keys, unit in units]
        return Units(self, [(keys, unit) for keys, unit in there if keys], None, once=False)

    def results(self, dataset: str | Callable[[Partition], str]) -> None:
        """Write the result of each partition, be it empty, in the output folder of a dataset."""
        where = {
            key: f"{files.folder_of(each.output, dataset if isinstance(dataset, str) else dataset(each))}/{RESULT}"
            for key, each in self.partitions.items()
        }
        for key, each in self.partitions.items() if self._alone else ():
            files.forget(where[key], each.output, each.input)
        first = [
            (key, Written(error=self._failed[key].as_data() if key in self._failed else None))
            for key in self.partitions
        ]
        _ = (
            [self._pipeline | "Partitions" >> beam.Create(first, reshuffle=False), *self._written]
            | "Told" >> beam.Flatten()
            | "Gather" >> beam.GroupByKey()
            | "Result" >> steps.each(_write_result, where)
        )

    def _label(self, wanted: str) -> str:
        """Return a name for a step: the one that is wanted, with a number after it from its second use on."""
        self._labels[wanted] = number = self._labels.get(wanted, 0) + 1
        return wanted if number == 1 else f"{wanted} {number}"

    def _work(self, pcoll: Any, label: str, work: beam.DoFn, side: Sequence[Any]) -> Any:
        # One output for both, because Dask and Spark ignore the tags of several.
        done = pcoll | label >> beam.ParDo(work, *side).with_output_types(tuple[tuple[str, str], _Yielded])
        self._written.append(done | f"{label} written" >> steps.each(_written).with_output_types(tuple[str, Written]))
        return done | f"{label} tables" >> steps.each(_tables).with_output_types(_Named)

    def _shipped(self) -> dict[str, Partition]:
        """Return the partitions as workers need them: without their files, because each unit says its own."""
        return {key: replace(each, input=()) for key, each in self.partitions.items()}


class Units:
    """Units of work of a batch."""

    def __init__(
        self,
        batch: Batch,
        units: Sequence[tuple[Any, Any]],
        read: Callable[[Any], Iterable[Any]] | None,
        once: bool,
    ) -> None:
        self._batch, self._units, self._read, self._once = batch, units, read, once

    def each(self, function: Callable[..., Iterable[Any]], *side: Any, label: str = "") -> "Tables":
        """Apply a function to each unit, and return the tables that it yields.

        function: gets the partition, the unit, and what is in `side`. A name may come once a unit.
        """
        batch = self._batch
        label = batch._label(label or _name(function))
        work = _Shared(function, batch) if self._read is None else _Each(function, batch, self._read)
        pcoll = batch._pipeline | f"{label} units" >> steps.Elements(self._units)
        return Tables(batch, batch._work(pcoll, label, work, side), self._once)


class Tables:
    """Tables of a batch, by partition and name."""

    def __init__(self, batch: Batch, pcollection: Any, once: bool) -> None:
        self._batch, self.pcollection, self._once = batch, pcollection, once

    def by_key(self, function: Callable[..., Iterable[Any]], *side: Any, label: str = "") -> "Tables":
        """Apply a function to all tables of a partition that have one name, and return the tables that it yields.

        function: gets the partition, the name, the tables, and what is in `side`. Nothing is shuffled where each
        partition is one block, which has all there is of every name.
        """
        label = self._batch._label(label or _name(function))
        if self._once:
            alone = steps.each(lambda named: [(named[0], [named[1]])]).with_output_types(_Grouped)
            grouped = self.pcollection | f"{label} alone" >> alone
        else:
            grouped = self.pcollection | f"{label} by key" >> beam.GroupByKey()
        work = _ByKey(function, self._batch)
        return Tables(self._batch, self._batch._work(grouped, label, work, side), once=False)  # names may meet

    def add_up(self, add: Callable[[Sequence[pa.Table]], pa.Table], *, label: str = "") -> "Tables":
        """Add up all tables of a partition that have one name; add: returns the sum of several tables.

        What one worker has of a name is added up before it is shuffled, and few tables are in memory at a time.
        """
        if self._once:
            return self
        label = self._batch._label(label or _name(add))
        summed = self.pcollection | label >> beam.CombinePerKey(Adding(add)).with_output_types(_Named)
        return Tables(self._batch, summed, once=True)

    def through(self, transform: beam.PTransform) -> "Tables":
        """Return what a transform of Beam's makes of the tables; its elements come and go as (key and name, table).

        A name may come more than once. What the transform raises fails the pipeline.
        """
        label = self._batch._label(transform.label)
        typed = transform.with_output_types(_Named)
        return Tables(self._batch, self.pcollection | label >> typed, once=False)

    def named(self, *names: str) -> "Tables":
        """Return the tables of these names, or of these before a / in their names."""
        chosen = steps.each(_only, names).with_output_types(_Named)
        label = self._batch._label(" ".join(["Only", *names]))
        return Tables(self._batch, self.pcollection | label >> chosen, self._once)

    def without(self, *names: str) -> "Tables":
        """Return the other tables than those of named()."""
        chosen = steps.each(_but, names).with_output_types(_Named)
        label = self._batch._label(" ".join(["Without", *names]))
        return Tables(self._batch, self.pcollection | label >> chosen, self._once)

    def __add__(self, other: "Tables") -> "Tables":
        """Return the tables of both."""
        label = self._batch._label("Flatten")
        return Tables(self._batch, (self.pcollection, other.pcollection) | label >> beam.Flatten(), once=False)

    def by_name(self) -> beam.pvalue.AsMultiMap:
        """Return the tables for use as `side`: a mapping, (partition's key, name) → its tables, read when asked for."""
        return beam.pvalue.AsMultiMap(self.pcollection)


class _Work(steps.Step):
    """A function of a pipeline as Beam calls it."""

    def __init__(self, function: Callable[..., Iterable[Any]], batch: Batch) -> None:
        self._function, self._partitions, self._alone = function, batch._shipped(), batch._alone

    def _outputs(self, key: str, items: Iterable[Item]) -> Iterator[Any]:
        """Yield what a function yields as elements; an error of ours is one too."""
        names = set[str]()
        try:
            for item in items:
                if not isinstance(item, Written) and item[0] in names:
                    raise ValueError(f"{_name(self._function)} yields {item[0]!r} twice for one unit; join the tables")
                yield self._output(key, item)
                names |= set() if isinstance(item, Written) else {item[0]}
        except MillraceError as error:
            yield self._output(key, error)

    def _output(self, key: str, item: Item | MillraceError) -> Any:
        if isinstance(item, MillraceError):
            if self._alone:
                raise item
            item = Written(error=item.as_data())
        if isinstance(item, Written):
            return (key, ""), item
        name, table = item
        return (key, name), table


class _Each(_Work):
    """(partition, unit) → what a function makes of it."""

    def __init__(
        self, function: Callable[..., Iterable[Any]], batch: Batch, read: Callable[[Any], Iterable[Any]]
    ) -> None:
        super().__init__(function, batch)
        self._read = read

    def process(self, element: tuple[str, Any], *side: Any) -> Iterator[Any]:
        key, unit = element
        try:
            for value in self._read(unit):
                yield from self._outputs(key, self._function(self._partitions[key], value, *side))
        except MillraceError as error:
            yield self._output(key, error)


class _Shared(_Work):
    """(keys of partitions, unit) → what a function makes of it."""

    def process(self, element: tuple[Sequence[str], Any], *side: Any) -> Iterator[Any]:
        keys, unit = element
        try:
            for key, item in self._function({key: self._partitions[key] for key in keys}, unit, *side):
                yield self._output(key, item)
        except MillraceError as error:
            yield from (self._output(key, error) for key in keys)


class _ByKey(_Work):
    """((partition, name), tables) → what a function makes of them."""

    def process(self, element: tuple[tuple[str, str], Iterable[pa.Table]], *side: Any) -> Iterator[Any]:
        (key, name), tables = element
        yield from self._outputs(key, self._function(self._partitions[key], name, tables, *side))


def _name(function: Any) -> str:
    """Return what a function is called; functools.partial's, what it calls."""
    return str(getattr(function, "__name__", "") or _name(function.func))


def _only(named: _Named, names: Sequence[str]) -> list[_Named]:
    return [named] if named[0][1].partition("/")[0] in names else []


def _but(named: _Named, names: Sequence[str]) -> list[_Named]:
    return [] if _only(named, names) else [named]


def _tables(yielded: tuple[tuple[str, str], Any]) -> Iterator[_Named]:
    if not isinstance(yielded[1], Written):
        yield yielded


def _written(yielded: tuple[tuple[str, str], Any]) -> Iterator[tuple[str, Written]]:
    (key, _), value = yielded
    if isinstance(value, Written):
        yield key, value


def _one_each(found: Mapping[str, Sequence[Any]]) -> bool:
    return all(len(units) <= 1 for units in found.values())


def _as_is(unit: Any) -> Iterator[Any]:
    yield unit


def _packed(groups: Sequence[files.RowGroup], size: int) -> list[list[files.RowGroup]]:
    packs: list[list[files.RowGroup]] = []
    room = 0
    for group in groups:
        if group.bytes > room or not packs:
            packs.append([])
            room = size
        packs[-1].append(group)
        room -= group.bytes
    return packs


def _read_block(unit: tuple[files.RowGroup, Sequence[str]]) -> Iterator[Block]:
    group, columns = unit
    yield _block(group, columns)


def _block(group: files.RowGroup, columns: Sequence[str]) -> Block:
    return Block(group.order, group.file, group.number, files.read_block(group.file, group.number, columns))


def _read_pack(unit: tuple[int, int, Sequence[files.RowGroup], Sequence[str]]) -> Iterator[Pack]:
    number, of, groups, columns = unit
    yield Pack(number, of, [_block(group, columns) for group in groups])


def _read_lines(unit: tuple[int, Input, int | None]) -> Iterator[Block]:
    order, file, group = unit
    if group is not None:
        yield Block(order, file, group, files.read_block(file, group, records.SCHEMA.names))
        return
    with files.open_checked(file) as stream, told(file.path):
        for number, block in enumerate(records.read(unpacked(stream))):
            files.rows_read(len(block.line))
            yield Block(order, file, number, records.table(file.path, block))


def _write_result(gathered: tuple[str, Iterable[Written]], where: Mapping[str, str]) -> None:
    key, parts = gathered
    written = merge_written(parts)
    with files.open_output(where[key]) as stream:
        stream.write(to_result(written))
    if getattr(stream, "path", where[key]) != where[key]:  # the result of another try stands, and says what stays
        return
    for path in written.superseded:
        with contextlib.suppress(MillraceError, OSError):  # no result names the file, so that it may as well stay
            files.delete(path)

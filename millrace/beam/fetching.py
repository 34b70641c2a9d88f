"""A source's files → its raw records as Parquet (file, line, record), kept as they came; an archive's by day.

A workflow whose sources may be archives has a pipeline of its own, which says the day of a record (see splits.DayOf):

    def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
        fetch(pipeline, options, day_of=day_of)

Run alone, for sources of which each file is of a day:

    python -m millrace.beam.fetching --source 'in/{date:%Y-%m-%d}.log' --date 2026-11-19 --output 'out/{dataset}'
"""

import argparse
import contextlib
import datetime
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions

from millrace.beam import files
from millrace.beam.batch import Batch
from millrace.beam.options import StageOptions, main
from millrace.beam.sources import bounds, named, ranges, records, splits
from millrace.beam.sources.ranges import Unit
from millrace.common import results
from millrace.common.partitions import Partition
from millrace.errors import NotThereYetError, SourceError


class FetchOptions(StageOptions):
    """Options of fetch."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        bounds.add_options(parser, "where the records come from", "files of lines")
        parser.add_argument("--date", default="", help="the day, YYYY-MM-DD; none: an archive of many days")
        parser.add_argument("--dataset", default="raw", help="what the output is called")


def _keep(day: Partition, unit: Unit, blocks: Iterator[records.Block]) -> results.Written:
    """Write records as one Parquet file, a row group a block."""
    read = 0
    with files.ParquetFile(day.output, day.options["dataset"], f"raw-{unit.name}", records.SCHEMA, table="raw") as file:
        for block in blocks:
            file.write(records.table(unit.file.uri, block))
            files.rows_read(len(block.line))
            read += len(block.line)
        written = file.close()
    return results.merge_written([written, results.Written(counters={"read": read})])


def _count(partition: Partition, unit: Unit) -> Iterator[tuple[str, pa.Table]]:
    """Yield, by the number of its file, how many lines begin in a range."""
    assert unit.part is not None
    lines = ranges.count(unit.file, unit.part)
    yield str(unit.number), pa.table({"range": [unit.part.number], "lines": [lines]})


def _first_line(unit: Unit, counted: Iterable[pa.Table]) -> int | None:
    """Return the number of a range's first line; None where the lines before it could not all be counted."""
    assert unit.part is not None
    rows = [row for table in counted for row in table.to_pylist()]
    before = {row["range"]: row["lines"] for row in rows if row["range"] < unit.part.number}
    return 1 + sum(before.values()) if len(before) == unit.part.number else None


@dataclass(frozen=True)
class _Fetch:
    """What a workflow says of its sources."""

    day_of: splits.DayOf | None
    generated: named.Generated

    def units(self, partition: Partition) -> list[Unit]:
        """Return what there is to read: a partition's files, the large ones in ranges.

        Raises NotThereYetError if there are none, SourceError for an archive of which nobody says how to split it.
        """
        given = partition.options
        source, date = given["source"], given["date"]
        if not date and self.day_of is None:
            raise SourceError(f"source {source} can't be split by day; write {{date:%Y-%m-%d}} where its day stands")
        named.check(source, self.generated)
        found = named.stored(source, datetime.date.fromisoformat(date) if date else None, bounds.hosts(given))
        if not found:
            raise NotThereYetError(f"source {source} has no file{f' for {date}' if date else ''}")
        return [
            unit
            for number, file in enumerate(found)
            for unit in ranges.units(number, file, given["range_bytes"], given["max_source_bytes"])
        ]

    def fetch(
        self,
        partition: Partition,
        unit: Unit,
        counted: Mapping[tuple[str, str], Iterable[pa.Table]] = MappingProxyType({}),
    ) -> Iterator[results.Written]:
        """Write the records of a file or a range, as they are or by day; counted: the lines of each range, by file."""
        given = partition.options
        with contextlib.ExitStack() as stack:
            if unit.part is None:
                opened = named.open_uri(unit.file.uri, *bounds.transfer(given), self.generated)
                stream = stack.enter_context(opened)
                blocks = records.read(stream)
            elif (number := _first_line(unit, counted[partition.key, str(unit.number)])) is not None:
                blocks = ranges.read(unit.file, unit.part, number)
            else:  # the error of the count is the partition's
                return
            if given["date"] or self.day_of is None:
                yield _keep(partition, unit, blocks)
            else:
                yield splits.split_file(partition, unit.name, unit.file.uri, blocks, self.day_of)


def fetch(
    pipeline: beam.Pipeline,
    options: PipelineOptions,
    *,
    day_of: splits.DayOf | None = None,
    generated: named.Generated = named.NOTHING,
) -> None:
    """Add the pipeline: a file of a source is a unit of work, or a range of a large one.

    day_of: tells the day of a record of an archive. generated: the sources that the workflow generates.
    """
    batch = Batch(pipeline, options, FetchOptions)
    work = _Fetch(day_of, generated)
    units = batch.find(work.units)
    in_ranges = {key: [unit for unit in found if unit.part] for key, found in units.items()}
    side = []
    if any(in_ranges.values()):
        side = [batch.units(lambda partition: in_ranges[partition.key]).each(_count).by_name()]
    batch.units(lambda partition: units[partition.key]).each(work.fetch, *side)
    batch.results(lambda partition: str(partition.options["dataset"]))


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Add the pipeline, of sources of which each file is of a day."""
    fetch(pipeline, options)


if __name__ == "__main__":
    main(build, FetchOptions)

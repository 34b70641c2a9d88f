"""A source's files → its raw records as Parquet (file, line, record), kept as they came; an archive's by day.

A workflow whose sources may be archives has a pipeline of its own, which says the day of a record (see splits.DayOf):

    def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
        fetch(pipeline, options, day_of=day_of)

Run alone, for sources of which each file is of a day:

    python -m millrace.beam.fetching --source 'in/{date:%Y-%m-%d}.log' --date 2026-11-19 --output 'out/{dataset}'
"""

import argparse
import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from millrace.beam import files
from millrace.beam.batch import Batch
from millrace.beam.options import StageOptions, main
from millrace.beam.sources import named, records, splits
from millrace.common import results
from millrace.common.partitions import Partition
from millrace.errors import NotThereYetError, SourceError


class FetchOptions(StageOptions):
    """Options of fetch."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--source", required=True, help="where the records come from")
        parser.add_argument("--date", default="", help="the day, YYYY-MM-DD; none: an archive of many days")
        parser.add_argument("--max_source_bytes", type=int, default=10 << 30, help="larger files are refused")
        parser.add_argument("--max_transfer_seconds", type=int, default=3600, help="a file by HTTP may take so long")
        parser.add_argument("--redirect_hosts", default="", help="other hosts that HTTP may redirect to, by commas")
        parser.add_argument("--dataset", default="raw", help="what the output is called")


def _keep(day: Partition, unit: tuple[int, str], stream: IO[bytes]) -> results.Written:
    """Write a file's records as one Parquet file, a row group a block."""
    number, uri = unit
    read = 0
    with files.ParquetFile(
        day.output, day.options["dataset"], f"raw-{number:05d}", records.SCHEMA, table="raw"
    ) as file:
        for block in records.read(stream):
            file.write(records.table(uri, block))
            files.rows_read(len(block.line))
            read += len(block.line)
        written = file.close()
    return results.merge_written([written, results.Written(counters={"read": read})])


def _hosts(partition: Partition) -> list[str]:
    return [host for host in partition.options["redirect_hosts"].split(",") if host]


@dataclass(frozen=True)
class _Fetch:
    """What a workflow says of its sources."""

    day_of: splits.DayOf | None
    generated: named.Generated

    def files_of(self, partition: Partition) -> list[tuple[int, str]]:
        """Return the URIs of a partition's files, numbered.

        Raises NotThereYetError if there are none, SourceError for an archive of which nobody says how to split it.
        """
        source, date = partition.options["source"], partition.options["date"]
        if not date and self.day_of is None:
            raise SourceError(f"source {source} can't be split by day; write {{date:%Y-%m-%d}} where its day stands")
        named.check(source, self.generated)
        uris = named.resolve(source, datetime.date.fromisoformat(date) if date else None, _hosts(partition))
        if not uris:
            raise NotThereYetError(f"source {source} has no file{f' for {date}' if date else ''}")
        return list(enumerate(uris))

    def fetch(self, partition: Partition, unit: tuple[int, str]) -> Iterator[results.Written]:
        """Write the records of a file, as they are or by day."""
        given = partition.options
        bounds = given["max_source_bytes"], given["max_transfer_seconds"], _hosts(partition)
        with named.open_uri(unit[1], *bounds, self.generated) as stream:
            if given["date"] or self.day_of is None:
                yield _keep(partition, unit, stream)
            else:
                yield splits.split_file(partition, unit, stream, self.day_of)


def fetch(
    pipeline: beam.Pipeline,
    options: PipelineOptions,
    *,
    day_of: splits.DayOf | None = None,
    generated: named.Generated = named.NOTHING,
) -> None:
    """Add the pipeline: a file of a source is a unit of work.

    day_of: tells the day of a record of an archive. generated: the sources that the workflow generates.
    """
    batch = Batch(pipeline, options, FetchOptions)
    work = _Fetch(day_of, generated)
    batch.units(work.files_of).each(work.fetch)
    batch.results(lambda partition: str(partition.options["dataset"]))


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Add the pipeline, of sources of which each file is of a day."""
    fetch(pipeline, options)


if __name__ == "__main__":
    main(build, FetchOptions)

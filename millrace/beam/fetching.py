"""A source's files → its raw records as Parquet (file, line, record), kept as they came; an archive's by day.

A workflow whose sources may be archives has a pipeline of its own, which says the day of a record (see splits.DayOf):

    def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
        fetch(pipeline, options, day_of=day_of)

Run alone, for sources of which each file is of a day:

    python -m millrace.beam.fetching --source 'in/{date:%Y-%m-%d}.log' --date 2026-11-19 --output 'out/{dataset}'
"""

import argparse
import datetime
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
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

#: How a URI is opened: as named.open_uri does.
Open = Callable[..., AbstractContextManager[IO[bytes]]]


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


def opened(partition: Partition, uri: str, how: Open = named.open_uri) -> AbstractContextManager[IO[bytes]]:
    """Open a URI with what the settings allow its server."""
    return how(uri, partition.options["max_source_bytes"], partition.options["max_transfer_seconds"], _hosts(partition))


def files_of(partition: Partition) -> list[tuple[int, str]]:
    """Return the URIs of a partition's files, numbered. Raises NotThereYetError if there are none."""
    source, date = partition.options["source"], partition.options["date"]
    named.check(source)
    uris = named.resolve(source, datetime.date.fromisoformat(date) if date else None, _hosts(partition))
    if not uris:
        raise NotThereYetError(f"source {source} has no file{f' for {date}' if date else ''}")
    return list(enumerate(uris))


def fetch_file(day: Partition, unit: tuple[int, str], how: Open = named.open_uri) -> Iterator[results.Written]:
    """Write a file's records as one Parquet file, a row group a block."""
    number, uri = unit
    read = 0
    with (
        files.ParquetFile(day.output, day.options["dataset"], f"raw-{number:05d}", records.SCHEMA, table="raw") as file,
        opened(day, uri, how) as stream,
    ):
        for block in records.read(stream):
            file.write(records.table(uri, block))
            files.rows_read(len(block.line))
            read += len(block.line)
        written = file.close()
    yield results.merge_written([written, results.Written(counters={"read": read})])


def _hosts(partition: Partition) -> list[str]:
    return [host for host in partition.options["redirect_hosts"].split(",") if host]


@dataclass(frozen=True)
class _Fetch:
    """What a workflow says of its sources."""

    day_of: splits.DayOf | None
    how: Open

    def files_of(self, partition: Partition) -> list[tuple[int, str]]:
        """Return a partition's files. Raises SourceError for an archive of which nobody says how to split it."""
        source = partition.options["source"]
        if not partition.options["date"] and self.day_of is None:
            raise SourceError(f"source {source} can't be split by day; write {{date:%Y-%m-%d}} where its day stands")
        return files_of(partition)

    def fetch(self, partition: Partition, unit: tuple[int, str]) -> Iterator[results.Written]:
        """Write the records of a file, as they are or by day."""
        if partition.options["date"] or self.day_of is None:
            yield from fetch_file(partition, unit, self.how)
        else:
            with opened(partition, unit[1], self.how) as stream:
                yield splits.split_file(partition, unit, stream, self.day_of)


def fetch(
    pipeline: beam.Pipeline,
    options: PipelineOptions,
    *,
    day_of: splits.DayOf | None = None,
    how: Open = named.open_uri,
) -> None:
    """Add the pipeline: a file of a source is a unit of work.

    how: how a URI is opened, where a workflow has sources that it generates.
    """
    batch = Batch(pipeline, options, FetchOptions)
    work = _Fetch(day_of, how)
    batch.units(work.files_of).each(work.fetch)
    batch.results(lambda partition: str(partition.options["dataset"]))


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Add the pipeline, of sources of which each file is of a day."""
    fetch(pipeline, options)


if __name__ == "__main__":
    main(build, FetchOptions)

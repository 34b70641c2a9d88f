"""A source's files → its raw records as Parquet (file, line, record), kept as they came; an archive's by day.

Run alone:

    python -m pipelines.posts.fetch --source 'posts-{date:%Y-%m-%d}.jsonl.gz' --date 2026-11-19 --output 'out/{dataset}'
"""

import argparse
import datetime
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import IO, TypeAlias

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines import files, results
from pipelines.errors import NotThereYetError
from pipelines.options import StageOptions, main
from pipelines.posts import parse, records, sources

#: Bytes of one archive's records held in memory before the fullest days are written.
_HELD = 256 << 20

#: How a URI is opened, with what the settings allow its server.
Opens: TypeAlias = Callable[[str], AbstractContextManager[IO[bytes]]]

REJECTED = "rejected"
_REJECTED_SCHEMA = pa.schema(
    [("file", pa.string()), ("line", pa.int64()), ("reason", pa.string()), ("record", pa.large_binary())]
)


class FetchOptions(StageOptions):
    """Options of fetch."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--source", required=True, help="where the records come from")
        parser.add_argument("--date", default="", help="the day, YYYY-MM-DD; none: split an archive by day")
        parser.add_argument("--max_source_bytes", type=int, default=10 << 30, help="larger files are refused")
        parser.add_argument("--max_transfer_seconds", type=int, default=3600, help="a file by HTTP may take so long")
        parser.add_argument("--redirect_hosts", default="", help="other hosts that HTTP may redirect to, by commas")
        parser.add_argument("--dataset", default="raw", help="what the output is called")


class FetchFile(beam.DoFn):
    """(number, URI) → the file's records in one Parquet file, a row group a block."""

    def __init__(self, output: str, dataset: str, opens: Opens) -> None:
        self._output, self._dataset, self._opens = output, dataset, opens

    def process(self, element: tuple[int, str]) -> Iterator[tuple[str, results.Written]]:
        number, uri = element
        read = 0
        name = f"raw-{number:05d}"
        with (
            files.ParquetFile(self._output, self._dataset, name, records.SCHEMA, table="raw") as file,
            self._opens(uri) as stream,
        ):
            for block in records.read(stream):
                file.write(_table(uri, block.line, block.record))
                files.rows_read(len(block.line))
                read += len(block.line)
            written = file.close()
        yield files.keyed(results.merge_written([written, results.Written(counters={"read": read})]))


class SplitFile(beam.DoFn):
    """(number, URI) → the file's records in Parquet files by day, labelled `YYYY-MM-DD`, and those that show no day."""

    def __init__(self, output: str, dataset: str, opens: Opens) -> None:
        self._output, self._dataset, self._opens = output, dataset, opens

    def process(self, element: tuple[int, str]) -> Iterator[tuple[str, results.Written]]:
        number, uri = element
        held: dict[str, list[pa.Table]] = {}  # by label
        size = part = 0
        written: list[results.Written] = []
        counters = Counter(read=0, kept=0)

        def write(label: str) -> results.Written:
            name = f"{REJECTED}-" if label == REJECTED else f"{label}/raw-"
            table = pa.concat_tables(held[label]).combine_chunks()
            file = f"{name}{number:05d}-{part:05d}"
            return files.write_parquet(self._output, self._dataset, file, table, label=label)

        def flush() -> None:
            nonlocal size, part
            with ThreadPoolExecutor(files.threads([self._output])) as pool:
                written.extend(pool.map(write, sorted(held)))
            held.clear()
            size, part = 0, part + 1

        def hold(label: str, table: pa.Table) -> None:
            nonlocal size
            held.setdefault(label, []).append(table)
            size += table.nbytes

        with self._opens(uri) as stream:
            for block in records.read(stream):
                days = np.empty(len(block.line), np.int64)
                reasons: list[str] = []
                for i, record in enumerate(block.record.to_pylist()):
                    try:
                        days[i] = parse.created_at(record) // parse.DAY
                    except parse.Rejected as reason:
                        days[i] = _NO_DAY
                        reasons.append(str(reason))
                for day in np.unique(days).tolist():
                    mine = pa.array(days == day)
                    line, record = pc.filter(block.line, mine), pc.filter(block.record, mine)
                    if day == _NO_DAY:
                        columns = [pa.repeat(uri, len(line)), line, pa.array(reasons, pa.string()), record]
                        hold(REJECTED, pa.Table.from_arrays(columns, schema=_REJECTED_SCHEMA))
                    else:
                        hold(str(_EPOCH + datetime.timedelta(days=day)), _table(uri, line, record))
                counters.update({"read": len(days), "kept": len(days) - len(reasons)})
                counters.update(f"rejected: {reason}" for reason in reasons)
                files.rows_read(len(days))
                if size > _HELD:
                    flush()
        flush()
        yield files.keyed(results.merge_written([*written, results.Written(counters=counters)]))


_EPOCH = datetime.date(1970, 1, 1)
_NO_DAY = np.iinfo(np.int64).min


def _table(uri: str, line: pa.Array, record: pa.Array) -> pa.Table:
    file = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(line), np.int32)), pa.array([uri]))
    return pa.Table.from_arrays([file, line, record], schema=records.SCHEMA)


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Adds the pipeline: a file of the source is a unit of work."""
    mine = options.view_as(FetchOptions)
    date = datetime.date.fromisoformat(mine.date) if mine.date else None
    work = FetchFile if date else SplitFile
    sources.check(mine.source)
    hosts = [host for host in mine.redirect_hosts.split(",") if host]
    opens = functools.partial(
        sources.open_uri,
        max_bytes=mine.max_source_bytes,
        max_seconds=mine.max_transfer_seconds,
        redirect_hosts=hosts,
    )
    uris = sources.resolve(mine.source, date, hosts)
    if not uris:
        raise NotThereYetError(f"source {mine.source} has no file{f' for {date}' if date else ''}")
    _ = (
        pipeline
        | "Files" >> beam.Create(list(enumerate(uris)))
        | work.__name__ >> beam.ParDo(work(mine.output, mine.dataset, opens))
        | "Result" >> files.WriteResult(mine.output, mine.dataset)
    )


if __name__ == "__main__":
    main(build, FetchOptions)

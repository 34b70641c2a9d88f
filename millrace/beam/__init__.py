r'''What a pipeline is written with, and what ships to workers.

A pipeline is a module that has `build(pipeline, options)`:

    """The requests of web servers' logs, by hour and status."""

    import datetime
    import re

    import pyarrow as pa

    from millrace.beam import Batch, Rejected, main, parsed, write_parquet

    LINE = re.compile(rb'\S+ \S+ \S+ \[([^]]+)\] "(?:[^"\\]|\\.)*" (\d{3}) ')
    STATUSES = pa.schema([("hour", pa.timestamp("us", "UTC")), ("status", pa.int64()), ("requests", pa.int64())])


    def request(line):
        found = LINE.match(line)
        if not found:
            raise Rejected("no line of a log")
        moment = datetime.datetime.strptime(found[1].decode(), "%d/%b/%Y:%H:%M:%S %z")
        return {"hour": moment.replace(minute=0, second=0), "status": int(found[2]), "requests": 1}


    def count(day, block):
        requests, told = parsed(day, block, request, rejected="statuses_rejected")
        yield told
        yield "statuses", pa.Table.from_pylist(requests, STATUSES)


    def add_up(day, name, tables):
        sums = pa.concat_tables(tables).group_by(["hour", "status"]).aggregate([("requests", "sum")])
        table = sums.rename_columns(STATUSES.names).sort_by([("hour", "ascending"), ("status", "ascending")])
        yield write_parquet(day.output, "statuses", "statuses", table)


    def build(pipeline, options):
        batch = Batch(pipeline, options)
        batch.lines().each(count).by_key(add_up)
        batch.results("statuses")


    if __name__ == "__main__":
        main(build)

As pipelines/logs/statuses.py it runs by itself, and computes what a stage has it compute, one day or many:

    python -m pipelines.logs.statuses --input 'access.log*' --output 'out/{dataset}'

Options of its own are a class from StageOptions, which Batch and main take; `day.options` has them. `fetch` is a
pipeline that keeps a source's records, or splits them by day. See Batch for the rest. What is named here is imported
when it is first asked for, because launchers import this package too.
'''

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from millrace.beam.adding import add_up
    from millrace.beam.batch import Batch, Block, Item, Pack, Tables, Units
    from millrace.beam.fetching import FetchOptions, fetch
    from millrace.beam.files import ParquetFile, RowGroup, read_parquet, read_windows, rows_read, write_parquet
    from millrace.beam.options import StageOptions, main
    from millrace.beam.rejects import dead_letters, parsed
    from millrace.beam.shards import shard_of
    from millrace.beam.sources.records import Rejected
    from millrace.beam.templates import Parameter, TemplateOptions
    from millrace.common.checksums import Input
    from millrace.common.partitions import Partition
    from millrace.common.results import Written

__all__ = [
    "Batch",
    "Block",
    "FetchOptions",
    "Input",
    "Item",
    "Pack",
    "Parameter",
    "ParquetFile",
    "Partition",
    "Rejected",
    "RowGroup",
    "StageOptions",
    "Tables",
    "TemplateOptions",
    "Units",
    "Written",
    "add_up",
    "dead_letters",
    "fetch",
    "main",
    "parsed",
    "read_parquet",
    "read_windows",
    "rows_read",
    "shard_of",
    "write_parquet",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Imports that are written out, because they say which code makes a result.
    from millrace.beam import adding, batch, fetching, files, options, rejects, shards, templates

    homes = (adding, batch, fetching, files, options, rejects, shards, templates)
    return next(vars(home)[name] for home in homes if name in vars(home))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

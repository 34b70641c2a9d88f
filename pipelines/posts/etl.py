"""Raw records of a day → its posts, each once, and the records that can't be used with the reason.

Always: read = kept + other days + duplicates + rejected.

Run alone:

    python -m pipelines.posts.etl --input 'raw/*.parquet' --source here --date 2026-11-19 --output 'out/{dataset}'
"""

import argparse
import datetime
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines import files
from pipelines.options import StageOptions, main
from pipelines.posts import parse
from pipelines.shards import shard_of

POSTS = pa.schema(
    [
        ("id", pa.string()),
        ("created_at", pa.timestamp("us", "UTC")),
        ("user", pa.string()),
        ("text", pa.string()),
        ("urls", pa.list_(pa.string())),
        ("lang", pa.string()),
        ("source", pa.string()),
    ]
)
REJECTED = pa.schema(
    [
        ("reason", pa.string()),
        ("source", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("record", pa.large_binary()),
    ]
)
#: Where a post stood: its file's place in the input, then its line. The last of several with one id wins.
_PLACE = pa.field("place", pa.int64())
#: Posts a row group: the block of work of the stages that follow.
_ROW_GROUP = 1 << 18


class EtlOptions(StageOptions):
    """Options of etl."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--date", required=True, help="the day whose posts are kept, YYYY-MM-DD")
        parser.add_argument("--sources", default="[]", help="JSON: the source's name of each input file")
        parser.add_argument("--shards", type=int, default=1, help="files of posts; about 500,000 posts each")


class ParseBlock(beam.DoFn):
    """(order, path, row group) → ("shard", posts) for each shard, tagged `written`: rejects and counts."""

    def __init__(self, output: str, date: str, sources: list[str], shards: int) -> None:
        self._output, self._sources, self._shards = output, sources, shards
        self._start = (datetime.date.fromisoformat(date) - datetime.date(1970, 1, 1)).days * parse.DAY

    def process(self, element: tuple[int, str, int]) -> Iterator[Any]:
        order, path, group = element
        block = files.read_block(path, group, ["file", "line", "record"])
        source = self._sources[order] if self._sources else path
        posts, rejects, other_days = parse_block(block, self._start)
        places = (order << 40) + block["line"].to_numpy()

        table = _posts_table(posts, source, places)
        for shard, part in split(table, self._shards):
            yield f"{shard:05d}", files.to_ipc(part)

        counters = Counter({"read": block.num_rows, "other_days": other_days})
        counters.update(f"rejected: {reason}" for _, reason in rejects)
        parts = [files.Written(counters=counters)]
        rejected = _rejected_table(block, rejects, source)
        if rejected.num_rows:
            name = f"posts_rejected-{order:05d}-{group:05d}"
            parts.append(files.write_parquet(self._output, "posts_rejected", name, rejected))
        yield beam.pvalue.TaggedOutput("written", files.merge_written(parts))


def parse_block(block: pa.Table, start: int) -> tuple[list[tuple[int, parse.Post]], list[tuple[int, str]], int]:
    """Records of a block → (row, post) of the day that begins at `start` (µs), (row, reason), and how many others."""
    posts: list[tuple[int, parse.Post]] = []
    rejects: list[tuple[int, str]] = []
    other_days = 0
    records, read = _texts(block["record"])
    for row, record in enumerate(records):
        try:
            post = read(record)
        except parse.Rejected as rejected:
            rejects.append((row, str(rejected)))
            continue
        if start <= post.created_at < start + parse.DAY:
            posts.append((row, post))
        else:
            other_days += 1
    return posts, rejects, other_days


def _texts(record: pa.ChunkedArray) -> tuple[list[Any], Any]:
    """The records as text with the parser for that, when the whole block is UTF-8 and no line is too long."""
    longest = pc.max(pc.binary_length(record)).as_py() or 0
    if longest <= parse.MAX_RECORD:
        try:
            return record.cast(pa.large_string()).to_pylist(), parse.parse_text
        except pa.ArrowInvalid:
            pass
    return record.to_pylist(), parse.parse


def _posts_table(posts: list[tuple[int, parse.Post]], source: str, places: Any) -> pa.Table:
    rows = np.fromiter((row for row, _ in posts), np.int64, len(posts))
    columns = list(zip(*(post for _, post in posts), strict=True)) or [()] * len(parse.Post._fields)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, POSTS, strict=False)]
    arrays.append(pa.array([source] * len(posts), pa.string()))
    return pa.Table.from_arrays([*arrays, pa.array(places[rows])], schema=POSTS.append(_PLACE))


def _rejected_table(block: pa.Table, rejects: list[tuple[int, str]], source: str) -> pa.Table:
    rows = pa.array([row for row, _ in rejects], pa.int64())
    there = block.take(rows)
    records = [record.removesuffix(b"\n").removesuffix(b"\r") for record in there["record"].to_pylist()]
    columns = [
        pa.array([reason for _, reason in rejects], pa.string()),
        pa.array([source] * len(rejects), pa.string()),
        there["file"].cast(pa.string()),
        there["line"],
        pa.array(records, pa.large_binary()),
    ]
    return pa.Table.from_arrays(columns, schema=REJECTED)


def split(posts: pa.Table, shards: int) -> Iterator[tuple[int, pa.Table]]:
    """Posts by the hash of their id, so that one worker sees all with the same."""
    if shards == 1:
        yield 0, posts
        return
    shard = shard_of(posts["id"].to_pylist(), shards)
    for number in range(shards):
        yield number, posts.filter(pa.array(shard == number))


def last_of_each(posts: pa.Table) -> pa.Table:
    """One post an id, the one that stands last, in order of place."""
    last = posts.select(["id", "place"]).group_by("id", use_threads=False).aggregate([("place", "max")])
    keep = pc.is_in(posts["place"], last["place_max"].combine_chunks())
    return posts.filter(keep).sort_by("place")


class WriteShard(beam.DoFn):
    """(shard, posts of each block) → a file of posts without repetitions."""

    def __init__(self, output: str, shards: int) -> None:
        self._output, self._shards = output, shards

    def process(self, element: tuple[str, Iterable[bytes]]) -> Iterator[files.Written]:
        shard, parts = element
        posts = pa.concat_tables([files.from_ipc(part) for part in parts])
        kept = last_of_each(posts)
        name = f"posts-{shard}-of-{self._shards:05d}"
        file = files.ParquetFile(self._output, "posts", name, POSTS)
        for at in range(0, kept.num_rows, _ROW_GROUP):
            file.write(kept.slice(at, _ROW_GROUP).select(POSTS.names))
        counters = {"kept": kept.num_rows, "duplicates": posts.num_rows - kept.num_rows}
        yield files.merge_written([file.close(), files.Written(counters=counters)])


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Adds the pipeline: parse by block, de-duplicate by shard of the id's hash."""


    mine = options.view_as(EtlOptions)
    parsed = (
        pipeline
        | "Read" >> files.ReadBlocks(files.expand(mine.input))
        | "Parse"
        >> beam.ParDo(ParseBlock(mine.output, mine.date, json.loads(mine.sources), mine.shards))
        .with_outputs("written", main="posts")
    )  # fmt: skip
    shards = (
        parsed.posts
        | "Typed" >> beam.Map(lambda keyed: keyed).with_output_types(tuple[str, bytes])
        | "ByShard" >> beam.GroupByKey()
        | "WriteShard" >> beam.ParDo(WriteShard(mine.output, mine.shards))
    )
    _ = (parsed.written, shards) | "Flatten" >> beam.Flatten() | "Result" >> files.WriteResult(mine.output, "posts")


if __name__ == "__main__":
    main(build, EtlOptions)

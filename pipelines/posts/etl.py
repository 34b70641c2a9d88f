"""Raw records of a day → its posts, each once, and the records that can't be used with the reason.

Always: read = kept + other days + duplicates + notices + rejected.

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
from numpy.typing import NDArray

from millrace.beam import files
from millrace.beam.options import StageOptions, main
from millrace.beam.shards import shard_of
from millrace.common import results
from millrace.common.checksums import Input
from pipelines.posts import columns, parse

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
#: Posts in a row group, which is the block of work of the stages that follow.
_ROW_GROUP = 1 << 18
_ROW_GROUP_BYTES = 256 << 20


class EtlOptions(StageOptions):
    """Options of etl."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--date", required=True, help="the day whose posts are kept, YYYY-MM-DD")
        parser.add_argument("--sources", default="[]", help="JSON: the source's name of each input file")
        parser.add_argument("--shards", type=int, default=1, help="files of posts; about 500,000 posts each")


class ParseBlock(beam.DoFn):
    """(order, file, row group) → ("shard", posts) for each shard, tagged `written`: rejects and counts."""

    def __init__(self, output: str, date: str, sources: list[str], shards: int) -> None:
        self._output, self._sources, self._shards = output, sources, shards
        self._start = (datetime.date.fromisoformat(date) - datetime.date(1970, 1, 1)).days * parse.DAY

    def process(self, element: tuple[int, Input, int]) -> Iterator[Any]:
        order, file, group = element
        block = files.read_block(file, group, ["file", "line", "record"])
        source = self._sources[order] if self._sources else file.path
        parsed = columns.parse_block(block["record"])
        since = parsed.posts["created_at"].to_numpy() - self._start
        day = (since >= 0) & (since < parse.DAY)
        rejects, other_days = parsed.rejects, int(len(day) - day.sum())
        places = (order << 40) + block["line"].to_numpy()
        table = _posts_table(parsed, day, source, places)
        for shard, part in split(table, self._shards):
            yield f"{shard:05d}", part

        counters = Counter({"read": block.num_rows, "other_days": other_days})
        if parsed.notices:
            counters["notices"] = parsed.notices
        counters.update(f"rejected: {reason}" for _, reason in rejects)
        parts = [results.Written(counters=counters)]
        rejected = _rejected_table(block, rejects, source)
        if rejected.num_rows:
            name = f"posts_rejected-{order:05d}-{group:05d}"
            parts.append(files.write_parquet(self._output, "posts_rejected", name, rejected))
        yield beam.pvalue.TaggedOutput("written", files.keyed(results.merge_written(parts)))


def _posts_table(parsed: columns.Parsed, day: NDArray[np.bool_], source: str, places: NDArray[np.int64]) -> pa.Table:
    posts, rows = (parsed.posts, parsed.rows) if day.all() else (parsed.posts.filter(pa.array(day)), parsed.rows[day])
    created_at = posts["created_at"].cast(pa.timestamp("us", "UTC"))
    arrays = [*posts.set_column(1, POSTS.field("created_at"), created_at).columns, pa.repeat(source, len(rows))]
    return pa.Table.from_arrays([*arrays, pa.array(places[rows])], schema=POSTS.append(_PLACE))


def _rejected_table(block: pa.Table, rejects: list[tuple[int, str]], source: str) -> pa.Table:
    rows = pa.array([row for row, _ in rejects], pa.int64())
    there = block.take(rows)
    records = [record.removesuffix(b"\n").removesuffix(b"\r") for record in there["record"].to_pylist()]
    arrays = [
        pa.array([reason for _, reason in rejects], pa.string()),
        pa.array([source] * len(rejects), pa.string()),
        there["file"].cast(pa.string()),
        there["line"],
        pa.array(records, pa.large_binary()),
    ]
    return pa.Table.from_arrays(arrays, schema=REJECTED)


def split(posts: pa.Table, shards: int) -> Iterator[tuple[int, pa.Table]]:
    """Yield posts by the hash of their id, so that one worker sees all posts of one id."""
    if shards == 1:
        yield 0, posts
        return
    shard = shard_of(posts["id"].to_pylist(), shards)
    for number in range(shards):
        yield number, posts.filter(pa.array(shard == number))


def last_of_each(posts: pa.Table) -> pa.Table:
    """Return one post for each id, the one that stands last, in order of place."""
    if pc.count_distinct(posts["id"]).as_py() < posts.num_rows:
        last = posts.select(["id", "place"]).group_by("id", use_threads=False).aggregate([("place", "max")])
        posts = posts.filter(pc.is_in(posts["place"], last["place_max"].combine_chunks()))
    place = posts["place"].to_numpy()
    return posts if (place[1:] > place[:-1]).all() else posts.sort_by("place")


class WriteShard(beam.DoFn):
    """(shard, posts of each block) → a file of posts without repetitions."""

    def __init__(self, output: str, shards: int) -> None:
        self._output, self._shards = output, shards

    def process(self, element: tuple[str, Iterable[pa.Table]]) -> Iterator[tuple[str, results.Written]]:
        shard, parts = element
        posts = pa.concat_tables(parts)
        kept = last_of_each(posts)
        name = f"posts-{shard}-of-{self._shards:05d}"
        step = max(1, min(_ROW_GROUP, kept.num_rows * _ROW_GROUP_BYTES // max(1, kept.nbytes)))
        with files.ParquetFile(self._output, "posts", name, POSTS) as file:
            for at in range(0, kept.num_rows, step):
                file.write(kept.slice(at, step).select(POSTS.names))
            written = file.close()
        counters = {"kept": kept.num_rows, "duplicates": posts.num_rows - kept.num_rows}
        yield files.keyed(results.merge_written([written, results.Written(counters=counters)]))


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Add the pipeline: parse by block, de-duplicate by shard of the id's hash."""
    mine = options.view_as(EtlOptions)
    work = ParseBlock(mine.output, mine.date, json.loads(mine.sources), mine.shards)
    blocks = files.blocks(files.expand(mine.input))
    parsed = (
        pipeline
        | "Blocks" >> beam.Create(blocks)
        | "Parse" >> beam.ParDo(work).with_output_types(files.KEYED).with_outputs("written", main="posts")
    )
    shards = (
        parsed.posts
        | "ByShard" >> files.ByKey(len(blocks))
        | "WriteShard" >> beam.ParDo(WriteShard(mine.output, mine.shards))
    )
    _ = (parsed.written, shards) | "Flatten" >> beam.Flatten() | "Result" >> files.WriteResult(mine.output, "posts")


if __name__ == "__main__":
    main(build, EtlOptions)

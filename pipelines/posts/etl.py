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

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.options.pipeline_options import PipelineOptions
from numpy.typing import NDArray

from millrace.beam import files
from millrace.beam.batch import Batch, Block, Item
from millrace.beam.options import StageOptions, main
from millrace.beam.rejects import dead_letters
from millrace.beam.shards import shard_of
from millrace.common import results
from millrace.common.partitions import Partition
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
        parser.add_argument("--sources", type=json.loads, default=[], help="JSON: the source's name of each input file")
        parser.add_argument("--shards", type=int, default=1, help="files of posts; about 500,000 posts each")


def parse_block(day: Partition, block: Block) -> Iterator[Item]:
    """Yield a block's posts by shard, and its rejects and counts."""
    sources = day.options["sources"]
    source = sources[block.order] if sources else block.file.path
    parsed = columns.parse_block(block.table["record"])
    start = (datetime.date.fromisoformat(day.options["date"]) - datetime.date(1970, 1, 1)).days * parse.DAY
    since = parsed.posts["created_at"].to_numpy() - start
    of_day = (since >= 0) & (since < parse.DAY)
    places = (block.order << 40) + block.table["line"].to_numpy()
    for shard, part in split(_posts_table(parsed, of_day, source, places), day.options["shards"]):
        yield f"{shard:05d}", part

    counters = Counter({"read": block.table.num_rows, "other_days": int(len(of_day) - of_day.sum())})
    if parsed.notices:
        counters["notices"] = parsed.notices
    yield results.Written(counters=counters)
    yield dead_letters(day, "posts_rejected", block, parsed.rejects, source)


def _posts_table(parsed: columns.Parsed, day: NDArray[np.bool_], source: str, places: NDArray[np.int64]) -> pa.Table:
    posts, rows = (parsed.posts, parsed.rows) if day.all() else (parsed.posts.filter(pa.array(day)), parsed.rows[day])
    created_at = posts["created_at"].cast(pa.timestamp("us", "UTC"))
    arrays = [*posts.set_column(1, POSTS.field("created_at"), created_at).columns, pa.repeat(source, len(rows))]
    return pa.Table.from_arrays([*arrays, pa.array(places[rows])], schema=POSTS.append(_PLACE))


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


def write_shard(day: Partition, shard: str, parts: Iterable[pa.Table]) -> Iterator[results.Written]:
    """Write a shard's posts without repetitions."""
    posts = pa.concat_tables(parts)
    kept = last_of_each(posts)
    name = f"posts-{shard}-of-{day.options['shards']:05d}"
    step = max(1, min(_ROW_GROUP, kept.num_rows * _ROW_GROUP_BYTES // max(1, kept.nbytes)))
    with files.ParquetFile(day.output, "posts", name, POSTS) as file:
        for at in range(0, kept.num_rows, step):
            file.write(kept.slice(at, step).select(POSTS.names))
        yield file.close()
    yield results.Written(counters={"kept": kept.num_rows, "duplicates": posts.num_rows - kept.num_rows})


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Add the pipeline: parse by block, de-duplicate by shard of the id's hash."""
    batch = Batch(pipeline, options, EtlOptions)
    batch.blocks("file", "line", "record").each(parse_block).by_key(write_shard)
    batch.results("posts")


if __name__ == "__main__":
    main(build, EtlOptions)

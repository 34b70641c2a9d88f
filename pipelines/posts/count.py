"""A day's posts → its partial counts, which add up over days: posts by hour, word → posts, URL → occurrences,
pair of words → posts. All but the hours lie in shards of their key's hash, so that days merge shard by shard.

Run alone:

    python -m pipelines.posts.count --input 'out/posts/*.parquet' --output 'out/{dataset}' --rules classic
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.options.pipeline_options import PipelineOptions

from millrace.beam import files, shards
from millrace.beam.batch import Batch, Block, Item
from millrace.beam.options import StageOptions, main
from millrace.common import results
from millrace.common.partitions import Partition
from pipelines.posts import pairs, rules
from pipelines.posts.tokens import Tokens, tokenize

HOURS = pa.schema([("hour", pa.timestamp("us", "UTC")), ("posts", pa.int64())])
WORDS = pa.schema([("word", pa.string()), ("posts", pa.int64())])
URLS = pa.schema([("url", pa.string()), ("occurrences", pa.int64())])

SCHEMAS = {"hours": HOURS, "words": WORDS, "urls": URLS, "pairs": pairs.SCHEMA}
#: Bytes of posts, as they are in memory, that one shard is for: some 700,000 posts, with several million pairs.
SHARD_BYTES = 128 << 20


class CountOptions(StageOptions):
    """Options of count."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--rules", default="standard", choices=rules.RULES, help="what words and URLs are")
        parser.add_argument("--languages", default="en", help="languages of posts that don't say theirs, by commas")
        parser.add_argument(
            "--shards", type=int, default=0, help="shards of URLs and of pairs, a power of two; 0: as the posts need"
        )


def count_block(day: Partition, block: Block) -> Iterator[Item]:
    """Yield a block's partial counts, by "table/shard"."""
    rule_set = rules.get(day.options["rules"], day.options["languages"].split(","))
    posts, of = block.table, day.options["shards"]
    tokens = tokenize(posts["text"], posts["lang"], rule_set)
    yield "hours/0", count_hours(posts["created_at"])
    yield from cut("words", count_words(tokens), shards.classes(of))
    yield from cut("urls", count_urls(posts["urls"], rule_set), of)
    for number, part in enumerate(pairs.split(pairs.of_posts(tokens), of)):
        yield f"pairs/{number}", pairs.to_table(part)


def cut(name: str, table: pa.Table, of: int) -> Iterator[Item]:
    """Yield the shards of a table whose first column is its key."""
    if of == 1:
        yield f"{name}/0", table
        return
    for number, rows in enumerate(shards.rows_of(shards.shard_of(table[0].to_pylist(), of), of)):
        yield f"{name}/{number}", table.take(pa.array(rows))


def count_hours(created_at: pa.ChunkedArray) -> pa.Table:
    """Return posts of each hour that has any."""
    hours = pc.floor_temporal(created_at, unit="hour").combine_chunks().value_counts()
    return pa.Table.from_arrays([hours.field(0), hours.field(1)], schema=HOURS).sort_by("hour")


def count_words(tokens: Tokens) -> pa.Table:
    """Return posts that contain each word."""
    posts = np.bincount(tokens.word, minlength=len(tokens.vocabulary))
    table = pa.Table.from_arrays([tokens.vocabulary, pa.array(posts, pa.int64())], schema=WORDS)
    return table.filter(pa.array(posts > 0))


def count_urls(urls: pa.ChunkedArray, rule_set: rules.Rules) -> pa.Table:
    """Return occurrences of each URL."""
    raw = pc.list_flatten(urls.combine_chunks()).drop_null().value_counts()
    counted = pa.table(
        {
            "url": pa.array([rule_set.url(url) for url in raw.field(0).to_pylist()], pa.string()),
            "occurrences": raw.field(1),
        }
    )
    return _sum_by(counted, URLS)


def add(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the sum of several partial counts of one kind."""
    if len(tables) == 1:
        return tables[0]
    schema = tables[0].schema
    if schema.names == pairs.SCHEMA.names:
        return pairs.to_table(pairs.add([pairs.of_table(table) for table in tables]))
    return _sum_by(pa.concat_tables(tables), schema)


def only(table: pa.Table, shard: int, of: int) -> pa.Table:
    """Return the rows of partial counts that lie in one shard."""
    if table.schema.names == pairs.SCHEMA.names:
        return pairs.to_table(pairs.shard(pairs.of_table(table), shard, of))
    return table.filter(pa.array(shards.shard_of(table[0].to_pylist(), of) == shard))


def _sum_by(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the second column's sum for each value of the first, in the order of those values."""
    key, value = schema.names
    summed = table.group_by(key, use_threads=False).aggregate([(value, "sum")]).sort_by(key)
    return pa.Table.from_arrays([summed[key], summed[f"{value}_sum"]], schema=schema)


def write_shard(day: Partition, key: str, tables: Iterable[pa.Table]) -> Iterator[results.Written]:
    """Write the sum of partial counts; key: "table/shard"."""
    name, _, number = key.partition("/")
    (table,) = tables
    of = {"hours": 1, "words": shards.classes(day.options["shards"])}.get(name, day.options["shards"])
    encodings = pairs.ENCODINGS if name == "pairs" else None
    file = f"{name}-{int(number):05d}-of-{of:05d}"
    yield files.write_parquet(day.output, "counts", file, table.combine_chunks(), label=name, encodings=encodings)
    if name == "hours":
        yield results.Written(counters={"posts": pc.sum(table["posts"]).as_py() or 0})


def shards_of(posts: Sequence[files.RowGroup]) -> int:
    """Return how many shards the counts of some posts have where nobody says so."""
    return shards.number(sum(group.bytes for group in posts), SHARD_BYTES)


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Add the pipeline: count by block, add up by shard of the key's hash, before the shuffle and after it."""
    batch = Batch(pipeline, options, CountOptions)
    batch.decide(lambda day, posts: {"shards": day.options["shards"] or shards_of(posts)})
    batch.blocks("created_at", "text", "urls", "lang").each(count_block).add_up(add).by_key(write_shard)
    batch.results("counts")


if __name__ == "__main__":
    main(build, CountOptions)

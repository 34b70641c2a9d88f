"""A day's posts → its partial counts, which add up over days: posts by hour, word → posts, URL → occurrences,
pair of words → posts. URLs and pairs lie in shards of their key's hash, so that days merge shard by shard.

Run alone:

    python -m pipelines.posts.count --input 'out/posts/*.parquet' --output 'out/{dataset}' --rules classic
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.options.pipeline_options import PipelineOptions

from millrace.beam import files
from millrace.beam.batch import Batch, Block, Item
from millrace.beam.options import StageOptions, main
from millrace.beam.shards import hashes, pair_shard_of, shard_of
from millrace.common import results
from millrace.common.partitions import Partition
from pipelines.posts import rules
from pipelines.posts.tokens import Tokens, tokenize

HOURS = pa.schema([("hour", pa.timestamp("us", "UTC")), ("posts", pa.int64())])
WORDS = pa.schema([("word", pa.string()), ("posts", pa.int64())])
URLS = pa.schema([("url", pa.string()), ("occurrences", pa.int64())])
_ENCODED = pa.dictionary(pa.int32(), pa.string())
#: w1 < w2. Both columns share one vocabulary in ascending order, so that words are compared by their numbers.
PAIRS = pa.schema([("w1", _ENCODED), ("w2", _ENCODED), ("posts", pa.int64())])
#: A post of more different words than this counts for its words and not for its pairs, because pairs grow with the
#: square.
MAX_PAIRED_WORDS = 1024
#: Pairs, with repetition, held at a time: up to 8 bytes each.
MAX_PAIRS_AT_ONCE = 1 << 25

SCHEMAS = {"hours": HOURS, "words": WORDS, "urls": URLS, "pairs": PAIRS}


class CountOptions(StageOptions):
    """Options of count."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--rules", default="standard", choices=rules.RULES, help="what words and URLs are")
        parser.add_argument("--languages", default="en", help="languages of posts that don't say theirs, by commas")
        parser.add_argument("--shards", type=int, default=4, help="shards of URLs and of pairs")


def count_block(day: Partition, block: Block) -> Iterator[Item]:
    """Yield a block's partial counts, by "table/shard"."""
    rule_set = rules.get(day.options["rules"], day.options["languages"].split(","))
    posts, shards = block.table, day.options["shards"]
    tokens = tokenize(posts["text"], posts["lang"], rule_set)
    yield "hours/0", count_hours(posts["created_at"])
    yield "words/0", count_words(tokens)
    for name, table, shard in (
        ("urls", *count_urls(posts["urls"], rule_set, shards)),
        ("pairs", *count_pairs(tokens, shards)),
    ):
        for number in range(shards):
            yield f"{name}/{number}", table.filter(pa.array(shard == number))


def count_hours(created_at: pa.ChunkedArray) -> pa.Table:
    """Return posts of each hour that has any."""
    hours = pc.floor_temporal(created_at, unit="hour").combine_chunks().value_counts()
    return pa.Table.from_arrays([hours.field(0), hours.field(1)], schema=HOURS).sort_by("hour")


def count_words(tokens: Tokens) -> pa.Table:
    """Return posts that contain each word."""
    posts = np.bincount(tokens.word, minlength=len(tokens.vocabulary))
    table = pa.Table.from_arrays([tokens.vocabulary, pa.array(posts, pa.int64())], schema=WORDS)
    return table.filter(pa.array(posts > 0))


def count_urls(urls: pa.ChunkedArray, rule_set: rules.Rules, shards: int) -> tuple[pa.Table, Any]:
    """Return occurrences of each URL, and its shard."""
    raw = pc.list_flatten(urls.combine_chunks()).drop_null().value_counts()
    counted = pa.table(
        {
            "url": pa.array([rule_set.url(url) for url in raw.field(0).to_pylist()], pa.string()),
            "occurrences": raw.field(1),
        }
    )
    table = _sum_by(counted, URLS)
    return table, shard_of(table["url"].to_pylist(), shards)


def count_pairs(tokens: Tokens, shards: int, at_once: int = MAX_PAIRS_AT_ONCE) -> tuple[pa.Table, Any]:
    """Return posts that contain both words of each pair, and the pair's shard. at_once: pairs held at a time."""
    starts = np.flatnonzero(np.diff(tokens.post, prepend=-1))
    lengths = np.diff(np.append(starts, len(tokens.post)))
    lengths[lengths > MAX_PAIRED_WORDS] = 0
    piece = np.cumsum(lengths * (lengths - 1) // 2) // at_once
    tables = [_pairs_of(tokens, starts[piece == n], lengths[piece == n]) for n in np.unique(piece)]
    pairs = merge("pairs", tables or [PAIRS.empty_table()])
    if not pairs.num_rows:
        return pairs, np.empty(0, np.int64)
    w1, w2 = (pairs[name].combine_chunks() for name in ("w1", "w2"))
    w1, w2 = (w.chunk(0) if isinstance(w, pa.ChunkedArray) else w for w in (w1, w2))
    of_word = hashes(w1.dictionary.to_pylist())  # both columns have one vocabulary
    return pairs, pair_shard_of(of_word[w1.indices.to_numpy()], of_word[w2.indices.to_numpy()], shards)


def _pairs_of(tokens: Tokens, starts: Any, lengths: Any) -> pa.Table:
    """Return the pairs of some posts, given where each post's words begin and how many they are."""
    size = len(tokens.vocabulary)
    pairs = np.empty(int((lengths * (lengths - 1) // 2).sum()), _number_type(size))
    word = tokens.word.astype(pairs.dtype)
    at = 0
    for length in np.unique(lengths[lengths > 1]).tolist():  # all posts of so many words at once
        words = word[starts[lengths == length][:, None] + np.arange(length)]
        first, second = np.triu_indices(length, 1)
        found = words[:, first] * pairs.dtype.type(size) + words[:, second]
        pairs[at : at + found.size] = found.ravel()
        at += found.size
    pairs.sort()  # numpy sorts integers by vectors, which beats any hashing
    changes = np.flatnonzero(pairs[1:] != pairs[:-1]) + 1
    begins = np.append(0, changes) if len(pairs) else changes
    w1, w2 = np.divmod(pairs[begins], pairs.dtype.type(max(size, 1)))
    return encoded_pairs(w1, w2, np.diff(np.append(begins, len(pairs))), tokens.vocabulary)


def _number_type(words: int) -> type[np.unsignedinteger[Any]]:
    """Return the smallest type that numbers all pairs of so many words: w1 · words + w2."""
    return np.uint32 if words < 1 << 16 else np.uint64


def encoded_pairs(w1: Any, w2: Any, posts: Any, vocabulary: pa.Array) -> pa.Table:
    """Return pairs as word numbers in a vocabulary → a table with their words."""
    columns = [pa.DictionaryArray.from_arrays(pa.array(w.astype(np.int32)), vocabulary) for w in (w1, w2)]
    return pa.Table.from_arrays([*columns, pa.array(posts, pa.int64())], schema=PAIRS)


def common_vocabulary(tables: Sequence[pa.Table]) -> pa.Array:
    """Return all words of several tables of pairs, in ascending order."""
    words = pa.chunked_array([d for table in tables for d in _dictionaries(table)], pa.string()).unique()
    return words.take(pc.sort_indices(words))


def _dictionaries(pairs: pa.Table) -> list[pa.Array]:
    """Return the vocabularies of w1 and w2 (one chunk a column); only one if both have the same."""
    first, second = (pairs[name].chunk(0).dictionary for name in ("w1", "w2"))
    return [first] if first.equals(second) else [first, second]


def pair_numbers(pairs: pa.Table, vocabulary: pa.Array) -> Any:
    """Return the pairs of a table (one chunk a column) as numbers, w1 · words + w2, in a vocabulary that has their
    words.
    """
    kind = _number_type(len(vocabulary))
    places = [pc.index_in(words, vocabulary).to_numpy().astype(kind) for words in _dictionaries(pairs)]
    first, second = (pairs[name].chunk(0).indices.to_numpy() for name in ("w1", "w2"))
    return places[0][first] * kind(len(vocabulary)) + places[-1][second]


def sum_pairs(
    tables: Sequence[pa.Table], vocabulary: pa.Array, group_of: Sequence[int], groups: int = 1
) -> tuple[Any, Any]:
    """Return the distinct pairs of several tables, as ascending numbers, and their posts summed by the tables' groups.

    group_of: for each table its group's number, from 0. The sums have the shape (groups, pairs).
    """
    with ThreadPoolExecutor(files.worker_threads()) as pool:  # Arrow and numpy let threads run
        numbers = list(pool.map(lambda table: pair_numbers(table, vocabulary), tables))
        everything = np.concatenate(numbers)
        everything.sort()
        distinct = everything[np.append(True, everything[1:] != everything[:-1])]
        places = list(pool.map(lambda mine: np.searchsorted(distinct, mine), numbers))
    posts = np.zeros((groups, len(distinct)), np.int64)
    for table, place, group in zip(tables, places, group_of, strict=True):
        posts[group, place] += table["posts"].to_numpy()  # a table has each pair once
    return distinct, posts


def merge(name: str, tables: Sequence[pa.Table]) -> pa.Table:
    """Return the sum of several partial counts of one kind."""
    tables = [table.combine_chunks() for table in tables if table.num_rows] or list(tables[:1])
    if len(tables) == 1:
        return tables[0]
    if name != "pairs":
        return _sum_by(pa.concat_tables(tables), SCHEMAS[name])
    vocabulary = common_vocabulary(tables)
    pair, posts = sum_pairs(tables, vocabulary, [0] * len(tables))
    w1, w2 = np.divmod(pair, pair.dtype.type(len(vocabulary)))
    return encoded_pairs(w1, w2, posts[0], vocabulary)


def _sum_by(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the second column's sum for each value of the first, in the order of those values."""
    key, value = schema.names
    summed = table.group_by(key, use_threads=False).aggregate([(value, "sum")]).sort_by(key)
    return pa.Table.from_arrays([summed[key], summed[f"{value}_sum"]], schema=schema)


def merge_shard(day: Partition, key: str, parts: Iterable[pa.Table]) -> Iterator[results.Written]:
    """Write the sums of partial counts; key: "table/shard"."""
    name, _, number = key.partition("/")
    table = merge(name, list(parts)).combine_chunks()
    of = day.options["shards"] if name in ("urls", "pairs") else 1
    yield files.write_parquet(day.output, "counts", f"{name}-{int(number):05d}-of-{of:05d}", table, label=name)
    if name == "hours":
        yield results.Written(counters={"posts": pc.sum(table["posts"]).as_py() or 0})


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Add the pipeline: count by block, merge by shard of the key's hash."""
    batch = Batch(pipeline, options, CountOptions)
    batch.blocks("created_at", "text", "urls", "lang").each(count_block).by_key(merge_shard)
    batch.results("counts")


if __name__ == "__main__":
    main(build, CountOptions)

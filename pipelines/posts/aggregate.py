"""The counts of a window of days, and of the equally long window before it → the tables that people read.

Pairs and URLs are merged shard by shard; only words, tops and totals meet in one place. Run alone:

    python -m pipelines.posts.aggregate --input 'counts/*/*.parquet' --date 2026-11-19 --days 7 --output 'out/{dataset}'
"""

import argparse
import datetime
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.options.pipeline_options import PipelineOptions

from millrace.beam import files
from millrace.beam.options import StageOptions, main
from millrace.common import results
from millrace.common.checksums import Input
from millrace.errors import SettingsDifferError
from pipelines.posts import count
from pipelines.posts.tables import TABLES as DEFINITIONS

TOP_WORDS, TOP_URLS, TOP_PAIRS, TOP_EMERGING = 500, 300, 300, 100
#: Fewer posts than this say nothing about a pair's rise.
MIN_EMERGING = 5

#: Table → its columns.
TABLES = {name: table.schema() for name, table in DEFINITIONS.items()}
#: What ranks a table's rows, highest first; the key that breaks ties, ascending; and how many rows there are.
_TOPS: dict[str, tuple[str | None, list[str], int | None]] = {
    "word_counts": ("percent", ["word"], TOP_WORDS),
    "urls": ("count", ["url"], TOP_URLS),
    "word_cooccur": ("log_weight", ["w1", "w2"], TOP_PAIRS),
    "emerging_pairs": ("z", ["w1", "w2"], TOP_EMERGING),
    "posts_by_hour": (None, ["hour"], None),
}


class AggregateOptions(StageOptions):
    """Options of aggregate."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--date", required=True, help="the window's last day, YYYY-MM-DD")
        parser.add_argument("--days", type=int, default=7, help="the window's length in days")


class Inputs:
    """The files of counts by table and shard, each with whether it belongs to the window or to the one before."""

    def __init__(self, given: Sequence[Input], date: str, days: int) -> None:
        last = datetime.date.fromisoformat(date)
        first = str(last - datetime.timedelta(days=days - 1))
        before = str(last - datetime.timedelta(days=2 * days - 1))
        self._files: dict[tuple[str, int], list[tuple[bool, Input]]] = {}
        shards: dict[str, set[int]] = {}
        for file in given:
            day = files.partition_date(file.path) or date
            found = re.fullmatch(r"(\w+)-(\d+)-of-(\d+)\.parquet", os.path.basename(file.path))
            if found and before <= day <= date:
                self._files.setdefault((found[1], int(found[2])), []).append((day >= first, file))
                shards.setdefault(found[1], set()).add(int(found[3]))
        if any(len(numbers) > 1 for numbers in shards.values()):
            raise SettingsDifferError("--input: days counted with different --shards don't add up; count them again")
        self.shards = max((number for numbers in shards.values() for number in numbers), default=0)

    def of(self, table: str, shard: int = 0) -> list[tuple[bool, Input]]:
        """Return (in the window, file) of a table's shard."""
        return self._files.get((table, shard), [])


def read_counts(inputs: Inputs, table: str, *, now: bool, shard: int = 0) -> pa.Table:
    """Return the sum over the days, of the window or of the one before, of a table's shard. Not for pairs."""
    parts = files.read_tables([file for of_window, file in inputs.of(table, shard) if of_window == now])
    return count.merge(table, [count.SCHEMAS[table].empty_table(), *parts])


class Words(beam.DoFn):
    """Once: the words and hours of all days → ("totals", posts of each word and of both windows), and two tables."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs

    def process(self, _: object) -> Iterator[Any]:
        hours, before = (read_counts(self._inputs, "hours", now=now) for now in (True, False))
        posts, previous_posts = (pc.sum(table["posts"]).as_py() or 0 for table in (hours, before))
        words = read_counts(self._inputs, "words", now=True)
        percent = pa.table({"word": words["word"], "percent": words["posts"].to_numpy() / max(posts, 1)})
        for name in TABLES:  # every table is written, even an empty one
            yield name, top(name, None)
        yield "word_counts", top("word_counts", percent)
        yield "posts_by_hour", hours
        totals = words.replace_schema_metadata({"posts": str(posts), "previous_posts": str(previous_posts)})
        yield beam.pvalue.TaggedOutput("totals", totals)


class Shard(beam.DoFn):
    """A shard's number → (table, its top rows) for each table."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs

    def process(self, shard: int, words: pa.Table) -> Iterator[tuple[str, pa.Table]]:
        urls = read_counts(self._inputs, "urls", now=True, shard=shard)
        yield "urls", top("urls", urls.rename_columns(["url", "count"]))
        inputs = self._inputs.of("pairs", shard)
        pairs = files.read_tables([file for _, file in inputs], dictionaries=["w1", "w2"])
        parts = [(now, table) for (now, _), table in zip(inputs, pairs, strict=True) if table.num_rows]
        weighted, emerging = rank_pairs(parts, words)
        yield "word_cooccur", weighted
        yield "emerging_pairs", emerging


def rank_pairs(parts: Sequence[tuple[bool, pa.Table]], totals: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return the top pairs of a shard by log_weight, and those on the rise. totals: see Words."""
    posts, previous_posts = (int(totals.schema.metadata[name]) for name in (b"posts", b"previous_posts"))
    if not parts:
        return top("word_cooccur", None), top("emerging_pairs", None)
    tables = [table for _, table in parts]
    vocabulary = count.common_vocabulary(tables)
    pair, (before, now) = count.sum_pairs(tables, vocabulary, [int(of_window) for of_window, _ in parts], groups=2)
    pair, now, before = pair[now > 0], now[now > 0], before[now > 0]
    if not len(pair):
        return top("word_cooccur", None), top("emerging_pairs", None)
    # The share of the window's posts that contain each word of this vocabulary; none for a word only seen before.
    place = pc.index_in(vocabulary, totals["word"].combine_chunks())
    percent = np.asarray(place.is_valid()) * totals["posts"].take(place.fill_null(0)).to_numpy() / posts

    def words(some: Any) -> Any:
        return np.divmod(pair[some], pair.dtype.type(len(vocabulary)))

    def weights(some: Any) -> Any:
        return now[some] * -np.log(np.maximum(*(percent[w] for w in words(some))))

    def scores(some: Any) -> Any:
        y, x = now[some] + 0.5, before[some] + 0.5
        odds = np.log(y / (posts + 1 - y)) - np.log(x / (previous_posts + 1 - x))
        return odds / np.sqrt(1 / y + 1 / x)

    # No weight exceeds count · ln(posts), so that a pair below what the frequent ones reach need not be weighed.
    frequent = contenders(now, 10 * TOP_PAIRS)
    reached = np.partition(weights(frequent), -TOP_PAIRS)[-TOP_PAIRS] if len(frequent) >= TOP_PAIRS else 0.0
    heavy = np.flatnonzero(now * math.log(posts) >= reached * (1 - 1e-9))
    heavy = heavy[contenders(weights(heavy), TOP_PAIRS)]
    risen = np.flatnonzero(now >= MIN_EMERGING)
    risen = risen[contenders(scores(risen), TOP_EMERGING)]

    def named(numbers: Any) -> Any:
        return vocabulary.take(pa.array(numbers)).to_pylist()

    w1, w2 = words(heavy)
    weighted = [
        (a, b, y, log_weight(y, p, q))
        for a, b, y, p, q in zip(
            named(w1), named(w2), now[heavy].tolist(), percent[w1].tolist(), percent[w2].tolist(), strict=True
        )
    ]
    w1, w2 = words(risen)
    emerging = [
        (a, b, y, x, z(y, x, posts, previous_posts))
        for a, b, y, x in zip(named(w1), named(w2), now[risen].tolist(), before[risen].tolist(), strict=True)
    ]
    return top("word_cooccur", weighted), top("emerging_pairs", emerging)


def log_weight(count: int, percent1: float, percent2: float) -> float:
    """Return count · ln(min(1/percent1, 1/percent2)); a percent is the fraction of posts that contain the word."""
    return count * math.log(min(1 / percent1, 1 / percent2))


def z(now: int, before: int, posts: int, previous_posts: int) -> float:
    """Return how sure it is that a pair rose: the z-score of its log-odds ratio with the prior 0.5.

    Monroe, Colaresi, Quinn 2008, "Fightin' Words", equations 16, 20 and 22, with a post as the trial: `now` of `posts`
    posts contain the pair, and `before` of `previous_posts`.
    """
    y, x = now + 0.5, before + 0.5
    odds = math.log(y / (posts - now + 0.5)) - math.log(x / (previous_posts - before + 0.5))
    return odds / math.sqrt(1 / y + 1 / x)


def contenders(score: Any, limit: int) -> Any:
    """Return the indices of the highest scores, and of all so near that only exact arithmetic tells them apart."""
    if len(score) <= limit:
        return np.arange(len(score))
    last = np.partition(score, -limit)[-limit]
    return np.flatnonzero(score >= last - 1e-9 * abs(last))


def top(name: str, rows: pa.Table | Sequence[tuple[Any, ...]] | None) -> pa.Table:
    """Return the first rows of a table in the table's order. Without ts and date."""
    schema = pa.schema([f for f in TABLES[name] if f.name not in ("ts", "date")])
    rank, key, limit = _TOPS[name]
    if not isinstance(rows, pa.Table):
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
        rows = pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
    order = [(rank, "descending")] if rank else []
    table: pa.Table = rows
    return table.sort_by([*order, *((column, "ascending") for column in key)]).slice(0, limit).cast(schema)


class WriteTable(beam.DoFn):
    """(table, top rows of each shard) → the table's file."""

    def __init__(self, output: str, date: str) -> None:
        self._output = output
        self._date = datetime.date.fromisoformat(date)

    def process(self, element: tuple[str, Iterable[pa.Table]]) -> Iterator[tuple[str, results.Written]]:
        name, parts = element
        rows = top(name, pa.concat_tables([top(name, part) for part in parts]))
        end = datetime.datetime.combine(self._date + datetime.timedelta(days=1), datetime.time(), datetime.UTC)
        ts, date = (pa.scalar(v, TABLES[name].field(n).type) for v, n in ((end, "ts"), (self._date, "date")))
        columns = [*rows.columns, pa.repeat(ts, rows.num_rows), pa.repeat(date, rows.num_rows)]
        table = pa.Table.from_arrays(columns, schema=TABLES[name])
        yield files.keyed(files.write_parquet(self._output, name, name, table))


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Add the pipeline: words once, then URLs and pairs by shard, then the tops of the shards."""
    mine = options.view_as(AggregateOptions)
    inputs = Inputs(files.expand(mine.input), mine.date, mine.days)
    words = (
        pipeline
        | "Once" >> beam.Create([None], reshuffle=False)
        | "Words" >> beam.ParDo(Words(inputs)).with_output_types(files.KEYED).with_outputs("totals", main="tops")
    )
    shards = (
        pipeline
        | "Shards" >> beam.Create(range(inputs.shards))
        | "Rank" >> beam.ParDo(Shard(inputs), beam.pvalue.AsSingleton(words.totals)).with_output_types(files.KEYED)
    )
    _ = (
        (words.tops, shards)
        | "Flatten" >> beam.Flatten()
        | "ByTable" >> beam.GroupByKey()
        | "Write" >> beam.ParDo(WriteTable(mine.output, mine.date))
        | "Result" >> files.WriteResult(mine.output, "word_counts")
    )


if __name__ == "__main__":
    main(build, AggregateOptions)

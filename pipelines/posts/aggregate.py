"""The counts of a window of days, and of the equally long window before it → the tables of what people read.

Pairs and URLs are merged shard by shard; only words, tops and totals meet in one place. Run alone:

    python -m pipelines.posts.aggregate --input 'counts/*/*.parquet' --date 2026-11-19 --days 7 --output 'out/{dataset}'
"""

import argparse
import datetime
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines import files
from pipelines.options import StageOptions, main
from pipelines.posts import count
from pipelines.sql import connect

TOP_WORDS, TOP_URLS, TOP_PAIRS, TOP_EMERGING = 500, 300, 300, 100
#: Fewer posts than this say nothing about a pair's rise.
MIN_EMERGING = 5

_TIME = [("ts", pa.timestamp("us", "UTC")), ("date", pa.date32())]
TABLES = {
    "word_counts": pa.schema([("word", pa.string()), ("percent", pa.float64()), *_TIME]),
    "urls": pa.schema([("url", pa.string()), ("count", pa.int64()), *_TIME]),
    "word_cooccur": pa.schema(
        [("w1", pa.string()), ("w2", pa.string()), ("count", pa.int64()), ("log_weight", pa.float64()), *_TIME]
    ),
    "emerging_pairs": pa.schema(
        [
            ("w1", pa.string()),
            ("w2", pa.string()),
            ("count", pa.int64()),
            ("previous_count", pa.int64()),
            ("z", pa.float64()),
            *_TIME,
        ]
    ),
    "posts_by_hour": pa.schema([("hour", pa.timestamp("us", "UTC")), ("posts", pa.int64()), *_TIME]),
}
#: The order and length of each table; the whole of it decides, so that results are the same on every run.
_TOPS = {
    "word_counts": ("percent DESC, word", TOP_WORDS),
    "urls": ("count DESC, url", TOP_URLS),
    "word_cooccur": ("log_weight DESC, w1, w2", TOP_PAIRS),
    "emerging_pairs": ("z DESC, w1, w2", TOP_EMERGING),
    "posts_by_hour": ("hour", 24 * 366 * 10),
}


class AggregateOptions(StageOptions):
    """Options of aggregate."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--date", required=True, help="the window's last day, YYYY-MM-DD")
        parser.add_argument("--days", type=int, default=7, help="the window's length in days")


class Inputs:
    """The files of counts by table and shard, each with whether it belongs to the window or to the one before."""

    def __init__(self, paths: Sequence[str], date: str, days: int) -> None:
        last = datetime.date.fromisoformat(date)
        first = str(last - datetime.timedelta(days=days - 1))
        before = str(last - datetime.timedelta(days=2 * days - 1))
        self._files: dict[tuple[str, int], list[tuple[bool, str]]] = {}
        self.shards = 0
        for path in paths:
            day = files.partition_date(path) or date
            found = re.fullmatch(r"(\w+)-(\d+)-of-(\d+)\.parquet", os.path.basename(path))
            if found and before <= day <= date:
                self._files.setdefault((found[1], int(found[2])), []).append((day >= first, path))
                self.shards = max(self.shards, int(found[3]))

    def of(self, table: str, shard: int = 0) -> list[tuple[bool, str]]:
        """(in the window, path) of a table's shard."""
        return self._files.get((table, shard), [])


def read_counts(inputs: Inputs, table: str, *, now: bool, shard: int = 0) -> pa.Table:
    """The sum over days, of the window or of the one before, of a table's shard. Not for pairs."""
    parts = [files.read_parquet(path) for of_window, path in inputs.of(table, shard) if of_window == now]
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
        yield "word_counts", files.to_ipc(top("word_counts", percent))
        yield "posts_by_hour", files.to_ipc(hours)
        totals = words.replace_schema_metadata({"posts": str(posts), "previous_posts": str(previous_posts)})
        yield beam.pvalue.TaggedOutput("totals", files.to_ipc(totals))


class Shard(beam.DoFn):
    """A shard's number → (table, its top rows) for each table."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs

    def process(self, shard: int, totals: bytes) -> Iterator[tuple[str, bytes]]:
        words = files.from_ipc(totals)
        urls = read_counts(self._inputs, "urls", now=True, shard=shard)
        yield "urls", files.to_ipc(top("urls", urls.rename_columns(["url", "count"])))
        pairs = [
            (now, files.read_parquet(path, dictionaries=["w1", "w2"])) for now, path in self._inputs.of("pairs", shard)
        ]
        weighted, emerging = rank_pairs([(now, table) for now, table in pairs if table.num_rows], words)
        yield "word_cooccur", files.to_ipc(weighted)
        yield "emerging_pairs", files.to_ipc(emerging)


def rank_pairs(parts: Sequence[tuple[bool, pa.Table]], totals: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The top pairs of a shard by log_weight, and those on the rise.

    log_weight = count · ln(min(1/percent(w1), 1/percent(w2))).

    z is that of the log-odds ratio (Monroe, Colaresi, Quinn 2008, "Fightin' Words", equations 16, 20 and 22) with the
    prior 0.5: a post is the trial, y of n posts of the window contain the pair, x of m posts before it:
    δ = ln((y+½)/(n−y+½)) − ln((x+½)/(m−x+½)), z = δ/√(1/(y+½) + 1/(x+½)).
    """
    posts, previous_posts = (int(totals.schema.metadata[name]) for name in (b"posts", b"previous_posts"))
    if not parts:
        return top("word_cooccur", None), top("emerging_pairs", None)
    vocabulary = count.common_vocabulary([table for _, table in parts])
    # Per word of this vocabulary the posts of the window that contain it; 0 for a word only seen before.
    place = pc.index_in(vocabulary, totals["word"].combine_chunks())
    of_word = totals["posts"].take(place.fill_null(0)).to_numpy() * np.asarray(place.is_valid())
    rows = pa.table(
        {
            "pair": np.concatenate([count.pair_numbers(table, vocabulary) for _, table in parts]),
            "posts": np.concatenate([table["posts"].to_numpy() for _, table in parts]),
            "now": np.concatenate([np.full(table.num_rows, now) for now, table in parts]),
        }
    )
    with connect() as connection:
        connection.register("rows", rows)
        connection.register("words", pa.table({"id": np.arange(len(vocabulary)), "word": vocabulary, "posts": of_word}))
        connection.execute("SET VARIABLE n = ?::BIGINT", [posts])
        connection.execute("SET VARIABLE m = ?::BIGINT", [previous_posts])
        connection.execute(
            """
            CREATE TABLE pairs AS
            SELECT pair, COALESCE(SUM(posts) FILTER (now), 0)::BIGINT AS y, COALESCE(SUM(posts) FILTER (NOT now), 0)::BIGINT AS x
            FROM rows GROUP BY pair HAVING y > 0
            """
        )
        weighted = connection.sql(
            f"""
            SELECT a.word AS w1, b.word AS w2, y AS count,
                   y * ln(least(1 / (a.posts / getvariable('n')), 1 / (b.posts / getvariable('n')))) AS log_weight
            FROM pairs JOIN words AS a ON a.id = pair >> 32 JOIN words AS b ON b.id = pair & 4294967295
            ORDER BY {_TOPS["word_cooccur"][0]} LIMIT {TOP_PAIRS}
            """
        ).to_arrow_table()
        emerging = connection.sql(
            f"""
            SELECT a.word AS w1, b.word AS w2, y AS count, x AS previous_count,
                   (ln((y + 0.5::DOUBLE) / (getvariable('n') - y + 0.5::DOUBLE))
                     - ln((x + 0.5::DOUBLE) / (getvariable('m') - x + 0.5::DOUBLE)))
                   / sqrt(1 / (y + 0.5::DOUBLE) + 1 / (x + 0.5::DOUBLE)) AS z
            FROM pairs JOIN words AS a ON a.id = pair >> 32 JOIN words AS b ON b.id = pair & 4294967295
            WHERE y >= {MIN_EMERGING}
            ORDER BY {_TOPS["emerging_pairs"][0]} LIMIT {TOP_EMERGING}
            """
        ).to_arrow_table()
    return weighted, emerging


def top(name: str, rows: pa.Table | None) -> pa.Table:
    """The first rows of a table in its order. Without ts and date."""
    schema = pa.schema([f for f in TABLES[name] if f.name not in ("ts", "date")])
    if rows is None:
        return schema.empty_table()
    order, limit = _TOPS[name]
    with connect() as connection:
        connection.register("rows", rows)
        return connection.sql(f"FROM rows ORDER BY {order} LIMIT {limit}").to_arrow_table().cast(schema)


class WriteTable(beam.DoFn):
    """(table, top rows of each shard) → the table's file."""

    def __init__(self, output: str, date: str) -> None:
        self._output = output
        self._date = datetime.date.fromisoformat(date)

    def process(self, element: tuple[str, Iterable[bytes]]) -> Iterator[files.Written]:
        name, parts = element
        rows = top(name, pa.concat_tables([top(name, files.from_ipc(part)) for part in parts]))
        end = datetime.datetime.combine(self._date + datetime.timedelta(days=1), datetime.time(), datetime.UTC)
        ts, date = (pa.scalar(v, TABLES[name].field(n).type) for v, n in ((end, "ts"), (self._date, "date")))
        columns = [*rows.columns, pa.repeat(ts, rows.num_rows), pa.repeat(date, rows.num_rows)]
        table = pa.Table.from_arrays(columns, schema=TABLES[name])
        yield files.write_parquet(self._output, name, name, table)


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Adds the pipeline: words once, then URLs and pairs by shard, then the tops of the shards."""
    mine = options.view_as(AggregateOptions)
    inputs = Inputs(files.expand(mine.input), mine.date, mine.days)
    words = (
        pipeline
        | "Once" >> beam.Create([None], reshuffle=False)
        | "Words" >> beam.ParDo(Words(inputs)).with_outputs("totals", main="tops")
    )
    shards = (
        pipeline
        | "Shards" >> beam.Create(range(inputs.shards))
        | "Rank" >> beam.ParDo(Shard(inputs), beam.pvalue.AsSingleton(words.totals))
    )
    nothing = pipeline | "Tables" >> beam.Create([(name, files.to_ipc(top(name, None))) for name in TABLES])
    _ = (
        (words.tops, shards, nothing)
        | "Flatten" >> beam.Flatten()
        | "Typed" >> beam.Map(lambda keyed: keyed).with_output_types(tuple[str, bytes])
        | "ByTable" >> beam.GroupByKey()
        | "Write" >> beam.ParDo(WriteTable(mine.output, mine.date))
        | "Result" >> files.WriteResult(mine.output, "word_counts")
    )


if __name__ == "__main__":
    main(build, AggregateOptions)

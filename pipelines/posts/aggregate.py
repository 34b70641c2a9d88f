"""The counts of a window of days, and of the equally long window before it → the tables that people read.

Pairs and URLs are merged shard by shard; only words, tops and totals meet in one place. Windows of neighbouring days
share most of their days, whose counts are read once for all of them. Run alone:

    python -m pipelines.posts.aggregate --input 'counts/*/*.parquet' --date 2026-11-19 --days 7 --output 'out/{dataset}'
"""

import argparse
import datetime
import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.options.pipeline_options import PipelineOptions

from millrace.beam import files, shards
from millrace.beam.adding import add_up
from millrace.beam.batch import Batch, Item
from millrace.beam.options import StageOptions, main
from millrace.common import results
from millrace.common.checksums import Input
from millrace.common.partitions import Partition
from millrace.errors import DamagedError, MillraceError, SettingsDifferError
from pipelines.posts import count, pairs
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


#: The tables of which the window before is needed, too.
_BEFORE_TOO = ("hours", "pairs")
#: Neighbouring windows are ranked one after the other while a shard of the counts of all together, which are held for
#: all of them, has no more bytes than this.
_AT_ONCE = 32 << 20


class AggregateOptions(StageOptions):
    """Options of aggregate."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--date", required=True, help="the window's last day, YYYY-MM-DD")
        parser.add_argument("--days", type=int, default=7, help="the window's length in days")


class Counts(NamedTuple):
    """A file of counts: whether it is of the window, not of the one before, and which of how many shards it has."""

    file: Input
    now: bool
    shard: int
    of: int


@dataclass(frozen=True)
class Window:
    """The files of a window's counts, by table. shards: how many URLs and pairs are cut into, the most of any day."""

    counts: Mapping[str, Sequence[Counts]]
    shards: int

    def of(self, table: str, shard: int = 0, shards: int = 1) -> list[Counts]:
        """Return the files that have a shard's rows, and maybe those of further shards, as far as they are needed."""
        needed = [each for each in self.counts.get(table, ()) if each.now or table in _BEFORE_TOO]
        return [each for each in needed if (each.shard - shard) % min(each.of, shards) == 0]


def window_of(partition: Partition) -> Window:
    """Return a partition's window. Raises SettingsDifferError for shards of which there is no power of two."""
    date, days = partition.options["date"], partition.options["days"]
    last = datetime.date.fromisoformat(date)
    first = str(last - datetime.timedelta(days=days - 1))
    before = str(last - datetime.timedelta(days=2 * days - 1))
    found: dict[str, list[Counts]] = {}
    for file in partition.input:
        day = files.partition_date(file.path) or date
        named = re.fullmatch(r"(\w+)-(\d+)-of-(\d+)\.parquet", os.path.basename(file.path))
        if named and before <= day <= date:
            counts = Counts(file, day >= first, int(named[2]), int(named[3]))
            if counts.of & (counts.of - 1):
                raise SettingsDifferError(
                    f"{file.path} is one of {counts.of} shards, and days add up whose shards are a power of two (1, 2, "
                    "4, …); count that day again"
                )
            found.setdefault(named[1], []).append(counts)
    return Window(found, max((each.of for name in ("urls", "pairs") for each in found.get(name, ())), default=1))


#: Windows by their partitions' keys.
Windows = Mapping[str, Window]


@dataclass(frozen=True)
class Unit:
    """What is merged at a time: one shard, of `shards`, of some tables of neighbouring windows."""

    windows: Windows
    shard: int
    shards: int

    @classmethod
    def of(cls, windows: Windows, tables: Sequence[str], shard: int, shards: int) -> "Unit":
        """Return the unit, with the files that it needs and no others."""
        return cls(
            {
                key: Window({name: window.of(name, shard, shards) for name in tables}, window.shards)
                for key, window in windows.items()
            },
            shard,
            shards,
        )

    def read(self, table: str) -> Iterator[Iterator[tuple[bool, pa.Table]]]:
        """Yield, for each window, whether a file is of the window, and its rows; see files.read_windows."""
        windows = [window.counts.get(table, ()) for window in self.windows.values()]
        tables = files.read_windows([[each.file for each in window] for window in windows])
        for window, of_window in zip(windows, tables, strict=True):
            yield self._mine(table, window, of_window)

    def _mine(self, name: str, counts: Sequence[Counts], tables: Iterable[pa.Table]) -> Iterator[tuple[bool, pa.Table]]:
        for each, table in zip(counts, tables, strict=True):
            if table.schema.names != count.SCHEMAS[name].names:
                raise DamagedError(f"{each.file.path} was counted by an older version, which had other columns")
            whole = name == "hours" or each.of >= self.shards
            yield each.now, table if whole else count.only(table, self.shard, self.shards)


def words(partitions: Mapping[str, Partition], unit: Unit) -> Iterator[tuple[str, Item | MillraceError]]:
    """Yield the first rows of two tables of each window, and "totals": posts of each word of a class, and of all."""
    for key, hours, counted in zip(unit.windows, unit.read("hours"), unit.read("words"), strict=True):
        try:
            both = list(hours)
            now, before = (
                count.add([count.HOURS.empty_table(), *(table for of_window, table in both if of_window is wanted)])
                for wanted in (True, False)
            )
            tables = (table for _, table in counted)
            merged = add_up(itertools.chain([count.WORDS.empty_table()], tables), count.add)
        except MillraceError as error:
            yield key, error
            continue
        posts, previous_posts = (pc.sum(table["posts"]).as_py() or 0 for table in (now, before))
        ranked, totals = rank_words(merged, posts, previous_posts)
        yield key, ("word_counts", ranked)
        if not unit.shard:
            yield key, ("posts_by_hour", now)
            for name in ("urls", "word_cooccur", "emerging_pairs"):  # every table is written, even an empty one
                yield key, (name, top(name, None))
        yield key, (f"totals/{unit.shard}", totals)


def rank_words(words: pa.Table, posts: int, previous_posts: int) -> tuple[pa.Table, pa.Table]:
    """Return the top words of a shard by percent, and the posts of each word with those of all, for rank_pairs()."""
    percent = pa.table({"word": words["word"], "percent": words["posts"].to_numpy() / max(posts, 1)})
    totals = words.replace_schema_metadata({"posts": str(posts), "previous_posts": str(previous_posts)})
    return top("word_counts", percent), totals


def rank_urls(urls: pa.Table) -> pa.Table:
    """Return the top URLs of a shard."""
    return top("urls", urls.rename_columns(["url", "count"]))


def rank(
    partitions: Mapping[str, Partition], unit: Unit, totals: Mapping[tuple[str, str], Iterable[pa.Table]]
) -> Iterator[tuple[str, Item | MillraceError]]:
    """Yield a shard's top rows of each window."""
    first, second = shards.members(unit.shard, unit.shards)
    for key, urls, both in zip(unit.windows, unit.read("urls"), unit.read("pairs"), strict=True):
        try:
            tables = (table for _, table in urls)
            merged = add_up(itertools.chain([count.URLS.empty_table()], tables), count.add)
            in_groups = (pairs.of_table(table, int(of_window), groups=2) for of_window, table in both)
            every = add_up(itertools.chain([pairs.none(groups=2)], in_groups), pairs.add)
        except MillraceError as error:
            yield key, error
            continue
        yield key, ("urls", rank_urls(merged))
        of_words = [each for name in sorted(first | second) for each in totals[key, f"totals/{name}"]]
        if len(of_words) == len(first | second):  # or else the window's words have failed
            weighted, emerging = rank_pairs(every, of_words)
            yield key, ("word_cooccur", weighted)
            yield key, ("emerging_pairs", emerging)


def rank_pairs(every: pairs.Pairs, totals: Sequence[pa.Table]) -> tuple[pa.Table, pa.Table]:
    """Return the top pairs of a shard by log_weight, and those on the rise.

    every: those of the window before and of the window, as two groups. totals: see rank_words().
    """
    posts, previous_posts = (int(totals[0].schema.metadata[name]) for name in (b"posts", b"previous_posts"))
    there = every.posts[1] > 0
    number, (before, now) = every.number[there], every.posts[:, there]
    if not len(number):
        return top("word_cooccur", None), top("emerging_pairs", None)
    vocabulary = every.vocabulary
    # The share of the window's posts that contain each word of this vocabulary; none for a word only seen before.
    of_word = pa.concat_tables(totals).combine_chunks()
    place = pc.index_in(vocabulary, of_word["word"].combine_chunks())
    percent = np.asarray(place.is_valid()) * of_word["posts"].take(place.fill_null(0)).to_numpy() / posts

    def words(some: Any) -> Any:
        return np.divmod(number[some], number.dtype.type(len(vocabulary)))

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


def write_table(window: Partition, name: str, parts: Iterable[pa.Table]) -> Iterator[results.Written]:
    """Write a table, given the top rows of each shard."""
    day = datetime.date.fromisoformat(window.options["date"])
    end = datetime.datetime.combine(day + datetime.timedelta(days=1), datetime.time(), datetime.UTC)
    yield files.write_parquet(window.output, name, name, whole(name, parts, end, day))


def whole(name: str, parts: Iterable[pa.Table], end: datetime.datetime, day: datetime.date) -> pa.Table:
    """Return a table, given the top rows of each shard, of the window that ends at a moment; day: its last."""
    rows = top(name, pa.concat_tables([top(name, part) for part in parts]))
    ts, date = (pa.scalar(v, TABLES[name].field(n).type) for v, n in ((end, "ts"), (day, "date")))
    columns = [*rows.columns, pa.repeat(ts, rows.num_rows), pa.repeat(date, rows.num_rows)]
    return pa.Table.from_arrays(columns, schema=TABLES[name])


def neighbours(windows: Windows, partitions: Mapping[str, Partition]) -> Iterator[Windows]:
    """Yield windows that are worth ranking one after the other: of one length and of days that follow each other."""
    length_and_day = {key: (each.options["days"], each.options["date"]) for key, each in partitions.items()}
    together: dict[str, Window] = {}
    held: dict[Input, int] = {}
    for key in sorted(windows, key=lambda key: length_and_day[key]):
        more = {c.file: c.file.size // c.of for counts in windows[key].counts.values() for c in counts}
        if together and sum((held | more).values()) > _AT_ONCE:
            yield together
            together, held = {}, {}
        together[key] = windows[key]
        held |= more
    if together:
        yield together


def units(group: Windows, tables: Sequence[str], number: int) -> Iterator[tuple[Sequence[str], Unit]]:
    """Yield what is merged at a time of neighbouring windows, each with their keys, in a number of shards."""
    return ((list(group), Unit.of(group, tables, shard, number)) for shard in range(number))


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Add the pipeline: words by class, then URLs and pairs by shard, then the tops of the shards."""
    batch = Batch(pipeline, options, AggregateOptions)
    groups = list(neighbours(batch.find(window_of), batch.partitions))
    most = [max(window.shards for window in group.values()) for group in groups]
    classes = [
        each
        for group, n in zip(groups, most, strict=True)
        for each in units(group, ["hours", "words"], shards.classes(n))
    ]
    parts = [each for group, n in zip(groups, most, strict=True) for each in units(group, ["urls", "pairs"], n)]
    of_words = batch.shared(classes).each(words)
    tops = batch.shared(parts).each(rank, of_words.named("totals").by_name())
    (of_words.without("totals") + tops).by_key(write_table)
    batch.results("word_counts")


if __name__ == "__main__":
    main(build, AggregateOptions)

"""The counts of a window of days, and of the equally long window before it → the tables that people read.

Pairs and URLs are merged shard by shard; only words, tops and totals meet in one place. Windows of neighbouring days
share most of their days, whose counts are read once for all of them. Run alone:

    python -m pipelines.posts.aggregate --input 'counts/*/*.parquet' --date 2026-11-19 --days 7 --output 'out/{dataset}'
"""

import argparse
import datetime
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.options.pipeline_options import PipelineOptions

from millrace.beam import files
from millrace.beam.batch import Batch, Item
from millrace.beam.options import StageOptions, main
from millrace.common import results
from millrace.common.checksums import Input
from millrace.common.partitions import Partition
from millrace.errors import MillraceError, SettingsDifferError
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


_NO_HOURS = [count.HOURS.empty_table()]
#: Neighbouring windows are ranked one after the other while the counts of all together have no more bytes than this.
_AT_ONCE = 1 << 30


class AggregateOptions(StageOptions):
    """Options of aggregate."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--date", required=True, help="the window's last day, YYYY-MM-DD")
        parser.add_argument("--days", type=int, default=7, help="the window's length in days")


@dataclass(frozen=True)
class Window:
    """The files of a window's counts by table and shard, each with whether it is of the window, not of the one before.

    shards: how many shards URLs and pairs have.
    """

    files: Mapping[tuple[str, int], Sequence[tuple[bool, Input]]]
    shards: int

    def of(self, table: str, shard: int = 0, *, both: bool = False) -> list[Input]:
        """Return the files of a table's shard: those of the window, or of both."""
        return [file for now, file in self.files.get((table, shard), ()) if now or both]

    def nows(self, table: str, shard: int = 0) -> list[bool]:
        """Return for each of both windows' files of a table's shard whether it is of the window."""
        return [now for now, _ in self.files.get((table, shard), ())]


def window_of(partition: Partition) -> Window:
    """Return a partition's window. Raises SettingsDifferError where its days have other shards."""
    date, days = partition.options["date"], partition.options["days"]
    last = datetime.date.fromisoformat(date)
    first = str(last - datetime.timedelta(days=days - 1))
    before = str(last - datetime.timedelta(days=2 * days - 1))
    found: dict[tuple[str, int], list[tuple[bool, Input]]] = {}
    shards: dict[str, set[int]] = {}
    for file in partition.input:
        day = files.partition_date(file.path) or date
        named = re.fullmatch(r"(\w+)-(\d+)-of-(\d+)\.parquet", os.path.basename(file.path))
        if named and before <= day <= date:
            found.setdefault((named[1], int(named[2])), []).append((day >= first, file))
            shards.setdefault(named[1], set()).add(int(named[3]))
    if any(len(numbers) > 1 for numbers in shards.values()):
        raise SettingsDifferError("--input: days counted with different --shards don't add up; count them again")
    return Window(found, max((number for numbers in shards.values() for number in numbers), default=0))


#: Windows by their partitions' keys.
Windows = Mapping[str, Window]


@dataclass(frozen=True)
class Group:
    """A unit of work: one shard of neighbouring windows, or their words and hours (shard None)."""

    windows: Windows
    shard: int | None = None

    @classmethod
    def of(cls, windows: Windows, shard: int | None = None) -> "Group":
        """Return the unit, with the files that it needs and no others."""

        def needed(table: str, number: int) -> bool:
            return table in ("hours", "words") if shard is None else table in ("urls", "pairs") and number == shard

        return cls(
            {
                key: Window({name: files for name, files in window.files.items() if needed(*name)}, window.shards)
                for key, window in windows.items()
                if shard is None or shard < window.shards
            },
            shard,
        )


def words(partitions: Mapping[str, Partition], group: Group) -> Iterator[tuple[str, Item | MillraceError]]:
    """Yield each window's first rows of two tables, and "totals": posts of each word, and how many posts there are."""
    windows = group.windows
    hours = files.read_windows([window.of("hours", both=True) for window in windows.values()])
    counted = files.read_windows([window.of("words") for window in windows.values()])
    for (key, window), of_hours, of_words in zip(windows.items(), hours, counted, strict=True):
        if isinstance(of_hours, MillraceError) or isinstance(of_words, MillraceError):
            yield from ((key, each) for each in (of_hours, of_words) if isinstance(each, MillraceError))
            continue
        nows = window.nows("hours")
        both = [
            count.merge(
                "hours", [table for table, now in zip(of_hours, nows, strict=True) if now == wanted] or _NO_HOURS
            )
            for wanted in (True, False)
        ]
        posts, previous_posts = (pc.sum(table["posts"]).as_py() or 0 for table in both)
        merged = count.merge("words", [count.WORDS.empty_table(), *of_words])
        percent = pa.table({"word": merged["word"], "percent": merged["posts"].to_numpy() / max(posts, 1)})
        yield key, ("word_counts", top("word_counts", percent))
        yield key, ("posts_by_hour", both[0])
        for name in ("urls", "word_cooccur", "emerging_pairs"):  # every table is written, even an empty one
            yield key, (name, top(name, None))
        totals = merged.replace_schema_metadata({"posts": str(posts), "previous_posts": str(previous_posts)})
        yield key, ("totals", totals)


def rank(
    partitions: Mapping[str, Partition], group: Group, totals: Mapping[str, Iterable[pa.Table]]
) -> Iterator[tuple[str, Item | MillraceError]]:
    """Yield a shard's top rows of each window."""
    shard, windows = group.shard or 0, group.windows
    urls = files.read_windows([window.of("urls", shard) for window in windows.values()])
    pairs = files.read_windows([window.of("pairs", shard, both=True) for window in windows.values()], ["w1", "w2"])
    for (key, window), of_urls, of_pairs in zip(windows.items(), urls, pairs, strict=True):
        if isinstance(of_urls, MillraceError) or isinstance(of_pairs, MillraceError):
            yield from ((key, each) for each in (of_urls, of_pairs) if isinstance(each, MillraceError))
            continue
        merged = count.merge("urls", [count.URLS.empty_table(), *of_urls])
        yield key, ("urls", top("urls", merged.rename_columns(["url", "count"])))
        parts = [
            (now, table) for now, table in zip(window.nows("pairs", shard), of_pairs, strict=True) if table.num_rows
        ]
        for of_words in totals[key]:  # there are none if the window's words have failed
            weighted, emerging = rank_pairs(parts, of_words)
            yield key, ("word_cooccur", weighted)
            yield key, ("emerging_pairs", emerging)


def rank_pairs(parts: Sequence[tuple[bool, pa.Table]], totals: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return the top pairs of a shard by log_weight, and those on the rise. totals: see words()."""
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


def write_table(window: Partition, name: str, parts: Iterable[pa.Table]) -> Iterator[results.Written]:
    """Write a table, given the top rows of each shard."""
    rows = top(name, pa.concat_tables([top(name, part) for part in parts]))
    day = datetime.date.fromisoformat(window.options["date"])
    end = datetime.datetime.combine(day + datetime.timedelta(days=1), datetime.time(), datetime.UTC)
    ts, date = (pa.scalar(v, TABLES[name].field(n).type) for v, n in ((end, "ts"), (day, "date")))
    columns = [*rows.columns, pa.repeat(ts, rows.num_rows), pa.repeat(date, rows.num_rows)]
    yield files.write_parquet(window.output, name, name, pa.Table.from_arrays(columns, schema=TABLES[name]))


def neighbours(windows: Windows, partitions: Mapping[str, Partition]) -> Iterator[Windows]:
    """Yield windows that are worth ranking one after the other: of one length, of days that follow each other."""
    length_and_day = {key: (each.options["days"], each.options["date"]) for key, each in partitions.items()}
    together: dict[str, Window] = {}
    size = 0
    for key in sorted(windows, key=lambda key: length_and_day[key]):
        more = sum(file.size for files_ in windows[key].files.values() for _, file in files_)
        if together and size + more > _AT_ONCE:
            yield together
            together, size = {}, 0
        together[key] = windows[key]
        size += more
    if together:
        yield together


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Add the pipeline: words once, then URLs and pairs by shard, then the tops of the shards."""
    batch = Batch(pipeline, options, AggregateOptions)
    groups = list(neighbours(batch.find(window_of), batch.partitions))
    of_words = batch.shared([(list(group), Group.of(group)) for group in groups]).each(words)
    shards = [
        Group.of(group, shard) for group in groups for shard in range(max(window.shards for window in group.values()))
    ]
    tops = batch.shared([(list(each.windows), each) for each in shards]).each(
        rank, of_words.named("totals").by_partition()
    )
    (of_words.without("totals") + tops).by_key(write_table)
    batch.results("word_counts")


if __name__ == "__main__":
    main(build, AggregateOptions)

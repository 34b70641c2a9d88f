# mypy: disable-error-code="attr-defined, import-untyped, no-untyped-call, unused-ignore"
"""The plain peer: the same tables by a row-by-row Beam pipeline, as Beam's own documentation teaches to write one.

Each post, word, URL and pair is an element; the runner groups and sums them. It runs in process on FnApiRunner.
Of several posts with one id the one of the last file wins; lines of one file have no number here, so within a file the
one with the latest created_at wins.

    python -m benchmarks.row_by_row --posts DIR --out DIR --last-day 2026-11-07 --days 7 --rules classic
"""

import argparse
import datetime as dt
import itertools
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import apache_beam as beam
import pyarrow as pa
import regex
from apache_beam.options.pipeline_options import PipelineOptions

from benchmarks.stop_words import stop_words

Pair = tuple[str, str]

LETTERS = re.compile(r"[A-Za-z']+")
UNICODE_WORD = regex.compile(r"[\p{L}\p{N}][\p{L}\p{M}\p{N}]*(?:['\u2019][\p{L}\p{M}\p{N}]+)*")
NOT_TEXT = re.compile(r"https?://\S+|@\w+")
TRACKING = re.compile(r"(utm_[^=]*|fbclid|gclid)(=|$)")


class Post(NamedTuple):
    id: int
    created_at: dt.datetime
    text: str
    urls: list[str]


def classic_words(text: str) -> set[str]:
    return {word.lower() for word in LETTERS.findall(text)}


def standard_words(text: str) -> set[str]:
    text = unicodedata.normalize("NFC", NOT_TEXT.sub(" ", text).casefold())
    return {word for word in UNICODE_WORD.findall(text) if any(char.isalpha() for char in word)}


def classic_url(url: str) -> str:
    return url.lower()


def standard_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    if not parts.scheme or not parts.netloc:
        return url
    host = parts.netloc.lower().removesuffix(":80" if parts.scheme == "http" else ":443")
    query = "&".join(part for part in parts.query.split("&") if not TRACKING.match(part))
    return urlunsplit((parts.scheme, host, parts.path, query, ""))


WORDS: dict[str, Callable[[str], set[str]]] = {"classic": classic_words, "standard": standard_words}
URLS: dict[str, Callable[[str], str]] = {"classic": classic_url, "standard": standard_url}


def parse(named_line: tuple[str, str]) -> Iterator[tuple[int, tuple[str, Post]]]:
    name, line = named_line
    try:
        row = json.loads(line)
        post = Post(row["tid"], dt.datetime.fromisoformat(row["created_at"]), row["text"], row["urls"])
    except (ValueError, KeyError, TypeError):
        return
    yield post.id, (name, post)


def last(posts: tuple[int, Iterable[tuple[str, Post]]]) -> Post:
    return max(posts[1], key=lambda named: (named[0], named[1].created_at))[1]


class Words(beam.DoFn):
    def __init__(self, rules: str) -> None:
        self.rules = rules

    def setup(self) -> None:
        self.words = WORDS[self.rules]
        self.stop = frozenset(stop_words(self.rules))

    def process(self, post: Post) -> Iterator[list[str]]:
        yield sorted(self.words(post.text) - self.stop)


def pairs(words: list[str]) -> Iterable[Pair]:
    return itertools.combinations(words, 2)


def hour(post: Post) -> str:
    return post.created_at.replace(minute=0, tzinfo=None).isoformat(timespec="minutes")


def first(size: int) -> Any:
    """Add the largest counts (or weights), ties by key ascending: as one sorted list."""
    return beam.combiners.Top.Smallest(size, key=lambda item: (-item[1], item[0]))


def weight(item: tuple[Pair, int], totals: dict[str, int], posts: int) -> tuple[Pair, float, int]:
    (w1, w2), count = item
    return (w1, w2), count * math.log(min(1 / (totals[w1] / posts), 1 / (totals[w2] / posts))), count


def z_score(item: tuple[Pair, dict[str, list[int]]], n: int, m: int) -> Iterator[tuple[Pair, float, int, int]]:
    pair, counts = item
    for y in counts["recent"]:
        x = sum(counts["earlier"])
        delta = math.log((y + 0.5) / (n - y + 0.5)) - math.log((x + 0.5) / (m - x + 0.5))
        yield pair, delta / math.sqrt(1 / (y + 0.5) + 1 / (x + 0.5)), y, x


def count_all(posts: Any, label: str) -> Any:
    return posts | f"count {label}" >> beam.combiners.Count.Globally()


def sums(elements: Any, label: str) -> Any:
    return (
        elements
        | f"{label} ones" >> beam.Map(lambda key: (key, 1))
        | f"{label} sums" >> beam.CombinePerKey(sum)
    )  # fmt: skip


def build(pipeline: beam.Pipeline, source: Path, out: Path, last_day: dt.date, days: int, rules: str) -> None:
    end = dt.datetime.combine(last_day + dt.timedelta(days=1), dt.time(), dt.UTC)
    middle, start = (end - dt.timedelta(days=n * days) for n in (1, 2))
    dates = [start.date() + dt.timedelta(days=n) for n in range(2 * days)]
    files = [str(file) for file in (source / f"posts-{date}.jsonl" for date in dates) if file.exists()]
    if not files:
        raise SystemExit(f"No posts-YYYY-MM-DD.jsonl of {dates[0]} to {last_day} in {source}")
    stamp = {"ts": end.replace(tzinfo=None), "date": last_day}
    url_of = URLS[rules]

    posts = (
        pipeline
        | "files" >> beam.Create(files)
        | "lines" >> beam.io.ReadAllFromText(with_filename=True)
        | "parse" >> beam.FlatMap(parse)
        | "by id" >> beam.GroupByKey()
        | "last" >> beam.Map(last)
    )
    recent = posts | "recent" >> beam.Filter(lambda post: middle <= post.created_at < end)
    earlier = posts | "earlier" >> beam.Filter(lambda post: start <= post.created_at < middle)
    n = beam.pvalue.AsSingleton(count_all(recent, "recent"))
    m = beam.pvalue.AsSingleton(count_all(earlier, "earlier"))

    words = recent | "words" >> beam.ParDo(Words(rules))
    totals = sums(words | "each word" >> beam.FlatMap(lambda post_words: post_words), "words")
    recent_pairs = sums(words | "pairs" >> beam.FlatMap(pairs), "pairs")
    earlier_words = earlier | "earlier words" >> beam.ParDo(Words(rules))
    earlier_pairs = sums(earlier_words | "earlier pairs" >> beam.FlatMap(pairs), "earlier pairs")

    tables: dict[str, tuple[Any, list[tuple[str, pa.DataType]]]] = {
        "word_counts": (
            totals
            | "top words" >> first(500)
            | "word rows"
            >> beam.FlatMap(lambda top, n: [{"word": word, "percent": count / n, **stamp} for word, count in top], n),
            [("word", pa.string()), ("percent", pa.float64())],
        ),
        "urls": (
            sums(recent | "urls" >> beam.FlatMap(lambda post: [url_of(url) for url in post.urls]), "urls")
            | "top urls" >> first(300)
            | "url rows" >> beam.FlatMap(lambda top: [{"url": url, "count": count, **stamp} for url, count in top]),
            [("url", pa.string()), ("count", pa.int64())],
        ),
        "word_cooccur": (
            recent_pairs
            | "weights" >> beam.Map(weight, beam.pvalue.AsDict(totals), n)
            | "top pairs" >> first(300)
            | "pair rows"
            >> beam.FlatMap(
                lambda top: [
                    {"w1": w1, "w2": w2, "count": count, "log_weight": log_weight, **stamp}
                    for (w1, w2), log_weight, count in top
                ]
            ),
            [("w1", pa.string()), ("w2", pa.string()), ("count", pa.int64()), ("log_weight", pa.float64())],
        ),
        "emerging_pairs": (
            {
                "recent": recent_pairs | "frequent" >> beam.Filter(lambda item: item[1] >= 5),
                "earlier": earlier_pairs,
            }
            | "both windows" >> beam.CoGroupByKey()
            | "z" >> beam.FlatMap(z_score, n, m)
            | "top z" >> first(100)
            | "emerging rows"
            >> beam.FlatMap(
                lambda top: [
                    {"w1": w1, "w2": w2, "count": y, "previous_count": x, "z": z, **stamp} for (w1, w2), z, y, x in top
                ]
            ),
            [
                ("w1", pa.string()),
                ("w2", pa.string()),
                ("count", pa.int64()),
                ("previous_count", pa.int64()),
                ("z", pa.float64()),
            ],
        ),
        "posts_by_hour": (
            sums(recent | "hours" >> beam.Map(hour), "hours")
            | "hour rows"
            >> beam.Map(lambda item: {"hour": dt.datetime.fromisoformat(item[0]), "posts": item[1], **stamp}),
            [("hour", pa.timestamp("us")), ("posts", pa.int64())],
        ),
    }
    for table, (rows, columns) in tables.items():
        schema = pa.schema([*columns, ("ts", pa.timestamp("us")), ("date", pa.date32())])
        rows | f"write {table}" >> beam.io.WriteToParquet(
            str(out / table), schema, file_name_suffix=".parquet", num_shards=1, shard_name_template=""
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=Path, required=True, help="folder with posts-YYYY-MM-DD.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--last-day", type=dt.date.fromisoformat, required=True)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--rules", choices=sorted(WORDS), default="classic")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with beam.Pipeline(runner="FnApiRunner", options=PipelineOptions([])) as pipeline:
        build(pipeline, args.posts, args.out, args.last_day, args.days, args.rules)


if __name__ == "__main__":
    main()

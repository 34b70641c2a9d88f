"""Raw records of a day → its posts, each once, and the records that can't be used with the reason.

Always: read = kept + other days + duplicates + rejected.

Run alone:

    python -m pipelines.posts.etl --input 'raw/*.parquet' --source here --date 2026-11-19 --output 'out/{dataset}'
"""

import argparse
import datetime
import gc
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
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
        parsed = parse_block(block["record"])
        day = (parsed.posts["created_at"].to_numpy() >= self._start) & (
            parsed.posts["created_at"].to_numpy() < self._start + parse.DAY
        )
        rejects, other_days = parsed.rejects, int(len(day) - day.sum())
        places = (order << 40) + block["line"].to_numpy()
        table = _posts_table(parsed, day, source, places)
        for shard, part in split(table, self._shards):
            yield f"{shard:05d}", files.to_ipc(part)

        counters = Counter({"read": block.num_rows, "other_days": other_days})
        counters.update(f"rejected: {reason}" for _, reason in rejects)
        parts = [files.Written(counters=counters)]
        rejected = _rejected_table(block, rejects, source)
        if rejected.num_rows:
            name = f"posts_rejected-{order:05d}-{group:05d}"
            parts.append(files.write_parquet(self._output, "posts_rejected", name, rejected))
        yield beam.pvalue.TaggedOutput("written", files.keyed(files.merge_written(parts)))


@dataclass(frozen=True)
class Parsed:
    """What a block of records holds: posts by column (created_at: int64, µs since 1970), the row each came from
    (ascending), and (row, reason) of what can't be used."""

    posts: pa.Table
    rows: NDArray[np.int64]
    rejects: list[tuple[int, str]]


_COLUMNS = pa.schema([POSTS.field(n).with_type(pa.int64()) if n == "created_at" else POSTS.field(n) for n in POSTS.names[:6]])
#: Times that Arrow reads as parse.microseconds does, and none that are impossible.
_PLAIN_TIME = (
    r"^[1-9]\d{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))"
    r"T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?Z$"
)


def parse_block(record: pa.ChunkedArray) -> Parsed:
    """Records (binary) → posts, as parse.parse has them. What is of the ordinary shape goes by the column."""
    gc_was_on = gc.isenabled()
    gc.disable()  # nothing here makes cycles, and looking for them would take longer than all else
    try:
        return _parse_block(record)
    finally:
        if gc_was_on:
            gc.enable()


def _parse_block(record: pa.ChunkedArray) -> Parsed:
    records, read = _texts(record)
    ordinary: list[parse.Ordinary] = []
    rows: list[int] = []
    others: list[int] = []
    decode = parse.decode_ordinary
    for row, text in enumerate(records):
        try:
            post = decode(text)
        except (ValueError, RecursionError):
            others.append(row)
            continue
        if _is_plain(post):
            ordinary.append(post)
            rows.append(row)
        else:
            others.append(row)
    times = pa.array([post.created_at for post in ordinary], pa.string())
    plain = pc.match_substring_regex(times, _PLAIN_TIME)
    if not pc.all(plain).as_py():
        mask = plain.to_numpy(zero_copy_only=False)
        others = sorted([*others, *(row for row, ok in zip(rows, mask, strict=True) if not ok)])
        ordinary = [post for post, ok in zip(ordinary, mask, strict=True) if ok]
        rows = [row for row, ok in zip(rows, mask, strict=True) if ok]
        times = times.filter(plain)
    created_at = times.cast(pa.timestamp("us", "UTC")).cast(pa.int64())

    columns = [
        pa.array([_id(post) for post in ordinary], pa.string()),
        created_at,
        pa.array([post.user for post in ordinary], pa.string()),
        pa.array([post.text for post in ordinary], pa.string()),
        pa.array([post.urls for post in ordinary], pa.list_(pa.string())),
        pa.array([post.lang for post in ordinary], pa.string()),
    ]
    table = pa.Table.from_arrays(columns, schema=_COLUMNS)
    if not others:
        return Parsed(table, np.array(rows, np.int64), [])
    posts: list[parse.Post] = []
    rejects: list[tuple[int, str]] = []
    for row in others:
        try:
            posts.append(read(records[row]))
            rows.append(row)
        except parse.Rejected as rejected:
            rejects.append((row, str(rejected)))
    fields = zip(*posts, strict=True) if posts else [()] * len(_COLUMNS)
    rest = [pa.array(values, field.type) for values, field in zip(fields, _COLUMNS, strict=True)]
    table = pa.concat_tables([table, pa.Table.from_arrays(rest, schema=_COLUMNS)])
    order = np.argsort(rows, kind="stable")
    return Parsed(table.take(pa.array(order)), np.array(rows, np.int64)[order], rejects)


def _is_plain(post: parse.Ordinary) -> bool:
    """Whether all of parse.parse's questions but the time's are answered by a look."""
    text = post.text
    return bool(
        post.entities is None
        and type(post.created_at) is str
        and post.urls is not None
        and text
        and not text.isspace()
        and (type(post.tid) is int or (post.tid is None and type(post.id) is int))
    )


def _id(post: parse.Ordinary) -> str:
    return str(post.id if post.tid is None else post.tid)


def _texts(record: pa.ChunkedArray) -> tuple[list[Any], Any]:
    """The records as text with the parser for that, when the whole block is UTF-8 and no line is too long."""
    longest = pc.max(pc.binary_length(record)).as_py() or 0
    if longest <= parse.MAX_RECORD:
        try:
            return record.cast(pa.large_string()).to_pylist(), parse.parse_text
        except pa.ArrowInvalid:
            pass
    return record.to_pylist(), parse.parse


def _posts_table(parsed: Parsed, day: NDArray[np.bool_], source: str, places: NDArray[np.int64]) -> pa.Table:
    posts, rows = (parsed.posts, parsed.rows) if day.all() else (parsed.posts.filter(pa.array(day)), parsed.rows[day])
    created_at = posts["created_at"].cast(pa.timestamp("us", "UTC"))
    columns = [*posts.set_column(1, POSTS.field("created_at"), created_at).columns, pa.repeat(source, len(rows))]
    return pa.Table.from_arrays([*columns, pa.array(places[rows])], schema=POSTS.append(_PLACE))


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
    if pc.count_distinct(posts["id"]).as_py() < posts.num_rows:
        last = posts.select(["id", "place"]).group_by("id", use_threads=False).aggregate([("place", "max")])
        posts = posts.filter(pc.is_in(posts["place"], last["place_max"].combine_chunks()))
    place = posts["place"].to_numpy()
    return posts if (place[1:] > place[:-1]).all() else posts.sort_by("place")


class WriteShard(beam.DoFn):
    """(shard, posts of each block) → a file of posts without repetitions."""

    def __init__(self, output: str, shards: int) -> None:
        self._output, self._shards = output, shards

    def process(self, element: tuple[str, Iterable[bytes]]) -> Iterator[tuple[str, files.Written]]:
        shard, parts = element
        posts = pa.concat_tables([files.from_ipc(part) for part in parts])
        kept = last_of_each(posts)
        name = f"posts-{shard}-of-{self._shards:05d}"
        file = files.ParquetFile(self._output, "posts", name, POSTS)
        for at in range(0, kept.num_rows, _ROW_GROUP):
            file.write(kept.slice(at, _ROW_GROUP).select(POSTS.names))
        counters = {"kept": kept.num_rows, "duplicates": posts.num_rows - kept.num_rows}
        yield files.keyed(files.merge_written([file.close(), files.Written(counters=counters)]))


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Adds the pipeline: parse by block, de-duplicate by shard of the id's hash."""


    mine = options.view_as(EtlOptions)
    parse_block = ParseBlock(mine.output, mine.date, json.loads(mine.sources), mine.shards)
    parsed = (
        pipeline
        | "Blocks" >> beam.Create(files.blocks(files.expand(mine.input)))
        | "Parse" >> beam.ParDo(parse_block).with_output_types(tuple[str, bytes]).with_outputs("written", main="posts")
    )
    shards = (
        parsed.posts
        | "ByShard" >> beam.GroupByKey()
        | "WriteShard" >> beam.ParDo(WriteShard(mine.output, mine.shards))
    )
    _ = (parsed.written, shards) | "Flatten" >> beam.Flatten() | "Result" >> files.WriteResult(mine.output, "posts")


if __name__ == "__main__":
    main(build, EtlOptions)

"""Raw records of a day → its posts, each once, and the records that can't be used with the reason.

Always: read = kept + other days + duplicates + notices + rejected. The posts are written before it is known which of
them come again later; only their ids are shuffled, and a file of posts that has to lose some is written anew.

Run alone:

    python -m pipelines.posts.etl --input 'raw/*.parquet' --source here --date 2026-11-19 --output 'out/{dataset}'
"""

import argparse
import datetime
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.options.pipeline_options import PipelineOptions
from numpy.typing import NDArray

from millrace.beam import files, shards
from millrace.beam.batch import PACK, Batch, Item, Pack
from millrace.beam.options import StageOptions, main
from millrace.beam.rejects import dead_letters
from millrace.common import results
from millrace.common.checksums import Input
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
#: The posts of a file: each one's id, `number` where it is one and else `text`, and its row in the file of that number.
_IDS = pa.schema([("number", pa.int64()), ("text", pa.string()), ("file", pa.int32()), ("row", pa.int32())])
#: Ids that are the decimal form of a number that fits in 63 bits, as nearly all are.
_NUMBER = r"^(?:0|[1-9]\d{0,17}|[1-8]\d{18})$"
#: Ids of a shard: 30 MB of them.
_SHARD_IDS = 1 << 20


class EtlOptions(StageOptions):
    """Options of etl."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--date", required=True, help="the day whose posts are kept, YYYY-MM-DD")
        parser.add_argument("--sources", type=json.loads, default=[], help="JSON: the source's name of each input file")
        parser.add_argument("--pack", type=int, default=PACK, help="bytes of records that become one file of posts")


def parse_pack(day: Partition, pack: Pack) -> Iterator[Item]:
    """Write a pack's posts, and yield their ids by shard, its rejects and counts."""
    found = []
    for block in pack.blocks:
        source = day.options["sources"][block.order] if day.options["sources"] else block.file.path
        parsed = columns.parse_block(block.table["record"])
        start = (datetime.date.fromisoformat(day.options["date"]) - datetime.date(1970, 1, 1)).days * parse.DAY
        since = parsed.posts["created_at"].to_numpy() - start
        of_day = (since >= 0) & (since < parse.DAY)
        found.append(_posts_table(parsed.posts, of_day, source))
        counters = Counter({"read": block.table.num_rows, "other_days": int(len(of_day) - of_day.sum())})
        if parsed.notices:
            counters["notices"] = parsed.notices
        yield results.Written(counters=counters)
        yield dead_letters(day, "posts_rejected", block, parsed.rejects, source)
    posts = pa.concat_tables(found)
    again = come_again(ids_of(posts["id"], pack.number))["row"]
    posts = _without(posts, again)
    yield results.Written(counters={"duplicates": len(again)})
    written = files.write_parquet(
        day.output, "posts", f"posts-{pack.number:05d}-of-{pack.of:05d}", posts.combine_chunks()
    )
    if pack.of == 1:
        yield written
        yield results.Written(counters={"kept": posts.num_rows})
        return
    (file,) = written.files
    yield _file(pack.number), pa.Table.from_pylist([asdict(file)])
    ids = ids_of(posts["id"], pack.number)
    for number, part in enumerate(split(ids, day.options["shards"])):
        if part.num_rows:
            yield f"ids/{number}", part


def _file(number: int) -> str:
    """Return the name under which what becomes of a file of posts comes together."""
    return f"file/{number}"


def _posts_table(posts: pa.Table, day: NDArray[np.bool_], source: str) -> pa.Table:
    posts = posts if day.all() else posts.filter(pa.array(day))
    created_at = posts["created_at"].cast(pa.timestamp("us", "UTC"))
    arrays = [*posts.set_column(1, POSTS.field("created_at"), created_at).columns, pa.repeat(source, posts.num_rows)]
    return pa.Table.from_arrays(arrays, schema=POSTS)


def ids_of(ids: pa.ChunkedArray, file: int) -> pa.Table:
    """Return the ids of a file's posts, see _IDS."""
    ids = ids.combine_chunks()
    is_number = pc.match_substring_regex(ids, _NUMBER)
    rows = np.arange(len(ids), dtype=np.int32)
    number = pc.if_else(is_number, ids, None).cast(pa.int64())
    return pa.Table.from_arrays([number, pc.if_else(is_number, None, ids), np.full_like(rows, file), rows], schema=_IDS)


def split(ids: pa.Table, of: int) -> Iterator[pa.Table]:
    """Yield the ids of each shard, in their order; equal ids are in one shard."""
    number, text = (ids[name].combine_chunks() for name in ("number", "text"))
    mixed = number.fill_null(0).to_numpy().astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    shard = (mixed >> np.uint64(32)) % np.uint64(of)
    if text.null_count < len(text):
        shard[text.is_valid().to_numpy(zero_copy_only=False)] = shards.shard_of(text.drop_null().to_pylist(), of)
    yield from (ids.take(pa.array(rows)) for rows in shards.rows_of(shard.astype(np.int64), of))


def come_again(ids: pa.Table) -> pa.Table:
    """Return the file and row of all that have an id which comes again further down."""
    again = np.zeros(ids.num_rows, np.bool_)
    for column in (ids["number"].combine_chunks(), ids["text"].combine_chunks().dictionary_encode().indices):
        rows = np.flatnonzero(column.is_valid())
        value = column.drop_null().to_numpy()
        order = np.argsort(value, kind="stable")
        value = value[order]
        again[rows[order[:-1][value[1:] == value[:-1]]]] = True
    return ids.select(["file", "row"]).filter(pa.array(again))


def _without(posts: pa.Table, rows: pa.ChunkedArray) -> pa.Table:
    if not len(rows):
        return posts
    stay = np.ones(posts.num_rows, np.bool_)
    stay[rows.to_numpy()] = False
    return posts.filter(pa.array(stay))


def find_repeated(day: Partition, name: str, tables: Iterable[pa.Table]) -> Iterator[Item]:
    """Yield, by file, the rows whose posts come again in another file, given a shard of ids; pass on what files say."""
    if not name.startswith("ids/"):
        yield from ((name, table) for table in tables)
        return
    again = come_again(pa.concat_tables(sorted(tables, key=lambda ids: ids["file"][0].as_py())))
    numbers, begins = np.unique(again["file"].to_numpy(), return_index=True)
    for number, begin, end in zip(numbers.tolist(), begins, np.append(begins, again.num_rows)[1:], strict=True):
        yield _file(number), again.select(["row"]).slice(begin, end - begin)


def finish_file(day: Partition, name: str, tables: Iterable[pa.Table]) -> Iterator[results.Written]:
    """Tell of a file of posts, written anew where some of its posts come again in another file."""
    parts = list(tables)
    (said,) = (part for part in parts if "path" in part.schema.names)
    file = results.File(**said.to_pylist()[0])
    rows = pa.chunked_array([chunk for part in parts if part is not said for chunk in part["row"].chunks], pa.int32())
    yield results.Written(counters={"kept": file.rows - len(rows), "duplicates": len(rows)})
    if not len(rows):
        yield results.Written([file], schemas=files.schemas("posts", POSTS))
        return
    posts = files.read_parquet(Input(file.path, file.crc32c, file.bytes))
    name = f"{os.path.basename(file.path).removesuffix('.parquet')}-once"
    yield files.write_parquet(day.output, "posts", name, _without(posts, rows))
    yield results.Written(superseded=[file.path])


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Add the pipeline: parse by pack, find ids that come again by shard, and write anew the files that have such."""
    batch = Batch(pipeline, options, EtlOptions)
    batch.decide(lambda day, raw: {"shards": shards.number(sum(group.rows for group in raw), _SHARD_IDS)})
    packs = batch.packs(lambda day: int(day.options["pack"]), "file", "line", "record")
    packs.each(parse_pack).by_key(find_repeated).by_key(finish_file)
    batch.results("posts")


if __name__ == "__main__":
    main(build, EtlOptions)

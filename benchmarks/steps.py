"""What the steps of a day cost, each beside the best that a library does for that step alone: CPU seconds, least of 5.

    python -m benchmarks.steps --posts-in /var/tmp/p/posts-2026-11-01.jsonl

The libraries do less: they decode and check nothing, or sort numbers that are made already.
"""

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from millrace.beam.sources import records
from pipelines.posts import columns, count, pairs, rules
from pipelines.posts.tokens import tokenize

DAYS = 7


def least(work: Callable[[], Any], runs: int = 5) -> float:
    """Return the CPU seconds of the quickest of several runs."""
    found = []
    for _ in range(runs):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts-in", type=Path, required=True, help="a day's JSON lines, as make_posts writes them")
    parser.add_argument("--rules", default="classic")
    args = parser.parse_args()
    data = args.posts_in.read_bytes()
    rule_set = rules.get(args.rules)

    def read() -> pa.ChunkedArray:
        return pa.chunked_array([block.record for block in records.read(io.BytesIO(data))])

    record = read()
    lines = data.splitlines()
    decode = msgspec.json.Decoder().decode
    posts = columns.parse_block(record).posts
    tokens = tokenize(posts["text"], posts["lang"], rule_set)
    found = pairs.of_posts(tokens)
    starts = np.flatnonzero(np.diff(tokens.post, prepend=-1))
    lengths = np.diff(np.append(starts, len(tokens.post)))
    numbers = np.random.default_rng(1).integers(0, 1 << 32, int((lengths * (lengths - 1) // 2).sum()), np.uint32)
    table = pairs.to_table(found)
    week = np.concatenate([found.number] * DAYS)
    database = duckdb.connect()
    database.execute("SET threads = 1")

    def parsed_by_duckdb() -> None:
        columns_ = "{tid: 'BIGINT', created_at: 'VARCHAR', user: 'VARCHAR', text: 'VARCHAR', urls: 'VARCHAR[]'}"
        database.execute(
            f"SELECT * FROM read_json('{args.posts_in}', format = 'newline_delimited', columns = {columns_})"
        ).to_arrow_table()

    def split() -> None:
        pc.ascii_split_whitespace(pc.ascii_lower(posts["text"].combine_chunks())).flatten().dictionary_encode()

    steps: list[tuple[str, Callable[[], Any], list[tuple[str, Callable[[], Any]]]]] = [
        ("read lines", read, [("bytes.splitlines", data.splitlines)]),
        (
            "parse and check",
            lambda: columns.parse_block(record),
            [
                ("DuckDB read_json", parsed_by_duckdb),
                ("orjson.loads", lambda: [orjson.loads(line) for line in lines]),
                ("msgspec, no schema", lambda: [decode(line) for line in lines]),
            ],
        ),
        (
            "words",
            lambda: tokenize(posts["text"], posts["lang"], rule_set),
            [("Arrow: lower, split, encode", split)],
        ),
        ("pairs", lambda: pairs.of_posts(tokens), [("numpy sort of as many", lambda: np.sort(numbers))]),
        (
            "URLs",
            lambda: count.count_urls(posts["urls"], rule_set),
            [("Arrow value_counts", lambda: pc.list_flatten(posts["urls"]).value_counts())],
        ),
        (
            f"{DAYS} days of pairs added up",
            lambda: pairs.add([found] * DAYS),
            [("numpy sort of their numbers", lambda: np.sort(week))],
        ),
        (
            "pairs to and from Parquet",
            lambda: pq.read_table(_written(table)),
            [("Arrow IPC, lz4", lambda: _through_ipc(table))],
        ),
    ]  # fmt: skip
    print(f"{len(lines):,} posts, {len(numbers):,} pairs, {len(found):,} distinct, {args.rules} rules")
    for name, ours, theirs in steps:
        others = ", ".join(f"{peer} {least(work):.3f}" for peer, work in theirs)
        print(f"{name:28} {least(ours):6.3f} s   {others}")


def _written(table: pa.Table) -> io.BytesIO:
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=["posts"],
        column_encoding={name: how for name, how in pairs.ENCODINGS.items() if name != "posts"},
    )
    sink.seek(0)
    return sink


def _through_ipc(table: pa.Table) -> pa.Table:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(table)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


if __name__ == "__main__":
    main()

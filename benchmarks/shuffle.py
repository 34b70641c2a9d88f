"""What Count and Etl shuffle of a day: bytes as they travel, with and without what is added up before the shuffle.

    python -m benchmarks.shuffle --posts-in 'out/posts/*.parquet' --rules classic

Count: the partial counts of all blocks, one by one, against their sum by one worker, which is what a runner shuffles
where one worker has all blocks. Etl: the ids of the posts against the posts themselves.
"""

import argparse
from collections import defaultdict

import pyarrow as pa
from apache_beam.coders.typecoders import registry

from millrace.beam import files
from millrace.beam.adding import Adding
from millrace.beam.batch import Block
from millrace.common.partitions import Partition
from pipelines.posts import count, etl

MIB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts-in", required=True, help="pattern of the files that Etl wrote")
    parser.add_argument("--rules", default="classic")
    parser.add_argument("--shards", type=int, default=0)
    args = parser.parse_args()
    groups = files.row_groups(files.expand(args.posts_in))
    shards = args.shards or count.shards_of(groups)
    day = Partition("day", "", options={"rules": args.rules, "languages": "en", "shards": shards})
    coder, adding = registry.get_coder(pa.Table), Adding(count.add)
    pieces: defaultdict[str, int] = defaultdict(int)
    held: defaultdict[str, list[tuple[int, bytes]]] = defaultdict(adding.create_accumulator)
    ids = posts = 0
    for group in groups:
        table = files.read_block(group.file, group.number, etl.POSTS.names)
        posts += len(coder.encode(table))
        ids += len(coder.encode(etl.ids_of(table["id"], group.order)))
        for name, part in count.count_block(day, Block(group.order, group.file, group.number, table)):  # type: ignore[misc]
            pieces[name.partition("/")[0]] += len(coder.encode(part))
            held[name] = adding.add_input(held[name], part)
    print(f"{len(groups)} blocks of {sum(group.rows for group in groups):,} posts, {shards} shards, {args.rules} rules")
    summed: defaultdict[str, int] = defaultdict(int)
    for name, accumulator in held.items():
        summed[name.partition("/")[0]] += sum(len(encoded) for _, encoded in adding.compact(accumulator))
    for name, size in pieces.items():
        print(f"{name:6} {size / MIB:10.1f} MiB one by one {summed[name] / MIB:10.1f} MiB added up first")
    print(f"ids    {ids / MIB:10.1f} MiB instead of {posts / MIB:.1f} MiB of posts")


if __name__ == "__main__":
    main()

"""Records that can't be used: each is kept as it came, in a dead-letter dataset, with the reason, and is counted."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

import pyarrow as pa

from millrace.beam import files
from millrace.beam.batch import Block
from millrace.beam.sources.records import Rejected
from millrace.common.partitions import Partition
from millrace.common.results import Written, merge_written

T = TypeVar("T")

#: A dead-letter dataset: the reason, the source, the file and the line in the file (from 1), and the record's bytes.
SCHEMA = pa.schema(
    [
        ("reason", pa.string()),
        ("source", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("record", pa.large_binary()),
    ]
)


def parsed(
    partition: Partition, block: Block, parse: Callable[[bytes], T], *, rejected: str
) -> tuple[list[T], Written]:
    """Return what `parse` makes of each record of a block, and what to yield of those for which it raises Rejected.

    rejected: the dead-letter dataset. Counted are the records `read` and `kept`, and those rejected for each reason.
    """
    found: list[T] = []
    rejects: list[tuple[int, str]] = []
    for row, record in enumerate(block.table["record"].to_pylist()):
        try:
            found.append(parse(record.removesuffix(b"\n").removesuffix(b"\r")))
        except Rejected as reason:
            rejects.append((row, str(reason)))
    counted = Written(counters={"read": block.table.num_rows, "kept": len(found)})
    return found, merge_written([counted, dead_letters(partition, rejected, block, rejects)])


def dead_letters(
    partition: Partition, dataset: str, block: Block, rejects: Sequence[tuple[int, str]], source: str = ""
) -> Written:
    """Write the rejects of a block, (row, reason) each, to a dead-letter dataset, and count them.

    source: where the block comes from; its file unless given. The block has the columns file, line and record.
    """
    counted = Written(counters=Counter(f"rejected: {reason}" for _, reason in rejects))
    if not rejects:
        return counted
    there = block.table.take(pa.array([row for row, _ in rejects], pa.int64()))
    records = [record.removesuffix(b"\n").removesuffix(b"\r") for record in there["record"].to_pylist()]
    columns = [
        pa.array([reason for _, reason in rejects], pa.string()),
        pa.array([source or block.file.path] * len(rejects), pa.string()),
        there["file"].cast(pa.string()),
        there["line"],
        pa.array(records, pa.large_binary()),
    ]
    table = pa.Table.from_arrays(columns, schema=SCHEMA)
    return merge_written([counted, files.write_parquet(partition.output, dataset, f"{dataset}-{block.name}", table)])

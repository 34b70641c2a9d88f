"""Archives of many days → files of raw records by day.

Of very many days, some share a file: it is labelled by its first and its last day, FIRST_LAST, and has a column `day`.
"""

import datetime
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.beam import files
from millrace.beam.sources import records
from millrace.beam.sources.records import Rejected
from millrace.common import results
from millrace.common.partitions import Partition

#: Bytes of one archive's records held in memory before the fullest days are written.
_HELD = 128 << 20
#: Files of so many days are written at once; of more days, neighbours share files.
_MOST_FILES = 400

#: What tells the day of a record, given its bytes: days since 1970-01-01, or None for what is no record, and counts
#: among `notices`. Raises Rejected for a record that shows no day.
DayOf: TypeAlias = Callable[[bytes], int | None]

REJECTED = "rejected"
_REJECTED_SCHEMA = pa.schema(
    [("file", pa.string()), ("line", pa.int64()), ("reason", pa.string()), ("record", pa.large_binary())]
)


def shared_with(label: str, date: datetime.date) -> bool:
    """Return whether a split's file that several days share may hold records of a day."""
    first, shared, last = label.partition("_")
    return bool(shared) and first <= str(date) <= last


def take_day(path: str, date: datetime.date, output: str, dataset: str) -> results.Written:
    """Write a day's records of a file that it shares with others, if any, to a file of its own with the same name."""
    table = files.read_parquet(path, dictionaries=["file"])
    mine = table.filter(pc.equal(table["day"], pa.scalar(date))).select(records.SCHEMA.names)
    if not mine.num_rows:
        return results.Written()
    name = path.rpartition("/")[2].removesuffix(".parquet")
    return files.write_parquet(output, dataset, name, mine.cast(records.SCHEMA), label="raw")


def split_file(
    archive: Partition, name: str, uri: str, blocks: Iterator[records.Block], day_of: DayOf
) -> results.Written:
    """Write a file's records as Parquet files by day, labelled `YYYY-MM-DD`, and those that show no day.

    name: what tells the files from those of other sources' files. Of very many days, some share a file, labelled by the
    first and the last of them; the file's column `day` tells them apart.
    """
    held: dict[int, list[pa.Table]] = {}  # by day, since 1970
    size = part = 0
    written: list[results.Written] = []
    counters = Counter(read=0, kept=0)

    def write(days: list[int]) -> results.Written:
        label = _label(days)
        file = f"{REJECTED}-{name}" if label == REJECTED else f"{label}/raw-{name}"
        tables = [pa.concat_tables(held[day]) for day in days]
        if len(days) > 1:
            tables = [_with_day(table, day) for table, day in zip(tables, days, strict=True)]
        table = pa.concat_tables(tables).combine_chunks()
        return files.write_parquet(archive.output, archive.options["dataset"], f"{file}-{part:05d}", table, label=label)

    def flush() -> None:
        nonlocal size, part
        with ThreadPoolExecutor(files.threads([archive.output])) as pool:
            written.extend(pool.map(write, _in_files(held)))
        held.clear()
        size, part = 0, part + 1

    for block in blocks:
        days = np.empty(len(block.line), np.int64)
        reasons: list[str] = []
        for i, record in enumerate(block.record.to_pylist()):
            try:
                of_record = day_of(record)
                days[i] = _NOTICE if of_record is None else of_record
            except Rejected as reason:
                days[i] = _NO_DAY
                reasons.append(str(reason))
        if notices := int((days == _NOTICE).sum()):
            counters["notices"] += notices
        order = np.argsort(days, kind="stable")
        lines, kept = block.line.take(pa.array(order)), block.record.take(pa.array(order))
        found, starts = np.unique(days[order], return_index=True)
        for day, start, end in zip(found.tolist(), starts, np.append(starts, len(days))[1:], strict=True):
            if day == _NOTICE:
                continue
            line, record = lines.slice(start, end - start), kept.slice(start, end - start)
            if day == _NO_DAY:
                columns = [pa.repeat(uri, len(line)), line, pa.array(reasons, pa.string()), record]
                table = pa.Table.from_arrays(columns, schema=_REJECTED_SCHEMA)
            else:
                table = records.table(uri, records.Block(line, record))
            held.setdefault(day, []).append(table)
            size += table.nbytes
        counters.update({"read": len(days), "kept": len(days) - len(reasons) - notices})
        counters.update(f"rejected: {reason}" for reason in reasons)
        files.rows_read(len(days))
        if size > _HELD:
            flush()
    flush()
    return results.merge_written([*written, results.Written(counters=counters)])


def _in_files(held: Mapping[int, Sequence[pa.Table]]) -> Iterator[list[int]]:
    """Yield the days that are held, by the file that they go to; of more than _MOST_FILES, neighbours share files."""
    sizes = {day: sum(table.nbytes for table in held[day]) for day in sorted(held)}
    if _NO_DAY in sizes:
        del sizes[_NO_DAY]
        yield [_NO_DAY]
    share = sum(sizes.values()) / _MOST_FILES if len(sizes) > _MOST_FILES else 0
    together, weight = list[int](), 0
    for day, size in sizes.items():
        together.append(day)
        weight += size
        if weight > share:
            yield together
            together, weight = [], 0
    if together:
        yield together


def _label(days: Sequence[int]) -> str:
    if days[0] == _NO_DAY:
        return REJECTED
    return "_".join(str(_EPOCH + datetime.timedelta(days=day)) for day in sorted({days[0], days[-1]}))


def _with_day(table: pa.Table, day: int) -> pa.Table:
    return table.append_column("day", pa.repeat(pa.scalar(day, pa.int32()), len(table)).cast(pa.date32()))


_EPOCH = datetime.date(1970, 1, 1)
_NO_DAY = np.iinfo(np.int64).min
_NOTICE = _NO_DAY + 1

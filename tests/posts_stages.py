"""Runs the stages of the posts pipelines as a launcher does: by module name and arguments, on files."""

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import oracle
import posts_cases as cases
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from millrace.beam import batch, files, options
from millrace.beam.sources import records, splits
from millrace.common import results

TABLES = ("word_counts", "urls", "word_cooccur", "emerging_pairs", "posts_by_hour")


def run(stage: str, folder: Path, dataset: str, part: str = "", /, **flags: object) -> results.Written:
    """Runs a stage into {folder}/{dataset}{part} and reads what it says that it wrote there."""
    arguments = [f"--{name}={value}" for name, value in flags.items()]
    options.run_module(f"pipelines.posts.{stage}", [f"--output={folder}/{{dataset}}{part}", *arguments])
    return results.read_result(Path(f"{folder}/{dataset}{part}", results.RESULT).read_bytes())


def raw(folder: Path, *contents: bytes) -> list[str]:
    """Writes files source-0, source-1, … with these contents, and fetches them → the paths of the raw files."""
    folder.mkdir(exist_ok=True)
    for number, data in enumerate(contents):
        (folder / f"source-{number}").write_bytes(data)
    return paths(run("fetch", folder, "raw", source=f"{folder}/source-*", date="2017-08-27"), "raw")


def split(folder: Path, source: str, name: str) -> dict[str, list[str]]:
    """Splits an archive → the raw files of each day."""
    written = run("fetch", folder, name, source=source, dataset=name)
    return days_of(folder / "days", written)


def days_of(folder: Path, written: results.Written) -> dict[str, list[str]]:
    """The raw files of each day of a split; where days share a file, each day's part is written to the folder."""
    found: dict[str, list[str]] = {}
    for file in written.files:
        if "_" not in file.table:
            found.setdefault(file.table, []).append(file.path)
            continue
        shared = files.read_parquet(file.path, dictionaries=["file"])
        for day in shared["day"].unique().to_pylist():
            assert splits.shared_with(file.table, day)
            mine = shared.filter(pc.equal(shared["day"], pa.scalar(day))).drop_columns(["day"])
            name = f"{day}-{len(found.get(str(day), []))}"
            made = files.write_parquet(str(folder), "", name, mine.cast(records.SCHEMA))
            found.setdefault(str(day), []).append(made.files[0].path)
    return {day: found[day] for day in sorted(found) if day != "rejected"}


def etl(
    folder: Path,
    inputs: Sequence[str],
    date: datetime.date,
    pack: int = batch.PACK,
    sources: Sequence[str] | None = None,
) -> results.Written:
    """A day's posts, in {folder}/posts/date=…; the sources are called "source 0", "source 1", … by default."""
    names = [f"source {n}" for n in range(len(inputs))] if sources is None else sources
    return run(
        "etl",
        folder,
        "posts",
        f"/date={date}",
        input=json.dumps(inputs),
        sources=json.dumps(names),
        date=date,
        pack=pack,
    )


def count(folder: Path, posts: results.Written, date: datetime.date, rules: str, shards: int = 8) -> results.Written:
    return run(
        "count", folder, "counts", f"/date={date}", input=json.dumps(paths(posts, "posts")), rules=rules, shards=shards
    )


def aggregate(folder: Path, counts: Sequence[results.Written], date: datetime.date, days: int) -> results.Written:
    inputs = json.dumps([file.path for written in counts for file in written.files])
    return run("aggregate", folder, "word_counts", f"/date={date}", input=inputs, date=date, days=days)


def window(date: datetime.date, days: int) -> Iterator[datetime.date]:
    """The days of a window and of the one before, which chains need."""
    return (date - datetime.timedelta(days=back) for back in reversed(range(2 * days)))


@dataclass(frozen=True)
class Chain:
    """How a chain of stages is run: bytes of a pack of records, shards, rows in a block (None: as they come)."""

    pack: int = batch.PACK
    shards: int = 8
    block: int | None = None

    def posts(
        self, folder: Path, raw: Mapping[str, Sequence[str]], days: Sequence[datetime.date]
    ) -> list[results.Written]:
        written = []
        for day in days:
            inputs = raw.get(str(day), [])
            if inputs:
                self._in_blocks(inputs)
                written.append(etl(folder, inputs, day, self.pack))
        return written

    def tables(
        self, folder: Path, posts: Sequence[results.Written], date: datetime.date, days: int, rules: str
    ) -> results.Written:
        counts = []
        for day in posts:
            inputs = paths(day, "posts")
            self._in_blocks(inputs)
            counts.append(
                count(folder, day, datetime.date.fromisoformat(files.partition_date(inputs[0])), rules, self.shards)
            )
        return aggregate(folder, counts, date, days)

    def _in_blocks(self, inputs: Sequence[str]) -> None:
        for path in inputs if self.block else ():
            pq.write_table(pq.read_table(path, partitioning=None), path, row_group_size=self.block)


# ------------------------------------------------------------------------------------------------- what they wrote


def paths(written: results.Written, table: str) -> list[str]:
    return [file.path for file in written.files if file.table == table]


def table(written: results.Written, name: str) -> pa.Table:
    """All rows of a table, in the order of its files."""
    return pa.concat_tables([pq.read_table(path, partitioning=None) for path in paths(written, name)])


def counts(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """The rows of partial counts; of pairs with their words."""
    if "w1" not in table.column_names:
        yield from (tuple(row.values()) for row in table.to_pylist())
        return
    words = table["word"].to_pylist()
    for w1, w2, posts in zip(*(table[name].to_pylist() for name in ("w1", "w2", "posts")), strict=True):
        if posts is not None:
            yield words[w1], words[w2], posts


def rows(written: results.Written, name: str) -> list[dict[str, Any]]:
    return table(written, name).to_pylist() if paths(written, name) else []


def tables(written: results.Written) -> dict[str, list[list[Any]]]:
    """The rows of each table of an aggregate, without ts and date."""
    return {
        name: [[value for key, value in row.items() if key not in ("ts", "date")] for row in rows(written, name)]
        for name in TABLES
    }


def assert_tables(written: results.Written, expected: oracle.Tables) -> None:
    """Every table of an aggregate is the oracle's, row by row; floats to 1e-12."""
    for name, found in tables(written).items():
        assert found == cases.near(expected[name]), name  # type: ignore[literal-required]

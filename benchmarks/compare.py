"""Compare two folders of tables, whoever made them, and say where they differ.

A table is `<folder>/<table>.parquet` (the peers) or `<folder>/<table>/date=<day>/…/*.parquet` (Millrace). Rows are
matched by key; integers must be equal, floating point numbers within 1e-9 of each other.

    python -m benchmarks.compare A B --date 2026-11-07
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import duckdb

KEYS = {
    "word_counts": ("word",),
    "urls": ("url",),
    "word_cooccur": ("w1", "w2"),
    "emerging_pairs": ("w1", "w2"),
    "posts_by_hour": ("hour",),
}
VALUES = {
    "word_counts": ("percent",),
    "urls": ("count",),
    "word_cooccur": ("count", "log_weight"),
    "emerging_pairs": ("count", "previous_count", "z"),
    "posts_by_hour": ("posts",),
}


def rows(folder: Path, table: str, date: str) -> dict[tuple[Any, ...], tuple[Any, ...]] | None:
    single = folder / f"{table}.parquet"
    files = [single] if single.exists() else sorted((folder / table / f"date={date}").rglob("*.parquet"))
    if not files:
        return None
    key, value = KEYS[table], VALUES[table]
    found = duckdb.execute(
        f"SELECT {', '.join((*key, *value))} FROM read_parquet(?, hive_partitioning = false)", [[str(f) for f in files]]
    ).fetchall()
    return {row[: len(key)]: row[len(key) :] for row in found}


def same(left: tuple[Any, ...], right: tuple[Any, ...]) -> bool:
    return all(
        math.isclose(a, b, rel_tol=1e-9) if isinstance(a, float) else a == b for a, b in zip(left, right, strict=True)
    )


def compare(left: Path, right: Path, date: str, tables: list[str]) -> dict[str, str]:
    """Return what there is to say of each table; 'equal, N rows' where nothing differs."""
    report = {}
    for table in tables:
        a, b = rows(left, table, date), rows(right, table, date)
        if a is None or b is None:
            report[table] = f"not in {left if a is None else right}"
            continue
        common = a.keys() & b.keys()
        wrong = [key for key in sorted(common) if not same(a[key], b[key])]
        if len(common) == len(a) == len(b) and not wrong:
            report[table] = f"equal, {len(a)} rows"
        else:
            report[table] = f"{len(a)} and {len(b)} rows, {len(common)} keys in both, {len(wrong)} of them differ"
            for key in wrong[:1]:
                report[table] += f", as {key}: {a[key]} and {b[key]}"
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("left", type=Path)
    parser.add_argument("right", type=Path)
    parser.add_argument("--date", required=True)
    parser.add_argument("--tables", default="word_counts,urls,word_cooccur,emerging_pairs")
    args = parser.parse_args()
    report = compare(args.left, args.right, args.date, args.tables.split(","))
    for table, finding in report.items():
        print(f"{table}: {finding}")
    sys.exit(0 if all(finding.startswith("equal") for finding in report.values()) else 1)


if __name__ == "__main__":
    main()

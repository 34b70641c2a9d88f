"""The oracle's tables as the warehouse has them."""

import datetime

import oracle
import running
from running import Row


def expected(records: list[bytes], date: datetime.date, days: int, rules: str) -> dict[str, list[Row]]:
    """The oracle's tables as rows of the warehouse, in order of their keys."""
    made = oracle.chain(records, date, days, rules)
    end = datetime.datetime.combine(date + datetime.timedelta(days=1), datetime.time())
    columns = {
        "word_counts": ("word", "percent"),
        "urls": ("url", "count"),
        "word_cooccur": ("w1", "w2", "count", "log_weight"),
        "emerging_pairs": ("w1", "w2", "count", "previous_count", "z"),
        "posts_by_hour": ("hour", "posts"),
    }
    rows: dict[str, list[Row]] = {}
    for table, names in columns.items():
        rows[table] = [{**dict(zip(names, row, strict=True)), "ts": end, "date": date} for row in made[table]]  # type: ignore[literal-required]
        for row in rows[table]:
            if "hour" in row:
                row["hour"] = row["hour"].replace(tzinfo=None)
        rows[table].sort(key=lambda row: [row[key] for key in running.KEYS[table]])
    return rows

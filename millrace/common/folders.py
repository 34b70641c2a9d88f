"""What a partition's folder says of its day and hour: the one place where a path's keys are written and read.

    posts/date=2026-11-19/…            a day
    hits/date=2026-11-19/hour=05/…     an hour of it (UTC)

In the ledger the slashes of a partition are dots: Etl_posts.date=2026-11-19.
"""

import datetime
import posixpath
import re

_DATE = re.compile(r"(?:^|[/.])date=(\d{4}-\d\d-\d\d)(?:[/.]hour=(\d\d))?(?=[/.]|$)")


def of(date: datetime.date, hour: int | None = None) -> str:
    """Return the folder of a day, or of an hour of it."""
    return f"date={date}" if hour is None else f"date={date}/hour={hour:02}"


def date_of(partition: str) -> datetime.date | None:
    """Return the day of a partition, of a path in it, or of a job of the ledger; None for one without.

    The last day counts where there are several, because a storage may lie in a folder that is called like a day.
    """
    found = _DATE.findall(partition)
    return datetime.date.fromisoformat(found[-1][0]) if found else None


def hour_of(partition: str) -> int | None:
    """Return the hour of a partition as `date_of` its day; None for one without."""
    found = _DATE.findall(partition)
    return int(found[-1][1]) if found and found[-1][1] else None


def date_of_file(path: str) -> datetime.date | None:
    """Return the day of the partition that a file lies in, whatever the file is called."""
    return date_of(posixpath.dirname(path))

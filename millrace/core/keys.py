"""Partition keys: which part of a dataset a partition is, and what it is called.

| key                  | partition of `hits`              | its table   |
|----------------------|----------------------------------|-------------|
| `day(date)`          | `hits/date=2026-11-19`           | `hits`      |
| `hour(start)`        | `hits/date=2026-11-19/hour=05`   | none        |
| `window(date, 7, 7)` | `hits/date=2026-11-19`           | `hits`      |
| `window(date, 30, 7)`| `hits_30d/date=2026-11-19`       | `hits_30d`  |
| `name("source=a")`   | `hits/source=a`                  | `hits`      |
| `NONE`               | `hits`                           | `hits`      |

A window of the usual length is called like its last day. One of another length has datasets and tables of its own name,
so that both can be there for the same day. A table's partition is what its rows with the key's day, or name, are.
"""

import datetime
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from millrace.common import folders

#: Days, or the starts of hours.
Time = TypeVar("Time", bound=datetime.date)


@dataclass(frozen=True, order=True)
class Key:
    """A partition's key. In order: by name, then by time.

    suffix: what the names of datasets and tables gain. folder: the folder in the dataset, "" for all there is of it.
    date, hour: the day, and the hour of it, that the folder says.
    """

    suffix: str
    folder: str
    date: datetime.date | None = field(default=None, compare=False)
    hour: int | None = field(default=None, compare=False)

    def named(self, name: str) -> str:
        """Return what a dataset or table of this name is called for the key."""
        return name + self.suffix

    def partition(self, dataset: str) -> str:
        """Return the partition of a dataset, as a path in the storage."""
        return f"{self.named(dataset)}/{self.folder}".rstrip("/")

    @property
    def by(self) -> str:
        """The column of a table whose value all rows of the partition have in common; "" where it is the whole table.

        A key of several names, or of an hour, has no table: its column is the folder itself, which is no column's name.
        """
        if self.date and self.hour is None:
            return "date"
        return self.folder if self.hour is not None or "/" in self.folder else self.folder.partition("=")[0]

    @property
    def value(self) -> datetime.date | str:
        """The value of that column: the day, or the name."""
        return self.date or self.folder.partition("=")[2]

    def __str__(self) -> str:
        return " ".join(filter(None, [self.folder, self.suffix.lstrip("_")]))


#: The key of a dataset that is one partition.
NONE = Key("", "")
#: What a partition's key can be said by.
Said: TypeAlias = Key | datetime.date | str | None


def day(date: datetime.date) -> Key:
    """Return the key of a day."""
    return Key("", folders.of(date), date)


def hour(start: datetime.datetime) -> Key:
    """Return the key of an hour, given its start in UTC."""
    return Key("", folders.of(start.date(), start.hour), start.date(), start.hour)


def window(end: datetime.date, days: int, usual: int) -> Key:
    """Return the key of a window of some days that ends with a day. usual: the length that needs no name."""
    return Key(length(days, usual), folders.of(end), end)


def length(days: int, usual: int) -> str:
    """Return what names gain by a window's length."""
    return "" if days == usual else f"_{days}d"


def name(text: str) -> Key:
    """Return the key of a partition that a text names: the path of its folder in the dataset."""
    return Key("", text.strip("/"), folders.date_of(text), folders.hour_of(text))


def of(said: Said) -> Key:
    """Return the key that is said by itself, by a day, by an hour's start, by a name, or by nothing."""
    if isinstance(said, Key):
        return said
    if isinstance(said, datetime.datetime):
        return hour(said)
    if isinstance(said, datetime.date):
        return day(said)
    return name(said) if said else NONE


def told(key: Key) -> str:
    """Return which partition of a table a key means, in words: " for 2026-11-19", " for source=a", "" for all of it."""
    return f" for {key.date or key.folder}" if key.folder else ""


def argument(partition: str) -> str:
    """Return a partition as commands take it: with a slash, without which it would be the name of a task."""
    return partition if "/" in partition else f"{partition}/"


def spans(times: Iterable[Time]) -> list[tuple[Time, Time]]:
    """Return the first and the last of those days, or hours, that follow each other without a gap, in order."""
    found: list[tuple[Time, Time]] = []
    for time in sorted(set(times)):
        step = datetime.timedelta(hours=1) if isinstance(time, datetime.datetime) else datetime.timedelta(days=1)
        if found and found[-1][1] + step == time:
            found[-1] = found[-1][0], time
        else:
            found.append((time, time))
    return found


def suffix_of(dataset: str, names: Collection[str]) -> str | None:
    """Return what a dataset's name has gained by its key: "" or "_30d"; None for a dataset that is none of `names`."""
    if dataset in names:
        return ""
    found = re.fullmatch(r"(.+?)(_[1-9]\d*d)", dataset)
    return found[2] if found and found[1] in names else None

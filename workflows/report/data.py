"""What a page says, as plain values: asked of the warehouse once, used by the page, the charts and the JSON."""

import datetime
from dataclasses import dataclass
from pathlib import Path

from workflows.pages import Query

WORDS, URLS, PAIRS, EMERGING = 30, 25, 40, 20

_QUERY = Path(__file__).parent / "page.sql"


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour of the window: its start (UTC) and its posts, 0 included."""

    start: datetime.datetime
    posts: int


@dataclass(frozen=True, slots=True)
class Word:
    """A word and the fraction (0 to 1) of the window's posts that contain it."""

    word: str
    percent: float


@dataclass(frozen=True, slots=True)
class Url:
    """A URL as the posts give it (any scheme, any text) and how often it occurs."""

    url: str
    count: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Two words that share posts: in how many, the pair's weight, and each word's fraction of posts where known."""

    w1: str
    w2: str
    count: int
    log_weight: float
    percent1: float | None
    percent2: float | None


@dataclass(frozen=True, slots=True)
class Rising:
    """A pair that rose: posts now, posts in the window before, and the z-score of the rise."""

    w1: str
    w2: str
    count: int
    previous_count: int
    z: float


@dataclass(frozen=True)
class Data:
    """The rows of one page, each list in the order shown."""

    hours: list[Hour]
    words: list[Word]
    urls: list[Url]
    pairs: list[Pair]
    emerging: list[Rising]
    seen_before: bool
    """Whether any ranked pair, risen or fallen, occurs in the window before."""

    @property
    def posts(self) -> int:
        """Posts in the window."""
        return sum(hour.posts for hour in self.hours)


def ask(query: Query, date: datetime.date, days: int) -> Data:
    """Read a page's rows from the warehouse.

    date: the window's last day. days: its length, at least 1. Hours without posts are filled in with 0. Raises what
    `query` raises.
    """
    limits = {"words": WORDS, "urls": URLS, "pairs": PAIRS, "emerging": EMERGING}
    (found,) = query(_QUERY.read_text(encoding="utf-8"), {"date": date, **limits}).to_pylist()
    posts = {row["hour_epoch"]: row["posts"] for row in found["hours"]}
    first = datetime.datetime.combine(first_day(date, days), datetime.time(), datetime.UTC)
    starts = [first + datetime.timedelta(hours=hour) for hour in range(24 * days)]
    return Data(
        hours=[Hour(start, posts.get(int(start.timestamp()), 0)) for start in starts],
        words=[Word(**row) for row in found["words"]],
        urls=[Url(**row) for row in found["urls"]],
        pairs=[Pair(**row) for row in found["pairs"]],
        emerging=[Rising(**row) for row in found["emerging"]],
        seen_before=found["seen_before"],
    )


def first_day(date: datetime.date, days: int) -> datetime.date:
    """Return the first day of a window of `days` days that ends with `date`."""
    return date - datetime.timedelta(days=days - 1)

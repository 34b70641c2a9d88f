"""What the whole posts chain must give, computed the slow and obvious way.

This is the tests' second opinion: plain dicts and Counters, every post held in memory, nothing shared with the
pipelines. Where the two differ, one of them is wrong.
"""

import bz2
import gzip
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any, NoReturn, TypedDict

from oracle_texts import is_stump, shown, urls_in
from oracle_words import classic_url, classic_words, standard_url, standard_words

# ------------------------------------------------------------------------------------------------------ a record

LONGEST = 1_048_576
BOM = b"\xef\xbb\xbf"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

NOTICE = "notice"  # neither a post nor a reject
REASONS = ("line too long", "bad UTF-8", "bad JSON", "no id", "bad created_at", "no text")

MOST_LINKS = 1_000
NOTICES = {
    **dict.fromkeys(
        ("delete", "limit", "scrub_geo", "status_withheld", "user_withheld", "disconnect", "warning"), dict
    ),
    "event": str,
    "friends": list,
    "friends_str": list,
}

ISO = re.compile(
    r"((?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}|[0-9]{4}-W[0-9]{2}(?:-[0-9])?|[0-9]{4}W[0-9]{2}[0-9]?)"
    r"(?:[Tt ][0-9:.,]+)?)(?: ?(UTC|utc|[+-][0-9:.,]+)|([Zz]))?"
)
TWITTER = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) "
    r"([0-9]{1,2}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-5][0-9]) ([0-9]{4})"
)
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


@dataclass(frozen=True)
class Post:
    id: str
    created_at: datetime
    user: str | None
    text: str
    urls: list[str]
    lang: str | None


def parse(record: bytes) -> Post | str:
    """The record's post, or why it is rejected: one of REASONS, looked for in that order."""
    if len(record.removesuffix(b"\n").removesuffix(b"\r")) > LONGEST:
        return "line too long"
    try:
        text = record.removeprefix(BOM).decode("utf-8")
    except UnicodeDecodeError:
        return "bad UTF-8"
    try:
        status = json.loads(text, parse_constant=_not_json, parse_int=_integer)
        json.dumps(status, ensure_ascii=False).encode("utf-8")  # a lone surrogate, wherever it is, fails here
    except (ValueError, RecursionError):
        return "bad JSON"
    if not isinstance(status, dict):
        return "bad JSON"
    if _first(status, "tid", "id", "id_str", "text", "full_text") is None and any(
        isinstance(status.get(name), kind) for name, kind in NOTICES.items()
    ):
        return NOTICE

    post_id = _id(_first(status, "tid", "id_str", "id"))
    if post_id is None:
        return "no id"
    created_at = _moment(status.get("created_at"))
    if created_at is None:
        return "bad created_at"
    body, found = _content(status)
    if not isinstance(body, str):
        return "no text"
    page = shown(body)
    if page is not None:
        body = page[0]
        found = page[1] if found is None else found
    if found is None:
        found = urls_in(body)
    links = [url for url in found if isinstance(url, str) and not is_stump(url)]

    user = status.get("user")
    if isinstance(user, dict):
        user = user.get("screen_name")
    lang = status.get("lang")
    return Post(
        id=post_id,
        created_at=created_at,
        user=user if isinstance(user, str) else None,
        text=body,
        urls=links[:MOST_LINKS],
        lang=lang if isinstance(lang, str) else None,
    )


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _integer(digits: str) -> float:
    """JSON sets integers no limit, Python does: what it won't read is a number, but no id and no time."""
    try:
        return int(digits)
    except ValueError:
        return math.inf


def _first(status: dict[str, object], *names: str) -> object:
    """The first of these fields that is there and not null."""
    for name in names:
        if status.get(name) is not None:
            return status[name]
    return None


def _id(value: object) -> str | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return value.strip() or None
    return None


def _moment(value: object) -> datetime | None:
    try:
        if isinstance(value, bool):
            return None
        if isinstance(value, int | float):
            return _epoch(value)
        if isinstance(value, str):
            if re.fullmatch("[0-9]{9,}", value):
                return _epoch(int(value))
            if found := ISO.fullmatch(value):
                clock, zone, zulu = found.groups()
                if zone and len(re.split("[Tt ]", clock)) == 1:
                    return None  # a zone without a time of day
                utc = zulu or (zone or "").upper() == "UTC"
                return _utc(datetime.fromisoformat(clock.upper() + ("Z" if utc else zone or "")))
            if found := TWITTER.fullmatch(value):
                month, day_, hour, minute, second, sign, off_hours, off_minutes, year = found.groups()
                offset = timedelta(hours=int(off_hours), minutes=int(off_minutes))
                zone = timezone(-offset if sign == "-" else offset)
                clock = int(hour), int(minute), int(second)
                return _utc(datetime(int(year), MONTHS.index(month) + 1, int(day_), *clock, tzinfo=zone))
    except (ValueError, OverflowError):  # no such day, or outside the years 1 to 9999
        pass
    return None


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _epoch(number: float) -> datetime:
    if isinstance(number, int) and len(str(number)) == 14 and number > 0:
        try:
            return datetime.strptime(str(number), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            pass
    exact = Fraction(number)
    size = abs(exact)
    unit = 1 if size < 10**11 else 10**3 if size < 10**15 else 10**6 if size < 10**18 else 10**9  # of a second
    micros = exact * 1_000_000 / unit
    return EPOCH + timedelta(microseconds=math.floor(micros) if isinstance(number, int) else round(micros))


def _content(status: dict[str, Any]) -> tuple[object, list[Any] | None]:
    """Text and links of what the status says, whole; no links: those in the text."""
    body = _first(status, "text", "full_text")
    extended = status.get("extended_tweet")
    extended = extended if isinstance(extended, dict) and isinstance(extended.get("full_text"), str) else None
    body = extended["full_text"] if extended else body
    retweeted = status.get("retweeted_status")
    if isinstance(retweeted, dict):
        is_cut = (
            not isinstance(body, str) or re.search(r"(?:\u2026|\.\.\.)\s*\Z", body) or status.get("truncated") is True
        )
        if is_cut:
            inner = _content({name: value for name, value in retweeted.items() if name != "retweeted_status"})
            if isinstance(inner[0], str):
                return inner
    links = _urls(extended or status)
    if links and not extended and status.get("truncated") is True:
        itself = re.compile(r"https?://(www\.)?twitter\.com/i/web/status/[0-9]+")
        links = [url for url in links if not (isinstance(url, str) and itself.fullmatch(url))]
    quote = status.get("quoted_status_permalink")
    if links is not None and isinstance(quote, dict) and isinstance(quote.get("expanded"), str):
        links = links if quote["expanded"] in links else [*links, quote["expanded"]]
    return body, links


def _urls(status: dict[str, Any]) -> list[Any] | None:
    entities = status.get("entities")
    if isinstance(entities, dict) and isinstance(entities.get("urls"), list):
        return [url for item in entities["urls"] if isinstance(url := _expanded(item), str)]
    if isinstance(items := status.get("urls"), list):
        found = [item if isinstance(item, str) else _expanded(item) for item in items]
        return [url for url in found if isinstance(url, str)]
    return None


def _expanded(item: object) -> object:
    return _first(item, "expanded_url", "url") if isinstance(item, dict) else None


# --------------------------------------------------------------------------------------------------------- a day


@dataclass(frozen=True)
class DayResult:
    date: date
    posts: list[Post]
    read: int
    kept: int
    other_days: int
    duplicates: int
    rejected: Counter[str]
    notices: int = 0


def day(records: Iterable[bytes], date: date) -> DayResult:
    """The posts of one UTC day among these records, and what became of the others."""
    return _day(_parsed(records), date)


def window(records: Iterable[bytes], last: date, days: int) -> list[DayResult]:
    """The days of a window, oldest first, each computed by itself from all the records."""
    parsed = _parsed(records)
    return [_day(parsed, last - timedelta(days=back)) for back in reversed(range(days))]


def _parsed(records: Iterable[bytes]) -> list[Post | str]:
    return [parse(record) for record in records if record.strip()]


def _day(parsed: list[Post | str], date: date) -> DayResult:
    kept: dict[str, Post] = {}
    other_days = duplicates = 0
    notices = 0
    rejected: Counter[str] = Counter()
    for post in parsed:
        if post == NOTICE:
            notices += 1
        elif isinstance(post, str):
            rejected[post] += 1
        elif post.created_at.date() != date:
            other_days += 1
        else:
            if post.id in kept:
                duplicates += 1
            kept[post.id] = post
    return DayResult(date, list(kept.values()), len(parsed), len(kept), other_days, duplicates, rejected, notices)


# ------------------------------------------------------------------------------------------------- words and URLs


@dataclass(frozen=True)
class Rules:
    words: Callable[[Post], set[str]]
    url: Callable[[str], str]


def standard(fallback: Sequence[str] = ("en",)) -> Rules:
    return Rules(lambda post: standard_words(post.text, post.lang, fallback), standard_url)


CLASSIC = Rules(lambda post: classic_words(post.text), classic_url)
STANDARD = standard()
RULES = {"classic": CLASSIC, "standard": STANDARD}

# ------------------------------------------------------------------------------------------------------ the tables

Pair = tuple[str, str]


class Tables(TypedDict):
    word_counts: list[tuple[str, float]]
    urls: list[tuple[str, int]]
    word_cooccur: list[tuple[str, str, int, float]]
    emerging_pairs: list[tuple[str, str, int, int, float]]
    posts_by_hour: list[tuple[datetime, int]]


def tables(posts: list[Post], previous: list[Post], date: date, rules: Rules | str) -> Tables:
    """The tables of the window of `posts` that ends with `date`; `previous` is the equally long window before it.

    posts_by_hour, ascending, has only hours with posts. word_cooccur is ranked by log_weight.
    """
    if isinstance(rules, str):
        rules = RULES[rules]
    end = datetime.combine(date + timedelta(days=1), time(), UTC)
    if any(post.created_at >= end for post in posts + previous):
        raise ValueError(f"a post is later than the window's end, {end}")

    n, m = len(posts), len(previous)
    words: Counter[str] = Counter()
    urls: Counter[str] = Counter()
    hours: Counter[datetime] = Counter()
    for post in posts:
        words.update(rules.words(post))
        urls.update(rules.url(url) for url in post.urls)
        hours[post.created_at.replace(minute=0, second=0, microsecond=0)] += 1
    pairs = _pairs(posts, rules)
    before = _pairs(previous, rules)

    percent = {word: count / n for word, count in words.items()}
    cooccur = [(w1, w2, count, log_weight(count, percent[w1], percent[w2])) for (w1, w2), count in pairs.items()]
    emerging = [
        (w1, w2, count, before[w1, w2], z_score(count, n, before[w1, w2], m))
        for (w1, w2), count in pairs.items()
        if count >= 5
    ]
    return {
        "word_counts": sorted(percent.items(), key=lambda row: (-row[1], row[0]))[:500],
        "urls": sorted(urls.items(), key=lambda row: (-row[1], row[0]))[:300],
        "word_cooccur": sorted(cooccur, key=lambda row: (-row[3], row[0], row[1]))[:300],
        "emerging_pairs": sorted(emerging, key=lambda row: (-row[4], row[0], row[1]))[:100],
        "posts_by_hour": sorted(hours.items()),
    }


def _pairs(posts: list[Post], rules: Rules) -> Counter[Pair]:
    pairs: Counter[Pair] = Counter()
    for post in posts:
        pairs.update(combinations(sorted(rules.words(post)), 2))
    return pairs


def log_weight(count: int, percent1: float, percent2: float) -> float:
    return count * math.log(min(1 / percent1, 1 / percent2))


def z_score(y: int, n: int, x: int, m: int) -> float:
    """Of y of n posts against x of m: Monroe, Colaresi and Quinn (2008), equations 15 to 22, with a Beta(0.5, 0.5)
    prior; a post is the trial.
    """
    delta = math.log((y + 0.5) / (n - y + 0.5)) - math.log((x + 0.5) / (m - x + 0.5))
    variance = 1 / (y + 0.5) + 1 / (x + 0.5)
    return delta / math.sqrt(variance)


def chain(records: Iterable[bytes], date: date, days: int, rules: Rules | str) -> Tables:
    """From raw records to the tables of the window of `days` days that ends with `date`."""
    results = window(records, date, 2 * days)
    previous = [post for result in results[:days] for post in result.posts]
    posts = [post for result in results[days:] for post in result.posts]
    return tables(posts, previous, date, rules)


# --------------------------------------------------------------------------------------------------------- a source


def read_source(path: str | Path) -> Iterator[bytes]:
    """The raw records of a file: its lines, or the statuses of a Twitter API v1.1 response; plain, .gz or .bz2."""
    data = Path(path).read_bytes()
    if str(path).endswith(".gz"):
        data = gzip.decompress(data)
    elif str(path).endswith(".bz2"):
        data = bz2.decompress(data)

    statuses = _response(data)
    if statuses is not None:
        for status in statuses:
            yield json.dumps(status).encode()
    elif data:
        yield from data.removesuffix(b"\n").split(b"\n")


def _response(data: bytes) -> list[Any] | None:
    """The statuses, where the whole file is one JSON array, or one object with a list `statuses`."""
    try:
        whole = json.loads(data.removeprefix(BOM).decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if isinstance(whole, dict):
        whole = whole.get("statuses")
    return whole if isinstance(whole, list) else None

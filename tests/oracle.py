"""What the whole posts chain must give, computed the slow and obvious way.

This is the tests' second opinion: plain dicts and Counters, every post held in memory, nothing shared with the
pipelines. Where the two differ, one of them is wrong.
"""

import bz2
import gzip
import html
import importlib
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from fractions import Fraction
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any, NoReturn, TypedDict
from urllib.parse import urlsplit

import stopwordsiso

regex: Any = importlib.import_module("regex")  # it has no types of its own

# ------------------------------------------------------------------------------------------------------ a record

LONGEST = 1_048_576
BOM = b"\xef\xbb\xbf"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

REASONS = ("line too long", "bad UTF-8", "bad JSON", "no id", "bad created_at", "no text")

URL = re.compile(r"https?://\S+", re.IGNORECASE)
URL_TAIL = ".,;:!?)]}'\"`" + "\u00bb\u201d\u2019\u2026"  # the last four: » ” right single quote …

ISO = re.compile(
    r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}|[0-9]{4}-W[0-9]{2}(?:-[0-9])?|[0-9]{4}W[0-9]{2}[0-9]?)"
    r"(?:[Tt ][0-9:.,]+(?:[Zz]|[+-][0-9:.,]+)?)?"
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

    post_id = _id(_first(status, "tid", "id", "id_str"))
    if post_id is None:
        return "no id"
    created_at = _moment(status.get("created_at"))
    if created_at is None:
        return "bad created_at"
    body = _first(status, "text", "full_text")
    if not isinstance(body, str) or not body.strip():
        return "no text"

    user = status.get("user")
    if isinstance(user, dict):
        user = user.get("screen_name")
    lang = status.get("lang")
    return Post(
        id=post_id,
        created_at=created_at,
        user=user if isinstance(user, str) else None,
        text=body,
        urls=_urls(status, body),
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
            if ISO.fullmatch(value):
                return _utc(datetime.fromisoformat(value.upper()))
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
    exact = Fraction(number)
    seconds = exact if abs(exact) < 10**11 else exact / 1000
    return EPOCH + timedelta(microseconds=round(seconds * 1_000_000))


def _urls(status: dict[str, object], text: str) -> list[str]:
    entities = status.get("entities")
    if isinstance(entities, dict) and isinstance(entities.get("urls"), list):
        found = [_expanded(item) for item in entities["urls"]]
    elif isinstance(items := status.get("urls"), list):
        found = [item if isinstance(item, str) else _expanded(item) for item in items]
    else:
        found = [url.rstrip(URL_TAIL) for url in URL.findall(text)]
    return [url for url in found if isinstance(url, str)]


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
    rejected: Counter[str] = Counter()
    for post in parsed:
        if isinstance(post, str):
            rejected[post] += 1
        elif post.created_at.date() != date:
            other_days += 1
        else:
            if post.id in kept:
                duplicates += 1
            kept[post.id] = post
    return DayResult(date, list(kept.values()), len(parsed), len(kept), other_days, duplicates, rejected)


# ------------------------------------------------------------------------------------------------- words and URLs

STOP_LIST = (
    "a amp an and are as at be been but by co do for has have he her him his https if in is it me my no not of on or "
    "rt s she so t than that the they this to us was we what with you your who when via"
)
CLASSIC_STOP = set(STOP_LIST.split()) | set("abcdefghijklmnopqrstuvwxyz")


def classic_words(text: str) -> set[str]:
    return {word.lower() for word in re.findall("[A-Za-z']+", text)} - CLASSIC_STOP


def classic_url(url: str) -> str:
    return url.lower()


CURLY = "\u2019"
MENTION = re.compile(r"@\w+")
WORD = regex.compile(r"[\p{L}\p{N}][\p{L}\p{M}\p{N}]*(?:['\u2019][\p{L}\p{M}\p{N}]+)*")
LETTER = regex.compile(r"\p{L}")
NOISE = {"rt", "via", "amp"}
OLD_CODES = {"in": "id", "iw": "he"}


def standard_words(text: str, lang: str | None, fallback: Sequence[str] = ("en",)) -> set[str]:
    words = set()
    for chunk in text.split():
        if "&" in chunk:
            chunk = html.unescape(chunk)
        chunk = MENTION.sub(" ", URL.sub(" ", chunk))
        for word in WORD.findall(_folded(chunk)):
            word = word.replace(CURLY, "'")
            if LETTER.search(word) and not (len(word) == 1 and word.isascii()):
                words.add(word)
    return words - NOISE - _stop_words(_language(lang), tuple(fallback))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _language(lang: str | None) -> str | None:
    if lang is None:
        return None
    code = re.split("[-_]", lang)[0].lower()
    return OLD_CODES.get(code, code)


@cache
def _stop_words(language: str | None, fallback: tuple[str, ...]) -> frozenset[str]:
    """A language's list, written as words are (case folding may undo NFC: without the second NFC, 28 of the Greek
    entries could never meet a word)."""
    known = language is not None and language != "und" and stopwordsiso.has_lang(language)
    languages = [language] if language is not None and known else list(fallback)
    return frozenset(_folded(entry).replace(CURLY, "'") for entry in stopwordsiso.stopwords(languages))


TRACKING = "fbclid gclid dclid gbraid wbraid msclkid mc_cid mc_eid igshid yclid twclid ttclid _ga ref_src"
DEFAULT_PORT = {"http": 80, "https": 443}


def standard_url(url: str) -> str:
    plain = url.strip()
    try:
        parts = urlsplit(plain)
        host, port = parts.hostname, parts.port
    except ValueError:
        return plain
    if parts.scheme not in DEFAULT_PORT or not host:
        return plain

    user, at, place = parts.netloc.rpartition("@")
    if port is None:
        place = place.removesuffix(":")
    elif port == DEFAULT_PORT[parts.scheme]:
        place = re.sub(":[0-9]*$", "", place)
    parameters = [parameter for parameter in parts.query.split("&") if not _tracks(parameter)]
    query = "&".join(parameters)
    return parts.scheme + "://" + user + at + place.lower() + parts.path + ("?" + query if query else "")


def _tracks(parameter: str) -> bool:
    name = parameter.partition("=")[0].lower()
    return name.startswith("utm_") or name in TRACKING.split()


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
    prior; a post is the trial."""
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


def _response(data: bytes) -> list[object] | None:
    """The statuses, where the whole file is one JSON array, or one object with a list `statuses`."""
    try:
        whole = json.loads(data.removeprefix(BOM).decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if isinstance(whole, dict):
        whole = whole.get("statuses")
    return whole if isinstance(whole, list) else None

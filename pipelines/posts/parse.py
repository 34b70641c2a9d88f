"""A raw record → a post, or the reason why it can't be one. The one home of what a post is."""

import contextlib
import datetime
import json
import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, NoReturn

import msgspec

from millrace.beam.sources.records import Rejected as Rejected
from pipelines.posts import links, markup

#: A record longer than this (bytes) is rejected unread.
MAX_RECORD = 1 << 20

# Reasons for rejection, in the order in which they are looked for.
TOO_LONG = "line too long"
BAD_UTF8 = "bad UTF-8"
BAD_JSON = "bad JSON"
NO_ID = "no id"
BAD_CREATED_AT = "bad created_at"
NO_TEXT = "no text"
#: A notice of the streaming API is neither a post nor a reject; its reader counts it apart.
NOTICE = "notice"

DAY = 86_400_000_000  # microseconds

_BOM = "\ufeff"
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
FIRST = (datetime.datetime(1, 1, 1, tzinfo=datetime.UTC) - _EPOCH) // _MICROSECOND
_LAST = (datetime.datetime.max.replace(tzinfo=datetime.UTC) - _EPOCH) // _MICROSECOND
#: Numbers below these are seconds, milliseconds, microseconds: in the unit before they would lie beyond the year 5138.
SECONDS, _MILLISECONDS, _MICROSECONDS = 10**11, 10**15, 10**18
#: Digits from which on Python may refuse to read an integer.
_HUGE = re.compile(r"\d{640}", re.ASCII)
_DIGITS = re.compile(r"\d{9,}", re.ASCII)
_ISO = re.compile(
    r"(?:\d{4}-\d\d-\d\d|\d{8}|\d{4}-W\d\d(?:-\d)?|\d{4}W\d\d\d?)"
    r"(?:[Tt ][\d:.,]+(?:[Zz]|(?P<space> )?(?:(?P<utc>[Uu][Tt][Cc])|[-+][\d:.,]+))?)?",
    re.ASCII,
)
#: A time without separators, as a number: 20260302090000.
_COMPACT = range(10**13, 10**14)
_TWITTER = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (\w{3}) (\d\d?) (\d\d):(\d\d):(\d\d) ([+-])([01]\d|2[0-3])([0-5]\d) (\d{4})",
    re.ASCII,
)
_MONTHS = {m: i for i, m in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
#: Of these fields the first one decides that is not null.
IDS, TEXTS = ("tid", "id_str", "id"), ("text", "full_text")
#: A record in which one of these fields stands is not of the ordinary shape.
STRANGE = frozenset(["entities", "extended_tweet", "quoted_status_permalink", "retweeted_status", "truncated"])
#: What the streaming API sends beside statuses, and the type that each has.
_NOTICES: Mapping[str, type] = {"event": str, "friends": list, "friends_str": list} | dict.fromkeys(
    "delete limit scrub_geo status_withheld user_withheld disconnect warning".split(), dict
)
#: Where a status that Twitter truncated leads: to itself.
_SELF = re.compile(r"https?://(?:www\.)?twitter\.com/i/web/status/\d+", re.ASCII)
_CUT = ("…", "...")


class Post(NamedTuple):
    """A post: id, created_at in microseconds since 1970 (UTC), user, text, urls, lang (both may be unknown)."""

    id: str
    created_at: int
    user: str | None
    text: str
    urls: Sequence[str]
    lang: str | None


class Ordinary(msgspec.Struct, gc=False):
    """The shape that most records have; any other record goes through `_object`, which is exact and slower."""

    tid: int | str | None = None
    id: int | str | None = None
    id_str: int | str | None = None
    text: str | None = None
    full_text: str | None = None
    created_at: str | int | float | None = None
    user: str | None = None
    urls: list[str] | None = None
    lang: str | None = None
    # STRANGE, so that a record that has one of them is known by it.
    entities: msgspec.Raw | None = None
    extended_tweet: msgspec.Raw | None = None
    quoted_status_permalink: msgspec.Raw | None = None
    retweeted_status: msgspec.Raw | None = None
    truncated: msgspec.Raw | None = None


decode_ordinary = msgspec.json.Decoder(Ordinary).decode


def is_ordinary(post: Ordinary) -> bool:
    """Return whether a record has no field but those of the ordinary shape."""
    return (
        post.entities
        is post.extended_tweet
        is post.quoted_status_permalink
        is post.retweeted_status
        is post.truncated
        is None
    )


def parse(record: bytes) -> Post:
    """Return the post of a record: a JSON object as bytes, white space around it allowed. Raises Rejected."""
    return parse_text(decoded(record))


def parse_text(record: str) -> Post:
    """Return the post of a record known to be UTF-8 and not too long; see `parse`."""
    try:
        post = decode_ordinary(record)
        id_ = _first(post.tid, post.id_str, post.id)
        if is_ordinary(post) and id_ is not None:
            text = _first(post.text, post.full_text)
            return _post(id_, post.created_at, text, post.user, post.lang, post.urls)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        pass
    status = _object(record)
    if _is_notice(status):
        raise Rejected(NOTICE)
    user = status.get("user")
    name = user.get("screen_name") if isinstance(user, dict) else user
    lang = status.get("lang")
    text, urls = _said(status)
    return _post(
        _first(*map(status.get, IDS)),
        status.get("created_at"),
        text,
        name if isinstance(name, str) else None,
        lang if isinstance(lang, str) else None,
        urls,
    )


def _first(*values: Any) -> Any:
    """Return the first of several values that is not null."""
    for value in values:
        if value is not None:
            return value
    return None


def created_at(record: bytes) -> int:
    """Return when the record's post was made, as in Post. Raises Rejected where the record does not show when."""
    text = decoded(record)
    try:
        value = _decode_created_at(text).created_at
    except (ValueError, RecursionError):
        value = None
    if value is None:
        status = _object(text)
        if _is_notice(status):
            raise Rejected(NOTICE)
        value = status.get("created_at")
    return microseconds(value)


def decoded(record: bytes) -> str:
    """Return a record as text. Raises Rejected for one that is too long or not UTF-8."""
    if len(record) > MAX_RECORD and len(record.removesuffix(b"\n").removesuffix(b"\r")) > MAX_RECORD:
        raise Rejected(TOO_LONG)
    try:
        return record.decode()
    except UnicodeDecodeError:
        raise Rejected(BAD_UTF8) from None


class _CreatedAt(msgspec.Struct, gc=False):
    created_at: str | int | float | None = None


_decode_created_at = msgspec.json.Decoder(_CreatedAt).decode


def microseconds(value: object) -> int:
    """Return a created_at of any accepted form → microseconds since 1970 (UTC). Raises Rejected.

    ISO 8601 with any offset (none means UTC), BigQuery's "2026-03-02 09:00:00 UTC", Twitter's "Wed Aug 27 13:08:45
    +0000 2008", 14 digits (20260302090000), or epoch seconds, milliseconds, microseconds or nanoseconds, which their
    size tells apart, as a number or as digits. What is finer than a microsecond is cut off.
    """
    try:
        if isinstance(value, str):
            if _DIGITS.fullmatch(value):
                micros = _number(int(value))
            elif iso := _ISO.fullmatch(value):
                plain = value[: iso.start("space")] + value[iso.end("space") :] if iso["space"] else value
                micros = _moment(plain[:-3] + "Z" if iso["utc"] else plain)
            elif twitter := _TWITTER.fullmatch(value):
                micros = _twitter(*twitter.groups())
            else:
                raise Rejected(BAD_CREATED_AT)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            micros = _number(value)
        else:
            raise Rejected(BAD_CREATED_AT)
    except (ValueError, OverflowError):
        raise Rejected(BAD_CREATED_AT) from None
    if not FIRST <= micros <= _LAST:
        raise Rejected(BAD_CREATED_AT)
    return micros


def _moment(iso: str) -> int:
    moment = datetime.datetime.fromisoformat(iso.upper())
    return ((moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)) - _EPOCH) // _MICROSECOND


def _number(value: int | float) -> int:
    if isinstance(value, int) and value in _COMPACT:
        with contextlib.suppress(ValueError):  # as milliseconds it is of another century, and good
            return _moment(f"{str(value)[:8]}T{str(value)[8:]}")
    size = abs(value)
    if size >= _MICROSECONDS:
        return value // 1000 if isinstance(value, int) else round(Fraction(value) / 1000)
    scale = 1_000_000 if size < SECONDS else 1_000 if size < _MILLISECONDS else 1
    return value * scale if isinstance(value, int) else round(Fraction(value) * scale)


def _twitter(month: str, day: str, hour: str, minute: str, second: str, sign: str, oh: str, om: str, year: str) -> int:
    offset = datetime.timedelta(hours=int(oh), minutes=int(om)) * (-1 if sign == "-" else 1)
    moment = datetime.datetime(
        int(year), _MONTHS.get(month, 0), int(day), int(hour), int(minute), int(second), tzinfo=datetime.UTC
    )
    return (moment - _EPOCH - offset) // _MICROSECOND


def _post(id_: object, created: object, text: object, user: str | None, lang: str | None, urls: Any) -> Post:
    if isinstance(id_, int) and not isinstance(id_, bool):
        name = str(id_)
    elif not isinstance(id_, str) or not (name := id_.strip()):
        raise Rejected(NO_ID)
    micros = microseconds(created)
    if not isinstance(text, str):
        raise Rejected(NO_TEXT)
    if text.startswith("<") and markup.is_html(text) and (read := markup.read(text)):
        text, linked = read
        urls = linked if urls is None else urls
    urls = links.urls(text) if urls is None else [url for url in urls if links.is_link(url)]
    return Post(name, micros, user, text, urls[: links.MAX_LINKS], lang)


def _is_notice(status: Mapping[str, Any]) -> bool:
    """Return whether an object is a notice of the streaming API, and no status."""
    if _first(*map(status.get, (*IDS, *TEXTS))) is not None:
        return False
    return any(isinstance(status.get(name), kind) for name, kind in _NOTICES.items())


def _said(status: Mapping[str, Any]) -> tuple[Any, list[str] | None]:
    """Return a status's text and links (None: they stand in the text); of a cut retweet, those of the retweeted one."""
    text, urls = _whole(status)
    retweeted = status.get("retweeted_status")
    cut = status.get("truncated") is True or not isinstance(text, str) or text.rstrip().endswith(_CUT)
    if cut and isinstance(retweeted, dict):
        original = _whole(retweeted)
        if isinstance(original[0], str):
            return original
    return text, urls


def _whole(status: Mapping[str, Any]) -> tuple[Any, list[str] | None]:
    """Return a status's own text and links, those of its `extended_tweet` where the status is truncated.

    A quote links to the quoted post.
    """
    extended = status.get("extended_tweet")
    if isinstance(extended, dict) and isinstance(extended.get("full_text"), str):
        text, urls = extended["full_text"], _urls(extended)
    else:
        text, urls = _first(*map(status.get, TEXTS)), _urls(status)
        if urls and status.get("truncated") is True:
            urls = [url for url in urls if not _SELF.fullmatch(url)]
    permalink = status.get("quoted_status_permalink")
    quoted = permalink.get("expanded") if isinstance(permalink, dict) else None
    if isinstance(quoted, str) and urls is not None and quoted not in urls:
        urls = [*urls, quoted]
    return text, urls


def _urls(fields: Mapping[str, Any]) -> list[str] | None:
    """Return the links of entities.urls, or else of urls; None where the text decides. No list is as no field."""
    entities = fields.get("entities")
    listed = entities.get("urls") if isinstance(entities, dict) else None
    if isinstance(listed, list):
        return [url for item in listed if (url := _url(item)) is not None]
    listed = fields.get("urls")
    if isinstance(listed, list):
        return [url for item in listed if (url := item if isinstance(item, str) else _url(item)) is not None]
    return None


def _url(item: object) -> str | None:
    """Return the expanded_url of an entity, its url where that is null."""
    if not isinstance(item, dict):
        return None
    expanded = item.get("expanded_url")
    url = item.get("url") if expanded is None else expanded
    return url if isinstance(url, str) else None


def _object(record: str) -> dict[str, Any]:
    record = record.removeprefix(_BOM)
    try:  # quicker by far, and what msgspec reads Python's own reader reads alike, but for what msgspec refuses
        fields = msgspec.json.decode(record)
    except (ValueError, RecursionError):
        fields = _exactly(record)
    if not isinstance(fields, dict):
        raise Rejected(BAD_JSON)
    return fields


def _exactly(record: str) -> Any:
    """Return a record's JSON, or raise Rejected; JSON sets numbers no limits, and msgspec does."""
    try:
        fields = json.loads(record, parse_constant=_refuse, parse_int=_integer if _HUGE.search(record) else None)
        # Escaped lone surrogates are no text: they can't be written as UTF-8.
        if "\\u" in record:
            json.dumps(fields, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Rejected(BAD_JSON) from None
    return fields


def _integer(digits: str) -> int | float:
    """Return a number for digits that Python won't read; their JSON is good all the same, though no id and no time."""
    try:
        return int(digits)
    except ValueError:
        return math.inf


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)

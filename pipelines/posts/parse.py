"""A raw record → a post, or the reason why it can't be one. The one home of what a post is."""

import datetime
import json
import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, NoReturn

import msgspec

#: A record longer than this (bytes) is rejected unread.
MAX_RECORD = 1 << 20

# Reasons for rejection, in the order in which they are looked for.
TOO_LONG = "line too long"
BAD_UTF8 = "bad UTF-8"
BAD_JSON = "bad JSON"
NO_ID = "no id"
BAD_CREATED_AT = "bad created_at"
NO_TEXT = "no text"

DAY = 86_400_000_000  # microseconds

_BOM = "\ufeff"
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_FIRST = (datetime.datetime(1, 1, 1, tzinfo=datetime.UTC) - _EPOCH) // _MICROSECOND
_LAST = (datetime.datetime.max.replace(tzinfo=datetime.UTC) - _EPOCH) // _MICROSECOND
#: Numbers of at least this size are milliseconds: as seconds they would lie beyond the year 5138.
_MILLISECONDS_FROM = 100_000_000_000
#: Digits from which on Python may refuse to read an integer.
_HUGE = re.compile(r"\d{640}", re.ASCII)
_DIGITS = re.compile(r"\d{9,}", re.ASCII)
_ISO = re.compile(
    r"(?:\d{4}-\d\d-\d\d|\d{8}|\d{4}-W\d\d(?:-\d)?|\d{4}W\d\d\d?)(?:[Tt ][\d:.,]+(?:[Zz]|[-+][\d:.,]+)?)?", re.ASCII
)
_TWITTER = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (\w{3}) (\d\d?) (\d\d):(\d\d):(\d\d) ([+-])([01]\d|2[0-3])([0-5]\d) (\d{4})",
    re.ASCII,
)
_MONTHS = {m: i for i, m in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_URL = re.compile(r"https?://\S+", re.IGNORECASE)
_URL_TAIL = ".,;:!?)]}'\"»”’…`"


class Post(NamedTuple):
    """A post: id, created_at in microseconds since 1970 (UTC), user, text, urls, lang (both may be unknown)."""

    id: str
    created_at: int
    user: str | None
    text: str
    urls: Sequence[str]
    lang: str | None


class Rejected(Exception):  # noqa: N818 (an outcome like any other)
    """Why a record can't be used; its text is one of the reasons above."""


class Ordinary(msgspec.Struct, gc=False):
    """The shape most records have; anything else goes through `_fields`, which is exact and slower."""

    tid: int | str | None = None
    id: int | str | None = None
    id_str: int | str | None = None
    text: str | None = None
    full_text: str | None = None
    created_at: str | int | float | None = None
    user: str | None = None
    urls: list[str] | None = None
    entities: msgspec.Raw | None = None
    lang: str | None = None


decode_ordinary = msgspec.json.Decoder(Ordinary).decode


def parse(record: bytes) -> Post:
    """Reads one record: a JSON object as bytes, white space around it allowed. Raises Rejected with the reason."""
    return parse_text(decoded(record))


def parse_text(record: str) -> Post:
    """Like `parse`, for a record known to be UTF-8 and not too long."""
    try:
        ordinary = decode_ordinary(record)
        if ordinary.entities is None:
            id_ = ordinary.tid if ordinary.tid is not None else ordinary.id
            return _post(
                id_ if id_ is not None else ordinary.id_str,
                ordinary.created_at,
                ordinary.text if ordinary.text is not None else ordinary.full_text,
                ordinary.user,
                ordinary.lang,
                ordinary.urls,
            )
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        pass
    fields = _object(record)
    user = fields.get("user")
    name = user.get("screen_name") if isinstance(user, dict) else user
    lang = fields.get("lang")
    return _post(
        next((v for k in ("tid", "id", "id_str") if (v := fields.get(k)) is not None), None),
        fields.get("created_at"),
        next((v for k in ("text", "full_text") if (v := fields.get(k)) is not None), None),
        name if isinstance(name, str) else None,
        lang if isinstance(lang, str) else None,
        _urls(fields),
    )


def created_at(record: bytes) -> int:
    """Only when the record's post was made, as in Post. Raises Rejected where the record does not show it."""
    text = decoded(record)
    try:
        value = _decode_created_at(text).created_at
    except (ValueError, RecursionError):
        value = _object(text).get("created_at")
    return microseconds(value)


def decoded(record: bytes) -> str:
    """A record as text. Raises Rejected for one that is too long or not UTF-8."""
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
    """A created_at of any accepted form → microseconds since 1970 (UTC). Raises Rejected.

    ISO 8601 with any offset (none means UTC), Twitter's "Wed Aug 27 13:08:45 +0000 2008", or epoch seconds or
    milliseconds, as a number or as digits. What is finer than a microsecond is cut off.
    """
    try:
        if isinstance(value, str):
            if _DIGITS.fullmatch(value):
                micros = _epoch(int(value))
            elif _ISO.fullmatch(value):
                moment = datetime.datetime.fromisoformat(value.upper())
                micros = ((moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)) - _EPOCH) // _MICROSECOND
            elif twitter := _TWITTER.fullmatch(value):
                micros = _twitter(*twitter.groups())
            else:
                raise Rejected(BAD_CREATED_AT)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            micros = _epoch(value)
        else:
            raise Rejected(BAD_CREATED_AT)
    except (ValueError, OverflowError):
        raise Rejected(BAD_CREATED_AT) from None
    if not _FIRST <= micros <= _LAST:
        raise Rejected(BAD_CREATED_AT)
    return micros


def _epoch(value: int | float) -> int:
    scale = 1_000_000 if abs(value) < _MILLISECONDS_FROM else 1_000
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
    if not isinstance(text, str) or not text or text.isspace():
        raise Rejected(NO_TEXT)
    return Post(name, micros, user, text, urls_in(text) if urls is None else urls, lang)


def urls_in(text: str) -> list[str]:
    """The URLs that stand in a text, without the punctuation that follows them."""
    return [url.rstrip(_URL_TAIL) for url in _URL.findall(text)] if "://" in text else []


def _urls(fields: Mapping[str, Any]) -> list[str] | None:
    """entities.urls decides, else urls, else (None) the text; a field that is not a list is not there."""
    entities = fields.get("entities")
    listed = entities.get("urls") if isinstance(entities, dict) else None
    if isinstance(listed, list):
        return [url for item in listed if (url := _url(item)) is not None]
    listed = fields.get("urls")
    if isinstance(listed, list):
        return [url for item in listed if (url := item if isinstance(item, str) else _url(item)) is not None]
    return None


def _url(item: object) -> str | None:
    """The expanded_url of an entity, its url where that is null."""
    if not isinstance(item, dict):
        return None
    expanded = item.get("expanded_url")
    url = item.get("url") if expanded is None else expanded
    return url if isinstance(url, str) else None


def _object(record: str) -> dict[str, Any]:
    record = record.removeprefix(_BOM)
    try:
        fields = json.loads(record, parse_constant=_refuse, parse_int=_integer if _HUGE.search(record) else None)
        # Escaped lone surrogates are no text: they can't be written as UTF-8.
        if "\\u" in record:
            json.dumps(fields, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Rejected(BAD_JSON) from None
    if not isinstance(fields, dict):
        raise Rejected(BAD_JSON)
    return fields


def _integer(digits: str) -> int | float:
    """Integers that Python won't read are good JSON all the same, though no id and no time."""
    try:
        return int(digits)
    except ValueError:
        return math.inf


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)

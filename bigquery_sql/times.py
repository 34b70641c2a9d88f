"""Dates and times as text, by GoogleSQL's rules: literals and casts, FORMAT_* and PARSE_*."""

import datetime
import re
from collections.abc import Callable

from bigquery_sql.scalars import Known

_DATE = r"(\d{4})-(\d{1,2})-(\d{1,2})"
_CLOCK = r"(\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.(\d{1,6})\d{0,3})?"
_ZONE = r"(Z|z|[+-]\d{1,2}(?::?\d{2})?| ?UTC| [A-Za-z_]+(?:/[A-Za-z0-9_+-]+)+)?"
_MONTHS = "January February March April May June July August September October November December".split()
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_EPOCH = datetime.datetime(1970, 1, 1)
#: What is made of other elements.
_MADE_OF = {
    "F": "%Y-%m-%d",
    "T": "%H:%M:%S",
    "R": "%H:%M",
    "D": "%m/%d/%y",
    "x": "%m/%d/%y",
    "X": "%H:%M:%S",
    "r": "%I:%M:%S %p",
    "c": "%a %b %e %H:%M:%S %Y",
}
_OF_A_CLOCK = set("HIklMSpPTRXrcs") | {"E*S"}
_OF_A_DAY = set("AaBbhCDdeFGgjmuUVwWxYyQcs") | {"E4Y"}


def date_text(text: str) -> str:
    """Return a date's text in DuckDB's words."""
    found = re.fullmatch(rf"\s*{_DATE}\s*", text, re.ASCII)
    if not found:
        raise ValueError(f'Invalid date: "{text}"')
    return _day(text, *found.groups())


def time_text(text: str) -> str:
    """Return a TIME's text in DuckDB's words."""
    found = re.fullmatch(rf"\s*{_CLOCK}\s*", text, re.ASCII)
    if not found:
        raise ValueError(f'Invalid time string "{text}"')
    return _clock(text, *found.groups())


def datetime_text(text: str) -> str:
    """Return a DATETIME's text in DuckDB's words."""
    found = re.fullmatch(rf"\s*{_DATE}(?:[ Tt]{_CLOCK})?\s*", text, re.ASCII)
    if not found:
        raise ValueError(f'Invalid datetime string "{text}"')
    return _day(text, *found.groups()[:3]) + " " + _clock(text, *found.groups()[3:])


def timestamp_text(text: str) -> str:
    """Return a TIMESTAMP's text in DuckDB's words: with its zone, or UTC where it names none."""
    found = re.fullmatch(rf"\s*{_DATE}(?:[ Tt]{_CLOCK})?{_ZONE}\s*", text, re.ASCII)
    if not found:
        raise ValueError(f'Invalid timestamp: "{text}"')
    zone = (found[8] or "UTC").strip()
    if zone[0] in "+-":
        hours, minutes = zone[1:].replace(":", "").rjust(2, "0"), "00"
        if len(hours) > 2:
            hours, minutes = hours[:-2].rjust(2, "0"), hours[-2:]
        if int(hours) > 14 or int(minutes) > 59:
            raise ValueError(f'Invalid timestamp: "{text}"')
        zone = f"{zone[0]}{hours}:{minutes}"
    elif zone in "Zz" or zone == "UTC":
        zone = "+00:00"
    else:
        zone = f" {zone}"
    return _day(text, *found.groups()[:3]) + " " + _clock(text, *found.groups()[3:7]) + zone


def _day(text: str, year: str, month: str, day: str) -> str:
    try:
        return datetime.date(int(year), int(month), int(day)).isoformat()
    except ValueError:
        raise ValueError(f'Invalid date: "{text}"') from None


def _clock(text: str, hour: str | None, minute: str | None, second: str | None, part: str | None) -> str:
    try:
        micros = int((part or "0").ljust(6, "0"))
        return datetime.time(int(hour or 0), int(minute or 0), int(second or 0), micros).isoformat()
    except ValueError:
        raise ValueError(f'Invalid time: "{text}"') from None


def offset(seconds: int, colon: bool) -> str:
    """Return a zone's distance from UTC: +0530, or +05:30."""
    sign, minutes = "-" if seconds < 0 else "+", abs(seconds) // 60
    return f"{sign}{minutes // 60:02}{':' if colon else ''}{minutes % 60:02}"


def offset_short(micros: int) -> str:
    """Return a zone's distance from UTC as STRING(timestamp, zone) writes it: +00, or +05:30."""
    return offset(micros // 1_000_000, True).removesuffix(":00")


def _elements(form: str) -> list[str]:
    """Return a format string in pieces: %X with its letters, or text."""
    pieces: list[str] = []
    for piece in re.findall(r"%E\*S|%E4Y|%E[0-9]S|%Ez|%.|[^%]+|%", form, re.DOTALL):
        made = _MADE_OF.get(piece[1:]) if piece.startswith("%") else None
        pieces += _elements(made) if made else [piece]
    return pieces


def format_time(kind: str, form: str, at: datetime.datetime, east: int, zone: str) -> str:
    """Return FORMAT_DATE, FORMAT_DATETIME, FORMAT_TIME or FORMAT_TIMESTAMP.

    kind: which of them. at: the local time. east: seconds east of UTC.
    """
    return "".join(
        _formatted(kind, piece[1:], at, east, zone) if piece.startswith("%") else piece for piece in _elements(form)
    )


def _formatted(kind: str, element: str, at: datetime.datetime, east: int, zone: str) -> str:
    if (kind == "DATE" and (element in _OF_A_CLOCK or element.endswith("S"))) or (
        kind == "TIME" and element in _OF_A_DAY
    ):
        raise ValueError(f"%{element} is no format element of FORMAT_{kind}")
    if element in ("z", "Ez", "Z") and kind != "TIMESTAMP":
        raise ValueError(f"%{element} is no format element of FORMAT_{kind}")
    if element == "Z" and zone != "UTC":
        raise ValueError("%Z of a zone other than UTC is not supported on one machine; %z is")
    if seconds := re.fullmatch(r"E([0-9])S", element):
        digits = int(seconds[1])
        return f"{at.second:02}" + (f".{at.microsecond:06}000"[: digits + 1] if digits else "")
    writer = _WRITERS.get(element)
    if writer is None:
        raise ValueError(f"format element %{element} is not supported on one machine")
    if element == "s":
        return str((at - _EPOCH) // datetime.timedelta(seconds=1) - east)
    return offset(east, element == "Ez") if element in ("z", "Ez") else writer(at)


def _sunday_week(at: datetime.datetime, first: int) -> str:
    return f"{(at.timetuple().tm_yday + 6 - (at.isoweekday() - first) % 7) // 7:02}"


def _fraction(at: datetime.datetime) -> str:
    return f"{at.second:02}.{at.microsecond:06}".rstrip("0").rstrip(".") if at.microsecond else f"{at.second:02}"


_WRITERS: dict[str, Callable[[datetime.datetime], str]] = {
    "A": lambda at: _DAYS[at.weekday()],
    "a": lambda at: _DAYS[at.weekday()][:3],
    "B": lambda at: _MONTHS[at.month - 1],
    "b": lambda at: _MONTHS[at.month - 1][:3],
    "h": lambda at: _MONTHS[at.month - 1][:3],
    "C": lambda at: f"{at.year // 100:02}",
    "d": lambda at: f"{at.day:02}",
    "e": lambda at: f"{at.day:2}",
    "G": lambda at: str(at.isocalendar().year),
    "g": lambda at: f"{at.isocalendar().year % 100:02}",
    "H": lambda at: f"{at.hour:02}",
    "I": lambda at: f"{(at.hour + 11) % 12 + 1:02}",
    "j": lambda at: f"{at.timetuple().tm_yday:03}",
    "k": lambda at: f"{at.hour:2}",
    "l": lambda at: f"{(at.hour + 11) % 12 + 1:2}",
    "M": lambda at: f"{at.minute:02}",
    "m": lambda at: f"{at.month:02}",
    "n": lambda at: "\n",
    "P": lambda at: "am" if at.hour < 12 else "pm",
    "p": lambda at: "AM" if at.hour < 12 else "PM",
    "Q": lambda at: str((at.month + 2) // 3),
    "S": lambda at: f"{at.second:02}",
    "s": lambda at: "",
    "t": lambda at: "\t",
    "U": lambda at: _sunday_week(at, 7),
    "u": lambda at: str(at.isoweekday()),
    "V": lambda at: f"{at.isocalendar().week:02}",
    "W": lambda at: _sunday_week(at, 1),
    "w": lambda at: str(at.isoweekday() % 7),
    "Y": lambda at: str(at.year),
    "y": lambda at: f"{at.year % 100:02}",
    "Z": lambda at: "UTC",
    "z": lambda at: "",
    "%": lambda at: "%",
    "E*S": _fraction,
    "E4Y": lambda at: f"{at.year:04}",
    "Ez": lambda at: "",
}

_READ = {
    "Y": r"(?P<Y>\d{1,4})",
    "E4Y": r"(?P<Y>\d{4})",
    "y": r"(?P<y>\d{1,2})",
    "m": r"(?P<m>\d{1,2})",
    "d": r"\s*(?P<d>\d{1,2})",
    "e": r"\s*(?P<d>\d{1,2})",
    "H": r"\s*(?P<H>\d{1,2})",
    "k": r"\s*(?P<H>\d{1,2})",
    "I": r"\s*(?P<I>\d{1,2})",
    "l": r"\s*(?P<I>\d{1,2})",
    "M": r"(?P<M>\d{1,2})",
    "S": r"(?P<S>\d{1,2})",
    "E*S": r"(?P<S>\d{1,2})(?:\.(?P<f>\d{1,6})\d*)?",
    "p": r"(?P<p>[AaPp][Mm])",
    "P": r"(?P<p>[AaPp][Mm])",
    "j": r"(?P<j>\d{1,3})",
    "s": r"(?P<s>-?\d+)",
    "z": r"(?P<z>[Zz]|[+-]\d{2}:?\d{2})",
    "Ez": r"(?P<z>[Zz]|[+-]\d{2}:?\d{2})",
    "Z": r"(?P<Z>UTC)",
    "n": r"\s+",
    "t": r"\s+",
    "%": "%",
    "B": "(?P<B>" + "|".join([*_MONTHS, *(name[:3] for name in _MONTHS)]) + ")",
    "A": "(?:" + "|".join([*_DAYS, *(name[:3] for name in _DAYS)]) + ")",
}
_READ |= {"b": _READ["B"], "h": _READ["B"], "a": _READ["A"]}


def parse_time(kind: str, form: str, text: str) -> str:
    """Return PARSE_DATE, PARSE_DATETIME, PARSE_TIME or PARSE_TIMESTAMP in DuckDB's words, in UTC where the text names a
    zone.
    """
    pattern = ""
    for piece in _elements(form):
        element = piece[1:]
        if not piece.startswith("%"):
            pattern += re.sub(r"(\\?\s)+", r"\\s*", re.escape(piece))
            continue
        of_other = (kind == "DATE" and (element in _OF_A_CLOCK or element.endswith("S"))) or (
            kind == "TIME" and element in _OF_A_DAY
        )
        if element not in _READ or of_other or (element in ("z", "Ez", "Z", "s") and kind != "TIMESTAMP"):
            raise ValueError(f"format element %{element} of PARSE_{kind} is not supported on one machine")
        pattern += _READ[element]
    try:
        found = re.fullmatch(rf"\s*{pattern}\s*", text, re.ASCII | re.IGNORECASE)
    except re.error:
        raise ValueError(f"a format with an element twice is not supported on one machine: {form}") from None
    if not found:
        raise ValueError(f'Failed to parse input string "{text}"')
    return _read({name: each for name, each in found.groupdict().items() if each is not None}, text)


def _read(parts: dict[str, str], text: str) -> str:
    if "s" in parts:
        return str(_EPOCH + datetime.timedelta(seconds=int(parts["s"])))
    year = int(parts.get("Y", 1970))
    if "y" in parts:
        year = int(parts["y"]) + (2000 if int(parts["y"]) < 69 else 1900)
    month = int(parts.get("m", 1))
    if "B" in parts:
        month = [name[:3].lower() for name in _MONTHS].index(parts["B"][:3].lower()) + 1
    hour = int(parts.get("H", 0))
    if "I" in parts:
        hour = int(parts["I"]) % 12 + (12 if parts.get("p", "am").lower() == "pm" else 0)
        if not 1 <= int(parts["I"]) <= 12:
            raise ValueError(f'Failed to parse input string "{text}"')
    micros = int(parts.get("f", "0").ljust(6, "0"))
    try:
        at = datetime.datetime(
            year, month, int(parts.get("d", 1)), hour, int(parts.get("M", 0)), int(parts.get("S", 0)), micros
        )
    except ValueError:
        raise ValueError(f'Failed to parse input string "{text}"') from None
    if "j" in parts:
        at = at.replace(month=1, day=1) + datetime.timedelta(days=int(parts["j"]) - 1)
    if (zone := parts.get("z", "Z")) not in "Zz":
        digits = zone.replace(":", "")
        east = datetime.timedelta(hours=int(digits[1:3]), minutes=int(digits[3:]))
        at = at - east if zone[0] == "+" else at + east
    return str(at)


_TEXT = ["VARCHAR"]
#: Name → function, types of its arguments, type of its result.
FUNCTIONS: dict[str, Known] = {
    "py_date_text": (date_text, _TEXT, "VARCHAR"),
    "py_time_text": (time_text, _TEXT, "VARCHAR"),
    "py_datetime_text": (datetime_text, _TEXT, "VARCHAR"),
    "py_timestamp_text": (timestamp_text, _TEXT, "VARCHAR"),
    "py_offset_short": (offset_short, ["BIGINT"], "VARCHAR"),
    "py_format_time": (format_time, ["VARCHAR", "VARCHAR", "TIMESTAMP", "BIGINT", "VARCHAR"], "VARCHAR"),
    "py_parse_time": (parse_time, ["VARCHAR", "VARCHAR", "VARCHAR"], "VARCHAR"),
}

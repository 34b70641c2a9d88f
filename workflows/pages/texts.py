"""How pages write days, shares and times."""

import datetime

_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def day_text(date: datetime.date) -> str:
    """Write a day in full, without its weekday: `19 November 2026`."""
    return f"{date.day} {_MONTHS[date.month - 1]} {date.year}"


def short_day(date: datetime.date) -> str:
    """Write a day in short: `Thu 19 Nov`."""
    return f"{weekday(date)} {date.day} {_MONTHS[date.month - 1][:3]}"


def weekday(date: datetime.date) -> str:
    """Write a day of the week in short: `Thu`."""
    return _WEEKDAYS[date.weekday()]


def span_text(first: datetime.date, last: datetime.date) -> str:
    """Write a span of days as briefly as is clear: `13 – 19 November 2026`, `28 October – 3 November 2026`."""
    if first == last:
        return day_text(last)
    if first.year != last.year:
        return f"{day_text(first)} – {day_text(last)}"
    if first.month != last.month:
        return f"{first.day} {_MONTHS[first.month - 1]} – {day_text(last)}"
    return f"{first.day} – {day_text(last)}"


def percent_text(fraction: float) -> str:
    """Write a fraction as a percentage with the digits that say something: `12.3 %`, `0.45 %`."""
    percent = fraction * 100
    return f"{percent:.1f} %" if percent >= 1 else f"{percent:.2f} %" if percent >= 0.01 else f"{percent:.1g} %"


def seconds_text(seconds: float) -> str:
    """Write a time as people read it: `0.42 s`, `12.3 s`, `4 min 05 s`."""
    if seconds < 100:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"

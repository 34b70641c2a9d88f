"""URLs: where they stand in a text, and which of those that a record lists are links."""

import re
from collections.abc import Iterator

#: A post's links beyond so many are not counted, so that one hostile post can't stop a day.
MAX_LINKS = 1000

_BEGIN = re.compile(r"https?://", re.IGNORECASE)
_OPENING, _CLOSING = "([{（「『【《〈“‘«", ")]}）」』】》〉”’»"
_CLOSED_BY = dict(zip(_OPENING, _CLOSING, strict=True))
#: What a URL never holds, and the brackets, which a URL holds in pairs.
_RUN = re.compile(f'[^\\s<>"…{re.escape(_OPENING + _CLOSING)}]*')
_TAIL = ".,;:!?'`*。、，．：；！？"
#: What is left of a URL that was cut.
_STUMPS = frozenset(["", "htt", *(scheme + rest for scheme in ("http", "https") for rest in ("", ":", ":/", "://"))])


def find(text: str) -> Iterator[tuple[int, int, str | None]]:
    """Yield (start, end, URL) of each URL in a text; None for a URL that an ellipsis cuts or that is a scheme alone.

    A URL ends before a closing bracket or quotation mark that it did not open, and before the punctuation that follows.
    """
    at = 0
    while begin := _BEGIN.search(text, at):
        at = _end(text, begin.end())
        url = text[begin.start() : at].rstrip(_TAIL)
        yield begin.start(), at, url if is_link(url) and not text.startswith("…", at) else None


def _end(text: str, at: int) -> int:
    expected: list[str] = []
    while True:
        at = _RUN.match(text, at).end()  # type: ignore[union-attr]  # nothing at all matches too
        char = text[at : at + 1]
        if closing := _CLOSED_BY.get(char):
            expected.append(closing)
        elif not expected or char != expected.pop():
            return at
        at += 1


def urls(text: str) -> list[str]:
    """Return the links that stand in a text."""
    return [url for _, _, url in find(text) if url is not None] if "://" in text else []


def without(text: str) -> str:
    """Return the text with a space in place of each URL, cut ones included."""
    parts, at = [], 0
    for start, end, _ in find(text):
        parts.append(text[at:start])
        at = end
    return " ".join([*parts, text[at:]])


def is_link(url: str) -> bool:
    """Return whether a URL that a record lists is a link: neither empty nor cut."""
    url = url.strip()
    return not url.endswith("…") and url.lower() not in _STUMPS

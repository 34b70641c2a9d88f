"""HTML: references in any text, and texts that are HTML, as Mastodon has them."""

import html
import re
from html.parser import HTMLParser

from pipelines.posts import links

#: A longer text is not read as HTML, so that one hostile post can't stop a day.
MAX_HTML = 100_000

_BLOCKS = "p|div|blockquote|ul|ol|li|pre|h[1-6]"
_BEGINS = re.compile(rf"<(?:{_BLOCKS}|span|a)(?:\s[^<>]*)?>", re.IGNORECASE)
_ENDS = re.compile(rf"</(?:{_BLOCKS}|span|a)>\s*\Z|<br ?/?>\s*\Z", re.IGNORECASE)
_BREAKS = re.compile(rf"{_BLOCKS}|br")
_LONGEST_END = 64
#: Anchors of these classes and relations are mentions and hashtags, not links.
_NAMES = frozenset(["mention", "hashtag", "tag"])
#: References to numbers that are too large for any character; Python refuses to read the longest.
_ZEROS = re.compile(r"(&#[xX]?)0{7,}")
_HUGE = re.compile(r"&#(?:[0-9]{8,}|[xX][0-9a-fA-F]{8,});?")


def unescape(text: str) -> str:
    """Return the text with its HTML references decoded, as html.unescape does, however long their numbers are."""
    return html.unescape(_bounded(text))


def _bounded(text: str) -> str:
    return _HUGE.sub("\ufffd", _ZEROS.sub(r"\g<1>0", text)) if "&#" in text else text


def is_html(text: str) -> bool:
    """Return whether a text is HTML as a whole: it begins with an element's tag and ends with one.

    A stray `<` makes no HTML.
    """
    return len(text) <= MAX_HTML and bool(_BEGINS.match(text) and _ENDS.search(text[-_LONGEST_END:]))


def read(text: str) -> tuple[str, list[str]] | None:
    """Return the words of a text that is HTML, and its links; None where the HTML is too broken to be read."""
    reader = _Reader()
    try:
        reader.feed(_bounded(text))
        reader.close()
    except (AssertionError, ValueError):  # AssertionError: the parser's word for some declarations
        return None
    return "".join(reader.text).strip(), reader.links


class _Reader(HTMLParser):
    """Collects text and links of the HTML that it is fed."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text: list[str] = []
        self.links: list[str] = []
        self._in_link = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if _BREAKS.fullmatch(tag):
            self.text.append("\n")
        elif tag == "a":
            values = dict(attrs)
            names = f"{values.get('class') or ''} {values.get('rel') or ''}".split()
            self._in_link = True
            href = (values.get("href") or "").strip()
            if _NAMES.isdisjoint(names) and href.lower().startswith(("http://", "https://")) and links.is_link(href):
                self.links.append(href)

    def handle_endtag(self, tag: str) -> None:
        if _BREAKS.fullmatch(tag):
            self.text.append("\n")
        elif tag == "a":
            self._in_link = False

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is None:  # in a script or style nothing is text
            self.text.append(data)
            if not self._in_link:
                self.links += links.urls(data)

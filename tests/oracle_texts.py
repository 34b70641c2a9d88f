"""What stands in a text, as docs/posts.md has it, the slow and obvious way: URLs, HTML, references."""

import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

BRACKETS = "() [] {} \uff08\uff09 \u300c\u300d \u300e\u300f \u3010\u3011 \u300a\u300b \u3008\u3009".split()
QUOTES = "\u201c\u201d \u2018\u2019 \u00ab\u00bb".split()
URL_PUNCTUATION = ".,;:!?'`*" + "\u3002\u3001\uff0c\uff0e\uff1a\uff1b\uff01\uff1f"  # the last: full-width ones
ELLIPSIS = "\u2026"
LONGEST_HTML = 100_000


def is_stump(url: str) -> bool:
    """Whether nothing is left of a URL, or its end is cut."""
    bare = url.strip()
    return bare.endswith(ELLIPSIS) or re.fullmatch(r"|htt|https?(:/{0,2})?", bare, re.IGNORECASE) is not None


def urls_in(text: str) -> list[str]:
    found = [
        text[start:end].rstrip(URL_PUNCTUATION) for start, end in url_places(text) if text[end : end + 1] != ELLIPSIS
    ]
    return [url for url in found if not is_stump(url)]


def url_places(text: str) -> Iterator[tuple[int, int]]:
    """Where URLs stand in a text, with the punctuation that follows."""
    at = 0
    while found := re.compile("https?://", re.IGNORECASE).search(text, at):
        at, waiting = found.end(), []
        for character in text[at:]:
            pair = next((pair for pair in BRACKETS + QUOTES if character in pair), None)
            if character.isspace() or character in '<>"' + ELLIPSIS:
                break
            if pair and character == pair[0]:
                waiting.append(pair[1])
            elif pair and (not waiting or waiting.pop() != character):
                break
            at += 1
        yield found.start(), at


HTML_BLOCKS = ("p", "div", "blockquote", "ul", "ol", "li", "pre", "h1", "h2", "h3", "h4", "h5", "h6")


def shown(text: str) -> tuple[str, list[Any]] | None:
    """What a text that is HTML as a whole shows, and where it links to; None for another text."""
    names = "|".join([*HTML_BLOCKS, "span", "a"])
    begins = re.match(rf"(?i)<({names})(\s[^<>]*)?>", text)
    ends = re.search(rf"(?i)(</({names})>|<br ?/?>)\s*\Z", text)
    if len(text) > LONGEST_HTML or not begins or not ends:
        return None
    page = _Page()
    try:
        page.feed(small_references(text))
        page.close()
    except (AssertionError, ValueError):
        return None
    return "".join(page.said).strip(), page.found


class _Page(HTMLParser):
    """What a reader sees, and where a reader can go."""

    said: list[str]
    found: list[Any]
    anchors = 0

    def reset(self) -> None:
        super().reset()
        self.said, self.found = [], []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in (*HTML_BLOCKS, "br"):
            self.said.append("\n")
        if tag == "a":
            self.anchors = 1
            given = {name: value or "" for name, value in attrs}
            kinds = (given.get("class", "") + " " + given.get("rel", "")).split()
            target = given.get("href", "").strip()
            if re.match("https?://", target, re.IGNORECASE) and not {"mention", "hashtag", "tag"} & set(kinds):
                self.found.append(target)

    def handle_endtag(self, tag: str) -> None:
        if tag in (*HTML_BLOCKS, "br"):
            self.said.append("\n")
        if tag == "a":
            self.anchors = 0

    def handle_data(self, data: str) -> None:
        if self.cdata_elem in ("script", "style"):
            return
        self.said.append(data)
        if not self.anchors:
            self.found += urls_in(data)


def unescaped(text: str) -> str:
    """The text without HTML references."""
    return html.unescape(small_references(text))


def small_references(text: str) -> str:
    """References to numbers beyond Unicode are U+FFFD, as html.unescape has them: but Python won't read the longest."""

    def small(found: re.Match[str]) -> str:
        digits = (found[1] or found[2]).lstrip("0") or "0"
        if len(digits) > 7:
            return "\ufffd"
        return f"&#{int(digits, 16 if found[1] else 10)};"

    return re.sub("&#(?:[xX]([0-9a-fA-F]{8,})|([0-9]{8,}));?", small, text)

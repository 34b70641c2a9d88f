"""What counts as a word and what as the same URL: the two sets of rules, `classic` and `standard`."""

import functools
import html
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import regex


@dataclass(frozen=True)
class Rules:
    """How posts are read.

    words: a chunk of text without white space → its words, in order, stop words included.
    stop_words: a language (as `language` gives it) → the words that don't count in its posts.
    language: a post's lang → the language whose stop words apply, "" for the fallback.
    url: a URL → the form under which it is counted.
    """

    words: Callable[[str], Sequence[str]]
    stop_words: Callable[[str], frozenset[str]]
    language: Callable[[str | None], str]
    url: Callable[[str], str]


_CLASSIC_WORD = re.compile("[A-Za-z']+")
_CLASSIC_STOP = frozenset(
    "a amp an and are as at be been but by co do for has have he her him his https if in is it me my no not of on or "
    "rt s she so t than that the they this to us was we what with you your who when via "
    "b c d e f g h i j k l m n o p q r u v w x y z".split()
)


def _classic_words(chunk: str) -> list[str]:
    return [word.lower() for word in _CLASSIC_WORD.findall(chunk)]


_WORD = regex.compile(r"[\p{L}\p{N}][\p{L}\p{M}\p{N}]*(?:['’][\p{L}\p{M}\p{N}]+)*")
_LETTER = regex.compile(r"\p{L}")
_URL = re.compile(r"https?://\S+", re.IGNORECASE)
_MENTION = re.compile(r"@\w+")
#: Twitter's own words; they say nothing about what a post is about.
_ALWAYS_STOP = frozenset({"rt", "via", "amp"})
#: Twitter still uses two codes that ISO 639 gave up.
_OLD_CODES = {"in": "id", "iw": "he"}
_TRACKING = frozenset(
    "fbclid gclid dclid gbraid wbraid msclkid mc_cid mc_eid igshid yclid twclid ttclid _ga ref_src".split()
)
_DEFAULT_PORTS = {"http": 80, "https": 443}


@functools.lru_cache(maxsize=1 << 17)
def _standard_words(chunk: str) -> tuple[str, ...]:
    if "&" in chunk:
        chunk = html.unescape(chunk)
    if "://" in chunk:
        chunk = _URL.sub(" ", chunk)
    if "@" in chunk:
        chunk = _MENTION.sub(" ", chunk)
    if chunk.isascii():
        if chunk.isalpha():  # most chunks, and the only test they need
            return (chunk.lower(),) if len(chunk) > 1 else ()
        chunk = chunk.lower()
    else:
        chunk = _folded(chunk)
    return tuple(
        word for word in _WORD.findall(chunk) if _LETTER.search(word) and not (len(word) == 1 and word.isascii())
    )


@functools.cache
def _stop_lists(languages: tuple[str, ...]) -> frozenset[str]:
    import stopwordsiso

    return frozenset(_folded(w) for language in languages for w in stopwordsiso.stopwords(language)) | _ALWAYS_STOP


def _folded(text: str) -> str:
    """NFC, without case, and with one kind of apostrophe."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).replace("’", "'")


@functools.cache
def languages() -> frozenset[str]:
    """The ISO 639 codes of the languages whose stop words are known."""
    import stopwordsiso

    return frozenset(stopwordsiso.langs())


def _language(lang: str | None) -> str:
    code = (lang or "").replace("_", "-").split("-")[0].lower()
    code = _OLD_CODES.get(code, code)
    return code if code in languages() else ""


def _standard_url(url: str) -> str:
    url = url.strip()
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS or not parts.hostname:
        return url
    user, at, host = parts.netloc.rpartition("@")
    if port is not None and port == _DEFAULT_PORTS[scheme] or host.endswith(":"):
        host = host.rpartition(":")[0]
    query = "&".join(p for p in parts.query.split("&") if not _is_tracking(p.split("=", 1)[0].lower()))
    return urlunsplit((scheme, user + at + host.lower(), parts.path, query, ""))


def _is_tracking(name: str) -> bool:
    return name.startswith("utm_") or name in _TRACKING


RULES = ("standard", "classic")


def get(name: str, fallback: Sequence[str] = ("en",)) -> Rules:
    """The rules of that name; `fallback` are the languages of posts that don't say theirs. Raises KeyError."""
    if name == "classic":
        return Rules(_classic_words, lambda language: _CLASSIC_STOP, lambda lang: "", str.lower)
    if name == "standard":
        fallback_languages = tuple(fallback)

        def stop_words(language: str) -> frozenset[str]:
            return _stop_lists((language,) if language else fallback_languages)

        return Rules(_standard_words, stop_words, _language, _standard_url)
    raise KeyError(name)

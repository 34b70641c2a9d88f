"""Words and URLs as docs/posts.md has them, the slow and obvious way: the part of the oracle that reads texts.

Where a word begins and ends is asked of the regex library's own UAX #29; the product has a pattern of its own.
"""

import importlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit

import idna
import stopwordsiso
from oracle_texts import unescaped, url_places

regex: Any = importlib.import_module("regex")  # it has no types of its own

STOP_LIST = (
    "a amp an and are as at be been but by co do for has have he her him his https if in is it me my no not of on or "
    "rt s she so t than that the they this to us was we what with you your who when via"
)
CLASSIC_STOP = set(STOP_LIST.split()) | set("abcdefghijklmnopqrstuvwxyz")


def classic_words(text: str) -> set[str]:
    return {word.lower() for word in re.findall("[A-Za-z']+", text)} - CLASSIC_STOP


def classic_url(url: str) -> str:
    return url.lower()


# ---------------------------------------------------------------------------------------------------------- words

JOINERS = "\u200c\u200d"
INVISIBLE = regex.compile(r"\p{Default_Ignorable_Code_Point}")
SKIN_TONES = re.compile("[\U0001f3fb-\U0001f3ff]")
STRAY_MARKS = regex.compile(
    r"(?<=[^\p{L}\p{N}\p{WB=ALetter}\p{WB=Numeric}\p{WB=Katakana}\p{M}\p{Pc}\u200c\u200d])[\p{M}\u200c\u200d]+"
)
APOSTROPHES = "\u2019\u2018\u02bc\uff07\u05f3"
BOUNDARY = regex.compile(r"(?w)\b", regex.V1)
LETTERS = r"[\p{L}\p{N}\p{WB=ALetter}\p{WB=Numeric}\p{WB=Katakana}]"
SOLID = regex.compile(rf"{LETTERS}|\p{{Pc}}")
NOISE = {"rt", "via", "amp", "htt", "http", "https"}
OLD_CODES = {"in": "id", "iw": "he"}
ELIDED = {
    "fr": ["l", "m", "t", "qu", "n", "s", "j", "d", "c", "jusqu", "quoiqu", "lorsqu", "puisqu"],
    "it": "c l all dall dell nell sull coll pell gl agl dagl degl negl sugl un m t s v d".split(),
    "ca": ["d", "l", "m", "n", "s", "t"],
    "ga": ["d", "m", "b"],
}


def standard_words(text: str, lang: str | None, fallback: Sequence[str] = ("en",)) -> set[str]:
    languages = _languages(_language(lang), tuple(fallback))
    words = {_elided(word, languages) for chunk in text.split() for word in _words(chunk)}
    return {word for word in words if is_word(word)} - NOISE - _stop_words(languages)


def _words(text: str) -> Iterator[str]:
    text = unescaped(text)
    for start, end in reversed(list(url_places(text))):
        text = text[:start] + " " + text[end:]
    text = _without_addresses(text)
    for piece in _segments(STRAY_MARKS.sub(" ", SKIN_TONES.sub(" ", _folded(text)))):
        # A word begins and ends with a letter or digit and its marks; a Hebrew one may end with a geresh.
        found = regex.search(rf"{LETTERS}(?:.*{LETTERS})?[\p{{M}}\u200c\u200d]*", piece, regex.DOTALL)
        word = found[0] if found else ""
        if found and piece[found.end() :] == "'" and regex.search(r"\p{WB=Hebrew_Letter}[\p{M}\u200c\u200d]*$", word):
            word += "'"
        word = word.rstrip(JOINERS)
        if is_word(word):
            yield word


def _segments(text: str) -> list[str]:
    """The text cut by UAX #29, but not between two letters, digits or underscores.

    Marks and joiners go with what they stand on (its rule WB4), and the library is asked about the rest, because it
    cuts a mark from the apostrophe behind it.
    """
    units = regex.findall(r"[^\p{M}\u200c\u200d][\p{M}\u200c\u200d]*", text)
    bare = "".join(unit[0] for unit in units)
    ends = {found.start() for found in BOUNDARY.finditer(bare)}
    pieces = [""]
    for at, unit in enumerate(units):
        if at in ends and not (at and SOLID.match(bare[at - 1]) and SOLID.match(bare[at])):
            pieces.append("")
        pieces[-1] += unit
    return pieces


def is_word(text: str) -> bool:
    if not regex.search(r"\p{L}", text):
        return False
    if regex.fullmatch(r"\p{L}\p{Script=Inherited}*", text):
        return bool(regex.match(r"\p{Ideographic}", text)) or "\uac00" <= text[0] <= "\ud7a3"
    return True


def _without_addresses(text: str) -> str:
    name = r"\w+(?:-+\w+)*"
    text = re.sub(rf"(?<![\w.+-])[\w.+-]+@{name}(?:\.{name})+", " ", text)
    return re.sub(r"(?<!\w)[@\uff20]\w+(?:(?:-\w+)*\.\w+)*(?:[@\uff20]\w+(?:[.-]+\w+)*)?", " ", text)


def _folded(text: str) -> str:
    text = "".join(c for c in text if c in "\u200b" + JOINERS or not INVISIBLE.match(c))
    marks, kept = 0, []
    for c in text:
        marks = marks + 1 if regex.match(r"\p{M}", c) else 0
        if marks <= 30:
            kept.append(c)
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", "".join(kept)).casefold())
    for apostrophe in APOSTROPHES:
        text = text.replace(apostrophe, "'")
    return text.replace("\u05f4", '"')


def _elided(word: str, languages: Sequence[str]) -> str:
    for language in languages:
        for article in ELIDED.get(language, []):
            if word.startswith(article + "'"):
                return word[len(article) + 1 :]
    return word


def _language(lang: str | None) -> str | None:
    if lang is None:
        return None
    code = re.split("[-_]", lang)[0].lower()
    return OLD_CODES.get(code, code)


def _languages(language: str | None, fallback: tuple[str, ...]) -> tuple[str, ...]:
    known = language is not None and language != "und" and stopwordsiso.has_lang(language)
    return (language,) if language is not None and known else fallback


@cache
def _stop_words(languages: tuple[str, ...]) -> frozenset[str]:
    """The languages' lists, read as texts are: of several entries only so much is left that is one word."""
    entries = [(entry, list(_words(entry))) for one in languages for entry in stopwordsiso.stopwords([one])]
    return frozenset(_elided(words[0], languages) for entry, words in entries if len(words) == 1 and " " not in entry)


# ----------------------------------------------------------------------------------------------------------- URLs

TRACKING = "fbclid gclid dclid gbraid wbraid msclkid mc_cid mc_eid igshid yclid twclid ttclid _ga ref_src"
DEFAULT_PORT = {"http": 80, "https": 443}
LONGEST_URL = 8_000
UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
RESERVED = ":/?#[]@!$&'()*+,;="


def standard_url(url: str) -> str:
    plain = url.strip()
    if len(plain) > LONGEST_URL or not re.match(r"(?i)https?://\S", plain):
        return plain
    try:
        parts = urlsplit(plain)
        host, port = parts.hostname, parts.port
    except ValueError:
        return plain
    if not host:
        return plain

    user, at, place = parts.netloc.rpartition("@")
    number = ""
    if port is not None or place.endswith(":"):
        place, number = place.rsplit(":", 1)
    if port is None or port == DEFAULT_PORT[parts.scheme]:
        number = ""
    query = "&".join(each for each in _spelled(parts.query).split("&") if not _tracks(each))
    whole = parts.scheme + "://" + _spelled(user) + at + _host(place) + (number and ":" + number)
    return whole + _resolved(_spelled(parts.path)) + ("?" + query if query else "")


def _spelled(part: str) -> str:
    """Each octet in its one spelling."""
    octets, at = [], 0
    while at < len(part):
        encoded = re.compile("%([0-9A-Fa-f]{2})").match(part, at)
        if encoded:
            byte = int(encoded[1], 16)
            octets.append(chr(byte) if chr(byte) in UNRESERVED else f"%{byte:02X}")
        elif part[at] in UNRESERVED + RESERVED:
            octets.append(part[at])
        else:
            octets += [f"%{byte:02X}" for byte in part[at].encode()]
        at += 3 if encoded else 1
    return "".join(octets)


def _host(place: str) -> str:
    if "%" in place and not place.startswith("["):
        try:
            decoded = unquote(place, errors="strict")
        except UnicodeDecodeError:
            decoded = ""
        place = decoded if re.fullmatch(r"[\w.~-]+", decoded) else place
    if not place.isascii() and len(place) <= 253:
        try:
            return idna.encode(place, uts46=True).decode().lower()
        except UnicodeError:
            pass
    return place.lower()


def _resolved(path: str) -> str:
    """RFC 3986, section 5.2.4, step by step."""
    output = ""
    path = path or "/"
    while path:
        if path.startswith("/./") or path == "/.":
            path = "/" + path[3:]
        elif path.startswith("/../") or path == "/..":
            path = "/" + path[4:]
            output = output[: output.rfind("/")] if "/" in output else ""
        else:
            end = path.find("/", 1)
            end = len(path) if end < 0 else end
            output, path = output + path[:end], path[end:]
    return output


def _tracks(parameter: str) -> bool:
    name = parameter.partition("=")[0].lower()
    return name.startswith("utm_") or name in TRACKING.split()

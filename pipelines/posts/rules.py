"""What counts as a word: the two sets of rules, `classic` and `standard`, with what each takes for the same URL."""

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex
from numpy.typing import NDArray

from pipelines.posts import links, markup, urls


@dataclass(frozen=True)
class Rules:
    """How posts are read.

    chunks: the bytes of texts → the bytes to read instead, and which of them stand in chunks, the runs in which words
    are; ASCII white space never does.
    plain: chunks → for each its only word, "" if it has none, null if `words` has to be asked.
    words: a chunk of text without white space → its words, in order, stop words included.
    stop_words: a language (as `language` gives it) → the words that don't count in its posts.
    elides: a language → whether it has articles that are elided.
    elided: a language and a word → the word without an elided article; "" if nothing is left that is a word.
    language: a post's lang → the language whose stop words apply, "" for the fallback.
    url: a URL → the form under which it is counted.
    """

    chunks: Callable[[NDArray[np.uint8]], tuple[NDArray[np.uint8], NDArray[np.bool_]]]
    plain: Callable[[pa.Array], pa.Array]
    words: Callable[[str], Sequence[str]]
    stop_words: Callable[[str], frozenset[str]]
    elides: Callable[[str], bool]
    elided: Callable[[str, str], str]
    language: Callable[[str | None], str]
    url: Callable[[str], str]


_CLASSIC_WORD = re.compile("[A-Za-z']+")
_CLASSIC_STOP = frozenset(
    "a amp an and are as at be been but by co do for has have he her him his https if in is it me my no not of on or "
    "rt s she so t than that the they this to us was we what with you your who when via "
    "b c d e f g h i j k l m n o p q r u v w x y z".split()
)


def _classic_chunks(texts: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    lower = texts | np.uint8(0x20)
    inside = lower - np.uint8(ord("a")) < 26  # bytes beyond ASCII are above
    inside |= texts == ord("'")
    return lower, inside


def _classic_words(chunk: str) -> list[str]:
    return [word.lower() for word in _CLASSIC_WORD.findall(chunk)]


# A word of folded text: UAX #29's rules WB4 to WB13b, but two letters, digits or marks side by side are never parted,
# so that scripts without spaces stay whole. Loops are possessive, so that no text costs more than its length. Which
# characters are letters is what the regex package says: Unicode 16 at least, by millrace/beam/requirements.txt.
_SOLID = r"\p{L}\p{N}\p{WB=ALetter}\p{WB=Numeric}\p{WB=Katakana}"
_RUN = rf"[{_SOLID}][{_SOLID}\p{{M}}\u200c\u200d]*+"
_A, _H = r"[\p{WB=ALetter}\p{WB=Hebrew_Letter}]", r"\p{WB=Hebrew_Letter}"
_BETWEEN = (
    rf"(?<={_A}[\p{{M}}\u200c\u200d]*)[\p{{WB=MidLetter}}\p{{WB=MidNumLet}}'](?={_A})"
    rf"|(?<=\p{{WB=Numeric}}[\p{{M}}\u200c\u200d]*)[\p{{WB=MidNum}}\p{{WB=MidNumLet}}'](?=\p{{WB=Numeric}})"
    rf"|(?<={_H}[\p{{M}}\u200c\u200d]*)\"(?={_H})"
    rf"|[\p{{Pc}}\p{{M}}\u200c\u200d]++(?=[{_SOLID}])"
)
_WORD = regex.compile(rf"{_RUN}(?:(?:{_BETWEEN}){_RUN})*+(?:(?<={_H}[\p{{M}}\u200c\u200d]*)')?", regex.V1)
_LETTER = regex.compile(r"\p{L}")
#: The same for ASCII in lower case, which needs no other rule.
_ASCII_WORD = re.compile(
    r"[a-z0-9]+(?:(?:(?<=[a-z])[.:'](?=[a-z])|(?<=[0-9])[.,;'](?=[0-9])|_+(?=[a-z0-9]))[a-z0-9]+)*+"
)
_ASCII_LETTER = re.compile("[a-z]")
_PUNCTUATION = "#.,:;!?()[]\"'-*/"
#: One letter, with the marks that any script may have; an ideograph or a Korean syllable is more than a letter.
_ONE_LETTER = regex.compile(r"[\p{L}--[\p{Ideographic}\uac00-\ud7a3]]\p{Script=Inherited}*", regex.V1)
#: What nobody sees and what doesn't part words, such as soft hyphens and marks of direction.
_INVISIBLE = regex.compile(r"[\p{Default_Ignorable_Code_Point}--[\u200b\u200c\u200d]]+", regex.V1)
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "＇": "'", "׳": "'", "״": '"'})
#: Marks in a row: Unicode's stream-safe text has no more, and normal forms cost the square of their number.
_MAX_MARKS = 30
_TOO_MANY_MARKS = regex.compile(rf"(\p{{M}}{{{_MAX_MARKS}}})\p{{M}}+")
#: Mentions, with the server of accounts that are elsewhere, and mail addresses.
_MENTION = re.compile(r"(?<!\w)[@＠]\w++(?:(?:-\w++)*\.\w++)*+(?:[@＠]\w++(?:[.-]+\w++)*+)?")
_ADDRESS = re.compile(r"(?<![\w.+-])[\w.+-]++@\w++(?:-+\w++)*+(?:\.\w++(?:-+\w++)*+)++")
#: Twitter's own words, and what is left of cut URLs; they say nothing about what a post is about.
_ALWAYS_STOP = frozenset({"rt", "via", "amp", "htt", "http", "https"})
#: Twitter still uses two codes that ISO 639 gave up.
_OLD_CODES = {"in": "id", "iw": "he"}
#: Articles, pronouns and conjunctions that are elided before a vowel: Lucene's lists for these languages.
_ELISIONS = {
    "ca": "d l m n s t",
    "fr": "l m t qu n s j d c jusqu quoiqu lorsqu puisqu",
    "ga": "d m b",
    "it": "c l all dall dell nell sull coll pell gl agl dagl degl negl sugl un m t s v d",
}
#: Chunks up to this length are remembered, because longer ones hardly come twice; 65,536 take 20 MB, 60 at worst.
_REMEMBERED = 64

# What `plain` tells apart, for RE2. Letters that stand alone in every normal form and whose case Arrow folds as Python
# does; no Hebrew, because an apostrophe may end a Hebrew word. A sign is a word alone.
_SIGNS = r"\x{4e00}-\x{9fa5}\x{ac00}-\x{d7a3}"
_LETTERS = (
    r"A-Za-zÀ-ÖØ-Þà-öø-ÿĀ-įĴ-ķĹ-ľŁ-ňŊ-žΆΈ-ΊΌΎΏΑ-ΡΣ-Ωά-ία-ρσ-ωό-ώЀ-џ"
    r"\x{621}-\x{63a}\x{641}-\x{64a}\x{67e}\x{686}\x{698}\x{6a9}\x{6af}\x{6cc}ぁ-ゖァ-ヺー"
)
_PLAIN_WORD = rf"^(?:[{_LETTERS}{_SIGNS}]{{2,}}|[{_SIGNS}])$"
#: No letter, and no `&`, which may hide anything; what is beyond ASCII are pictures and quotation marks.
_BARE = r"\x00-\x25\x27-\x40\x5b-\x60\x7b-\x7f…“”‘’\x{200d}\x{fe0f}\x{fffd}\x{2600}-\x{27bf}\x{1f300}-\x{1faff}"
#: Chunks in which no letter stands outside a URL or a mention.
_WORDLESS = (
    r'^(?:["(.]?(?:(?i:https?)://[A-Za-z0-9/._~?=%+#@-]*|@[A-Za-z0-9_]+)[…"),!:;]*'
    rf"|[{_BARE}]*|&amp;)$"
)


def _standard_chunks(texts: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    space = texts - np.uint8(ord("\t")) < 5
    space |= texts == ord(" ")
    return texts, ~space


def _standard_plain(chunks: pa.Array) -> pa.Array:
    bare = pc.ascii_trim(chunks, _PUNCTUATION)
    is_word = pc.and_not(pc.match_substring_regex(bare, _PLAIN_WORD), pc.match_substring(chunks, "://"))
    is_none = pc.match_substring_regex(chunks, _WORDLESS)
    return pc.if_else(is_none, "", pc.if_else(is_word, pc.utf8_lower(bare), None))


def _standard_words(chunk: str) -> Sequence[str]:
    return _remembered(chunk) if len(chunk) <= _REMEMBERED else _read(chunk)


def _read(chunk: str) -> tuple[str, ...]:
    if "&" in chunk:
        chunk = markup.unescape(chunk)
    if "://" in chunk:
        chunk = links.without(chunk)
    if "@" in chunk or "＠" in chunk:
        chunk = _MENTION.sub(" ", _ADDRESS.sub(" ", chunk))
    if chunk.isascii():
        found = _ASCII_WORD.findall(chunk.lower())
        return tuple(word for word in found if len(word) > 1 and _ASCII_LETTER.search(word))
    return tuple(
        word
        for found in _WORD.findall(_folded(chunk))
        if _LETTER.search(found) and not _ONE_LETTER.fullmatch(word := found.rstrip("\u200c\u200d"))
    )


_remembered = functools.lru_cache(maxsize=1 << 16)(_read)


def _folded(text: str) -> str:
    """Return a text in NFC, without case, with one kind of apostrophe, and without what is invisible."""
    if text.isascii():
        return text.lower()
    text = _INVISIBLE.sub("", text)
    if len(text) > _MAX_MARKS:
        text = _TOO_MANY_MARKS.sub(r"\1", text)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).translate(_APOSTROPHES)


@functools.cache
def _stop_lists(languages: tuple[str, ...]) -> frozenset[str]:
    """Return the stop words of some languages, in the form that words have; entries of several words are left out."""
    import stopwordsiso

    entries = [_read(entry) for language in languages for entry in stopwordsiso.stopwords(language) if " " not in entry]
    return frozenset(_elided(languages, words[0]) for words in entries if len(words) == 1) | _ALWAYS_STOP


def _elided(languages: tuple[str, ...], word: str) -> str:
    article, apostrophe, rest = word.partition("'")
    if apostrophe and any(article in _articles(language) for language in languages):
        return rest if _LETTER.search(rest) and not _ONE_LETTER.fullmatch(rest) else ""
    return word


@functools.cache
def _articles(language: str) -> frozenset[str]:
    return frozenset(_ELISIONS.get(language, "").split())


@functools.cache
def languages() -> frozenset[str]:
    """Return the ISO 639 codes of the languages whose stop words are known."""
    import stopwordsiso

    return frozenset(stopwordsiso.langs())


def _language(lang: str | None) -> str:
    code = (lang or "").replace("_", "-").split("-")[0].lower()
    code = _OLD_CODES.get(code, code)
    return code if code in languages() else ""


RULES = ("standard", "classic")


def get(name: str, fallback: Sequence[str] = ("en",)) -> Rules:
    """Return the rules of that name; `fallback` are the languages of posts that don't say theirs. Raises KeyError."""
    if name == "classic":
        return Rules(
            chunks=_classic_chunks,
            plain=lambda chunks: chunks,
            words=_classic_words,
            stop_words=lambda language: _CLASSIC_STOP,
            elides=lambda language: False,
            elided=lambda language, word: word,
            language=lambda lang: "",
            url=str.lower,
        )
    if name == "standard":
        fallback_languages = tuple(fallback)

        def of(language: str) -> tuple[str, ...]:
            return (language,) if language else fallback_languages

        return Rules(
            chunks=_standard_chunks,
            plain=_standard_plain,
            words=_standard_words,
            stop_words=lambda language: _stop_lists(of(language)),
            elides=lambda language: any(map(_articles, of(language))),
            elided=lambda language, word: _elided(of(language), word),
            language=_language,
            url=urls.standard,
        )
    raise KeyError(name)

"""Words by the column are those that the rules have chunk by chunk, however the posts are cut into pieces."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from running import SHARE

from pipelines.posts import rules
from pipelines.posts.tokens import tokenize

#: What decides whether a chunk is plain: its borders, URLs, mentions, references, pictures, all in pieces.
_parts = st.sampled_from(
    "http https :// : / // @ @me & ; # \" ' ( ) [ ] … . , ! - _ * ? = ~ % a B z I word Word's É ß 1 42".split()
    + "\x00 \x1c \x7f 😀 ☕ ‘ ’ “ ” « \u200d \ufe0f \ufffd 水 ² \ua000 \u0301 ｈttp".split(" ")
    + "x.example/path t.co/aB1 Ñandú Ёж οδος ά שם ショー 한국 &amp; &lt; &#64; a@b.example".split(" ")
)
chunks = st.lists(_parts, max_size=7).map("".join)


@settings(max_examples=2000 // SHARE, deadline=None)
@given(st.lists(chunks, max_size=20))
@example(
    ["xhttp://", "-https://", "@a@b.c", '"@a:', "(http://a/b)c", "http://a/(b)c", "http://a.b/c…d", "&amp;c", "a😀"]
)
def test_a_plain_chunk_has_the_word_that_the_rules_give_it(some: list[str]) -> None:
    standard = rules.get("standard")
    for chunk, word in zip(some, standard.plain(pa.array(some, pa.string())).to_pylist(), strict=True):
        if word is not None:
            assert list(standard.words(chunk)) == [word] * (word != ""), chunk


@pytest.mark.parametrize("pattern", ["{0}", "{0}{0}", "X{0}", '"{0}x', "@a{0}"])
def test_every_character_that_is_plain_is_read_as_the_rules_read_it(pattern: str) -> None:
    """Alone, twice, after and before a letter, and after a mention."""
    codes = [*range(0x3400), *range(0x3400, 0xD800, SHARE), *range(0xE000, 0x20000)]
    some = [pattern.format(chr(code)) for code in codes]
    standard = rules.get("standard")
    plain = standard.plain(pa.array(some, pa.string())).to_pylist()
    known = [(chunk, word) for chunk, word in zip(some, plain, strict=True) if word is not None]
    assert known
    assert [(chunk, "".join(standard.words(chunk))) for chunk, _ in known] == known


_words = st.sampled_from(
    ["boats", "Boats,", "l'eau", "d'inis", "the", "der", "don't", "a-b c", "https://t.co/x", "水 boats", "É\xa0boats"]
)
_texts = st.lists(_words | st.text(max_size=9), max_size=6).map(" ".join)
_posts = st.lists(st.tuples(_texts, st.sampled_from([None, "en", "de", "fr", "ga", "xx"])), max_size=12)


@settings(max_examples=500 // SHARE, deadline=None)
@given(_posts, st.sampled_from(rules.RULES), st.sampled_from([1, 8, 40]), st.sampled_from([1, 20, 1 << 20]))
def test_words_do_not_depend_on_how_posts_are_cut(
    posts: list[tuple[str, str | None]], name: str, piece: int, slab: int
) -> None:
    """Each post has its own words, in order, once each, and so has the vocabulary."""
    texts, langs = (list(each) for each in zip(*posts, strict=True)) if posts else ([], [])
    rule_set = rules.get(name, ("de", "fr"))
    lead = ["not of these"]  # a slice of a column, as a block may be
    text, lang = (pa.chunked_array([pa.array(lead + each, pa.string()).slice(1)]) for each in (texts, langs))
    tokens = tokenize(text, lang, rule_set, slab, piece)
    expected = [sorted(_words_of(*post, rule_set)) for post in posts]
    vocabulary = tokens.vocabulary.to_pylist()
    assert vocabulary == sorted(set(vocabulary))
    assert {each.dtype for each in (tokens.post, tokens.word)} == {np.dtype(np.int32)}
    found: list[list[str]] = [[] for _ in posts]
    for post, word in zip(tokens.post.tolist(), tokens.word.tolist(), strict=True):
        found[post].append(vocabulary[word])
    assert found == expected
    assert tokens.post.tolist() == sorted(tokens.post.tolist())


def _words_of(text: str, lang: str | None, rule_set: rules.Rules) -> set[str]:
    language = rule_set.language(lang)
    found = {rule_set.elided(language, word) for chunk in text.split() for word in rule_set.words(chunk)}
    return found - rule_set.stop_words(language) - {""}


@pytest.mark.parametrize("name", rules.RULES)
def test_texts_do_not_run_together_and_bytes_are_no_characters(name: str) -> None:
    """A word that ends a text is not one with the next text's; a letter beyond ASCII is no letter of classic words."""
    texts = ["boat", "swain", "", "\u0161hip", "\u4e61\u41ff", "\x07\x27"]
    tokens = tokenize(pa.chunked_array([texts]), pa.chunked_array([pa.nulls(len(texts), pa.string())]), rules.get(name))
    found = [(post, tokens.vocabulary[word].as_py()) for post, word in zip(tokens.post, tokens.word, strict=True)]
    ends = {"classic": [(3, "hip"), (5, "'")], "standard": [(3, "\u0161hip"), (4, "\u4e61\u41ff")]}
    assert found == [(0, "boat"), (1, "swain"), *ends[name]]


@pytest.mark.parametrize("name", rules.RULES)
@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([], []),
        ([[]], []),
        ([["", " \n", ""]], []),
        ([[None, None]], []),
        ([["boats", None], [], [None, "ship boats"]], [(0, "boats"), (3, "boats"), (3, "ship")]),
    ],
)
def test_a_text_that_is_not_there_has_no_words(
    name: str, parts: list[list[str | None]], expected: list[tuple[int, str]]
) -> None:
    text = pa.chunked_array([pa.array(part, pa.string()) for part in parts], pa.string())
    tokens = tokenize(text, pa.chunked_array([pa.nulls(len(text), pa.string())]), rules.get(name))
    found = zip(tokens.post.tolist(), tokens.word.tolist(), strict=True)
    assert [(post, tokens.vocabulary[word].as_py()) for post, word in found] == expected


def test_more_posts_and_words_than_32_bits_tell_apart() -> None:
    """70,000 posts, each of one word of its own, read as one piece: 17 bits for the post and 17 for the word."""
    words = sorted("".join(letters) for letters in itertools.islice(itertools.product("bcdefghijk", repeat=5), 70_000))
    text = pa.chunked_array([pa.array(words)])
    tokens = tokenize(text, pa.chunked_array([pa.nulls(len(words), pa.string())]), rules.get("classic"), piece=1 << 24)
    assert tokens.vocabulary.to_pylist() == words
    assert tokens.post.tolist() == tokens.word.tolist() == list(range(len(words)))

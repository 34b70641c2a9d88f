"""Texts → words, by the column: only the distinct chunks of text go through Python.

ASCII white space splits each text into chunks (in Arrow); each distinct chunk is read once by the rules; the rest is
arithmetic on numbers. Exact, because no word, URL or mention of either set of rules spans white space.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.posts.rules import Rules


@dataclass(frozen=True)
class Tokens:
    """Each post's set of words.

    vocabulary: the words in ascending order (by code point, as SQL compares them), shape (words,).
    post, word: int32 arrays of equal length, ordered and without repetition: post number `post[i]` (its row) contains
    vocabulary[word[i]].
    """

    vocabulary: pa.Array
    post: NDArray[np.int32]
    word: NDArray[np.int32]


def tokenize(text: pa.ChunkedArray, lang: pa.ChunkedArray, rules: Rules) -> Tokens:
    """Return the words of each post. text and lang: strings, one a post; lang may be null."""
    texts = pa.concat_arrays(text.chunks) if text.num_chunks != 1 else text.chunk(0)
    chunks = pc.ascii_split_whitespace(texts)
    post_of_token = pc.list_parent_indices(chunks).to_numpy()
    encoded = chunks.flatten().dictionary_encode()
    code = encoded.indices.to_numpy()

    words_of_chunk = [rules.words(chunk) for chunk in encoded.dictionary.to_pylist()]
    flat = [word for words in words_of_chunk for word in words]
    language_of = _languages(lang, rules)
    elisions = _elisions([word for word in set(flat) if "'" in word], language_of.names, rules)
    vocabulary = sorted({*flat, *(rest for of in elisions.values() for rest in of.values())})
    number = {word: i for i, word in enumerate(vocabulary)}
    flat_numbers = np.fromiter((number[word] for word in flat), np.int32, len(flat))
    lengths = np.fromiter(map(len, words_of_chunk), np.int32, len(words_of_chunk))
    first = np.cumsum(lengths) - lengths

    # The tokens of one word, which most are, come first, then those of several, each repeated for each of its words.
    one, more = np.flatnonzero(lengths[code] == 1), np.flatnonzero(lengths[code] > 1)
    repeats = lengths[code[more]]
    nth = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    post = np.concatenate([post_of_token[one], np.repeat(post_of_token[more], repeats)])
    word = flat_numbers[np.concatenate([first[code[one]], np.repeat(first[code[more]], repeats) + nth])]

    for language, elided in elisions.items():
        becomes = np.arange(len(vocabulary), dtype=np.int32)
        becomes[[number[whole] for whole in elided]] = [number[rest] for rest in elided.values()]
        mine = language_of.row[post] == language
        word[mine] = becomes[word[mine]]
    counts = ~_stopped(language_of, vocabulary, rules, post, word)
    key = (post[counts].astype(np.int64) << 32) | word[counts]
    key.sort()
    key = key[np.append(True, key[1:] != key[:-1])] if len(key) else key
    return Tokens(pa.array(vocabulary, pa.string()), (key >> 32).astype(np.int32), (key & 0xFFFFFFFF).astype(np.int32))


@dataclass(frozen=True)
class _Languages:
    """The languages of posts: their names, and for each post the place of its language among them."""

    names: list[str]
    row: NDArray[np.int32]


def _languages(lang: pa.ChunkedArray, rules: Rules) -> _Languages:
    encoded = pa.concat_arrays(lang.chunks).dictionary_encode()
    names = [rules.language(name) for name in [*encoded.dictionary.to_pylist(), None]]
    languages = sorted(set(names))
    row_of_lang = np.array([languages.index(name) for name in names], np.int32)
    code = encoded.indices.fill_null(len(names) - 1).to_numpy(zero_copy_only=False)
    return _Languages(languages, row_of_lang[code])


def _elisions(words: list[str], languages: list[str], rules: Rules) -> dict[int, dict[str, str]]:
    """Return for each language's place the words that become others in its posts, and these others; "" is no word."""
    found = {
        row: {word: rest for word in words if (rest := rules.elided(language, word)) != word}
        for row, language in enumerate(languages)
    }
    return {row: elided for row, elided in found.items() if elided}


def _stopped(
    language_of: _Languages, vocabulary: list[str], rules: Rules, post: NDArray[Any], word: NDArray[Any]
) -> NDArray[np.bool_]:
    """Return which (post, word) don't count: stop words in the post's language, and words that are all elided."""
    table = np.zeros((len(language_of.names), len(vocabulary)), np.bool_)
    for row, language in enumerate(language_of.names):
        stop = rules.stop_words(language) | {""}
        table[row] = np.fromiter((w in stop for w in vocabulary), np.bool_, len(vocabulary))
    if len(language_of.names) == 1:
        return np.asarray(table[0][word], np.bool_)
    return np.asarray(table[language_of.row[post], word], np.bool_)

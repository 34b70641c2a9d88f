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
    """The words of each post. text and lang: strings, one a post; lang may be null."""
    texts = pa.concat_arrays(text.chunks) if text.num_chunks != 1 else text.chunk(0)
    chunks = pc.ascii_split_whitespace(texts)
    post_of_token = pc.list_parent_indices(chunks).to_numpy()
    encoded = chunks.flatten().dictionary_encode()
    code = encoded.indices.to_numpy()

    words_of_chunk = [rules.words(chunk) for chunk in encoded.dictionary.to_pylist()]
    flat = [word for words in words_of_chunk for word in words]
    vocabulary = sorted(set(flat))
    number = {word: i for i, word in enumerate(vocabulary)}
    flat_numbers = np.fromiter((number[word] for word in flat), np.int32, len(flat))
    lengths = np.fromiter(map(len, words_of_chunk), np.int32, len(words_of_chunk))
    first = np.cumsum(lengths) - lengths

    # First every token's first word, then the second words of those that have one, and so on: most have one.
    posts, words = [], []
    left = np.flatnonzero(lengths[code] > 0)
    for nth in range(int(lengths.max(initial=0))):
        left = left[lengths[code[left]] > nth] if nth else left
        posts.append(post_of_token[left])
        words.append(flat_numbers[first[code[left]] + nth])
    post, word = (np.concatenate(parts) if parts else np.empty(0, np.int32) for parts in (posts, words))

    counts = ~_stopped(lang, vocabulary, rules, post, word)
    key = (post[counts].astype(np.int64) << 32) | word[counts]
    key.sort()
    key = key[np.append(True, key[1:] != key[:-1])] if len(key) else key
    return Tokens(pa.array(vocabulary, pa.string()), (key >> 32).astype(np.int32), (key & 0xFFFFFFFF).astype(np.int32))


def _stopped(
    lang: Any, vocabulary: list[str], rules: Rules, post: NDArray[Any], word: NDArray[Any]
) -> NDArray[np.bool_]:
    """Which (post, word) are stop words in the post's language."""
    encoded = pa.concat_arrays(lang.chunks).dictionary_encode()
    names = [rules.language(name) for name in [*encoded.dictionary.to_pylist(), None]]
    languages = sorted(set(names))
    table = np.zeros((len(languages), len(vocabulary)), np.bool_)
    for row, language in enumerate(languages):
        stop = rules.stop_words(language)
        table[row] = np.fromiter((w in stop for w in vocabulary), np.bool_, len(vocabulary))
    if len(languages) == 1:
        return np.asarray(table[0][word], np.bool_)
    row_of_lang = np.array([languages.index(name) for name in names], np.int32)
    code = encoded.indices.fill_null(len(names) - 1).to_numpy(zero_copy_only=False)
    return np.asarray(table[row_of_lang[code][post], word], np.bool_)

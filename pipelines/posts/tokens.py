"""Texts → words, by the column: only distinct chunks of text that are out of the ordinary go through Python.

ASCII white space splits each text into chunks (in Arrow); each distinct chunk is read once by the rules; the rest is
arithmetic on numbers. Exact, because no word, URL or mention of either set of rules spans white space.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.posts.chunks import encode, split
from pipelines.posts.lexicon import lexicon
from pipelines.posts.rules import Rules

#: Bytes of text whose chunks are looked up together, which bounds what is held beside the result.
_SLAB = 1 << 24
#: Bytes of text that are split and sorted together, so few that their arrays stay in the processor's cache.
_PIECE = 1 << 19


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


def tokenize(
    text: pa.ChunkedArray, lang: pa.ChunkedArray, rules: Rules, slab: int = _SLAB, piece: int = _PIECE
) -> Tokens:
    """Return the words of each post. text and lang: strings, one a post; lang may be null."""
    texts = (text.chunk(0) if text.num_chunks == 1 else text.combine_chunks()).fill_null("")
    languages = _languages(lang, rules)
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    slabs = [
        _tokens(texts, list(_cut(offsets, begin, end, piece)), languages, rules)
        for begin, end in _cut(offsets, 0, len(texts), slab)
    ]
    if len(slabs) == 1:
        return slabs[0]
    words = pa.chunked_array([part.vocabulary for part in slabs], pa.string()).unique()
    vocabulary = words.take(pc.sort_indices(words))
    places = [pc.index_in(part.vocabulary, vocabulary).to_numpy() for part in slabs]  # in the order of both
    return Tokens(
        vocabulary,
        _joined([part.post for part in slabs]),
        _joined([place[part.word] for place, part in zip(places, slabs, strict=True)]),
    )


def _joined(numbers: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    return np.concatenate([np.empty(0, np.int32), *numbers])


def _cut(offsets: NDArray[np.int32], first: int, last: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of runs of the texts from `first` to `last`; each has up to `size` bytes, or is one text."""
    while first < last:
        fits = np.searchsorted(offsets, min(offsets[first] + np.int64(size), offsets[-1]).astype(np.int32), "right") - 1
        end = min(max(int(fits), first + 1), last)
        yield first, end
        first = end


@dataclass(frozen=True)
class _Languages:
    """The languages of posts: their names, and for each post the place of its language among them."""

    names: list[str]
    row: NDArray[np.int32]


def _languages(lang: pa.ChunkedArray, rules: Rules) -> _Languages:
    encoded = lang.combine_chunks().dictionary_encode()
    code = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy()
    names = [rules.language(name) for name in [*encoded.dictionary.to_pylist(), None]]
    languages = sorted({names[place] for place in np.unique(code).tolist()})
    row_of_lang = np.array([languages.index(name) if name in languages else -1 for name in names], np.int32)
    return _Languages(languages, row_of_lang[code])


def _tokens(texts: pa.Array, pieces: Sequence[tuple[int, int]], languages: _Languages, rules: Rules) -> Tokens:
    """Return the words of the posts of some pieces of the texts."""
    chunks = [(begin, end, split(texts.slice(begin, end - begin), rules)) for begin, end in pieces]
    chunks = [each for each in chunks if len(each[-1].number)]
    if not chunks:
        return Tokens(pa.array([], pa.string()), np.empty(0, np.int32), np.empty(0, np.int32))
    distinct, codes = encode([of for _, _, of in chunks])
    known = lexicon(distinct, languages.names, rules)

    posts, words = [], []
    bits = len(known.vocabulary).bit_length()
    for (begin, end, of), code in zip(chunks, codes, strict=True):
        # Each post's number and a word's as one number: the smaller its type, the sooner it is sorted.
        kind: type[np.unsignedinteger[Any]] = np.uint32 if (end - begin).bit_length() + bits <= 32 else np.uint64
        post, word = known.words(
            np.repeat(np.arange(end - begin, dtype=kind), of.count), code, languages.row[begin:end]
        )
        post <<= kind(bits)
        key = post | word.astype(kind)
        key.sort()
        key = key[np.append(True, key[1:] != key[:-1])]
        key = key[: -1 if key[-1] == np.iinfo(kind).max else None]  # no word is -1, and so has the greatest number
        posts.append((key >> kind(bits)).astype(np.int32) + np.int32(begin))
        words.append((key & kind((1 << bits) - 1)).astype(np.int32))
    return Tokens(known.vocabulary, _joined(posts), _joined(words))

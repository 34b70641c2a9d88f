"""Pairs of words, each with its posts: made from the words of posts, cut into shards, added up.

A pair is a number, w1 · words + w2, in a vocabulary of its own, so that numpy does all the work: it sorts integers by
vectors and merges sorted runs, which beats any hashing.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from millrace.beam.adding import add_up
from millrace.beam.files import worker_threads
from millrace.beam.shards import hashes, pair_shard_of, rows_of
from pipelines.posts.tokens import Tokens

#: As tables have them: `word` is the vocabulary, ascending, and w1 and w2 are its rows, from 0. The columns are of
#: unequal length, and the shorter ones end in nulls.
SCHEMA = pa.schema([("word", pa.string()), ("w1", pa.int32()), ("w2", pa.int32()), ("posts", pa.int64())])
#: How Parquet stores them: ascending words and numbers as what changes from one to the next, and the few different
#: numbers of posts once.
ENCODINGS = {
    "word": "DELTA_BYTE_ARRAY",
    "w1": "DELTA_BINARY_PACKED",
    "w2": "DELTA_BINARY_PACKED",
    "posts": "RLE_DICTIONARY",
}
#: A post of more different words than this counts for its words and not for its pairs, because pairs grow with the
#: square.
MAX_PAIRED_WORDS = 1024
#: Pairs that one thread adds up as fast as several.
_FEW = 1 << 18
#: Pairs, with repetition, held at a time: up to 8 bytes each.
MAX_AT_ONCE = 1 << 25


@dataclass(frozen=True)
class Pairs:
    """Some pairs: w1 < w2, each once.

    vocabulary: words in ascending order (by code point). number: ascending, uint32 where they fit, else uint64.
    posts: of each pair, shape (groups, pairs), int64; a group is what is counted apart, such as a window of days.
    """

    vocabulary: pa.Array
    number: NDArray[np.unsignedinteger[Any]]
    posts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.number)

    def words(self, some: Any = slice(None)) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the places in the vocabulary of w1 and of w2, of some of the pairs."""
        number, size = self.number[some], self.number.dtype.type(max(len(self.vocabulary), 1))
        w1 = number // size  # which numpy does by vectors, unlike divmod
        return w1, number - w1 * size


def to_table(pairs: Pairs) -> pa.Table:
    """Return the pairs of one group as SCHEMA has them."""
    w1, w2 = pairs.words()
    columns = [pairs.vocabulary, *(pa.array(each.astype(np.int64)) for each in (w1, w2)), pa.array(pairs.posts[0])]
    rows = max(map(len, columns))
    padded = [pa.concat_arrays([each, pa.nulls(rows - len(each), each.type)]) for each in columns]
    return pa.Table.from_arrays(
        [each.cast(field.type) for each, field in zip(padded, SCHEMA, strict=True)], schema=SCHEMA
    )


def none(groups: int = 1) -> Pairs:
    """Return no pairs."""
    return Pairs(pa.array([], pa.string()), np.empty(0, np.uint32), np.empty((groups, 0), np.int64))


def of_table(table: pa.Table, group: int = 0, groups: int = 1) -> Pairs:
    """Return the pairs of a table, as counted in a group."""
    word, w1, w2, posts = (table[name].drop_null().combine_chunks() for name in SCHEMA.names)
    kind = _number_type(len(word))
    number = w1.to_numpy().astype(kind) * kind(len(word)) + w2.to_numpy().astype(kind)
    in_groups = np.zeros((groups, len(number)), np.int64)
    in_groups[group] = posts.to_numpy()
    return Pairs(word, number, in_groups)


def of_posts(tokens: Tokens, at_once: int = MAX_AT_ONCE) -> Pairs:
    """Return the pairs of each post's words. at_once: pairs held at a time, at least those of one post."""
    starts = np.flatnonzero(np.diff(tokens.post, prepend=-1))
    lengths = np.diff(np.append(starts, len(tokens.post)))
    lengths[lengths > MAX_PAIRED_WORDS] = 0
    piece = np.cumsum(lengths * (lengths - 1) // 2) // at_once
    pieces = np.unique(piece) if len(piece) else [0]
    return add_up((_of_some(tokens, starts[piece == n], lengths[piece == n]) for n in pieces), add)


def _of_some(tokens: Tokens, starts: Any, lengths: Any) -> Pairs:
    """Return the pairs of some posts, given where each post's words begin and how many they are."""
    size = len(tokens.vocabulary)
    pairs = np.empty(int((lengths * (lengths - 1) // 2).sum()), _number_type(size))
    word = tokens.word.astype(pairs.dtype)
    at = 0
    for length in np.unique(lengths[lengths > 1]).tolist():  # all posts of so many words at once
        words = word[starts[lengths == length][:, None] + np.arange(length)]
        first, second = np.triu_indices(length, 1)
        found = words[:, first] * pairs.dtype.type(size) + words[:, second]
        pairs[at : at + found.size] = found.ravel()
        at += found.size
    pairs.sort()
    begins = _begins(pairs)
    return Pairs(tokens.vocabulary, pairs[begins], np.diff(np.append(begins, len(pairs)))[None, :])


def split(pairs: Pairs, shards: int) -> Iterator[Pairs]:
    """Yield the pairs of each shard, with the words that they have."""
    if shards == 1:
        yield _cut(pairs)
        return
    for rows in rows_of(_shards(pairs, shards), shards):
        yield _cut(_some(pairs, rows))


def shard(pairs: Pairs, number: int, shards: int) -> Pairs:
    """Return the pairs of one shard, with the words that they have."""
    return _cut(_some(pairs, np.flatnonzero(_shards(pairs, shards) == number)))


def _shards(pairs: Pairs, shards: int) -> NDArray[np.uint16]:
    of_word = hashes(pairs.vocabulary.to_pylist())
    w1, w2 = pairs.words()
    return pair_shard_of(of_word[w1], of_word[w2], shards)


def _some(pairs: Pairs, some: NDArray[np.int64]) -> Pairs:
    return Pairs(pairs.vocabulary, pairs.number[some], pairs.posts[:, some])


def _cut(pairs: Pairs) -> Pairs:
    """Return the pairs in a vocabulary that has no other words than theirs."""
    w1, w2 = pairs.words()
    there = np.zeros(len(pairs.vocabulary), np.bool_)
    there[w1] = there[w2] = True
    size = int(there.sum())
    if size == len(there):
        return pairs
    kind = _number_type(size)
    becomes = (np.cumsum(there) - 1).astype(kind)
    return Pairs(pairs.vocabulary.filter(pa.array(there)), becomes[w1] * kind(size) + becomes[w2], pairs.posts)


def add(parts: Sequence[Pairs]) -> Pairs:
    """Return the sum of several, which have the same groups."""
    there = [part for part in parts if len(part)] or parts[:1]
    if len(there) == 1:
        return there[0]
    words = pa.chunked_array([part.vocabulary for part in there], pa.string()).unique()
    vocabulary = words.take(pc.sort_indices(words))
    threads = worker_threads() if sum(map(len, there)) > _FEW else 1
    with ThreadPoolExecutor(threads) as pool:  # numpy lets threads run
        numbers = list(pool.map(lambda part: _numbers(part, vocabulary), there))
        # A thread adds up the pairs of a range of numbers, and the longest part says which ranges.
        longest = max(numbers, key=len)
        ends = [longest[len(longest) * n // threads] for n in range(1, threads)]
        places = [[0, *np.searchsorted(each, ends).tolist(), len(each)] for each in numbers]

        def sum_of(range_: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
            mine = [slice(*at[range_ : range_ + 2]) for at in places]
            every = np.concatenate([each[some] for each, some in zip(numbers, mine, strict=True)])
            order = np.argsort(every, kind="stable")  # which merges runs that are sorted
            every = every[order]
            begins = _begins(every)
            posts = np.concatenate([part.posts[:, some] for part, some in zip(there, mine, strict=True)], axis=1)
            return every[begins], np.add.reduceat(posts[:, order], begins, axis=1)

        sums = list(pool.map(sum_of, range(threads)))
    number, posts = zip(*sums, strict=True)
    return Pairs(vocabulary, np.concatenate(number), np.concatenate(posts, axis=1))


def _numbers(pairs: Pairs, vocabulary: pa.Array) -> NDArray[np.unsignedinteger[Any]]:
    """Return the numbers of pairs in a vocabulary that has their words, and more."""
    kind = _number_type(len(vocabulary))
    place = pc.index_in(pairs.vocabulary, vocabulary).to_numpy().astype(kind)
    w1, w2 = pairs.words()
    return np.asarray(place[w1] * kind(len(vocabulary)) + place[w2], kind)


def _begins(ascending: NDArray[Any]) -> NDArray[np.int64]:
    """Return where each of the values begins."""
    changes = np.flatnonzero(ascending[1:] != ascending[:-1]) + 1
    return np.append(0, changes) if len(ascending) else changes


def _number_type(words: int) -> type[np.unsignedinteger[Any]]:
    """Return the smallest type that numbers all pairs of so many words: w1 · words + w2."""
    return np.uint32 if words < 1 << 16 else np.uint64

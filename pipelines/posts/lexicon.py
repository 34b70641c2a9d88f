"""Distinct chunks of text → what they mean: the words that each has, as numbers, in each language."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.posts.rules import Rules

#: The number of no word.
_NONE = -1
#: A chunk of several words has this number, less its place among such chunks.
_SEVERAL = -2


@dataclass(frozen=True)
class _Usage:
    """What becomes of words in posts of each language.

    elides: whether a word has an elided article in any language. elided: rows of languages, and for each word its
    number without an elided article. stopped: whether a word does not count, by the language's row and the word's
    column; `column` says which column that is. `elides` and `column` have one more place, for no word.
    """

    elides: NDArray[np.bool_]
    elided: list[tuple[int, NDArray[np.int32]]]
    column: NDArray[np.int32]
    stopped: NDArray[np.bool_]

    def applied(self, word: NDArray[np.int32], language: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return what is left of each word in a post of its language, _NONE where none counts; `word` is used up."""
        some = np.flatnonzero(self.elides[word])
        for row, becomes in self.elided if len(some) else ():
            mine = some[language[some] == row]
            word[mine] = becomes[word[mine]]
        return np.where(self.stopped[language, self.column[word]], np.int32(_NONE), word)


@dataclass(frozen=True)
class Lexicon:
    """What the distinct chunks of some texts mean.

    vocabulary: all words, ascending. number: for each chunk its word, _NONE, or _SEVERAL - n, where count[n] words
    from several[first[n]] on are the chunk's. usage: None where it is applied already, because there is one language.
    """

    vocabulary: pa.Array
    number: NDArray[np.int32]
    first: NDArray[np.int32]
    count: NDArray[np.int32]
    several: NDArray[np.int32]
    usage: _Usage | None

    def words(
        self, post: NDArray[Any], chunk: NDArray[np.int32], language: NDArray[np.int32]
    ) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """Return the posts and words of (post, chunk), _NONE where none counts. language: the row of each post's."""
        word = self.number.take(chunk, mode="clip")
        more = np.flatnonzero(word <= _SEVERAL)
        if len(more):
            place = _SEVERAL - word[more]
            word[more] = _NONE
            count = self.count[place]
            nth = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
            post = np.concatenate([post, np.repeat(post[more], count)])
            word = np.concatenate([word, self.several[np.repeat(self.first[place], count) + nth]])
        return post, word if self.usage is None else self.usage.applied(word, language[post])


def lexicon(chunks: pa.Array, languages: Sequence[str], rules: Rules) -> Lexicon:
    """Return what chunks mean in posts of some languages."""
    only = rules.plain(chunks)
    asked = np.flatnonzero(only.is_null().to_numpy(zero_copy_only=False))
    found = [rules.words(chunk) for chunk in chunks.take(pa.array(asked)).to_pylist()]
    count = np.fromiter(map(len, found), np.int32, len(found))
    first = np.cumsum(count, dtype=np.int32) - count
    several = pa.array([word for words in found for word in words], pa.string())

    elisions = _elisions([only, several], languages, rules)
    others = [pa.array([each[part] for each in elisions], pa.string()) for part in (1, 2)]
    vocabulary, (only_number, several_number, whole, rest) = _numbered([only.fill_null(""), several, *others])
    usage = _usage(vocabulary, languages, [each[0] for each in elisions], whole, rest, rules)
    if len(languages) == 1:
        only_number, several_number = (
            usage.applied(number, np.zeros(len(number), np.int32)) for number in (only_number, several_number)
        )
    only_number[asked] = np.where(count, np.int32(_SEVERAL) - np.arange(len(asked), dtype=np.int32), np.int32(_NONE))
    only_number[asked[count == 1]] = several_number[first[count == 1]]
    return Lexicon(vocabulary, only_number, first, count, several_number, usage if len(languages) > 1 else None)


def _numbered(words: Sequence[pa.Array]) -> tuple[pa.Array, list[NDArray[np.int32]]]:
    """Return the different words of some arrays, ascending, and for each word its number there; _NONE for ""."""
    encoded = pa.concat_arrays([pa.array([""]), *words]).dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    number = np.empty(len(order), np.int32)
    number[order] = np.arange(_NONE, len(order) + _NONE)  # "" comes first
    return encoded.dictionary.take(pa.array(order[1:])), np.split(
        number[encoded.indices.to_numpy()[1:]], np.cumsum([len(each) for each in words[:-1]])
    )


def _elisions(words: Sequence[pa.Array], languages: Sequence[str], rules: Rules) -> list[tuple[int, str, str]]:
    """Return (row of the language, word, what is left of the word there) where they differ; "" is no word."""
    eliding = [(row, language) for row, language in enumerate(languages) if rules.elides(language)]
    if not eliding:
        return []
    all_words = pa.chunked_array(words)
    some = all_words.filter(pc.match_substring(all_words, "'")).unique().to_pylist()
    pairs = ((row, word, rules.elided(language, word)) for row, language in eliding for word in some)
    return [(row, word, rest) for row, word, rest in pairs if rest != word]


def _usage(
    vocabulary: pa.Array, languages: Sequence[str], rows: Sequence[int], whole: Any, rest: Any, rules: Rules
) -> _Usage:
    """Return what becomes of words; in the language of each of `rows` a word of `whole` becomes one of `rest`."""
    elides = np.zeros(len(vocabulary) + 1, np.bool_)
    elides[whole] = True
    elided = []
    for row in sorted(set(rows)):
        becomes = np.arange(len(vocabulary), dtype=np.int32)
        mine = np.array(rows) == row
        becomes[whole[mine]] = rest[mine]
        elided.append((row, becomes))

    stops = [list(rules.stop_words(language)) for language in languages]
    row_of_stop = np.repeat(np.arange(len(stops)), [len(each) for each in stops])
    number = pc.index_in(pa.array([word for each in stops for word in each], pa.string()), vocabulary)
    occurs = number.is_valid().to_numpy(zero_copy_only=False)
    number, row_of_stop = number.drop_null().to_numpy(), row_of_stop[occurs]
    distinct, column_of_stop = np.unique(number, return_inverse=True)
    column = np.zeros(len(vocabulary) + 1, np.int32)  # column 0 is that of all words that count in each language
    column[distinct] = np.arange(1, len(distinct) + 1)
    stopped = np.zeros((len(languages), len(distinct) + 1), np.bool_)
    stopped[row_of_stop, column_of_stop + 1] = True
    return _Usage(elides, elided, column, stopped)

"""A key's shard is the same for ever; days that were counted years apart merge by it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.beam import shards
from millrace.beam.shards import hashes, pair_shard_of, shard_of

POWERS = st.sampled_from([1 << bit for bit in range(17)])


def test_shards_are_those_of_every_machine_and_version() -> None:
    """Whoever changes these makes all counts that were ever written useless."""
    words = ["", "a", "straße", "今日", "http://a.example/"]
    assert hashes(words).tolist() == [0, 3904355907, 2285851341, 3963056325, 2078078756]
    assert shard_of(words, 8).tolist() == [0, 3, 5, 5, 4]
    of_word = hashes(words)
    # The lowest bits of the hashes, by turns: 000 with 011, 011 with 101, 101 with 100.
    assert pair_shard_of(of_word[[0, 1, 2]], of_word[[1, 2, 4]], 64).tolist() == [0b001010, 0b100111, 0b110001]


@settings(deadline=None)
@given(st.lists(st.text(), max_size=20), POWERS)
def test_a_key_has_one_shard_whatever_stands_beside_it(keys: list[str], number: int) -> None:
    together = shard_of(keys, number)
    assert together.tolist() == [int(shard_of([key], number)[0]) for key in keys]
    assert all(0 <= shard < number for shard in together)


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=20), POWERS, POWERS)
def test_a_shard_is_a_part_of_one_shard_of_fewer_and_knows_its_members(
    pairs: list[tuple[str, str]], number: int, other: int
) -> None:
    """So days of different shards add up, and a shard of pairs needs the words of some classes only."""
    few, many = sorted((number, other))
    first, second = (hashes(words) for words in zip(*pairs, strict=True))
    shard = pair_shard_of(first, second, many)
    assert pair_shard_of(first, second, few).tolist() == [each % few for each in shard.tolist()]
    of = shards.classes(many)
    for (w1, w2), each in zip(pairs, shard.tolist(), strict=True):
        classes = shards.members(each, many)
        assert [int(shard_of([word], of)[0]) in mine for word, mine in zip((w1, w2), classes, strict=True)] == [
            True
        ] * 2
    assert sum(map(len, classes)) <= 3


def test_shards_are_about_equally_large() -> None:
    """Of URLs and of pairs; the pairs of one word are in as many shards as the other word has classes."""
    keys = [f"http://a.example/{n}" for n in range(10_000)]
    others = hashes([f"other {n * 7919 % 10_000}" for n in range(10_000)])
    common = np.full(len(keys), hashes(["common"])[0], np.uint32)
    for shard in (shard_of(keys, 8), pair_shard_of(hashes(keys), others, 8)):
        assert all(1_000 < count < 1_500 for count in np.bincount(shard, minlength=8))
    for shard in (pair_shard_of(hashes(keys), common, 16), pair_shard_of(common, hashes(keys), 16)):
        found = np.bincount(shard, minlength=16)
        assert all(2_000 < count < 3_000 for count in found[found > 0])
        assert (found > 0).sum() == 4


@pytest.mark.parametrize(
    ("size", "expected"), [(0, 1), (10, 1), (11, 2), (20, 2), (21, 4), (40, 4), (41, 8), (10**9, 1 << 16)]
)
def test_there_are_as_many_shards_as_something_needs(size: int, expected: int) -> None:
    """A power of two, and none larger than it may be, up to a bound on their number."""
    assert shards.number(size, 10) == expected

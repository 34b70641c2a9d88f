"""A key's shard is the same for ever; days that were counted years apart merge by it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.beam.shards import hashes, pair_shard_of, shard_of


def test_shards_are_those_of_every_machine_and_version() -> None:
    """Whoever changes these makes all counts that were ever written useless."""
    words = ["", "a", "straße", "今日", "http://a.example/"]
    assert hashes(words).tolist() == [0, 3904355907, 2285851341, 3963056325, 2078078756]
    assert shard_of(words, 8).tolist() == [0, 3, 5, 5, 4]
    of_word = hashes(words)
    assert pair_shard_of(of_word[[0, 1, 2]], of_word[[1, 2, 4]], 8).tolist() == [7, 4, 3]


@settings(deadline=None)
@given(st.lists(st.text(), max_size=20), st.integers(1, 20))
def test_a_key_has_one_shard_whatever_stands_beside_it(keys: list[str], shards: int) -> None:
    together = shard_of(keys, shards)
    assert together.tolist() == [int(shard_of([key], shards)[0]) for key in keys]
    assert all(0 <= shard < shards for shard in together)


def test_shards_are_about_equally_large() -> None:
    """Of URLs, and of pairs that all have one member in common."""
    keys = [f"http://a.example/{n}" for n in range(10_000)]
    common = np.full(len(keys), hashes(["common"])[0], np.uint32)
    for shard in (shard_of(keys, 8), pair_shard_of(hashes(keys), common, 8), pair_shard_of(common, hashes(keys), 8)):
        assert all(1_000 < count < 1_500 for count in np.bincount(shard, minlength=8))

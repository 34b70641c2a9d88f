"""Which shard a key belongs to: the same on every machine and in every version, because days are merged years apart.

The number of shards is a power of two, and a key's shard is the lowest bits of a number that the key has for ever. So
shard 5 of 8 is a part of shard 1 of 4, and days that are cut into different numbers of shards still add up.
"""

import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Shards at most, which is a matter of files: a day of 10 billion posts has fewer.
MAX_SHARDS = 1 << 16


def number(size: int, of_each: int) -> int:
    """Return how many shards something of a size has: a power of two, so that none has more than `of_each` of it."""
    return min(MAX_SHARDS, 1 << max(0, -(-size // of_each) - 1).bit_length())


def hashes(keys: Iterable[str]) -> NDArray[np.uint32]:
    """Return CRC-32 of each key's UTF-8 bytes."""
    return np.fromiter((zlib.crc32(key.encode()) for key in keys), np.uint32)


def shard_of(keys: Iterable[str], shards: int) -> NDArray[np.int64]:
    """Return the shard, from 0, of each key."""
    return (hashes(keys) % shards).astype(np.int64)


def rows_of(shard: NDArray[Any], shards: int) -> Iterator[NDArray[np.int64]]:
    """Yield, for each of so many shards, the rows that lie in the shard, ascending; shard: of each row."""
    ends = np.cumsum(np.bincount(shard, minlength=shards))
    yield from np.split(np.argsort(shard, kind="stable"), ends[:-1])


def pair_shard_of(first: NDArray[Any], second: NDArray[Any], shards: int) -> NDArray[np.uint16]:
    """Return the shard of each pair, given its members' hashes (uint32).

    The bits of both hashes take turns (Morton 1966), the first's lowest bit being the lowest. So the pairs of a shard
    have first members of one class, of `classes(shards)`, and second members of one or two: a shard knows few words.
    """
    shard = np.zeros(len(first), np.uint16)
    for bit in range(shards.bit_length() - 1):
        mine = (second if bit % 2 else first) >> np.uint32(bit // 2)
        shard |= ((mine & np.uint32(1)) << np.uint32(bit)).astype(np.uint16)
    return shard


def classes(shards: int) -> int:
    """Return in how many classes the members of pairs are, where the pairs are in so many shards; a power of two.

    A member's class is what shard_of() says of it for that number.
    """
    return 1 << (shards.bit_length() // 2)


def members(shard: int, shards: int) -> tuple[set[int], set[int]]:
    """Return the classes of the first and of the second members of a shard's pairs."""
    bits = shards.bit_length() - 1
    first = sum((shard >> bit & 1) << bit // 2 for bit in range(0, bits, 2))
    second = sum((shard >> bit & 1) << bit // 2 for bit in range(1, bits, 2))
    known = 1 << bits // 2  # of the second member fewer bits are known where their number is odd
    return {first}, set(range(second, classes(shards), known))

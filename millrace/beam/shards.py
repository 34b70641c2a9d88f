"""Which shard a key belongs to: the same on every machine and in every version, because days are merged years apart."""

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def hashes(keys: Iterable[str]) -> NDArray[np.uint32]:
    """Return CRC-32 of each key's UTF-8 bytes."""
    return np.fromiter((zlib.crc32(key.encode()) for key in keys), np.uint32)


def shard_of(keys: Iterable[str], shards: int) -> NDArray[np.int64]:
    """Return the shard, from 0, of each key."""
    return (hashes(keys) % shards).astype(np.int64)


def pair_shard_of(first: NDArray[Any], second: NDArray[Any], shards: int) -> NDArray[np.int64]:
    """Return the shard of each pair, given its members' hashes (uint32), which are mixed so that both decide."""
    mixed = first.astype(np.uint64) * np.uint64(0x9E3779B1) + second.astype(np.uint64)
    return ((mixed >> np.uint64(16)) % np.uint64(shards)).astype(np.int64)

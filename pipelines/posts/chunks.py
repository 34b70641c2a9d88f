"""Texts → chunks, the runs of bytes in which words stand, and which of them are the same.

Most chunks have up to eight bytes and so are integers, which are gathered and hashed much sooner than strings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.posts.rules import Rules

#: The bytes of a number.
_SHORT = 8
#: A chunk of more bytes has this number and its place among such chunks; no UTF-8 has a byte of 255.
_LONG = np.uint64(0xFF << 56)
#: The least number of one byte, of two and so on.
_LEAST = np.array([1 << 8 * n for n in range(_SHORT)], np.uint64)


@dataclass(frozen=True)
class Chunks:
    """The chunks of some texts.

    count: how many each text has. number: what each chunk is, its bytes from the lowest up, without bytes 0 at its end,
    which mean nothing; anything for those of more bytes, which stand at the places `at` and are the strings `long`.
    """

    count: NDArray[np.int64]
    number: NDArray[np.uint64]
    at: NDArray[np.int64]
    long: pa.Array


def split(texts: pa.Array, rules: Rules) -> Chunks:
    """Return the chunks of texts: strings, none of them null."""
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts), "\n")
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    ends = offsets + np.arange(-int(offsets[0]), len(offsets) - int(offsets[0]))  # one more than without what joins
    size = int(ends[-1])
    padded = np.full(1 + size + _SHORT, ord("\n"), np.uint8)
    padded[1:size] = np.frombuffer(joined.buffers()[2] or b"", np.uint8, size - 1)
    data, inside = rules.chunks(padded)
    borders, data = np.flatnonzero(inside[1:] != inside[:-1]), data[1:]

    begin = borders[::2].copy()
    length = borders[1::2] - begin
    number = np.ndarray((size + 1,), np.uint64, data, 0, (1,))[begin]  # the bytes that begin at each place
    spare = ((_SHORT - length) * 8).view(np.uint64)  # more than there are bits, if the chunk is long
    number <<= spare
    number >>= spare
    at = np.flatnonzero(length > _SHORT)
    borders32 = pa.py_buffer(borders.astype(np.int32))
    runs = pa.Array.from_buffers(pa.string(), max(len(borders) - 1, 0), [None, borders32, pa.py_buffer(data)])
    return Chunks(np.diff(np.searchsorted(borders, ends)) >> 1, number, at, runs.take(pa.array(2 * at)))


def encode(pieces: Sequence[Chunks]) -> tuple[pa.Array, list[NDArray[np.int32]]]:
    """Return the distinct chunks, and for each piece (one at least, none without chunks) which of them it has where."""
    long = pa.concat_arrays([piece.long for piece in pieces]).dictionary_encode()
    places = np.split(long.indices.to_numpy().astype(np.uint64), np.cumsum([len(piece.at) for piece in pieces[:-1]]))
    for piece, place in zip(pieces, places, strict=True):
        piece.number[piece.at] = _LONG + place
    encoded = pa.chunked_array([piece.number for piece in pieces]).dictionary_encode()

    distinct = encoded.chunk(0).dictionary.to_numpy()
    is_long = distinct >= _LONG
    short = distinct[~is_long]
    length = np.searchsorted(_LEAST, short, "right")
    data = short.view(np.uint8).reshape(-1, _SHORT)[np.arange(_SHORT) < length[:, None]]
    offsets = np.append(0, np.cumsum(length)).astype(np.int32)
    strings = pa.Array.from_buffers(pa.string(), len(short), [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    place = np.where(is_long, len(short) + np.cumsum(is_long), np.cumsum(~is_long)) - 1  # both in order of appearance
    every = pa.concat_arrays([strings, long.dictionary]).take(pa.array(place))
    return every, [of.indices.to_numpy() for of in encoded.chunks]

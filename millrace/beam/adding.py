"""Adding up many parts of one thing with few of them in memory, in a loop or in a Beam combiner.

Parts are held until there is twice as much of them as of the sum so far; then they are added to it. So memory goes with
the sum and not with the number of parts, and each part is gone through a few times at most.
"""

from collections.abc import Callable, Iterable, Sequence, Sized
from itertools import chain
from typing import TypeAlias, TypeVar

import apache_beam as beam
import pyarrow as pa
from apache_beam.coders import BytesCoder, Coder, IterableCoder, TupleCoder, VarIntCoder
from apache_beam.coders.typecoders import registry

P = TypeVar("P", bound=Sized)
#: A table in a combiner: its rows, and its bytes as tables travel, which are a quarter of what it has in memory.
_Packed: TypeAlias = tuple[int, bytes]

#: Rows that are held in any case, because adding up a few costs as much as adding up none.
_LEAST = 1 << 16


def add_up(parts: Iterable[P], add: Callable[[Sequence[P]], P]) -> P:
    """Return the sum of some parts, one at least, by a function that adds several; len() of a part is its rows."""
    held: list[P] = []
    for part in parts:
        held.append(part)
        if _are_many([len(each) for each in held]):
            held = [add(held)]
    return add(held)


def _are_many(rows: Sequence[int]) -> bool:
    """Return whether parts of so many rows are to be added up, the first of which is the sum so far."""
    return sum(rows[1:]) > max(_LEAST, 2 * rows[0])


class Adding(beam.CombineFn):
    """Tables → their sum, by a function that adds several."""

    def __init__(self, add: Callable[[Sequence[pa.Table]], pa.Table]) -> None:
        self._add = add

    def create_accumulator(self) -> list[_Packed]:
        return []

    def add_input(self, mutable_accumulator: list[_Packed], element: pa.Table) -> list[_Packed]:
        return self._and(mutable_accumulator, (element.num_rows, _coder().encode(element)))

    def merge_accumulators(self, accumulators: Iterable[Iterable[_Packed]]) -> list[_Packed]:
        held: list[_Packed] = []
        for part in chain.from_iterable(accumulators):
            held = self._and(held, part)
        return held

    def compact(self, accumulator: list[_Packed]) -> list[_Packed]:
        """Return the sum alone, which is what is shuffled."""
        return [self._sum(accumulator)]

    def extract_output(self, accumulator: list[_Packed]) -> pa.Table:
        return _coder().decode(self._sum(accumulator)[1])

    def get_accumulator_coder(self) -> Coder:
        return IterableCoder(TupleCoder([VarIntCoder(), BytesCoder()]))

    def _and(self, held: list[_Packed], part: _Packed) -> list[_Packed]:
        held.append(part)
        return [self._sum(held)] if _are_many([rows for rows, _ in held]) else held

    def _sum(self, held: Sequence[_Packed]) -> _Packed:
        if len(held) == 1:
            return held[0]
        table = self._add([_coder().decode(encoded) for _, encoded in held])
        return table.num_rows, _coder().encode(table)


def _coder() -> Coder:
    return registry.get_coder(pa.Table)

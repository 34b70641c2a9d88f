"""Adding up many parts of one thing with few of them in memory, in a loop or in a Beam combiner.

Parts are held until there is twice as much of them as of the sum so far; then they are added to it. So memory goes with
the sum and not with the number of parts, and each part is gone through a few times at most.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Any, TypeVar

import apache_beam as beam
import pyarrow as pa
from apache_beam.coders import Coder, IterableCoder
from apache_beam.coders.typecoders import registry

P = TypeVar("P", bound=Sized)

#: Rows that are held in any case, because adding up a few costs as much as adding up none.
_LEAST = 1 << 16


def add_up(parts: Iterable[P], add: Callable[[Sequence[P]], P]) -> P:
    """Return the sum of some parts, one at least, by a function that adds several; len() of a part is its rows."""
    held: list[P] = []
    for part in parts:
        held = _and(held, part, add)
    return add(held)


def _and(held: list[P], part: P, add: Callable[[Sequence[P]], P]) -> list[P]:
    """Return what is held with one part more; what is held begins with the sum so far."""
    held.append(part)
    if sum(map(len, held[1:])) > max(_LEAST, 2 * len(held[0])):
        return [add(held)]
    return held


class Adding(beam.CombineFn):
    """Tables → their sum, by a function that adds several. An accumulator is a list of tables."""

    def __init__(self, add: Callable[[Sequence[pa.Table]], pa.Table]) -> None:
        self._add = add

    def create_accumulator(self) -> list[pa.Table]:
        return []

    def add_input(self, mutable_accumulator: list[pa.Table], element: pa.Table) -> list[pa.Table]:
        return _and(mutable_accumulator, element, self._add)

    def merge_accumulators(self, accumulators: Iterable[list[pa.Table]]) -> list[pa.Table]:
        return [add_up(_each(accumulators), self._add)]

    def compact(self, accumulator: list[pa.Table]) -> list[pa.Table]:
        """Return the sum alone, which is what is shuffled."""
        return [self._add(accumulator)]

    def extract_output(self, accumulator: list[pa.Table]) -> pa.Table:
        return self._add(accumulator)

    def get_accumulator_coder(self) -> Coder:
        return IterableCoder(registry.get_coder(pa.Table))


def _each(accumulators: Iterable[Iterable[Any]]) -> Iterator[Any]:
    for accumulator in accumulators:
        yield from accumulator

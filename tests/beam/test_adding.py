"""Many parts are added up with few of them in hand."""

from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.beam.adding import Adding, add_up

SCHEMA = pa.schema([("key", pa.int64()), ("n", pa.int64())])


def add(tables: Sequence[pa.Table]) -> pa.Table:
    summed = pa.concat_tables(tables).group_by("key").aggregate([("n", "sum")]).sort_by("key")
    return pa.Table.from_arrays([summed["key"], summed["n_sum"]], schema=SCHEMA)


def table(counted: "Counter[int]") -> pa.Table:
    return pa.table([list(counted), list(counted.values())], schema=SCHEMA)


def counted(summed: pa.Table) -> "Counter[int]":
    return Counter(dict(zip(summed["key"].to_pylist(), summed["n"].to_pylist(), strict=True)))


parts = st.lists(st.lists(st.integers(0, 5), max_size=6).map(Counter), min_size=1, max_size=6)


@settings(deadline=None)
@given(st.lists(parts, min_size=1, max_size=3))
def test_a_sum_is_the_same_in_a_loop_and_in_a_combiner(of_workers: list[list["Counter[int]"]]) -> None:
    """However many workers have parts of it, whose sums travel as bytes between them."""
    every = [part for of_worker in of_workers for part in of_worker]
    expected = sum(every, Counter())
    assert counted(add_up(map(table, every), add)) == expected
    adding = Adding(add)
    coder = adding.get_accumulator_coder()
    travelled = []
    for of_worker in of_workers:
        accumulator = adding.create_accumulator()
        for part in of_worker:
            accumulator = adding.add_input(accumulator, table(part))
        compact = adding.compact(accumulator)
        assert len(compact) == 1
        travelled.append(coder.decode(coder.encode(compact)))
    assert counted(adding.extract_output(adding.merge_accumulators(travelled))) == expected


@pytest.mark.parametrize("how", ["loop", "combiner"])
def test_few_rows_are_in_hand_however_many_parts_there_are(how: str) -> None:
    """Of 60 parts with the same 50,000 keys never more than those of five are added at a time."""
    at_once: list[int] = []

    def watched(tables: Sequence[pa.Table]) -> pa.Table:
        at_once.append(sum(each.num_rows for each in tables))
        return add(tables)

    def many() -> Iterator[pa.Table]:
        return (pa.table([range(50_000), [number] * 50_000], schema=SCHEMA) for number in range(60))

    if how == "loop":
        summed = add_up(many(), watched)
    else:
        adding = Adding(watched)
        accumulator = adding.create_accumulator()
        for part in many():
            accumulator = adding.add_input(accumulator, part)
        summed = adding.extract_output(accumulator)
    assert summed.num_rows == 50_000
    assert set(summed["n"].to_pylist()) == {sum(range(60))}
    assert max(at_once) <= 5 * 50_000
    assert sum(at_once) < 2 * 60 * 50_000  # each part is gone through about once

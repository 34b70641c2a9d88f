"""Work in threads keeps the order of its items, takes few of them ahead, and ends with what went wrong."""

import threading
from collections.abc import Iterator

import pytest

from millrace.beam.threads import ahead


def test_results_come_in_order_and_few_items_are_taken_ahead() -> None:
    """Also where the first item takes longest; what was taken is never more than threads and one ahead."""
    taken, second = list[int](), threading.Event()

    def items() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    def work(number: int) -> int:
        if number == 0:
            assert second.wait(10)
        if number == 1:
            second.set()
        return number * number

    found = []
    for result in ahead(work, items(), 2):
        found.append(result)
        assert len(taken) - len(found) <= 2
    assert found == [number * number for number in range(20)]


def test_an_error_of_an_item_is_raised_in_its_turn() -> None:
    """What comes before it is yielded."""

    def work(number: int) -> float:
        return 1 / (2 - number)

    results = ahead(work, range(5), 2)
    assert [next(results), next(results)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)

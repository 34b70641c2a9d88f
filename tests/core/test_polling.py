"""Pauses between looks grow, are not everybody's, end with the patience, and begin anew when something happens."""

import time
from collections.abc import Callable

import pytest

from millrace.common.polling import Pauses


def kept(answers: Callable[[float], object] = lambda seconds: None) -> tuple[list[float], Callable[[float], object]]:
    """A wait that takes no time and keeps what it was asked for."""
    asked: list[float] = []

    def wait(seconds: float) -> object:
        asked.append(seconds)
        return answers(seconds)

    return asked, wait


def test_pauses_grow_up_to_the_longest() -> None:
    """Each is so many times the one before, and none is longer than the longest, nor than the caller's own."""
    asked, wait = kept()
    waiting = Pauses(1, 10, growth=2, spread=0, wait=wait)
    assert not waiting.begun
    assert all(waiting.pause() for _ in range(5))
    assert asked == [1, 2, 4, 8, 10]
    assert waiting.begun
    waiting.pause(3)
    waiting.pause()
    assert asked[5:] == [3, 6]


def test_pauses_of_many_differ() -> None:
    """Of many that wait for one thing each waits a time of its own, longer or shorter by the spread at most."""
    asked, wait = kept()
    for _ in range(200):
        Pauses(8, 8, spread=0.25, wait=wait).pause()
    assert len(set(asked)) > 100
    assert 6 <= min(asked) < 6.5 < 9.5 < max(asked) <= 10


def test_what_happens_meanwhile_makes_the_next_look_soon() -> None:
    """A wait that was cut short is followed by the first pause again."""
    asked, wait = kept(lambda seconds: seconds == 4)
    waiting = Pauses(1, 100, growth=2, spread=0, wait=wait)
    for _ in range(5):
        waiting.pause()
    assert asked == [1, 2, 4, 1, 2]


@pytest.mark.parametrize("patience", [0, -1])
def test_without_patience_there_is_no_pause(patience: float) -> None:
    asked, wait = kept()
    waiting = Pauses(1, 1, patience, wait=wait)
    assert not waiting.pause()
    assert (asked, waiting.begun, waiting.left) == ([], False, 0)


def test_the_last_pause_ends_with_the_patience() -> None:
    """There is one more look when it is over, and none after."""
    began = time.monotonic()
    waiting = Pauses(0.05, 60, 0.2, growth=1000)
    looks = 1
    while waiting.pause():
        looks += 1
    assert looks == 3
    assert 0.2 <= time.monotonic() - began < 2
    assert waiting.left == 0

"""Waits for what takes its time elsewhere: one look after the other, with pauses that grow, until patience is over.

waiting = Pauses(0.25, 2.0, patience=60)
while not (job := look()).finished:
    if not waiting.pause():
        raise ServiceError("it is still not finished")
"""

import math
import random
import time
from collections.abc import Callable


class Pauses:
    """The pauses between looks: the first seconds, then each longer by `growth`, up to the longest.

    spread: the share by which a pause is longer or shorter by chance, so that many that wait for one thing do not look
    at the same moment. patience: seconds in all, by a clock that nobody can set; the last pause ends with it. wait:
    waits for some seconds; where it gives True, something happened meanwhile, and pauses begin again with the first.
    """

    def __init__(
        self,
        first: float,
        longest: float,
        patience: float = math.inf,
        *,
        growth: float = 1.5,
        spread: float = 0.2,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._first, self._longest, self._growth, self._spread, self._wait = first, longest, growth, spread, wait
        self._end = time.monotonic() + patience
        self._next = first
        #: Whether there was a pause yet.
        self.begun = False

    @property
    def left(self) -> float:
        """The seconds of patience that are left; not below 0."""
        return max(0.0, self._end - time.monotonic())

    def pause(self, longest: float = math.inf) -> bool:
        """Pause until the next look is due; return False, without a pause, once patience is over.

        longest: of this and the next pauses, where that is less than what holds for all.
        """
        left = self.left
        if left <= 0:
            return False
        self.begun = True
        self._next = min(self._next, longest, self._longest)
        woken = self._wait(min(left, self._next * random.uniform(1 - self._spread, 1 + self._spread)))
        self._next = self._first if woken else self._next * self._growth
        return True

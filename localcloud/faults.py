"""What goes wrong, and when: a fault plan that the local services ask before every answer.

plan = FaultPlan()
plan.at(3, Fault("status", status=503), call="objects.insert")   # the third upload is answered with 503
plan.at(1, Fault("lost"), effects_only=True)                      # the first effect happens, its answer is lost
plan.randomly(0.2, seed=7)                                        # and one call in five fails
"""

import os
import random
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

Kind = Literal["status", "cut", "delay", "lost", "kill"]


@dataclass
class Fault:
    """One thing that goes wrong with one call.

    kind: "status" answers with `status` and does nothing; "cut" closes the connection without an answer, nothing done;
    "delay" waits `seconds`, then goes on as if nothing was; "lost" does what was asked, then closes the connection
    without an answer; "kill" does what was asked, then kills (SIGKILL) the process group `pid`, without an answer.
    `pid` may be set after the fault was planned, but before it happens. came: set when it comes up.
    """

    kind: Kind
    status: int = 503
    seconds: float = 0.0
    pid: int = 0
    came: threading.Event = field(default_factory=threading.Event, compare=False, repr=False)

    def kill(self) -> None:
        """Kill the process group; one that is gone already is fine. Raises ValueError where none was named."""
        if self.pid <= 1:
            raise ValueError("a fault of the kind 'kill' came up before its pid was set")
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


@dataclass
class _Planned:
    """A fault for the n-th of the calls that match."""

    n: int
    fault: Fault
    call: str
    service: str
    effects_only: bool
    seen: int = 0

    def hits(self, service: str, call: str, effect: bool) -> bool:
        if not (effect or not self.effects_only):
            return False
        if not (fnmatchcase(call, self.call) and fnmatchcase(service, self.service)):
            return False
        self.seen += 1
        return self.seen == self.n


class FaultPlan:
    """Which calls fail, and how. One plan may serve several services; it counts their calls together. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planned: list[_Planned] = []
        self._random = random.Random(0)
        self._share = 0.0
        self._kinds: Sequence[Kind] = ()

    def at(self, n: int, fault: Fault, call: str = "*", service: str = "*", effects_only: bool = False) -> None:
        """Plan a fault for the n-th matching call, counted from 1 and from now on.

        call, service: shell patterns, as in "objects.*". effects_only: calls that only read do not count.
        """
        with self._lock:
            self._planned.append(_Planned(n, fault, call, service, effects_only))

    def randomly(self, share: float, seed: int, kinds: Sequence[Kind] = ("status", "cut", "delay", "lost")) -> None:
        """Let every call from now on fail with this probability, in one of these ways; the seed decides."""
        with self._lock:
            self._share, self._kinds, self._random = share, kinds, random.Random(seed)

    def clear(self) -> None:
        """Let nothing fail from now on."""
        with self._lock:
            self._planned.clear()
            self._share = 0.0

    def decide(self, service: str, call: str, effect: bool) -> Fault | None:
        """Return what goes wrong with a call that has just come in, or None. effect: whether it changes anything."""
        with self._lock:
            # All of them count the call, whichever's turn it is.
            hit = [each.fault for each in self._planned if each.hits(service, call, effect)]
            if hit:
                hit[0].came.set()
                return hit[0]
            if self._share and self._random.random() < self._share:
                return Fault(
                    self._random.choice(self._kinds),
                    status=self._random.choice((429, 500, 503)),
                    seconds=self._random.uniform(0.0, 0.05),
                )
        return None

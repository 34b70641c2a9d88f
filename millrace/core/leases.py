"""Leases: a lock across hosts that needs neither a server nor clocks that agree, only conditional writes.

The lock is a file. Who creates it holds the lock, and says in it who it is. The holder writes it anew three times a
lease, each time only over its own last version, so that the version changes. Who waits looks again and again, and takes
the lock over, by writing over exactly the version that it saw, when

    the holder is a process of this host, and that process has ended      at once
    the version has not changed for a whole lease                         by the waiting process's own clock

Whoever lets go deletes the file, if the version is still its own.

Why this is safe. Of any number that take over, one wins, because the write is conditional. That a holder is *alive* and
has merely been silent (paused, cut off from the network) can't be told from outside; it may wake up and believe that it
holds the lock. What it does then must not count, and two things see to that:

- What decides is written conditionally, lock or no lock: the manifest is created if there is none, the ledger's entry
  is written over the version that was read when the lock was taken. One of the two wins, the other has a ConflictError.
- Before every change of the storage the holder makes sure (`confirm`): one that was silent for longer than a lease
  renews first, and if somebody took over there is a ConflictError instead of the change. That covers what has no
  condition of its own, such as deleting the files of dead attempts.

A change that is already on its way when its process is paused is not covered by the second, only by the first.

Clocks are only ever compared with themselves. The holder's counts the time that its host slept, so that it never trusts
a lease for longer than another host would; the waiting process's does not, so that a laptop that wakes up is not taken
for a holder that died.
"""

import contextlib
import dataclasses
import json
import logging
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from millrace.common.polling import Pauses
from millrace.core.storage import Versioned
from millrace.core.waiting import Waiting
from millrace.errors import ConflictError, MillraceError

log = logging.getLogger("millrace")

_PROC = Path("/proc")
_FIRST_PAUSE = 0.1
#: How long a process of this host that died may go unnoticed, in seconds.
_LOCAL_PAUSE = 0.8


class Place(Protocol):
    """Where the file of one lock lies."""

    def read(self) -> Versioned | None:
        """Return the file, or None where there is none."""

    def write(self, data: bytes, version: str, patience: float | None = None) -> str:
        """Write over a version ("" means over none); the new version. Raises ConflictError if it is another.

        patience: seconds for which that is tried again; as long as any other call unless given.
        """

    def remove(self, version: str, patience: float) -> None:
        """Delete a version; nothing or another there is fine."""


@dataclass(frozen=True)
class Holder:
    """A process: its host and, to know it again there, boot, pid namespace, pid and start (in ticks since boot).

    boot is "" where the system does not tell; such a holder is never taken for a process of this host.
    """

    host: str
    boot: str
    pids: str
    pid: int
    start: str
    token: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    def is_here(self) -> bool:
        """Return whether it is a process that this one could see."""
        return bool(self.boot) and (self.boot, self.pids) == _here()

    def has_ended(self) -> bool:
        """Return whether it is a process of this host that is no more; False when in doubt."""
        if not self.is_here():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        state, start = _stat(self.pid)
        return state in ("Z", "X") or (start != "" and start != self.start)


def _this_process() -> Holder:
    boot, pids = _here()
    return Holder(socket.gethostname(), boot, pids, os.getpid(), _stat(os.getpid())[1], secrets.token_hex(16))


def _here() -> tuple[str, str]:
    """Return the boot of this host, which containers share, and this process's pid namespace."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return boot, os.readlink(_PROC / "self/ns/pid")
    except OSError:
        return "", ""


def _stat(pid: int) -> tuple[str, str]:
    """Return a process's state and start; "" for what can't be seen."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", ""
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return fields[0], fields[19]


class Lease:
    """The right to a lock, renewed for as long as `held` lasts.

    name: the lock's, for messages. seconds: how long the holder may be silent.
    """

    def __init__(self, place: Place, name: str, seconds: float) -> None:
        self._place, self._name, self._seconds = place, name, seconds
        self._holder = _this_process()
        self._data = json.dumps(dataclasses.asdict(self._holder), indent=1).encode() + b"\n"
        self._version = ""
        self._renewed = 0.0
        self._taken_over = False
        self._busy = threading.Lock()
        self._over = threading.Event()

    @contextlib.contextmanager
    def held(self, *, wait: bool = True) -> Iterator[None]:
        """Wait for the lock and hold it.

        wait: whether a living holder is waited for. Otherwise this raises Waiting as soon as the holder is seen to
        live: a process of this host at once, another when it renews the lock, which is within a third of a lease.
        """
        self._take(wait=wait)
        # A thread of the process that took the lock, because what that process forks neither renews nor lets go.
        threading.Thread(target=self._keep_renewing, name=f"lease of {self._name}", daemon=True).start()
        try:
            yield
        finally:
            if os.getpid() == self._holder.pid:
                self._over.set()
                with self._busy, contextlib.suppress(MillraceError):
                    self._place.remove(self._version, self._seconds / 3)

    def confirm(self) -> None:
        """Make sure that this process still holds the lock. Raises ConflictError if somebody took it over."""
        if os.getpid() == self._holder.pid and (self._taken_over or _awake() - self._renewed > self._seconds):
            self._renew()

    def _take(self, *, wait: bool) -> None:
        waiting, seen, since = Pauses(_FIRST_PAUSE, self._seconds / 4, spread=0.3), "", 0.0
        version: str | None = ""  # the version to write over
        while True:
            if version is not None:
                self._renewed = _awake()
                with contextlib.suppress(ConflictError):
                    self._version = self._place.write(self._data, version)
                    return
                version = None
            asked = time.monotonic()
            there = self._place.read()
            holder = _holder(there.data) if there else None
            if there is None:
                version = ""
            elif holder and holder.has_ended():
                log.info("%s: %s ended while it held the lock", self._name, holder)
                version = there.version
            elif not wait and (seen not in ("", there.version) or (holder and holder.is_here())):
                raise Waiting(
                    f"another run ({holder or 'whoever wrote it'}) is at work on it", on=f"another run ({self._name})"
                )
            elif there.version != seen:
                if not seen:
                    log.info("%s: waiting for %s", self._name, holder or "whoever wrote it")
                seen, since = there.version, time.monotonic()
            elif asked - since > self._seconds:
                who = holder or "whoever wrote it"
                log.warning("%s: %s was silent for %g s ([gcp] lease): taken over", self._name, who, self._seconds)
                version = there.version
            if version is None:
                waiting.pause(_LOCAL_PAUSE if holder and holder.is_here() else math.inf)

    def _keep_renewing(self) -> None:
        while not self._over.wait(self._seconds / 3) and not self._taken_over:
            try:
                self._renew()
            except Exception as error:
                # Above all: no network. It may come back, and where that is everybody's trouble nobody takes over.
                log.warning("%s: could not renew the lock: %s", self._name, error)

    def _renew(self) -> None:
        with self._busy:
            if self._taken_over:
                raise ConflictError(f"{self._name} was taken over by another process; this one must not go on")
            if self._over.is_set():
                return
            asked = _awake()
            try:
                self._version = self._place.write(self._data, self._version, self._seconds / 3)
            except ConflictError:
                there = self._place.read()
                if there is None or there.data != self._data:
                    self._taken_over = True
                    raise ConflictError(
                        f"{self._name} was taken over by another process: this one was silent for more than "
                        f"{self._seconds:g} s ([gcp] lease); it must not go on"
                    ) from None
                # Our own, by a try whose answer never came; nobody knows when that was.
                asked = _awake()
                self._version = self._place.write(self._data, there.version, self._seconds / 3)
            self._renewed = asked


def _awake() -> float:
    """Return the seconds of this host's life, asleep or not."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _holder(data: bytes) -> Holder | None:
    """Return the holder that wrote the file of a lock; None for what nobody of ours wrote."""
    try:
        return Holder(**json.loads(data))
    except (ValueError, TypeError):
        return None

"""Run a command in a fresh process and measure the whole of it: wall time, CPU time, peak memory of its tree."""

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

SAMPLE_SECONDS = 0.05
PAGE = os.sysconf("SC_PAGE_SIZE")


class Measure(NamedTuple):
    wall: float
    cpu: float  # user and system, children that were waited for included
    peak: int  # bytes


def tree(pid: int) -> list[int]:
    """Return the process and all that descend from it."""
    pids, waiting = [], [pid]
    while waiting:
        pids.append(waiting.pop())
        with suppress(OSError):
            for children in Path(f"/proc/{pids[-1]}/task").glob("*/children"):
                with suppress(OSError):
                    waiting += map(int, children.read_text().split())
    return pids


def resident(pid: int) -> int:
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    return 0


def proportional(pid: int) -> int:
    """Return a process's memory with each shared page divided by the processes that share it."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return resident(pid)


def memory(pid: int) -> int:
    pids = tree(pid)
    return resident(pid) if len(pids) == 1 else sum(map(proportional, pids))


def measure(command: Sequence[str], cwd: Path, env: Mapping[str, str], log: Path) -> Measure:
    """Run a command and measure it. Raises RuntimeError, with the end of the log, when the command fails."""
    peak, done = 0, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(SAMPLE_SECONDS):
            peak = max(peak, memory(process.pid))

    with log.open("wb") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        sampler = threading.Thread(target=sample, daemon=True)
        sampler.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    done.set()
    sampler.join()
    if process.returncode:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
        raise RuntimeError(f"{' '.join(command)}\nended with {process.returncode}:\n{end}")
    # ru_maxrss is the largest single process's own peak: it sees what falls between two samples.
    return Measure(wall, usage.ru_utime + usage.ru_stime, max(peak, usage.ru_maxrss * 1024))

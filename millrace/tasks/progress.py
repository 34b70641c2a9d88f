"""How far a run is, `12 of 44`: the last line of a terminal while luigi works, and nothing anywhere else.

The luigi process counts what the scheduler is told; the processes of tasks, forked from it, read the counts in memory
that all of them share. The cursor stands at the line's begin, so that whatever is printed, by whichever process or
library, overwrites the line; what is logged clears it first and draws it again below.
"""

import atexit
import logging
import mmap
import os
import struct
import sys

# Of the tasks that this run has to do: how many are done, and how many there are; 0 and 0 as long as nothing is shown.
_PAIR = struct.Struct("=QQ")
_counts: mmap.mmap | None = None
_to_do: set[str] = set()
_left: set[str] = set()


def install() -> None:
    """Show from now on how far the run is, if people are there to see it: on a terminal that can clear a line."""
    global _counts
    if not sys.stderr.isatty():
        return
    from rich.console import Console

    if not Console(stderr=True).is_dumb_terminal:
        _counts = mmap.mmap(-1, _PAIR.size)
        atexit.register(end, os.getpid())


def follow(record: logging.LogRecord) -> None:
    """Count what luigi says that it told the scheduler; the line appears when all is scheduled."""
    if _counts is None:
        return
    if record.msg == "Informed scheduler that task   %s   has status   %s" and isinstance(record.args, tuple):
        task, status = map(str, record.args)
        if status == "PENDING":
            _to_do.add(task)
            _left.add(task)
        elif status == "DONE":
            _left.discard(task)
    if record.msg == "Done scheduling tasks" or any(_counts):
        _show(len(_to_do) - len(_left), len(_to_do))


def above(lines: str) -> str:
    """Return what to write so that these lines stand above the line that shows how far the run is."""
    if _counts is None:
        return lines
    done, tasks = _PAIR.unpack(_counts[:])
    return f"\x1b[K{lines}{f'{done} of {tasks}' if tasks else ''}\r"


def end(process: int | None = None) -> None:
    """Clear the line for good. process: the only one that may, if any."""
    if _counts is not None and process in (None, os.getpid()):
        _show(0, 0)


def _show(done: int, tasks: int) -> None:
    assert _counts is not None
    _counts[:] = _PAIR.pack(done, tasks)
    sys.stderr.write(above(""))
    sys.stderr.flush()

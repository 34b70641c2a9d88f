"""What SIGTERM, SIGINT and SIGHUP do: tasks that are running get to end their work, and the run ends without another.

A signal reaches the luigi process, which passes it on to the processes of its tasks. In those the signal raises
`Stopped` once: a task that waits for a job cancels the job, or leaves it running if so told. A second signal changes
nothing; what is done on the way out is bounded in time. Whoever can't wait sends SIGKILL, and the next run finds what
is left. The luigi process says one sentence and ends as by SIGINT, whichever signal it was.
"""

import logging
import multiprocessing
import os
import signal
import sys
import time
import traceback
from types import FrameType, TracebackType

from luigi.worker import TaskProcess

from millrace.common.text import plain
from millrace.core.stopping import Stopped

log = logging.getLogger("millrace")


_stopping = False


def install() -> None:
    """Set the handlers, which processes forked from this one inherit."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGHUP, _stop)
    sys.excepthook = _last_words


def asked() -> bool:
    """Return whether somebody told this process to stop."""
    return _stopping


def _stop(number: int, frame: FrameType | None) -> None:
    global _stopping
    if _stopping:
        return
    _stopping = True
    words = f"stopped by {_cause(number)}"
    if multiprocessing.parent_process() is not None:
        raise _untouched(Stopped(words))
    for child in multiprocessing.active_children():
        if child.pid is not None:
            os.kill(child.pid, number)
    raise _untouched(KeyboardInterrupt(words))  # luigi takes all else for a task's failure, and goes on


def _cause(number: int) -> str:
    """Return what a signal tells: luigi ends a task that takes too long by a signal, as somebody who stops the run
    does.
    """
    process = multiprocessing.current_process()
    if isinstance(process, TaskProcess) and process.timeout_time and time.time() > process.timeout_time:
        return f"luigi's worker timeout of {process.worker_timeout:g} s"
    return signal.Signals(number).name


def _untouched(stop: BaseException) -> BaseException:
    """Mark a stop as Beam marks errors that it has seen, so that Beam passes the stop on without a word."""
    vars(stop)["_tagged_with_step"] = True
    return stop


def _last_words(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print one sentence where somebody stopped the run; the traceback of anything else."""
    if isinstance(error, KeyboardInterrupt):
        log.warning("%s; the same command goes on from here", error or "stopped")
    else:
        print(plain("".join(traceback.format_exception(kind, error, trace)), keep="\n\t"), file=sys.stderr, end="")

"""Work in a child process, whose memory, and whatever it changes in its process, ends with it."""

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn, TypeVar

from millrace.common.tokens import redacted
from millrace.core import resources
from millrace.core.stopping import held
from millrace.errors import MillraceError, TransientError

T = TypeVar("T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
#: Seconds that the work may take. A fork beside another thread's look-up or lock can leave the child waiting forever.
_LIMIT = 900


def in_child(work: Callable[[], T]) -> T:
    """Return what `work` returns or raises in a child process; what interrupts the wait for the child also ends the
    child.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = 0
    try:
        with held(_SIGNALS):  # so that the child, until it has handlers of its own, does not act as the parent does
            child = os.fork()
            if not child:
                os.close(reading)
                _answer(work, writing)
        os.close(writing)
        with open(reading, "rb") as stream:
            data = stream.read()
    except BaseException:
        if child:
            os.kill(child, signal.SIGKILL)
        raise
    finally:
        status = os.waitpid(child, 0)[1] if child else 0
    if status:
        code = os.waitstatus_to_exitcode(status)
        what = resources.killed(code) if code == -signal.SIGKILL else f"ended without an answer ({code})"
        raise TransientError(f"a process of this run {what}; run again")
    result, error = pickle.loads(data)
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def _answer(work: Callable[[], T], writing: int) -> NoReturn:
    """Live the whole life of the child, and leave without what the parent would do at its own end.

    Where the parent is gone, nobody has to be answered.
    """
    status = 1
    try:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        signal.alarm(_LIMIT)
        try:
            try:
                data = pickle.dumps((work(), None))
            except MillraceError as error:
                # What came before an error may be anything, and pickle takes it along where Dask is imported.
                error.__context__ = error.__cause__ = error.__traceback__ = None
                data = pickle.dumps((None, error))
        except BaseException:  # what can't be pickled is one, too
            text = f"a process of this run failed:\n{redacted(traceback.format_exc())}"
            data = pickle.dumps((None, RuntimeError(text)))
        with open(writing, "wb") as stream:
            stream.write(data)
        sys.stderr.flush()
        status = 0
    finally:
        os._exit(status)

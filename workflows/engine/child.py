"""Work in a child process, whose memory, and whatever it changes in its process, ends with it."""

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn, TypeVar

from pipelines.errors import MillraceError, TransientError
from pipelines.google_errors import redacted

T = TypeVar("T")
#: Seconds that the work may take. A fork beside another thread's look-up or lock can leave the child waiting for ever.
_LIMIT = 900


def in_child(work: Callable[[], T]) -> T:
    """What `work` returns or raises in a child process; what interrupts the wait for it ends the child."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        os.close(reading)
        _answer(work, writing)
    os.close(writing)
    try:
        with open(reading, "rb") as stream:
            data = stream.read()
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(child, 0)
    if not data:
        raise TransientError(
            f"a process of this run ended without an answer ({os.waitstatus_to_exitcode(status)}); run again"
        )
    result, error = pickle.loads(data)
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def _answer(work: Callable[[], T], writing: int) -> NoReturn:
    """The whole life of the child. It leaves without what the parent would do at its own end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.alarm(_LIMIT)
    try:
        data = pickle.dumps((work(), None))
    except MillraceError as error:
        data = pickle.dumps((None, error))
    except BaseException:
        data = pickle.dumps((None, RuntimeError(f"a process of this run failed:\n{redacted(traceback.format_exc())}")))
    with open(writing, "wb") as stream:
        stream.write(data)
    sys.stderr.flush()
    os._exit(0)

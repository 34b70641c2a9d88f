"""What a machine runs out of, in a sentence: room on a disk, memory, and so the processes that the kernel kills."""

import contextlib
import errno
import os
import signal
import tempfile
from collections.abc import Iterator

from millrace.errors import AccessError, MillraceError

#: What the system says of a disk, a quota or a file's limit, in whichever library's error.
_FULL = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]
_KILLED = "was killed, as the kernel does where memory runs out (fewer --workers need less)"


def exhausted(error: BaseException) -> MillraceError | None:
    """Return the error for room or memory that ran out; None for any other error."""
    for each in _chain(error):
        text = str(each)
        if full := next((words for words in _FULL if words in text), None):
            return AccessError(
                f"{full}: make room where the storage and temporary files ({tempfile.gettempdir()}) lie, and run again"
            )
        if isinstance(each, MemoryError) or type(each).__name__ == "OutOfMemoryException":
            return AccessError("memory ran out (fewer --workers need less); run again")
    return None


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Raise an error that says so where room or memory ran out."""
    try:
        yield
    except MillraceError:
        raise
    except Exception as error:
        if ran_out := exhausted(error):
            raise ran_out from None
        raise


def killed(code: int) -> str:
    """Return how a process ended, given a code of waitpid, as in "its process …"."""
    if code == -signal.SIGKILL:
        return _KILLED
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and the errors that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

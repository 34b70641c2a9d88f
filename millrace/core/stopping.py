"""A process that is told to stop: by signals, which can be made to wait, and by what it raises then."""

import contextlib
import signal
from collections.abc import Iterator, Sequence


class Stopped(BaseException):
    """Somebody told this process to stop."""


@contextlib.contextmanager
def held(signals: Sequence[signal.Signals]) -> Iterator[None]:
    """Let signals wait until the end of this."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

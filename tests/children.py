"""Processes that are forked from the tests' own, so that they may die where a test goes on."""

import os
import traceback
from collections.abc import Callable

from localcloud.faults import Fault


class Child:
    """A process of its own, the leader of a group, that calls a function; fault: what happens to it."""

    def __init__(self, call: Callable[[], object], fault: Fault | None = None) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            code = 1
            try:
                os.setpgid(0, 0)
                os.close(writing)
                os.read(reading, 1)  # until the fault knows whom it strikes
                call()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.setpgid(self.pid, self.pid)
        if fault:
            fault.pid = self.pid
        os.close(reading)
        os.close(writing)

    def end(self) -> int:
        """Wait for its end; its exit code, or the signal that killed it as a negative number."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

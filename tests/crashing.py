"""`luigi --module crashing Report …`: the public tasks, in a process that dies at a moment of our choice.

CRASH says when: `KIND:N:HOW`, N counted from 1.

    call:N:before, call:N:after   around the N-th call that changes the storage
    call:N:lost                   the N-th such call does its work, but its answer is an error
    file:N:before                 before the N-th change of a file or folder below the storage, whoever makes it
    file:N:torn                   like that; if a file is being opened to be written, half of it is there

Dying is SIGKILL to the whole process group. The file CRASH_LOG lists all moments up to then, over all the processes of
the run; without CRASH that is all that happens.
"""

import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import workflows
from millrace.core.storage import Storage, Versioned
from millrace.tasks import session

T = TypeVar("T")

__all__ = ["LostAnswerError", "workflows"]

_kind, _number, _how = (os.environ.get("CRASH") or "none:0:never").split(":")
_log = os.environ["CRASH_LOG"]
_root = ""


class LostAnswerError(Exception):
    """A storage did what it was asked for, but nobody heard."""


def _moment(kind: str, what: str) -> bool:
    """Counts a moment; whether it is the one that was chosen."""
    handle = os.open(_log, os.O_CREAT | os.O_APPEND | os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        os.write(handle, f"{kind} {what}\n".encode())
        lines = os.pread(handle, os.fstat(handle).st_size, 0).splitlines()
        return kind == _kind and sum(line.startswith(kind.encode()) for line in lines) == int(_number)
    finally:
        os.close(handle)


def _die() -> None:
    os.killpg(0, signal.SIGKILL)
    signal.pause()


class _Crashing:
    """A storage around which the process can die."""

    def __init__(self, storage: Storage) -> None:
        global _root
        self._storage = storage
        _root = storage.uri("")

    def uri(self, path: str) -> str:
        return self._storage.uri(path)

    def read(self, path: str) -> Versioned | None:
        return self._storage.read(path)

    def sizes(self, prefix: str) -> Mapping[str, int]:
        return self._storage.sizes(prefix)

    def checksums(self, prefix: str) -> Iterator[tuple[str, int, str]]:
        return self._storage.checksums(prefix)

    def notes(self, name: str, folders: Sequence[str]) -> Mapping[str, Mapping[str, str]] | None:
        return self._storage.notes(name, folders)

    def fetch(self, path: str, folder: str) -> str:
        return self._storage.fetch(path, folder)

    def list(self, prefix: str, name: str = "") -> Iterator[str]:
        return self._storage.list(prefix, name)

    def names(self, prefix: str) -> set[str]:
        return self._storage.names(prefix)

    def lock(self, path: str, *, wait: bool = True) -> contextlib.AbstractContextManager[None]:
        return self._storage.lock(path, wait=wait)

    def check(self) -> None:
        self._storage.check()

    def create(self, path: str, data: bytes, note: Mapping[str, str] | None = None) -> None:
        self._around(f"create {path}", lambda: self._storage.create(path, data, note))

    def replace(self, path: str, data: bytes, version: str | None = None) -> str:
        return self._around(f"replace {path}", lambda: self._storage.replace(path, data, version))

    def note(self, path: str, note: Mapping[str, str]) -> None:
        self._storage.note(path, note)  # on one machine nothing happens

    def copy(self, source: str, target: str) -> None:
        self._around(f"copy {target}", lambda: self._storage.copy(source, target))

    def delete(self, prefix: str) -> None:
        self._around(f"delete {prefix}", lambda: self._storage.delete(prefix))

    @staticmethod
    def _around(what: str, change: Callable[[], T]) -> T:
        chosen = _moment("call", what)
        if chosen and _how == "before":
            _die()
        done = change()
        if chosen and _how == "after":
            _die()
        if chosen and _how == "lost":
            raise LostAnswerError(what)
        return done


_CHANGES = ("os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir")


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        path, mode, flags = arguments
        if not isinstance(path, str) or not (flags or 0) & (os.O_WRONLY | os.O_RDWR) or path.endswith(".lock"):
            return
    elif event in _CHANGES:
        path = arguments[0]
        folder = arguments[-1]
        if isinstance(path, str) and event in ("os.remove", "os.rmdir") and folder != -1:
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
    else:
        return
    if not _root or not isinstance(path, str) or not path.startswith(_root):
        return
    if _moment("file", f"{event} {path.removeprefix(_root)}"):
        if event == "open" and _how == "torn":
            torn = os.open(path, os.O_CREAT | os.O_WRONLY)
            os.write(torn, b"PAR1 half of what")
        _die()


_until_the_end = contextlib.ExitStack()  # a context that nobody holds is left at once
_until_the_end.enter_context(session.use(session.Session(wrap=_Crashing)))
sys.addaudithook(_audit)

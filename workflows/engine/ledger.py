"""The ledger: `_jobs/<task>_<partition>.json`, written before work is begun; it tells the next run what became of it.

On one machine the lock across processes is the operating system's, held while the work lasts and released by it when
the process dies, however it dies: a claim therefore waits for a living run and never for a dead one.
"""

import contextlib
import datetime
import json
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from workflows.engine.storage import Storage

_FOLDER = "_jobs"


@dataclass(frozen=True)
class Entry:
    """What the ledger knows of a task: its attempt (also the name of the attempt's folder), the job, and how it stands.

    state: running, done or failed. started, ended: UTC, ISO 8601; "" until then.
    """

    task: str
    number: int
    attempt: str
    job_name: str
    request_id: str
    state: str
    host: str
    pid: int
    started: str
    ended: str = ""
    job_id: str | None = None
    error: str = ""


class Ledger:
    """The entries of a storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    @contextlib.contextmanager
    def claim(self, task: str) -> Iterator["Claim"]:
        """Waits until nobody else works for this task, then holds it."""
        with self._storage.lock(f"{_FOLDER}/{task}.lock"):
            yield Claim(self._storage, task)


class Claim:
    """The right to work for one task."""

    def __init__(self, storage: Storage, task: str) -> None:
        self._storage = storage
        self._path = f"{_FOLDER}/{task}.json"
        self._task = task
        found = storage.read(self._path)
        self._version = found.version if found else ""
        self.entry = _entry(found.data) if found else None

    def begin(self, name: str) -> Entry:
        """Enters the next attempt; name: what its job is called. Raises ConflictError where another got there first."""
        number = self.entry.number + 1 if self.entry else 1
        entry = Entry(
            task=self._task,
            number=number,
            attempt=f"attempt-{number:03d}-{secrets.token_hex(3)}",
            job_name=name,
            request_id=secrets.token_hex(16),
            state="running",
            host=socket.gethostname(),
            pid=os.getpid(),
            started=now(),
        )
        return self._write(entry)

    def close(self, error: str = "") -> None:
        """Notes that the attempt is done, or failed with an error."""
        if self.entry is not None and self.entry.state == "running":
            self._write(replace(self.entry, state="failed" if error else "done", ended=now(), error=error))

    def _write(self, entry: Entry) -> Entry:
        data = json.dumps(asdict(entry), indent=1, sort_keys=True).encode() + b"\n"
        self._storage.replace(self._path, data, self._version)
        written = self._storage.read(self._path)
        self._version = written.version if written else ""
        self.entry = entry
        return entry


def _entry(data: bytes) -> Entry | None:
    """An entry as it was written; None for what a power cut left of one."""
    try:
        return Entry(**json.loads(data))
    except (ValueError, TypeError):
        return None


def now() -> str:
    """The time: UTC, ISO 8601, milliseconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")

"""The ledger: `_jobs/<task>_<partition>.json`, written before work is begun; it tells the next run what became of it.

A claim is the storage's lock, held while the work lasts: it waits for a living run and never for a dead one. The entry
is written conditionally besides, so that a run that only seemed dead can't write over what came after it.
"""

import contextlib
import datetime
import hashlib
import json
import os
import re
import secrets
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from millrace.core.storage import Storage, Versioned, read_all

FOLDER = "_jobs"


@dataclass(frozen=True)
class Entry:
    """What the ledger knows of a task: its attempt (also the name of the attempt's folder), the job, and how it stands.

    state: running; done; refused (the job did what it was asked, but what came out must not be published); failed;
    stopped (by us). runner: where the attempt runs; where: the project and region of its job, as in "p/r". work: a
    digest of what is to be done, and code: which code was to do it; failures: how many jobs for this
    work with this code have failed, up to and with this one. started, ended: UTC, ISO 8601; "" until then.
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
    runner: str = ""
    where: str = ""
    work: str = ""
    code: str = ""
    failures: int = 0


class Ledger:
    """The entries of a storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    @contextlib.contextmanager
    def claim(self, task: str) -> Iterator["Claim"]:
        """Wait until nobody else works for this task, then hold its claim."""
        with self._storage.lock(f"{FOLDER}/{task}.lock"):
            yield Claim(self._storage, task)

    def failed(self) -> list[str]:
        """Return the tasks whose last attempt failed."""
        paths = [path for path in self._storage.list(FOLDER) if path.endswith(".json")]
        entries = map(_entry, read_all(self._storage, paths))
        return [entry.task for entry in entries if entry and entry.state == "failed"]

    def pardon(self, task: str) -> None:
        """Have the failures of a task count no more; its next attempt clears what they left. Raises ConflictError."""
        path = f"{FOLDER}/{task}.json"
        found = self._storage.read(path)
        entry = _entry(found)
        if found and entry and entry.state == "failed":
            self._storage.replace(path, _to_json(replace(entry, failures=0)), found.version)

    def forget(self, task: str) -> None:
        """Remove a task's entry, unless it says that somebody is at work: that job must still be found."""
        path = f"{FOLDER}/{task}.json"
        entry = _entry(self._storage.read(path))
        if entry is None or entry.state != "running":
            self._storage.delete(path)


class Claim:
    """The right to work for one task.

    alive: whether the attempt's job may be at work whatever becomes of this process, as far as is known.
    """

    alive = False

    def __init__(self, storage: Storage, task: str) -> None:
        self._storage = storage
        self._path = f"{FOLDER}/{task}.json"
        self._task = task
        found = storage.read(self._path)
        self._version = found.version if found else ""
        self.entry = _entry(found)

    @property
    def attempt(self) -> Entry:
        """The attempt that was begun."""
        assert self.entry is not None, "no attempt was begun"
        return self.entry

    def begin(self, prefix: str, *, runner: str = "", where: str = "", work: str = "", code: str = "") -> Entry:
        """Enter the next attempt; prefix: how its job's name begins. Raises ConflictError if another was entered."""
        before = self.entry
        number = before.number + 1 if before else 1
        attempt = f"attempt-{number:03d}-{secrets.token_hex(3)}"
        entry = Entry(
            task=self._task,
            number=number,
            attempt=attempt,
            job_name=_job_name(prefix, f"{self._storage.uri(self._path)} {attempt}"),
            request_id=secrets.token_hex(16),
            state="running",
            host=socket.gethostname(),
            pid=os.getpid(),
            started=now(),
            runner=runner,
            where=where,
            work=work,
            code=code,
            failures=failures(before, work, code),
        )
        return self._write(entry)

    def submitted(self, job_id: str) -> None:
        """Note the job's id."""
        if self.attempt.job_id != job_id:
            self._write(replace(self.attempt, job_id=job_id))

    def close(self, error: str = "", state: str = "", *, counts: bool = False) -> None:
        """Note how the attempt ended: failed if there is an error, else done, unless a state is given.

        counts: whether it is one more job that failed.
        """
        if self.entry is not None and self.entry.state in ("running", "refused"):
            state, failed = state or ("failed" if error else "done"), self.entry.failures + counts
            self._write(replace(self.entry, state=state, ended=now(), error=error, failures=failed))

    def _write(self, entry: Entry) -> Entry:
        self._version = self._storage.replace(self._path, _to_json(entry), self._version)
        self.entry = entry
        return entry


def failures(entry: Entry | None, work: str, code: str) -> int:
    """Return how many jobs for some work with some code have failed, up to and with this entry's."""
    return entry.failures if entry is not None and (entry.work, entry.code) == (work, code) else 0


def _job_name(prefix: str, identity: str) -> str:
    """Return a name for Dataflow: [a-z]([-a-z0-9]*[a-z0-9])?, at most 63 characters; identity tells it from others."""
    short = hashlib.sha256(identity.encode()).hexdigest()[:10]
    return re.sub(r"[^a-z0-9]+", "-", prefix.lower())[:52].strip("-") + f"-{short}"


def _to_json(entry: Entry) -> bytes:
    return json.dumps(asdict(entry), indent=1, sort_keys=True).encode() + b"\n"


def _entry(found: Versioned | None) -> Entry | None:
    """Return an entry as it was written; None for none, or for what a power cut left of one."""
    try:
        value = json.loads(found.data) if found else None
        # A later version may have written more: what this one knows still holds.
        return Entry(**{key: value[key] for key in value if key in Entry.__dataclass_fields__}) if value else None
    except (ValueError, TypeError):
        return None


def now() -> str:
    """Return the time: UTC, ISO 8601, milliseconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")

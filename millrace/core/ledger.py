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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from millrace.core.storage import Storage, Versioned, read_all

FOLDER = "_jobs"
#: Of how many jobs that failed an entry says when; no setting allows more before no further one is submitted.
_REMEMBERED = 100


@dataclass(frozen=True)
class Entry:
    """What the ledger knows of a task: its attempt (also the name of the attempt's folder), the job, and how it stands.

    state: running; done; refused (the job did what it was asked, but what came out must not be published); failed;
    stopped (by us). runner: where the attempt runs; where: the project and region of its job, as in "p/r". work: a
    digest of what is to be done, and code: which code was to do it; failures: how many jobs for this
    work with this code have failed, up to and with this one. started, ended: UTC, ISO 8601; "" until then. members: the
    tasks whose attempts are the same job, this one's too; none where the job is for this task alone. replaces: the id
    of the streaming job that this one is an update of, "" for none. failed: when those jobs failed, the last of them.
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
    members: Sequence[str] = ()
    replaces: str = ""
    failed: Sequence[str] = ()


class Ledger:
    """The entries of a storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    @contextlib.contextmanager
    def claim(self, task: str, *, wait: bool = True) -> Iterator["Claim"]:
        """Wait until nobody else works for this task, then hold its claim.

        wait: whether a living process is waited for. Otherwise this raises Waiting where there is one.
        """
        with self._storage.lock(f"{FOLDER}/{task}.lock", wait=wait):
            yield Claim(self._storage, task)

    def entry(self, task: str) -> Entry | None:
        """Return the last attempt of a task as it stands; None for none."""
        return _entry(self._storage.read(f"{FOLDER}/{task}.json"))

    def entries(self, tasks: Iterable[str]) -> dict[str, Entry | None]:
        """Return the last attempts of some tasks as they stand, read several at a time; None for none."""
        names = list(dict.fromkeys(tasks))
        found = read_all(self._storage, [f"{FOLDER}/{name}.json" for name in names])
        return dict(zip(names, map(_entry, found), strict=True))

    def all(self) -> dict[str, Entry]:
        """Return the last attempt of every task."""
        paths = [path for path in self._storage.list(FOLDER) if path.endswith(".json")]
        return {entry.task: entry for entry in map(_entry, read_all(self._storage, paths)) if entry}

    def ended(self, state: str) -> list[str]:
        """Return the tasks whose last attempt is in a state, such as "failed"."""
        return [task for task, entry in self.all().items() if entry.state == state]

    def pardon(self, task: str) -> None:
        """Have the failures of a task count no more; its next attempt clears what they left. Raises ConflictError."""
        path = f"{FOLDER}/{task}.json"
        found = self._storage.read(path)
        entry = _entry(found)
        if found and entry and entry.state == "failed":
            self._storage.replace(path, _to_json(replace(entry, failures=0, failed=())), found.version)

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
        self.task = task
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
        batch = Batch(prefix, [self], runner=runner, where=where)
        return batch.enter(self, work, code)

    def serve(self, prefix: str, replaces: str = "", *, runner: str, where: str, work: str, code: str) -> Entry:
        """Enter the next attempt at a service, whose jobs all have one name, so that no two of them are active.

        replaces: the id of the job that it is an update of. Raises ConflictError if another was entered.
        """
        batch = Batch(prefix, [self], runner=runner, where=where, lasting=True)
        return batch.enter(self, work, code, replaces)

    @property
    def uri(self) -> str:
        """Where the entry is."""
        return self._storage.uri(self._path)

    def next_attempt(self) -> str:
        """Return a name for the next attempt."""
        number = self.entry.number + 1 if self.entry else 1
        return f"attempt-{number:03d}-{secrets.token_hex(3)}"

    def confirm(self) -> None:
        """Write the attempt anew, as this process's. Raises ConflictError if another process has gone on with it."""
        self.enter(replace(self.attempt, host=socket.gethostname(), pid=os.getpid()))

    def submitted(self, job_id: str) -> None:
        """Note the job's id."""
        if self.attempt.job_id != job_id:
            self.enter(replace(self.attempt, job_id=job_id))

    def note(self, error: str) -> None:
        """Note what kept the attempt from having a job so far."""
        if self.attempt.error != error:
            self.enter(replace(self.attempt, error=error))

    def close(self, error: str = "", state: str = "", *, counts: bool = False) -> None:
        """Note how the attempt ended: failed if there is an error, else done, unless a state is given.

        counts: whether it is one more job that failed.
        """
        if self.entry is not None and self.entry.state in ("running", "refused"):
            state, total = state or ("failed" if error else "done"), self.entry.failures + counts
            ended = now()
            failed = [*self.entry.failed, ended][-_REMEMBERED:] if counts else self.entry.failed
            self.enter(replace(self.entry, state=state, ended=ended, error=error, failures=total, failed=failed))

    def stop(self, why: str) -> None:
        """Note that the work is not wanted until another attempt is entered, whether or not there has been one."""
        never = Entry(self.task, 0, "", "", "", "stopped", socket.gethostname(), os.getpid(), now())
        self.enter(replace(self.entry or never, state="stopped", ended=now(), error=why))

    def enter(self, entry: Entry) -> Entry:
        """Write an entry over the one that this claim has read or written. Raises ConflictError if another is there."""
        self._version = self._storage.replace(self._path, _to_json(entry), self._version)
        self.entry = entry
        return entry


class Batch:
    """Attempts for several tasks that will be one job: each is entered by itself, all with one name and request id.

    prefix: how the job's name begins. claims: those whose attempts will be entered. lasting: whether the name is the
    same for every attempt.
    """

    def __init__(
        self, prefix: str, claims: Sequence[Claim], *, runner: str = "", where: str = "", lasting: bool = False
    ) -> None:
        self._attempts = {each.task: each.next_attempt() for each in claims}
        first = claims[0]
        self._name = _job_name(prefix, first.uri if lasting else f"{first.uri} {self._attempts[first.task]}")
        self._request = secrets.token_hex(16)
        # Only a job that outlives this process is looked for by others, and it runs somewhere.
        self._members = list(self._attempts) if where and len(claims) > 1 else []
        self._runner, self._where = runner, where

    def enter(self, claim: Claim, work: str = "", code: str = "", replaces: str = "") -> Entry:
        """Enter the attempt of one of the claims. Raises ConflictError if another was entered."""
        before = claim.entry
        return claim.enter(
            Entry(
                task=claim.task,
                number=before.number + 1 if before else 1,
                attempt=self._attempts[claim.task],
                job_name=self._name,
                request_id=self._request,
                state="running",
                host=socket.gethostname(),
                pid=os.getpid(),
                started=now(),
                runner=self._runner,
                where=self._where,
                work=work,
                code=code,
                failures=failures(before, work, code),
                failed=before.failed if before and failures(before, work, code) else [],
                members=self._members,
                replaces=replaces,
            )
        )


def job_of(family: str, partition: str) -> str:
    """Return what the ledger calls the work of a kind of task for a partition."""
    return f"{family}_{partition.replace('/', '.')}"


def failures(entry: Entry | None, work: str, code: str) -> int:
    """Return how many jobs for some work with some code have failed, up to and with this entry's."""
    return entry.failures if entry is not None and (entry.work, entry.code) == (work, code) else 0


def failures_since(entry: Entry | None, work: str, code: str, seconds: float) -> Sequence[str]:
    """Return when jobs for some work with some code failed within the last seconds, up to and with this entry's."""
    since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
    failed = entry.failed if entry is not None and failures(entry, work, code) else ()
    return [each for each in failed if datetime.datetime.fromisoformat(each) > since]


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

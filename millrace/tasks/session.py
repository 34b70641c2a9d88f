"""What a stage needs of the outside, in one object: made once a process, by the settings, and handed down.

    session.current().storage                     # where datasets lie
    with session.use(Session(config)): ...        # a test's own; `wrap` puts something in front of the storage

Everything in a session is made when it is first asked for. A process that is forked gets connections of its own, and
keeps what was found out. Other settings, as two commands in one process may have, are another session.
"""

import contextlib
import glob
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, TypeVar, cast

from millrace import runners
from millrace.beam import gcs
from millrace.core.config import Config
from millrace.core.ledger import Entry, Ledger
from millrace.core.storage import LocalStorage, Storage
from millrace.core.warehouse import LocalWarehouse, Warehouse
from millrace.errors import SettingError
from millrace.gcloud.clients import Google
from millrace.gcloud.places import Places
from millrace.runners.runner import Job, Runner, Ticket
from millrace.tasks import sections

T = TypeVar("T")


class Session:
    """Storage, warehouse and Google's clients of some settings, and what was asked of them once for all.

    config: what the settings say, those at hand unless given. wrap: makes of their storage the one that is used.
    """

    def __init__(self, config: Config | None = None, wrap: Callable[[Storage], Storage] | None = None) -> None:
        self._given, self._wrap = config, wrap
        self._answers: dict[Hashable, object] = {}
        #: What the storage was found to hold (completeness.py).
        self.listing: Any = None
        #: The stages that luigi has asked this process about, by task_id (staleness.py).
        self.asked: dict[str, Any] = {}
        #: How jobs of earlier runs stood, by place and id, when this run looked at all of them at once (looking.py).
        self.looked: dict[tuple[str, str], Job] = {}
        #: What the ledger has of tasks, kept while luigi asks which tasks are complete; None at any other time.
        self.entries: dict[str, Entry | None] | None = None
        self._before: Session | None = None

    @cached_property
    def config(self) -> Config:
        """What the settings say."""
        return self._given or sections.config()

    @cached_property
    def google(self) -> Google:
        """Google's clients."""
        return Google(self.config)

    @cached_property
    def storage(self) -> Storage:
        """Where datasets lie."""
        root = self.config.storage
        found: Storage = LocalStorage(root)
        if root.startswith("gs://"):
            from millrace.gcloud.gcs import GcsStorage

            found = GcsStorage(root, self.google)
        return self._wrap(found) if self._wrap else found

    @cached_property
    def warehouse(self) -> Warehouse:
        """Where tables lie: BigQuery, or the storage's own files. Raises SettingError for places that don't fit."""
        uri, root, origin = self.config.warehouse, self.config.storage, self.config.origin
        if not uri:
            return LocalWarehouse(self.storage)
        if not root.startswith("gs://"):
            raise SettingError(
                f"millrace.warehouse = {uri!r}, {origin('millrace', 'warehouse')}, loads from Cloud Storage, but "
                f"millrace.storage = {root!r}, {origin('millrace', 'storage')}: set it to gs://BUCKET/PREFIX"
            )
        from millrace.gcloud.bigquery import BigQueryWarehouse

        def files(folder: str) -> list[str]:
            return [found.uri for found in gcs.match(f"{glob.escape(folder)}/*", self.config.gcp.patience)]

        return BigQueryWarehouse(uri, self.google, files)

    @cached_property
    def places(self) -> Places:
        """The bucket and the dataset, as far as they are in Google Cloud."""
        return Places(self.google)

    def runner(self, name: str) -> Runner:
        """Return the runner that settings and ledger call by a name of Beam's."""
        return runners.of(name, self.google)

    def find(self, runner: Runner, ticket: Ticket) -> Job | None:
        """Return the run of a ticket: the first time as this run's look at all jobs showed it; None for none."""
        return self.looked.pop((ticket.place, ticket.id), None) or runner.find(ticket)

    def entries_of(self, tasks: Iterable[str]) -> Mapping[str, Entry | None]:
        """Return what the ledger has of some tasks, read several at a time, as far as it is not kept already."""
        kept, names = self.entries or {}, list(tasks)
        read = Ledger(self.storage).entries(name for name in names if name not in kept)
        if self.entries is not None:
            self.entries |= read
        return {**read, **{name: kept[name] for name in names if name in kept}}

    def entry(self, task: str) -> Entry | None:
        """Return what the ledger has of a task."""
        return self.entries_of([task])[task]

    def once(self, key: Hashable, ask: Callable[[], T]) -> T:
        """Return what `ask` returned when first called for this key, here or where this process was forked from."""
        if key not in self._answers:
            self._answers[key] = ask()
        return cast("T", self._answers[key])

    def follow(self) -> "Session":
        """Return this session, or a new one where this goes by the settings at hand and they are others by now."""
        if self._given:
            return self
        now = sections.config()
        if self.config is now or self.config == now:
            return self
        following = Session(None, self._wrap)
        following.config, following._before, following.asked = now, self, self.asked
        return following

    def close(self) -> None:
        """Close all connections."""
        if "google" in vars(self):
            self.google.close()
        if self._before:
            self._before.close()

    def forked(self) -> None:
        """Do without what a child process must not share with its parent."""
        if self._before:
            self._before.forked()
        if "google" in vars(self):
            self.google.forget()
        for name in ("storage", "warehouse", "places"):  # a storage remembers locks, which are the parent's
            vars(self).pop(name, None)


#: The session of this process, and those that are used for a while instead, the last one now.
_sessions = [Session()]
#: The process that asked last: another one is its child.
_process = os.getpid()


def current() -> Session:
    """Return the session at hand."""
    global _process
    # Not in a hook of os.fork: Python swallows what a signal raises there, and so the signal.
    if _process != (process := os.getpid()):
        for session in _sessions:
            session.forked()
        _process = process
    _sessions[-1] = _sessions[-1].follow()
    return _sessions[-1]


@contextlib.contextmanager
def use(session: Session) -> Iterator[Session]:
    """Make a session the one at hand, until the end of this."""
    _sessions.append(session)
    try:
        yield session
    finally:
        _sessions.pop().close()


# Pipelines that run in this process, and sources, ask Cloud Storage as the settings say.
gcs.use(lambda: current().google.storage, lambda: current().google.access)

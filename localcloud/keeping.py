"""What `localcloud --keep DIR` keeps between its runs: objects, tables, and what is known of Dataflow's jobs.

All of it is in one SQLite file. What a call changed is written in one transaction before the call is answered, so that
a local cloud that is killed at any moment has, when it starts again, all that was answered and nothing by halves. Not
kept are uploads in pieces that were not done, and BigQuery's jobs; a Dataflow job that was not over begins anew.
"""

import fcntl
import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from google.cloud import dataflow_v1beta3 as api

from localcloud.bigquery import BigQuery
from localcloud.bigquery_tables import Name, Table
from localcloud.dataflow import Dataflow
from localcloud.dataflow_jobs import Job, Message, Stage
from localcloud.storage import Storage
from localcloud.storage.state import Bucket, Object, Store

_FILE = "localcloud.sqlite"
_VERSION = 2


def folder(named: str | Path) -> Path:
    """Return the folder that somebody named, in full. Raises ValueError for one that is none."""
    if not str(named):  # as of a variable that is not set; it would be the folder that somebody stands in
        raise ValueError("the folder's name is empty; name a folder")
    try:
        return Path(named).expanduser().resolve()
    except RuntimeError:
        raise ValueError(f"{named} is in the home of a user that this machine does not know; name a folder") from None


@dataclass(frozen=True)
class Item:
    """One thing to keep. stamp: changes whenever the thing does; content: what it is, as JSON and bytes."""

    key: str
    stamp: object
    content: Callable[[], tuple[Mapping[str, Any], bytes]]


#: Items that are compared together with what is written of the same group: what is no longer among them is gone.
Group = tuple[object, Iterable[Item]]


class Keeper:
    """A folder, for one local cloud at a time. Raises ValueError for one that can't be used.

    emulators: where Google's emulators keep what they can.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = threading.RLock()
        #: Service → group → key → stamp of what is written.
        self._stamps: dict[str, dict[object, dict[str, object]]] = {}
        #: The objects of Cloud Storage that are to be compared with what is written.
        self._due: set[tuple[str, str]] = set()
        self._ended = threading.Event()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._held: IO[str] = (folder / "lock").open("w")
        except OSError as problem:
            raise ValueError(f"{folder} can't be used: {problem.strerror}") from None
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"{folder} is in use by another local cloud; end that one, or name another") from None
        self.emulators = folder / "emulators"
        try:
            self._file = sqlite3.connect(folder / _FILE, check_same_thread=False, isolation_level=None)
            (version,) = self._file.execute("PRAGMA user_version").fetchone()
            if version not in (0, _VERSION):
                raise ValueError(f"{folder / _FILE} is of another version of localcloud ({version}, not {_VERSION})")
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = NORMAL")
            self._file.execute("CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, about TEXT, data BLOB)")
            self._file.execute(f"PRAGMA user_version = {_VERSION}")
        except sqlite3.Error as problem:
            raise ValueError(f"{folder / _FILE} can't be read: {problem}") from None

    def start(self, storage: Storage, bigquery: BigQuery, dataflow: Dataflow) -> None:
        """Give the services what was kept, and keep from now on what they change."""
        restore_storage(storage, self._all("storage"))
        restore_bigquery(bigquery, self._all("bigquery"))
        restore_dataflow(dataflow, self._all("dataflow"))
        # What was kept is not written again.
        for service, groups in (
            ("storage", storage_groups(storage, self._due)),
            ("bigquery", [("", bigquery_items(bigquery))]),
            ("dataflow", [("", dataflow_items(dataflow))]),
        ):
            self._stamps[service] = {group: {item.key: item.stamp for item in items} for group, items in groups}
        self._due.clear()
        storage.changed = lambda: self._save_storage(storage)
        bigquery.changed = lambda: self._save("bigquery", [("", bigquery_items(bigquery))])
        dataflow.changed = lambda: self._save("dataflow", [("", dataflow_items(dataflow))])
        threading.Thread(target=self._watch, args=(dataflow,), daemon=True).start()

    def stop(self) -> None:
        """Let go of the folder."""
        self._ended.set()
        with self._lock:
            self._file.close()
            self._held.close()

    def _watch(self, dataflow: Dataflow) -> None:
        """Keep the states of jobs, which no call changes."""
        while not self._ended.is_set():
            with dataflow.life.changed:
                dataflow.life.changed.wait(1)
            with suppress(sqlite3.Error):  # as on a full disk; a second later there may be room
                dataflow.changed()

    def _all(self, service: str) -> Iterator[tuple[Any, bytes]]:
        rows = self._file.execute("SELECT about, data FROM kept WHERE key GLOB ? ORDER BY rowid", [f"{service}/*"])
        for about, data in rows.fetchall():
            yield json.loads(about), data

    def _save_storage(self, storage: Storage) -> None:
        with self._lock:
            self._save("storage", storage_groups(storage, self._due))
            self._due.clear()

    def _save(self, service: str, groups: Iterable[Group]) -> None:
        """Write what differs from what is written, in one transaction."""
        with self._lock:
            if self._ended.is_set():
                return
            known, after = self._stamps[service], dict[object, dict[str, object]]()
            written, gone = [], []
            for group, items in groups:
                before, stamps = known.get(group, {}), after.setdefault(group, {})
                for item in items:
                    stamps[item.key] = item.stamp
                    if item.key not in before or before[item.key] != item.stamp:
                        about, data = item.content()
                        written.append((f"{service}/{item.key}", json.dumps(about), data))
                gone += [(f"{service}/{key}",) for key in before.keys() - stamps.keys()]
            if written or gone:
                self._file.execute("BEGIN IMMEDIATE")
                with self._file:  # which takes all of it back if something fails, as on a full disk
                    self._file.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", written)
                    self._file.executemany("DELETE FROM kept WHERE key = ?", gone)
            for group, stamps in after.items():
                if stamps:
                    known[group] = stamps
                else:
                    known.pop(group, None)


def storage_groups(storage: Storage, due: set[tuple[str, str]]) -> Iterator[Group]:
    """Yield the buckets and the HMAC keys, and each object that was touched with all its generations.

    due: the objects that were touched and are not written yet, by their bucket's generation and their name; those that
    have been touched since are added.
    """
    store = storage.store
    with storage.lock:
        due |= store.touched
        store.touched.clear()
        buckets = {each.generation: each for each in (*store.buckets.values(), *store.deleted)}
        yield "", _buckets_and_keys(store, buckets)
        for generation, name in due:
            there = buckets.get(generation)
            yield (generation, name), _generations(there, name) if there else ()


def _buckets_and_keys(store: Store, buckets: Mapping[str, Bucket]) -> Iterator[Item]:
    for id_, hmac_key in store.hmac_keys.items():
        known_key = {"hmac_key": id_, "resource": hmac_key}
        yield Item(f"/{id_}", repr(hmac_key), lambda about=known_key: (about, b""))  # type: ignore[misc]
    for generation, bucket in buckets.items():
        about = {
            "resource": bucket.resource,
            "folders": bucket.folders,
            "notifications": bucket.notifications,
            "policy": bucket.policy,
        }
        yield Item(generation, repr(about), lambda about=about: (about, b""))  # type: ignore[misc]


def _generations(bucket: Bucket, name: str) -> Iterator[Item]:
    """Yield an object in whatever state; its data is what it was when that generation was written."""
    live = bucket.objects.get(name)
    for state, objects in (
        ("live", [live] if live else []),
        ("replaced", bucket.replaced.get(name, [])),
        ("deleted", bucket.deleted.get(name, [])),
    ):
        for each in objects:
            known = {"bucket": bucket.generation, "state": state, "resource": each.resource}
            content = lambda known=known, data=each.data: (known, bytes(data))  # noqa: E731
            yield Item(f"{bucket.generation}/{each.generation}", (state, repr(each.resource)), content)


def restore_storage(storage: Storage, kept: Iterator[tuple[Any, bytes]]) -> None:
    """Give Cloud Storage its buckets and objects; generations go on from the last one."""
    store, objects = storage.store, []
    buckets: dict[str, Bucket] = {}
    for about, data in kept:
        if "hmac_key" in about:
            store.hmac_keys[about["hmac_key"]] = about["resource"]
        elif "state" in about:
            objects.append((about["bucket"], about["state"], Object(data, about["resource"])))
        else:
            bucket = Bucket(**about, touched=store.touched)
            buckets[bucket.generation] = bucket
            if "softDeleteTime" in bucket.resource:
                store.deleted.append(bucket)
            else:
                store.buckets[bucket.resource["name"]] = bucket
    for generation, state, one in sorted(objects, key=lambda each: int(each[2].generation)):
        bucket = buckets[generation]
        if state == "live":
            bucket.put(one)
        else:
            kept_by_name = bucket.replaced if state == "replaced" else bucket.deleted
            kept_by_name.setdefault(one.name, []).append(one)
            bucket.touch(one.name)
    generations = [*buckets, *(one.generation for _, _, one in objects)]
    store.last_generation = max(map(int, generations), default=0)


def bigquery_items(bigquery: BigQuery) -> Iterator[Item]:
    """Yield the datasets and the tables."""
    with bigquery.lock:
        for (project, name), dataset in bigquery.catalog.datasets.items():
            about = {"project": project, "name": name, "dataset": dataset}
            yield Item(f"{project}/{name}", repr(about), lambda about=about: (about, b""))  # type: ignore[misc]
        for table in bigquery.catalog.tables.values():
            stamp = (id(table.rows), table.version, table.changed, repr(table.about), repr(table.written))
            whole = table.name
            content = lambda table=table: (_table(table), _arrow(table.rows))  # noqa: E731
            yield Item(f"{whole.project}/{whole.dataset}/{whole.table}", stamp, content)


def restore_bigquery(bigquery: BigQuery, kept: Iterator[tuple[Any, bytes]]) -> None:
    """Give BigQuery its datasets and tables."""
    for about, data in kept:
        if "dataset" in about:
            bigquery.catalog.datasets[about["project"], about["name"]] = about["dataset"]
        else:
            name = Name(**about.pop("name"))
            bigquery.catalog.tables[name] = Table(name=name, rows=pa.ipc.open_stream(data).read_all(), **about)


def _table(table: Table) -> dict[str, Any]:
    known = {each.name: getattr(table, each.name) for each in fields(table) if each.name != "rows"}
    return {**known, "name": asdict(table.name)}


def _arrow(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return bytes(sink.getvalue().to_pybytes())


def dataflow_items(dataflow: Dataflow) -> Iterator[Item]:
    """Yield the jobs."""
    with dataflow.life.changed:
        for job in dataflow.jobs:
            stamp = (job.state, job.name, job.replaced_by, job.error, job.over and len(job.messages))
            yield Item(job.id, stamp, lambda job=job: (_job(job), b""))  # type: ignore[misc]


def restore_dataflow(dataflow: Dataflow, kept: Iterator[tuple[Any, bytes]]) -> None:
    """Give Dataflow its jobs; those that are not over begin anew when it starts."""
    for about, _ in kept:
        job = Job(submitted=api.Job.from_json(about.pop("submitted")), **about)
        job.created, job.entered = _time(job.created), _time(job.entered)
        job.started = job.started and _time(job.started)
        job.messages = [Message(_time(at), importance, text) for at, importance, text in about["messages"]]
        job.workers = [(_time(at), number) for at, number in about["workers"]]
        job.stages = [
            Stage(**{**each, **{name: each[name] and _time(each[name]) for name in ("started", "ended")}})
            for each in about["stages"]
        ]
        job.behind = tuple(about["behind"])
        dataflow.jobs.append(job)


def _job(job: Job) -> dict[str, Any]:
    # A launch is over as soon as the job that it made is known, and a process does not outlive the local cloud.
    known = {each.name: getattr(job, each.name) for each in fields(job) if each.name not in ("launch", "pid")}
    known["submitted"] = api.Job.to_json(job.submitted)
    known["stages"] = [asdict(each) for each in job.stages]
    known["messages"] = [(each.time, each.importance, each.text) for each in job.messages]
    plain: dict[str, Any] = json.loads(json.dumps(known, default=_text))
    return plain


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _time(text: Any) -> datetime:
    return datetime.fromisoformat(text)

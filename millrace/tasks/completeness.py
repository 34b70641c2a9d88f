"""Completeness without a request a task: one listing tells of all stages and days, one query of all tables.

Where a storage keeps notes (Cloud Storage), the note on a stage's manifest says with which settings it was made and
where it was published. The listing is made at the first question of a run. What the listing shows as complete is
complete. What it does not show was not complete then, and the first question about a task is answered so: luigi asks
once when it schedules a task, and again when it runs the task, because by then somebody may have made the result. A
second question, or one of another process, or a later one, gets a fresh look: at the task alone, and after a few such
looks a new listing, so that the requests don't grow with the days.
"""

import functools
import json
import os
import time
from collections.abc import Mapping

from millrace.common.tables import Table
from millrace.core import manifests
from millrace.errors import QueryError
from millrace.tasks import identity, session
from millrace.tasks.base import registered
from millrace.tasks.protocols import StageLike

Notes = Mapping[str, Mapping[str, str]]
#: Table → the folder of a partition's key → rows.
Rows = Mapping[str, Mapping[str, int]]

#: So many fresh looks are at one task alone before there is a new listing, and for so many seconds it may say no.
_FEW, _FRESH = 3, 30.0


class _Listing:
    """What one look at the storage found, and one at the warehouse if need be."""

    def __init__(self) -> None:
        self.notes: Notes | None = session.current().storage.notes(manifests.NAME, folders())
        self._tables = tables()
        self.denied: set[str] = set()  # tasks that this listing was asked about and did not show
        self.seen: set[str] = set()  # tasks that a look at them alone has shown since
        self.looks = 0  # how many of those looks there were
        self._suffixes = {""}  # of the names that the notes are of
        self._further: dict[str, Mapping[str, int]] = {}  # rows of tables that are called by a key
        self._process, self._until = os.getpid(), time.monotonic() + _FRESH

    @functools.cached_property
    def rows(self) -> Rows | None:
        """Rows of the warehouse's partitions."""
        return session.current().warehouse.rows(self._tables)

    def note_of(self, stage: StageLike) -> Mapping[str, str] | None:
        """Return the note that was found of a stage, if any.

        What is called by a key (word_counts_30d) is looked for when it is first asked about, all stages' at once.
        """
        if self.notes is None:
            return None
        dataset = stage.datasets()[0]
        suffix = dataset.key.suffix
        if suffix not in self._suffixes:
            self._suffixes.add(suffix)
            further = session.current().storage.notes(manifests.NAME, [folder + suffix for folder in folders()])
            self.notes = {**self.notes, **(further or {})}
        return self.notes.get(dataset.manifest_path)

    def rows_of(self, wanted: Mapping[str, Table]) -> Rows | None:
        """Return the rows of some tables' partitions, for those of other names than `tables` gives too."""
        if self.rows is None:
            return None
        known = {*self._tables, *self._further}
        if missing := {name: table for name, table in sorted(wanted.items()) if name not in known}:
            found = session.current().warehouse.rows(missing) or {}
            self._further |= {name: found.get(name, {}) for name in missing}
        return {**self.rows, **self._further}

    def denies(self, task: str) -> bool:
        """Return whether the listing, having not shown a task, may say that the task is not complete; it may once."""
        if task in self.denied or os.getpid() != self._process or time.monotonic() > self._until:
            return False
        self.denied.add(task)
        return True


def folders() -> list[str]:
    """Return the folders of the datasets whose manifests decide, of all stages that luigi knows."""
    return sorted({kind.__dict__["writes"][0] for kind in registered().values() if kind.__dict__.get("writes")})


def tables() -> dict[str, Table]:
    """Return the tables that the stages publish which luigi knows, by name."""
    return {name: table for kind in registered().values() for name, table in getattr(kind, "tables", {}).items()}


def _listing(*, anew: bool = False) -> _Listing:
    here = session.current()
    if anew or here.listing is None:
        here.listing = _Listing()
    found: _Listing = here.listing
    return found


def kept() -> bool:
    """Return whether the storage keeps notes, so that `told` and `shown` know."""
    return _listing().notes is not None


def shown(stage: StageLike) -> bool:
    """Return whether the listing shows a stage as complete.

    Raises SettingsDifferError if the stage's partition was made with other settings.
    """
    listing = _listing()
    if stage.task_id in listing.seen:
        return True
    note = listing.note_of(stage)
    if note is None or not _published(stage, note):
        return False
    rows = listing.rows_of(stage.published()) if stage.tables else None
    if rows is None:
        return True
    return all(rows.get(name, {}).get(stage.key.folder, 0) == count for name, count in _rows(note).items())


def told(stage: StageLike) -> bool:
    """Return whether a stage is complete. Raises SettingsDifferError if its partition was made with other settings."""
    if shown(stage):
        return True
    listing = _listing()
    if listing.denies(stage.task_id):
        return False
    if listing.looks == _FEW:
        listing = _listing(anew=True)
        if shown(stage):
            return True
    listing.looks += 1
    dataset = stage.datasets()[0]
    notes = session.current().storage.notes(manifests.NAME, [dataset.partition]) or {}
    note = notes.get(dataset.manifest_path)
    done = note is not None and _published(stage, note) and _counted(stage) in (None, _rows(note))
    if done:
        listing.seen.add(stage.task_id)
    return done


def code_of(stage: StageLike) -> dict[str, list[str]]:
    """Return what a stage's partition says of its code (staleness.py), as far as this run has listed the partition."""
    if kept():
        note = _listing().note_of(stage) or {}
        found: dict[str, list[str]] = json.loads(note.get("code", "{}"))
        return found
    manifest = stage.manifest()
    return {family: [*said] for family, said in manifest.code.items()} if manifest else {}


def forget() -> None:
    """Forget the listing, because much may have been made anew since."""
    session.current().listing = None


def changed(stage: StageLike) -> None:
    """Note that a stage has just run here, so that what the listing does not show of it is asked for anew."""
    if listing := session.current().listing:
        listing.denied.add(stage.task_id)


def _published(stage: StageLike, note: Mapping[str, str]) -> bool:
    mine = stage.note()
    if note.get("settings") != mine["settings"]:
        stage.check_settings()  # reads the manifest, and says which setting it is
        return False
    yielded = json.loads(note.get("yielded", "{}"))
    if identity.changed(stage, json.loads(note.get("versions", "{}"))) or not identity.of_yielded_holds(yielded):
        stage.check_settings()
        return False
    # A table that the stage has had only since then is not published either.
    here = note.get("published") == session.current().warehouse.uri and stage.published().keys() <= _rows(note).keys()
    return here or not stage.follows()


def _rows(note: Mapping[str, str]) -> dict[str, int]:
    """Return the rows of each table that were published."""
    found: dict[str, int] = json.loads(note.get("rows", "{}"))
    return found


def _counted(stage: StageLike) -> dict[str, int] | None:
    """Return the rows that a stage's tables have now; None where there is nothing to compare."""
    warehouse = session.current().warehouse
    if not stage.tables or _listing().rows is None:
        return None
    key = stage.key
    which, value = (f" WHERE {key.by} = @value", {"value": key.value}) if key.by else ("", {})
    counts = [f"SELECT '{name}' AS name, COUNT(*) AS found FROM `{name}`{which}" for name in stage.published()]
    try:
        found = warehouse.query(" UNION ALL ".join(counts), value).to_pylist()
    except QueryError:  # a table is not there any more
        return {}
    return {row["name"]: row["found"] for row in found}

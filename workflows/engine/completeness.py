"""Completeness without a request a task: one listing tells of all stages and days, one query of all tables.

Where a storage keeps notes (Cloud Storage), the note on a stage's manifest says with which settings it was made and
where it was published. The listing is made at the first question of a run. What it shows as complete is complete. What
it does not show was not complete then: who asks about a task for the first time is told so; who asks again gets a fresh
look, since by then somebody may have done it. Luigi asks once when it schedules, and again when it runs.
"""

import datetime
import functools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipelines.errors import QueryError
from workflows.engine import clients, manifests

if TYPE_CHECKING:
    from workflows.engine.stage import Stage

Notes = Mapping[str, Mapping[str, str]]
Rows = Mapping[str, Mapping[datetime.date, int]]

#: The folders of the datasets whose manifests decide; every class of stages adds its own.
folders: set[str] = set()


class _Listing:
    """What one look at the storage found, and one at the warehouse if need be."""

    def __init__(self, storage: str, warehouse: str) -> None:
        self.place = (storage, warehouse)
        self.notes: Notes | None = clients.storage().notes(manifests.NAME, sorted(folders))
        self.denied: set[str] = set()  # tasks that it was asked about and did not show
        self.seen: set[str] = set()  # tasks that a fresh look has shown since

    @functools.cached_property
    def rows(self) -> Rows | None:
        """Rows of the warehouse's partitions."""
        return clients.warehouse().rows()


_last: _Listing | None = None


def _listing() -> _Listing:
    global _last
    place = (clients.storage().uri(""), clients.warehouse().uri)
    if _last is None or _last.place != place:
        _last = _Listing(*place)
    return _last


def kept() -> bool:
    """Whether the storage keeps notes, so that `told` and `shown` know."""
    return _listing().notes is not None


def shown(stage: "Stage") -> bool:
    """Whether the listing shows a stage as complete. Raises SettingsDifferError if it was made with other settings."""
    listing = _listing()
    if stage.task_id in listing.seen:
        return True
    note = (listing.notes or {}).get(stage.datasets()[0].manifest_path)
    if note is None or not _published(stage, note):
        return False
    if not stage.tables or listing.rows is None:
        return True
    date = stage.partition_date()
    return all(listing.rows.get(name, {}).get(date, 0) == count for name, count in _rows(note).items())


def told(stage: "Stage") -> bool:
    """Whether a stage is complete. Raises SettingsDifferError if it was made with other settings."""
    if shown(stage):
        return True
    listing = _listing()
    if stage.task_id not in listing.denied:
        listing.denied.add(stage.task_id)
        return False
    notes = clients.storage().notes(manifests.NAME, [stage.datasets()[0].partition]) or {}
    note = notes.get(stage.datasets()[0].manifest_path)
    done = note is not None and _published(stage, note) and _counted(stage) in (None, _rows(note))
    if done:
        listing.seen.add(stage.task_id)
    return done


def _published(stage: "Stage", note: Mapping[str, str]) -> bool:
    mine = stage.note()
    if note.get("settings") != mine["settings"]:
        stage.check_settings()  # reads the manifest, and says which setting it is
        return False
    # A table that the stage has had only since then is not published either.
    here = note.get("published") == clients.warehouse().uri and stage.tables.keys() <= _rows(note).keys()
    return here or not stage.follows()


def _rows(note: Mapping[str, str]) -> dict[str, int]:
    """The rows of each table that were published."""
    found: dict[str, int] = json.loads(note.get("rows", "{}"))
    return found


def _counted(stage: "Stage") -> dict[str, int] | None:
    """The rows that a stage's tables have now; None where there is nothing to compare."""
    warehouse = clients.warehouse()
    if not stage.tables or _listing().rows is None:
        return None
    counts = [f"SELECT '{name}' AS name, COUNT(*) AS found FROM `{name}` WHERE date = @date" for name in stage.tables]
    try:
        found = warehouse.query(" UNION ALL ".join(counts), {"date": stage.partition_date()}).to_pylist()
    except QueryError:  # a table is not there any more
        return {}
    return {row["name"]: row["found"] for row in found}

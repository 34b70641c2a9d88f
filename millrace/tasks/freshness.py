"""What is stale: made by other code than a run has now, or of inputs that were made anew since.

A manifest tells both by itself: it names the code that made the result and all that the result is built on, and the
digests of the manifests that were read. An input that is not there any more makes nothing stale, because nothing could
be made of it anew.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import luigi
from luigi.task_register import Register, TaskClassException

from millrace.core import code, manifests
from millrace.core.manifests import Manifest
from millrace.core.storage import Storage, read_all
from millrace.errors import ManifestError, MillraceError, SourceChangedError
from millrace.tasks import identity, sections, session
from millrace.tasks.protocols import StageLike

#: A task's name → the class of the stage, or None where this run knows none of that name.
Kinds = Callable[[str], Any]

CODE, INPUTS = "other code", "newer inputs"


class Lineage:
    """Partitions with their manifests as they were when they were first asked for, and which of them are stale."""

    def __init__(self, storage: Storage, kinds: Kinds) -> None:
        self._storage, self._kinds = storage, kinds
        self._read: dict[str, tuple[Manifest, str] | None] = {}
        self._why: dict[str, str] = {}
        self._others: dict[tuple[str, str], bool] = {}

    def why(self, partition: str) -> str:
        """Return why a partition is stale: CODE or INPUTS; "" where it is not, or not there."""
        self._load([partition])
        return self._judged(partition)

    def stale(self, partitions: Iterable[str]) -> list[str]:
        """Return those of some partitions that are stale, in their order."""
        asked = list(partitions)
        self._load(asked)
        return [partition for partition in asked if self._judged(partition)]

    def _load(self, partitions: Sequence[str]) -> None:
        """Read what some partitions were made of, and that of, and so on: as many at a time as there are."""
        left = [partition for partition in dict.fromkeys(partitions) if partition not in self._read]
        while left:
            files = read_all(self._storage, [f"{partition}/{manifests.NAME}" for partition in left])
            for partition, file in zip(left, files, strict=True):
                try:
                    path = self._storage.uri(f"{partition}/{manifests.NAME}")
                    found = (Manifest.from_json(file.data, path), manifests.digest(file.data)) if file else None
                except ManifestError:  # bin/doctor and bin/clear say so
                    found = None
                self._read[partition] = found
            read = [found[0] for partition in left if (found := self._read[partition])]
            inputs = dict.fromkeys(entry.partition for manifest in read for entry in manifest.inputs)
            left = [partition for partition in inputs if partition not in self._read]

    def _judged(self, partition: str) -> str:
        if partition not in self._why:
            self._why[partition] = ""  # no partition of ours is made of itself
            found = self._read[partition]
            self._why[partition] = self._judge(found[0]) if found else ""
        return self._why[partition]

    def _judge(self, manifest: Manifest) -> str:
        if any(self._is_other(family, said) for family, all_ in manifest.code.items() for said in all_):
            return CODE
        for entry in manifest.inputs:
            found = self._read[entry.partition]
            if found and (found[1] != entry.digest or self._judged(entry.partition)):
                return INPUTS
        return ""

    def _is_other(self, family: str, said: str) -> bool:
        if (family, said) not in self._others:
            kind = self._kinds(family)
            self._others[family, said] = kind is not None and not code.is_of(said, kind)
        return self._others[family, said]


def kind(family: str) -> Any:
    """Return the class of the stage that a task's name is of; None where this run knows none of that name."""
    try:
        found = Register.get_task_cls(family)
    except TaskClassException:  # it is in a module that this run has not imported
        return None
    return found if hasattr(found, "maker") else None


def on() -> bool:
    """Return whether this run makes anew what is stale: by --refresh, [millrace] refresh, or a person's word."""
    return session.current().config.refresh or bool(_state().get("yes"))


def wanted(partitions: Iterable[str]) -> set[str]:
    """Return those of some partitions that this run is to make anew; none unless it refreshes."""
    if not on():
        return set()
    state = _state()
    if "lineage" not in state:
        state["lineage"] = Lineage(session.current().storage, kind)
    found: set[str] = set(state["lineage"].stale(partitions))
    return found


def current(stage: StageLike, manifest: Manifest) -> bool:
    """Return whether a partition is of this run's settings, and of what is there now; False where this run refreshes
    and is to make it anew.

    Raises SettingsDifferError, and SourceChangedError where this run does not refresh.
    """
    try:
        identity.check(stage, manifest)
    except SourceChangedError:
        if on():
            return False
        raise
    return True


def changed() -> None:
    """Forget what was read, because something was made anew, here or perhaps in another process."""
    with contextlib.suppress(MillraceError):  # settings that are wrong have read nothing
        _state().pop("lineage", None)


def ask(tasks: Iterable[luigi.Task]) -> None:
    """Ask a person at a terminal whether what is stale of some tasks, and of what they are built on, is made anew.

    Only with [millrace] refresh = ask, and where there is a terminal.
    """
    if sections.millrace().refresh != "ask" or on() or not (sys.stdin and sys.stdin.isatty()):
        return
    needed = [task for each in tasks for task in identity.chain(cast("Any", each)) if identity.is_stage(task)]
    lineage = Lineage(session.current().storage, kind)
    partitions = [task.datasets()[0].partition for task in needed]
    lineage.stale(partitions)
    why = {partition: lineage.why(partition) for partition in partitions}
    stale = [partition for partition, reason in why.items() if reason]
    if not stale:
        return
    names = ", ".join(dict.fromkeys(partition.partition("/")[0] for partition in stale))
    reasons = " and ".join(sorted({why[partition] for partition in stale}))
    asked = f"{len(stale)} partitions ({names}) are stale, by {reasons}: make them anew? [y/N] "
    print(asked, end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        _state()["yes"] = True


def _state() -> dict[str, Any]:
    """Return what this process knows: a child knows what its parent was told, not what its parent read."""
    told = session.current().once("refresh", dict[str, Any])
    if told.get("process") != os.getpid():
        told.pop("lineage", None)
        told["process"] = os.getpid()
    return told

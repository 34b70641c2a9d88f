"""What is done to one partition by itself, whichever batch it was made in.

Its files are checked, its manifest is written, what follows is published, and its attempt is closed.
"""

import dataclasses
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait

from millrace.core import damage, manifests, values
from millrace.core.ledger import Claim, Entry, now
from millrace.core.manifests import FileEntry, InputEntry, Manifest
from millrace.core.storage import read_all
from millrace.errors import ConflictError, ManifestError, MillraceError
from millrace.tasks import completeness, freshness, identity, session, staleness
from millrace.tasks.datasets import Dataset
from millrace.tasks.protocols import Inputs, Outcome, StageLike

log = logging.getLogger("millrace")


def publish_there(stage: StageLike, claim: Claim, there: tuple[Manifest, str]) -> None:
    """Publish a partition that is there, as far as that is left to do."""
    manifest, digest = there
    identity.check(stage, manifest)
    damage.check(session.current().storage, manifest.partition, manifest.files)
    _publish(stage, manifest, digest)
    # The partition may have lost its note: it was copied, or the process that wrote it died before the last word.
    _note(stage, manifest)
    claim.close()
    completeness.changed(stage)
    freshness.changed()


def accepted(stage: StageLike, claim: Claim, outcome: Outcome, now_there: Inputs) -> Manifest:
    """Return the manifest of what an attempt wrote. Raises a MillraceError if that must not be a partition.

    now_there: the stage's inputs as they are by now.
    """
    _check_files(stage, outcome.files)
    manifest = manifest_of(stage, claim.attempt, outcome)
    _check(stage, manifest, claim)
    if [digest for _, (_, digest) in now_there] != [digest for _, (_, digest) in stage.inputs()]:
        raise ConflictError(f"what {stage} reads was made anew while it ran; run it again")
    return manifest


def make(
    stage: StageLike, claim: Claim, manifest: Manifest, since: float, stale: tuple[Manifest, str] | None = None
) -> None:
    """Make a partition visible, and all that follows from it.

    since: when its attempt began, by our clock. stale: the manifest that this one takes the place of, and its version.
    """
    data = manifest.to_json()
    there = _show(stage, manifest, data) if stale is None else _show_instead(stage, data, stale[1])
    if there is None:
        log.info("%-34s %s", stage, _summary(manifest, stage.tells, time.monotonic() - since))
    manifest, digest = there or (manifest, manifests.digest(data))
    identity.check(stage, manifest)
    _publish(stage, manifest, digest)
    if stage.follows() or stale:
        _note(stage, manifest)
    if stale:
        clear(stage, claim.attempt, manifest)
    claim.close()
    completeness.changed(stage)
    freshness.changed()


def clear(stage: StageLike, attempt: Entry, keeping: Manifest | None = None) -> None:
    """Delete what earlier attempts left; manifests of further datasets go before their files.

    Only what is older than this attempt goes, because a process that was given up for dead, and goes on, must not clear
    what its successor made. keeping: the manifest whose files stay, with those of its further datasets.
    """
    storage = session.current().storage
    kept = {file.path for file in keeping.files} if keeping else set()
    for dataset in stage.datasets():
        mine = {path.removeprefix(f"{dataset.partition}/").partition("/")[0] for path in kept}
        older = set()
        for name in storage.names(dataset.partition) - mine - {*stage.keeps}:
            if not (number := re.match(r"attempt-(\d+)-", name)) or int(number[1]) < attempt.number:
                older.add(name)
        if manifests.NAME in older and dataset is not stage.datasets()[0] and keeping is None:
            storage.delete(dataset.manifest_path)
        for name in sorted(older - {manifests.NAME}):
            storage.delete(f"{dataset.partition}/{name}")


def manifest_of(stage: StageLike, entry: Entry, outcome: Outcome) -> Manifest:
    """Return the manifest of what an attempt wrote."""
    version, _, made = entry.code.partition(" ")  # a job may have been submitted with other code than this run's
    counts = {task.task_id for task in stage.built_on()}
    read = zip(stage.required(), stage.inputs(), strict=True)
    built_on = [manifest for task, (_, (manifest, _)) in read if task.task_id in counts]
    yielded = stage.yielded()
    return Manifest(
        partition=stage.datasets()[0].partition,
        attempt=entry.attempt,
        files=[dataclasses.replace(file, table=stage.named(file.table)) for file in outcome.files],
        schemas={stage.named(table): columns for table, columns in outcome.schemas.items()},
        inputs=[InputEntry(dataset.partition, digest) for dataset, (_, digest) in stage.inputs()],
        pipeline=outcome.pipeline,
        code_version=version,
        settings=identity.of(stage) | identity.of_yielded(yielded),
        versions=identity.versions(stage),
        options=outcome.options,
        runner=outcome.runner,
        job_id=outcome.job_id,
        started=outcome.started or entry.started,
        ended=now(),
        counters=outcome.counters,
        usage=outcome.usage,
        code=staleness.of(stage.task_family, outcome.code or made, [*built_on, *yielded]),
        value=outcome.value,
    )


def derived(dataset: "Dataset", manifest: Manifest) -> bool:
    """Return whether a further dataset of a manifest's attempt is visible."""
    found = dataset.read()
    return found is not None and found[0].attempt == manifest.attempt


def _check(stage: StageLike, manifest: Manifest, claim: Claim) -> None:
    """Have the stage check what came out; where it refuses, publish what explains that, and keep the attempt to look
    at.
    """
    try:
        stage.check(manifest)
    except MillraceError as error:
        _derive(stage, manifest)
        claim.close(str(error), "refused")
        raise


def _check_files(stage: StageLike, files: Sequence[FileEntry]) -> None:
    """Raise ManifestError for a file that is not there as it was written."""
    storage = session.current().storage
    there = {path: size for dataset in stage.datasets() for path, size in storage.sizes(dataset.partition).items()}
    for file in files:
        if (size := there.get(file.path)) != file.bytes:
            found = "is not there" if size is None else f"has {size:,} bytes"
            raise ManifestError(f"{storage.uri(file.path)} {found}, but {file.bytes:,} were written; run it again")


def _show(stage: StageLike, manifest: Manifest, data: bytes) -> tuple[Manifest, str] | None:
    """Write the manifest; if another run's is there, return that one."""
    storage, path = session.current().storage, stage.datasets()[0].manifest_path
    try:
        storage.create(path, data, stage.note(manifest))
    except ConflictError:
        there = stage.datasets()[0].read()
        if there is None:
            raise
        try:
            _check_files(stage, there[0].files)
        except ManifestError:
            # A leftover of a run that was given up for dead while it wrote this; since then its files were cleared.
            storage.delete(path)
            storage.create(path, data, stage.note(manifest))
            return None
        return there
    return None


def _show_instead(stage: StageLike, data: bytes, version: str) -> tuple[Manifest, str] | None:
    """Write the manifest over a stale one; if another run was first, return what that run wrote."""
    try:
        session.current().storage.replace(stage.datasets()[0].manifest_path, data, version)
    except ConflictError:
        if there := stage.datasets()[0].read():
            return there
        raise
    return None


def _publish(stage: StageLike, manifest: Manifest, digest: str) -> None:
    _derive(stage, manifest)
    place, storage, tables = session.current().warehouse, session.current().storage, stage.published()

    def publish(name: str) -> None:
        files = [storage.uri(file.path) for file in manifest.files_of(name)]
        place.publish(name, tables[name], stage.key, digest, files, manifest.rows(name))

    _side_by_side(publish, tables)  # each is seconds of waiting for a load job


def _note(stage: StageLike, manifest: Manifest) -> None:
    """Note on the manifest that the stage is done, for processes that only look at notes."""
    note = stage.note(manifest)
    if stage.follows():
        rows = {name: manifest.rows(name) for name in stage.published()}
        note |= {"published": session.current().warehouse.uri, "rows": json.dumps(rows, sort_keys=True)}
    session.current().storage.note(stage.datasets()[0].manifest_path, note)


def _derive(stage: StageLike, manifest: Manifest) -> None:
    """Make the further datasets of the same attempt visible."""
    for dataset in stage.datasets()[1:]:
        if not derived(dataset, manifest):
            session.current().storage.replace(dataset.manifest_path, _of_dataset(manifest, dataset).to_json())


def _of_dataset(manifest: Manifest, dataset: "Dataset") -> Manifest:
    """Return the manifest of a further dataset: the same attempt, its own files."""
    return dataclasses.replace(manifest, partition=dataset.partition, files=manifest.files_in(dataset.partition))


def _side_by_side(work: Callable[[str], None], names: Iterable[str]) -> None:
    """Do some work for each name, all at once; raise what the first that failed raised, when all have ended.

    A process that is stopped meanwhile waits for none, because the threads are daemons; a pool's would keep the
    process.
    """

    def do(name: str, future: "Future[None]") -> None:
        try:
            work(name)
            future.set_result(None)
        except BaseException as error:
            future.set_exception(error)

    futures: list[Future[None]] = []
    for name in names:
        futures.append(Future())
        threading.Thread(target=do, args=(name, futures[-1]), daemon=True).start()
    wait(futures)
    for future in futures:
        future.result()


def _summary(manifest: Manifest, tells: Sequence[str], seconds: float) -> str:
    if manifest.value:
        return f"→ {values.shown(manifest.value)}, {seconds:.1f} s"
    counters: Mapping[str, int] = manifest.counters
    parts = [f"{counters[key]:,} {key.replace('_', ' ')}" for key in tells if key in counters]
    rejected = sum(count for key, count in counters.items() if key.startswith("rejected"))
    parts += [f"{rejected:,} rejected"] if rejected else []
    rows = sum(file.rows for file in manifest.files)
    parts = parts or [
        f"{rows:,} rows" if rows else f"{len(manifest.files)} files" if manifest.files else "nothing to read"
    ]
    return f"{', '.join(parts)}, {seconds:.1f} s"


class Look:
    """One look at the manifests of what some stages read: each is read and parsed once, however many read it."""

    def __init__(self, stages: Sequence[StageLike]) -> None:
        paths: dict[str, None] = {}
        self._wanted: dict[str, Sequence[Dataset] | MillraceError] = {}
        for stage in stages:
            try:
                datasets = [task.datasets()[0] for task in stage.required()]
            except MillraceError as error:  # requires() may ask a server
                self._wanted[stage.task_id] = error
                continue
            self._wanted[stage.task_id] = datasets
            paths |= dict.fromkeys(dataset.manifest_path for dataset in datasets)
        self._found = dict(zip(paths, read_all(session.current().storage, list(paths)), strict=True)) if paths else {}
        self._parsed: dict[str, tuple[Manifest, str] | None] = {}

    def of(self, stage: StageLike) -> Inputs:
        """Return what a stage reads. Raises ManifestError if something is gone, and what its requires() raised."""
        wanted = self._wanted[stage.task_id]
        if isinstance(wanted, MillraceError):
            raise wanted
        inputs = []
        for dataset in wanted:
            path = dataset.manifest_path
            if path not in self._parsed:
                self._parsed[path] = dataset.parsed(self._found[path])
            if (manifest := self._parsed[path]) is None:
                raise ManifestError(f"{stage} needs {dataset.partition}, which has no manifest; run it again")
            inputs.append((dataset, manifest))
        return inputs

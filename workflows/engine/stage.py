"""Stage: a luigi Task whose result is one partition, made visible by one conditional write.

    complete()  the partition's manifest is there, made with this run's settings, and its further datasets follow it
    run()       1 claim the task in the ledger (a living run is waited for, a dead one is taken over)
                2 enter an attempt, clear what dead ones left
                3 execute() writes files into the attempt's folders
                4 check() what came out
                5 write the manifest, if none is there: from here on the stage is done
                6 publish: further datasets of the same attempt, then the ledger

Every step may be the last thing that a process ever does; the next run continues from there.
"""

import dataclasses
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import luigi
from luigi.task import flatten

from pipelines.errors import ConflictError, ManifestError, MillraceError, SettingsDifferError
from workflows.engine import clients
from workflows.engine.datasets import Dataset
from workflows.engine.ledger import Claim, Entry, Ledger, now
from workflows.engine.manifests import FileEntry, InputEntry, Manifest
from workflows.engine.settings import Settings, origin
from workflows.engine.version import code_version

log = logging.getLogger("millrace")


@dataclass(frozen=True)
class Outcome:
    """What an execution wrote (paths relative to the storage) and counted, and how."""

    files: Sequence[FileEntry]
    counters: Mapping[str, int]
    schemas: Mapping[str, Mapping[str, str]]
    pipeline: str = ""
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    runner: str = "in process"
    job_id: str | None = None


class Stage(luigi.Task):
    """Base of all tasks: say requires(), which datasets it writes, and execute()."""

    #: The datasets whose partition of the task's date it writes; the first one's manifest decides.
    writes: ClassVar[Sequence[str]]
    #: The luigi.cfg section of this workflow, and which of its keys decide what this stage's result is.
    section: ClassVar[type[Settings]]
    settings: ClassVar[Sequence[str]] = ()
    #: Beam jobs outlive a worker's patience for in-process work; luigi must not give up on its own.
    worker_timeout = None

    def output(self) -> Any:
        """The partitions of the task's date."""
        return [Dataset(name, getattr(self, "date", None)) for name in self.writes]

    def execute(self, attempt: Entry) -> Outcome:
        """Makes the files. Raises a MillraceError for what a person should mend."""
        raise NotImplementedError(f"{type(self).__name__}.execute")

    def check(self, manifest: Manifest) -> None:
        """Raises a MillraceError if what came out must not be published."""

    def identity(self) -> dict[str, str]:
        """What the result depends on: settings and parameters, less the date, which is in the partition's name."""
        section = self.section()
        mine = {f"{self.section.__name__}.{key}": getattr(section, key) for key in self.settings}
        own = {name: value for name, value in self.parameters().items() if name != "date"}
        return {key: _as_text(value) for key, value in {**mine, **own}.items()}

    def parameters(self) -> dict[str, Any]:
        """The parameters that tell this task from others of its kind."""
        return {n: getattr(self, n) for n, p in self.get_params() if p.significant}  # type: ignore[no-untyped-call]

    def required(self) -> "list[Stage]":
        """What requires() says, as a list."""
        return list(flatten(self.requires()))  # type: ignore[no-untyped-call]

    def datasets(self) -> list[Dataset]:
        """The outputs; the first one's manifest decides."""
        return list(flatten(self.output()))

    def manifest(self) -> Manifest | None:
        """The manifest of the finished stage, whatever settings it was made with."""
        found = self.datasets()[0].read()
        return found[0] if found else None

    def finished(self) -> Manifest:
        """The manifest of a stage that this one builds on. Raises ManifestError if it has gone."""
        manifest = self.manifest()
        if manifest is None:
            raise ManifestError(f"{self.datasets()[0].partition} has no manifest any more; run again")
        return manifest

    def complete(self) -> bool:
        """Whether the partition is there and made with this run's settings. Raises SettingsDifferError."""
        manifest = self.manifest()
        if manifest is None:
            return False
        self._same_settings(manifest)
        return self._published(manifest)

    def run(self) -> None:
        """Does what is left to do; a second run at the same time, or after a crash, gives the same result."""
        # By partition, not by luigi's task id: tasks that differ in a parameter may write the same one.
        job = f"{self.task_family}_{self.datasets()[0].partition.replace('/', '.')}"
        with Ledger(clients.storage()).claim(job) as claim:
            manifest = self.manifest()
            if manifest is None:
                manifest = self._attempt(claim)
            self._same_settings(manifest)
            self._publish(manifest)
            claim.close()

    def on_failure(self, exception: BaseException) -> Any:
        """What luigi tells people: the sentence of an error that is meant for them."""
        if isinstance(exception, MillraceError):
            return str(exception)
        return super().on_failure(exception)  # type: ignore[no-untyped-call]

    def __str__(self) -> str:
        """Task and parameters as people say them."""
        return " ".join([self.task_family, *map(str, self.parameters().values())])

    # --- the protocol's steps

    def _attempt(self, claim: Claim) -> Manifest:
        self._clear()
        entry = claim.begin(self._job_name())
        started = time.monotonic()
        try:
            outcome = self.execute(entry)
            _check_files(outcome.files)
            manifest = self._manifest_of(entry, outcome)
            try:
                self.check(manifest)
            except MillraceError:
                self._publish(manifest)  # what explains the failure can be read; the stage itself stays incomplete
                raise
        except Exception as error:
            claim.close(error=str(error) or type(error).__name__)
            raise
        try:
            clients.storage().create(self.datasets()[0].manifest_path, manifest.to_json())
        except ConflictError:
            there = self.manifest()
            if there is None:
                raise
            return there
        log.info("%-34s %s", self, _summary(manifest, time.monotonic() - started))
        return manifest

    def _clear(self) -> None:
        """Nothing of dead attempts stays; manifests of further datasets go before their files."""
        storage = clients.storage()
        for dataset in self.datasets():
            storage.delete(dataset.manifest_path)
            storage.delete(dataset.partition)

    def _manifest_of(self, entry: Entry, outcome: Outcome) -> Manifest:
        return Manifest(
            partition=self.datasets()[0].partition,
            attempt=entry.attempt,
            files=outcome.files,
            schemas=outcome.schemas,
            inputs=[InputEntry(dataset.partition, digest) for dataset, (_, digest) in self.inputs()],
            pipeline=outcome.pipeline,
            code_version=code_version(),
            settings=self.identity(),
            options=outcome.options,
            runner=outcome.runner,
            job_id=outcome.job_id,
            started=entry.started,
            ended=now(),
            counters=outcome.counters,
        )

    def inputs(self) -> list[tuple[Dataset, tuple[Manifest, str]]]:
        """The partitions that it reads, each with its manifest and digest. Raises ManifestError if one is gone."""
        found = []
        for task in self.required():
            dataset = task.datasets()[0]
            manifest = dataset.read()
            if manifest is None:
                raise ManifestError(f"{self} needs {dataset.partition}, which has no manifest; run it again")
            found.append((dataset, manifest))
        return found

    def _publish(self, manifest: Manifest) -> None:
        for dataset in self.datasets()[1:]:
            storage = clients.storage()
            if not self._follows(dataset, manifest):
                storage.replace(dataset.manifest_path, _of_dataset(manifest, dataset).to_json())

    def _published(self, manifest: Manifest) -> bool:
        return all(self._follows(dataset, manifest) for dataset in self.datasets()[1:])

    @staticmethod
    def _follows(dataset: Dataset, manifest: Manifest) -> bool:
        found = dataset.read()
        return found is not None and found[0].attempt == manifest.attempt

    def _same_settings(self, manifest: Manifest) -> None:
        mine = self.identity()
        for key in sorted({*mine, *manifest.settings}):
            here, there = mine.get(key, "not set"), manifest.settings.get(key, "not set")
            if here != there:
                name, places = key.rpartition(".")[2], (type(self).__name__, self.section.__name__)
                where = next((o for place in places if (o := origin(place, name)) != "the default"), "the default")
                raise SettingsDifferError(
                    f"{clients.storage().uri(manifest.partition)} was made with {key} = {there}, "
                    f"but this run says {here} ({where}); give this run another storage (--millrace-storage FOLDER), "
                    f"or forget the old results (bin/clear {self._first_with(key).task_family}) and run again"
                )

    def _first_with(self, key: str) -> "Stage":
        """The stage farthest up whose result depends on a setting: what it made has to go, and what builds on it."""
        for task in self.required():
            if key in task.identity():
                return task._first_with(key)
        return self

    def _job_name(self) -> str:
        words = ["millrace", self.task_family, *re.findall(r"\d{4}-\d\d-\d\d", str(self))[:1], self.task_id[-8:]]
        return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower())[:63].strip("-")


def _check_files(files: Sequence[FileEntry]) -> None:
    """Raises ManifestError for a file that is not there as it was written."""
    storage = clients.storage()
    for file in files:
        if (size := storage.size(file.path)) != file.bytes:
            there = "is not there" if size is None else f"has {size:,} bytes"
            raise ManifestError(f"{storage.uri(file.path)} {there}, but {file.bytes:,} were written; run it again")


def _of_dataset(manifest: Manifest, dataset: Dataset) -> Manifest:
    """The manifest of a further dataset: the same attempt, its own files."""
    own = [file for file in manifest.files if file.path.startswith(f"{dataset.partition}/")]
    return dataclasses.replace(manifest, partition=dataset.partition, files=own)


def _as_text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _summary(manifest: Manifest, seconds: float) -> str:
    counters = manifest.counters
    parts = [f"{counters[key]:,} {key.replace('_', ' ')}" for key in ("read", "kept", "posts") if key in counters]
    rejected = sum(count for key, count in counters.items() if key.startswith("rejected"))
    parts += [f"{rejected:,} rejected"] if rejected else []
    rows = sum(file.rows for file in manifest.files)
    parts = parts or [
        f"{rows:,} rows" if rows else f"{len(manifest.files)} files" if manifest.files else "nothing to read"
    ]
    return f"{', '.join(parts)}, {seconds:.1f} s"

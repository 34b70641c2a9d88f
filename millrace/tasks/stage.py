"""Stage: a luigi Task whose result is one partition, made visible by one conditional write.

    complete()  the partition's manifest is there, made with this run's settings, and all that follows from it is too;
                or else it is asked what would stop a run (preflight.py)
    run()       1 claim the task in the ledger (a living run is waited for, a dead one is taken over)
                2 enter an attempt, clear what dead ones left; or go on with an attempt whose job lives on
                3 execute() writes files into the attempt's folders
                4 check() what came out
                5 write the manifest, if none is there: from here on the stage is done
                6 publish: further datasets of the same attempt, tables in the warehouse, then the ledger

Every step may be the last thing that a process ever does; the next run continues from there.
"""

import dataclasses
import datetime
import functools
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import luigi
from luigi.task import flatten

from millrace.common.tables import Table
from millrace.core import code, damage, keys, manifests, resources, warehouse
from millrace.core.keys import Key
from millrace.core.ledger import Claim, Entry, Ledger, now
from millrace.core.manifests import FileEntry, InputEntry, Manifest
from millrace.core.stopping import Stopped
from millrace.core.storage import read_all
from millrace.core.version import code_version
from millrace.errors import AccessError, ConflictError, ManifestError, MillraceError, SettingError, TransientError
from millrace.tasks import completeness, identity, preflight, session, staleness
from millrace.tasks.datasets import Dataset
from millrace.tasks.settings import KeyParameter, Settings

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("millrace")


@dataclass(frozen=True)
class Outcome:
    """What an execution wrote (paths relative to the storage) and counted, and how.

    code: what made it, where that is not the code of the stage itself, as code.py says it.
    """

    files: Sequence[FileEntry]
    counters: Mapping[str, int]
    schemas: Mapping[str, Mapping[str, str]]
    pipeline: str = ""
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    runner: str = "in process"
    job_id: str | None = None
    usage: Mapping[str, float] = dataclasses.field(default_factory=dict)
    code: str = ""


class Stage(luigi.Task):
    """Base of all tasks: say requires(), which datasets it writes, and execute()."""

    #: The datasets whose partition of the task's key it writes; the first one's manifest decides.
    writes: ClassVar[Sequence[str]]
    #: The tables of the warehouse that it publishes, each from the dataset of the same name; their partitions are days.
    tables: ClassVar[Mapping[str, Table]] = {}
    #: The luigi.cfg section of this workflow, and which of its keys this stage itself goes by; its inputs say theirs.
    section: ClassVar[type[Settings]] = Settings
    settings: ClassVar[Sequence[str]] = ()
    #: The module, or whole package, whose code makes the result; the task's own module unless given.
    made_by: ClassVar[str] = ""
    #: What is said of that code instead of a digest of it, so that only another text means other results.
    version: Any = ""
    #: Whether several days may be done in one batch: a stage that has no pipeline would gain nothing.
    batchable: ClassVar[bool] = False
    _inputs: list[tuple[Dataset, tuple[Manifest, str]]] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if writes := cls.__dict__.get("writes"):
            completeness.folders.add(writes[0])
        completeness.tables.update(cls.tables)

    @classmethod
    @functools.cache
    def get_params(cls) -> Any:
        """As luigi's, which looks through the class for each task that is made."""
        return super().get_params()  # type: ignore[no-untyped-call]

    @classmethod
    @functools.cache
    def batched(cls) -> list[str]:
        """Return the parameters that the tasks of a batch may differ in."""
        return [name for name, parameter in cls.get_params() if getattr(parameter, "batched", False)]

    @classmethod
    def batch_param_names(cls) -> list[str]:
        """Return none, because luigi's own worker would make one task of several days; workers.py does not."""
        return []

    def shares_workers(self) -> bool:
        """Return whether the task keeps one of luigi's workers busy, so that a batch must not leave the others idle."""
        return True

    @property
    def key(self) -> Key:
        """Which partition of its datasets the task makes: by its parameters Day, Hour and Days, all there is without.

        A stage with another way to tell its partitions apart says so here.
        """
        found = keys.of(getattr(self, "date", None))  # a date may be one of luigi's own parameters
        for name, parameter in self.key_parameters():
            found = parameter.narrowed(found, getattr(self, name))
        return found

    @classmethod
    @functools.cache
    def key_parameters(cls) -> list[tuple[str, KeyParameter]]:
        """Return the parameters, by name, that say which partition a task makes."""
        return [(name, each) for name, each in cls.get_params() if isinstance(each, KeyParameter)]

    def output(self) -> Any:
        """Return the partitions of the task's key."""
        return [Dataset(name, self.key) for name in self.writes]

    def published(self) -> dict[str, Table]:
        """Return the tables that it publishes, as they are called for its key."""
        return {self.key.named(name): table for name, table in self.tables.items()}

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> "pa.Table":
        """Run one SELECT in BigQuery's dialect, in which the stage's tables are those of its key. Raises QueryError."""
        names = {name: self.key.named(name) for name in self.tables if self.key.suffix}
        return session.current().warehouse.query(warehouse.renamed(sql, names) if names else sql, parameters)

    def execute(self, claim: Claim) -> Outcome:
        """Make the files, in folders named by claim.attempt. Raises a MillraceError for what a person should mend."""
        raise NotImplementedError(f"{type(self).__name__}.execute")

    def check(self, manifest: Manifest) -> None:
        """Raise a MillraceError if what came out must not be published."""

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that tell this task from others of its kind."""
        return {n: getattr(self, n) for n, p in self.get_params() if p.significant}

    def required(self) -> "list[Stage]":
        """Return the stages that requires() says, or a luigi.WrapperTask there: what it reads.

        For other tasks luigi waits.
        """
        found, left = [], list(flatten(self.requires()))  # type: ignore[no-untyped-call]
        for task in left:
            if isinstance(task, Stage):
                found.append(task)
            elif isinstance(task, luigi.WrapperTask):
                left += flatten(task.requires())
        return found

    def built_on(self) -> list[luigi.Task]:
        """Return the tasks whose identities are part of this one's: all that it requires.

        It is asked for complete partitions too, so that it must not ask a server, or refuse.
        """
        return list(flatten(self.requires()))  # type: ignore[no-untyped-call]

    @classmethod
    def maker(cls) -> tuple[str, bool]:
        """Return the module whose code makes the result, and whether it may be a package that counts as a whole."""
        return cls.made_by or cls.__module__, bool(cls.made_by)

    def _code(self) -> str:
        """Return the code that an attempt is made with: Millrace's version, and after a space what code.py says of
        its own.
        """
        return f"{code_version()} {code.of(self)}"

    def decided_by(self) -> Sequence[str]:
        """Return the keys of its section that its result depends on by itself."""
        return self.settings

    def datasets(self) -> list[Dataset]:
        """Return the outputs; the first one's manifest decides."""
        return list(flatten(self.output()))

    def manifest(self) -> Manifest | None:
        """Return the manifest of the finished stage, whatever settings it was made with."""
        found = self.datasets()[0].read()
        return found[0] if found else None

    def finished(self) -> Manifest:
        """Return the manifest of a stage that this one builds on. Raises ManifestError if it has gone."""
        manifest = self.manifest()
        if manifest is None:
            raise ManifestError(f"{self.datasets()[0].partition} has no manifest any more; run again")
        return manifest

    def complete(self) -> bool:
        """Return whether the partition is there, made with this run's settings, and published.

        Raises SettingsDifferError, and for what is not there what preflight() raises: then luigi starts nothing.
        """
        done = self.made()
        if not done:
            preflight.check(self)
        return done

    def made(self) -> bool:
        """As complete(), whatever can be told of a run that would make it."""
        listed = completeness.kept()
        staleness.asked(self)  # not where the storage did not answer: at the run's end it would be asked once more
        return completeness.told(self) if listed else self._complete_by_reading()

    def preflight(self) -> None:
        """Raise a MillraceError for what would stop every stage of this kind; it is asked once a process."""
        code.of(self)  # before processes are forked, so that each need not parse it by itself
        if self.tables:
            if self.key.date is None or self.key.hour is not None:
                raise SettingError(
                    f"{self.task_family}: tables have a partition a day, but its key is {self.key or 'nothing'}; give "
                    "it a Day, or take its `tables` away and query its datasets"
                )
            preflight.for_tables(self.published())

    @classmethod
    def bulk_complete(cls, parameter_tuples: Iterable[Any]) -> Iterator[Any]:
        """Return the dates whose tasks are complete: what luigi's RangeDaily asks for."""
        # RangeDaily binds the task's other parameters to the class before it calls.
        make: Callable[..., Stage] = cls
        done: Callable[[Stage], bool] = completeness.shown if completeness.kept() else Stage.made
        dates = list(parameter_tuples)
        for date in dates:
            staleness.asked(make(date=date))
        return (date for date in dates if done(make(date=date)))

    @classmethod
    def cleared(cls) -> None:
        """Mend what leads to partitions that bin/clear has deleted."""

    def follows(self) -> bool:
        """Return whether more than the manifest itself has to be made visible: further datasets, or tables."""
        return len(self.datasets()) > 1 or bool(self.tables)

    def note(self, manifest: Manifest | None = None) -> dict[str, str]:
        """Return what a storage that keeps notes tells of this stage's manifest: of settings as of this run's, a
        digest.
        """
        made = {"code": json.dumps(manifest.code, sort_keys=True)} if manifest and manifest.code else {}
        return {"settings": identity.digest(self), **made}

    def run(self) -> None:
        """Do what is left to do; a second run at the same time, or after a crash, gives the same result."""
        self._inputs = None
        # By partition, not by luigi's task id: tasks that differ in a parameter may write the same one.
        job = job_of(self.task_family, self.datasets()[0].partition)
        with resources.told(), Ledger(session.current().storage).claim(job) as claim:
            there = self.datasets()[0].read()
            if there is None:
                preflight.check(self)  # nobody may have asked: luigid gives tasks to workers that did not schedule them
            manifest, digest = there or self._attempt(claim)
            identity.check(self, manifest)
            if there:
                damage.check(session.current().storage, manifest.partition, manifest.files)
            self._publish(manifest, digest)
            # One that was there may have lost its note: it was copied, or whoever wrote it died before the last word.
            if there or self.follows():
                self._note(manifest)
            claim.close()
        completeness.changed(self)

    def on_failure(self, exception: BaseException) -> Any:
        """Return what luigi tells people: the sentence of an error that is meant for them."""
        if isinstance(exception, MillraceError | Stopped):
            return str(exception)
        return super().on_failure(exception)  # type: ignore[no-untyped-call]

    def __str__(self) -> str:
        """Task and parameters as people say them."""
        return " ".join([self.task_family, *map(str, self.parameters().values())])

    # --- the protocol's steps

    def resumes(self, claim: Claim) -> bool:
        """Return whether the attempt in the ledger, which no living process works at, is gone on with.

        Else it is dead.
        """
        return False

    def begin(self, claim: Claim) -> None:
        """Enter a new attempt."""
        claim.begin(self._job_prefix(), code=self._code())

    def _attempt(self, claim: Claim) -> tuple[Manifest, str]:
        if not (claim.entry is not None and claim.entry.state in ("running", "refused") and self.resumes(claim)):
            self.begin(claim)
        self._clear(claim.attempt)
        started = time.monotonic()
        try:
            outcome = self.execute(claim)
            self._check_files(outcome.files)
            manifest = self._manifest_of(claim.attempt, outcome)
            data = manifest.to_json()
            self._check(manifest, claim)
            if [digest for _, (_, digest) in self._read_inputs()] != [digest for _, (_, digest) in self.inputs()]:
                raise ConflictError(f"what {self} reads was made anew while it ran; run it again")
        except Exception as error:
            # Of a job that may be at work, or has done it, nothing is known that a later look might not mend.
            job = claim.attempt.job_id is not None
            later = claim.alive or (job and isinstance(error, TransientError | AccessError))
            if claim.attempt.state == "running" and not later:
                claim.close(str(error) or type(error).__name__, counts=job)
            raise
        if there := self._show(manifest, data):
            return there
        log.info("%-34s %s", self, _summary(manifest, time.monotonic() - started))
        return manifest, manifests.digest(data)

    def _check(self, manifest: Manifest, claim: Claim) -> None:
        """check(); where it refuses, what explains that can be read, and the attempt is kept, to be looked at again."""
        try:
            self.check(manifest)
        except MillraceError as error:
            self._derive(manifest)
            claim.close(str(error), "refused")
            raise

    def _show(self, manifest: Manifest, data: bytes) -> tuple[Manifest, str] | None:
        """Write the manifest; if another run's is there, that one."""
        storage, path = session.current().storage, self.datasets()[0].manifest_path
        try:
            storage.create(path, data, self.note(manifest))
        except ConflictError:
            there = self.datasets()[0].read()
            if there is None:
                raise
            try:
                self._check_files(there[0].files)
            except ManifestError:
                # Of a run that was given up for dead while it wrote this; since then its files were cleared.
                storage.delete(path)
                storage.create(path, data, self.note(manifest))
                return None
            return there
        return None

    def _clear(self, attempt: Entry) -> None:
        """Nothing of earlier attempts stays; manifests of further datasets go before their files.

        Only what is older than this attempt: a process that was given up for dead, and goes on, must not clear what
        its successor made.
        """
        storage = session.current().storage
        for dataset in self.datasets():
            older = set()
            for name in storage.names(dataset.partition):
                if not (number := re.match(r"attempt-(\d+)-", name)) or int(number[1]) < attempt.number:
                    older.add(name)
            if manifests.NAME in older and dataset is not self.datasets()[0]:
                storage.delete(dataset.manifest_path)
            for name in sorted(older - {manifests.NAME}):
                storage.delete(f"{dataset.partition}/{name}")

    def _check_files(self, files: Sequence[FileEntry]) -> None:
        """Raise ManifestError for a file that is not there as it was written."""
        storage = session.current().storage
        there = {path: size for dataset in self.datasets() for path, size in storage.sizes(dataset.partition).items()}
        for file in files:
            if (size := there.get(file.path)) != file.bytes:
                found = "is not there" if size is None else f"has {size:,} bytes"
                raise ManifestError(f"{storage.uri(file.path)} {found}, but {file.bytes:,} were written; run it again")

    def _manifest_of(self, entry: Entry, outcome: Outcome) -> Manifest:
        version, _, made = entry.code.partition(" ")  # a job may have been submitted with other code than this run's
        counts = {task.task_id for task in self.built_on()}
        read = zip(self.required(), self.inputs(), strict=True)
        built_on = [manifest for task, (_, (manifest, _)) in read if task.task_id in counts]
        return Manifest(
            partition=self.datasets()[0].partition,
            attempt=entry.attempt,
            files=[dataclasses.replace(file, table=self._named(file.table)) for file in outcome.files],
            schemas={self._named(table): columns for table, columns in outcome.schemas.items()},
            inputs=[InputEntry(dataset.partition, digest) for dataset, (_, digest) in self.inputs()],
            pipeline=outcome.pipeline,
            code_version=version,
            settings=identity.of(self),
            options=outcome.options,
            runner=outcome.runner,
            job_id=outcome.job_id,
            started=entry.started,
            ended=now(),
            counters=outcome.counters,
            usage=outcome.usage,
            code=staleness.of(self.task_family, outcome.code or made, built_on),
        )

    def inputs(self) -> list[tuple[Dataset, tuple[Manifest, str]]]:
        """Return the partitions that it reads, each with its manifest and digest, as they were when this run began.

        Raises ManifestError if one is gone.
        """
        if self._inputs is None:
            self._inputs = self._read_inputs()
        return self._inputs

    def _read_inputs(self) -> list[tuple[Dataset, tuple[Manifest, str]]]:
        datasets = [task.datasets()[0] for task in self.required()]
        read = read_all(session.current().storage, [dataset.manifest_path for dataset in datasets])
        found = []
        for dataset, one in zip(datasets, read, strict=True):
            if (manifest := dataset.parsed(one)) is None:
                raise ManifestError(f"{self} needs {dataset.partition}, which has no manifest; run it again")
            found.append((dataset, manifest))
        return found

    def _named(self, table: str) -> str:
        """Return what a table of a file is called for the task's key; what pipelines write in a dataset is its own."""
        return self.key.named(table) if table in self.writes else table

    def _publish(self, manifest: Manifest, digest: str) -> None:
        self._derive(manifest)
        place, storage, tables = session.current().warehouse, session.current().storage, self.published()

        def publish(name: str) -> None:
            files = [storage.uri(file.path) for file in manifest.files_of(name)]
            place.publish(name, tables[name], self.partition_date(), digest, files, manifest.rows(name))

        _side_by_side(publish, tables)  # each is seconds of waiting for a load job

    def _note(self, manifest: Manifest) -> None:
        """Note on the manifest that the stage is done, for those who only look at notes."""
        note = self.note(manifest)
        if self.follows():
            rows = {name: manifest.rows(name) for name in self.published()}
            note |= {"published": session.current().warehouse.uri, "rows": json.dumps(rows, sort_keys=True)}
        session.current().storage.note(self.datasets()[0].manifest_path, note)

    def _derive(self, manifest: Manifest) -> None:
        """Make the further datasets of the same attempt visible."""
        for dataset in self.datasets()[1:]:
            if not self._derived(dataset, manifest):
                session.current().storage.replace(dataset.manifest_path, _of_dataset(manifest, dataset).to_json())

    def partition_date(self) -> datetime.date:
        """Return the day of the partition; only of stages that have one."""
        date = self.key.date
        assert date is not None, f"{self} has no day"
        return date

    def _complete_by_reading(self) -> bool:
        manifest = self.manifest()
        if manifest is None:
            return False
        identity.check(self, manifest)
        return all(self._derived(dataset, manifest) for dataset in self.datasets()[1:])

    @staticmethod
    def _derived(dataset: Dataset, manifest: Manifest) -> bool:
        found = dataset.read()
        return found is not None and found[0].attempt == manifest.attempt

    def check_settings(self) -> None:
        """Raise SettingsDifferError if the partition is there and was made with other settings than this run's."""
        if manifest := self.manifest():
            identity.check(self, manifest)

    def _job_prefix(self) -> str:
        date = self.key.date
        return "-".join(["millrace", self.task_family, *([str(date)] if date else [])])


def job_of(family: str, partition: str) -> str:
    """Return what the ledger calls the work for a partition."""
    return f"{family}_{partition.replace('/', '.')}"


def _side_by_side(work: Callable[[str], None], names: Iterable[str]) -> None:
    """Do some work for each name, all at once; raises what the first that failed raised, when all have ended.

    Who is stopped meanwhile waits for none: a pool's threads would keep the process, daemons don't.
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


def _of_dataset(manifest: Manifest, dataset: Dataset) -> Manifest:
    """Return the manifest of a further dataset: the same attempt, its own files."""
    own = [file for file in manifest.files if file.path.startswith(f"{dataset.partition}/")]
    return dataclasses.replace(manifest, partition=dataset.partition, files=own)


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

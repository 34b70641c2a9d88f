"""Stage: a luigi Task whose result is one partition, made visible by one conditional write.

    complete()  the partition's manifest is there, made with this run's settings, and all that follows from it is too;
                or else it is asked what would stop a run (preflight.py)
    run()       a batch of one (batches.py)

What a stage says is here: what it reads, writes, expects and depends on. How it is run is in batches.py.
"""

import dataclasses
import datetime
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import luigi
from luigi.task import flatten

from millrace.common.tables import Table
from millrace.core import code, damage, keys, warehouse
from millrace.core.keys import Key
from millrace.core.ledger import Claim, Entry
from millrace.core.manifests import FileEntry, Manifest
from millrace.core.stopping import Stopped
from millrace.core.storage import crc32c, read_all
from millrace.core.version import code_version
from millrace.errors import ManifestError, MillraceError, SettingError
from millrace.tasks import batches, completeness, finishing, freshness, identity, preflight, session, staleness
from millrace.tasks.base import Task
from millrace.tasks.datasets import Dataset
from millrace.tasks.protocols import Inputs, LookLike
from millrace.tasks.protocols import Outcome as Outcome
from millrace.tasks.settings import Hour, Settings

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("millrace")


class Stage(Task):
    """Base of all tasks: say requires(), which datasets the task writes, and execute()."""

    #: The datasets whose partition of the task's key the task writes; the first one's manifest decides.
    writes: ClassVar[Sequence[str]]
    #: The tables of the warehouse that the task publishes, each from the dataset of the same name; what their
    #: partitions go by (`by`) is what the task's key is.
    tables: ClassVar[Mapping[str, Table]] = {}
    #: The counters that a run's line about a partition shows; rows or files where there are none of them.
    tells: ClassVar[Sequence[str]] = ("read", "kept", "posts")
    #: The luigi.cfg section of this workflow, and which of its keys this stage itself goes by; its inputs say theirs.
    section: ClassVar[type[Settings]] = Settings
    settings: ClassVar[Sequence[str]] = ()
    #: The module, or whole package, whose code makes the result; the task's own module unless given.
    made_by: ClassVar[str] = ""
    #: What is said of that code instead of a digest of it, so that only another text means other results.
    version: Any = ""
    #: Whether several days may be done in one batch; a stage without a pipeline would gain nothing.
    batchable: ClassVar[bool] = False
    #: Whether the stage asks for more while it runs than its requires() knows.
    yields: ClassVar[bool] = False
    #: Files in the partition that are no attempt's, and so are there for each.
    keeps: ClassVar[Sequence[str]] = ()
    #: What the stage has turned out to need in this run, as luigi's worker says.
    came_to_need: Sequence[luigi.Task] = ()
    _inputs: Inputs | None = None

    def shares_workers(self) -> bool:
        """Return whether the task keeps one of luigi's workers busy, so that a batch must not leave the others idle."""
        return True

    @property
    def key(self) -> Key:
        """Return which partition of its datasets the task makes: by its parameters Day, Hour and Days, all there is
        without.

        A stage with another way to tell its partitions apart says so here.
        """
        found = keys.of(getattr(self, "date", None))  # a date may be one of luigi's own parameters
        for name, parameter in self.key_parameters():
            found = parameter.narrowed(found, getattr(self, name))
        return found

    def output(self) -> Any:
        """Return the partitions of the task's key."""
        key = self.key
        return [Dataset(name, key) for name in self.writes]

    def published(self) -> dict[str, Table]:
        """Return the tables that the task publishes, as they are called for its key."""
        return {self.key.named(name): table for name, table in self.tables.items()}

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> "pa.Table":
        """Run one SELECT in BigQuery's dialect, in which the stage's tables are those of its key. Raises QueryError."""
        names = {name: self.key.named(name) for name in self.tables if self.key.suffix}
        return session.current().warehouse.query(warehouse.renamed(sql, names) if names else sql, parameters)

    def execute(self, claim: Claim) -> Outcome:
        """Make the files, in folders named by claim.attempt. Raises a MillraceError for what a person should mend."""
        raise NotImplementedError(f"{type(self).__name__}.execute")

    def empty(self, reason: str, **counters: int) -> Outcome:
        """Return what execute() returns for a partition that has nothing in it, with the reason as a counter."""
        return Outcome([], {**counters, reason: 1}, {}, self.maker()[0])

    def write(self, name: str, data: bytes) -> FileEntry:
        """Write a file into the partition, over one of the name that is there, for people to open; for execute()."""
        path = f"{self.datasets()[0].partition}/{name}"
        session.current().storage.replace(path, data)
        return FileEntry(path, self.writes[0], 0, len(data), crc32c(data))

    def adopt(self, manifest: Manifest, files: Iterable[FileEntry], attempt: Entry) -> list[FileEntry]:
        """Return files of another partition as an attempt's own: copies, or second names. Raises DamagedError for a
        file that is not there any more as it was written.
        """
        storage, taken = session.current().storage, list(files)
        damage.check(storage, manifest.partition, taken)
        found = []
        for file in taken:
            name = file.path.rpartition("/")[2]
            path = f"{self.datasets()[0].partition}/{attempt.attempt}/{name}"
            storage.copy(file.path, path)
            found.append(dataclasses.replace(file, path=path))
        return found

    def lineage(self) -> "dict[Stage, Manifest]":
        """Return the manifests of a finished stage and of all that it is built on, read all at once.

        Raises ManifestError if one has gone.
        """
        stages = [task for task in identity.chain(self) if isinstance(task, Stage)]
        datasets = [stage.datasets()[0] for stage in stages]
        read = read_all(session.current().storage, [dataset.manifest_path for dataset in datasets])
        found: dict[Stage, Manifest] = {}
        for stage, dataset, one in zip(stages, datasets, read, strict=True):
            if (there := dataset.parsed(one)) is None:
                raise ManifestError(f"{dataset.partition} has no manifest any more; run again")
            found[stage] = there[0]
        return found

    def code_of(self, manifest: Manifest) -> tuple[str, bool]:
        """Return a short name of the code that made a partition of this stage, "" where that is not known, and whether
        this run would make it by another.
        """
        made = next(iter(manifest.code.get(self.task_family, ())), "")
        return code.short(made), made != "" and not code.is_of(made, self)

    def check(self, manifest: Manifest) -> None:
        """Raise a MillraceError if what came out must not be published."""

    def versions(self) -> Mapping[str, str]:
        """Return what the result is made of that no stage makes, such as a file or a model: what it is in words → a
        digest of what it is like now, "" where it is not there.

        It is asked once a run, for a complete partition too. What has changed since the partition was made is told as
        an error; a run that refreshes makes the partition anew.
        """
        return {}

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that tell this task from others of its kind."""
        return {n: getattr(self, n) for n, p in self.get_params() if p.significant}

    def required(self) -> "list[Stage]":
        """Return the stages that requires() says, itself or by a luigi.WrapperTask: what this stage reads.

        For other tasks luigi waits.
        """
        return stages_of(flatten(self.requires()))  # type: ignore[no-untyped-call]

    def built_on(self) -> list[luigi.Task]:
        """Return the tasks whose identities are part of this one's: all that it requires.

        Complete partitions are asked too, so that this method must not ask a server, or refuse.
        """
        return list(flatten(self.requires()))  # type: ignore[no-untyped-call]

    @classmethod
    def maker(cls) -> tuple[str, bool]:
        """Return the module whose code makes the result, and whether it may be a package that counts as a whole."""
        return cls.made_by or cls.__module__, bool(cls.made_by)

    def code_now(self) -> str:
        """Return the code that an attempt is made with: Millrace's version, and after a space what code.py says of the
        code.
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
        done = self.made() and not freshness.wanted([self.datasets()[0].partition])
        if not done:
            preflight.check(type(self).__qualname__, self.preflight)
        return done

    def made(self) -> bool:
        """Return whether the stage is complete, whatever can be told of a run that would make it."""
        listed = completeness.kept()
        staleness.asked(self)  # where the storage did not answer, it would be asked again at the run's end
        return completeness.told(self) if listed else self._complete_by_reading()

    def preflight(self) -> None:
        """Raise a MillraceError for what would stop every stage of this kind; called once a process."""
        code.of(self)  # before processes are forked, so that none has to parse it by itself
        if self.tables:
            for name, table in self.tables.items():
                if table.by != self.key.by:
                    parted = f"parted by {table.by}" if table.by else "not parted"
                    raise SettingError(
                        f"{self.task_family}: table {name} is {parted}, but the stage's key is "
                        f"{str(self.key) or 'nothing'}; give the stage a Day for a Table(by='date'), the key "
                        "COLUMN=VALUE for by='COLUMN' and no key for by='', or take its `tables` away and query its "
                        "datasets"
                    )
            preflight.for_tables(self.published())

    def preload(self) -> None:
        """Import what execute() needs; called where there is time, in the process that those of tasks come from."""

    @classmethod
    def bulk_complete(cls, parameter_tuples: Iterable[Any]) -> Iterator[Any]:
        """Return the dates, or hours, whose tasks are complete: what luigi's RangeDaily and RangeHourly ask for."""
        # These bind the task's other parameters to the class before they call.
        make: Callable[..., Stage] = cls
        kind: type[Stage] = getattr(cls, "func", cls)
        name = next((name for name, each in kind.key_parameters() if isinstance(each, Hour)), "date")
        done: Callable[[Stage], bool] = completeness.shown if completeness.kept() else Stage.made
        stages = [(time, make(**{name: time})) for time in parameter_tuples]
        for _, stage in stages:
            staleness.asked(stage)
        there = [(time, stage) for time, stage in stages if done(stage)]
        stale = freshness.wanted(stage.datasets()[0].partition for _, stage in there)
        return (time for time, stage in there if stage.datasets()[0].partition not in stale)

    @classmethod
    def cleared(cls) -> None:
        """Mend what leads to partitions that bin/clear has deleted."""

    def follows(self) -> bool:
        """Return whether more than the manifest itself has to be made visible: further datasets, or tables."""
        return len(self.datasets()) > 1 or bool(self.tables)

    def note(self, manifest: Manifest | None = None) -> dict[str, str]:
        """Return what a storage that keeps notes tells of this stage's manifest; of the settings a digest, as of this
        run.
        """
        said: dict[str, Any] = {"code": manifest.code, "versions": manifest.versions} if manifest else {}
        if manifest and self.yields:
            said["yielded"] = identity.of_yielded_note(manifest)
        made = {name: json.dumps(value, sort_keys=True) for name, value in said.items() if value}
        return {"settings": identity.digest(self), **made}

    def run(self) -> None:
        """Do what is left to do; a second run at the same time, or after a crash, has the same result."""
        fates: dict[str, BaseException | None] = {}
        batches.run([self], fates)
        if error := fates.get(self.task_id):
            raise error

    def on_failure(self, exception: BaseException) -> Any:
        """Return what luigi tells people: the sentence of an error that is meant for them."""
        if isinstance(exception, MillraceError | Stopped):
            return str(exception)
        return super().on_failure(exception)  # type: ignore[no-untyped-call]

    def __str__(self) -> str:
        """Return task and parameters as people say them."""
        return " ".join([self.task_family, *map(str, self.parameters().values())])

    # --- what the protocol (batches.py) asks

    def prepare(self) -> None:
        """Do what comes before an attempt, the partition being claimed. Raises Unmet for what has to be there first."""

    def yielded(self) -> Sequence[Manifest]:
        """Return the manifests of what the stage has asked for while it ran, which its requires() could not know."""
        return ()

    def pipelined(self) -> bool:
        """Return whether a pipeline makes the partition, of one or of several; else execute() does, by itself."""
        return False

    def inputs(self) -> Inputs:
        """Return the partitions that the stage reads, each with its manifest and digest, as they were when this run
        began.

        Raises ManifestError if one is gone.
        """
        if self._inputs is None:
            self._inputs = finishing.Look([self]).of(self)
        return self._inputs

    def named(self, table: str) -> str:
        """Return what a table of a file is called for the task's key; what pipelines write in a dataset has the
        dataset's name.
        """
        return self.key.named(table) if table in self.writes else table

    def look_from(self, look: LookLike) -> None:
        """Take the inputs from one look at those of a whole batch."""
        self._inputs = look.of(self)

    def partition_date(self) -> datetime.date:
        """Return the day of the partition; only of stages that have one."""
        date = self.key.date
        assert date is not None, f"{self} has no day"
        return date

    def _complete_by_reading(self) -> bool:
        manifest = self.manifest()
        if manifest is None or not freshness.current(self, manifest):
            return False
        return all(finishing.derived(dataset, manifest) for dataset in self.datasets()[1:])

    def check_settings(self) -> None:
        """Raise SettingsDifferError if the partition is there and was made with other settings than this run's, or of
        what has changed since, unless this run refreshes.
        """
        if manifest := self.manifest():
            freshness.current(self, manifest)


def stages_of(tasks: Iterable[luigi.Task]) -> list[Stage]:
    """Return the stages among some tasks, and those that luigi.WrapperTasks among them stand for."""
    found, left = [], list(tasks)
    for task in left:
        if isinstance(task, Stage):
            found.append(task)
        elif isinstance(task, luigi.WrapperTask):
            left += flatten(task.requires())
    return found

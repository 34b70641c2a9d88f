"""BeamTask: a stage that wraps one Beam pipeline, named by its module; Beam is imported only when it really runs.

What becomes of the pipeline, which may be one for several partitions, is in jobs.py.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from queue import Queue
from typing import TYPE_CHECKING, Any, ClassVar

from millrace.common.checksums import Input
from millrace.common.partitions import Partition
from millrace.common.results import RESULT, read_result
from millrace.core import damage
from millrace.core.ledger import Claim, Entry
from millrace.core.manifests import FileEntry
from millrace.errors import (
    DamagedError,
    ManifestError,
    SettingError,
)
from millrace.runners.runner import Progress, Run
from millrace.tasks import advice, auto, preflight, sections, session, settings, telling
from millrace.tasks.stage import Outcome, Stage

if TYPE_CHECKING:
    from luigi.worker import SchedulerMessage


class BeamTask(Stage):
    """A stage that wraps a pipeline: say requires(), what it writes, and which pipeline with which options."""

    #: The module that has `build(pipeline, options)`.
    pipeline: ClassVar[str]
    #: Keys of the section that the pipeline takes as options of the same name. The result depends on them, but for
    #: those that the section says are not significant.
    passes: ClassVar[Sequence[str]] = ()
    #: Whether no pipeline runs where there is nothing to read, because there is nothing to compute.
    empty_from_empty: ClassVar[bool] = True
    #: The counter of the pipeline that ends at the rows of its inputs, if there is one.
    progress: ClassVar[str] = ""
    batchable: ClassVar[bool] = True
    #: Where luigi puts messages of luigid while the task runs.
    scheduler_messages: "Queue[SchedulerMessage] | None" = None

    def shares_workers(self) -> bool:
        """Return whether the pipeline runs on this machine, or may."""
        return self.runs_here() or self._wanted_runner() != "DataflowRunner"

    @property
    def accepts_messages(self) -> bool:
        """Whether luigid offers to send messages, because a job can be told to cancel or drain."""
        return self._wanted_runner() in ("DataflowRunner", "auto")

    def preflight(self) -> None:
        """Raise a MillraceError for what would stop every stage or job of this kind; import what forked processes can
        share.
        """
        super().preflight()
        runner = self.named_runner()
        if session.current().runner(runner).outlives and not self.runs_here():
            preflight.for_dataflow()
        for each in ("DataflowRunner", "FnApiRunner") if runner == "auto" else (runner,):
            if settings.workers() > 1:
                session.current().runner(each).preload(self.pipeline)
            session.current().runner(each).check(self.task_family)
        if runner == "auto":
            auto.share()  # before other processes take a part of what is left

    @classmethod
    def maker(cls) -> tuple[str, bool]:
        """Return the pipeline's module."""
        return cls.pipeline, True

    def decided_by(self) -> Sequence[str]:
        """Return the keys of its section that its result depends on, those that the pipeline takes included."""
        return [*self.settings, *(key for key in self.passes if getattr(self.section, key).significant)]

    def options(self) -> Mapping[str, Any]:
        """Return further options of the pipeline: name → value."""
        return {}

    @classmethod
    def memory_here(cls, largest: int, together: int) -> int:
        """Return the bytes of memory that the pipeline takes at its peak in one process, by which `runner = auto` goes.

        largest: bytes of the files that the largest partition of a batch reads. together: of those that all read. A
        runner in one process holds what it shuffles for the whole batch, so that such a stage goes by both.
        """
        return (320 << 20) + 4 * together

    def runs_here(self) -> bool:
        """Return whether the pipeline can only run in this process, because it reads what other machines can't."""
        return False

    def named_runner(self) -> str:
        """Return the runner that the settings name. Raises SettingError if there is none such."""
        named = self._wanted_runner()
        if named not in sections.RUNNERS:
            raise SettingError(
                f"[dataflow.{self.task_family}] runner = {named!r}: allowed is one of {', '.join(sections.RUNNERS)}"
            )
        return named

    def _wanted_runner(self) -> str:
        """Return what the settings say: for this task, or else for all."""
        own = sections.runner_options("DataflowRunner", self.task_family)
        return own.get("runner", sections.millrace().runner)

    def pipelined(self) -> bool:
        """Return whether the pipeline has to run, as it has not where there is nothing to read."""
        return not self.empty_from_empty or not self.required() or any(file.rows for file in self.input_files())

    def execute(self, claim: Claim) -> Outcome:
        """Return what is made without the pipeline: nothing of nothing."""
        return Outcome([], {}, {}, self.pipeline, self.pipeline_options(), "in process")

    def partition_of(self, attempt: Entry) -> Partition:
        """Return what the pipeline is to do for this partition."""
        storage = session.current().storage
        files = [Input(storage.uri(file.path), file.crc32c, file.bytes) for file in self.input_files()]
        output = storage.uri(self._folder("{dataset}", attempt))
        return Partition(str(self.datasets()[0].key) or "all", output, files, self._own_options())

    def written(self, attempt: Entry) -> bytes:
        """Return what the pipeline says that it wrote for an attempt. Raises ManifestError if it says nothing."""
        storage = session.current().storage
        written = storage.read(self.result_of(attempt))
        if written is None:
            folder = storage.uri(self.result_of(attempt)).rpartition("/")[0]
            raise ManifestError(f"{self.pipeline} ended without its result in {folder}")
        return written.data

    def outcome(self, attempt: Entry, written: bytes, run: Run, partitions: int) -> Outcome:
        """Return what came of an attempt by what the pipeline says. Raises the error that the pipeline says instead.

        partitions: how many the run was for. What it counted and used, it did for all: each has an equal share.
        """
        result, root = read_result(written), session.current().storage.uri("")
        made = [replace(file, path=file.path.removeprefix(root)) for file in result.files]
        counters = {**(run.counters if partitions == 1 else {}), **result.counters}
        usage = {name: round(value / partitions, 9) for name, value in run.usage.items()}
        options = self.pipeline_options()
        return Outcome(made, counters, result.schemas, self.pipeline, options, attempt.runner, run.job_id, usage)

    def explained(self, error: Exception) -> Exception:
        """Return an error for people: of a damaged file, with the command that makes its partition anew; any other as
        it is.
        """
        for dataset, (manifest, _) in self.inputs():
            if not isinstance(error, DamagedError):
                return error
            if any(f"{session.current().storage.uri(file.path)} " in str(error) for file in manifest.files):
                return damage.told(dataset.partition, error)
        return error

    def input_files(self) -> list[FileEntry]:
        """Return the files to read: those of the inputs' own partitions, in the order of requires()."""
        return [file for dataset, (manifest, _) in self.inputs() for file in manifest.files_in(dataset.partition)]

    @property
    def forget(self) -> str:
        """Return the command that forgets this task's failures, and touches nothing that is complete."""
        given = {name: value for name, value in self.parameters().items() if name != "date"}
        day = getattr(self, "date", None)
        return advice.clear(self.task_family, day, day, **given)

    @property
    def command(self) -> str:
        """The command that runs this task again."""
        return advice.run(self.task_family, **self.parameters())

    def pipeline_options(self) -> dict[str, str]:
        """Return what the pipeline is given for this partition, the files apart."""
        return {**self.common_options(), **self._own_options()}

    def common_options(self) -> dict[str, str]:
        """Return the options that are the same for all partitions of a batch."""
        section = self.section()
        return {key: str(getattr(section, key)) for key in self.passes}

    def _own_options(self) -> dict[str, str]:
        date = getattr(self, "date", None)
        return {key: str(value) for key, value in {**({"date": date} if date else {}), **self.options()}.items()}

    def work(self) -> str:
        """Return a digest of what the pipeline is to do: what it reads, and with which options."""
        work = [[file.path for file in self.input_files()], self.pipeline_options()]
        return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:32]

    def result_of(self, attempt: Entry) -> str:
        """Return where the pipeline says what it wrote."""
        return f"{self.datasets()[0].partition}/{attempt.attempt}/{RESULT}"

    def _folder(self, dataset: str, attempt: Entry) -> str:
        return f"{self.datasets()[0].key.partition(dataset)}/{attempt.attempt}"

    def say(self, message: str) -> None:
        """Show luigid a message."""
        telling.show(self.set_status_message, message)

    def link(self, url: str) -> None:
        """Show luigid where the job's page is."""
        telling.link(self, url)

    def tell(self, progress: Progress, rows: int) -> None:
        """Show luigid how the job stands; rows: those of all its input."""
        self.say(progress.message)
        if self.progress and rows:
            telling.show(self.set_progress_percentage, min(100, 100 * progress.counters.get(self.progress, 0) // rows))

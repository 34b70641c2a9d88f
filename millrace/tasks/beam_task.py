"""BeamTask: a stage that wraps one Beam pipeline, named by its module; Beam is imported only when it really runs.

In process the pipeline ends with the process. On Dataflow it is a job that outlives it:

    begin    the ledger's entry says which job it will be (name and request id), before it is submitted
    resumes  a run that finds such an entry looks for the job: running or done, it is this attempt's; not there, it is
             submitted as the same job; failed or cancelled, or asked to do other work than this run would, it is over
    execute  submit, note the job's id, wait; whoever stops this process cancels the job, unless [run] detach

The entry says that an attempt is over only when its job is known to be, or never was. What else goes wrong, such as a
service that does not answer, leaves it at "running", for the next run to look for the job.
"""

import functools
import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from queue import Queue
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from luigi.rpc import RPCError

from millrace import runners
from millrace.common.results import RESULT, read_result
from millrace.core import damage
from millrace.core.ledger import Claim, Entry, failures
from millrace.core.manifests import FileEntry
from millrace.core.stopping import Stopped
from millrace.errors import (
    DamagedError,
    JobCancelledError,
    JobFailedError,
    ManifestError,
    MillraceError,
    SettingError,
    TerminalError,
)
from millrace.runners.runner import Job, Progress, Run, Runner, Ticket
from millrace.tasks import advice, preflight, sections, session, settings
from millrace.tasks.stage import Outcome, Stage

if TYPE_CHECKING:
    from luigi.worker import SchedulerMessage

log = logging.getLogger("millrace")
T = TypeVar("T")

#: An option longer than this many characters goes through a file: a job takes 10 MB of options, a process less.
_LONGEST_OPTION = 50_000


class BeamTask(Stage):
    """Say requires(), output(), and which pipeline with which options."""

    #: The module that has `build(pipeline, options)`.
    pipeline: ClassVar[str]
    #: Keys of the section that the pipeline takes as options of the same name. The result depends on them, but for
    #: those that the section says are not significant.
    passes: ClassVar[Sequence[str]] = ()
    #: Whether there is nothing to compute where there is nothing to read: then no pipeline runs.
    empty_from_empty: ClassVar[bool] = True
    #: The counter of the pipeline that ends at the rows of its inputs, if there is one.
    progress: ClassVar[str] = ""
    batchable: ClassVar[bool] = True
    #: Where luigi puts messages of luigid while the task runs.
    scheduler_messages: "Queue[SchedulerMessage] | None" = None
    #: The attempt's job as it was found when this run began; None for one that is to be submitted.
    _job: Job | None = None

    def shares_workers(self) -> bool:
        """Return whether the pipeline runs on this machine, or may."""
        return self.runs_here() or self._wanted_runner() != "DataflowRunner"

    @property
    def accepts_messages(self) -> bool:
        """Whether luigid offers to send messages: a job can be told to cancel or drain."""
        return self._wanted_runner() in ("DataflowRunner", "auto")

    def preflight(self) -> None:
        """As Stage.preflight, and what its jobs need. What runs in processes of its own can share what is imported."""
        super().preflight()
        runner = self._named_runner()
        if runners.of(runner).outlives and not self.runs_here():
            preflight.for_dataflow()
        for each in ("DataflowRunner", "FnApiRunner") if runner == "auto" else (runner,):
            if settings.workers() > 1:
                runners.of(each).preload(self.pipeline)
            runners.of(each).check(self.task_family)

    @classmethod
    def maker(cls) -> tuple[str, bool]:
        """Return the pipeline's module."""
        return cls.pipeline, True

    def decided_by(self) -> Sequence[str]:
        """As Stage's, and what the pipeline takes."""
        return [*self.settings, *(key for key in self.passes if getattr(self.section, key).significant)]

    def options(self) -> Mapping[str, Any]:
        """Return further options of the pipeline: name → value."""
        return {}

    def runs_here(self) -> bool:
        """Return whether the pipeline can only run in this process, since it reads what other machines can't."""
        return False

    def runner(self) -> str:
        """Return the runner for this partition: what the settings say, and for auto by the bytes of the inputs."""
        named = self._named_runner()
        if named == "auto":
            large = sum(file.bytes for file in self.input_files()) > sections.millrace().auto_dataflow_above
            named = "DataflowRunner" if large else "FnApiRunner"
        return "FnApiRunner" if self.runs_here() else named

    def _named_runner(self) -> str:
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

    def begin(self, claim: Claim) -> None:
        """Enter a new attempt. Raises JobFailedError where the same job has failed too often."""
        runner, work, code = self.runner(), self._work(), self._code()
        failed, limit = failures(claim.entry, work, code), sections.dataflow().attempts
        if runners.of(runner).outlives and failed >= limit:
            assert claim.entry is not None
            raise JobFailedError(
                f"{self} has failed {failed} times with the same code and input, and dataflow.attempts = {limit} "
                f"({settings.origin('dataflow', 'attempts')}), so no further job was submitted; the last one: "
                f"{claim.entry.error}; mend it, forget the failures ({self._forget}), and run again"
            )
        claim.begin(self._job_prefix(), runner=runner, where=runners.of(runner).place(), work=work, code=code)
        self._job = None  # nobody has known its name and request id until now

    def resumes(self, claim: Claim) -> bool:
        """Return whether the ledger's attempt is a Dataflow job that lives on, is done, or was about to be
        submitted.
        """
        entry = claim.attempt
        runner = runners.of(entry.runner)
        if not runner.outlives:
            return False
        job, same, again = runner.find(_ticket(entry)), entry.work == self._work(), entry.code == self._code()
        self._job = job
        if job is None:
            return entry.state == "running" and same and again
        stopping = job.state == "CANCELLING"
        if not job.finished and (stopping or not same):
            job = runner.stop(job)
        became = f"job {job.id} is {job.state.lower()}"
        if not same:
            claim.close(f"its input or options have changed; {became}", "stopped")
        elif stopping:
            claim.close(f"stopped before; {became}", "stopped")
        elif job.finished and job.state != "DONE":
            self._over(claim, runner, job)
        elif entry.state == "refused" and not again:
            claim.close(f"{entry.error}; other code may do better", "stopped")
        elif job.finished and session.current().storage.read(self._result(entry)) is None:
            claim.close(f"what it made is gone; {became}", "stopped")
        else:
            return True
        return False

    def execute(self, claim: Claim) -> Outcome:
        """Run the pipeline over the files of the inputs' partitions; its result file says what it wrote."""
        files = self.input_files()
        options, runner = self._options(), claim.attempt.runner
        if self.empty_from_empty and sum(file.rows for file in files) == 0 and self.required():
            return Outcome([], {}, {}, self.pipeline, options, "in process")
        storage = session.current().storage
        folder = self._folder(self.datasets()[0].name, claim.attempt)
        given = json.dumps([(storage.uri(file.path), file.crc32c, file.bytes) for file in files])
        if len(given) > _LONGEST_OPTION:
            storage.replace(f"{folder}/_input.json", given.encode())
            given = f"@{storage.uri(folder)}/_input.json"
        output = storage.uri(self._folder("{dataset}", claim.attempt))
        arguments = {"input": given, "output": output, **session.current().google.access.options(), **options}
        try:
            run = self._run(claim, arguments, sum(file.rows for file in files))
        except DamagedError as error:
            raise self._of_input(error) from None
        written = storage.read(self._result(claim.attempt))
        if written is None:
            raise ManifestError(f"{self.pipeline} ended without its result in {storage.uri(folder)}")
        result, root = read_result(written.data), storage.uri("")
        made = [replace(file, path=file.path.removeprefix(root)) for file in result.files]
        counters = {**run.counters, **result.counters}
        return Outcome(made, counters, result.schemas, self.pipeline, options, runner, run.job_id, run.usage)

    def _of_input(self, error: DamagedError) -> DamagedError:
        """Return what a pipeline says of a damaged file, with the command that makes the file's partition anew."""
        for dataset, (manifest, _) in self.inputs():
            if any(f"{session.current().storage.uri(file.path)} " in str(error) for file in manifest.files):
                return damage.told(dataset.partition, error)
        return error

    def input_files(self) -> list[FileEntry]:
        """Return the files to read: those of the inputs' own partitions, in the order of requires()."""
        return [
            file
            for dataset, (manifest, _) in self.inputs()
            for file in manifest.files
            if file.path.startswith(f"{dataset.partition}/")
        ]

    @property
    def _forget(self) -> str:
        """The command that forgets this task's failures, and touches nothing that is complete."""
        given = {name: value for name, value in self.parameters().items() if name != "date"}
        day = getattr(self, "date", None)
        return advice.clear(self.task_family, day, day, **given)

    @property
    def command(self) -> str:
        """The command that runs this task again."""
        return advice.run(self.task_family, **self.parameters())

    def _options(self) -> dict[str, str]:
        section, date = self.section(), getattr(self, "date", None)
        passed = {key: getattr(section, key) for key in self.passes}
        return {k: str(v) for k, v in {**({"date": date} if date else {}), **passed, **self.options()}.items()}

    def _work(self) -> str:
        """Return a digest of what the pipeline is to do: what it reads, and with which options."""
        work = [[file.path for file in self.input_files()], self._options()]
        return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:32]

    def _result(self, attempt: Entry) -> str:
        """Return where the pipeline says what it wrote."""
        return f"{self.datasets()[0].partition}/{attempt.attempt}/{RESULT}"

    def _folder(self, dataset: str, attempt: Entry) -> str:
        return f"{self.datasets()[0].key.partition(dataset)}/{attempt.attempt}"

    # --- the pipeline's run

    def _run(self, claim: Claim, arguments: Mapping[str, str], rows: int) -> Run:
        """Run the pipeline, or wait for the run that was found; rows: those of its input."""
        entry, job = claim.attempt, self._job
        runner = runners.of(entry.runner)
        claim.alive = runner.outlives
        try:
            if job is None:
                waits = functools.partial(_show, self.set_status_message)
                job = runner.start(self.pipeline, arguments, self.task_family, _ticket(entry), waits)
            if job.id:
                claim.submitted(job.id)
                _show(self._link, job.url)
            job = runner.watch(job, lambda progress: self._tell(progress, rows), self.scheduler_messages)
        except (KeyboardInterrupt, Stopped) as stop:
            self._stop(claim, runner, job, stop)
            raise
        except JobCancelledError as error:  # it is taking too long
            claim.close(str(error), counts=True)
            raise
        claim.alive = False
        if job.state != "DONE" and runner.outlives:
            raise self._over(claim, runner, job)
        return runner.result(job, self.command)

    def _over(self, claim: Claim, runner: Runner, job: Job) -> MillraceError:
        """Close the attempt of a job that has come to a bad end; the error that says which."""
        try:
            runner.result(job, self.command)
        except MillraceError as error:
            # A source that was busy, say, is no reason to submit no more.
            claim.close(str(error), counts=isinstance(error, TerminalError | JobCancelledError))
            return error
        raise AssertionError(f"{job.name} is {job.state} and has a result")

    def _stop(self, claim: Claim, runner: Runner, job: Job | None, stop: BaseException) -> None:
        if not runner.outlives:  # it ends with this process
            return
        if sections.run().detach:
            log.warning("%s: left running as job %s; the next run waits for it", self, claim.attempt.job_name)
            return
        try:
            job = job or runner.find(_ticket(claim.attempt))
            if job is None:  # the entry stays as it is
                log.warning("%s: job %s may be on its way; the next run finds it", self, claim.attempt.job_name)
                return
            job = runner.stop(job)
            log.warning("%s: job %s is %s", self, job.id, job.state.lower())
            if job.finished and job.state != "DONE":
                claim.close(f"{stop}; job {job.id} is {job.state.lower()}", "stopped")
        except MillraceError as error:
            log.warning("%s: job %s may still run; the next run finds it: %s", self, claim.attempt.job_name, error)

    def _link(self, url: str) -> None:
        """Show luigid where the job's page is."""
        if self.set_tracking_url is None:  # nobody runs it through luigi
            return
        try:
            # luigi's own call leaves out that the task accepts messages, which luigid takes for a no.
            reporter = self.set_tracking_url.__self__
            worker = {"worker": reporter._worker_id, "status": "RUNNING", "accepts_messages": self.accepts_messages}
            reporter._scheduler.add_task(task_id=self.task_id, tracking_url=url, **worker)
        except (AttributeError, TypeError) as error:  # another luigi may do it otherwise
            log.warning("%s: luigid can't be shown the job's page %s with this version of luigi: %s", self, url, error)

    def _tell(self, progress: Progress, rows: int) -> None:
        """Show luigid how the job stands; rows: those of its input."""
        _show(self.set_status_message, progress.message)
        if self.progress and rows:
            _show(self.set_progress_percentage, min(100, 100 * progress.counters.get(self.progress, 0) // rows))


def _show(show: Callable[[T], None] | None, value: T) -> None:
    """Show luigid something; one that is gone is no reason to stop waiting for a job."""
    try:
        if show:
            show(value)
    except RPCError as error:
        log.info("luigid does not answer: %s", error)


def _ticket(entry: Entry) -> Ticket:
    """Return what a runner finds an attempt's run by."""
    return Ticket(entry.job_name, entry.request_id, entry.where, entry.job_id or "")

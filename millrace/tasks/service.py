"""Service: a task whose streaming job should be there. It is not complete, but *there*: its target exists while the job
is RUNNING with this code and these options.

run() brings that about, from whatever an earlier run has left, under the claim of the service's name:

    no job                      start it
    it runs as it should        nothing
    other code or options       update it in place; where Dataflow refuses that, drain it, then start it
    it drains, or is cancelled  wait for its end, then start it

All its jobs have one name, of which Dataflow has one active job at most, and the ledger's entry, written before a job
is created, has the request id that makes a repeated creation the same job. So a process may die at any step, and two
hosts may begin at once: there is one job.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import luigi

from millrace.core import code
from millrace.core.ledger import Claim, Entry, Ledger, failures
from millrace.errors import JobFailedError, SettingError
from millrace.runners.runner import Ticket
from millrace.tasks import preflight, sections, session, settings
from millrace.tasks.base import Task
from millrace.tasks.settings import Flag, Settings

if TYPE_CHECKING:
    from millrace.runners.dataflow.jobs import Job, Where

log = logging.getLogger("millrace")

_RUNNER = "DataflowRunner"
_ENDING = ("DRAINING", "CANCELLING")


class Service(Task):
    """Base of services: say which pipeline, with which options."""

    #: The module that has `build(pipeline, options)`.
    pipeline: ClassVar[str]
    #: The luigi.cfg section of this workflow, and which of its keys the pipeline takes as options of the same name.
    section: ClassVar[type[Settings]] = Settings
    passes: ClassVar[Sequence[str]] = ()
    #: What is said of the pipeline's code instead of a digest of it.
    version: Any = ""

    @classmethod
    def maker(cls) -> tuple[str, bool]:
        """Return the module whose code the job runs."""
        return cls.pipeline, True

    def options(self) -> Mapping[str, Any]:
        """Return further options of the pipeline: name → value. None of them tells the service from another."""
        return {}

    @property
    def service(self) -> str:
        """What tells the service from others: the task's name, unless a task says more."""
        return str(self.task_family)

    def output(self) -> "ServiceTarget":
        """Return the job that should be there."""
        return ServiceTarget(self)

    def complete(self) -> bool:
        """Return whether the job runs as it should. Raises a MillraceError for what would keep a run from that."""
        self.preflight()
        return self.output().exists()

    def preflight(self) -> None:
        """Raise a MillraceError for settings with which no job can be submitted."""
        own = sections.runner_options(_RUNNER, self.task_family)
        named = own.get("runner", sections.millrace().runner)
        if named not in (_RUNNER, "auto"):
            raise SettingError(
                f"{self.task_family} is a streaming job of Dataflow, and runner = {named!r}, "
                f"{settings.origin('millrace', 'runner')}; set runner to {_RUNNER}, or run the pipeline here: "
                f"python -m {self.pipeline} --runner=BundleBasedDirectRunner --streaming"
            )
        preflight.check(self.task_family, preflight.for_dataflow)
        session.current().runner(_RUNNER).check(self.task_family)

    def run(self) -> None:
        """Have the job run as it should."""
        with Ledger(session.current().storage).claim(self.service) as claim:
            _Keeper(self, claim).keep()

    def pipeline_options(self) -> dict[str, str]:
        """Return what the pipeline is given."""
        section = self.section() if self.passes else None
        passed = {key: str(getattr(section, key)) for key in self.passes}
        own = {key: str(value) for key, value in self.options().items()}
        return {**passed, **own}

    def work(self) -> str:
        """Return a digest of the options, those of [dataflow] included, because an update may be for more workers."""
        from millrace.runners import beam_options

        chosen = beam_options.arguments(session.current().config, self.task_family)
        work = [self.pipeline, self.pipeline_options(), chosen]
        return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:32]

    def say(self, message: str) -> None:
        """Show luigid, and whoever reads the run's output, a message."""
        log.info("%s: %s", self.task_family, message)
        if self.set_status_message:
            self.set_status_message(message)

    def as_wanted(self, entry: Entry | None) -> bool:
        """Return whether an attempt is at this code and these options."""
        return (
            entry is not None
            and entry.state == "running"
            and entry.work == self.work()
            and code.is_of(entry.code, self)
        )


class ServiceTarget(luigi.Target):
    """The job of a service. It exists while it is RUNNING with the service's code and options."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def exists(self) -> bool:
        """Return whether the job is there."""
        entry = Ledger(session.current().storage).entry(self._service.service)
        if entry is None or not entry.job_id or not self._service.as_wanted(entry):
            return False
        job = _job_of(entry)
        return job is not None and job.state == "RUNNING"


class StopService(Task):
    """Base of tasks that end a service: say which. Draining lets the job end what it has read."""

    force: bool = Flag(default=False, description="the job is cancelled, and what it has read but not written is lost")

    def service(self) -> Service:
        """Return the service to end."""
        raise NotImplementedError(f"{type(self).__name__}.service")

    def complete(self) -> bool:
        """Return whether no job of the service is active."""
        self.service().preflight()
        entry = Ledger(session.current().storage).entry(self.service().service)
        return entry is None or (entry.state != "running" and not _active(entry))

    def run(self) -> None:
        """End the job, and wait for that."""
        from millrace.runners.dataflow import jobs

        service = self.service()
        with Ledger(session.current().storage).claim(service.service) as claim:
            if claim.entry is None:
                return
            for job in _active(claim.entry):
                asked = jobs.cancel(job) if self.force else job if job.state in _ENDING else jobs.drain(job)
                ended = jobs.wait(asked, lambda each: None)
                log.info("%s: Dataflow job %s is %s", self.task_family, ended.id, ended.state.lower())
            claim.close(f"stopped by {self.task_family}", "stopped")


class _Keeper:
    """What one run does for a service whose claim it holds."""

    def __init__(self, task: Service, claim: Claim) -> None:
        self._task, self._claim = task, claim
        self._place = session.current().runner(_RUNNER).place()

    def keep(self) -> None:
        """Have the job run as it should, whatever an earlier run left."""
        entry = self._claim.entry
        if entry is None:
            self._start()
            return
        own, active = _job_of(entry), _active(entry)
        mine = next((job for job in active if job.request_id == entry.request_id), None)
        other = next((job for job in active if job is not mine), None)
        if mine and mine.state not in _ENDING and self._task.as_wanted(entry):
            self._wait(mine)
        elif mine:
            self._renew(mine)
        elif other and self._never_created(own) and entry.replaces == other.id:
            self._update(other, again=True)
        elif other and own and own.state == "FAILED" and entry.replaces == other.id and self._task.as_wanted(entry):
            self._drain_and_start(other, f"its update, job {own.id}, has failed")
        elif other:
            self._renew(other)
        elif self._never_created(own) and not entry.replaces:
            self._submit()
        else:
            became = f"job {own.id} is {own.state.lower()}" if own else "its job is gone"
            self._claim.close(became, counts=own is not None and own.state == "FAILED")
            self._start()

    def _never_created(self, own: "Job | None") -> bool:
        """Return whether the run that entered the attempt may have died before it created the job that is wanted."""
        return own is None and not self._claim.attempt.job_id and self._task.as_wanted(self._claim.attempt)

    def _renew(self, job: "Job") -> None:
        """Have a job replaced that is not as it should be."""
        if job.state in _ENDING:
            self._drain_and_start(job, f"it is {job.state.lower()}")
        elif "/".join(job.where) != self._place:
            self._drain_and_start(job, f"it runs in {'/'.join(job.where)}, and new jobs in {self._place}")
        else:
            self._update(job)

    def _update(self, old: "Job", *, again: bool = False) -> None:
        from millrace.runners.dataflow.submission import UpdateRefusedError

        self._task.say(f"updates job {old.id} in place")
        if not again:
            self._enter(old.id)
        try:
            self._submit()
        except UpdateRefusedError as refusal:
            self._claim.close(str(refusal))
            self._drain_and_start(old, str(refusal))

    def _drain_and_start(self, old: "Job", why: str) -> None:
        from millrace.runners.dataflow import jobs

        log.warning("%s: job %s is drained, then another is started: %s", self._task.task_family, old.id, why)
        self._task.say(f"drains job {old.id}: {why}")
        jobs.wait(old if old.state in _ENDING else jobs.drain(old), lambda job: self._task.say(job.state))
        self._start()

    def _start(self) -> None:
        limit = sections.dataflow().attempts
        failed = failures(self._claim.entry, self._task.work(), code.of(self._task))
        if failed >= limit:
            raise JobFailedError(
                f"{self._task.task_family} has failed {failed} times with the same code and options, and "
                f"dataflow.attempts = {limit} ({settings.origin('dataflow', 'attempts')}), so no further job was "
                f"submitted; the last one: {self._claim.attempt.error}; mend its code or options, and run again"
            )
        self._enter()
        self._submit()

    def _enter(self, replaces: str = "") -> None:
        prefix = f"millrace-{self._task.service}"
        wanted = {"work": self._task.work(), "code": code.of(self._task)}
        self._claim.serve(prefix, replaces, runner=_RUNNER, where=self._place, **wanted)

    def _submit(self) -> None:
        """Create the job of the attempt that is entered, or find it created, and wait until it runs."""
        from millrace.runners.dataflow import submission

        task, entry = self._task, self._claim.attempt
        ticket = Ticket(entry.job_name, entry.request_id, entry.where)
        given = {**session.current().google.access.options(), **task.pipeline_options()}
        google = session.current().google
        how: dict[str, Any] = {"streaming": True, "replaces": entry.replaces}
        self._wait(submission.submit(google, task.pipeline, given, task.task_family, ticket, task.say, **how))

    def _wait(self, job: "Job") -> None:
        from millrace.runners.dataflow import jobs, reports

        self._claim.submitted(job.id)
        if self._task.set_tracking_url:
            self._task.set_tracking_url(job.url)
        job = jobs.begun(job, self._task.say)
        if job.state == "RUNNING":
            return
        replaces = self._claim.attempt.replaces
        old = jobs.get(job.google, replaces, job.where) if replaces else None
        error = reports.failure(job)
        self._claim.close(str(error), counts=job.state == "FAILED" and old is None)
        if old and not old.finished and not old.replaced_by:
            self._drain_and_start(old, str(error))
            return
        raise error


def _where(entry: Entry) -> "Where":
    from millrace.runners.dataflow import jobs

    return jobs.where_of(Ticket(entry.job_name, entry.request_id, entry.where))


def _job_of(entry: Entry) -> "Job | None":
    """Return the job of an attempt, as far as its id was noted."""
    from millrace.runners.dataflow import jobs

    return jobs.get(session.current().google, entry.job_id, _where(entry)) if entry.job_id else None


def _active(entry: Entry) -> "list[Job]":
    """Return the active jobs of a service, given its last attempt: those listed, and the one whose id was noted."""
    from millrace.runners.dataflow import jobs

    listed = jobs.named(session.current().google, entry.job_name, _where(entry), active=True)
    own = _job_of(entry)
    found = {job.id: job for job in [*listed, *([own] if own else [])]}
    return [job for job in found.values() if not job.finished and not job.replaced_by]

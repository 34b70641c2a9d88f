"""How a template becomes one job that comes to its end, from whatever an earlier run has left.

Under the claim of the task's name:

    no attempt, or one that is over   parameters are checked, the next attempt is entered, then launched
    entered, no job of its name       launched under that name; where that launch comes too late, it is found
    its job runs, or is done          waited for
    it has failed, or was cancelled   the attempt is over, and the next one follows

The job's name is the attempt's own and in the ledger before the launch; runners/dataflow/templates.py has why that
makes one job of any number of launches. Whoever stops this process cancels the job, unless [run] detach. A run that
does not wait ([run] wait = false) leaves a job that is at work to the next run.
"""

import logging
from typing import TYPE_CHECKING, Any

from millrace.core.ledger import Claim, failures
from millrace.core.stopping import Stopped
from millrace.errors import JobCancelledError, JobFailedError, MillraceError, SettingError, TerminalError
from millrace.runners.runner import Job, Progress, Run, Ticket
from millrace.tasks import sections, session, settings, waits
from millrace.tasks.protocols import TemplateLike

if TYPE_CHECKING:
    from millrace.runners.dataflow.templates import Template

log = logging.getLogger("millrace")

RUNNER = "DataflowRunner"


def run(task: TemplateLike, claim: Claim) -> None:
    """Have the template's job come to its end, whatever an earlier run left. Raises a MillraceError."""
    if claim.entry is None or claim.entry.state != "done" or claim.entry.work != task.work():
        _Launcher(task, claim).run()


def known(task: TemplateLike) -> "Template":
    """Return what Dataflow knows of a task's template, asked for once in a run."""
    from millrace.runners.dataflow import jobs, templates

    here, uri, where = session.current(), str(task.template), jobs.where_of(Ticket("", "", task.place()))
    return here.once(("template", uri, where), lambda: templates.template(here.google, uri, where))


def problems(task: TemplateLike, known: "Template") -> list[str]:
    """Return all that is wrong with a task's parameters for its template, a phrase each, which begins with a name."""
    from millrace.runners.dataflow import templates

    return templates.problems(known, task.given())


def checked(task: TemplateLike, known: "Template") -> Any:
    """Return the environment of a task's launches. Raises SettingError for what no launch would take."""
    from millrace.runners.dataflow import environments, templates

    google, given = session.current().google, task.given()
    if known.streaming:
        raise SettingError(
            f"the template {known.uri} of {task.called} is a streaming one, whose job does not end, so that "
            "nothing could wait for it; launch it by `gcloud dataflow`, or make its pipeline a Service"
        )
    environment = environments.environment(google, task.called, task.own_environment(), flex=known.flex)
    templates.check(known, given)
    if not known.parameters and given:
        log.info("%s: the template has no metadata, so that its parameters are not checked", known.uri)
    return environment


class _Launcher:
    """What one run does for a task whose claim it holds."""

    def __init__(self, task: TemplateLike, claim: Claim) -> None:
        self._task, self._claim = task, claim
        self._runner = session.current().runner(RUNNER)
        self._job: Job | None = None
        self._ended = False

    def run(self) -> None:
        """Find the job of an earlier run or launch one, and wait for it."""
        try:
            self._job = self._found()
            if self._job is None:
                template = known(self._task)
                environment = checked(self._task, template)
                if self._claim.entry is None or self._claim.entry.state != "running":
                    self._begin()
                self._job = self._launch(template, environment)
            self._claim.submitted(self._job.id)
            self._task.link(self._job.url)
            self._wait(self._job)
        except (KeyboardInterrupt, Stopped) as stop:
            self._stop(stop)
            raise

    def _ticket(self) -> Ticket:
        entry = self._claim.attempt
        return Ticket(entry.job_name, entry.request_id, entry.where, entry.job_id or "")

    def _look(self) -> Job | None:
        """Return the job of the attempt, as far as Dataflow knows one."""
        from millrace.runners.dataflow import templates

        ticket = self._ticket()
        if ticket.id and (job := session.current().find(self._runner, ticket)):
            return job
        # A job that is not known by its id in the moment after its creation may be listed all the same.
        return templates.find(session.current().google, ticket, self._claim.attempt.started)

    def _found(self) -> Job | None:
        """Return the job that an earlier run left and that is gone on with; None for none. Another one is closed."""
        entry = self._claim.entry
        if entry is None or entry.state != "running":
            return None
        job, same = self._look(), entry.work == self._task.work()
        if job is None:
            # Otherwise the attempt is launched again, under its name: where its job is active, it is found by that.
            if not same:
                self._claim.close("its parameters have changed", "stopped")
            return None
        stopping = job.state == "CANCELLING"
        if not job.finished and (stopping or not same):
            job = self._runner.stop(job, wait=sections.waits())
        became = f"job {job.id} is {job.state.lower()}"
        if not same:
            self._claim.close(f"its parameters have changed; {became}", "stopped")
        elif stopping:
            self._claim.close(f"stopped before; {became}", "stopped")
        elif job.finished and job.state != "DONE":
            failed = self._fail(job)
            if not sections.waits():  # the run that launched the job has not told of it
                raise failed
        else:
            return job
        return None

    def _begin(self) -> None:
        """Enter the next attempt. Raises JobFailedError where its jobs have failed too often."""
        task, entry, limit = self._task, self._claim.entry, sections.dataflow().attempts
        failed = failures(entry, task.work(), str(task.version))
        if entry is not None and failed >= limit:
            raise JobFailedError(
                f"{task.called} has failed {failed} times with the same template and parameters, and "
                f"dataflow.attempts = {limit} ({settings.origin('dataflow', 'attempts')}), so no further job was "
                f"launched; the last one: {entry.error}; mend it, forget the failures ({task.forget}), and run again"
            )
        prefix = f"millrace-{task.called}"
        self._claim.begin(prefix, runner=RUNNER, where=task.place(), work=task.work(), code=str(task.version))

    def _launch(self, known: "Template", environment: Any) -> Job:
        """Launch the template for the attempt that is entered, or find it launched."""
        from millrace.runners.dataflow import templates

        task, claim = self._task, self._claim
        ticket, since = self._ticket(), claim.attempt.started
        google = session.current().google
        try:
            return templates.launch(
                google, known, task.given(), environment, ticket, since, claim.confirm, waits=self._in_turn
            )
        except MillraceError as error:
            claim.note(str(error))
            raise

    def _wait(self, job: Job) -> None:
        """Wait for the job. Raises JobFailedError or JobCancelledError for a bad end, which the ledger counts."""
        if not job.finished:
            if not sections.waits():
                raise waits.at_work(job, self._claim.attempt)
            self._job = job = self._watched(job)
        self._ended = True
        if job.state != "DONE":
            raise self._fail(job)
        ran = self._runner.result(job)
        self._claim.close()
        self._task.say(f"job {job.id} is done")
        log.info("%s: job %s is done%s", self._task, job.id, _summed_up(ran))

    def _watched(self, job: Job) -> Job:
        try:
            return self._runner.watch(job, self._tell, self._task.scheduler_messages)
        except JobCancelledError as error:  # the cancellation is taking too long
            self._claim.close(str(error), counts=True)
            raise

    def _in_turn(self, why: str) -> None:
        waits.in_turn(self._claim.attempt.job_name, why)
        self._task.say(why)

    def _tell(self, progress: Progress) -> None:
        self._task.say(progress.message)

    def _fail(self, job: Job) -> MillraceError:
        """Close the attempt of a job that came to a bad end; return the error with the command that tries again."""
        try:
            self._runner.result(job)
        except MillraceError as error:
            again = f"run again: {self._task.command}".replace("{", "{{").replace("}", "}}")
            own = type(error)(error.what, *error.commands, where=error.where, mend=again)
            self._claim.close(str(own), counts=isinstance(own, TerminalError | JobCancelledError))
            return own
        raise AssertionError(f"{job.name} is {job.state} and has a result")

    def _stop(self, stop: BaseException) -> None:
        """Have the job end with this process, unless it is to be left."""
        entry = self._claim.entry
        if entry is None or entry.state != "running" or self._ended:
            return
        if sections.run().detach or not sections.waits():
            log.warning("%s: left running as job %s; the next run waits for it", self._task, entry.job_name)
            return
        try:
            job = self._job or self._look()
            if job is None:  # the entry stays as it is
                log.warning("%s: job %s may be on its way; the next run finds it", self._task, entry.job_name)
                return
            job = self._runner.stop(job)
            log.warning("%s: job %s is %s", self._task, job.id, job.state.lower())
            if job.finished and job.state != "DONE":
                self._claim.close(f"{stop}; job {job.id} is {job.state.lower()}", "stopped")
        except MillraceError as error:
            log.warning("%s: job %s may still run; the next run finds it: %s", self._task, entry.job_name, error)


def _summed_up(ran: Run) -> str:
    """Return what a job counted, and what it used, as a message has it."""
    told = [f"{name} {value}" for name, value in ran.counters.items()]
    if (cost := ran.usage.get("estimated_cost_usd", 0.0)) >= 0.01:
        told.append(f"about {cost:.2f} USD")
    return f": {', '.join(told)}" if told else ""

"""How a service's job is brought to run as it should, from whatever an earlier run has left; how it stands, and ends.

Under the claim of the service's name:

    no job                      start it
    it runs as it should        nothing
    other code or options       update it in place; where Dataflow refuses that, drain it, then start it
    it drains, or is cancelled  wait for its end, then start it

A run that does not wait (`--no-wait`) asks for the next of these steps, and leaves: Waiting says what for. The next run
goes on from what it finds.

All its jobs have one name, of which Dataflow has one active job at most, and the ledger's entry, written before a job
is created, has the request id that makes a repeated creation the same job. So a process may die at any step, and two
hosts may begin at once: there is one job.
"""

import datetime
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from millrace.core import code
from millrace.core.ledger import Claim, Entry, Ledger, failures_since
from millrace.errors import Command, JobFailedError, MillraceError
from millrace.runners.runner import Ticket
from millrace.tasks import sections, session, settings, waits
from millrace.tasks.protocols import ServiceLike

if TYPE_CHECKING:
    from millrace.runners.dataflow.jobs import Job, Where

log = logging.getLogger("millrace")

RUNNER = "DataflowRunner"
_ENDING = ("DRAINING", "CANCELLING")
#: Seconds after which a job that fails is not one that never began.
_LONG = 3600.0


@dataclass(frozen=True)
class Standing:
    """How a service stands. state: new (never started), stopped (on purpose), running, other (code or options), down.

    said: that in words, with the job and how far it is behind; url: the page of its job, "" for none.
    """

    state: str
    said: str
    url: str = ""


def look(task: ServiceLike) -> Standing:
    """Return how a service stands. Raises a MillraceError where Dataflow does not tell."""
    entry = Ledger(session.current().storage).entry(task.service)
    if entry is None:
        return Standing("new", "never started")
    job = job_of(entry)
    url = job.url if job else ""
    if entry.state == "stopped":
        left = f", and job {job.id} is {job.state}" if job else ""
        return Standing("stopped", f"{entry.error} at {entry.ended[:19]}Z{left}", url)
    if job is None or job.state != "RUNNING":
        return Standing("down", _end_of(job) if job else f"it has no job{entry.error and f': {entry.error}'}", url)
    running = f"job {job.id} is RUNNING, for {lasting(job.lasted)}; {_lag_of(job)}"
    if task.as_wanted(entry):
        return Standing("running", f"{running}; with this code and these options", url)
    changed = "options" if code.is_of(entry.code, task) else "code"
    return Standing("other", f"{running}; with other {changed} than here", url)


def keep(task: ServiceLike, claim: Claim) -> None:
    """Have the job of a service run as it should, whatever an earlier run left. Raises a MillraceError."""
    _Keeper(task, claim).keep()
    if (standing := look(task)).state == "running":
        task.say(standing.said)


def stop(entry: Entry, say: Callable[[str], None], *, cancel: bool) -> None:
    """End the active jobs of a service, given its last attempt, and wait for that: drained, or cancelled.

    Raises Waiting for the last that is not at its end, where the run does not wait.
    """
    from millrace.runners.dataflow import jobs

    left = None
    for job in active(entry):
        if sections.waits() or job.state not in _ENDING:
            say(f"{'cancels' if cancel else 'drains'} job {job.id}")
        ask = functools.partial(jobs.cancel, wait=sections.waits()) if cancel else jobs.drain
        asked = job if job.state in _ENDING and not cancel else ask(job)
        if not sections.waits() and not asked.finished:
            left = asked
            continue
        ended = jobs.wait(asked, lambda each: None)
        say(f"job {ended.id} is {ended.state}")
    if left is not None:
        raise waits.at_work(left, entry)


def lasting(seconds: float) -> str:
    """Return a time in the unit that fits: 45 s, 12 min, 30 h, 4 d."""
    for most, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < most:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} d"


def _lag_of(job: "Job") -> str:
    from millrace.runners.dataflow import reports

    try:
        lag = reports.lag(job)
    except MillraceError as error:  # the job is there all the same
        return f"its lag is not known ({error})"
    known = {"system": lag.system, "data": lag.data}
    told = [f"{name} {lasting(seconds)}" for name, seconds in known.items() if seconds is not None]
    return f"lag: {', '.join(told) or 'not told yet'}"


class _Keeper:
    """What one run does for a service whose claim it holds."""

    def __init__(self, task: ServiceLike, claim: Claim) -> None:
        self._task, self._claim = task, claim
        self._place = session.current().runner(RUNNER).place()

    def keep(self) -> None:
        """Have the job run as it should, whatever an earlier run left."""
        entry = self._claim.entry
        if entry is None:
            self._start()
            return
        own, there = job_of(entry), active(entry)
        mine = next((job for job in there if job.request_id == entry.request_id), None)
        other = next((job for job in there if job is not mine), None)
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
            self._close(own)
            self._start()

    def _close(self, own: "Job | None") -> None:
        """Note that the job came to its end by itself. One that ran for long before it failed is not like one that
        never began, and counts as no failure. Raises what the other kind failed of, where the run does not wait.
        """
        from millrace.runners.dataflow import reports

        if self._claim.attempt.state != "running":
            return
        became = _end_of(own) if own else "its job is gone"
        failed = own is not None and own.state == "FAILED" and own.lasted < _LONG
        self._claim.close(became, counts=failed)
        if own is not None and failed and not sections.waits():  # the run that submitted the job has not told of it
            raise reports.failure(own)
        self._task.say(f"starts another job: {became}")

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

        if sections.waits() or old.state not in _ENDING:  # a run that does not wait says so once
            log.warning("%s: job %s is drained, then another is started: %s", self._task.task_family, old.id, why)
            self._task.say(f"drains job {old.id}: {why}")
        asked = old if old.state in _ENDING else jobs.drain(old)
        if not sections.waits() and not asked.finished:
            raise waits.at_work(asked, self._claim.attempt)
        ended = jobs.wait(asked, lambda each: None)
        self._task.say(f"job {ended.id} is {ended.state}")
        self._start()

    def _start(self) -> None:
        if error := _given_up(self._task, self._claim.entry):
            raise error
        self._enter()
        self._submit()

    def _enter(self, replaces: str = "") -> None:
        prefix = f"millrace-{self._task.service}"
        wanted = {"work": self._task.work(), "code": code.of(self._task)}
        self._claim.serve(prefix, replaces, runner=RUNNER, where=self._place, **wanted)

    def _submit(self) -> None:
        """Create the job of the attempt that is entered, or find it created, and wait until it runs."""
        from millrace.runners.dataflow import submission

        task, entry = self._task, self._claim.attempt
        ticket = Ticket(entry.job_name, entry.request_id, entry.where)
        given = {**session.current().google.access.options(), **task.pipeline_options()}
        google = session.current().google
        how: dict[str, Any] = {"streaming": True, "replaces": entry.replaces}
        try:
            job = submission.submit(google, task.pipeline, given, task.task_family, ticket, self._in_turn, **how)
        except MillraceError as error:
            self._claim.note(str(error))
            raise
        self._wait(job)

    def _in_turn(self, why: str) -> None:
        waits.in_turn(self._claim.attempt.job_name, why)
        self._task.say(why)

    def _wait(self, job: "Job") -> None:
        """Wait until a job runs. Raises Waiting where the run does not wait for that, and what the job failed of."""
        from millrace.runners.dataflow import jobs, reports

        self._claim.submitted(job.id)
        self._task.link(job.url)
        if sections.waits():
            job = jobs.begun(job, lambda state: self._task.say(f"job {job.id} is {state}"))
        elif job.state != "RUNNING" and not job.finished:
            raise waits.at_work(job, self._claim.attempt)
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


def given_up(task: ServiceLike) -> JobFailedError | None:
    """Return the error with which no further job of a service is submitted; None where one would be."""
    return _given_up(task, Ledger(session.current().storage).entry(task.service))


def _given_up(task: ServiceLike, entry: Entry | None) -> JobFailedError | None:
    limit, within = sections.dataflow().attempts, sections.dataflow().failures_within
    failed = failures_since(entry, task.work(), code.of(task), within)
    if entry is None or len(failed) < limit:
        return None
    again = datetime.datetime.fromisoformat(failed[-limit]) + datetime.timedelta(seconds=within)
    return JobFailedError(
        f"{task.task_family} has failed {len(failed)} times within {lasting(within)} with the same code and options, "
        f"and dataflow.attempts = {limit} ({settings.origin('dataflow', 'attempts')}), so no further job is submitted "
        f"before {again:%Y-%m-%d %H:%M} UTC; the last one: {entry.error}",
        Command("clear", [task.task_family], parameters=task.named_parameters()),
        mend="mend it, forget the failures ({0}), and run again",
    )


def _end_of(job: "Job") -> str:
    """Return why a job that should run does not."""
    from millrace.runners.dataflow import reports

    return str(reports.failure(job)) if job.state == "FAILED" else f"job {job.id} is {job.state}"


def _where(entry: Entry) -> "Where":
    from millrace.runners.dataflow import jobs

    return jobs.where_of(Ticket(entry.job_name, entry.request_id, entry.where))


def job_of(entry: Entry) -> "Job | None":
    """Return the job of an attempt, as far as its id was noted."""
    from millrace.runners.dataflow import jobs

    return jobs.get(session.current().google, entry.job_id, _where(entry)) if entry.job_id else None


def active(entry: Entry) -> "list[Job]":
    """Return the active jobs of a service, given its last attempt: those listed, and the one whose id was noted."""
    from millrace.runners.dataflow import jobs

    if not entry.job_name:  # it was stopped before it was ever started
        return []
    listed = jobs.named(session.current().google, entry.job_name, _where(entry), active=True)
    own = job_of(entry)
    found = {job.id: job for job in [*listed, *([own] if own else [])]}
    return [job for job in found.values() if not job.finished and not job.replaced_by]

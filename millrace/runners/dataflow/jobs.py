"""Dataflow's jobs through Google's own client: found, watched, cancelled. What they tell is in reports.py.

A job is looked at after pauses that grow; in between, whoever types something into luigid's "send message" is heard.
One look is one call: what fails in passing is asked again at the next look, for as long as the settings say.
"""

import datetime
import logging
import math
import queue
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from millrace.beam.google_errors import passes, said
from millrace.common.polling import Pauses
from millrace.errors import JobCancelledError, MillraceError, ServiceError, SettingError, TerminalError
from millrace.gcloud.clients import Google
from millrace.runners.runner import Messages, Ticket

if TYPE_CHECKING:
    from google.api_core.retry import Retry

log = logging.getLogger("millrace")

#: Seconds until a single call is taken for a broken connection.
TIMEOUT = 60.0
#: The label that tells for which request a template was launched, because a launch takes no request id.
REQUEST_LABEL = "millrace-request"
#: So many jobs a page of a list may have; Dataflow may give fewer.
_PAGE = 1000
_FINISHED = ("DONE", "FAILED", "CANCELLED", "DRAINED", "UPDATED")


#: A project and a region.
Where: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class Job:
    """A job as Dataflow last told. state: as in RUNNING or DONE; request_id and replaced_by are "" where unknown.

    request_id: of the request that created the job, or, of a template's job, what its label says instead.

    where: its project and region. They stay what they were when settings change. google: through which it is asked.
    started, changed: when it began to run, and when it came to be in its state; None where Dataflow has not said.
    labels: as far as Dataflow was asked for them.
    """

    id: str
    name: str
    state: str
    request_id: str
    where: Where
    google: Google = field(repr=False, compare=False)
    replaced_by: str = ""
    started: datetime.datetime | None = None
    changed: datetime.datetime | None = None
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def lasted(self) -> float:
        """For how many seconds it ran, or has run; 0 where that is not known, and for one that never began."""
        if not self.started:
            return 0.0
        until = self.changed if self.finished and self.changed else datetime.datetime.now(datetime.UTC)
        return max((until - self.started).total_seconds(), 0.0)

    @property
    def url(self) -> str:
        """The job's page in the console."""
        project, region = self.where
        return f"https://console.cloud.google.com/dataflow/jobs/{region}/{self.id}?project={project}"

    @property
    def finished(self) -> bool:
        """Whether it has come to its end, whatever that is; one that goes on as another has not."""
        return self.state in _FINISHED and not self.replaced_by


class Command(Protocol):
    """What somebody typed into luigid: luigi's SchedulerMessage."""

    content: str

    def respond(self, response: str, /) -> object:
        """Answer whoever typed."""


def place(google: Google) -> Where:
    """Return the project and region of new jobs. Raises SettingError where either is unknown."""
    region = google.config.gcp.region
    if not region:
        raise SettingError("no region for Dataflow jobs is known; set region in [gcp] of luigi.cfg, or --gcp-region")
    return google.project, region


def task_label(task: str) -> str:
    """Return a task's name as the value of a label, which names it on each of its jobs."""
    return re.sub(r"[^a-z0-9_-]", "-", task.lower())[:63]


def where_of(ticket: Ticket) -> Where:
    """Return the project and region of a ticket's job."""
    project, _, region = ticket.place.partition("/")
    return project, region


def find(google: Google, job_name: str, request_id: str, where: Where) -> Job | None:
    """Return the job of a name and a request, finished ones included; None for none."""
    return next((job for job in named(google, job_name, where) if job.request_id in ("", request_id)), None)


def named(google: Google, job_name: str, where: Where, *, active: bool = False) -> list[Job]:
    """Return all jobs of a name, finished ones included; or those alone that are active."""
    kind = "ACTIVE" if active else "ALL"
    request = {"project_id": where[0], "location": where[1], "name": job_name, "filter": kind}
    with google.told(f"list the Dataflow jobs named {job_name}"):
        listed = list(google.dataflow.jobs.list_jobs(request=request, retry=google.retry(), timeout=TIMEOUT))
    # A list does not tell of requests.
    return [job for each in listed if each.name == job_name and (job := get(google, each.id, where))]


def listed(google: Google, tickets: Collection[Ticket], where: Where) -> dict[Ticket, Job]:
    """Return the jobs of some tickets that have ids, as a list of all jobs tells of them, read only as far as need be.

    The list has what is active first, then what has come to its end, the last first (the API's reference of
    projects.locations.jobs.list, Filter ALL). A job that has become another is left out.
    """
    left, found = {ticket.id: ticket for ticket in tickets}, dict[Ticket, Job]()
    request = {"project_id": where[0], "location": where[1], "filter": "ALL", "page_size": _PAGE}
    with google.told(f"list the Dataflow jobs of {where[0]} in {where[1]}"):
        pager = google.dataflow.jobs.list_jobs(request=request, retry=google.retry(), timeout=TIMEOUT)
        for page in pager.pages:
            for each in page.jobs:
                if (ticket := left.pop(each.id, None)) and not (job := job_of(google, each, where)).replaced_by:
                    found[ticket] = job
            if not left:
                break
    return found


def get(google: Google, id: str, where: Where) -> Job | None:
    """Return the job of an id; None where Dataflow knows none, as in the moment in which it is created."""
    import google.api_core.exceptions as api

    try:
        # A summary, which Dataflow gives unless it is asked for more, does not tell of requests either.
        return _get(Job(id, id, "", "", where, google), google.retry(), view="JOB_VIEW_ALL")
    except SettingError as error:
        if isinstance(error.__cause__, api.NotFound):
            return None
        raise


def job_of(google: Google, proto: Any, where: Where) -> Job:
    """Return a job as it is known here, given as Google's client has it."""
    # A state that this client does not know yet is a number.
    state = str(getattr(proto.current_state, "name", proto.current_state)).removeprefix("JOB_STATE_")
    return Job(
        proto.id,
        proto.name,
        state,
        proto.client_request_id or proto.labels.get(REQUEST_LABEL, ""),
        where,
        google,
        proto.replaced_by_job_id,
        proto.start_time or None,
        proto.current_state_time or None,
        dict(proto.labels),
    )


def wait(job: Job, look: Callable[[Job], None], messages: Messages | None = None) -> Job:
    """Wait until a job, or the one that replaced it, has come to its end.

    look: called with the job as it is, whenever Dataflow has told. messages: where commands of people arrive, `cancel`
    and `drain`. Raises ServiceError if Dataflow does not answer for [dataflow] stuck_after seconds, JobCancelledError
    if the job is being cancelled for longer than that, and AccessError. What interrupts it leaves the job as it is.
    """
    settings = job.google.config.dataflow
    commands = messages or queue.SimpleQueue[Command]()
    waiting = pauses(job.google, wait=lambda seconds: _obey_next(job, commands, seconds))
    answered = changed = time.monotonic()
    while True:
        found = _look(job, time.monotonic() - answered)
        if found is not None:
            answered = time.monotonic()
            if found.state != job.state:
                changed = answered
            job = found
            if job.replaced_by:
                log.info("Dataflow job %s was replaced by %s", job.id, job.replaced_by)
                job = replace(job, id=job.replaced_by, state="", replaced_by="")
                continue
            look(job)
            if job.finished:
                return job
            if job.state == "CANCELLING" and answered - changed >= settings.stuck_after:
                raise JobCancelledError(
                    f"Dataflow job {job.name} is still being cancelled after {settings.stuck_after:g} s ([dataflow] "
                    f"stuck_after) and was given up; see {job.url}"
                )
        waiting.pause()


def cancel(job: Job, *, wait: bool = True) -> Job:
    """Ask for a job, or the one that replaced it, to be cancelled; return the job as it then is.

    It waits until that is done, or for [dataflow] cancel_wait seconds, unless told otherwise. Raises ServiceError if
    Dataflow does not answer for so long, and AccessError.
    """
    patience = job.google.config.dataflow.cancel_wait
    waiting = Pauses(0.25, 2.0, patience)
    job = _request(job, "JOB_STATE_CANCELLED", max(patience, 1.0))
    while wait and not job.finished and waiting.pause():
        job = _get(job, _soon(job.google, max(waiting.left, 1.0)))
    return job


def drain(job: Job) -> Job:
    """Ask for a job to end with what it has read so far; return the job as it then is. Dataflow drains no batch job."""
    return _request(job, "JOB_STATE_DRAINING", job.google.config.gcp.patience)


def begun(job: Job, tell: Callable[[str], None]) -> Job:
    """Wait until a job runs, or has come to its end; tell: told the state whenever it is another one.

    Raises ServiceError if neither happens for [dataflow] stuck_after seconds.
    """
    patience = job.google.config.dataflow.stuck_after
    waiting = pauses(job.google, patience)
    told = ""
    while True:
        job = _get(job, _soon(job.google, job.google.config.gcp.patience))
        if job.state != told:
            tell(told := job.state)
        if job.state == "RUNNING" or job.state in _FINISHED:
            return job
        if not waiting.pause():
            raise ServiceError(
                f"Dataflow job {job.name} ({job.id}) is still {job.state} after {patience:g} s ([dataflow] "
                f"stuck_after); see {job.url}; the next run looks again"
            )


def pauses(google: Google, patience: float = math.inf, wait: Callable[[float], object] = time.sleep) -> Pauses:
    """Return the pauses between looks at a job: at first 2 s, in the end [dataflow] poll_max seconds."""
    longest = google.config.dataflow.poll_max
    return Pauses(min(2.0, longest / 4), longest, patience, wait=wait)


def request_of(job: Job) -> dict[str, str]:
    """Return what every request about a job begins with."""
    return {"project_id": job.where[0], "location": job.where[1], "job_id": job.id}


def _get(job: Job, again: "Retry", view: str = "JOB_VIEW_SUMMARY") -> Job:
    request = {**request_of(job), "view": view}
    with job.google.told(f"look at Dataflow job {job.name} ({job.id})"):
        found = job.google.dataflow.jobs.get_job(request=request, retry=again, timeout=TIMEOUT)
    return job_of(job.google, found, job.where)


def _soon(google: Google, seconds: float) -> "Retry":
    """Return retry() that also goes on while a job is not known yet, as in the moment in which it is created."""
    import google.api_core.exceptions as api

    return google.retry(seconds).with_predicate(lambda error: passes(error) or isinstance(error, api.NotFound))


def _look(job: Job, silent: float) -> Job | None:
    """Look at a job once; return None for a vain look that may be repeated. silent: seconds since the last answer."""
    import google.api_core.exceptions as api

    try:
        found = job.google.dataflow.jobs.get_job(request=request_of(job), retry=None, timeout=TIMEOUT)
    except api.NotFound as error:
        if silent > job.google.config.gcp.patience:
            project, region = job.where
            raise ServiceError(
                f"Dataflow has no job {job.name} ({job.id}) in {project}, {region}, asked for "
                f"{job.google.config.gcp.patience:g} s ([gcp] patience): {said(error)}; run again"
            ) from error
        return None
    except Exception as error:
        if not passes(error):
            with job.google.told(f"look at Dataflow job {job.name} ({job.id})"):
                raise
        limit = job.google.config.dataflow.stuck_after
        if silent > limit:
            raise ServiceError(
                f"Dataflow has not told of job {job.name} ({job.id}) for {limit:g} s ([dataflow] stuck_after): "
                f"{said(error)}; it may still run, and the next run waits for it"
            ) from error
        log.info("Dataflow job %s: %s; asked again", job.name, said(error))
        return None
    return job_of(job.google, found, job.where)


def _request(job: Job, state: str, seconds: float) -> Job:
    """Ask for a state; return the job as it then is. A job that has come to its end by itself is no error."""
    while job.replaced_by:
        job = _get(replace(job, id=job.replaced_by), _soon(job.google, seconds))
    request = {**request_of(job), "job": {"requested_state": state}}
    try:
        wanted = state.removeprefix("JOB_STATE_").lower()
        with job.google.told(f"ask for Dataflow job {job.name} ({job.id}) to be {wanted}"):
            job.google.dataflow.jobs.update_job(request=request, retry=_soon(job.google, seconds), timeout=TIMEOUT)
    except TerminalError:
        if (found := _get(job, job.google.retry(seconds))).finished:
            return found
        raise
    return _get(job, _soon(job.google, seconds))


def _obey_next(job: Job, commands: Messages, seconds: float) -> bool:
    """Wait for a command and obey it; return False where none came within the seconds."""
    try:
        command: Command = commands.get(True, seconds)
    except queue.Empty:
        return False
    try:
        answer = _obey(job, str(command.content).strip().lower())
    except MillraceError as error:
        answer = str(error)
    log.info("Dataflow job %s: somebody said %r: %s", job.name, command.content, answer)
    try:
        command.respond(answer)
    except Exception as error:  # a scheduler that is gone is no reason to stop waiting
        log.info("the answer did not arrive: %s", error)
    return True


def _obey(job: Job, word: str) -> str:
    if word == "cancel":
        state = _request(job, "JOB_STATE_CANCELLED", job.google.config.gcp.patience).state
    elif word == "drain":
        state = drain(job).state
    else:
        return f"{word!r} is no command; there are cancel and drain"
    return f"asked Dataflow to {word} {job.name}, which is {state} now"

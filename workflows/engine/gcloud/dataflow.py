"""Dataflow's jobs through Google's own client: found, watched, cancelled, counted, and what became of them.

A job is looked at after pauses that grow; in between, whoever types something into luigid's "send message" is heard.
One look is one call: what fails in passing is asked again at the next look, for as long as the settings say.
"""

import contextlib
import importlib
import logging
import queue
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from pipelines.errors import (
    JobCancelledError,
    JobFailedError,
    MillraceError,
    ServiceError,
    SettingError,
    TerminalError,
    TransientError,
)
from workflows.engine import clients, runners, sections
from workflows.engine.gcloud.google_calls import passes, retry, said, told

if TYPE_CHECKING:
    from google.api_core.retry import Retry

log = logging.getLogger("millrace")

#: Seconds until a single call is taken for a broken connection.
TIMEOUT = 60.0
_FINISHED = ("DONE", "FAILED", "CANCELLED", "DRAINED", "UPDATED")
_ERROR_LINE = re.compile(r"^[\w.]*(?:Error|Exception|Failure)\b.*$", re.MULTILINE)


#: A project and a region.
Where: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class Job:
    """A job as Dataflow last told. state: as in RUNNING or DONE; request_id and replaced_by are "" where unknown.

    where: its project and region. They stay what they were when settings change.
    """

    id: str
    name: str
    state: str
    request_id: str
    where: Where
    replaced_by: str = ""

    @property
    def url(self) -> str:
        """The job's page in the console."""
        project, region = self.where
        return f"https://console.cloud.google.com/dataflow/jobs/{region}/{self.id}?project={project}"

    @property
    def finished(self) -> bool:
        """Whether it has come to its end, whatever that is; one that goes on as another has not."""
        return self.state in _FINISHED and not self.replaced_by


@dataclass(frozen=True)
class Progress:
    """How a job stands: state, workers (None where unknown), its last error of consequence, its user counters."""

    state: str
    workers: int | None = None
    error: str = ""
    counters: Mapping[str, int] = field(default_factory=dict)

    @property
    def message(self) -> str:
        """It in a line, the counters left out."""
        workers = f", {self.workers} worker{'' if self.workers == 1 else 's'}" if self.workers else ""
        return f"{self.state}{workers}{f'; {self.error}' if self.error else ''}"


class Command(Protocol):
    """What somebody typed into luigid: luigi's SchedulerMessage."""

    content: str

    def respond(self, response: str, /) -> object:
        """Answers whoever typed."""


class Messages(Protocol):
    """Where commands arrive: a task's `scheduler_messages`, or any queue."""

    def get(self, block: bool = True, timeout: float | None = None, /) -> Any:
        """The next command. Raises queue.Empty if none comes within the seconds."""


def preload() -> None:
    """Imports what submitting and watching need, before workers fork: they share it instead of each importing it."""
    importlib.import_module("workflows.engine.gcloud.submission").preload()
    with contextlib.suppress(MillraceError):  # whoever needs them says so
        clients.dataflow_clients()


def place() -> Where:
    """The project and region of new jobs. Raises SettingError where either is unknown."""
    region = sections.gcp().region
    if not region:
        raise SettingError("no region for Dataflow jobs is known; set region in [gcp] of luigi.cfg, or --gcp-region")
    return clients.project(), region


def find(job_name: str, request_id: str, where: Where) -> Job | None:
    """The job of a name and a request, finished ones included; None for none."""
    return next((job for job in named(job_name, where) if job.request_id in ("", request_id)), None)


def named(job_name: str, where: Where) -> list[Job]:
    """All jobs of a name, finished ones included."""
    request = {"project_id": where[0], "location": where[1], "name": job_name, "filter": "ALL"}
    with told(f"list the Dataflow jobs named {job_name}"):
        listed = list(clients.dataflow_clients().jobs.list_jobs(request=request, retry=retry(), timeout=TIMEOUT))
    # A list does not tell of requests.
    return [job for each in listed if each.name == job_name and (job := get(each.id, where))]


def get(id: str, where: Where) -> Job | None:
    """The job of an id; None where Dataflow knows none, as in the moment in which it is created."""
    import google.api_core.exceptions as api

    try:
        return _get(Job(id, id, "", "", where), retry())
    except SettingError as error:
        if isinstance(error.__cause__, api.NotFound):
            return None
        raise


def job_of(proto: Any, where: Where) -> Job:
    """A job as Google's client gives it."""
    state = proto.current_state.name.removeprefix("JOB_STATE_")
    return Job(proto.id, proto.name, state, proto.client_request_id, where, proto.replaced_by_job_id)


def wait(job: Job, report: Callable[[Progress], None], messages: Messages | None = None) -> Job:
    """Waits until a job, or the one that replaced it, has come to its end; tells what changes to `report`.

    messages: where commands of people arrive, `cancel` and `drain`. Raises ServiceError if Dataflow does not answer for
    [dataflow] stuck_after seconds, JobCancelledError if the job is being cancelled for longer than that, and
    AccessError. What interrupts it leaves the job as it is.
    """
    settings = sections.dataflow()
    commands = messages or queue.SimpleQueue[Command]()
    first = pause = min(2.0, settings.poll_max / 4)
    answered = changed = time.monotonic()
    shown: Progress | None = None
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
            progress = _progress(job, shown)
            if progress != shown:
                report(progress)
                shown = progress
            if job.finished:
                return job
            if job.state == "CANCELLING" and answered - changed >= settings.stuck_after:
                raise JobCancelledError(
                    f"Dataflow job {job.name} is still being cancelled after {settings.stuck_after:g} s ([dataflow] "
                    f"stuck_after) and was given up; see {job.url}"
                )
        pause = first if _obey_next(job, commands, _jittered(pause)) else min(pause * 1.5, settings.poll_max)


def cancel(job: Job) -> Job:
    """Asks for a job, or the one that replaced it, to be cancelled; the job as it is once that is done, or after
    [dataflow] cancel_wait seconds.

    Raises ServiceError if Dataflow does not answer for so long, and AccessError.
    """
    patience = sections.dataflow().cancel_wait
    end = time.monotonic() + patience
    job = _request(job, "JOB_STATE_CANCELLED", max(patience, 1.0))
    pause = 0.25
    while not job.finished and (left := end - time.monotonic()) > 0:
        time.sleep(min(_jittered(pause), left))
        pause = min(pause * 1.5, 2.0)
        job = _get(job, _soon(max(left, 1.0)))
    return job


def drain(job: Job) -> Job:
    """Asks for a job to end with what it has read so far; the job as it is then. Dataflow drains no batch job."""
    return _request(job, "JOB_STATE_DRAINING", sections.gcp().patience)


def counters(job: Job) -> Mapping[str, int]:
    """The counters that the pipeline counted itself: name → value, summed over steps."""
    return _user_counters(_metrics(job, sections.gcp().patience))


def usage(job: Job) -> Mapping[str, float]:
    """What a job used: vcpu_hours, memory_gb_hours, shuffle_gb, and estimated_cost_usd by [dataflow]'s prices.

    Disks, accelerators and network are not in the estimate.
    """
    used = {
        metric.name.name: float(metric.scalar or 0)
        for metric in _metrics(job, sections.gcp().patience)
        if metric.name.origin == "dataflow/v1b3" and metric.name.context.get("tentative") != "true"
    }
    vcpu = used.get("TotalVcpuTime", 0.0) / 3600  # seconds
    memory = used.get("TotalMemoryUsage", 0.0) / 1024 / 3600  # MB-seconds
    shuffle = used.get("BillableShuffleDataProcessed", 0.0)  # GB
    prices = sections.dataflow()
    cost = vcpu * prices.price_vcpu_hour + memory * prices.price_gb_hour + shuffle * prices.price_shuffle_gb
    return {
        "vcpu_hours": round(vcpu, 6),
        "memory_gb_hours": round(memory, 6),
        "shuffle_gb": round(shuffle, 9),
        "estimated_cost_usd": round(cost, 6),
    }


def failure(job: Job, command: str) -> MillraceError:
    """The error that tells of a job that ended without its result; command: what tries again.

    A worker's error of ours that passes stays what it is, such as NotThereYetError.
    """
    try:
        said = _errors(job, sections.gcp().patience)
    except MillraceError as error:
        said = [f"its messages could not be read ({error})"]
    kind, what = {
        "FAILED": (JobFailedError, "failed"),
        "CANCELLED": (JobCancelledError, "was cancelled"),
        "DRAINED": (JobCancelledError, "was drained, so what it wrote is not whole"),
        "UPDATED": (JobCancelledError, "was replaced by another"),
    }.get(job.state, (JobFailedError, f"ended as {job.state}"))
    ours = _ours(said)
    if kind is JobFailedError and isinstance(ours, TransientError):
        kind = type(ours)
    reason = str(ours) if ours else consequence(said)
    reason = f": {reason.rstrip('.')}" if reason else ""
    return kind(f"Dataflow job {job.name} {what}{reason}; see {job.url}; run again: {command}")


def consequence(said: Sequence[str]) -> str:
    """Of a job's error messages the one that explains most, in one line; "" where there is none.

    That is our own last sentence, or a worker's last error, or the last that is not Dataflow's summary of the others.
    """
    if ours := _ours(said):
        return str(ours)
    for text in reversed(said):
        if lines := _ERROR_LINE.findall(text):
            return _one_line(re.sub(r" \[while running '[^']*'\]", "", lines[-1]))
    own = [text for text in said if not text.startswith("Workflow failed")] or said
    return _one_line(own[-1]) if own else ""


def _ours(said: Iterable[str]) -> MillraceError | None:
    return next((error for text in reversed(list(said)) if (error := runners.told_in(text))), None)


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:299] + "…"


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.8, 1.2)


def _id(job: Job) -> dict[str, str]:
    return {"project_id": job.where[0], "location": job.where[1], "job_id": job.id}


def _get(job: Job, again: "Retry") -> Job:
    with told(f"look at Dataflow job {job.name} ({job.id})"):
        found = clients.dataflow_clients().jobs.get_job(request=_id(job), retry=again, timeout=TIMEOUT)
    return job_of(found, job.where)


def _soon(seconds: float) -> "Retry":
    """As retry(), also for a job that is not known yet: it isn't everywhere in the moment in which it is created."""
    import google.api_core.exceptions as api

    return retry(seconds).with_predicate(lambda error: passes(error) or isinstance(error, api.NotFound))


def _look(job: Job, silent: float) -> Job | None:
    """One look at a job; None for one in vain that may be repeated. silent: seconds since the last answer."""
    import google.api_core.exceptions as api

    try:
        found = clients.dataflow_clients().jobs.get_job(request=_id(job), retry=None, timeout=TIMEOUT)
    except api.NotFound as error:
        if silent > sections.gcp().patience:
            project, region = job.where
            raise ServiceError(
                f"Dataflow has no job {job.name} ({job.id}) in {project}, {region}, asked for "
                f"{sections.gcp().patience:g} s ([gcp] patience): {said(error)}; run again"
            ) from error
        return None
    except Exception as error:
        if not passes(error):
            with told(f"look at Dataflow job {job.name} ({job.id})"):
                raise
        limit = sections.dataflow().stuck_after
        if silent > limit:
            raise ServiceError(
                f"Dataflow has not told of job {job.name} ({job.id}) for {limit:g} s ([dataflow] stuck_after): "
                f"{said(error)}; it may still run, and the next run waits for it"
            ) from error
        log.info("Dataflow job %s: %s; asked again", job.name, said(error))
        return None
    return job_of(found, job.where)


def _request(job: Job, state: str, seconds: float) -> Job:
    """Asks for a state; the job as it is then. Where it has come to its end by itself, that is no error."""
    while job.replaced_by:
        job = _get(replace(job, id=job.replaced_by), _soon(seconds))
    request = {**_id(job), "job": {"requested_state": state}}
    try:
        with told(f"ask for Dataflow job {job.name} ({job.id}) to be {state.removeprefix('JOB_STATE_').lower()}"):
            clients.dataflow_clients().jobs.update_job(request=request, retry=_soon(seconds), timeout=TIMEOUT)
    except TerminalError:
        if (found := _get(job, retry(seconds))).finished:
            return found
        raise
    return _get(job, _soon(seconds))


def _obey_next(job: Job, commands: Messages, seconds: float) -> bool:
    """Waits for a command and obeys it; False where none came within the seconds."""
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
    except Exception as error:  # a scheduler that is gone is nothing to stop waiting for
        log.info("the answer did not arrive: %s", error)
    return True


def _obey(job: Job, word: str) -> str:
    if word == "cancel":
        state = _request(job, "JOB_STATE_CANCELLED", sections.gcp().patience).state
    elif word == "drain":
        state = drain(job).state
    else:
        return f"{word!r} is no command; there are cancel and drain"
    return f"asked Dataflow to {word} {job.name}, which is {state} now"


def _progress(job: Job, before: Progress | None) -> Progress:
    """How a job stands; what could not be asked in one try is as it was before."""
    before = replace(before or Progress(job.state), state=job.state)
    try:
        with told(f"read the messages of Dataflow job {job.name}"):
            pages = list(_messages(job, None).pages)
            counted = _user_counters(_metrics(job, None))
    except MillraceError:
        return before
    events = sorted((event for page in pages for event in page.autoscaling_events), key=lambda event: event.time)
    return Progress(
        job.state,
        int(events[-1].current_num_workers) if events else before.workers,
        consequence([message.message_text for page in pages for message in page.job_messages]),
        counted,
    )


def _messages(job: Job, seconds: float | None) -> Any:
    return clients.dataflow_clients().messages.list_job_messages(
        request={**_id(job), "minimum_importance": "JOB_MESSAGE_ERROR"},
        retry=None if seconds is None else retry(seconds),
        timeout=TIMEOUT,
    )


def _errors(job: Job, seconds: float) -> list[str]:
    """The texts of a job's error messages, oldest first."""
    with told(f"read the messages of Dataflow job {job.name} ({job.id})"):
        return [message.message_text for message in sorted(_messages(job, seconds), key=lambda each: each.time)]


def _metrics(job: Job, seconds: float | None) -> list[Any]:
    with told(f"read the metrics of Dataflow job {job.name} ({job.id})"):
        found = clients.dataflow_clients().metrics.get_job_metrics(
            request=_id(job), retry=None if seconds is None else retry(seconds), timeout=TIMEOUT
        )
        return list(found.metrics)


def _user_counters(metrics: Iterable[Any]) -> dict[str, int]:
    """Counters of committed work. A distribution's parts come as numbers as well: those are no counters."""
    mine = [m for m in metrics if m.name.origin == "user" and m.name.context.get("tentative") != "true"]
    distributions = {m.name.name for m in mine if m.distribution}
    parts = {f"{name}_{part}" for name in distributions for part in ("MIN", "MAX", "MEAN", "COUNT")}
    found: dict[str, int] = {}
    for metric in mine:
        name, value = metric.name.name, metric.scalar
        if isinstance(value, int | float) and name not in distributions | parts:
            found[name] = found.get(name, 0) + int(value)
    return dict(sorted(found.items()))

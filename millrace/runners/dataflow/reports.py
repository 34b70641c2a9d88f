"""What a Dataflow job tells of itself: how it stands, what it counted, used and costs, and why it came to a bad end."""

import datetime
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from millrace.errors import DamagedError, JobCancelledError, JobFailedError, MillraceError, TransientError
from millrace.runners import in_process
from millrace.runners.dataflow.jobs import TIMEOUT, Job, request_of
from millrace.runners.runner import Progress, Run

log = logging.getLogger("millrace")

#: How many of a job's error messages a watcher remembers, and how much later than others one may appear.
_KEPT, _LATE = 50, datetime.timedelta(minutes=2)
_ERROR_LINE = re.compile(r"^[\w.]*(?:Error|Exception|Failure)\b.*$", re.MULTILINE)


def changes(report: Callable[[Progress], None]) -> Callable[[Job], None]:
    """Return what looks at how a job stands, for `jobs.wait`, and tells `report` whenever that is not as it was."""
    shown: Progress | None = None
    heard = _Heard()

    def look(job: Job) -> None:
        nonlocal shown
        progress = _progress(job, shown, heard)
        if progress != shown:
            report(progress)
            shown = progress

    return look


def result(job: Job) -> Run:
    """Return what a finished job counted and used; what can't be learnt is left out, so that the result is not lost."""
    try:
        metrics = _metrics(job, job.google.config.gcp.patience)
    except MillraceError as error:
        log.warning("%s: %s", job.name, error)
        return Run(job.id)
    return Run(job.id, _user_counters(metrics), _usage(job, metrics))


class Lag(NamedTuple):
    """How far a streaming job is behind, in seconds; None where Dataflow does not say.

    system: for how long the element that has waited longest has waited. data: how old the data watermark is.
    """

    system: float | None
    data: float | None


def lag(job: Job) -> Lag:
    """Return how far a streaming job is behind: that of its stage which is furthest. Raises a MillraceError.

    Dataflow tells each stage's watermarks, in microseconds since 1970; a negative one is unknown, or at its end.
    """
    behind: dict[str, list[float]] = {"windmill-system-watermark": [], "windmill-data-watermark": []}
    for metric in _metrics(job, job.google.config.gcp.patience):
        for suffix, found in behind.items():
            if metric.name.name.endswith(suffix) and (micros := float(metric.scalar or 0)) >= 0 and metric.update_time:
                found.append(max(metric.update_time.timestamp() - micros / 1e6, 0.0))
    return Lag(*(max(found, default=None) for found in behind.values()))


def failure(job: Job) -> MillraceError:
    """Return the error that tells of a job that ended without its result.

    A worker's error of ours that passes stays what it is, such as NotThereYetError, and so does DamagedError.
    """
    try:
        said = _errors(job, job.google.config.gcp.patience)
    except MillraceError as error:
        said = [f"its messages could not be read ({error})"]
    kind, what = {
        "FAILED": (JobFailedError, "failed"),
        "CANCELLED": (JobCancelledError, "was cancelled"),
        "DRAINED": (JobCancelledError, "was drained, so what it wrote is not whole"),
        "UPDATED": (JobCancelledError, "was replaced by another"),
    }.get(job.state, (JobFailedError, f"ended as {job.state}"))
    ours = _ours(said)
    if kind is JobFailedError and isinstance(ours, TransientError | DamagedError):
        kind = type(ours)
    reason = str(ours) if ours else consequence(said)
    reason = f": {reason.rstrip('.')}" if reason else ""
    return kind(f"Dataflow job {job.name} {what}{reason}; see {job.url}")


def consequence(said: Sequence[str]) -> str:
    """Return the one of a job's error messages that explains most, in one line; "" where there is none.

    That is our own last sentence, or a worker's last error, or the last that is not Dataflow's summary of the others.
    """
    if ours := _ours(said):
        return str(ours)
    for text in reversed(said):
        if lines := _ERROR_LINE.findall(text):
            return _one_line(re.sub(r" \[while running '[^']*'\]", "", lines[-1]))
    own = [text for text in said if not text.startswith("Workflow failed")] or said
    return _one_line(own[-1]) if own else ""


def _ours(said: Sequence[str]) -> MillraceError | None:
    """Return the last error of ours; one that passes only if it is the last of all.

    An error that comes after it shows that the work was tried again, and failed for another reason.
    """
    last = True
    for text in reversed(said):
        error = in_process.told_in(text)
        if error is not None and (last or not isinstance(error, TransientError)):
            return error
        last = last and not _ERROR_LINE.search(text)
    return None


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:299] + "…"


class _Heard:
    """The last error messages of the job that is watched: of thousands, which are many pages, not all at each look."""

    def __init__(self) -> None:
        self._job = ""
        self._messages: list[Any] = []

    def since(self, job: Job) -> datetime.datetime | None:
        """Return when the first message came that may not have been heard yet; None for the beginning."""
        if self._job != job.id:  # it was replaced
            self._job, self._messages = job.id, []
        return self._messages[-1].time - _LATE if self._messages else None

    def add(self, messages: Iterable[Any]) -> list[str]:
        """Return the texts of the last messages, with these, oldest first."""
        found = {each.id: each for each in (*self._messages, *messages)}
        self._messages = sorted(found.values(), key=lambda each: each.time)[-_KEPT:]
        return [each.message_text for each in self._messages]


def _progress(job: Job, before: Progress | None, heard: _Heard) -> Progress:
    """Return how a job stands; what could not be asked in one try is as it was before."""
    before = (before or Progress(job.state))._replace(state=job.state)
    try:
        with job.google.told(f"read the messages of Dataflow job {job.name}"):
            pages = list(_messages(job, None, heard.since(job)).pages)
            counted = _user_counters(_metrics(job, None))
    except MillraceError:
        return before
    events = sorted((event for page in pages for event in page.autoscaling_events), key=lambda event: event.time)
    return Progress(
        job.state,
        int(events[-1].current_num_workers) if events else before.workers,
        consequence(heard.add(message for page in pages for message in page.job_messages)),
        counted,
    )


def _messages(job: Job, seconds: float | None, since: datetime.datetime | None = None) -> Any:
    return job.google.dataflow.messages.list_job_messages(
        request={**request_of(job), "minimum_importance": "JOB_MESSAGE_ERROR", "start_time": since},
        retry=None if seconds is None else job.google.retry(seconds),
        timeout=TIMEOUT,
    )


def _errors(job: Job, seconds: float) -> list[str]:
    """Return the texts of a job's error messages, oldest first."""
    with job.google.told(f"read the messages of Dataflow job {job.name} ({job.id})"):
        return [message.message_text for message in sorted(_messages(job, seconds), key=lambda each: each.time)]


def _metrics(job: Job, seconds: float | None) -> list[Any]:
    with job.google.told(f"read the metrics of Dataflow job {job.name} ({job.id})"):
        found = job.google.dataflow.metrics.get_job_metrics(
            request=request_of(job), retry=None if seconds is None else job.google.retry(seconds), timeout=TIMEOUT
        )
        return list(found.metrics)


def _user_counters(metrics: Iterable[Any]) -> dict[str, int]:
    """Return the counters of committed work. A distribution's parts come as numbers as well, and are no counters."""
    mine = [m for m in metrics if m.name.origin == "user" and m.name.context.get("tentative") != "true"]
    distributions = {m.name.name for m in mine if m.distribution}
    parts = {f"{name}_{part}" for name in distributions for part in ("MIN", "MAX", "MEAN", "COUNT")}
    found: dict[str, int] = {}
    for metric in mine:
        name, value = metric.name.name, metric.scalar
        if isinstance(value, int | float) and name not in distributions | parts:
            found[name] = found.get(name, 0) + int(value)
    return dict(sorted(found.items()))


def _usage(job: Job, metrics: Iterable[Any]) -> dict[str, float]:
    """Return vcpu_hours, memory_gb_hours, shuffle_gb, and estimated_cost_usd by [dataflow]'s prices.

    Disks, accelerators and network are not in the estimate.
    """
    used = {
        metric.name.name: float(metric.scalar or 0)
        for metric in metrics
        if metric.name.origin == "dataflow/v1b3" and metric.name.context.get("tentative") != "true"
    }
    vcpu = used.get("TotalVcpuTime", 0.0) / 3600  # seconds
    memory = used.get("TotalMemoryUsage", 0.0) / 1024 / 3600  # MB-seconds
    shuffle = used.get("BillableShuffleDataProcessed", 0.0)  # GB
    prices = job.google.config.dataflow
    cost = vcpu * prices.price_vcpu_hour + memory * prices.price_gb_hour + shuffle * prices.price_shuffle_gb
    return {
        "vcpu_hours": round(vcpu, 6),
        "memory_gb_hours": round(memory, 6),
        "shuffle_gb": round(shuffle, 9),
        "estimated_cost_usd": round(cost, 6),
    }

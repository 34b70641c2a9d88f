"""BigQuery's jobs under ids that say what they do: whoever starts the same job again gets the first.

A start whose answer was lost, a second host, and a run after a crash all hear "exists already" (409), and wait for the
job that is there. An id can be used once, and BigQuery remembers it for months. So there has to be a way on from a job
that failed, whose result has gone since, or that another account started, which alone may look at it: the same id with
the next number behind it, ..._2, ..._3. The numbers are gone through in order, so that everybody ends up at the same
job.
"""

import datetime
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from millrace.beam.google_errors import location, passes, reason, said
from millrace.common.polling import Pauses
from millrace.common.tokens import redacted
from millrace.errors import AccessError, Command, MillraceError, QueryError, ServiceError
from millrace.gcloud.clients import Google

if TYPE_CHECKING:
    from google.cloud import bigquery as api

#: What our jobs and tables are labelled with.
LABELS = {"millrace": "true"}
#: Seconds to wait for one answer; the client alone would wait forever.
TIMEOUT = 60.0

_Job = TypeVar("_Job", bound="api.LoadJob | api.ExtractJob | api.QueryJob")
#: Reasons for which a job fails that a new one may not meet.
_PASSING = (
    *("backendError", "internalError", "rateLimitExceeded", "tableUnavailable"),
    *("jobBackendError", "jobInternalError", "jobRateLimitExceeded"),
)
#: Reasons that go away with patience or a later day.
_LATER = ("quotaExceeded", "stopped")


@dataclass(frozen=True)
class Refusal:
    """Why BigQuery does not do a job: its word for it, what it is about, such as a file's URI, and its sentence."""

    reason: str
    location: str
    message: str


_Refused = Callable[[Refusal], MillraceError]


def finish(
    google: Google,
    place: str,
    job_id: str,
    start: Callable[[str], _Job],
    doing: str,
    *,
    still_good: Callable[[_Job], bool],
    refused: _Refused,
) -> _Job:
    """Return the job of this id, started unless it was before, once it has succeeded.

    place: where it runs, as in "EU". start: begins a job under an id. doing: what the job does, as in "load
    a$20261119". still_good: whether the result of a job that this call did not start is there yet. refused: returns the
    error for what is wrong with the job itself. After a job that fails in passing another is started, until [gcp]
    patience has passed since the first. Raises the error of `refused`, AccessError, ServiceError.
    """
    waiting: Pauses | None = None
    with google.told(doing):
        for number in itertools.count(1):
            begun = _begin(google, place, job_id if number == 1 else f"{job_id}_{number}", start, refused)
            if begun is None:
                continue
            job, ours = begun
            old = not ours and job.state == "DONE"
            _wait(google, job)
            error = job.error_result
            if error is None and (ours or still_good(job)):
                return job
            if error is None or old:  # what made an earlier run's job fail may have been mended
                continue
            why = Refusal(
                str(error.get("reason", "")),
                str(error.get("location", "")),
                redacted(" ".join(str(error.get("message", "")).split())),
            )
            # Many jobs that write to one table at once fail by its rate limit, and must not all come back at one
            # moment.
            waiting = waiting or Pauses(0.2, 16.0, google.config.gcp.patience, growth=2.0, spread=0.9)
            if why.reason not in _PASSING or not waiting.pause():
                raise _failure(doing, why, job.job_id, refused)
    raise AssertionError("unreachable")


def _begin(
    google: Google, place: str, job_id: str, start: Callable[[str], _Job], refused: _Refused
) -> tuple[_Job, bool] | None:
    """Return a job, and whether this call started it (False also if it did, but the answer was lost).

    None where there is a job that only another account may look at.
    """
    from google.api_core.exceptions import BadRequest, Conflict, Forbidden

    try:
        return start(job_id), True
    except Conflict:
        try:
            job = google.bigquery.get_job(
                job_id, location=place, retry=google.retry().with_predicate(_appears), timeout=TIMEOUT
            )
        except Forbidden as error:
            if reason(error) != "accessDenied":
                raise
            return None
        return cast("_Job", job), False
    except BadRequest as error:
        raise refused(Refusal(reason(error), location(error), said(error))) from error


def _wait(google: Google, job: "api.LoadJob | api.ExtractJob | api.QueryJob") -> None:
    waiting = Pauses(0.2, 5.0, growth=2.0)
    while job.state != "DONE":
        waiting.pause()
        job.reload(retry=google.retry().with_predicate(_appears), timeout=TIMEOUT)


def _appears(error: Exception) -> bool:
    """Return whether an error passes, or says that a job is not found, which a job that was just created may be."""
    from google.api_core.exceptions import NotFound

    return isinstance(error, NotFound) or passes(error)


def _failure(doing: str, why: Refusal, job_id: str, refused: _Refused) -> MillraceError:
    if why.reason in _PASSING or why.reason in _LATER:
        return ServiceError(
            f"could not {doing}: job {job_id} failed in passing ({why.reason}: {why.message}); run again"
        )
    if why.reason == "accessDenied":
        what = f"could not {doing}: permission is missing ({why.message})"
        return AccessError(what, Command("doctor"), mend="{0} names the role")
    return refused(why)


def parameter(name: str, value: object) -> "api.ScalarQueryParameter":
    """Return a query's parameter with the type that its value has in Python. Raises QueryError for any other."""
    from google.cloud import bigquery as api

    # A bool is an int too, and a datetime a date.
    kinds: dict[type[Any], str] = {
        bool: "BOOL",
        int: "INT64",
        float: "FLOAT64",
        str: "STRING",
        bytes: "BYTES",
        datetime.datetime: "TIMESTAMP",
        datetime.date: "DATE",
    }
    for kind, called in kinds.items():
        if isinstance(value, kind):
            return api.ScalarQueryParameter(name, called, cast("Any", value))
    raise QueryError(f"parameter @{name} is {value!r}, a {type(value).__name__}, which no query takes")

"""What tests of Dataflow jobs share: the pipeline for tests as a job, and who waits for it."""

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

import localcloud
from millrace.runners.dataflow import jobs, reports, submission
from millrace.runners.dataflow.jobs import Job
from millrace.runners.runner import Progress, Ticket
from millrace.tasks import session

ROOT = f"gs://{localcloud.BUCKET}/data"
WHERE = (localcloud.PROJECT, localcloud.REGION)
PLACE = "/".join(WHERE)
#: What sets a setting for a test: section, key, value.
Set = Callable[[str, str, str], None]


@functools.cache
def _numbers() -> Iterator[int]:
    return iter(range(1, 1000))


def new_name() -> str:
    """A job's name that no other test has."""
    return f"millrace-case-{next(_numbers())}"


def submit(
    what: str, value: object, name: str = "", request: str = "r1", waits: Callable[[str], None] = lambda why: None
) -> Job:
    """Submits the pipeline for tests; waits: told why it has to wait for its turn."""
    options = {"input": json.dumps([what, value]), "output": f"{ROOT}/out"}
    return submission.submit(
        session.current().google, "dataflow_case", options, "Etl", Ticket(name or new_name(), request, PLACE), waits
    )


def wait(job: Job, messages: Any = None) -> tuple[Job, list[Progress]]:
    """Waits for a job; it, and what was reported meanwhile."""
    told: list[Progress] = []
    return jobs.wait(job, reports.changes(told.append), messages), told

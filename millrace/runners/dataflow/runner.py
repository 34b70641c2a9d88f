"""Dataflow as a Runner: a run is a job, which outlives the process that submitted it."""

from collections.abc import Callable, Collection, Mapping

from millrace.gcloud.clients import Google
from millrace.runners import beam_options
from millrace.runners.dataflow import jobs, reports, submission
from millrace.runners.in_process import InProcess
from millrace.runners.runner import Job, Messages, Progress, Run, Ticket


class Dataflow:
    """Runner for jobs on Dataflow."""

    outlives = True

    def __init__(self, google: Google) -> None:
        self._google = google

    def check(self, task: str) -> None:
        beam_options.arguments(self._google.config, task)

    def place(self) -> str:
        return "/".join(jobs.place(self._google))

    def preload(self, pipeline: str) -> None:
        submission.preload(self._google)
        InProcess("FnApiRunner", self._google.config).preload(pipeline)

    def start(
        self, pipeline: str, arguments: Mapping[str, str], task: str, ticket: Ticket, waits: Callable[[str], None]
    ) -> jobs.Job:
        return submission.submit(self._google, pipeline, arguments, task, ticket, waits)

    def find(self, ticket: Ticket) -> jobs.Job | None:
        if ticket.id:
            return jobs.get(self._google, ticket.id, jobs.where_of(ticket))
        return jobs.find(self._google, ticket.name, ticket.request_id, jobs.where_of(ticket))

    def look(self, tickets: Collection[Ticket]) -> Mapping[Ticket, jobs.Job]:
        return {
            ticket: job
            for where in {jobs.where_of(ticket) for ticket in tickets}
            for ticket, job in jobs.listed(
                self._google, [ticket for ticket in tickets if jobs.where_of(ticket) == where], where
            ).items()
        }

    def watch(self, job: Job, tell: Callable[[Progress], None], messages: Messages | None = None) -> jobs.Job:
        return jobs.wait(_own(job), reports.changes(tell), messages)

    def stop(self, job: Job, *, wait: bool = True) -> jobs.Job:
        return jobs.cancel(_own(job), wait=wait)

    def result(self, job: Job) -> Run:
        if job.state != "DONE":
            raise reports.failure(_own(job))
        return reports.result(_own(job))


def _own(job: Job) -> jobs.Job:
    assert isinstance(job, jobs.Job)
    return job

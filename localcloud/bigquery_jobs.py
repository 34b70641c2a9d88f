"""The local BigQuery's jobs: their ids, each used once, their locations, and how they ended."""

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from localcloud import bigquery_work
from localcloud.bigquery_catalog import Catalog, Outcome, Work
from localcloud.bigquery_errors import ApiError, only
from localcloud.bigquery_fields import millis
from localcloud.bigquery_files import Objects
from localcloud.bigquery_query import Query
from localcloud.bigquery_tables import Name


@dataclass
class Job:
    """A job. kind: load, query, extract or copy. error: what it failed with. unseen: how often it is still answered
    404.
    """

    project: str
    location: str
    id: str
    kind: str
    configuration: dict[str, Any]
    created: float
    account: str
    outcome: Outcome = field(default_factory=lambda: Outcome({}))
    error: ApiError | None = None
    ended: float = 0.0
    unseen: int = 0
    #: When its work is to be done, and the work, until it is.
    due: float = 0.0
    work: Work | None = None
    #: The script that it is a statement of.
    parent: str = ""

    @property
    def over(self) -> bool:
        """Whether it is done."""
        return self.work is None

    @property
    def name(self) -> str:
        """As messages name it."""
        return f"{self.project}:{self.location}.{self.id}"

    @property
    def reference(self) -> dict[str, str]:
        """As the API names it."""
        return {"projectId": self.project, "location": self.location, "jobId": self.id}

    def resource(self, *, running: bool = False) -> dict[str, Any]:
        """Return the job as the API shows it; running: as if it were not done yet."""
        times = {"creationTime": millis(self.created), "startTime": millis(self.created)}
        shown: dict[str, Any] = {
            "kind": "bigquery#job",
            "id": self.name,
            "jobReference": self.reference,
            "configuration": {**self.configuration, "jobType": self.kind.upper()},
            "user_email": self.account,
        }
        if self.parent:
            times["parentJobId"] = self.parent
        if running or not self.over:
            return {**shown, "status": {"state": "RUNNING"}, "statistics": times}
        status: dict[str, Any] = {"state": "DONE"}
        if self.error:
            problem = {"reason": self.error.reason, "message": self.error.message}
            if self.error.location:
                problem["location"] = self.error.location
            status |= {"errorResult": problem, "errors": [problem]}
        return {
            **shown,
            "status": status,
            "statistics": {**times, "endTime": millis(self.ended), **self.outcome.statistics},
        }


class Jobs:
    """All jobs, in the order of their creation. Callers take turns."""

    def __init__(self, catalog: Catalog, objects: Objects) -> None:
        self._catalog, self._objects = catalog, objects
        self._jobs: dict[tuple[str, str, str], Job] = {}
        self._by_request: dict[str, Job] = {}
        #: The account that asks.
        self.account = "nobody@example.com"
        #: Kind → why its next jobs fail.
        self.failing: dict[str, list[ApiError]] = {}
        #: Where each job and dry run was asked to run, in order; "" for one that did not say.
        self.asked: list[str] = []
        #: Kind → how many seconds its jobs take.
        self.seconds: dict[str, float] = {}
        #: How many times a new job is not found.
        self.unseen = 0

    def all(self) -> list[Job]:
        """Return every job."""
        return list(self._jobs.values())

    def get(self, project: str, location: str | None, job: str) -> Job:
        """Return a job in a location; without one, in US or EU. Raises ApiError for none there."""
        for where in [location.upper()] if location else ["US", "EU"]:
            found = self._jobs.get((project, where, job))
            if found and found.unseen:
                found.unseen -= 1
            elif found:
                return found
        raise ApiError("notFound", f"Not found: Job {project}:{f'{location}.' if location else ''}{job}")

    def run(
        self,
        project: str,
        resource: Mapping[str, Any],
        reference: Mapping[str, str],
        data: bytes | None,
        request_id: str = "",
    ) -> Job:
        """Make a job and do its work. Raises ApiError where there is to be no job.

        resource, reference: the job and its jobReference as in the API. data: what was uploaded with it. request_id: of
        jobs.query; a repeated one gives the job that it already made.
        """
        if request_id in self._by_request:
            return self._by_request[request_id]
        self._catalog.need("bigquery.jobs.create", f"Project {project}")
        configuration = dict(resource.get("configuration", {}))
        only(configuration, "labels jobType load query extract copy", "a job")
        kinds = [kind for kind in ("load", "query", "extract", "copy") if kind in configuration]
        if len(kinds) != 1:
            raise ApiError("invalid", "Exactly one job type must be specified.")
        job_id = reference.get("jobId") or f"job_{uuid.uuid4().hex}"
        if not re.fullmatch(r"[\w-]{1,1024}", job_id, re.ASCII):
            raise ApiError("invalid", f'Invalid job ID "{job_id}".')
        work = bigquery_work.work(self._catalog, self._objects, kinds[0], configuration[kinds[0]], project, data)
        failure: ApiError | None = None
        try:
            location = self._location(reference.get("location"), work.names)
        except ApiError as problem:
            if kinds[0] != "query":
                raise
            # A query's job is made whatever is wrong with it.
            failure, location = problem, reference.get("location") or "US"
        job = Job(project, location, job_id, kinds[0], configuration, time.time(), self.account, unseen=self.unseen)
        key = (project, location.upper(), job_id)
        if key in self._jobs:
            raise ApiError("duplicate", f"Already Exists: Job {job.name}")
        work.check()
        job.error, job.work, job.due = failure, work, job.created + self.seconds.get(job.kind, 0)
        self._jobs[key] = job
        if request_id:
            self._by_request[request_id] = job
        try:
            self.settle()
        except ApiError:
            del self._jobs[key]
            self._by_request.pop(request_id, None)
            raise
        return job

    def settle(self) -> None:
        """Do the work of the jobs whose time has come. Raises ApiError for what a job that takes no time can't do."""
        now = time.time()
        for job in [each for each in self._jobs.values() if each.work and each.due <= now]:
            work, job.work, job.ended = job.work, None, job.due
            if job.error or work is None:
                continue
            try:
                if self.failing.get(job.kind):
                    raise self.failing[job.kind].pop()
                job.outcome = work.run()
            except ApiError as error:
                if error.reason == "notImplemented" and job.due <= job.created:
                    raise
                job.error = error
            if job.due <= job.created:
                job.ended = time.time()
            for number, outcome in enumerate(job.outcome.children):
                self._add_child(job, number, outcome)

    def _add_child(self, script: Job, number: int, outcome: Outcome) -> None:
        id = f"script_job_{script.id}_{number}"
        made = Job(script.project, script.location, id, "query", script.configuration, script.created, script.account)
        made.outcome, made.ended, made.parent = outcome, script.ended, script.id
        self._jobs[script.project, script.location.upper(), id] = made

    def cancel(self, job: Job) -> None:
        """Let a job that is not done do nothing; one that is done stays as it is."""
        if not job.over:
            job.work, job.ended = None, time.time()
            job.error = ApiError("stopped", "Job execution was cancelled: User requested cancellation")

    def delete(self, job: Job) -> None:
        """Forget a job. Raises ApiError for one that is not done."""
        if not job.over:
            raise ApiError("invalid", f"Cannot delete the job {job.name}, which is not done.")
        del self._jobs[job.project, job.location.upper(), job.id]

    def dry_run(self, project: str, config: dict[str, Any], location: str | None) -> dict[str, Any]:
        """Return what a query would read and give, as the job that it would be; config: of the query.

        Raises ApiError.
        """
        self._catalog.need("bigquery.jobs.create", f"Project {project}")
        query = Query(self._catalog, self._objects, config, project)
        where = self._location(location, query.names)
        return {
            "kind": "bigquery#job",
            "jobReference": {"projectId": project, "location": where},
            "configuration": {"dryRun": True, "jobType": "QUERY", "query": config},
            "status": {"state": "DONE"},
            "statistics": {"creationTime": millis(time.time()), **query.estimate().statistics},
        }

    def _location(self, given: str | None, names: Sequence[Name]) -> str:
        """Return where a job runs: where its reference says, or else where the first dataset is.

        Raises ApiError if one is elsewhere.
        """
        found = given or ""
        self.asked.append(found)
        for name in names:
            found = found or self._catalog.dataset(name.project, name.dataset)["location"]
            self._catalog.dataset(name.project, name.dataset, found)
        return found or "US"

"""The local BigQuery's jobs: their ids, each used once, their locations, and how they ended."""

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from localcloud import bigquery_work
from localcloud.bigquery_files import Objects
from localcloud.bigquery_tables import ApiError, Name, millis, only
from localcloud.bigquery_work import Catalog, Outcome, Query


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
        if running:
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
        location = self._location(reference.get("location"), work.names)
        job = Job(project, location, job_id, kinds[0], configuration, time.time(), self.account, unseen=self.unseen)
        key = (project, location.upper(), job_id)
        if key in self._jobs:
            raise ApiError("duplicate", f"Already Exists: Job {job.name}")
        work.check()
        try:
            if self.failing.get(job.kind):
                raise self.failing[job.kind].pop()
            job.outcome = work.run()
        except ApiError as error:
            if error.reason == "notImplemented":
                raise
            job.error = error
        job.ended = time.time()
        self._jobs[key] = job
        if request_id:
            self._by_request[request_id] = job
        return job

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

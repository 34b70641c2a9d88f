"""A local Dataflow: takes DataflowRunner's submissions over REST and really executes them, in processes of their own.

    with Dataflow(storage.worker_url) as dataflow:
        options = ["--runner=DataflowRunner", f"--dataflow_endpoint={dataflow.url}", "--temp_location=gs://…", …]

The API is v1b3's as google-cloud-dataflow-client speaks it: jobs (create, get, update, list, aggregated), messages,
metrics, classic and flex templates. A job's workers are this machine's Python with the libraries that are installed
here and the packages that the job staged; `Life` (localcloud.dataflow_jobs) moves a job from state to state.

Not here: SDKs but Python, requirements.txt, work spread over machines, retries of single bundles (a job runs once,
whole; `tries` gives it more). A streaming job is one that was submitted as such, and may be drained and updated. Where
it reads Pub/Sub, or another unbounded source, it is RUNNING and executes nothing, and a message of it says so.
"""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from google.cloud import dataflow_v1beta3 as api
from google.protobuf import json_format

from localcloud import CREDENTIALS
from localcloud.dataflow_jobs import Job, Life, Workers, new_id, now
from localcloud.dataflow_templates import RefusedError, classic, flex, parsed, template
from localcloud.faults import FaultPlan
from localcloud.serving import Request, Response, Service, error_response, json_response

_ORIGIN = "dataflow/v1b3"
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_REGION = re.compile(r"[a-z]+-[a-z]+[0-9]+")
_DEFAULT_REGION = "us-central1"
_PAGE = 100
#: The permission that a call needs, where that has another name.
_PERMISSIONS = {
    "jobs.aggregated": "jobs.list",
    "jobs.update": "jobs.cancel",
    "templates.launch": "jobs.create",
    "flexTemplates.launch": "jobs.create",
}
#: From the least important to the most; their numbers are in another order.
_IMPORTANCE = [
    f"JOB_MESSAGE_{name}" for name in ("IMPORTANCE_UNKNOWN", "DEBUG", "DETAILED", "BASIC", "WARNING", "ERROR")
]
_PLACE = r"/v1b3/projects/(?P<project>[^/]+)(/locations/(?P<location>[^/]+))?"
_CALLS = [
    (call, method, re.compile(_PLACE + path))
    for call, method, path in (
        ("jobs.create", "POST", "/jobs"),
        ("jobs.list", "GET", "/jobs"),
        ("jobs.aggregated", "GET", "/jobs:aggregated"),
        ("jobs.get", "GET", "/jobs/(?P<job>[^/:]+)"),
        ("jobs.update", "PUT", "/jobs/(?P<job>[^/:]+)"),
        ("messages.list", "GET", "/jobs/(?P<job>[^/:]+)/messages"),
        ("metrics.get", "GET", "/jobs/(?P<job>[^/:]+)/metrics"),
        ("templates.get", "GET", "/templates:get"),
        ("templates.launch", "POST", "/templates:launch"),
        ("flexTemplates.launch", "POST", "/flexTemplates:launch"),
    )
]


class Dataflow(Service):
    """The local Dataflow. For tests there are hold, stick, fail and release, by job names; cancel and replace, by job.

    storage_url: where workers, and the service itself, read gs:// (STORAGE_EMULATOR_HOST).
    at_once: how many jobs run at a time; further ones wait, JOB_STATE_QUEUED.
    tries: how often a job that fails is run.
    duplicates: what answers to a job that is there already, be it the same request again or another one for an active
    job of that name: "answer" with the existing job, or "conflict", 409. Dataflow has been seen to do either.
    unseen: how many times jobs.get answers 404 for a new job.
    unfit: whether jobs that are to replace others fail as incompatible with them, which then go on.
    most, full: how many jobs may be active in a project, and the status with which a further one is refused.
    images: flex templates' images, each by the command that its container would run: it gets --runner, --project,
    --region, --job_name, --dataflow_endpoint and the launch's parameters, and has to submit the job.
    """

    name = "dataflow"

    def __init__(
        self,
        storage_url: str,
        faults: FaultPlan | None = None,
        *,
        at_once: int = 2,
        tries: int = 1,
        duplicates: Literal["answer", "conflict"] = "answer",
        unseen: int = 0,
        images: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(faults)
        self.duplicates = duplicates
        self.unseen = unseen
        self.most, self.full = math.inf, 429
        self.unfit = False
        self.images = images or {}
        #: Permissions that the caller does not have, as in "dataflow.jobs.create"; tests add to them.
        self.denied: set[str] = set()
        #: Every job, in the order of their creation.
        self.jobs: list[Job] = []
        self._storage_url = storage_url
        self.life = Life(self._start_workers, at_once, tries)
        self.hold, self.stick, self.fail = self.life.hold, self.life.stick, self.life.fail
        self.release = self.life.release

    def start(self) -> None:
        self.life.start()
        super().start()

    def stop(self) -> None:
        super().stop()
        self.life.stop()

    def cancel(self, id: str) -> None:
        """Cancel a job, as somebody else would; a job that is over stays what it is."""
        with self.life.changed:
            self.life.ask(self._job(id), "JOB_STATE_CANCELLED")

    def replace(self, id: str) -> Job:
        """Update a job with its own pipeline, as somebody else would; return the job that replaces it."""
        old = self._job(id)
        submitted = api.Job(old.submitted)
        submitted.replace_job_id, submitted.client_request_id = id, f"replaces-{id}"
        return self._create(old.project, old.location, submitted)

    def call_of(self, request: Request) -> str:
        return _route(request)[0]

    def handle(self, request: Request) -> Response:
        call, place = _route(request)
        project, location = place.get("project") or "", place.get("location") or _DEFAULT_REGION
        try:
            if not call:
                raise RefusedError(404, f"the local Dataflow has no {request.method} {request.path}")
            if not _REGION.fullmatch(location):
                raise RefusedError(400, f"{location} is no region of Dataflow")
            permission = f"dataflow.{_PERMISSIONS.get(call, call)}"
            if permission in self.denied:
                raise RefusedError(403, f"Permission '{permission}' denied on resource (or it may not exist).")
            job = self._found(place, call) if "job" in place else None
            return self._answer(call, request, project, location, job)
        except RefusedError as refusal:
            return error_response(refusal.status, str(refusal))

    def _answer(self, call: str, request: Request, project: str, location: str, job: Job | None) -> Response:
        def answer(message: Any) -> Response:
            numbers = "enum-encoding=int" in request.query.get("$alt", "")
            return json_response(json_format.MessageToDict(type(message).pb(message), use_integers_for_enums=numbers))

        if call == "jobs.create":
            submitted = parsed(api.Job, _body(request))
            if replaced := request.query.get("replaceJobId"):
                submitted.replace_job_id = replaced
            return answer(_described(self._create(project, location, submitted)))
        if call in ("jobs.list", "jobs.aggregated"):
            wanted = parsed(api.ListJobsRequest, _query(request))
            return answer(self._listed(wanted, project, "" if call == "jobs.aggregated" else location))
        if call == "templates.get":
            return answer(template(self._storage_url, request.query.get("gcsPath", "")))
        if call == "templates.launch":
            launch = parsed(api.LaunchTemplateParameters, _body(request))
            submitted = classic(self._storage_url, request.query.get("gcsPath", ""), launch)
            made = None if _dry(request.query.get("validateOnly")) else self._create(project, location, submitted)
            return answer(api.LaunchTemplateResponse(job=made and _described(made, summary=True)))
        if call == "flexTemplates.launch":
            wanted = parsed(api.LaunchFlexTemplateRequest, _body(request))
            made = self._launched(project, location, wanted.launch_parameter, dry=wanted.validate_only)
            return answer(api.LaunchFlexTemplateResponse(job=made and _described(made, summary=True)))
        assert job
        if call == "jobs.get":
            view = parsed(api.GetJobRequest, _query(request)).view
            return answer(_described(job, summary=view == api.JobView.JOB_VIEW_SUMMARY))
        if call == "jobs.update":
            return answer(self._updated(job, parsed(api.Job, _body(request))))
        if call == "messages.list":
            return answer(_messages(job, parsed(api.ListJobMessagesRequest, _query(request))))
        return answer(_metrics(job))

    def _job(self, id: str) -> Job:
        return next(job for job in self.jobs if job.id == id)

    def _found(self, place: Mapping[str, str], call: str) -> Job:
        where = (place["project"], place.get("location") or _DEFAULT_REGION, place["job"])
        with self.life.changed:
            for job in self.jobs:
                if (job.project, job.location, job.id) == where:
                    if call == "jobs.get" and job.unseen:
                        job.unseen -= 1
                        break
                    return job
        raise RefusedError(404, f"Information about job {where[2]} could not be found in our system")

    def _launched(self, project: str, location: str, launch: Any, *, dry: bool) -> Job | None:
        """Begin a flex template's job; return None for a dry run."""
        submitted, command = flex(self._storage_url, launch, self.images)
        _check_name(submitted.name)
        place = {"runner": "DataflowRunner", "project": project, "region": location, "job_name": submitted.name}
        command += [f"--{key}={value}" for key, value in {**place, "dataflow_endpoint": self.worker_url}.items()]
        job = Job(new_id(), project, location, submitted, self.unseen, "JOB_STATE_QUEUED", launcher=command)
        if dry:
            return None
        with self.life.changed:
            for other in self.jobs:
                if (other.project, other.location, other.name) == (project, location, job.name) and not other.over:
                    raise RefusedError(409, f"There is already an active job named {job.name}: {other.id}.")
            self.jobs.append(job)
        self.life.begin(job)
        return job

    def _create(self, project: str, location: str, submitted: Any) -> Job:
        _check_name(submitted.name)
        job = Job(new_id(), project, location, submitted, self.unseen)
        temp = str(job.options.get("temp_location", ""))
        if not (
            temp.startswith("gs://") and submitted.environment.temp_storage_prefix.startswith("storage.googleapis.com/")
        ):
            raise RefusedError(400, f"The workflow's temporary location must be a gs:// URL, not {temp!r}.")
        if not str(job.options.get("pipelineUrl", "")).startswith("gs://"):
            raise RefusedError(400, "The job names no staged pipeline (pipelineUrl); legacy steps are not run here.")
        with self.life.changed:
            for other in self.jobs:
                if (other.project, other.location, other.name) != (project, location, job.name):
                    continue
                if not other.over and other.launching:
                    other.submitted = submitted
                    return other
                again = job.client_request_id and other.client_request_id == job.client_request_id
                if not again and (other.over or submitted.replace_job_id == other.id):
                    continue
                if self.duplicates == "answer":
                    return other
                raise RefusedError(
                    409,
                    f"The workflow could not be created. Causes: There is already an active job named {job.name}: "
                    f"{other.id}. If you want to submit a second job, try again by setting a different name.",
                )
            active = sum(other.project == project and not other.over for other in self.jobs)
            if active >= self.most:
                raise RefusedError(
                    self.full,
                    "(a228cd0fe9f70479): The workflow could not be created. Causes: (8ac844dc41db82af): Dataflow quota "
                    f"error for jobs-per-project quota. Project {project} is running {active} jobs. Please check the "
                    "quota usage via GCP Console.",
                )
            if submitted.replace_job_id and self.unfit:
                job.error = "Workflow failed. Causes: The new job is not compatible with the old one, which goes on."
                job.say("JOB_MESSAGE_ERROR", job.error)
                job.state = "JOB_STATE_FAILED"
                self.jobs.append(job)
                return job
            if submitted.replace_job_id:
                self._make_way(job)
            self.jobs.append(job)
        self.life.begin(job)
        return job

    def _make_way(self, job: Job) -> None:
        old = next((each for each in self.jobs if each.id == job.submitted.replace_job_id), None)
        if old is None or old.over or old.name != job.name:
            raise RefusedError(
                400, f"There is no active job {job.submitted.replace_job_id} named {job.name} that could be updated."
            )
        old.replaced_by = job.id
        self.life.ask(old, "JOB_STATE_UPDATED")

    def _updated(self, job: Job, wanted: Any) -> Any:
        asked = api.JobState(wanted.requested_state).name
        state = {"JOB_STATE_DRAINING": "JOB_STATE_DRAINED"}.get(asked, asked)
        with self.life.changed:
            if state not in ("JOB_STATE_CANCELLED", "JOB_STATE_DRAINED"):
                raise RefusedError(400, f"A job cannot be asked to go to {asked}.")
            if job.over:
                raise RefusedError(400, f"Job {job.id} is in the terminal state {job.state}; it cannot be changed.")
            if state == "JOB_STATE_DRAINED" and not job.streaming:
                raise RefusedError(400, f"Job {job.id} is a batch job, which can be cancelled but not drained.")
            if job.asked != "JOB_STATE_CANCELLED":
                self.life.ask(job, state)
            return _described(job)

    def _listed(self, wanted: Any, project: str, location: str) -> Any:
        kinds = api.ListJobsRequest.Filter
        with self.life.changed:
            found = [
                job
                for job in sorted(self.jobs, key=lambda each: each.created, reverse=True)
                if job.project == project
                and location in ("", job.location)
                and wanted.name in ("", job.name)
                and not (wanted.filter == kinds.ACTIVE and job.over)
                and not (wanted.filter == kinds.TERMINATED and not job.over)
            ]
        page, following = _page(found, wanted.page_size, wanted.page_token)
        return api.ListJobsResponse(jobs=[_described(job, summary=True) for job in page], next_page_token=following)

    def _start_workers(self, folder: Path) -> Workers:
        credentials = folder / "credentials.json"
        credentials.write_text(json.dumps(CREDENTIALS), encoding="utf-8")
        environment = {
            "PATH": os.defpath,
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "STORAGE_EMULATOR_HOST": self._storage_url,
            "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
            "NO_GCE_CHECK": "true",
        }
        return Workers(folder, environment)


def _route(request: Request) -> tuple[str, dict[str, str]]:
    for call, method, path in _CALLS:
        if method == request.method and (found := path.fullmatch(request.path)):
            return call, {key: value for key, value in found.groupdict().items() if value}
    return "", {}


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise RefusedError(400, f"The job name {name!r} is invalid: it must match {_NAME.pattern}.")


def _dry(flag: str | None) -> bool:
    return (flag or "").lower() == "true"


def _body(request: Request) -> Any:
    try:
        return request.json()
    except ValueError as problem:
        raise RefusedError(400, f"Invalid JSON payload received. {problem}") from None


def _query(request: Request) -> dict[str, str]:
    return {key: value for key, value in request.query.items() if not key.startswith("$")}


def _page(items: Sequence[Any], size: int, token: str) -> tuple[Sequence[Any], str]:
    """Return a page of a list, and the token of the next one."""
    if token and not token.isdecimal():
        raise RefusedError(400, f"The page token {token!r} is invalid.")
    first = int(token or 0)
    end = first + (size or _PAGE)
    return items[first:end], str(end) if end < len(items) else ""


def _described(job: Job, summary: bool = False) -> Any:
    """Return a job as the API tells of it; a summary leaves out what it was made of."""
    told = api.Job() if summary else api.Job(job.submitted)
    told.id, told.project_id, told.location, told.name = job.id, job.project, job.location, job.name
    told.type_ = job.submitted.type_
    told.current_state = api.JobState.__members__[job.state]
    told.current_state_time, told.create_time = job.entered, job.created
    if job.started:
        told.start_time = job.started
    asked = {"JOB_STATE_DRAINED": "JOB_STATE_DRAINING", "JOB_STATE_UPDATED": ""}.get(job.asked, job.asked)
    if asked:
        told.requested_state = api.JobState.__members__[asked]
    told.replaced_by_job_id = job.replaced_by
    return told


def _messages(job: Job, wanted: Any) -> Any:
    least = _IMPORTANCE.index(api.JobMessageImportance(wanted.minimum_importance).name)
    since, until = wanted.start_time, wanted.end_time
    found = [
        api.JobMessage(
            id=f"{number:020d}",
            time=each.time,
            message_text=each.text,
            message_importance=api.JobMessageImportance.__members__[each.importance],
        )
        for number, each in enumerate(list(job.messages))
        if _IMPORTANCE.index(each.importance) >= least
        and (since is None or each.time >= since)
        and (until is None or each.time < until)
    ]
    page, following = _page(found, wanted.page_size, wanted.page_token)
    events = [
        api.AutoscalingEvent(
            current_num_workers=number,
            target_num_workers=number,
            event_type=api.AutoscalingEvent.AutoscalingEventType.CURRENT_NUM_WORKERS_CHANGED,
            time=time,
        )
        for time, number in list(job.workers)
    ]
    return api.ListJobMessagesResponse(job_messages=page, next_page_token=following, autoscaling_events=events)


def _metrics(job: Job) -> Any:
    """Return each metric twice, as Dataflow has it: committed, and tentative with what the bundles at work have so
    far.
    """
    told = job.metrics
    updates = [
        _update(_ORIGIN, name, {"original_name": f"Service-{original}", **tentative}, scalar=value)
        for tentative in ({}, {"tentative": "true"})
        for (name, original), value in _used(job).items()
    ]
    if job.streaming and not job.over:
        for name, seconds in zip(("system", "data"), job.behind, strict=True):
            # Three stages: one that is behind, one that is not, and one whose watermark is not known yet.
            stages = {"F1": int((now().timestamp() - seconds) * 1e6), "F2": int(now().timestamp() * 1e6), "F3": -1}
            updates += [
                _update(_ORIGIN, f"{stage}-windmill-{name}-watermark", {}, scalar=micros)
                for stage, micros in stages.items()
            ]
    for step, namespace, name, value, committed in told.get("counters", []):
        context = {"namespace": namespace, "step": step} | ({} if committed else {"tentative": "true"})
        updates.append(_update("user", name, context, kind="Sum", scalar=value))
    for step, namespace, name, value, committed in told.get("distributions", []):
        context = {"namespace": namespace, "step": step} | ({} if committed else {"tentative": "true"})
        updates.append(_update("user", name, context, kind="Distribution", distribution=value))
        mean = value["sum"] / value["count"] if value["count"] else 0.0
        for part, number in {**{key: value[key] for key in ("min", "max", "count")}, "mean": mean}.items():
            updates.append(_update("user", f"{name}_{part.upper()}", context, scalar=number))
    return api.JobMetrics(metric_time=now(), metrics=updates)


def _used(job: Job) -> dict[tuple[str, str], float]:
    """Return what Dataflow bills for a job, by the metrics' names: seconds of CPU, MB and GB and seconds of them.

    The worker is taken to have one CPU, and as much memory as the job's process used at most.
    """
    ends = [time for time, _ in list(job.workers)]
    begun, ended = (ends[0], ends[1] if len(ends) > 1 else now()) if ends else (job.created, job.created)
    seconds = (ended - begun).total_seconds()
    memory = math.ceil(job.metrics.get("memory_mb", 0.0))
    shuffled = job.metrics.get("shuffled_bytes", 0) / 2**30
    busy = len(ends) == 1
    return {
        ("CurrentVcpuCount", "cpu_num"): int(busy),
        ("CurrentMemoryUsage", "mem_mb"): memory * busy,
        ("CurrentPdUsage", "pd_gb"): 0,
        ("TotalVcpuTime", "cpu_num_seconds"): math.ceil(seconds),
        ("TotalMemoryUsage", "mem_mb_seconds"): math.ceil(seconds * memory),
        ("TotalPdUsage", "pd_gb_seconds"): 0,
        ("TotalShuffleDataProcessed", "shuffle_service_actual_gb"): shuffled,
        ("BillableShuffleDataProcessed", "shuffle_service_chargeable_gb"): shuffled / 4,
    }


def _update(origin: str, name: str, context: Mapping[str, str], **values: Any) -> Any:
    structured = api.MetricStructuredName(origin=origin, name=name, context=dict(context))
    return api.MetricUpdate(name=structured, cumulative=True, update_time=now(), **values)

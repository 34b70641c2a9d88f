"""A local Dataflow: takes DataflowRunner's submissions over REST and really executes them, in processes of their own.

    with Dataflow(storage.worker_url) as dataflow:
        options = ["--runner=DataflowRunner", f"--dataflow_endpoint={dataflow.url}", "--temp_location=gs://…", …]

The API is v1b3's as google-cloud-dataflow-client speaks it: jobs (create, get, update, list, aggregated), messages,
metrics, classic and flex templates. A job's workers are this machine's Python with the libraries that are installed
here and the packages that the job staged; `Life` (localcloud.dataflow_life) moves a job from state to state.

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
from localcloud.dataflow_checks import (
    RefusedError,
    check_job,
    check_name,
    check_region,
    parsed,
    state_name,
    unsupported,
)
from localcloud.dataflow_environments import unused
from localcloud.dataflow_jobs import Job, Workers, new_id
from localcloud.dataflow_life import Life
from localcloud.dataflow_network import held
from localcloud.dataflow_templates import Image, classic, flex, read, template, write
from localcloud.dataflow_views import described, details, listed, messages, metrics, stage_details
from localcloud.faults import FaultPlan
from localcloud.serving import Request, Response, Service, error_response, json_response

_DEFAULT_REGION = "us-central1"
#: The permission that a call needs, where that has another name.
_PERMISSIONS = {
    "jobs.aggregated": "jobs.list",
    "jobs.getExecutionDetails": "metrics.get",
    "jobs.update": "jobs.cancel",
    "stages.getExecutionDetails": "metrics.get",
    "templates.create": "jobs.create",
    "templates.launch": "jobs.create",
    "flexTemplates.launch": "jobs.create",
}
#: How a job names its temporary files: storage.googleapis.com/BUCKET/OBJECT or BUCKET.storage.googleapis.com/OBJECT.
_TEMPORARY = re.compile(r"storage\.googleapis\.com/[^/]|[^/]+\.storage\.googleapis\.com(/|$)")
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
        ("jobs.getExecutionDetails", "GET", "/jobs/(?P<job>[^/:]+)/executionDetails"),
        ("stages.getExecutionDetails", "GET", "/jobs/(?P<job>[^/:]+)/stages/(?P<stage>[^/:]+)/executionDetails"),
        ("templates.create", "POST", "/templates"),
        ("templates.get", "GET", "/templates:get"),
        ("templates.launch", "POST", "/templates:launch"),
        ("flexTemplates.launch", "POST", "/flexTemplates:launch"),
        ("jobs.snapshot", "POST", "/jobs/[^/:]+:snapshot"),
        ("snapshots.list", "GET", "(/jobs/[^/:]+)?/snapshots"),
        ("snapshots.get", "GET", "/snapshots/[^/:]+"),
        ("snapshots.delete", "DELETE", "/snapshots(/[^/:]+)?"),
        ("workItems.lease", "POST", "/jobs/[^/:]+/workItems:lease"),
        ("workItems.reportStatus", "POST", "/jobs/[^/:]+/workItems:reportStatus"),
        ("debug.getConfig", "POST", "/jobs/[^/:]+/debug/getConfig"),
        ("debug.sendCapture", "POST", "/jobs/[^/:]+/debug/sendCapture"),
        ("debug.getWorkerStacktraces", "POST", "/jobs/[^/:]+/debug/getWorkerStacktraces"),
        ("workerMessages", "POST", "/WorkerMessages"),
    )
] + [
    (f"configStoreSettings.{verb}", method, re.compile(rf"/v1b3/\w+/[^/]+/locations/[^/]+/configStoreSettings{path}"))
    for verb, method, path in (
        ("create", "POST", ""),
        ("list", "GET", ""),
        ("get", "GET", "/[^/:]+"),
        ("delete", "DELETE", "/[^/:]+"),
        ("resolve", "POST", "/[^/:]+:resolve"),
    )
]
#: Calls that are refused by name, each by how it begins, with what the local Dataflow has not.
_REFUSED = {
    "jobs.snapshot": "snapshots: its streaming jobs keep no state",
    "snapshots.": "snapshots: its streaming jobs keep no state",
    "workItems.": "work items: its workers are processes of its own",
    "debug.": "debugging of workers: what they say is in a job's messages",
    "configStoreSettings.": "settings of organizations, folders and projects",
    "workerMessages": "messages of workers: its workers are processes of its own",
}
#: What calls leave out.
_PARTLY = {
    "jobs.create": "A pipeline that Beam's Python SDK staged; not the steps of older SDKs, nor other languages.",
    "jobs.update": "requestedState: JOB_STATE_CANCELLED, and JOB_STATE_DRAINED for a streaming job.",
    "templates.launch": "Templates that are staged in Cloud Storage; no dynamic ones (dynamicTemplate).",
    "flexTemplates.launch": "A spec whose image was given a local program (--image).",
}


class Dataflow(Service):
    """The local Dataflow. For tests: hold, stick, fail, take and release, by job names; cancel and replace, by job.

    storage_url: where workers, and the service itself, read gs:// (STORAGE_EMULATOR_HOST).
    at_once: how many jobs run at a time; further ones wait, JOB_STATE_QUEUED.
    tries: how often a job that fails is run.
    duplicates: what answers to a job that is there already, be it the same request again or another one for an active
    job of that name: "answer" with the existing job, or "conflict", 409. Dataflow has been seen to do either.
    unseen: how many times jobs.get answers 404 for a new job.
    unfit: whether jobs that are to replace others fail as incompatible with them, which then go on.
    most, full: how many jobs may be active in a project, and the status with which a further one is refused.
    images: flex templates' images, each by the Python program that its container would run, or by a command: it gets
    --runner, --project, --region, --job_name, --dataflow_endpoint, --template_location, the launch's parameters and
    what its environment says, as from Google's launcher, and has to run its pipeline with them.
    """

    name = "dataflow"
    api = "dataflow", "v1b3"
    partly = _PARTLY
    refused = _REFUSED

    def __init__(
        self,
        storage_url: str,
        faults: FaultPlan | None = None,
        *,
        at_once: int = 2,
        tries: int = 1,
        duplicates: Literal["answer", "conflict"] = "answer",
        unseen: int = 0,
        images: Mapping[str, Image] | None = None,
    ) -> None:
        super().__init__(faults)
        self.duplicates = duplicates
        self.unseen = unseen
        self.most, self.full = math.inf, 429
        self.unfit = False
        self.images = dict(images or {})
        #: Permissions that the caller does not have, as in "dataflow.jobs.create"; tests add to them.
        self.denied: set[str] = set()
        #: What jobs have in their environment besides, as DATASTORE_EMULATOR_HOST; read when the first one starts.
        self.variables: dict[str, str] = {}
        #: Every job, in the order of their creation.
        self.jobs: list[Job] = []
        self._storage_url = storage_url
        self.life = Life(self._start_workers, at_once, tries, self._take)
        self.hold, self.stick, self.fail = self.life.hold, self.life.stick, self.life.fail
        self.take, self.release = self.life.take, self.life.release

    def start(self) -> None:
        self.life.start()
        with self.life.changed:
            for job in self.jobs:  # of an earlier service
                if not job.over:
                    self.life.resume(job)
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
            for begin, what in _REFUSED.items():
                if call.startswith(begin):
                    raise unsupported(f"{call}, as it has no {what}")
            check_region(location)
            permission = f"dataflow.{_PERMISSIONS.get(call, call)}"
            if permission in self.denied:
                raise RefusedError(403, f"Permission '{permission}' denied on resource (or it may not exist).")
            if "job" in place:
                return self._answer(request, self._of_job(call, request, self._found(place, call), place))
            return self._answer(request, self._of_project(call, request, project, location))
        except RefusedError as refusal:
            return _refused(refusal)

    def _answer(self, request: Request, message: Any) -> Response:
        numbers = "enum-encoding=int" in request.system.get("alt", "")
        return json_response(json_format.MessageToDict(type(message).pb(message), use_integers_for_enums=numbers))

    def _of_project(self, call: str, request: Request, project: str, location: str) -> Any:
        """Answer a call that names no job."""
        if call == "jobs.create":
            submitted = parsed(api.Job, _body(request))
            if replaced := request.query.get("replaceJobId"):
                submitted.replace_job_id = replaced
            return described(self._create(project, location, submitted), api.JobView.JOB_VIEW_ALL)
        if call in ("jobs.list", "jobs.aggregated"):
            wanted = parsed(api.ListJobsRequest, request.query)
            with self.life.changed:
                found = [job for job in self.jobs if job.project == project]
                return listed(found, wanted, "" if call == "jobs.aggregated" else location)
        return self._templates(call, request, project, location)

    def _of_job(self, call: str, request: Request, job: Job, place: Mapping[str, str]) -> Any:
        """Answer a call that names a job."""
        if call == "jobs.get":
            return described(job, parsed(api.GetJobRequest, request.query).view)
        if call == "jobs.update":
            return self._updated(job, _body(request))
        if call == "messages.list":
            return messages(job, parsed(api.ListJobMessagesRequest, request.query))
        if call == "jobs.getExecutionDetails":
            return details(job, parsed(api.GetJobExecutionDetailsRequest, request.query))
        if call == "stages.getExecutionDetails":
            return stage_details(job, place["stage"], parsed(api.GetStageExecutionDetailsRequest, request.query))
        return metrics(job)

    def _templates(self, call: str, request: Request, project: str, location: str) -> Any:
        """Answer a call that makes a job of a template, or tells of one."""
        summary = api.JobView.JOB_VIEW_SUMMARY
        path = request.query.get("gcsPath", "")
        if call == "templates.get":
            return template(self._storage_url, path)
        if call == "templates.create":
            asked = parsed(api.CreateJobFromTemplateRequest, _body(request))
            launch = api.LaunchTemplateParameters(
                job_name=asked.job_name, parameters=asked.parameters, environment=asked.environment
            )
            submitted = self._from_classic(project, location, asked.gcs_path, launch)
            return described(self._create(project, location, submitted, unused(asked.environment)), summary)
        dry = (request.query.get("validateOnly") or "").lower() == "true"
        if call == "templates.launch":
            if request.query.get("dynamicTemplate.gcsPath"):
                raise unsupported("dynamic templates (dynamicTemplate)")
            launch = parsed(api.LaunchTemplateParameters, _body(request))
            submitted = self._from_classic(project, location, path, launch)
            if dry:
                return api.LaunchTemplateResponse()
            made = self._create(project, location, submitted, unused(launch.environment))
            return api.LaunchTemplateResponse(job=described(made, summary))
        wanted = parsed(api.LaunchFlexTemplateRequest, _body(request))
        launched = self._from_flex(project, location, wanted.launch_parameter, dry=wanted.validate_only)
        return api.LaunchFlexTemplateResponse(job=launched and described(launched, summary))

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

    def _from_classic(self, project: str, location: str, uri: str, launch: Any) -> Any:
        """Return the job (api.Job) that a launch of a classic template wants. Raises RefusedError."""
        submitted = classic(self._storage_url, uri, launch, {"project": project, "region": location})
        if launch.update:
            submitted.replace_job_id = self._active(project, location, submitted.name).id
            submitted.transform_name_mapping = launch.transform_name_mapping
        check_job(submitted)
        return submitted

    def _from_flex(self, project: str, location: str, launch: Any, *, dry: bool) -> Job | None:
        """Begin a flex template's job; return None for a dry run."""
        id = new_id()
        place = {"project": project, "region": location, "dataflow_endpoint": self.worker_url}
        found = flex(self._storage_url, launch, self.images, place, id)
        check_name(launch.job_name)
        job = Job(id, project, location, found.job, self.unseen, "JOB_STATE_QUEUED", launch=found)
        if launch.update:
            self._active(project, location, job.name)
        if dry:
            return None
        with self.life.changed:
            for other in self.jobs:
                same = (other.project, other.location, other.name) == (project, location, job.name)
                if same and not other.over and not launch.update:
                    raise RefusedError(409, f"There is already an active job named {job.name}: {other.id}.")
            self._check_quota(project)
            self.jobs.append(job)
        _tell_unused(job, found.unused)
        self.life.begin(job)
        return job

    def _take(self, job: Job, log: str) -> str:
        """Make of a launched job what its launcher wrote; return the error, or ""."""
        assert job.launch
        uri = job.launch.template
        try:
            write(self._storage_url, job.launch.log, log.encode())
            submitted = parsed(api.Job, read(self._storage_url, uri))
            check_job(submitted)
            _check_submitted(submitted)
            submitted.name = job.name
            with self.life.changed:
                if submitted.replace_job_id:
                    self._make_way(job, submitted.replace_job_id)
                job.submitted = submitted
        except RefusedError as refused:
            return f"Failed to read the job file : {uri} with error message: {refused}"
        except OSError as problem:
            return f"Failed to write the console log of the launcher to {job.launch.log}: {problem}"
        return ""

    def _active(self, project: str, location: str, name: str) -> Job:
        """Return the active job of a name. Raises RefusedError."""
        for job in self.jobs:
            if (job.project, job.location, job.name) == (project, location, name) and not job.over:
                return job
        raise RefusedError(400, f"There is no active job named {name} that could be updated.")

    def _create(self, project: str, location: str, submitted: Any, ignored: Sequence[str] = ()) -> Job:
        check_job(submitted)
        _check_submitted(submitted)
        job = Job(new_id(), project, location, submitted, self.unseen)
        with self.life.changed:
            for other in self.jobs:
                if (other.project, other.location, other.name) != (project, location, job.name):
                    continue
                again = job.client_request_id and other.client_request_id == job.client_request_id
                if not again and (other.over or submitted.replace_job_id == other.id):
                    continue
                if self.duplicates == "answer" and job.client_request_id:
                    return other
                raise RefusedError(
                    409,
                    f"The workflow could not be created. Causes: There is already an active job named {job.name}: "
                    f"{other.id}. If you want to submit a second job, try again by setting a different name.",
                )
            self._check_quota(project)
            if submitted.replace_job_id and self.unfit:
                job.error = "Workflow failed. Causes: The new job is not compatible with the old one, which goes on."
                job.say("JOB_MESSAGE_ERROR", job.error)
                job.state = "JOB_STATE_FAILED"
                self.jobs.append(job)
                return job
            if submitted.replace_job_id:
                self._make_way(job, submitted.replace_job_id)
            self.jobs.append(job)
        _tell_unused(job, ignored)
        self.life.begin(job)
        return job

    def _check_quota(self, project: str) -> None:
        active = sum(other.project == project and not other.over for other in self.jobs)
        if active >= self.most:
            raise RefusedError(
                self.full,
                "(a228cd0fe9f70479): The workflow could not be created. Causes: (8ac844dc41db82af): Dataflow quota "
                f"error for jobs-per-project quota. Project {project} is running {active} jobs. Please check the "
                "quota usage via GCP Console.",
            )

    def _make_way(self, job: Job, replaced: str) -> None:
        old = next((each for each in self.jobs if each.id == replaced), None)
        if old is None or old.over or old.name != job.name:
            raise RefusedError(400, f"There is no active job {replaced} named {job.name} that could be updated.")
        old.replaced_by = job.id
        self.life.ask(old, "JOB_STATE_UPDATED")

    def _updated(self, job: Job, asked: Any) -> Any:
        if isinstance(asked, dict) and "requestedState" not in asked:
            raise unsupported(f"update of a job's {', '.join(sorted(asked)) or 'nothing'}; only its requestedState")
        wanted = state_name(parsed(api.Job, asked).requested_state)
        state = {"JOB_STATE_DRAINING": "JOB_STATE_DRAINED"}.get(wanted, wanted)
        with self.life.changed:
            if state not in ("JOB_STATE_CANCELLED", "JOB_STATE_DRAINED"):
                raise RefusedError(400, f"A job cannot be asked to go to {wanted}.")
            if job.over:
                raise RefusedError(400, f"Job {job.id} is in the terminal state {job.state}; it cannot be changed.")
            if state == "JOB_STATE_DRAINED" and not job.streaming:
                raise RefusedError(400, f"Job {job.id} is a batch job, which can be cancelled but not drained.")
            if job.asked != "JOB_STATE_CANCELLED":
                self.life.ask(job, state)
            return described(job, api.JobView.JOB_VIEW_ALL)

    def _start_workers(self, folder: Path) -> Workers:
        site = folder / "site"
        site.mkdir()
        held(site)
        credentials = folder / "credentials.json"
        credentials.write_text(json.dumps(CREDENTIALS), encoding="utf-8")
        environment = {
            "PATH": os.defpath,
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "STORAGE_EMULATOR_HOST": self._storage_url,
            "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
            "NO_GCE_CHECK": "true",
            "PYTHONPATH": str(site),
            **self.variables,
        }
        return Workers(folder, environment)


def _route(request: Request) -> tuple[str, dict[str, str]]:
    for call, method, path in _CALLS:
        if method == request.method and (found := path.fullmatch(request.path)):
            return call, {key: value for key, value in found.groupdict().items() if value}
    return "", {}


def _refused(refusal: RefusedError) -> Response:
    answer = error_response(refusal.status, str(refusal))
    if refusal.details:
        told = json.loads(answer.body)
        told["error"]["details"] = refusal.details
        answer = json_response(told, refusal.status)
    return answer


def _check_submitted(submitted: Any) -> None:
    """Raise RefusedError for a job that names no place for temporary files, or no pipeline."""
    options, prefix = Job("", "", "", submitted).options, submitted.environment.temp_storage_prefix
    if not _TEMPORARY.match(prefix):
        temp = options.get("temp_location", "") or prefix
        raise RefusedError(400, f"The workflow's temporary location must be a gs:// URL, not {temp!r}.")
    if not str(options.get("pipelineUrl", "")).startswith("gs://"):
        raise RefusedError(400, "The job names no staged pipeline (pipelineUrl); legacy steps are not run here.")


def _tell_unused(job: Job, names: Sequence[str]) -> None:
    if names:
        job.say("JOB_MESSAGE_WARNING", f"Of the launch's environment {', '.join(names)} has no effect here.")


def _body(request: Request) -> Any:
    try:
        return request.json()
    except ValueError as problem:
        raise RefusedError(400, f"Invalid JSON payload received. {problem}") from None

"""Submits a pipeline as a Dataflow job: Beam describes and stages it, and it is created under a request id of ours.

All of it happens in a child process. Building and staging takes tens of megabytes, which a process that from then on
only waits would keep; and what Beam changes in a process, such as its logging, ends with the child.
"""

import fcntl
import functools
import importlib
import logging
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

from pipelines.errors import ConflictError, SettingError, TransientError
from pipelines.gcs import split
from workflows.engine import clients, sections
from workflows.engine.child import in_child
from workflows.engine.gcloud import beam_options, dataflow, worker_package
from workflows.engine.gcloud.dataflow import TIMEOUT, Job, Where
from workflows.engine.gcloud.google_calls import retry, told
from workflows.engine.settings import origin

#: Seconds between looks for a job that Dataflow says exists, but does not list yet.
_LISTED_AFTER = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Request:
    """A job to be: its name, a request id of ours, and the project and region."""

    job_name: str
    request_id: str
    where: Where


def submit(module: str, options: Mapping[str, str], task: str, request: Request, root: str) -> Job:
    """Creates the job of a pipeline; the same request twice is the same job, also where that is finished.

    module, options: the pipeline and its own options; task: its name in [dataflow.TASK]; root: the storage, gs://….
    Raises SettingError for options that Beam does not take, ConflictError for a job of that name and another request,
    AccessError, ServiceError, and whatever building the pipeline raises.
    """
    check_root(root)
    own, parent = [f"--{key}={value}" for key, value in options.items()], os.getpid()
    with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
        return in_child(lambda: _submit(module, own, task, request, root.rstrip("/"), folder, parent))


def check_root(root: str) -> None:
    """Raises SettingError for a storage that workers can't reach."""
    if not root.startswith("gs://"):
        raise SettingError(
            f"a Dataflow job can't read {root}, {origin('millrace', 'storage')}; set storage in [millrace] to "
            "gs://BUCKET/PREFIX"
        )


def preload() -> None:
    """Imports what submitting needs, and makes processes that are forked from this one take turns at it."""
    importlib.import_module("apache_beam.runners.dataflow.internal.apiclient")
    beam_options.known()
    _turns()


@functools.cache
def _turns() -> IO[bytes]:
    """A file with no name, of which a process locks a byte while it is its turn; the lock ends with the process."""
    return tempfile.TemporaryFile()


def _submit(module: str, own: Sequence[str], task: str, request: Request, root: str, folder: str, parent: int) -> Job:
    # As many at a time as there are processors: each takes tens of megabytes.
    fcntl.lockf(_turns(), fcntl.LOCK_EX, 1, os.getpid() % (os.cpu_count() or 1))
    clients.credentials()  # Beam looks for them for half a minute and then goes on without
    tempfile.tempdir = folder  # Beam leaves files behind
    proto = _described(module, [*own, *_job_options(task, request, root, folder)])
    proto.client_request_id = request.request_id
    if os.getppid() != parent:
        raise TransientError("whoever wanted this job is gone; the next run decides whether it is still wanted")
    return _create(proto, request)


def _job_options(task: str, request: Request, root: str, folder: str) -> list[str]:
    """The command line of a job, less what is the pipeline's own."""
    project, region = request.where
    gcp, chosen = sections.gcp(), beam_options.arguments(task)
    named = {argument.partition("=")[0] for argument in chosen}
    given = [
        "--runner=DataflowRunner",
        f"--project={project}",
        f"--region={region}",
        f"--job_name={request.job_name}",
        f"--labels=millrace-task={re.sub(r'[^a-z0-9_-]', '-', task.lower())[:63]}",
        "--experiments=disable_logging_submission_environment",  # spares a second of `pip freeze`
    ]
    places = {"--temp_location", "--staging_location"} - named
    given += [f"{each}={root}/_dataflow" for each in sorted(places)]
    if gcp.impersonate:
        given.append(f"--impersonate_service_account={gcp.impersonate}")
    if gcp.kms_key:
        given.append(f"--dataflow_kms_key={gcp.kms_key}")
    if not named & {"--setup_file", "--sdk_container_image"}:
        given.append(f"--extra_package={worker_package.write(folder)}")
    return chosen + given


def _described(module: str, argv: list[str]) -> Any:
    """The job of a pipeline as Beam describes it, what it needs staged. Raises SettingError for what Beam refuses."""
    from apache_beam.options.pipeline_options import TestOptions
    from apache_beam.runners.dataflow.internal import apiclient

    from pipelines.options import run_module

    class Client(apiclient.DataflowApplicationClient):
        """Beam's client, which stages through ours: its own asks for ten minutes for a bucket that isn't there."""

        def stage_file_with_retry(
            self, gcs_or_local_path: str, file_name: str, stream_or_path: Any, *_: Any, **__: Any
        ) -> None:
            _stage(f"{gcs_or_local_path}/{file_name}", stream_or_path)

    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    try:
        job = run_module(module, [*argv, "--dry_run=True"]).job
    except ValueError as error:
        if "validations errors" not in str(error):
            raise
        raise SettingError(f"Beam refuses the job's options: {' '.join(str(error).split())}") from error
    job.options.view_as(TestOptions).dry_run = False
    Client(job.options, job.root_staging_location).create_job_description(job)  # type: ignore[no-untyped-call]
    return job.proto


def _stage(uri: str, source: Any) -> None:
    if isinstance(source, str):
        with open(source, "rb") as stream:
            data = stream.read()
    else:
        data = source.read()
    access = replace(clients.access(), storage_class="")  # what is soon deleted is dear in the cheaper classes
    blob = access.blob(clients.storage_client(), *split(uri))
    with told(f"write {uri}"):
        blob.upload_from_string(data, "application/octet-stream", retry=retry(), timeout=TIMEOUT)


def _create(proto: Any, request: Request) -> Job:
    import google.api_core.exceptions as api

    project, region = request.where
    asked = {"project_id": project, "location": region, "job": proto}
    with told(f"create Dataflow job {request.job_name}"):
        try:
            made = clients.dataflow_clients().jobs.create_job(request=asked, retry=retry(), timeout=TIMEOUT)
        except api.Conflict as error:
            return _existing(request, error.message)
    if made.client_request_id not in ("", request.request_id):
        return _existing(request, f"it is {made.id}, of request {made.client_request_id}")
    return dataflow.job_of(made, request.where)


def _existing(request: Request, said: str) -> Job:
    """The job that Dataflow says exists. Raises ConflictError if it is not of this request."""
    for pause in _LISTED_AFTER:
        time.sleep(pause)
        jobs = dataflow.named(request.job_name, request.where)
        for job in jobs:
            if job.request_id in ("", request.request_id):
                return job
        if jobs:
            break
    raise ConflictError(
        f"there is an active Dataflow job named {request.job_name} already, but not of this run ({said}); wait for its "
        "end or cancel it, then run again"
    )

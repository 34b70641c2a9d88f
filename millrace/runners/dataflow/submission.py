"""Submits a pipeline as a Dataflow job: Beam describes and stages it, and it is created under a request id of ours.

Describing and staging happen in a child process. They take tens of megabytes, which a process that from then on only
waits would keep; and what Beam changes in a process, such as its logging, ends with the child. The job is created by
this process: a child that outlives it creates none.
"""

import contextlib
import fcntl
import functools
import importlib
import logging
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import IO, Any

from millrace.beam.gcs import split
from millrace.beam.google_errors import passes, said
from millrace.common.polling import Pauses
from millrace.core.child import in_child
from millrace.errors import ConflictError, MillraceError, ServiceError, SettingError, TerminalError
from millrace.gcloud.clients import Google
from millrace.runners import beam_options, worker_package
from millrace.runners.dataflow import jobs
from millrace.runners.dataflow.jobs import TIMEOUT, Job
from millrace.runners.runner import Ticket

log = logging.getLogger("millrace")

#: What Dataflow says where a project runs as many jobs as it may; the status with which it does is documented nowhere.
_FULL = re.compile(r"jobs-per-project quota|too many running jobs|limit for active jobs", re.IGNORECASE)


def submit(
    google: Google,
    module: str,
    options: Mapping[str, str],
    task: str,
    ticket: Ticket,
    waits: Callable[[str], None] = lambda why: None,
    *,
    streaming: bool = False,
    replaces: str = "",
) -> Job:
    """Create the job of a pipeline; the same ticket twice is the same job, also where that is finished.

    module, options: the pipeline and its own options; task: its name in [dataflow.TASK]. waits: is told why, once, if
    the job has to wait for its turn. streaming: whether it is a streaming job; replaces: the id of one that it is an
    update of. Raises UpdateRefusedError where Dataflow does not take it for that, SettingError for options that Beam
    does not take, ConflictError for a job of that name and another request, AccessError, ServiceError, also where the
    project ran as many jobs as it may for [dataflow] stuck_after seconds, and whatever building the pipeline raises.
    """
    check_root(google)
    own = [f"--{key}={value}" for key, value in options.items()] + ["--streaming"] * streaming
    with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
        proto = in_child(lambda: _described(google, module, own, task, ticket, folder))
    if replaces:
        proto.replace_job_id = replaces
    return in_turn(google, ticket, lambda: _created(google, proto, ticket), waits)


class UpdateRefusedError(TerminalError):
    """Dataflow does not take a job for an update of another, which goes on as it was."""


def check_root(google: Google) -> None:
    """Raise SettingError for a storage that workers can't reach."""
    if not google.config.storage.startswith("gs://"):
        raise SettingError(
            f"a Dataflow job can't read {google.config.storage}, {google.config.origin('millrace', 'storage')}; set "
            "storage in [millrace] to gs://BUCKET/PREFIX"
        )


def preload(google: Google) -> None:
    """Import what submitting and watching need, before workers fork, so that they share it and take turns at describing
    jobs.
    """
    importlib.import_module("apache_beam.runners.dataflow.internal.apiclient")
    importlib.import_module("millrace.runners.dataflow.reports")
    beam_options.known()
    _turns()
    with contextlib.suppress(MillraceError):  # whoever needs them says so
        _ = google.dataflow


@functools.cache
def _turns() -> IO[bytes]:
    """Return a nameless file, of which a process locks a byte while it is its turn; the lock ends with the process."""
    return tempfile.TemporaryFile()


def _described(google: Google, module: str, own: Sequence[str], task: str, ticket: Ticket, folder: str) -> Any:
    """Return the job to create, as Google's client takes it; what it needs is staged.

    Called in a child process.
    """
    # As many at a time as there are processors, because each takes tens of megabytes.
    fcntl.lockf(_turns(), fcntl.LOCK_EX, 1, os.getpid() % (os.cpu_count() or 1))
    _ = google.credentials  # Beam looks for them for half a minute and then goes on without
    tempfile.tempdir = folder  # Beam leaves files behind
    proto = staged(google, module, [*own, *_job_options(google, module, task, ticket, folder)]).proto
    proto.client_request_id = ticket.request_id
    return proto


def _job_options(google: Google, module: str, task: str, ticket: Ticket, folder: str) -> list[str]:
    """Return the command line of a job, less what is the pipeline's own."""
    given = command_line(google, module, task, ticket.name, jobs.where_of(ticket), folder)
    labels = {"millrace-task": jobs.task_label(task), **google.labels}
    given += [f"--labels={key}={value}" for key, value in labels.items()]
    if account := google.config.gcp.impersonate:
        given.append(f"--impersonate_service_account={account}")
    return given


def command_line(
    google: Google, module: str, task: str, name: str, where: jobs.Where, folder: str, staging: str = ""
) -> list[str]:
    """Return the command line with which Beam describes a module's pipeline to Dataflow, as a job or as a template.

    task: its name in [dataflow.TASK]; name: the job's. folder: where the package of the project's code is written, if
    the job needs one. staging: where all that workers need goes where no setting says; a folder of the storage if "".
    """
    config, chosen = google.config, beam_options.arguments(google.config, task)
    named = {argument.partition("=")[0] for argument in chosen}
    given = [
        "--runner=DataflowRunner",
        f"--project={where[0]}",
        f"--region={where[1]}",
        f"--job_name={name}",
        "--experiments=disable_logging_submission_environment",  # spares a second of `pip freeze`
    ]
    temporary = f"{config.storage}/_dataflow"
    places = {"--staging_location": staging or temporary, "--temp_location": temporary}
    given += [f"{each}={place}" for each, place in places.items() if each not in named]
    if config.gcp.kms_key:
        given.append(f"--dataflow_kms_key={config.gcp.kms_key}")
    if not named & {"--setup_file", "--sdk_container_image"}:
        given.append(f"--extra_package={worker_package.write(folder, module)}")
    return chosen + given


def staged(google: Google, module: str, argv: list[str]) -> Any:
    """Return the job of a pipeline as Beam describes it (internal.apiclient.Job), with what it needs staged.

    Raises SettingError for what Beam refuses.
    """
    from apache_beam.options.pipeline_options import TestOptions
    from apache_beam.runners.dataflow.internal import apiclient

    from millrace.beam.options import run_module

    class Client(apiclient.DataflowApplicationClient):
        """Beam's client, which stages through ours, because its own asks ten minutes for a bucket that isn't there."""

        def stage_file_with_retry(
            self, gcs_or_local_path: str, file_name: str, stream_or_path: Any, *_: Any, **__: Any
        ) -> None:
            _stage(google, f"{gcs_or_local_path}/{file_name}", stream_or_path)

    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    try:
        job = run_module(module, [*argv, "--dry_run=True"]).job
    except ValueError as error:
        if "validations errors" not in str(error):
            raise
        raise SettingError(f"Beam refuses the job's options: {' '.join(str(error).split())}") from error
    job.options.view_as(TestOptions).dry_run = False
    Client(job.options, job.root_staging_location).create_job_description(job)  # type: ignore[no-untyped-call]
    return job


def _stage(google: Google, uri: str, source: Any) -> None:
    if isinstance(source, str):
        with open(source, "rb") as stream:
            data = stream.read()
    else:
        data = source.read()
    access = replace(google.access, storage_class="")  # what is soon deleted is dear in the cheaper classes
    blob = access.blob(google.storage, *split(uri))
    with google.told(f"write {uri}"):
        blob.upload_from_string(data, "application/octet-stream", retry=google.retry(), timeout=TIMEOUT)


def in_turn(google: Google, ticket: Ticket, create: Callable[[], Job], waits: Callable[[str], None]) -> Job:
    """Create a job; where the project runs as many as it may (FullError), as soon as it no longer does."""
    patience = google.config.dataflow.stuck_after
    waiting = jobs.pauses(google, patience)
    while True:
        try:
            return create()
        except FullError as refusal:
            project, _ = jobs.where_of(ticket)
            what = f"project {project} runs as many Dataflow jobs as its quota allows ({refusal})"
            if not waiting.begun:
                log.warning("%s waits for its turn: %s", ticket.name, what)
                waits(f"waits for its turn: {what}")
            if not waiting.pause():
                raise ServiceError(
                    f"could not create Dataflow job {ticket.name}: {what}, and none came to its end within "
                    f"{patience:g} s ([dataflow] stuck_after); run again later, with fewer [core] workers, or "
                    "ask Google for a larger quota of concurrent Dataflow jobs"
                ) from None


class FullError(Exception):
    """The project runs as many jobs as it may; the text is Dataflow's."""


def _created(google: Google, proto: Any, ticket: Ticket) -> Job:
    import google.api_core.exceptions as api

    project, region = jobs.where_of(ticket)
    asked = {"project_id": project, "location": region, "job": proto}
    again = google.retry().with_predicate(lambda error: passes(error) and not full(error))
    with google.told(f"create Dataflow job {ticket.name}"):
        try:
            made = google.dataflow.jobs.create_job(request=asked, retry=again, timeout=TIMEOUT)
        except api.Conflict as error:
            return _existing(google, ticket, said(error))
        except api.GoogleAPICallError as error:
            if full(error):
                raise FullError(said(error)) from None
            if proto.replace_job_id and isinstance(error, api.BadRequest):
                raise UpdateRefusedError(
                    f"Dataflow does not update job {proto.replace_job_id} ({ticket.name}) in place: {said(error)}"
                ) from None
            raise
    if made.client_request_id not in ("", ticket.request_id):
        return _existing(google, ticket, f"it is {made.id}, of request {made.client_request_id}")
    return jobs.job_of(google, made, jobs.where_of(ticket))


def full(error: BaseException) -> bool:
    """Return whether Dataflow refuses a job because the project runs as many as it may."""
    return bool(_FULL.search(str(error)))


def _existing(google: Google, ticket: Ticket, why: str) -> Job:
    """Return the job that Dataflow says exists. Raises ConflictError if the job is not of this request.

    Raises ServiceError if the job is not listed for [gcp] patience seconds, because a list may be behind.
    """
    patience = google.config.gcp.patience
    waiting = Pauses(0.25, google.config.dataflow.poll_max, patience)
    while not (found := jobs.named(google, ticket.name, jobs.where_of(ticket))):
        if not waiting.pause():
            raise ServiceError(
                f"Dataflow says that there is a job named {ticket.name} already ({why}), but has not listed it "
                f"for {patience:g} s ([gcp] patience); run again"
            )
    for job in found:
        if job.request_id in ("", ticket.request_id):
            return job
    raise ConflictError(
        f"there is an active Dataflow job named {ticket.name} already, but not of this run ({why}); wait for its "
        "end or cancel it, then run again"
    )

"""Templates on the local Dataflow, launched by Google's client: classic ones that Beam staged, and flex ones."""

import contextlib
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
import requests
import running
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.transforms.periodicsequence import PeriodicImpulse
from google.api_core import exceptions
from google.cloud import dataflow_v1beta3 as api
from local_dataflow import (
    PATTERNS,
    SAID,
    Started,
    alive,
    create,
    ended,
    get,
    launch_flex,
    matches,
    messages,
    proto,
    read,
    submit,
    write,
)

from localcloud import BUCKET, PROJECT, REGION
from localcloud.dataflow import Dataflow
from localcloud.dataflow_templates import image

#: A flex template's program as Beam's documentation has it: the pipeline runs, and is waited for, at the block's end.
PROGRAM = """
import sys
import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
class Options(PipelineOptions):
    @classmethod
    def _add_argparse_args(cls, parser):
        parser.add_argument("--said", required=True)
        parser.add_argument("--output", required=True)
options = PipelineOptions()
wanted = options.view_as(Options)
with beam.Pipeline(options=options) as pipeline:
    pipeline | beam.Create([wanted.said]) | beam.io.WriteToText(wanted.output)
print("launched", flush=True)
"""


class TemplateOptions(PipelineOptions):
    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        parser.add_value_provider_argument("--said", default="nothing")


def test_a_classic_template_is_launched_with_its_parameters(dataflow: Dataflow) -> None:
    template = f"gs://{BUCKET}/templates/say"

    def build(pipeline: beam.Pipeline) -> None:
        said = pipeline.options.view_as(TemplateOptions).said
        text = pipeline | beam.Create([0]) | beam.Map(lambda _: said.get())
        text | beam.io.WriteToText(f"gs://{BUCKET}/said/classic")

    before = len(dataflow.jobs)
    submit(dataflow, "template", build, f"--template_location={template}")
    assert len(dataflow.jobs) == before
    parameter = {"name": "said", "label": "Said", "helpText": "What to say", "regexes": ["[a-z]+"]}
    write(f"{template}_metadata", json.dumps({"name": "Say", "parameters": [parameter]}).encode())
    client = api.TemplatesServiceClient(transport="rest", client_options={"api_endpoint": dataflow.url})
    where = {"project_id": PROJECT, "location": REGION, "gcs_path": template}
    assert [each.name for each in client.get_template(request=where).metadata.parameters] == ["said"]

    def launch(parameters: dict[str, str], **more: Any) -> Any:
        wanted = {"job_name": "say", "parameters": parameters}
        return client.launch_template(request={**where, "launch_parameters": wanted, **more}).job

    for bad, problem in (({}, "Missing"), ({"said": "1"}, "regex"), ({"said": "a", "x": "y"}, "Unrecognized")):
        with pytest.raises(exceptions.BadRequest, match=problem):
            launch(bad)
    assert not launch({"said": "hello"}, validate_only=True).id
    with pytest.raises(exceptions.NotFound):
        launch({"said": "hello"}, gcs_path=f"{template}-not")
    assert launch({"said": "hello"}).id == dataflow.jobs[-1].id
    assert ended(dataflow.jobs[-1]) == "JOB_STATE_DONE", dataflow.jobs[-1].error
    assert read(f"gs://{BUCKET}/said/classic*") == b"hello\n"


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_of_parameters_are_read_as_re2_reads_them(dataflow: Dataflow, pattern: str) -> None:
    r"""[[:alpha:]] are the letters of ASCII, \p{L} those of all scripts."""
    template = f"gs://{BUCKET}/templates/patterns"
    write(template, b"{}")
    parameter = {"name": "said", "label": "Said", "helpText": "What to say", "regexes": [pattern]}
    write(f"{template}_metadata", json.dumps({"name": "Say", "parameters": [parameter]}).encode())
    client = api.TemplatesServiceClient(transport="rest", client_options={"api_endpoint": dataflow.url})
    where = {"project_id": PROJECT, "location": REGION, "gcs_path": template, "validate_only": True}
    for text, matched in matches(pattern).items():
        wanted = {"job_name": "say", "parameters": {"said": text}}
        refused = pytest.raises(exceptions.BadRequest, match=re.escape(f"said: Unmatched regex {pattern}"))
        with contextlib.nullcontext() if matched else refused:
            client.launch_template(request={**where, "launch_parameters": wanted})


def program(folder: Path, text: str = PROGRAM, name: str = "main.py") -> str:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return str(path)


def test_a_flex_template_runs_the_program_of_its_image(special: Started, tmp_path: Path) -> None:
    """The program is `with beam.Pipeline(…)`, which waits for its job at the block's end: it has none yet."""
    dataflow = special(images={"say:1": program(tmp_path)})
    assert not launch_flex(dataflow, "say:1", SAID, validate_only=True).id
    with pytest.raises(exceptions.BadRequest, match="image"):
        launch_flex(dataflow, "unknown:1", SAID)
    with pytest.raises(exceptions.BadRequest, match="output: Missing") as refused:
        launch_flex(dataflow, "say:1", {"said": "a"})
    assert "output" in str(refused.value.details)
    with pytest.raises(exceptions.BadRequest, match="loud: Unrecognized"):
        launch_flex(dataflow, "say:1", {**SAID, "loud": "yes"})
    # The runner's own options are no business of the template's metadata.
    launched = launch_flex(dataflow, "say:1", {**SAID, "number_of_worker_harness_threads": "3"})
    assert launched.current_state == api.JobState.JOB_STATE_QUEUED
    with pytest.raises(exceptions.Conflict):
        launch_flex(dataflow, "say:1", SAID)
    (job,) = dataflow.jobs
    assert ended(job) == "JOB_STATE_DONE", job.error
    assert job.id == launched.id
    assert job.options["number_of_worker_harness_threads"] == 3
    assert read(f"gs://{BUCKET}/said/flex*") == b"hello\n"
    told = [each.message_text for each in messages(dataflow, job.id)]
    assert job.launch
    assert f"Console log from launcher will be available at {job.launch.log}." in told
    assert b"launched\n" in read(job.launch.log)


def test_a_flex_template_that_makes_no_job_fails_and_says_why(special: Started, tmp_path: Path) -> None:
    dataflow = special(
        images={
            "broken:1": [sys.executable, "-I", program(tmp_path, "raise SystemExit('no such option')")],
            "idle:1": program(tmp_path, "pass", "idle.py"),
            "missing:1": ["/nowhere/python"],
        }
    )
    for name, said in (("broken", "no such option"), ("idle", "Unable to open template file"), ("missing", "nowhere")):
        launch_flex(dataflow, f"{name}:1", SAID)
        assert ended(dataflow.jobs[-1]) == "JOB_STATE_FAILED"
        assert "Template launch failed" in dataflow.jobs[-1].error
        assert said in dataflow.jobs[-1].error


def test_a_launch_can_be_cancelled(special: Started, tmp_path: Path) -> None:
    """While its program still runs, which ends then, with what it started."""
    pid = tmp_path / "pid"
    waits = f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(300)"
    dataflow = special(images={"waits": program(tmp_path, waits)})
    launch_flex(dataflow, "waits", SAID)
    running.wait_for(lambda: pid.exists() and pid.read_text(), 30)
    (job,) = dataflow.jobs
    assert job.state == "JOB_STATE_QUEUED"
    dataflow.cancel(job.id)
    assert ended(job) == "JOB_STATE_CANCELLED"
    running.wait_for(lambda: not alive(int(pid.read_text())), 10)


def test_an_image_is_named_with_its_program(tmp_path: Path) -> None:
    main = program(tmp_path, name="a=b {} c.py")
    assert image(f"gcr.io/p/i:1={main}") == ("gcr.io/p/i:1", main)
    for bad, said in (("gcr.io/p/i", "IMAGE=PROGRAM"), ("=x", "IMAGE=PROGRAM"), ("i=/no/such.py", "/no/such.py")):
        with pytest.raises(ValueError, match=said):
            image(bad)


ENVIRONMENT = {
    "num_workers": 2,
    "max_workers": 3,
    "machine_type": "n2-standard-2",
    "service_account_email": "worker@example.com",
    "network": "net",
    "subnetwork": "regions/us-central1/subnetworks/sub",
    "worker_zone": "us-central1-b",
    "ip_configuration": "WORKER_IP_PRIVATE",
    "additional_experiments": ["tried"],
    "additional_user_labels": {"team": "data"},
    "kms_key_name": "projects/p/locations/l/keyRings/r/cryptoKeys/k",
    "disk_size_gb": 40,
    "streaming_mode": "STREAMING_MODE_AT_LEAST_ONCE",
}


def honoured(job: Any) -> None:
    """Holds that a job has all of ENVIRONMENT."""
    (pool,) = job.environment.worker_pools
    assert (pool.num_workers, pool.autoscaling_settings.max_num_workers) == (2, 3)
    assert (pool.machine_type, pool.network, pool.disk_size_gb) == ("n2-standard-2", "net", 40)
    assert pool.subnetwork == ENVIRONMENT["subnetwork"]
    assert pool.ip_configuration == api.WorkerIPAddressConfiguration.WORKER_IP_PRIVATE
    assert job.environment.worker_zone == "us-central1-b"
    assert job.environment.service_account_email == "worker@example.com"
    assert job.environment.service_kms_key_name == ENVIRONMENT["kms_key_name"]
    assert "tried" in job.environment.experiments
    assert "streaming_mode_at_least_once" in job.environment.service_options
    assert job.labels == {"team": "data"}
    options = job.environment.sdk_pipeline_options["options"]
    assert (options["machine_type"], options["temp_location"][: len(f"gs://{BUCKET}/other")]) == (
        "n2-standard-2",
        f"gs://{BUCKET}/other",
    )


def test_environments_of_launches_are_honoured(special: Started, tmp_path: Path) -> None:
    """Each field is in the job as jobs.get shows it; what has no effect on this machine is named in a message."""
    dataflow = special(images={"say:1": program(tmp_path)})
    environment = {**ENVIRONMENT, "temp_location": f"gs://{BUCKET}/other"}
    launch_flex(dataflow, "say:1", SAID, launch={"environment": {**environment, "launcher_machine_type": "n1"}})
    assert ended(dataflow.jobs[-1]) == "JOB_STATE_DONE", dataflow.jobs[-1].error
    honoured(get(dataflow, dataflow.jobs[-1].id, view=api.JobView.JOB_VIEW_ALL))
    assert any("launcherMachineType has no effect" in each.text for each in dataflow.jobs[-1].messages)
    template = f"gs://{BUCKET}/templates/quiet"
    submit(dataflow, "quiet", lambda pipeline: pipeline | beam.Create([1]), f"--template_location={template}")
    client = api.TemplatesServiceClient(transport="rest", client_options={"api_endpoint": dataflow.url})
    where = {"project_id": PROJECT, "location": REGION}
    wanted = {"job_name": "quiet", "gcs_path": template, "environment": environment}
    dataflow.hold("quiet")
    created = client.create_job_from_template(request={**where, **wanted})
    honoured(get(dataflow, created.id, view=api.JobView.JOB_VIEW_ALL))
    dataflow.cancel(created.id)
    # The regional call's elder, without a location.
    url = f"{dataflow.url}/v1b3/projects/{PROJECT}/templates"
    answer = requests.post(url, json={"jobName": "elder", "gcsPath": template}, timeout=10)
    assert answer.json()["name"] == "elder", answer.text
    assert ended(dataflow.jobs[-1]) == "JOB_STATE_DONE", dataflow.jobs[-1].error


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"max_workers": 1001}, "maxWorkers must be between 1 and 1000"),
        ({"num_workers": -1}, "numWorkers must be between 1 and 1000"),
        ({"num_workers": 5, "max_workers": 4}, "must not be more than maxWorkers"),
        ({"worker_region": "us-central1", "worker_zone": "us-central1-a"}, "mutually exclusive"),
        ({"worker_zone": "nowhere"}, "worker zone 'nowhere'"),
        ({"temp_location": "/tmp"}, "tempLocation must be a valid Cloud Storage URL"),
        ({"additional_user_labels": {"Team": "data"}}, "label 'Team'"),
        ({"additional_user_labels": {"team": "a" * 64}}, "at most 63"),
        ({"additional_user_labels": {f"l{number}": "" for number in range(65)}}, "no more than 64 labels"),
    ],
)
def test_an_environment_that_cannot_be_is_refused(dataflow: Dataflow, environment: dict[str, Any], said: str) -> None:
    template = f"gs://{BUCKET}/templates/never"
    write(template, b"{}")
    client = api.TemplatesServiceClient(transport="rest", client_options={"api_endpoint": dataflow.url})
    wanted = {"job_name": "never", "gcs_path": template, "environment": environment}
    with pytest.raises(exceptions.BadRequest, match=said):
        client.create_job_from_template(request={"project_id": PROJECT, "location": REGION, **wanted})


def test_a_launch_can_update_the_streaming_job_of_its_name(dataflow: Dataflow) -> None:
    template = f"gs://{BUCKET}/templates/ticks"
    flags = ("--streaming", f"--template_location={template}")
    submit(dataflow, "ticks", lambda pipeline: pipeline | PeriodicImpulse(), *flags)
    client = api.TemplatesServiceClient(transport="rest", client_options={"api_endpoint": dataflow.url})

    def launch(**more: Any) -> Any:
        wanted = {"job_name": "ticks", **more}
        where = {"project_id": PROJECT, "location": REGION, "gcs_path": template}
        return client.launch_template(request={**where, "launch_parameters": wanted}).job

    with pytest.raises(exceptions.BadRequest, match="no active job named ticks"):
        launch(update=True)
    first = launch()
    with pytest.raises(exceptions.Conflict):
        launch()
    second = launch(update=True)
    old, new = dataflow.jobs[-2:]
    assert (old.id, new.id, new.submitted.replace_job_id) == (first.id, second.id, first.id)
    assert ended(old) == "JOB_STATE_UPDATED"
    assert old.replaced_by == second.id


def test_what_a_job_unpickles_is_of_the_clouds_own_storage(dataflow: Dataflow, tmp_path: Path) -> None:
    """A pipeline from elsewhere is refused, a staged package from elsewhere too, and one that was changed."""
    made = proto(dataflow, "stranger", "one")
    strange = api.Job(made)
    strange.environment.sdk_pipeline_options["options"]["pipelineUrl"] = str(tmp_path / "pipeline.pb")
    with pytest.raises(exceptions.BadRequest, match="no staged pipeline"):
        create(dataflow, strange)
    url = made.environment.sdk_pipeline_options["options"]["pipelineUrl"]
    staged = beam_runner_api_pb2.Pipeline.FromString(read(url))
    package = beam_runner_api_pb2.ArtifactInformation(
        type_urn=common_urns.artifact_types.URL.urn,
        type_payload=beam_runner_api_pb2.ArtifactUrlPayload(url=str(tmp_path / "x.whl")).SerializeToString(),
        role_payload=beam_runner_api_pb2.ArtifactStagingToRolePayload(staged_name="x.whl").SerializeToString(),
    )
    for environment in staged.components.environments.values():
        environment.dependencies.append(package)
    write(url, staged.SerializeToString())
    create(dataflow, made)
    assert ended(dataflow.jobs[-1]) == "JOB_STATE_FAILED"
    assert "is not the pipeline that was staged" in dataflow.jobs[-1].error
    del made.environment.sdk_pipeline_options["options"]["pipelineProtoHash"]
    made.client_request_id = "two"
    create(dataflow, made)
    assert ended(dataflow.jobs[-1]) == "JOB_STATE_FAILED"
    assert "read what was staged in gs://, not" in dataflow.jobs[-1].error

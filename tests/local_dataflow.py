"""What the tests of the local Dataflow share: submissions through Beam's own runner, and Google's client."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow.compute as pc
import running
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics.metric import Metrics
from apache_beam.options import pipeline_options
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.dataflow.internal import apiclient
from google.cloud import dataflow_v1beta3 as api

from localcloud import BUCKET, PROJECT, REGION
from localcloud.dataflow import Dataflow
from localcloud.dataflow_jobs import Job

Build = Callable[[beam.Pipeline], object]
Started = Callable[..., Dataflow]

#: Parameters of a flex template that says something.
SAID = {"said": "hello", "output": f"gs://{BUCKET}/said/flex"}
#: Patterns of parameters of templates.
PATTERNS = ["[[:alpha:]]+", r"\p{L}+", r"\PL+", r"[\p{L}[:digit:]]+", r"\w+", r"\W+", "a|ab", "^a$"]


def matches(pattern: str) -> dict[str, bool]:
    """Texts, and whether each is wholly as a pattern says: by RE2 itself, which Dataflow has, and Arrow too."""
    texts = ["a", "ab", "é", "Ж", "a1", "1", "a:", "[:alpha:]", "-"]
    found = pc.match_substring_regex(texts, rf"\A(?:{pattern})\z").to_pylist()
    assert set(found) == {True, False}, pattern
    return dict(zip(texts, found, strict=True))


def options(url: str, name: str, *flags: str) -> list[str]:
    return [
        "--runner=DataflowRunner",
        f"--dataflow_endpoint={url}",
        f"--project={PROJECT}",
        f"--region={REGION}",
        f"--job_name={name}",
        f"--temp_location=gs://{BUCKET}/tmp",
        "--experiments=disable_logging_submission_environment",
        *flags,
    ]


def submit(dataflow: Dataflow, name: str, build: Build, *flags: str) -> Any:
    """Submits a pipeline with DataflowRunner; Beam's result."""
    pipeline = beam.Pipeline(options=PipelineOptions(options(dataflow.url, name, *flags)))
    build(pipeline)
    return pipeline.run()


def job_of(dataflow: Dataflow, result: Any) -> Job:
    return next(job for job in dataflow.jobs if job.id == result.job_id())


def ended(job: Job) -> str:
    """The state in which a job ends."""
    running.wait_for(lambda: job.over, 60)
    return job.state


def run(dataflow: Dataflow, name: str, build: Build, *flags: str) -> Job:
    """Submits a pipeline, waits for its end."""
    job = job_of(dataflow, submit(dataflow, name, build, *flags))
    ended(job)
    return job


def numbers(pipeline: beam.Pipeline) -> None:
    pipeline | beam.Create([1, 2, 3]) | beam.Map(lambda number: number)


def sleeper(pipeline: beam.Pipeline) -> None:
    """Counts one element, then takes very long."""

    def sleep(element: int) -> int:
        Metrics.counter("tests", "begun").inc()
        time.sleep(300)
        return element

    pipeline | beam.Create([1]) | beam.Map(sleep)


def jobs_client(dataflow: Dataflow) -> api.JobsV1Beta3Client:
    return api.JobsV1Beta3Client(transport="rest", client_options={"api_endpoint": dataflow.url})


def place(id: str) -> dict[str, str]:
    return {"project_id": PROJECT, "location": REGION, "job_id": id}


def get(dataflow: Dataflow, id: str, **more: Any) -> Any:
    return jobs_client(dataflow).get_job(request={**place(id), **more}, retry=None)


def update(dataflow: Dataflow, id: str, state: str) -> Any:
    request = {**place(id), "job": {"requested_state": state}}
    return jobs_client(dataflow).update_job(request=request, retry=None)


def messages(dataflow: Dataflow, id: str, **more: Any) -> list[Any]:
    client = api.MessagesV1Beta3Client(transport="rest", client_options={"api_endpoint": dataflow.url})
    return list(client.list_job_messages(request={**place(id), **more}))


def metrics(dataflow: Dataflow, id: str) -> list[Any]:
    client = api.MetricsV1Beta3Client(transport="rest", client_options={"api_endpoint": dataflow.url})
    return list(client.get_job_metrics(request=place(id)).metrics)


def read(pattern: str) -> bytes:
    """The bytes of the one file of a pattern."""
    (found,) = FileSystems.match([pattern])[0].metadata_list
    with FileSystems.open(found.path) as stream:
        return bytes(stream.read())


def write(path: str, data: bytes) -> None:
    with FileSystems.create(path) as stream:
        stream.write(data)


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def proto(dataflow: Dataflow, name: str, request_id: str) -> Any:
    """A job as the product submits it: described and staged by Beam, created with a request id of our own."""
    argv = options(dataflow.url, name, "--dry_run=True")
    pipeline = beam.Pipeline(options=PipelineOptions(argv))
    numbers(pipeline)
    result: Any = pipeline.run()
    job = result.job
    job.options.view_as(pipeline_options.TestOptions).dry_run = False
    apiclient.DataflowApplicationClient(job.options, job.root_staging_location).create_job_description(job)
    job.proto.client_request_id = request_id
    return job.proto


def create(dataflow: Dataflow, job: Any, location: str = REGION) -> Any:
    request = {"project_id": PROJECT, "location": location, "job": job}
    return jobs_client(dataflow).create_job(request=request, retry=None)


def launch_flex(dataflow: Dataflow, image: str, parameters: dict[str, str], **more: Any) -> Any:
    """Launches a flex template of an image; the job. spec: more of the template's spec."""
    spec = f"gs://{BUCKET}/templates/flex.json"
    described = {
        "image": image,
        "sdkInfo": {"language": "PYTHON"},
        "metadata": {"name": "Say", "parameters": [{"name": name, "label": name} for name in ("said", "output")]},
        **more.pop("spec", {"defaultEnvironment": {"tempLocation": f"gs://{BUCKET}/tmp"}}),
    }
    write(spec, json.dumps(described).encode())
    wanted = {"job_name": "say", "container_spec_gcs_path": spec, "parameters": parameters, **more.pop("launch", {})}
    client = api.FlexTemplatesServiceClient(transport="rest", client_options={"api_endpoint": dataflow.url})
    return client.launch_flex_template(
        request={"project_id": PROJECT, "location": REGION, "launch_parameter": wanted, **more}
    ).job

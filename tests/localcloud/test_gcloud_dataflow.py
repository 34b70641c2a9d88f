"""gcloud's own commands against the local Dataflow: independent clients, which send what Google's do."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
import running
from local_dataflow import SAID, Started, ended, read, submit

from localcloud import BUCKET, PROJECT, REGION
from localcloud.storage import Storage

#: gcloud takes its time to start.
pytestmark = running.long
Gcloud = Callable[..., Any]
#: As the documentation's own example has it.
PROGRAM = """
import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
class Options(PipelineOptions):
    @classmethod
    def _add_argparse_args(cls, parser):
        parser.add_argument("--said")
        parser.add_argument("--output")
options = PipelineOptions(save_main_session=True)
wanted = options.view_as(Options)
with beam.Pipeline(options=options) as pipeline:
    pipeline | beam.Create([wanted.said]) | beam.io.WriteToText(wanted.output)
"""


@pytest.fixture
def gcloud(storage: Storage, tmp_path: Path) -> Callable[[str], Gcloud]:
    """Makes, of a Dataflow's address, what runs gcloud there and returns what it printed, read as JSON."""
    running.need("gcloud")

    def at(url: str) -> Gcloud:
        def run(*arguments: str, failing: str = "") -> Any:
            ran = subprocess.run(
                ["gcloud", *arguments, "--format=json"],
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(tmp_path),
                    "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"),
                    "CLOUDSDK_CORE_PROJECT": PROJECT,
                    "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
                    "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
                    "CLOUDSDK_API_ENDPOINT_OVERRIDES_DATAFLOW": f"{url}/",
                    "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{storage.url}/storage/v1/",
                },
                capture_output=True,
                text=True,
            )
            if failing:
                assert failing in ran.stderr
                return None
            assert ran.returncode == 0, ran.stdout + ran.stderr
            return json.loads(ran.stdout) if ran.stdout.strip().startswith(("[", "{")) else ran.stderr

        return run

    return at


def test_a_flex_template_is_built_and_run(special: Started, gcloud: Callable[[str], Gcloud], tmp_path: Path) -> None:
    main, metadata = tmp_path / "main.py", tmp_path / "metadata.json"
    main.write_text(PROGRAM)
    parameters = [{"name": name, "label": name, "helpText": name} for name in SAID]
    metadata.write_text(json.dumps({"name": "Say", "parameters": parameters}))
    dataflow = special(images={"gcr.io/p/say:1": str(main)})
    run, spec = gcloud(dataflow.url), f"gs://{BUCKET}/templates/gcloud.json"
    run(
        *("dataflow", "flex-template", "build", spec, "--image=gcr.io/p/say:1", "--sdk-language=PYTHON"),
        *(f"--metadata-file={metadata}", f"--temp-location=gs://{BUCKET}/tmp", "--max-workers=4"),
    )
    output = f"gs://{BUCKET}/said/gcloud"
    launched = run(
        *("dataflow", "flex-template", "run", "say", f"--region={REGION}", f"--template-file-gcs-location={spec}"),
        *(f"--parameters=said=hello,output={output}", "--additional-user-labels=team=data", "--num-workers=2"),
        *(f"--staging-location=gs://{BUCKET}/staging", "--worker-machine-type=n2-standard-2"),
    )["job"]
    (job,) = dataflow.jobs
    assert (launched["id"], launched["currentState"]) == (job.id, "JOB_STATE_QUEUED")
    assert ended(job) == "JOB_STATE_DONE", job.error
    assert read(f"{output}*") == b"hello\n"
    described = run("dataflow", "jobs", "describe", job.id, f"--region={REGION}", "--full")
    (pool,) = described["environment"]["workerPools"]
    assert (pool["machineType"], pool["numWorkers"]) == ("n2-standard-2", 2)
    assert (pool["autoscalingSettings"]["maxNumWorkers"], described["labels"]) == (4, {"team": "data"})
    (listed,) = run("dataflow", "jobs", "list", f"--region={REGION}", "--status=terminated")
    assert (listed["id"], listed["name"], listed["state"], listed["type"]) == (job.id, "say", "Done", "Batch")
    assert [each["id"] for each in run("dataflow", "jobs", "list")] == [job.id]
    assert "environment" not in run("dataflow", "jobs", "describe", job.id, f"--region={REGION}")
    shown = run("dataflow", "jobs", "show", job.id, f"--region={REGION}", "--steps")
    assert "Create/Impulse" in [each["user_name"] for each in shown["steps"]]
    logged = run("beta", "dataflow", "logs", "list", job.id, f"--region={REGION}", "--importance=debug")
    assert [each["messageText"] for each in logged][-1] == "Worker pool stopped."
    metrics = run("beta", "dataflow", "metrics", "list", job.id, f"--region={REGION}")
    assert "TotalVcpuTime" in [each["name"]["name"] for each in metrics]
    run("dataflow", "jobs", "cancel", job.id, f"--region={REGION}", failing="terminal state JOB_STATE_DONE")
    run("dataflow", "snapshots", "list", f"--region={REGION}", failing="no snapshots")


def test_a_classic_template_is_run_and_its_job_cancelled(special: Started, gcloud: Callable[[str], Gcloud]) -> None:
    dataflow = special()
    run, template = gcloud(dataflow.url), f"gs://{BUCKET}/templates/gcloud-classic"

    def build(pipeline: beam.Pipeline) -> None:
        pipeline | beam.Create([1])

    submit(dataflow, "template", build, f"--template_location={template}")
    dataflow.hold("*")
    flags = (f"--gcs-location={template}", f"--region={REGION}", "--max-workers=3", "--worker-zone=us-central1-b")
    made = run("dataflow", "jobs", "run", "classic", *flags)
    (job,) = dataflow.jobs
    assert (made["id"], made["name"]) == (job.id, "classic")
    described = run("dataflow", "jobs", "describe", job.id, f"--region={REGION}", "--full")
    assert described["environment"]["workerZone"] == "us-central1-b"
    run("dataflow", "jobs", "run", "classic", *flags, failing="already an active job named classic")
    run("dataflow", "jobs", "drain", job.id, f"--region={REGION}", failing="batch job")
    run("dataflow", "jobs", "cancel", job.id, f"--region={REGION}")
    assert ended(job) == "JOB_STATE_CANCELLED"

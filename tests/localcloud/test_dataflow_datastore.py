"""Beam's own Datastore I/O inside jobs of the local Dataflow, served by Google's emulator."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
import running
from apache_beam.io.gcp.datastore.v1new.datastoreio import DeleteFromDatastore, ReadFromDatastore, WriteToDatastore
from apache_beam.io.gcp.datastore.v1new.types import Query
from local_dataflow import Started, messages, read, run

from localcloud import BUCKET, PROJECT
from localcloud.dataflow import Dataflow

_JAR = "platform/cloud-datastore-emulator/CloudDatastore.jar"
_MAIN = "com.google.cloud.datastore.emulator.CloudDatastore"


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[str]:
    """Where Google's emulator listens."""
    gcloud = shutil.which("gcloud")
    if not (running.WHOLE and gcloud and shutil.which("java")):
        pytest.skip("`make test-all` starts the emulator, where gcloud and Java are")
    asked = subprocess.run([gcloud, "info", "--format=value(installation.sdk_root)"], capture_output=True, text=True)
    jar = Path(asked.stdout.strip()) / _JAR
    if not jar.is_file():
        pytest.skip("the Cloud SDK has no Datastore emulator")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--host=127.0.0.1", f"--port={port}", "--store_on_disk=False", "--consistency=1.0", str(tmp_path)]
    process = subprocess.Popen(
        ["java", "-cp", str(jar), _MAIN, "start", *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def answers() -> bool:
        with socket.socket() as asking:
            return asking.connect_ex(("127.0.0.1", port)) == 0

    try:
        running.wait_for(answers, 30)
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait()


def test_entities_are_written_read_and_deleted(special: Started, emulator: str) -> None:
    dataflow = special()
    dataflow.variables |= {"DATASTORE_EMULATOR_HOST": emulator, "DATASTORE_PROJECT_ID": PROJECT}
    words = ["king", "lear"]

    def entity(name: str) -> Any:
        from apache_beam.io.gcp.datastore.v1new.types import Entity, Key

        made = Entity(Key(["Word", name], project=PROJECT))
        made.set_properties({"length": len(name)})
        return made

    def write(pipeline: beam.Pipeline) -> None:
        pipeline | beam.Create(words) | beam.Map(entity) | WriteToDatastore(PROJECT, throttle_rampup=False)

    def tell(pipeline: beam.Pipeline) -> None:
        found = pipeline | ReadFromDatastore(Query(kind="Word", project=PROJECT))
        names = found | beam.Map(lambda each: f"{each.key.path_elements[-1]} {each.properties['length']}")
        names | beam.io.WriteToText(f"gs://{BUCKET}/datastore/words", shard_name_template="")

    def delete(pipeline: beam.Pipeline) -> None:
        found = pipeline | ReadFromDatastore(Query(kind="Word", project=PROJECT))
        found | beam.Map(lambda each: each.key) | DeleteFromDatastore(PROJECT, throttle_rampup=False)

    for name, build, said in (
        ("write", write, None),
        ("tell", tell, ["king 4", "lear 4"]),
        ("delete", delete, None),
        ("tell", tell, []),
    ):
        job = run(dataflow, name, build)
        assert job.state == "JOB_STATE_DONE", job.error
        if said is not None:
            assert sorted(read(f"gs://{BUCKET}/datastore/words").decode().splitlines()) == said


def test_without_an_emulator_datastore_is_refused_by_name(dataflow: Dataflow) -> None:
    def build(pipeline: beam.Pipeline) -> None:
        pipeline | ReadFromDatastore(Query(kind="Word", project=PROJECT))

    job = run(dataflow, "nobody", build)
    assert job.state == "JOB_STATE_FAILED"
    told = "\n".join(each.message_text for each in messages(dataflow, job.id))
    assert "batch-datastore.googleapis.com, port 443, was asked for" in told
    assert "reached where DATASTORE_EMULATOR_HOST names one" in told

"""Beam's own Datastore I/O inside jobs of the local Dataflow, served by Google's emulator."""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pytest
import running
from apache_beam.io.gcp.datastore.v1new.datastoreio import DeleteFromDatastore, ReadFromDatastore, WriteToDatastore
from apache_beam.io.gcp.datastore.v1new.types import Query
from local_dataflow import Started, messages, read, run

from localcloud import BUCKET, PROJECT
from localcloud.dataflow import Dataflow
from localcloud.emulators import Emulator


@pytest.fixture
def emulator() -> Iterator[str]:
    """Where Google's emulator listens."""
    running.need_emulator("datastore")
    with Emulator("datastore") as started:
        yield started.host


@running.long
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

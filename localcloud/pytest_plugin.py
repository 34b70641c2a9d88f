"""Fixtures of pytest for tests in the local cloud; installing millrace[localcloud] is enough to have them.

def test_words(place):
    with beam.Pipeline(options=PipelineOptions(place.options())) as pipeline:
        pipeline | beam.Create(["king", "lear"]) | beam.io.WriteToText(f"{place.uri}/words")
    assert sorted(place.lines("words*")) == ["king", "lear"]
"""

import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from localcloud import FaultPlan, LocalCloud


@dataclass(frozen=True)
class Place:
    """A part of the cloud that a test has for itself: a folder of the bucket, and an empty dataset.

    uri: the folder, as in gs://bucket/test_words-1. dataset: its name, without the project.
    """

    cloud: "LocalCloud"
    project: str
    region: str
    uri: str
    dataset: str

    def options(self, *more: str) -> list[str]:
        """Return the options with which a Beam pipeline runs as a Dataflow job here, and further ones."""
        return [
            "--runner=DataflowRunner",
            f"--dataflow_endpoint={self.cloud.dataflow.url}",
            f"--project={self.project}",
            f"--region={self.region}",
            f"--temp_location={self.uri}/temp",
            *more,
        ]

    def names(self, pattern: str = "**") -> list[str]:
        """Return the objects of the folder that match a pattern, as in "words*" or "**/part-?", without the folder."""
        bucket, _, prefix = self.uri.removeprefix("gs://").partition("/")
        with _storage() as client:
            found = client.list_blobs(bucket, prefix=f"{prefix}/", match_glob=f"{prefix}/{pattern}")
            return [blob.name.removeprefix(f"{prefix}/") for blob in found]

    def read(self, name: str) -> bytes:
        """Return what an object of the folder holds."""
        bucket, _, prefix = self.uri.removeprefix("gs://").partition("/")
        with _storage() as client:
            return bytes(client.bucket(bucket).blob(f"{prefix}/{name}").download_as_bytes())

    def write(self, name: str, data: bytes | str) -> str:
        """Write an object of the folder; return its URI."""
        bucket, _, prefix = self.uri.removeprefix("gs://").partition("/")
        with _storage() as client:
            client.bucket(bucket).blob(f"{prefix}/{name}").upload_from_string(data)
        return f"{self.uri}/{name}"

    def lines(self, pattern: str) -> list[str]:
        """Return the lines of all objects of the folder that match a pattern."""
        return [line for name in self.names(pattern) for line in self.read(name).decode().splitlines()]

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the rows of a table of the dataset."""
        return self.cloud.bigquery.rows(f"{self.dataset}.{table}")


@pytest.fixture(scope="session")
def local_cloud() -> Iterator["LocalCloud"]:
    """Start the local cloud, one for all tests; while it is there, its variables are in os.environ."""
    from localcloud import LocalCloud

    before = dict(os.environ)
    with LocalCloud() as cloud:
        os.environ.update(cloud.environment())
        try:
            yield cloud
        finally:
            for name in cloud.environment():
                if name in before:
                    os.environ[name] = before[name]
                else:
                    os.environ.pop(name, None)


@pytest.fixture
def place(local_cloud: "LocalCloud", request: pytest.FixtureRequest) -> Place:
    """Make a folder of the bucket and a dataset of this test's own."""
    from localcloud import BUCKET, LOCATION, PROJECT, REGION

    test = re.sub(r"\W+", "_", request.node.name, flags=re.ASCII).strip("_")[:60]
    name = f"{test}_{uuid.uuid4().hex[:8]}"  # tests of several files have one name, and a test may run twice
    local_cloud.bigquery.create_dataset(name, LOCATION)
    return Place(local_cloud, PROJECT, REGION, f"gs://{BUCKET}/{name}", name)


@pytest.fixture
def faults(local_cloud: "LocalCloud") -> Iterator["FaultPlan"]:
    """Return the plan of what goes wrong in the cloud during this test: nothing unless the test says so, as in
    `faults.at(3, Fault("lost"), call="jobs.insert")`.
    """
    local_cloud.faults.clear()
    yield local_cloud.faults
    local_cloud.faults.clear()


def _storage() -> Any:
    from google.cloud import storage

    return storage.Client()

"""What is wrong with a cloud is one clear error, before any job where it can be known before; and nothing is lost.

All cases are tried in one place, in which an earlier day is complete. Each asks for the Report of the next day, which
shares with it the day before.
"""

import dataclasses
import datetime
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cloud_running
import google.cloud.bigquery as bigquery_api
import pytest
import running
from cloud import BUCKET, CREDENTIALS, PROJECT, Cloud
from cloud.projects import Projects
from cloud_running import Place
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from luigid_asking import listed
from running import DAY, Ran

from pipelines.posts.tables import TABLES

BEFORE = DAY - datetime.timedelta(days=1)
LAUNCHER = f"launcher@{PROJECT}.iam.gserviceaccount.com"
WORDS = [f"{name} {kind}" for name, kind in TABLES["word_counts"].columns.items()]


@dataclass
class World:
    """The place, and what a case changes about it."""

    place: Place
    projects: Projects
    folder: Path
    #: Variables of the processes; none of that name where it is "".
    env: dict[str, str] = field(default_factory=dict)

    @property
    def cloud(self) -> Cloud:
        return self.place.cloud

    def run(self, *flags: object, task: str = "Report") -> Ran:
        """The run that the case is about."""
        home = {"HOME": str(self.folder), "CLOUDSDK_CONFIG": str(self.folder), "NO_GCE_CHECK": "true"}
        env = {**self.place.environment, **self.projects.environment(), **home, **self.env}
        return running.run(
            running.command(task, "--date", DAY, *(("--days", 1) if task == "Report" else ()), *flags),
            self.place.folder,
            {name: value for name, value in env.items() if value},
        )

    def kept(self) -> dict[str, str]:
        """What must not change: every object but the ledger's, and every table, each with its version."""
        blobs = cloud_running.bucket(self.cloud).list_blobs()
        found = {blob.name: str(blob.generation) for blob in blobs if f"{self.place.name}/_jobs/" not in blob.name}
        with self.place.bigquery() as client:
            for dataset in client.list_datasets():
                for table in client.list_tables(dataset.reference):
                    there = client.get_table(table.reference)
                    found[str(there.reference)] = f"{there.etag} {there.num_rows}"
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place in which the Report of the day before is complete."""
    with Cloud() as cloud:
        place = Place(cloud, tmp_path_factory.mktemp("place"))
        place.succeed("Report", "--date", BEFORE, "--days", 1, "--millrace-runner", "FnApiRunner")
        cloud.bigquery.create_dataset("european", "EU")
        cloud.storage.create_bucket("european", "EU")
        yield place


@pytest.fixture
def world(place: Place, tmp_path: Path) -> Iterator[World]:
    """The place, with nothing wrong; and again afterwards."""
    config = place.config.read_text(encoding="utf-8")
    with Projects() as projects:
        yield World(place, projects, tmp_path)
    place.config.write_text(config, encoding="utf-8")
    cloud = place.cloud
    cloud.faults.clear()
    cloud.storage.denied.clear()
    cloud.dataflow.denied.clear()
    cloud.bigquery.allow(*DENIED)

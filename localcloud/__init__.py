"""Google Cloud on this machine: `Cloud` starts Cloud Storage, BigQuery and Dataflow for tests and for the command
`localcloud`.

    with Cloud() as cloud:
        subprocess.run(command, env={**os.environ, **cloud.environment()})
        cloud.faults.at(1, Fault("lost"), call="jobs.insert")

Modules: `serving` (the floor of the services), `faults` (what goes wrong), and one for each service.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import requests

from localcloud.faults import FaultPlan

if TYPE_CHECKING:
    from localcloud.serving import Answered

PROJECT = "millrace-test"
BUCKET = "millrace-test"
DATASET = "millrace"
REGION = "us-central1"
LOCATION = "US"

#: Credentials that look good until 2099, so that nobody asks Google for better ones.
CREDENTIALS = {
    "type": "authorized_user",
    "client_id": "x",
    "client_secret": "x",
    "refresh_token": "x",
    "token": "fake",
    "expiry": "2099-01-01T00:00:00Z",
}


class Cloud:
    """The services with one fault plan, one bucket and one dataset; a context manager."""

    def __init__(self) -> None:
        # A Dataflow job's process imports this package too, and has no need of DuckDB and the rest.
        from localcloud.bigquery import BigQuery
        from localcloud.dataflow import Dataflow
        from localcloud.projects import Projects
        from localcloud.storage import Storage

        self.faults = FaultPlan()
        self.storage = Storage(self.faults)
        self.bigquery = BigQuery(storage_url=self.storage.worker_url, faults=self.faults)
        self.dataflow = Dataflow(storage_url=self.storage.worker_url, faults=self.faults)
        self.projects = Projects(faults=self.faults)
        self._stack = contextlib.ExitStack()
        self._folder = ""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._folder = stack.enter_context(tempfile.TemporaryDirectory())
            with open(self._credentials, "w") as file:
                json.dump(CREDENTIALS, file)
            for service in (self.storage, self.bigquery, self.dataflow, self.projects):
                stack.enter_context(service)
            self.storage.create_bucket(BUCKET, LOCATION)
            requests.post(
                f"{self.bigquery.worker_url}/bigquery/v2/projects/{PROJECT}/datasets",
                json={"datasetReference": {"projectId": PROJECT, "datasetId": DATASET}, "location": LOCATION},
                timeout=10,
            ).raise_for_status()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.close()

    @property
    def requests(self) -> "list[Answered]":
        """What Cloud Storage, BigQuery and Dataflow have answered, one service after the other."""
        return self.storage.requests + self.bigquery.requests + self.dataflow.requests

    @property
    def effects(self) -> int:
        """How many of those requests changed anything, or would have but for a fault."""
        return sum(each.effect for each in self.requests)

    @property
    def _credentials(self) -> str:
        return os.path.join(self._folder, "credentials.json")

    def environment(self) -> Mapping[str, str]:
        """Return the variables with which Google's clients and Beam find this cloud."""
        return {
            "STORAGE_EMULATOR_HOST": self.storage.url,
            "BIGQUERY_EMULATOR_HOST": self.bigquery.url,
            "GOOGLE_APPLICATION_CREDENTIALS": self._credentials,
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            **self.projects.environment(),
        }

    def settings(self) -> str:
        """Return the sections of a luigi.cfg with which Millrace works in this cloud."""
        return f"""\
[millrace]
storage = gs://{BUCKET}/data
warehouse = bigquery://{PROJECT}/{DATASET}
runner = DataflowRunner

[gcp]
project = {PROJECT}
region = {REGION}

[dataflow]
dataflow_endpoint = {self.dataflow.url}
poll_max = 1
"""

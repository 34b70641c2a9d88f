"""Google Cloud on this machine: `LocalCloud` starts Cloud Storage, BigQuery and Dataflow for tests and for the command
`localcloud`.

    with LocalCloud() as cloud:
        subprocess.run(command, env={**os.environ, **cloud.environment()})
        cloud.faults.at(1, Fault("lost"), call="jobs.insert")

Modules: `serving` (the floor of the services), `faults` (what goes wrong), one or several for each service, and
`pytest_plugin`, whose fixtures any project's tests have once this package is installed.
"""

import contextlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from localcloud.faults import Fault, FaultPlan

if TYPE_CHECKING:
    from localcloud.serving import Answered

__all__ = ["BUCKET", "DATASET", "LOCATION", "PROJECT", "REGION", "Fault", "FaultPlan", "LocalCloud"]

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


class LocalCloud:
    """The services with one fault plan, one bucket and one dataset; a context manager.

    images: flex templates' images, each by the Python program, or the command, that its container would run.
    emulators: of Google's emulators, "pubsub" and "datastore", those to have beside; those that this machine has unless
    they are named. Each starts when its first client connects.
    keep: a folder in which what is stored stays for the next time; without one everything is in memory. A ValueError
    says what is the matter with a folder that can't be used.
    """

    def __init__(
        self,
        *,
        images: Mapping[str, str | Sequence[str]] | None = None,
        emulators: Sequence[str] | None = None,
        keep: str | Path | None = None,
    ) -> None:
        # A Dataflow job's process imports this package too, and has no need of DuckDB and the rest.
        from localcloud.bigquery import BigQuery
        from localcloud.dataflow import Dataflow
        from localcloud.emulators import Emulator, available
        from localcloud.page import Page
        from localcloud.projects import Projects
        from localcloud.storage import Storage

        self.faults = FaultPlan()
        self.storage = Storage(self.faults)
        self.bigquery = BigQuery(storage_url=self.storage.worker_url, faults=self.faults)
        self.dataflow = Dataflow(storage_url=self.storage.worker_url, faults=self.faults, images=images)
        self.projects = Projects(faults=self.faults)
        self._page = Page(self.storage, self.bigquery, self.dataflow)
        self._keeper = None
        if keep is not None:
            from localcloud.keeping import Keeper, folder

            self._keeper = Keeper(folder(keep))
        self._emulators = [
            Emulator(name, self._keeper.emulators / name if self._keeper else None)
            for name in (available() if emulators is None else emulators)
        ]
        self._stack = contextlib.ExitStack()
        self._environment: dict[str, str] = {}

    def __enter__(self) -> Self:
        from localcloud import sdk

        with contextlib.ExitStack() as stack:
            if self._keeper:
                stack.callback(self._keeper.stop)
                self._keeper.start(self.storage, self.bigquery, self.dataflow)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="localcloud-")))
            for emulator in self._emulators:
                stack.enter_context(emulator)
            for service in (self.storage, self.bigquery, self.dataflow, self.projects, self._page):
                stack.enter_context(service)
            self.dataflow.variables["BIGQUERY_EMULATOR_HOST"] = self.bigquery.worker_url
            if BUCKET not in self.storage.store.buckets:
                self.storage.create_bucket(BUCKET, LOCATION)
            if (PROJECT, DATASET) not in self.bigquery.catalog.datasets:
                self.bigquery.create_dataset(DATASET, LOCATION)
            credentials = folder / "credentials.json"
            credentials.write_text(json.dumps(CREDENTIALS), encoding="utf-8")
            beside: dict[str, str] = {}
            for emulator in self._emulators:
                beside |= emulator.environment()
            self.dataflow.variables |= beside
            self._environment = {
                "STORAGE_EMULATOR_HOST": self.storage.url,
                "BIGQUERY_EMULATOR_HOST": self.bigquery.url,
                "DATAFLOW_EMULATOR_HOST": self.dataflow.url,
                "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
                "GOOGLE_CLOUD_PROJECT": PROJECT,
                **beside,
                **self.projects.environment(),
                **sdk.environment(
                    folder,
                    self.storage.url,
                    self.bigquery.url,
                    self.dataflow.url,
                    beside.get("PUBSUB_EMULATOR_HOST", ""),
                ),
            }
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.close()

    @property
    def page(self) -> str:
        """Where a browser on this machine sees what there is: buckets, tables, jobs."""
        return self._page.url

    @property
    def requests(self) -> "list[Answered]":
        """What Cloud Storage, BigQuery and Dataflow have answered, one service after the other."""
        return self.storage.requests + self.bigquery.requests + self.dataflow.requests

    @property
    def effects(self) -> int:
        """How many of those requests changed anything, or would have but for a fault."""
        return sum(each.effect for each in self.requests)

    def environment(self) -> Mapping[str, str]:
        """Return the variables with which Google's clients, gcloud, bq and Beam find this cloud.

        Beam's DataflowRunner alone has no variable; it takes --dataflow_endpoint, and here DATAFLOW_EMULATOR_HOST says
        which.
        """
        return dict(self._environment)

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

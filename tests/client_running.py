"""What the measure's tests share: programs that run in the local cloud, and what they leave there."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google.cloud.bigquery as bigquery_api
import google.cloud.storage as storage_api
import running
from google.auth.credentials import AnonymousCredentials

from localcloud import BUCKET, PROJECT, REGION, LocalCloud


@dataclass
class Given:
    """The cloud as one test sees it. name: of its own, for jobs, prefixes and tables."""

    cloud: LocalCloud
    folder: Path
    name: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a program that runs in the cloud; nothing of this user's own settings for Google."""
        plain = {key: value for key, value in os.environ.items() if not key.startswith(("CLOUDSDK", "GOOGLE", "LUIGI"))}
        return {**plain, **self.cloud.environment()}

    def gs(self, path: str = "") -> str:
        """Where something of the test's own lies."""
        return f"gs://{BUCKET}/{self.name}/{path}"

    def table(self, name: str) -> str:
        """The name of a table of the test's own, without its dataset."""
        return f"{self.name}_{name}".replace("-", "_")

    @property
    def storage(self) -> Any:
        """Google's own client of Cloud Storage."""
        return storage_api.Client(
            PROJECT,
            AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options={"api_endpoint": self.cloud.storage.url},
        )

    @property
    def bigquery(self) -> bigquery_api.Client:
        """Google's own client of BigQuery."""
        return bigquery_api.Client(
            PROJECT,
            AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options={"api_endpoint": self.cloud.bigquery.url},
        )

    def put(self, path: str, text: str | bytes, bucket: str = "") -> str:
        """Write an object; return its URI."""
        if bucket and not self.storage.bucket(bucket).exists():
            self.cloud.storage.create_bucket(bucket)
        name = path if bucket else f"{self.name}/{path}"
        self.storage.bucket(bucket or BUCKET).blob(name).upload_from_string(text)
        return f"gs://{bucket or BUCKET}/{name}"

    def read(self, prefix: str) -> dict[str, bytes]:
        """Every object of the test's own below a prefix, its name without the test's."""
        own = f"{self.name}/"
        found = self.storage.list_blobs(BUCKET, prefix=own + prefix)
        return {blob.name.removeprefix(own): blob.download_as_bytes() for blob in found}

    def lines(self, prefix: str) -> list[str]:
        """The lines of all the objects below a prefix, sorted."""
        return sorted(line for data in self.read(prefix).values() for line in data.decode().splitlines())

    def rows(self, query: str) -> list[dict[str, Any]]:
        """The rows of a query of BigQuery."""
        return [dict(row) for row in self.bigquery.query_and_wait(query)]

    def jobs(self) -> dict[str, str]:
        """The states of all the Dataflow jobs, by their names."""
        return {job.name: job.state for job in self.cloud.dataflow.jobs}


@dataclass(frozen=True)
class Templates:
    """Where the templates of tests/clients/program_template.py are: a classic one, and a flex template's spec."""

    classic: str
    flex: str


@dataclass
class Program:
    """A command that runs in the cloud, in the test's folder."""

    given: Given
    command: str
    before: Sequence[str] = ()
    more: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: object) -> running.Ran:
        done = subprocess.run(
            [self.command, *self.before, *map(str, arguments)],
            cwd=self.given.folder,
            env={**self.given.environment, **self.more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=400,
        )
        return running.Ran(done.returncode, done.stdout, done.stderr)

    def succeed(self, *arguments: object) -> str:
        """Run the command, which must end with 0; return what it prints."""
        ran = self(*arguments)
        assert ran.code == 0, str(ran)
        return ran.out

    def fail(self, *arguments: object) -> str:
        """Run the command, which must not end with 0; return what it prints, errors too."""
        ran = self(*arguments)
        assert ran.code != 0, str(ran)
        return ran.out + ran.err


def on_dataflow(given: Given) -> list[str]:
    """The flags with which a Beam program runs on the local Dataflow, through Beam's own DataflowRunner."""
    return [
        "--runner=DataflowRunner",
        f"--project={PROJECT}",
        f"--region={REGION}",
        f"--temp_location={given.gs('temp')}",
        f"--dataflow_endpoint={given.cloud.dataflow.url}",
        f"--job_name={given.name}",
    ]


def python(given: Given) -> Program:
    """This Python, without the project's folder: it finds Beam, and nothing of ours."""
    return Program(given, sys.executable, ("-P",))

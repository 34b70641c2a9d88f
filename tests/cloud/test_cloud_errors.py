"""What is wrong with a cloud is one clear error, before any job where it can be known before; and nothing is lost.

All cases are tried in one place, in which an earlier day is complete. Each asks for the Report of the next day, which
shares with it the day before.
"""

import datetime
import http.server
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cloud_running
import google.cloud.bigquery as bigquery_api
import pytest
import running
from cloud_running import FLAGS, Place
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from luigid_asking import listed
from running import DAY, Ran, Row

from localcloud import BUCKET, CREDENTIALS, LOCATION, PROJECT, REGION, LocalCloud
from localcloud.faults import Fault
from localcloud.projects import Projects
from pipelines.posts.tables import TABLES

BEFORE = DAY - datetime.timedelta(days=1)
LAUNCHER = f"launcher@{PROJECT}.iam.gserviceaccount.com"
WORDS = dict(TABLES["word_counts"].columns)
_numbers = itertools.count(1)


@dataclass
class World:
    """The place, and what a case changes about it."""

    place: Place
    projects: Projects
    folder: Path
    #: Variables of its processes; those that are "" are not there.
    env: dict[str, str] = field(default_factory=dict)
    denied: list[str] = field(default_factory=list)

    @property
    def cloud(self) -> LocalCloud:
        return self.place.cloud

    def set(self, section: str, **values: str) -> None:
        """Changes luigi.cfg."""
        self.place.set(section, **values)

    def run(self, *arguments: object) -> Ran:
        """Runs a task; nothing but the variables of the cloud says who asks, and nothing leaves this machine."""
        env = {
            **self.place.environment,
            **self.projects.environment(),
            "HOME": str(self.folder),
            "CLOUDSDK_CONFIG": str(self.folder),
            "NO_GCE_CHECK": "true",
            "https_proxy": "http://127.0.0.1:9",
            **self.env,
        }
        return running.run(
            running.command(*map(str, arguments)),
            self.place.folder,
            {key: value for key, value in env.items() if value},
        )

    def report(self, *flags: object) -> Ran:
        """The run that every case is about."""
        return self.run("Report", *FLAGS, *flags)

    def deny(self, *permissions: str) -> None:
        """From now on nobody has some permissions, in whichever service they are."""
        self.denied += permissions
        self.cloud.bigquery.deny(*permissions)
        self.cloud.storage.denied.update(permissions)
        self.cloud.dataflow.denied.update(permissions)

    def allow(self) -> list[str]:
        """Takes back what was denied, and says what that was."""
        denied, self.denied = self.denied, []
        self.cloud.bigquery.allow(*denied)
        self.cloud.storage.denied.clear()
        self.cloud.dataflow.denied.clear()
        return denied

    def table(self, columns: Mapping[str, str], days: str = "date", mode: str = "NULLABLE") -> None:
        """From now on the warehouse is another dataset, with a table word_counts of these columns.

        days: the column by whose days it is partitioned.
        """
        dataset = f"other_{next(_numbers)}"
        self.cloud.bigquery.create_dataset(dataset, LOCATION)
        schema = [bigquery_api.SchemaField(name, kind, mode) for name, kind in columns.items()]
        table = bigquery_api.Table(f"{PROJECT}.{dataset}.word_counts", schema)
        table.time_partitioning = bigquery_api.TimePartitioning(field=days)
        with self.place.bigquery() as client:
            client.create_table(table)
        self.set("millrace", warehouse=f"bigquery://{PROJECT}/{dataset}")

    def kept(self) -> dict[str, str]:
        """What a run that fails must not change: objects but for the ledger and what is staged, tables; by version."""
        denied = self.allow()
        blobs = cloud_running.bucket(self.cloud).list_blobs()
        found = {b.name: str(b.generation) for b in blobs if not {"_jobs", "_dataflow"} & {*b.name.split("/")}}
        with self.place.bigquery() as client:
            for dataset in client.list_datasets():
                for table in client.list_tables(dataset.reference):
                    there = client.get_table(table.reference)
                    found[str(there.reference)] = f"{there.etag} {there.num_rows}"
        self.deny(*denied)
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place in which the Report of the day before is complete; and a bucket and a dataset in Europe."""
    with LocalCloud() as cloud:
        place = Place(cloud, tmp_path_factory.mktemp("place"))
        place.succeed("Report", "--date", BEFORE, "--posts-days", 1, "--millrace-runner", "FnApiRunner")
        cloud.bigquery.create_dataset("european", "EU")
        cloud.storage.create_bucket("european", "EU")
        yield place


@pytest.fixture
def world(place: Place, tmp_path: Path) -> Iterator[World]:
    """The place, with nothing wrong; nor is there anything afterwards."""
    config = place.config.read_text(encoding="utf-8")
    with Projects() as projects:
        world = World(place, projects, tmp_path)
        yield world
    place.config.write_text(config, encoding="utf-8")
    place.cloud.faults.clear()
    world.allow()


# --- what can be wrong

Change = Callable[[World], object]


def configure(section: str, **values: str) -> Change:
    """luigi.cfg says something else."""
    return lambda world: world.set(section, **values)


def deny(permission: str) -> Change:
    """Nobody has a permission."""
    return lambda world: world.deny(permission)


def table(columns: Mapping[str, str], days: str = "date", mode: str = "NULLABLE") -> Change:
    """The table word_counts is another one."""
    return lambda world: world.table(columns, days, mode)


def without(column: str) -> dict[str, str]:
    return {name: kind for name, kind in WORDS.items() if name != column}


def no_project(world: World) -> None:
    world.set("gcp", project="")
    world.env["GOOGLE_CLOUD_PROJECT"] = ""


def nobody(world: World) -> None:
    world.env["GOOGLE_APPLICATION_CREDENTIALS"] = ""


def no_such_file(world: World) -> None:
    world.env["GOOGLE_APPLICATION_CREDENTIALS"] = str(world.folder / "none.json")


def withdrawn_key(world: World) -> None:
    """The credentials are a service account's key, for which there are no tokens any more."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    about = {"type": "service_account", "client_email": LAUNCHER, "project_id": PROJECT}
    secret = {"private_key": key.private_bytes(*plain).decode(), "token_uri": f"{world.projects.url}/token"}
    (world.folder / "key.json").write_text(json.dumps(about | secret))
    world.env["GOOGLE_APPLICATION_CREDENTIALS"] = str(world.folder / "key.json")
    world.projects.good_keys = False


def may_not_impersonate(world: World) -> None:
    world.set("gcp", impersonate=LAUNCHER)
    world.projects.denied.add("iam.serviceAccounts.getAccessToken")


def source(uri: str) -> Change:
    """The posts come from elsewhere, and so go elsewhere."""

    def change(world: World) -> None:
        world.set("posts", source=uri)
        world.set("millrace", storage=f"gs://{BUCKET}/other")

    return change


def source_may_not_be_listed(world: World) -> None:
    source(f"gs://{BUCKET}/source/posts.jsonl")(world)
    world.cloud.faults.at(2, Fault("status", status=403), call="objects.list")  # the first is for what is complete


STORAGE = "allowed is a folder that can be written, or gs://BUCKET/PREFIX"
ELSEWHERE = "BigQuery loads only from a bucket in the dataset's own region"

#: What is wrong, and what is said of it: when the run is scheduled (exit code 35) unless another code is named.
CASES: Mapping[str, tuple[Change, Sequence[str]]] = {
    "no such bucket": (configure("millrace", storage="gs://nowhere/x"), ["the bucket 'nowhere'", "does not exist"]),
    "no such dataset": (
        configure("millrace", warehouse=f"bigquery://{PROJECT}/nothing"),
        [f"dataset {PROJECT}.nothing does not exist", f"bq --location=US mk --dataset {PROJECT}:nothing"],
    ),
    "dataset elsewhere": (
        configure("millrace", warehouse=f"bigquery://{PROJECT}/european"),
        [f"gs://{BUCKET} lies in us, the dataset in eu", ELSEWHERE, "millrace doctor"],
    ),
    "bucket elsewhere": (
        configure("millrace", storage="gs://european/x"),
        [f"Dataflow runs in {REGION}", "gs://european lies in eu", "millrace doctor"],
    ),
    "other location": (
        configure("bigquery", location="EU"),
        ["lies in US, but location = EU in [bigquery], read in", "set it to US"],
    ),
    **{
        f"no {each}": (deny(each), ["permission is missing", each, "millrace doctor", "names the role"])
        for each in (
            *(f"storage.objects.{each}" for each in ("get", "create", "list", "delete")),
            *("bigquery.datasets.get", "bigquery.jobs.create", "bigquery.tables.get", "bigquery.tables.updateData"),
        )
    },
    "no credentials": (nobody, ["there are no Google Cloud credentials; run `gcloud auth"]),
    "no such credentials": (no_such_file, ["GOOGLE_APPLICATION_CREDENTIALS names", "none.json was not found"]),
    "withdrawn credentials": (withdrawn_key, ["no longer good (invalid_grant: Invalid JWT Signature.)", "gcloud auth"]),
    "no impersonation": (
        may_not_impersonate,
        [f"nobody here may act as {LAUNCHER}, read in", "iam.serviceAccounts.getAccessToken", "millrace doctor"],
    ),
    **{
        f"storage = {uri}": (configure("millrace", storage=uri), [f"millrace.storage = {uri!r}, read in", STORAGE])
        for uri in ("gs:/x", "gs:x", "gs://", "gs://UPPER/x")
    },
    "warehouse = bigquery://x": (
        configure("millrace", warehouse="bigquery://x"),
        ["millrace.warehouse = 'bigquery://x', read in", "allowed is nothing, or bigquery://PROJECT/DATASET"],
    ),
    "warehouse without a bucket": (
        configure("millrace", storage="data"),
        ["loads from Cloud Storage, but millrace.storage = 'data', read in", "set it to gs://BUCKET/PREFIX"],
    ),
    "jobs without a bucket": (
        configure("millrace", storage="data", warehouse=""),
        ["a Dataflow job can't read", "set storage in [millrace] to gs://BUCKET/PREFIX"],
    ),
    "no region": (configure("gcp", region=""), ["no region for Dataflow jobs is known; set region in [gcp]"]),
    "no project": (no_project, ["no Google Cloud project is known; set project in [gcp]"]),
    "column of another type": (
        table(WORDS | {"percent": "INT64"}),
        ["other_", "word_counts: column percent is INT64 NULLABLE and should be FLOAT64 NULLABLE; give"],
    ),
    "required columns": (
        table(WORDS, mode="REQUIRED"),
        [f"column {name} is {kind} REQUIRED and should be {kind} NULLABLE" for name, kind in WORDS.items()],
    ),
    "other partitions": (table(WORDS, "ts"), ["it is partitioned by DAY of ts and should be by DAY of date"]),
    "renamed column": (
        table(without("word") | {"term": "STRING"}),
        ["column word STRING is missing, as if it had been renamed to term"],
    ),
    "no such archive": (
        source(f"gs://{BUCKET}/none.jsonl"),
        [f"source gs://{BUCKET}/none.jsonl is not there (read in"],
    ),
    "no such source's bucket": (source("gs://nowhere/x.jsonl"), ["gs://nowhere/x.jsonl: it does not exist"]),
    "no access to the source": (
        source_may_not_be_listed,
        ["source/posts.jsonl can't be read", "permission is missing"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_known_before_any_job(world: World, case: str) -> None:
    """One sentence and exit code 35, nothing is run, nothing is changed."""
    change, said = CASES[case]
    change(world)
    before, jobs = world.kept(), len(world.place.jobs)
    ran = world.report()
    world.allow()
    assert ran.code == 35, ran
    assert len(ran.errors) == 1, ran
    for part in said:
        assert part in ran.errors[0], ran
    assert "Traceback" not in str(ran), ran
    assert "Did not run any tasks" in str(ran), ran
    assert len(world.place.jobs) == jobs
    assert world.kept() == before
    assert world.place.locks() == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (deny("dataflow.jobs.create"), ["could not create Dataflow job millrace-", "'dataflow.jobs.create' denied"]),
        (source(f"gs://{BUCKET}/none-{{date:%Y}}-{{date:%m-%d}}.jsonl"), [f"has nothing for {DAY} yet", "(read in"]),
    ],
    ids=["no dataflow.jobs.create", "no such day"],
)
def test_known_by_the_first_stage(world: World, change: Change, said: Sequence[str]) -> None:
    """What only doing it tells stops the first stage, before it has a job; nothing is changed."""
    change(world)
    before, jobs = world.kept(), len(world.place.jobs)
    ran = world.report("--workers", 1)
    world.allow()
    assert ran.code == 30, ran
    assert len(ran.errors) == 1, ran
    for part in said:
        assert part in ran.errors[0], ran
    assert "Traceback" not in str(ran), ran
    assert len(world.place.jobs) == jobs
    assert world.kept() == before
    assert world.place.locks() == []


def test_where_the_bucket_lies_need_not_be_known(world: World) -> None:
    """Who may not look at the bucket itself is not stopped for that: only the job's own refusal is told."""
    world.set("millrace", storage="gs://european/x")
    world.deny("storage.buckets.get", "dataflow.jobs.create")
    ran = world.run("Fetch", "--source", "sample://", "--date", DAY)
    assert ran.code == 30, ran
    [error] = ran.errors
    assert "'dataflow.jobs.create' denied" in error


@pytest.mark.parametrize("workers", [1, 2])
def test_whoever_schedules(world: World, server: int, workers: int) -> None:
    """With one worker or two, and where luigid schedules: the same sentence, and luigid is given nothing to run."""
    world.set("millrace", warehouse=f"bigquery://{PROJECT}/nothing")
    for more in ((), ("--scheduler-host", "127.0.0.1", "--scheduler-port", server)):
        ran = world.report("--workers", workers, *more)
        assert ran.code == 35, ran
        [error] = ran.errors
        assert f"dataset {PROJECT}.nothing does not exist" in error
        assert "Traceback" not in str(ran), ran
    assert [task["name"] for task in listed(server, "UNKNOWN").values()] == ["Aggregate"]
    assert [task["name"] for task in listed(server, "PENDING").values()] == ["Report"]


def test_many_days_ask_once(world: World) -> None:
    """What is wrong for many days is said once, and what all of them need is asked for once."""
    world.set("dataflow.Etl", machine_typ="n2-standard-4")
    since = len(world.cloud.storage.requests), len(world.cloud.bigquery.requests)
    ran = world.run("Report", "--date", DAY, "--days", 30)
    assert ran.code == 35, ran
    assert len(ran.errors) == 1, ran
    assert "did you mean machine_type?" in ran.errors[0]
    assert "58 failed scheduling" in str(ran), ran  # sixty, less the two that are complete
    asked = [each.call for each in world.cloud.storage.requests[since[0] :] + world.cloud.bigquery.requests[since[1] :]]
    assert asked.count("buckets.testIamPermissions") == 1, asked
    assert asked.count("buckets.get") == 1, asked
    assert asked.count("tables.get") == len(TABLES), asked


def test_without_credentials_this_machine_is_asked_once(world: World) -> None:
    """Whether it is one of Google's, which has credentials for all that run on it: not again for each client."""
    asked = []

    class Metadata(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    nobody(world)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as metadata:
        threading.Thread(target=metadata.serve_forever, daemon=True).start()
        world.env |= {"NO_GCE_CHECK": "", "GCE_METADATA_IP": f"127.0.0.1:{metadata.server_port}"}
        started = time.monotonic()
        ran = world.report()
        metadata.shutdown()
    assert time.monotonic() - started < 15
    assert "there are no Google Cloud credentials" in ran.errors[0], ran
    assert len(asked) == 1


def test_no_secret_is_told(world: World) -> None:
    """Neither what a run says, nor the ledger, nor a job holds a token: when calls fail, and when all goes well."""
    secrets = {"token": "ya29.a0-token", "refresh_token": "1//0e-refresh", "client_secret": "GOCSPX-secret"}
    (world.folder / "person.json").write_text(json.dumps(CREDENTIALS | secrets))
    world.env["GOOGLE_APPLICATION_CREDENTIALS"] = str(world.folder / "person.json")
    world.set("millrace", storage=f"gs://{BUCKET}/secret")
    world.set("gcp", patience="1")
    fetch = ("Fetch", "--source", "sample://", "--date", DAY)
    for status in (401, 403, 503):  # after a 401 the client asks for another token, where nobody answers
        cloud_running.refuse(world.cloud, "objects.list", Fault("status", status))
        ran = world.run(*fetch)
        world.cloud.faults.clear()
        assert ran.code == 35, ran
        assert len(ran.errors) == 1, ran
        assert not [secret for secret in secrets.values() if secret in str(ran)], ran
    world.deny("dataflow.jobs.create")
    said = str(world.run(*fetch))
    assert "'dataflow.jobs.create' denied" in said
    world.allow()
    ran = world.run(*fetch)
    assert ran.code == 0, ran
    blobs = {blob.name: blob.download_as_bytes() for blob in cloud_running.bucket(world.cloud).list_blobs()}
    assert [name for name in blobs if name.startswith("secret/_jobs/Fetch_")]
    told = {"output": (said + str(ran)).encode(), "jobs": repr([job.submitted for job in world.place.jobs]).encode()}
    assert not [(n, s) for n, data in {**blobs, **told}.items() for s in secrets.values() if s.encode() in data]


def test_after_all_that_the_next_run_succeeds(world: World, undisturbed: Path) -> None:
    """With the faults mended the Report is made, into a table, too, to which somebody has added a nullable column.

    The day before is as it was.
    """
    with world.place.bigquery() as client:
        there = client.get_table(f"{PROJECT}.{world.place.dataset}.word_counts")
        there.schema = [*there.schema, bigquery_api.SchemaField("note", "STRING")]
        client.update_table(there, ["schema"])
    before = world.kept()
    rows = world.place.tables(BEFORE)
    assert all(rows.values())
    ran = world.report()
    assert ran.code == 0, ran
    found: dict[str, list[Row]] = world.place.tables()
    assert {row.pop("note") for row in found["word_counts"]} == {None}
    for name, expected in running.tables(undisturbed).items():
        assert running.same(found[name], expected), name
    assert world.place.tables(BEFORE) == rows
    old = {name: version for name, version in before.items() if f"date={BEFORE}" in name}
    assert old
    assert old.items() <= world.kept().items()
    assert world.place.leftovers() == []

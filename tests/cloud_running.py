"""What the tests of whole runs in the local cloud share: a luigi process there, and what lies there afterwards."""

import configparser
import datetime
import os
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import google.cloud.bigquery as bigquery_api
import google.cloud.storage as storage_api
import running
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from running import KEYS, Ran, Row

from cloud import BUCKET, DATASET, LOCATION, PROJECT, Cloud
from cloud.dataflow_jobs import Job
from workflows.engine.manifests import Manifest

#: Stages that run as jobs, and how many of each a window of one day needs: it is compared with the day before.
JOBS = {"fetch": 2, "etl": 2, "count": 2, "aggregate": 1}


_ANYBODY = AnonymousCredentials()  # type: ignore[no-untyped-call]


def configure(cloud: Cloud, folder: Path, **more: dict[str, str]) -> Path:
    """A luigi.cfg for this cloud, the project's own but for where things are; more: section → key → value."""
    config = configparser.RawConfigParser()
    config.read(running.ROOT / "luigi.cfg", encoding="utf-8")
    config.read_string(cloud.settings())
    config.read_dict({"dataflow": {"poll_max": "0.3"}, "gcp": {"patience": "20", "lease": "20"}, **more})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "luigi.cfg"
    with path.open("w", encoding="utf-8") as file:
        config.write(file)
    return path


def environment(cloud: Cloud, config: Path) -> dict[str, str]:
    """The variables of a luigi process in this cloud."""
    return running.environment(LUIGI_CONFIG_PATH=str(config), **cloud.environment())


def start(cloud: Cloud, config: Path, task: str, *flags: object) -> "subprocess.Popen[str]":
    """A luigi process in this cloud, the leader of a group of its own."""
    return subprocess.Popen(
        running.command(task, *flags),
        cwd=config.parent,
        env=environment(cloud, config),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end(process: "subprocess.Popen[str]", seconds: float = 300) -> Ran:
    """Waits for a process to end."""
    said, _ = process.communicate(timeout=seconds)
    return Ran(process.returncode, said, "")


def luigi(cloud: Cloud, config: Path, task: str, *flags: object) -> Ran:
    """Runs a task in this cloud to its end."""
    return end(start(cloud, config, task, *flags))


def succeed(cloud: Cloud, config: Path, task: str, *flags: object) -> Ran:
    """Like luigi(), for what must end with 0."""
    ran = luigi(cloud, config, task, *flags)
    assert ran.code == 0, ran
    return ran


def bucket(cloud: Cloud) -> "storage_api.Bucket":
    """The cloud's bucket, past all faults."""
    options = ClientOptions(api_endpoint=cloud.storage.worker_url)
    client = storage_api.Client(PROJECT, credentials=_ANYBODY, client_options=options)
    return client.bucket(BUCKET)


def query(cloud: Cloud, sql: str) -> list[Row]:
    """The rows of a query of BigQuery's, past all faults."""
    options = ClientOptions(api_endpoint=cloud.bigquery.worker_url)
    default = bigquery_api.QueryJobConfig(default_dataset=f"{PROJECT}.{DATASET}")
    with bigquery_api.Client(
        PROJECT,
        credentials=_ANYBODY,
        client_options=options,
        default_query_job_config=default,
        location=LOCATION,
    ) as client:
        return [dict(row.items()) for row in client.query(sql).result()]


def tables(cloud: Cloud, date: datetime.date = running.DAY) -> dict[str, list[Row]]:
    """The rows of all the tables of a window, in order of their keys; times without their zone, as `running.tables`."""
    return {
        name: [
            {column: _zoneless(value) for column, value in row.items()}
            for row in query(cloud, f"SELECT * FROM {name} WHERE date = '{date}' ORDER BY {', '.join(keys)}")
        ]
        for name, keys in KEYS.items()
    }


def _zoneless(value: object) -> object:
    return value.replace(tzinfo=None) if isinstance(value, datetime.datetime) else value


def manifests(cloud: Cloud) -> dict[str, Manifest]:
    """Every partition's manifest, by partition."""
    found = {}
    for blob in bucket(cloud).list_blobs(prefix="data/", match_glob="**/_MANIFEST.json"):
        partition = blob.name.removeprefix("data/").rpartition("/")[0]
        found[partition] = Manifest.from_json(blob.download_as_bytes(), blob.name)
    return found


def leftovers(cloud: Cloud) -> list[str]:
    """Files of attempts that no manifest names, and locks that somebody still holds."""
    attempts = {manifest.attempt for manifest in manifests(cloud).values()}
    names = [blob.name for blob in bucket(cloud).list_blobs(prefix="data/")]
    dead = [n for n in names if "/attempt-" in n and not any(f"/{attempt}/" in n for attempt in attempts)]
    return dead + [name for name in names if name.endswith(".lock")]


def jobs(cloud: Cloud, state: str = "") -> dict[str, int]:
    """How many Dataflow jobs each stage has, in a state or in all."""
    return dict(Counter(job.name.split("-")[1] for job in cloud.dataflow.jobs if state in ("", _state(job))))


def wrong(cloud: Cloud, expected: dict[str, list[Row]], stages: dict[str, int] = JOBS) -> list[str]:
    """What is not as an undisturbed run leaves it: tables, one successful job a task, none running, nothing left over."""
    found = tables(cloud)
    trouble = [
        f"other rows in {name}: {len(found[name])}" for name in KEYS if not running.same(found[name], expected[name])
    ]
    if jobs(cloud, "DONE") != stages:
        trouble.append(f"successful jobs: {jobs(cloud, 'DONE')}")
    alive = [f"{job.name} {_state(job)}" for job in cloud.dataflow.jobs if _state(job) not in ENDED]
    return trouble + [f"orphaned: {job}" for job in alive] + [f"left over: {name}" for name in leftovers(cloud)]


def _state(job: Job) -> str:
    return job.state.removeprefix("JOB_STATE_")


ENDED = ("DONE", "FAILED", "CANCELLED", "DRAINED", "UPDATED")


def upload(cloud: Cloud, files: Sequence[Path], folder: str = "source") -> None:
    """Puts files into the bucket."""
    for path in files:
        bucket(cloud).blob(f"{folder}/{path.name}").upload_from_filename(os.fspath(path))

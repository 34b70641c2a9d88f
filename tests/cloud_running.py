"""What tests of whole runs in the local cloud share: a place of its own in that cloud, and luigi processes there."""

import configparser
import contextlib
import datetime
import json
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import google.cloud.bigquery as bigquery_api
import google.cloud.storage as storage_api
import running
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from running import KEYS, Ran, Row

from localcloud import BUCKET, LOCATION, PROJECT, LocalCloud
from localcloud.dataflow_jobs import Job
from localcloud.faults import Fault
from millrace.core.ledger import Entry
from millrace.core.manifests import Manifest

#: The run that most tests make: a window of one day, which is compared with the day before.
FLAGS = ("--date", running.DAY, "--posts-days", 1)
#: The jobs of that run, whose two days are a batch, and its partitions.
JOBS = {"fetch": 1, "etl": 1, "count": 1, "aggregate": 1}
PARTITIONS = {"fetch": 2, "etl": 2, "count": 2, "aggregate": 1}
#: What takes minutes in earnest takes seconds here.
QUICK = {"dataflow": {"poll_max": "0.3"}, "gcp": {"patience": "20", "lease": "20"}}
Settings = Mapping[str, Mapping[str, str]]
#: No lock is renewed by the clock, so that every run has the same effects. Who died on this host is found out at once.
STEADY: Settings = {"gcp": {"lease": "3600"}}
_ENDED = ("DONE", "FAILED", "CANCELLED", "DRAINED", "UPDATED")
_ANYBODY = AnonymousCredentials()  # type: ignore[no-untyped-call]


@dataclass
class Place:
    """A folder of the cloud's bucket, a dataset, and the jobs from now on. One place at a time has jobs in a cloud.

    folder: where luigi runs. more: further settings, section → key → value.
    """

    cloud: LocalCloud
    folder: Path
    name: str = "data"
    more: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        self._before, self._asked_before = len(self.cloud.dataflow.jobs), len(self.cloud.dataflow.requests)
        self.dataset = "millrace_" + re.sub(r"\W", "_", self.name)
        self.cloud.bigquery.create_dataset(self.dataset, LOCATION)
        config = configparser.RawConfigParser()
        config.read(running.ROOT / "luigi.cfg", encoding="utf-8")
        config.read_string(self.cloud.settings())
        config.read_dict(QUICK)
        place = {"storage": f"gs://{BUCKET}/{self.name}", "warehouse": f"bigquery://{PROJECT}/{self.dataset}"}
        config.read_dict({"millrace": place})
        config.read_dict(self.more)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config = self.folder / "luigi.cfg"
        with self.config.open("w", encoding="utf-8") as file:
            config.write(file)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process that works here."""
        return running.environment(LUIGI_CONFIG_PATH=str(self.config), **self.cloud.environment())

    def start(self, task: str, *flags: object, module: str = "workflows") -> "subprocess.Popen[str]":
        """A luigi process that works here, the leader of a group of its own."""
        process = subprocess.Popen(
            running.command(task, *flags, module=module),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        """Ends what a test that failed left running; nothing is held or fails any more."""
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            if process.stdout and not process.stdout.closed:
                process.communicate()
        self.cloud.dataflow.release()
        self.cloud.faults.clear()

    def luigi(self, task: str, *flags: object) -> Ran:
        """Runs a task here to its end."""
        return end(self.start(task, *flags))

    def succeed(self, task: str, *flags: object) -> Ran:
        """Like luigi(), for what must end with 0."""
        ran = self.luigi(task, *flags)
        assert ran.code == 0, ran
        return ran

    def run(self, module: str, *arguments: object) -> Ran:
        """Runs a module of the project here to its end."""
        return running.run([running.python(), "-m", module, *arguments], self.folder, self.environment)

    def set(self, section: str, **values: str) -> None:
        """From now on runs have these settings too."""
        config = configparser.RawConfigParser()
        config.read(self.config, encoding="utf-8")
        config.read_dict({section: values})
        with self.config.open("w", encoding="utf-8") as file:
            config.write(file)

    def entry(self, task: str) -> Entry:
        """The one entry that the ledger has for a task's partitions."""
        [blob] = bucket(self.cloud).list_blobs(match_glob=f"{self.name}/_jobs/{task}_*.json")
        return Entry(**json.loads(blob.download_as_bytes()))

    def entries(self, task: str) -> list[Entry]:
        """What the ledger has for each of a task's partitions, in their order."""
        blobs = bucket(self.cloud).list_blobs(match_glob=f"{self.name}/_jobs/{task}_*.json")
        return [Entry(**json.loads(blob.download_as_bytes())) for blob in blobs]

    def wait_for(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Waits until something holds. Fails if it does not in that time."""
        running.wait_for(condition, seconds)
        assert condition(), [(job.name, state_of(job)) for job in self.jobs]

    def hold(self, task: str, *flags: object) -> "subprocess.Popen[str]":
        """A luigi process that waits for a job, which runs and does nothing until jobs are released."""
        self.cloud.dataflow.hold("*")
        seen = len(self.jobs)
        process = self.start(task, *flags)
        self.wait_for(lambda: process.poll() is not None or self.jobs[seen:] and self.watched(self.jobs[-1].id))
        assert process.poll() is None, end(process)
        return process

    def asked(self, id: str) -> int:
        """How often somebody has asked for a job's counters, as who waits for it does with every look."""
        return sum(each.call == "metrics.get" and id in each.path for each in self.cloud.dataflow.requests)

    def watched(self, id: str) -> bool:
        """Whether a job runs and somebody waits for it."""
        return bool(self.asked(id)) and state_of(next(job for job in self.jobs if job.id == id)) == "RUNNING"

    def struck(self, call: str) -> bool:
        """Whether something has gone wrong here with a call of Dataflow's."""
        return any(each.call == call and each.fault for each in self.cloud.dataflow.requests[self._asked_before :])

    def tables(self, date: datetime.date = running.DAY) -> dict[str, list[Row]]:
        """The rows of all the tables of a window, in order of their keys, as `running.tables` gives them."""
        return {
            name: [
                {column: _zoneless(value) for column, value in row.items()}
                for row in self.query(f"SELECT * FROM {name} WHERE date = '{date}' ORDER BY {', '.join(keys)}")
            ]
            for name, keys in KEYS.items()
        }

    def query(self, sql: str) -> list[Row]:
        """The rows of a query of BigQuery's."""
        with self.bigquery() as client:
            return [dict(row.items()) for row in client.query(sql).result()]

    def bigquery(self) -> bigquery_api.Client:
        """A client of BigQuery's, past all faults, to be closed."""
        default = bigquery_api.QueryJobConfig(default_dataset=f"{PROJECT}.{self.dataset}")
        return bigquery_api.Client(
            PROJECT,
            credentials=_ANYBODY,
            client_options=ClientOptions(api_endpoint=self.cloud.bigquery.worker_url),
            default_query_job_config=default,
            location=LOCATION,
        )

    def manifests(self) -> dict[str, Manifest]:
        """Every partition's manifest, by partition."""
        found = {}
        for blob in bucket(self.cloud).list_blobs(match_glob=f"{self.name}/**/_MANIFEST.json"):
            partition = blob.name.removeprefix(f"{self.name}/").rpartition("/")[0]
            found[partition] = Manifest.from_json(blob.download_as_bytes(), blob.name)
        return found

    def leftovers(self) -> list[str]:
        """Files of attempts that no manifest names."""
        attempts = {manifest.attempt for manifest in self.manifests().values()}
        names = [blob.name for blob in bucket(self.cloud).list_blobs(prefix=f"{self.name}/")]
        return [n for n in names if "/attempt-" in n and not any(f"/{attempt}/" in n for attempt in attempts)]

    def locks(self) -> list[str]:
        """Locks that nobody let go of. Whoever was killed leaves one behind; it stops nobody on the same host."""
        return [b.name for b in bucket(self.cloud).list_blobs(prefix=f"{self.name}/_jobs/") if b.name.endswith(".lock")]

    @property
    def jobs(self) -> list[Job]:
        """The Dataflow jobs that were created here."""
        return self.cloud.dataflow.jobs[self._before :]

    def stages(self, state: str = "") -> dict[str, int]:
        """How many jobs each stage has, in a state or in all."""
        return dict(Counter(stage_of(job) for job in self.jobs if state in ("", state_of(job))))

    def wrong(self, expected: Mapping[str, Sequence[Row]], partitions: Mapping[str, int] = PARTITIONS) -> list[str]:
        """What is not as it should be after that run: tables, one successful job a partition, and nothing left over.

        The days of a run that goes on after one that was killed are not always one job: some are ready before others.
        """
        found = self.tables()
        trouble = [f"other rows in {name}" for name in KEYS if not running.same(found[name], expected[name])]
        done = [(stage_of(job), key) for job in self.jobs if state_of(job) == "DONE" for key in keys_of(job)]
        if Counter(stage for stage, _ in done) != partitions or len({*done}) < len(done):
            trouble.append(f"partitions of successful jobs: {sorted(done)}")
        alive = [f"{job.name} {state_of(job)}" for job in self.jobs if state_of(job) not in _ENDED]
        return trouble + [f"orphaned: {job}" for job in alive] + [f"left over: {name}" for name in self.leftovers()]


def end(process: "subprocess.Popen[str]", seconds: float = 300) -> Ran:
    """Waits for a process to end."""
    said, _ = process.communicate(timeout=seconds)
    return Ran(process.returncode, said, "")


def bucket(cloud: LocalCloud, name: str = BUCKET) -> "storage_api.Bucket":
    """A bucket of the cloud's, past all faults."""
    options = ClientOptions(api_endpoint=cloud.storage.worker_url)
    return storage_api.Client(PROJECT, credentials=_ANYBODY, client_options=options).bucket(name)


def upload(cloud: LocalCloud, files: Sequence[Path], folder: str = "source") -> None:
    """Puts files into a folder of the bucket."""
    for path in files:
        bucket(cloud).blob(f"{folder}/{path.name}").upload_from_filename(os.fspath(path))


def try_all(names: Sequence[str], folder: Path, more: Settings, trouble: Callable[[Place, str], list[str]]) -> None:
    """Tries each in a place of its own, two clouds side by side, and fails with all that is wrong."""

    def share(some: Sequence[str]) -> list[str]:
        wrong = []
        with LocalCloud() as cloud:
            for name in some:
                with contextlib.closing(Place(cloud, folder / name, name, more)) as place:
                    wrong += [f"{name}: {line}" for line in trouble(place, name)]
        return wrong

    with ThreadPoolExecutor(2) as pool:
        wrong = [line for lines in pool.map(share, [names[::2], names[1::2]]) for line in lines]
    assert not wrong, "\n".join(wrong)


def refuse(cloud: LocalCloud, call: str, fault: Fault) -> None:
    """Has every one of the next calls of a kind go wrong, until the faults are cleared."""
    for n in range(1, 200):
        cloud.faults.at(n, fault, call=call)


def state_of(job: Job) -> str:
    """A job's state, as in RUNNING."""
    return job.state.removeprefix("JOB_STATE_")


def stage_of(job: Job) -> str:
    """The stage that a job is for, in lower case."""
    return job.name.split("-")[1]


def keys_of(job: Job) -> list[str]:
    """The keys of a job's partitions."""
    return [each["key"] for each in json.loads(job.options["partitions"])]


def _zoneless(value: object) -> object:
    return value.replace(tzinfo=None) if isinstance(value, datetime.datetime) else value

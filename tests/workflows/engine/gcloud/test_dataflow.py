"""Dataflow's jobs, through Google's own client and over real connections, in the local Dataflow."""

import functools
import json
import queue
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloud
import pytest
import running
from cloud.dataflow import Dataflow
from cloud.faults import Fault, FaultPlan
from cloud.storage import Storage
from luigi.configuration import get_config

from pipelines.errors import (
    ConflictError,
    JobCancelledError,
    JobFailedError,
    NotThereYetError,
    ServiceError,
    SettingError,
    SourceError,
    TransientError,
)
from workflows.engine import child, clients
from workflows.engine.gcloud import beam_options, dataflow, submission, worker_package
from workflows.engine.gcloud.dataflow import Job, Progress
from workflows.engine.gcloud.submission import Request

ROOT = f"gs://{cloud.BUCKET}/data"
WHERE = (cloud.PROJECT, cloud.REGION)
Set = Callable[[str, str, str], None]


@pytest.fixture(scope="module")
def services() -> Iterator[tuple[Storage, Dataflow]]:
    """A storage with a bucket, and a Dataflow, with one fault plan."""
    plan = FaultPlan()
    with Storage(plan) as storage, Dataflow(storage.worker_url, plan) as service:
        storage.create_bucket(cloud.BUCKET)
        yield storage, service


@pytest.fixture
def setting() -> Iterator[Set]:
    """Sets a setting for the test: section, key, value."""
    config, before = get_config(), dict[tuple[str, str], str | None]()

    def put(section: str, key: str, value: str) -> None:
        before.setdefault((section, key), config.get(section, key, None))
        config.set(section, key, value)

    yield put
    for (section, key), value in before.items():
        if value is None:
            config.remove_option(section, key)
        else:
            config.set(section, key, value)


@pytest.fixture
def service(
    services: tuple[Storage, Dataflow], setting: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Dataflow]:
    """The Dataflow that this process's clients and settings lead to, as new."""
    storage, service = services
    credentials = tmp_path / "credentials.json"
    words = {"type": "authorized_user", "client_id": "x", "client_secret": "x", "refresh_token": "x"}
    credentials.write_text(json.dumps({**words, "token": "fake", "expiry": "2099-01-01T00:00:00Z"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", cloud.PROJECT)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.url)
    setting("gcp", "region", cloud.REGION)
    setting("gcp", "patience", "10")
    for key, value in {"dataflow_endpoint": service.url, "poll_max": "0.5", "cancel_wait": "10"}.items():
        setting("dataflow", key, value)
    forget_clients()
    yield service
    service.faults.clear()
    service.release()
    service.duplicates, service.unseen = "answer", 0
    for job in service.jobs:
        if not job.over:
            service.cancel(job.id)
    forget_clients()


def forget_clients() -> None:
    """Clients are kept for as long as a process lives; the services of a test don't."""
    for each in (clients._credentials, clients._storage_client, clients._dataflow_clients):
        each.cache_clear()


@functools.cache
def _numbers() -> Iterator[int]:
    return iter(range(1, 1000))


def new_name() -> str:
    """A job's name that no other test has."""
    return f"millrace-case-{next(_numbers())}"


def submit(what: str, value: object, name: str = "", request: str = "r1") -> Job:
    """Submits the pipeline for tests."""
    options = {"input": json.dumps([what, value]), "output": f"{ROOT}/out"}
    return submission.submit("dataflow_case", options, "Etl", Request(name or new_name(), request, WHERE), ROOT)


def wait(job: Job, messages: Any = None) -> tuple[Job, list[Progress]]:
    """Waits for a job; it, and what was reported meanwhile."""
    told: list[Progress] = []
    return dataflow.wait(job, told.append, messages), told


class Typed:
    """What somebody types into luigid."""

    def __init__(self, content: str) -> None:
        self.content = content
        self.answers: list[str] = []

    def respond(self, response: str) -> None:
        self.answers.append(response)


# --- submission


def test_a_job_runs_to_its_end(service: Dataflow) -> None:
    name = new_name()
    job = submit("sleep", 0.1, name, "request-1")
    assert (job.name, job.request_id) == (name, "request-1")
    assert job.url == (
        f"https://console.cloud.google.com/dataflow/jobs/{cloud.REGION}/{job.id}?project={cloud.PROJECT}"
    )
    done, told = wait(job)
    assert (done.id, done.state, done.finished) == (job.id, "DONE", True)
    assert told[-1].state == "DONE"
    submitted = service.jobs[-1]
    assert submitted.client_request_id == "request-1"
    assert dict(submitted.submitted.labels) == {"millrace-task": "etl"}
    assert submitted.options["temp_location"].startswith(f"{ROOT}/_dataflow/{name}")
    assert not submitted.options["dry_run"]


def test_counters_and_usage_are_the_jobs(service: Dataflow, tmp_path: Path, services: tuple[Storage, Dataflow]) -> None:
    """A pipeline of the project, with its own counters, in a worker that knows only what was staged."""
    posts = [{"id": str(n), "text": "a word", "created_at": "2026-11-19T10:00:00Z"} for n in range(7)]
    text = "".join(json.dumps(post) + "\n" for post in posts)
    clients.storage_client().bucket(cloud.BUCKET).blob("posts.jsonl").upload_from_string(text)
    options = {
        "source": f"gs://{cloud.BUCKET}/posts.jsonl",
        "date": "2026-11-19",
        "output": f"{ROOT}/{{dataset}}/date=2026-11-19/a",
    }
    job = submission.submit("pipelines.posts.fetch", options, "Fetch", Request(new_name(), "r1", WHERE), ROOT)
    done, told = wait(job)
    assert done.state == "DONE", dataflow.failure(done, "")
    found = dataflow.counters(done)
    assert 7 in found.values()
    assert told[-1].counters == found
    used = dataflow.usage(done)
    assert used["vcpu_hours"] > 0
    assert used["memory_gb_hours"] > 0
    expected = used["vcpu_hours"] * 0.056 + used["memory_gb_hours"] * 0.003557 + used["shuffle_gb"] * 0.011
    assert used["estimated_cost_usd"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("duplicates", ["answer", "conflict"])
def test_the_same_request_is_the_same_job(service: Dataflow, duplicates: Any) -> None:
    """While it runs and when it is over, in either way that Dataflow says so."""
    service.duplicates = duplicates
    name = new_name()
    first = submit("sleep", 0.1, name)
    assert submit("sleep", 0.1, name).id == first.id
    wait(first)
    again = submit("sleep", 0.1, name)
    assert (again.id, again.state) == (first.id, "DONE")
    assert [job.name for job in service.jobs].count(name) == 1


def test_a_lost_answer_makes_no_second_job(service: Dataflow) -> None:
    name = new_name()
    service.faults.at(1, Fault("lost"), call="jobs.create")
    job = submit("sleep", 0.1, name)
    assert [each.id for each in service.jobs if each.name == name] == [job.id]


@pytest.mark.parametrize("duplicates", ["answer", "conflict"])
def test_a_job_of_somebody_else_is_left_alone(service: Dataflow, duplicates: Any) -> None:
    service.duplicates = duplicates
    name = new_name()
    service.hold(name)
    submit("sleep", 0, name, "theirs")
    with pytest.raises(ConflictError, match=f"active Dataflow job named {name} already"):
        submit("sleep", 0, name, "ours")
    assert dataflow.find(name, "ours", WHERE) is None


def test_a_job_is_found_by_name_and_request(service: Dataflow) -> None:
    name = new_name()
    assert dataflow.find(name, "r1", WHERE) is None
    job = submit("sleep", 0.1, name)
    assert dataflow.find(name, "r1", WHERE) == dataflow.get(job.id, WHERE)
    done, _ = wait(job)
    assert dataflow.find(name, "r1", WHERE) == done
    assert dataflow.get("2026-01-01_00_00_00-1", WHERE) is None


@pytest.mark.parametrize("fault", [Fault("status", 503), Fault("status", 429), Fault("cut"), Fault("lost")])
def test_staging_and_creating_survive_what_passes(service: Dataflow, fault: Fault) -> None:
    for call in ("objects.insert", "jobs.create"):
        service.faults.at(1, fault, call=call)
    done, _ = wait(submit("sleep", 0))
    assert done.state == "DONE"


def test_a_bucket_that_is_not_there_is_told_at_once(service: Dataflow) -> None:
    started = time.monotonic()
    with pytest.raises(SettingError, match="could not write gs://nowhere/"):
        submission.submit(
            "dataflow_case", {"input": '["sleep", 0]'}, "Etl", Request(new_name(), "r1", WHERE), "gs://nowhere/data"
        )
    assert time.monotonic() - started < 10


def test_a_folder_is_no_storage_for_a_job(service: Dataflow) -> None:
    with pytest.raises(SettingError, match=r"can't read data, .+; set storage in \[millrace\]"):
        submission.submit("dataflow_case", {}, "Etl", Request(new_name(), "r1", WHERE), "data")


def test_no_region_is_told(service: Dataflow, setting: Set) -> None:
    setting("gcp", "region", "")
    with pytest.raises(SettingError, match=r"set region in \[gcp\]"):
        dataflow.place()


def test_errors_of_the_submitting_process_are_its_callers() -> None:
    def ours() -> None:
        raise SourceError("no such thing")

    def other() -> None:
        raise KeyError("bug")

    def secret() -> None:
        raise ValueError(json.dumps({"access_token": "ya29.abcdefgh"}))

    assert child.in_child(lambda: "fine") == "fine"
    with pytest.raises(SourceError, match=r"^no such thing$"):
        child.in_child(ours)
    with pytest.raises(RuntimeError, match="KeyError: 'bug'"):
        child.in_child(other)
    with pytest.raises(RuntimeError, match="ValueError: .*access_token.*…") as error:
        child.in_child(secret)
    assert "29.abcdefgh" not in str(error.value).splitlines()[-1]
    with pytest.raises(TransientError, match=r"without an answer \(3\)"):
        child.in_child(lambda: __import__("os")._exit(3))


def test_an_interrupt_ends_the_submitting_process() -> None:
    """Who is stopped while a child submits does not leave it behind to submit."""
    code = """
import os, signal, subprocess, sys, time
from workflows.engine import child
def stop(*_): raise SystemExit(5)
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 0.5)
try:
    child.in_child(lambda: time.sleep(60))
finally:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        print("no child")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=running.environment(), capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (5, "no child\n"), done


def test_workers_install_pipelines_and_nothing_else(tmp_path: Path) -> None:
    """The same sources are the same bytes; what the package needs is what setup.py says that pipelines need."""
    (tmp_path / "again").mkdir()
    wheel, again = Path(worker_package.write(str(tmp_path))), Path(worker_package.write(str(tmp_path / "again")))
    assert wheel.name == again.name
    assert wheel.read_bytes() == again.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
    assert {name.split("/")[0] for name in names} == {"pipelines", info}
    assert "pipelines/posts/etl.py" in names
    needs = (running.ROOT / "pipelines" / "requirements.txt").read_text(encoding="utf-8").split()
    assert [line.split(": ")[1] for line in metadata.splitlines() if line.startswith("Requires-Dist")] == needs
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--no-index",
            "--no-deps",
            "--target",
            str(tmp_path / "in"),
            str(wheel),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


# --- options


def argv(task: str = "Etl") -> list[str]:
    return beam_options.arguments(task)


def test_options_are_given_as_beam_wants_them(service: Dataflow, setting: Set) -> None:
    for key, value in {
        "machine-type": "n2-standard-4",
        "use_public_ips": "false",
        "enable_hot_key_logging": "yes",
        "experiments": "a,b=c",
        "labels": "team=data, env=prod",
        "sdk_harness_container_image_overrides": "\n.*java.*,example.com/java",
        "max_num_workers": "7",
        "disk_size_gb": "",
        "no_auth": "false",
    }.items():
        setting("dataflow", key, value)
    setting("dataflow.Etl", "max_num_workers", "9")
    given = argv()
    assert given[0].startswith("--dataflow_endpoint=")
    assert given[1:] == [
        "--machine_type=n2-standard-4",
        "--no_use_public_ips",
        "--enable_hot_key_logging",
        "--experiments=a,b=c",
        "--labels=team=data",
        "--labels=env=prod",
        "--sdk_harness_container_image_overrides=.*java.*,example.com/java",
        "--max_num_workers=9",
    ]
    assert "--max_num_workers=7" in argv("Count")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("machine_typ", "x", "Beam has no such option; did you mean machine_type?"),
        ("num_workers", "many", "invalid int value: 'many'"),
        ("autoscaling_algorithm", "BOO", "invalid choice: 'BOO'"),
        ("use_public_ips", "perhaps", "allowed is true or false"),
        ("region", "us-east1", r"say region in \[gcp\]"),
        ("input", "x", "Beam has no such option"),
    ],
)
def test_an_option_that_beam_does_not_take_is_told(
    service: Dataflow, setting: Set, key: str, value: str, said: str
) -> None:
    setting("dataflow.Etl", key, value)
    jobs = len(service.jobs)
    with pytest.raises(SettingError, match=rf"^\[dataflow.Etl\] {key} = '{value}', .*{said}"):
        submit("sleep", 0)
    assert len(service.jobs) == jobs


def test_settings_reach_the_job(service: Dataflow, setting: Set) -> None:
    setting("dataflow", "machine_type", "n2-standard-4")
    setting("dataflow", "no_use_public_ips", "true")
    setting("dataflow", "labels", "team=data")
    setting("dataflow", "temp_location", f"gs://{cloud.BUCKET}/elsewhere")
    setting("gcp", "kms_key", "projects/p/locations/l/keyRings/r/cryptoKeys/k")
    submit("sleep", 0)
    made = service.jobs[-1]
    pool = made.submitted.environment.worker_pools[0]
    assert pool.machine_type == "n2-standard-4"
    assert pool.ip_configuration.name == "WORKER_IP_PRIVATE"
    assert made.submitted.environment.service_kms_key_name.endswith("cryptoKeys/k")
    assert dict(made.submitted.labels) == {"team": "data", "millrace-task": "etl"}
    assert made.options["temp_location"].startswith(f"gs://{cloud.BUCKET}/elsewhere/")
    assert made.options["staging_location"].startswith(f"{ROOT}/_dataflow/")


# --- waiting


def test_a_failed_job_is_told_with_its_own_error(service: Dataflow) -> None:
    """Our own sentence where a worker raised one, the link, and the command that tries again."""
    done, told = wait(submit("expand", f"gs://{cloud.BUCKET}/nothing/*"))
    assert done.state == "FAILED"
    error = dataflow.failure(done, "luigi --module workflows Report")
    assert isinstance(error, JobFailedError)
    text = str(error)
    assert text.startswith(f"Dataflow job {done.name} failed: ")
    assert f"gs://{cloud.BUCKET}/nothing/*" in text
    assert "Traceback" not in text
    assert "while running" not in text
    assert text.endswith(f"; see {done.url}; run again: luigi --module workflows Report")
    assert told[-1].error in text


def test_a_bug_in_a_pipeline_is_told_by_its_last_line(service: Dataflow) -> None:
    done, _ = wait(submit("sleep", "a word"))
    assert "failed: TypeError: " in str(dataflow.failure(done, "again"))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ([], ""),
        (["Startup of the worker pool failed: ZONE_RESOURCE_POOL_EXHAUSTED.", "Workflow failed."], "Startup"),
        (["Workflow failed. Causes: The Dataflow job appears to be stuck."], "appears to be stuck"),
        (
            [
                "Error message from worker: Traceback (most recent call last):\n  File x\nValueError: first",
                "Traceback …\npipelines.errors.SourceError: a broken file [while running 'Read-ptransform-1']\n",
                "Error message from worker: Traceback\n  File x\nKeyError: 'y' [while running 'A']\n\nNote: imports, …",
                "Workflow failed. Causes: S01:Read failed.",
            ],
            "a broken file",
        ),
        (
            ["Traceback\n  File x\nKeyError: 'y' [while running 'A']\n\nNote: imports, …", "Workflow failed."],
            "KeyError: 'y'",
        ),
    ],
)
def test_the_error_of_consequence(said: list[str], told: str) -> None:
    found = dataflow.consequence(said)
    assert told in found
    assert "while running" not in found


def test_an_error_that_passes_stays_one(service: Dataflow) -> None:
    name = new_name()
    service.fail(name, "Traceback …\npipelines.errors.NotThereYetError: the file of 2026-11-19 is not there yet")
    done, _ = wait(submit("sleep", 0, name))
    error = dataflow.failure(done, "again")
    assert isinstance(error, NotThereYetError)
    assert "the file of 2026-11-19 is not there yet; see https://" in str(error)


def test_a_job_that_somebody_cancelled(service: Dataflow) -> None:
    name = new_name()
    service.hold(name)
    job = submit("sleep", 0, name)
    threading.Timer(0.5, service.cancel, [job.id]).start()
    done, told = wait(job)
    assert done.state == "CANCELLED"
    assert told[0].state in ("PENDING", "RUNNING")
    error = dataflow.failure(done, "again")
    assert isinstance(error, JobCancelledError)
    assert str(error).startswith(f"Dataflow job {name} was cancelled; see https://")


def test_a_job_that_is_replaced_is_followed(service: Dataflow) -> None:
    name = new_name()
    service.hold(name)
    job = submit("sleep", 0, name)
    other = service.replace(job.id)
    attached = dataflow.find(name, "r1", WHERE)
    assert attached
    assert (attached.id, attached.replaced_by, attached.finished) == (job.id, other.id, False)
    service.release()
    done, _ = wait(attached)
    assert (done.id, done.state) == (other.id, "DONE")


def test_a_replaced_job_is_cancelled_as_the_other(service: Dataflow) -> None:
    name = new_name()
    service.hold(name)
    job = submit("sleep", 0, name)
    other = service.replace(job.id)
    attached = dataflow.get(job.id, WHERE)
    assert attached
    gone = dataflow.cancel(attached)
    assert (gone.id, gone.state) == (other.id, "CANCELLED")


def test_a_new_job_may_be_unknown_for_a_while(service: Dataflow) -> None:
    service.unseen = 3
    done, _ = wait(submit("sleep", 0))
    assert done.state == "DONE"


def test_a_job_that_stays_unknown_is_given_up(service: Dataflow, setting: Set) -> None:
    setting("gcp", "patience", "1")
    with pytest.raises(ServiceError, match="Dataflow has no job lost"):
        wait(Job("2026-01-01_00_00_00-1", "lost", "", "", WHERE))


@pytest.mark.parametrize("kind", ["500", "503", "429", "cut"])
def test_what_passes_while_waiting_is_asked_again(service: Dataflow, kind: str) -> None:
    fault = Fault("cut") if kind == "cut" else Fault("status", int(kind))
    job = submit("sleep", 0.5)
    for number in (1, 2, 4):
        service.faults.at(number, fault, call="jobs.get")
    service.faults.at(1, fault, call="messages.list")
    service.faults.at(2, fault, call="metrics.get")
    done, _ = wait(job)
    assert done.state == "DONE"


def test_a_service_that_stays_silent_is_given_up(service: Dataflow, setting: Set) -> None:
    setting("dataflow", "stuck_after", "1")
    job = submit("sleep", 0)
    service.faults.randomly(1.0, 1, kinds=["status"])
    with pytest.raises(ServiceError, match=f"Dataflow has not told of job {job.name} .* for 1 s") as error:
        wait(job)
    assert service.url not in str(error.value)


def test_a_job_stuck_in_cancelling_is_given_up(service: Dataflow, setting: Set) -> None:
    setting("dataflow", "stuck_after", "1")
    setting("dataflow", "cancel_wait", "0.5")
    name = new_name()
    service.hold(name)
    service.stick(name)
    job = submit("sleep", 0, name)
    stuck = dataflow.cancel(job)
    assert stuck.state == "CANCELLING"
    with pytest.raises(JobCancelledError, match=f"job {name} is still being cancelled after 1 s"):
        wait(stuck)


def test_cancel_waits_until_it_is_done(service: Dataflow) -> None:
    name = new_name()
    service.hold(name)
    job = submit("sleep", 0, name)
    assert dataflow.cancel(job).state == "CANCELLED"
    assert dataflow.cancel(job).state == "CANCELLED", "a job that has ended may be asked again"


def test_a_job_can_be_cancelled_in_the_moment_in_which_it_is_created(service: Dataflow) -> None:
    name = new_name()
    service.hold(name)
    service.unseen = 2
    assert dataflow.cancel(submit("sleep", 0, name)).state == "CANCELLED"


def test_what_was_drained_is_not_whole(service: Dataflow, setting: Set) -> None:
    setting("dataflow", "streaming", "true")
    name = new_name()
    service.hold(name)
    assert dataflow.drain(submit("sleep", 0, name)).state in ("DRAINING", "DRAINED")
    found = dataflow.find(name, "r1", WHERE)
    assert found
    done, _ = wait(found)
    assert done.state == "DRAINED"
    error = dataflow.failure(done, "again")
    assert isinstance(error, JobCancelledError)
    assert "was drained, so what it wrote is not whole" in str(error)


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ("Cancel", "asked Dataflow to cancel"),
        ("drain", "is a batch job, which can be cancelled but not drained"),
        ("stop", "'stop' is no command; there are cancel and drain"),
    ],
)
def test_who_types_into_luigid_is_heard_and_answered(service: Dataflow, content: str, answer: str) -> None:
    name = new_name()
    service.hold(name)
    job = submit("sleep", 0, name)
    messages: queue.Queue[Typed] = queue.Queue()
    typed, over = Typed(content), Typed("cancel")
    messages.put(typed)
    messages.put(over)
    done, _ = wait(job, messages)
    assert done.state == "CANCELLED"
    assert answer in typed.answers[0]


def test_a_command_does_not_wait_for_the_next_look(service: Dataflow, setting: Set) -> None:
    setting("dataflow", "poll_max", "600")
    name = new_name()
    service.hold(name)
    job = submit("sleep", 0, name)
    messages: queue.Queue[Typed] = queue.Queue()
    threading.Timer(0.3, messages.put, [Typed("cancel")]).start()
    started = time.monotonic()
    wait(job, messages)
    assert time.monotonic() - started < 10


def test_an_interrupt_passes_and_leaves_the_job(service: Dataflow) -> None:
    name = new_name()
    service.hold(name)
    job = submit("sleep", 0, name)

    def report(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dataflow.wait(job, report)
    found = dataflow.get(job.id, WHERE)
    assert found
    assert not found.finished


def test_progress_in_a_line() -> None:
    assert Progress("RUNNING", 1, "KeyError: 'x'", {"read": 5}).message == "RUNNING, 1 worker; KeyError: 'x'"
    assert Progress("QUEUED").message == "QUEUED"


def test_a_waiting_process_keeps_little_to_itself(service: Dataflow) -> None:
    """After its job was submitted, and with what preload() imported before the fork, less than 20 MiB."""
    name = new_name()
    service.hold(name)
    code = f"""
import os, signal, sys, time
from luigi.configuration import get_config
for key, value in {{"dataflow_endpoint": {service.url!r}, "poll_max": "0.1"}}.items():
    get_config().set("dataflow", key, value)
get_config().set("gcp", "region", {cloud.REGION!r})
from workflows.engine import runners
from workflows.engine.gcloud import dataflow, submission
runners.preload("pipelines.posts.count", "DataflowRunner")
options = {{"input": '["sleep", 0]', "output": "{ROOT}/out"}}
reading, writing = os.pipe()
child = os.fork()
if not child:
    job = submission.submit("dataflow_case", options, "Etl", submission.Request({name!r}, "r1", {WHERE!r}), {ROOT!r})
    os.write(writing, b"x")
    dataflow.wait(job, lambda progress: None)
    os._exit(0)
os.read(reading, 1)
time.sleep(2)
with open(f"/proc/{{child}}/smaps_rollup") as file:
    parts = dict(line.split(":") for line in file.read().splitlines()[1:])
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
print(sum(int(parts[key].split()[0]) for key in ("Private_Clean", "Private_Dirty")) // 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=running.environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 20

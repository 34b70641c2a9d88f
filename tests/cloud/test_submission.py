"""Pipelines as Dataflow jobs, through Google's own clients and over real connections, in the local Dataflow."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import running
from dataflow_running import PLACE, ROOT, WHERE, Set, new_name, submit, wait
from local_dataflow import read

import localcloud
from localcloud.dataflow import Dataflow
from localcloud.faults import Fault
from localcloud.storage import Storage
from millrace.errors import ConflictError, ServiceError, SettingError
from millrace.runners.dataflow import building, jobs, submission
from millrace.runners.runner import Ticket
from millrace.tasks import session


def test_a_job_runs_to_its_end(local: Dataflow) -> None:
    name = new_name()
    job = submit("sleep", 0.1, name, "request-1")
    assert (job.name, job.request_id) == (name, "request-1")
    assert job.url == (
        f"https://console.cloud.google.com/dataflow/jobs/{localcloud.REGION}/{job.id}?project={localcloud.PROJECT}"
    )
    done, told = wait(job)
    assert (done.id, done.state, done.finished) == (job.id, "DONE", True)
    assert told[-1].state == "DONE"
    submitted = local.jobs[-1]
    assert submitted.client_request_id == "request-1"
    assert dict(submitted.submitted.labels) == {"millrace-task": "etl"}
    assert submitted.options["temp_location"].startswith(f"{ROOT}/_dataflow/{name}")
    assert not submitted.options["dry_run"]


@pytest.mark.parametrize("duplicates", ["answer", "conflict"])
def test_the_same_request_is_the_same_job(local: Dataflow, duplicates: Any) -> None:
    """While it runs and when it is over, in either way that Dataflow says so."""
    local.duplicates = duplicates
    name = new_name()
    first = submit("sleep", 0.1, name)
    assert submit("sleep", 0.1, name).id == first.id
    wait(first)
    again = submit("sleep", 0.1, name)
    assert (again.id, again.state) == (first.id, "DONE")
    assert [job.name for job in local.jobs].count(name) == 1


def test_a_lost_answer_makes_no_second_job(local: Dataflow) -> None:
    name = new_name()
    local.faults.at(1, Fault("lost"), call="jobs.create")
    job = submit("sleep", 0.1, name)
    assert [each.id for each in local.jobs if each.name == name] == [job.id]


@pytest.mark.parametrize("duplicates", ["answer", "conflict"])
def test_a_job_of_somebody_else_is_left_alone(local: Dataflow, duplicates: Any) -> None:
    local.duplicates = duplicates
    name = new_name()
    local.hold(name)
    submit("sleep", 0, name, "theirs")
    with pytest.raises(ConflictError, match=f"active Dataflow job named {name} already"):
        submit("sleep", 0, name, "ours")
    assert jobs.find(session.current().google, name, "ours", WHERE) is None


def refused(local: Dataflow) -> int:
    """How many jobs were refused."""
    return sum(each.call == "jobs.create" and each.status == local.full for each in local.requests)


@pytest.mark.parametrize("status", [400, 429])
def test_who_finds_the_quota_of_jobs_used_up_waits_for_its_turn(local: Dataflow, status: int) -> None:
    """Until another job has come to its end, whichever status Dataflow says it with; it says so, once."""
    local.most, local.full = 1, status
    local.hold("*")
    first = submit("sleep", 0)
    before, told = refused(local), list[str]()

    def release() -> None:
        running.wait_for(lambda: refused(local) >= before + 3, 60)
        local.release()

    thread = threading.Thread(target=release)
    thread.start()
    second = submit("sleep", 0, waits=told.append)
    thread.join()
    assert refused(local) >= before + 3
    assert [job.id for job in local.jobs[-2:]] == [first.id, second.id]
    [why] = told
    assert why.startswith(
        f"waits for its turn: project {localcloud.PROJECT} runs as many Dataflow jobs as its quota allows"
    )


def test_a_quota_of_jobs_that_stays_used_up_is_named(local: Dataflow, setting: Set) -> None:
    """After [dataflow] stuck_after seconds; a later run may succeed, so that no attempt is spent."""
    setting("dataflow", "stuck_after", "1")
    local.most, local.full = 1, 429
    local.hold("*")
    submit("sleep", 0)
    name = new_name()
    with pytest.raises(ServiceError) as error:
        submit("sleep", 0, name)
    for part in (name, f"project {localcloud.PROJECT} runs as many Dataflow jobs as its quota allows", "within 1 s"):
        assert part in str(error.value)


def test_a_job_that_is_there_but_not_listed_yet_is_not_called_somebody_elses(local: Dataflow, setting: Set) -> None:
    """A list may be behind: the next run finds it."""
    local.duplicates = "conflict"
    name = new_name()
    submit("sleep", 0, name)
    local.jobs[-1].unseen = 1000
    setting("gcp", "patience", "1")
    with pytest.raises(ServiceError, match=f"there is a job named {name} already .* has not listed it for 1 s"):
        submit("sleep", 0, name)


@pytest.mark.parametrize("fault", [Fault("status", 503), Fault("status", 429), Fault("cut"), Fault("lost")])
def test_staging_and_creating_survive_what_passes(local: Dataflow, fault: Fault) -> None:
    for call in ("objects.insert", "jobs.create"):
        local.faults.at(1, fault, call=call)
    done, _ = wait(submit("sleep", 0))
    assert done.state == "DONE"


def test_a_bucket_that_is_not_there_is_told_at_once(local: Dataflow, setting: Set) -> None:
    setting("millrace", "storage", "gs://nowhere/data")
    started = time.monotonic()
    with pytest.raises(SettingError, match="could not write gs://nowhere/"):
        submission.submit(
            session.current().google,
            "dataflow_case",
            {"input": '["sleep", 0]'},
            "Etl",
            Ticket(new_name(), "r1", PLACE),
        )
    assert time.monotonic() - started < 10


def test_a_folder_is_no_storage_for_a_job(local: Dataflow, setting: Set) -> None:
    setting("millrace", "storage", "data")
    with pytest.raises(SettingError, match=r"can't read data, .+; set storage in \[millrace\]"):
        submission.submit(session.current().google, "dataflow_case", {}, "Etl", Ticket(new_name(), "r1", PLACE))


def test_options_that_beam_refuses_together_are_told(local: Dataflow, setting: Set) -> None:
    """Each of which is right alone."""
    setting("dataflow", "environment_type", "DOCKER")
    setting("dataflow", "environment_config", "image")
    setting("dataflow", "environment_options", "docker_container_image=another")
    jobs = len(local.jobs)
    with pytest.raises(
        SettingError, match=r"^Beam refuses the job's options: .*environment_config.*docker_container_image"
    ):
        submit("sleep", 0)
    assert len(local.jobs) == jobs


def test_settings_reach_the_job(local: Dataflow, setting: Set) -> None:
    setting("dataflow", "machine_type", "n2-standard-4")
    setting("dataflow", "no_use_public_ips", "true")
    setting("dataflow", "labels", "team=data")
    setting("dataflow", "temp_location", f"gs://{localcloud.BUCKET}/elsewhere")
    setting("gcp", "kms_key", "projects/p/locations/l/keyRings/r/cryptoKeys/k")
    submit("sleep", 0)
    made = local.jobs[-1]
    pool = made.submitted.environment.worker_pools[0]
    assert pool.machine_type == "n2-standard-4"
    assert pool.ip_configuration.name == "WORKER_IP_PRIVATE"
    assert made.submitted.environment.service_kms_key_name.endswith("cryptoKeys/k")
    assert dict(made.submitted.labels) == {"team": "data", "millrace-task": "etl"}
    assert made.options["temp_location"].startswith(f"gs://{localcloud.BUCKET}/elsewhere/")
    assert made.options["staging_location"].startswith(f"{ROOT}/_dataflow/")


def test_a_template_is_described_as_jobs_are(local: Dataflow, setting: Set) -> None:
    """With the options of jobs, but staged beside itself, where nothing is cleared away; no settings are lost."""
    uri = f"gs://{localcloud.BUCKET}/templates/described"
    setting("dataflow", "experiments", "one")
    building.build_classic(session.current().google, "pipelines.posts.window", uri)
    found = json.loads(read(uri))["environment"]["sdkPipelineOptions"]["options"]
    assert {"one", "disable_logging_submission_environment"} <= set(found["experiments"])
    assert (found["project"], found["region"], found["template_location"]) == (*WHERE, uri)
    assert found["job_name"].startswith("window")
    assert found["staging_location"].startswith(f"{uri}_staged")
    assert found["temp_location"].startswith(f"{ROOT}/_dataflow")
    setting("dataflow", "staging_location", f"gs://{localcloud.BUCKET}/elsewhere")
    building.build_classic(session.current().google, "pipelines.posts.window", uri)
    found = json.loads(read(uri))["environment"]["sdkPipelineOptions"]["options"]
    assert found["staging_location"].startswith(f"gs://{localcloud.BUCKET}/elsewhere")


def test_a_job_has_its_tasks_label_and_the_pipelines_package(local: Dataflow, setting: Set, tmp_path: Path) -> None:
    """A label's value has at most 63 characters; who names an image of their own, or a setup.py, has packed already."""

    def given(option: str) -> list[str]:
        ticket, google = Ticket("x", "r1", PLACE), session.current().google
        options = submission._job_options(google, "pipelines.posts.etl", "Täsk." + "x" * 99, ticket, str(tmp_path))
        return [each.partition("=")[2] for each in options if each.startswith(f"--{option}=")]

    assert given("labels") == ["millrace-task=t-sk-" + "x" * 58]
    (package,) = given("extra_package")
    assert Path(package).parent == tmp_path
    for option in ("sdk_container_image", "setup_file"):
        setting("dataflow", option, "mine")
        assert given("extra_package") == []
        setting("dataflow", option, "")


def test_a_waiting_process_keeps_little_to_itself(local: Dataflow) -> None:
    """After its job was submitted, and with what preload() imported before the fork, less than 20 MiB."""
    name, looks = new_name(), sum(each.call == "jobs.get" for each in local.requests)
    local.hold(name)
    code = f"""
import os, signal, sys, time
from luigi.configuration import get_config
for key, value in {{"dataflow_endpoint": {local.url!r}, "poll_max": "0.1"}}.items():
    get_config().set("dataflow", key, value)
get_config().set("gcp", "region", {localcloud.REGION!r})
get_config().set("millrace", "storage", {ROOT!r})
from millrace import runners
from millrace.tasks import session
from millrace.runners.dataflow import building, jobs, submission
from millrace.runners.runner import Ticket
runners.of("DataflowRunner", session.current().google).preload("pipelines.posts.count")
options = {{"input": '["sleep", 0]', "output": "{ROOT}/out"}}
reading, writing = os.pipe()
child = os.fork()
if not child:
    ticket = Ticket({name!r}, "r1", {PLACE!r})
    job = submission.submit(session.current().google, "dataflow_case", options, "Etl", ticket)
    os.write(writing, b"x")
    jobs.wait(job, lambda progress: None)
    os._exit(0)
os.read(reading, 1)
print("submitted", flush=True)
sys.stdin.readline()
with open(f"/proc/{{child}}/smaps_rollup") as file:
    parts = dict(line.split(":") for line in file.read().splitlines()[1:])
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
print(sum(int(parts[key].split()[0]) for key in ("Private_Clean", "Private_Dirty")) // 1024)
"""
    process = started(code)
    assert process.stdout
    assert process.stdout.readline() == "submitted\n", process.communicate()
    running.wait_for(lambda: sum(each.call == "jobs.get" for each in local.requests) >= looks + 2, 60)
    said, errors = process.communicate("measure\n", timeout=60)
    assert process.returncode == 0, errors
    assert sum(each.call == "jobs.get" for each in local.requests) >= looks + 2, "it waits for the job"
    assert int(said) < 20


def test_a_child_that_outlives_its_process_creates_no_job(local: Dataflow, services: tuple[Storage, Dataflow]) -> None:
    """The process is killed while its child stages files; the child comes to its end, and nothing runs on Dataflow."""
    name, storage = new_name(), services[0]
    before = len(storage.requests)
    for n in range(1, 200):
        local.faults.at(n, Fault("status"), call="objects.insert")
    code = f"""
from luigi.configuration import get_config
get_config().set("dataflow", "dataflow_endpoint", {local.url!r})
get_config().set("millrace", "storage", {ROOT!r})
from millrace.runners.dataflow import submission
from millrace.runners.runner import Ticket
from millrace.tasks import session
options = {{"input": '["sleep", 0]', "output": "{ROOT}/out"}}
ticket = Ticket({name!r}, "r1", {PLACE!r})
submission.submit(session.current().google, "dataflow_case", options, "Etl", ticket)
"""
    process = started(code)

    def staged(status: int) -> bool:
        return any((each.call, each.status) == ("objects.insert", status) for each in storage.requests[before:])

    running.wait_for(lambda: process.poll() is not None or staged(503), 60)
    assert staged(503), process.communicate()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    local.faults.clear()
    process.communicate(timeout=60)  # the child has the same output, which ends when it does
    assert staged(200), "the child went on"
    assert name not in [job.name for job in local.jobs]


def started(code: str) -> "subprocess.Popen[str]":
    """A process of its own that runs some Python."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=running.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

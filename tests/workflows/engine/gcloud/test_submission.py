"""Pipelines as Dataflow jobs, through Google's own clients and over real connections, in the local Dataflow."""

import subprocess
import sys
import time
from typing import Any

import cloud
import pytest
import running
from cloud.dataflow import Dataflow
from cloud.faults import Fault
from cloud.serving import Request as Asked
from cloud.serving import Response, error_response
from cloud.storage import Storage
from dataflow_running import ROOT, WHERE, Set, forget_clients, new_name, submit, wait

from pipelines.errors import ConflictError, ServiceError, SettingError
from workflows.engine.gcloud import dataflow, submission
from workflows.engine.gcloud.submission import Request


def test_a_job_runs_to_its_end(local: Dataflow) -> None:
    name = new_name()
    job = submit("sleep", 0.1, name, "request-1")
    assert (job.name, job.request_id) == (name, "request-1")
    assert job.url == (
        f"https://console.cloud.google.com/dataflow/jobs/{cloud.REGION}/{job.id}?project={cloud.PROJECT}"
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
    assert dataflow.find(name, "ours", WHERE) is None


class Full(Dataflow):
    """Runs one job at a time, and refuses another as Dataflow does one above its quota; that often at most."""

    def __init__(self, storage: Storage, status: int, patience: int) -> None:
        super().__init__(storage.worker_url)
        self.status, self.patience, self.refused = status, patience, 0

    def handle(self, request: Asked) -> Response:
        if self.call_of(request) == "jobs.create" and any(not job.over for job in self.jobs):
            self.refused += 1
            if self.refused == self.patience:
                self.release()
            return error_response(
                self.status,
                "(a228cd0fe9f70479): The workflow could not be created. Causes: (8ac844dc41db82af): Dataflow quota "
                f"error for jobs-per-project quota. Project {cloud.PROJECT} is running 1 jobs. Please check the quota "
                "usage via GCP Console.",
            )
        return super().handle(request)


@pytest.mark.parametrize("status", [400, 429])
def test_who_finds_the_quota_of_jobs_used_up_waits_for_its_turn(
    local: Dataflow, services: tuple[Storage, Dataflow], setting: Set, status: int
) -> None:
    """Until another job has come to its end, whichever status Dataflow says it with."""
    with Full(services[0], status, 3) as full:
        setting("dataflow", "dataflow_endpoint", full.url)
        forget_clients()
        full.hold("*")
        first = submit("sleep", 0)
        second = submit("sleep", 0)
        assert full.refused >= 3
        assert [job.id for job in full.jobs] == [first.id, second.id]


def test_a_quota_of_jobs_that_stays_used_up_is_named(
    local: Dataflow, services: tuple[Storage, Dataflow], setting: Set
) -> None:
    """After [dataflow] stuck_after seconds; a later run may succeed, so that no attempt is spent."""
    setting("dataflow", "stuck_after", "1")
    with Full(services[0], 429, 0) as full:
        setting("dataflow", "dataflow_endpoint", full.url)
        forget_clients()
        full.hold("*")
        submit("sleep", 0)
        name = new_name()
        with pytest.raises(ServiceError) as error:
            submit("sleep", 0, name)
        full.release()
    for part in (name, f"project {cloud.PROJECT} runs as many Dataflow jobs as its quota allows", "within 1 s"):
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


def test_a_bucket_that_is_not_there_is_told_at_once(local: Dataflow) -> None:
    started = time.monotonic()
    with pytest.raises(SettingError, match="could not write gs://nowhere/"):
        submission.submit(
            "dataflow_case", {"input": '["sleep", 0]'}, "Etl", Request(new_name(), "r1", WHERE), "gs://nowhere/data"
        )
    assert time.monotonic() - started < 10


def test_a_folder_is_no_storage_for_a_job(local: Dataflow) -> None:
    with pytest.raises(SettingError, match=r"can't read data, .+; set storage in \[millrace\]"):
        submission.submit("dataflow_case", {}, "Etl", Request(new_name(), "r1", WHERE), "data")


def test_settings_reach_the_job(local: Dataflow, setting: Set) -> None:
    setting("dataflow", "machine_type", "n2-standard-4")
    setting("dataflow", "no_use_public_ips", "true")
    setting("dataflow", "labels", "team=data")
    setting("dataflow", "temp_location", f"gs://{cloud.BUCKET}/elsewhere")
    setting("gcp", "kms_key", "projects/p/locations/l/keyRings/r/cryptoKeys/k")
    submit("sleep", 0)
    made = local.jobs[-1]
    pool = made.submitted.environment.worker_pools[0]
    assert pool.machine_type == "n2-standard-4"
    assert pool.ip_configuration.name == "WORKER_IP_PRIVATE"
    assert made.submitted.environment.service_kms_key_name.endswith("cryptoKeys/k")
    assert dict(made.submitted.labels) == {"team": "data", "millrace-task": "etl"}
    assert made.options["temp_location"].startswith(f"gs://{cloud.BUCKET}/elsewhere/")
    assert made.options["staging_location"].startswith(f"{ROOT}/_dataflow/")


def test_a_waiting_process_keeps_little_to_itself(local: Dataflow) -> None:
    """After its job was submitted, and with what preload() imported before the fork, less than 20 MiB."""
    name = new_name()
    local.hold(name)
    code = f"""
import os, signal, sys, time
from luigi.configuration import get_config
for key, value in {{"dataflow_endpoint": {local.url!r}, "poll_max": "0.1"}}.items():
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

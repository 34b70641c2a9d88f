"""A run that waits for Dataflow jobs is stopped, killed, or not alone: no job is doubled, and none is left running.

Where a test needs a moment to come, it waits for the request by which the service sees that it has.
"""

import json
import os
import signal
import subprocess
from pathlib import Path

import cloud_running
import pytest
import running
from cloud_running import FLAGS, Place, refuse, state_of
from http_source import Reply, serving
from running import Ran

from localcloud.faults import Fault
from pipelines.posts.tables import TABLES

DATE = ("--date", running.DAY)
FETCH = ("Fetch", "--source", "sample://", *DATE)


def group(process: "subprocess.Popen[str]") -> list[int]:
    """The processes that are left of a luigi process's group."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [pid for pid in pids if _group_of(pid) == process.pid]


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def stopped(process: "subprocess.Popen[str]") -> Ran:
    """A stopped run, which has ended, not with 0, with sentences only, and left no process behind."""
    ran = cloud_running.end(process, 60)
    assert ran.code != 0, ran
    assert "Traceback" not in ran.out, ran
    assert "stopped by " in ran.out, ran
    assert group(process) == [], ran
    return ran


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("how", ["SIGTERM to the process", "SIGTERM twice", "SIGINT to the group", "SIGINT to luigi"])
def test_stopped_run_cancels_its_job(place: Place, how: str, workers: int) -> None:
    """SIGTERM as from systemd, SIGINT as from Ctrl-C: the job is cancelled, the ledger says why, nothing is left."""
    process = place.hold(*FETCH, "--workers", workers)
    if how == "SIGINT to the group":
        os.killpg(process.pid, signal.SIGINT)
    elif how == "SIGINT to luigi":
        process.send_signal(signal.SIGINT)
    else:
        process.terminate()
    if how == "SIGTERM twice":
        process.terminate()
    ran = stopped(process)
    [job] = place.jobs
    assert f"job {job.id} is cancelled" in ran.out, ran
    assert state_of(job) == "CANCELLED"
    entry = place.entry("Fetch")
    assert (entry.state, entry.job_id) == ("stopped", job.id)
    assert entry.error == f"stopped by {how.split()[0]}; job {job.id} is cancelled"
    assert place.locks() == []


def test_run_after_a_stopped_one_makes_a_new_job(place: Place) -> None:
    """Stopped, and run again: the next attempt has a job of its own, and nothing of the first is left."""
    process = place.hold(*FETCH)
    process.terminate()
    stopped(process)
    place.cloud.dataflow.release()
    place.succeed(*FETCH)
    assert [state_of(each) for each in place.jobs] == ["CANCELLED", "DONE"]
    assert place.entry("Fetch").number == 2
    assert place.leftovers() == []


def test_all_jobs_of_a_stopped_run_are_cancelled(place: Place) -> None:
    """With several tasks at work each cancels its own job."""
    place.set("millrace", batch="1")
    place.cloud.dataflow.hold("*")
    process = place.start("Report", *cloud_running.FLAGS, "--workers", 2)
    place.wait_for(lambda: len(place.jobs) == 2 and all(place.watched(job.id) for job in place.jobs))
    process.terminate()
    ran = stopped(process)
    assert [state_of(job) for job in place.jobs] == ["CANCELLED", "CANCELLED"], ran
    assert place.locks() == []


@running.long
def test_wait_for_the_cancelled_job_is_bounded(place: Place) -> None:
    """A job that does not get cancelled holds the stopped run for [dataflow] cancel_wait seconds; nor the next run."""
    place.set("dataflow", cancel_wait="1")
    place.cloud.dataflow.stick("*")
    process = place.hold(*FETCH)
    process.terminate()
    ran = stopped(process)
    [job] = place.jobs
    assert f"job {job.id} is cancelling" in ran.out, ran
    again = place.hold(*FETCH)
    assert [state_of(each) for each in place.jobs] == ["CANCELLING", "RUNNING"]
    place.cloud.dataflow.release()
    assert cloud_running.end(again).code == 0
    assert [state_of(each) for each in place.jobs] == ["CANCELLED", "DONE"]


def test_cancel_that_dataflow_does_not_answer(place: Place) -> None:
    """Where the job can't be cancelled the run says so and ends; the next one goes on with that job."""
    place.set("dataflow", cancel_wait="1")
    place.set("gcp", patience="1")
    process = place.hold(*FETCH)
    refuse(place.cloud, "jobs.update", Fault("status"))
    process.terminate()
    ran = stopped(process)
    assert "may still run; the next run finds it" in ran.out, ran
    assert place.entry("Fetch").state == "running"
    place.cloud.faults.clear()
    place.cloud.dataflow.release()
    place.succeed(*FETCH)
    assert [state_of(job) for job in place.jobs] == ["DONE"]


def test_task_that_takes_too_long_cancels_its_job(place: Place) -> None:
    """[worker] timeout: the job is cancelled, the task has failed (30), and what is said is that it took too long."""
    place.set("worker", timeout="20")  # the job must be there by then, also on a busy machine
    process = place.hold(*FETCH)
    ran = stopped(process)
    assert ran.code == 30, ran
    [job] = place.jobs
    assert state_of(job) == "CANCELLED"
    entry = place.entry("Fetch")
    assert (entry.state, entry.error) == (
        "stopped",
        f"stopped by luigi's worker timeout of 20 s; job {job.id} is cancelled",
    )
    assert "stopped by luigi's worker timeout of 20 s" in ran.out, ran
    assert place.locks() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_stopped_while_a_pipeline_works_in_process(tmp_path: Path, workers: int) -> None:
    """Stopped amid a pipeline's own code, the run ends there, and no further task begins; the next one goes on."""
    storage, path = tmp_path / "data", f"/{running.DAY}.jsonl"
    with serving() as web:
        web.reply(path, Reply(hang=True), head=[Reply()])
        flags = ("--posts-source", web.url + "/{date:%Y-%m-%d}.jsonl", *DATE, "--workers", workers)
        process = subprocess.Popen(
            running.command("Etl", *flags, "--millrace-storage", storage),
            cwd=tmp_path,
            env=running.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        running.wait_for(lambda: process.poll() is not None or web.count(f"GET {path}"), 60)
        process.terminate()
        ran = stopped(process)
        assert "Summary" not in ran.out, ran
        web.reply(path, Reply(body=b'{"id": 1, "text": "a word", "created_at": "2026-11-01T10:00:00Z"}\n'))
        running.succeed("Etl", *flags, storage=storage)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("created", [False, True])
def test_stopped_while_it_submits(place: Place, created: bool, workers: int) -> None:
    """Stopped before it knows the job's id: a job that was created is cancelled; the next run makes one job."""
    place.cloud.dataflow.hold("*")
    refuse(place.cloud, "jobs.create", Fault("lost" if created else "status"))
    process = place.start(*FETCH, "--workers", workers)
    place.wait_for(lambda: place.struck("jobs.create"))
    process.terminate()
    stopped(process)
    assert [state_of(job) for job in place.jobs] == (["CANCELLED"] if created else [])
    assert place.entry("Fetch").state == ("stopped" if created else "running")
    if workers == 1:
        return  # the next run knows no more than the ledger and Dataflow, and these are as with two workers
    place.cloud.dataflow.release()
    place.cloud.faults.clear()
    place.succeed(*FETCH)
    assert [state_of(job) for job in place.jobs] == (["CANCELLED"] if created else []) + ["DONE"]


@pytest.mark.parametrize("setting", [False, True])
def test_detached_run_leaves_its_job_to_the_next(place: Place, setting: bool) -> None:
    """--detach, or [run] detach: stopped, it leaves its job running; the next run waits for that and publishes it."""
    if setting:
        place.set("run", detach="true")
    process = place.hold(*FETCH, *([] if setting else ["--detach"]))
    process.terminate()
    ran = stopped(process)
    [job] = place.jobs
    assert f"left running as job {job.name}" in ran.out, ran
    assert state_of(job) == "RUNNING"
    assert place.locks() == []
    place.cloud.dataflow.release()
    place.succeed(*FETCH)
    assert [each.id for each in place.jobs] == [job.id]
    [manifest] = place.manifests().values()
    assert (manifest.job_id, manifest.attempt) == (job.id, place.entry("Fetch").attempt)
    assert manifest.counters["read"] > 0
    assert manifest.files


def killed(process: "subprocess.Popen[str]") -> None:
    """Kills a luigi process with all its children."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_killed_run_leaves_its_job_to_the_next(place: Place) -> None:
    """Killed (-9) while its job runs: the next run waits for the same job."""
    killed(place.hold(*FETCH))
    [job] = place.jobs
    assert place.entry("Fetch").state == "running"
    again = place.start(*FETCH)
    asked = place.asked(job.id)
    place.wait_for(lambda: place.asked(job.id) > asked)
    place.cloud.dataflow.release()
    ran = cloud_running.end(again)
    assert ran.code == 0, ran
    assert [(each.id, state_of(each)) for each in place.jobs] == [(job.id, "DONE")]
    [manifest] = place.manifests().values()
    assert manifest.job_id == job.id


def test_job_that_ends_while_nobody_watches_is_published(place: Place) -> None:
    """Killed (-9), then the job comes to its end: the next run publishes it without another job."""
    killed(place.hold(*FETCH))
    place.cloud.dataflow.release()
    place.wait_for(lambda: state_of(place.jobs[0]) == "DONE")
    place.succeed(*FETCH)
    assert [state_of(job) for job in place.jobs] == ["DONE"]
    [manifest] = place.manifests().values()
    assert manifest.job_id == place.jobs[0].id
    assert place.entry("Fetch").state == "done"


def test_job_that_fails_while_nobody_watches(place: Place) -> None:
    """Killed (-9), then the job fails: the next run makes the next attempt at once."""
    killed(place.hold(*FETCH))
    [job] = place.jobs
    place.cloud.dataflow.cancel(job.id)
    place.cloud.dataflow.release()
    place.wait_for(lambda: state_of(job) == "CANCELLED")
    place.succeed(*FETCH)
    assert [state_of(each) for each in place.jobs] == ["CANCELLED", "DONE"]
    assert place.entry("Fetch").number == 2


def test_job_that_was_never_created_is_submitted_as_the_same(place: Place) -> None:
    """Killed (-9) after the ledger has named the job and before it is there: the next run makes just that job."""
    refuse(place.cloud, "jobs.create", Fault("status"))
    process = place.start(*FETCH)
    place.wait_for(lambda: place.struck("jobs.create"))
    killed(process)
    entry = place.entry("Fetch")
    assert (entry.state, entry.job_id, place.jobs) == ("running", None, [])
    place.cloud.faults.clear()
    place.succeed(*FETCH)
    [job] = place.jobs
    assert (job.client_request_id, job.name) == (entry.request_id, entry.job_name)
    [manifest] = place.manifests().values()
    assert manifest.attempt == entry.attempt


def test_other_work_than_the_running_job_s(place: Place) -> None:
    """Where a killed run's job has other options than the next run would give it, it is cancelled, and another made."""
    killed(place.hold(*FETCH))
    place.set("posts", max_source_bytes="1000000")
    process = place.start(*FETCH)
    place.wait_for(lambda: len(place.jobs) == 2)
    place.cloud.dataflow.release()
    ran = cloud_running.end(process)
    assert ran.code == 0, ran
    assert [state_of(job) for job in place.jobs] == ["CANCELLED", "DONE"]


def test_two_runs_at_once(place: Place, undisturbed: Path) -> None:
    """Two processes with schedulers of their own, as on two hosts, make one Report: one job a task, both exit 0."""
    both = [place.start("Report", *cloud_running.FLAGS) for _ in range(2)]
    ran = [cloud_running.end(process) for process in both]
    assert [each.code for each in ran] == [0, 0], "\n".join(map(str, ran))
    assert place.stages() == cloud_running.JOBS
    assert place.wrong(running.tables(undisturbed)) == []


def test_host_that_died_is_taken_over(place: Place) -> None:
    """A lock whose holder is on another host that is no more: taken over after [gcp] lease seconds, its job too."""
    place.set("gcp", lease="2")
    killed(place.hold(*FETCH))
    [lock] = cloud_running.bucket(place.cloud).list_blobs(match_glob=f"{place.name}/_jobs/*.lock")
    holder = json.loads(lock.download_as_bytes())
    lock.upload_from_string(json.dumps({**holder, "host": "elsewhere", "boot": "another"}))
    place.cloud.dataflow.release()
    ran = place.succeed(*FETCH)
    assert "was silent for 2 s ([gcp] lease): taken over" in ran.out, ran
    assert [state_of(job) for job in place.jobs] == ["DONE"]


def test_stopped_while_it_publishes(place: Place, undisturbed: Path) -> None:
    """Stopped while BigQuery takes its time, a run ends at once; the next one publishes, without another job."""
    late = [Fault("delay", seconds=120) for _ in TABLES]
    for n, fault in enumerate(late, 1):
        place.cloud.faults.at(n, fault, call="tables.insert", service="bigquery")
    process = place.start("Report", *FLAGS)
    assert all(fault.came.wait(120) for fault in late), cloud_running.end(process)
    process.send_signal(signal.SIGTERM)
    ran = cloud_running.end(process, 60)
    assert ran.code != 0, ran
    assert "stopped by SIGTERM" in ran.out, ran
    place.cloud.faults.clear()
    place.succeed("Report", *FLAGS)
    assert place.stages("DONE") == cloud_running.JOBS
    assert place.wrong(running.tables(undisturbed)) == []

"""Dataflow's jobs, through Google's own client and over real connections, in the local Dataflow."""

import queue
import threading
import time

import pytest
from cloud.dataflow import Dataflow
from cloud.faults import Fault
from dataflow_running import WHERE, Set, new_name, submit, wait
from google.cloud import dataflow_v1beta3 as api

from pipelines.errors import JobCancelledError, ServiceError, SettingError
from workflows.engine.gcloud import dataflow, dataflow_reports
from workflows.engine.gcloud.dataflow import Job


class Typed:
    """What somebody types into luigid."""

    def __init__(self, content: str) -> None:
        self.content = content
        self.answers: list[str] = []

    def respond(self, response: str) -> None:
        self.answers.append(response)


def test_a_job_is_found_by_name_and_request(local: Dataflow) -> None:
    name = new_name()
    assert dataflow.find(name, "r1", WHERE) is None
    job = submit("sleep", 0.1, name)
    assert dataflow.find(name, "r1", WHERE) == dataflow.get(job.id, WHERE)
    done, _ = wait(job)
    assert dataflow.find(name, "r1", WHERE) == done
    assert dataflow.get("2026-01-01_00_00_00-1", WHERE) is None


def test_no_region_is_told(local: Dataflow, setting: Set) -> None:
    setting("gcp", "region", "")
    with pytest.raises(SettingError, match=r"set region in \[gcp\]"):
        dataflow.place()


def test_a_job_that_somebody_cancelled(local: Dataflow) -> None:
    name = new_name()
    local.hold(name)
    job = submit("sleep", 0, name)
    threading.Timer(0.5, local.cancel, [job.id]).start()
    done, told = wait(job)
    assert done.state == "CANCELLED"
    assert told[0].state in ("PENDING", "RUNNING")
    error = dataflow_reports.failure(done, "again")
    assert isinstance(error, JobCancelledError)
    assert str(error).startswith(f"Dataflow job {name} was cancelled; see https://")


def test_a_job_that_is_replaced_is_followed(local: Dataflow) -> None:
    name = new_name()
    local.hold(name)
    job = submit("sleep", 0, name)
    other = local.replace(job.id)
    attached = dataflow.find(name, "r1", WHERE)
    assert attached
    assert (attached.id, attached.replaced_by, attached.finished) == (job.id, other.id, False)
    local.release()
    done, _ = wait(attached)
    assert (done.id, done.state) == (other.id, "DONE")


def test_a_replaced_job_is_cancelled_as_the_other(local: Dataflow) -> None:
    name = new_name()
    local.hold(name)
    job = submit("sleep", 0, name)
    other = local.replace(job.id)
    attached = dataflow.get(job.id, WHERE)
    assert attached
    gone = dataflow.cancel(attached)
    assert (gone.id, gone.state) == (other.id, "CANCELLED")


def test_a_state_that_the_client_does_not_know_is_none_to_stop_at() -> None:
    """Dataflow may come to have further states; Google's client gives them as numbers."""
    job = dataflow.job_of(api.Job(id="1", name="n", current_state=99), WHERE)
    assert (job.state, job.finished) == ("99", False)


def test_a_new_job_may_be_unknown_for_a_while(local: Dataflow) -> None:
    local.unseen = 3
    done, _ = wait(submit("sleep", 0))
    assert done.state == "DONE"


def test_a_job_that_stays_unknown_is_given_up(local: Dataflow, setting: Set) -> None:
    setting("gcp", "patience", "1")
    with pytest.raises(ServiceError, match="Dataflow has no job lost"):
        wait(Job("2026-01-01_00_00_00-1", "lost", "", "", WHERE))


@pytest.mark.parametrize("kind", ["500", "503", "429", "cut"])
def test_what_passes_while_waiting_is_asked_again(local: Dataflow, kind: str) -> None:
    fault = Fault("cut") if kind == "cut" else Fault("status", int(kind))
    job = submit("sleep", 0.5)
    for number in (1, 2, 4):
        local.faults.at(number, fault, call="jobs.get")
    local.faults.at(1, fault, call="messages.list")
    local.faults.at(2, fault, call="metrics.get")
    done, _ = wait(job)
    assert done.state == "DONE"


def test_a_service_that_stays_silent_is_given_up(local: Dataflow, setting: Set) -> None:
    setting("dataflow", "stuck_after", "1")
    job = submit("sleep", 0)
    local.faults.randomly(1.0, 1, kinds=["status"])
    with pytest.raises(ServiceError, match=f"Dataflow has not told of job {job.name} .* for 1 s") as error:
        wait(job)
    assert local.url not in str(error.value)


def test_a_job_stuck_in_cancelling_is_given_up(local: Dataflow, setting: Set) -> None:
    setting("dataflow", "stuck_after", "1")
    setting("dataflow", "cancel_wait", "0.5")
    name = new_name()
    local.hold(name)
    local.stick(name)
    job = submit("sleep", 0, name)
    stuck = dataflow.cancel(job)
    assert stuck.state == "CANCELLING"
    with pytest.raises(JobCancelledError, match=f"job {name} is still being cancelled after 1 s"):
        wait(stuck)


def test_cancel_waits_until_it_is_done(local: Dataflow) -> None:
    name = new_name()
    local.hold(name)
    job = submit("sleep", 0, name)
    assert dataflow.cancel(job).state == "CANCELLED"
    assert dataflow.cancel(job).state == "CANCELLED", "a job that has ended may be asked again"


def test_a_job_can_be_cancelled_in_the_moment_in_which_it_is_created(local: Dataflow) -> None:
    name = new_name()
    local.hold(name)
    local.unseen = 2
    assert dataflow.cancel(submit("sleep", 0, name)).state == "CANCELLED"


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ("Cancel", "asked Dataflow to cancel"),
        ("drain", "is a batch job, which can be cancelled but not drained"),
        ("stop", "'stop' is no command; there are cancel and drain"),
    ],
)
def test_who_types_into_luigid_is_heard_and_answered(local: Dataflow, content: str, answer: str) -> None:
    name = new_name()
    local.hold(name)
    job = submit("sleep", 0, name)
    messages: queue.Queue[Typed] = queue.Queue()
    typed, over = Typed(content), Typed("cancel")
    messages.put(typed)
    messages.put(over)
    done, _ = wait(job, messages)
    assert done.state == "CANCELLED"
    assert answer in typed.answers[0]


def test_a_command_does_not_wait_for_the_next_look(local: Dataflow, setting: Set) -> None:
    setting("dataflow", "poll_max", "600")
    name = new_name()
    local.hold(name)
    job = submit("sleep", 0, name)
    messages: queue.Queue[Typed] = queue.Queue()
    threading.Timer(0.3, messages.put, [Typed("cancel")]).start()
    started = time.monotonic()
    wait(job, messages)
    assert time.monotonic() - started < 10


def test_an_interrupt_passes_and_leaves_the_job(local: Dataflow) -> None:
    name = new_name()
    local.hold(name)
    job = submit("sleep", 0, name)

    def look(job: Job) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dataflow.wait(job, look)
    found = dataflow.get(job.id, WHERE)
    assert found
    assert not found.finished

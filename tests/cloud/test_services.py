"""Services in the local Dataflow: one streaming job, whatever was there before, and whoever died at which step.

The jobs are held: they are RUNNING and execute nothing, since the local Dataflow runs no unbounded sources.
"""

import signal
from collections.abc import Iterator

import cloud_running
import pytest
from cloud_running import Place, state_of
from dataflow_running import Set, new_name
from service_tasks import Newer, StopStream, Stream

from localcloud import Cloud
from localcloud.dataflow import Dataflow
from localcloud.dataflow_jobs import Job
from localcloud.faults import Fault
from millrace.errors import JobFailedError, SettingError


@pytest.fixture
def label(local: Dataflow, setting: Set) -> str:
    """The name of a service that no other test has, whose jobs do nothing."""
    setting("millrace", "runner", "DataflowRunner")
    local.hold("*")
    return new_name()


def states(local: Dataflow, label: str) -> list[str]:
    """The states of a service's jobs, in the order of their creation."""
    return [state_of(job) for job in jobs_of(local, label)]


def jobs_of(local: Dataflow, label: str) -> list[Job]:
    """The jobs of a service, whose name ends with ten more characters and a dash."""
    return [job for job in local.jobs if job.name[:-11] == f"millrace-stream-{label}"]


def test_a_service_is_started_once_updated_and_drained(local: Dataflow, label: str) -> None:
    """It is there while its job runs; then a run does nothing; other options update it; draining ends it."""
    task = Stream(label=label)
    assert not task.complete()
    task.run()
    assert task.complete()
    task.run()
    [job] = jobs_of(local, label)
    assert (state_of(job), job.streaming) == ("RUNNING", True)
    other = Stream(label=label, rate=2)
    assert not other.complete()
    other.run()
    assert other.complete()
    assert not task.complete()
    first, second = jobs_of(local, label)
    assert (state_of(first), first.replaced_by, state_of(second)) == ("UPDATED", second.id, "RUNNING")
    stop = StopStream(label=label)
    assert not stop.complete()
    stop.run()
    assert stop.complete()
    assert states(local, label) == ["UPDATED", "DRAINED"]
    assert not other.complete()
    other.run()
    assert states(local, label) == ["UPDATED", "DRAINED", "RUNNING"]


def test_other_code_updates_a_service(local: Dataflow, label: str) -> None:
    Stream(label=label).run()
    Newer(label=label).run()
    assert Newer(label=label).complete()
    assert states(local, label) == ["UPDATED", "RUNNING"]
    assert not Stream(label=label).complete()


def test_force_cancels(local: Dataflow, label: str) -> None:
    Stream(label=label).run()
    StopStream(label=label, force=True).run()
    assert states(local, label) == ["CANCELLED"]


def test_a_refused_update_is_drained_then_started(
    local: Dataflow, label: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Where Dataflow takes no update, what was read is brought to its end, another job follows, and the log says so."""
    Stream(label=label).run()
    local.faults.at(1, Fault("status", status=400), call="jobs.create")
    Stream(label=label, rate=2).run()
    assert states(local, label) == ["DRAINED", "RUNNING"]
    assert "is drained, then another is started: Dataflow does not update job" in caplog.text
    assert Stream(label=label, rate=2).complete()


def test_an_update_that_fails_later_is_drained_then_started(
    local: Dataflow, label: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Dataflow may take an update, and find only then that it does not fit: the old job goes on, the new one fails."""
    Stream(label=label).run()
    local.unfit = True
    Stream(label=label, rate=2).run()
    assert states(local, label) == ["DRAINED", "FAILED", "RUNNING"]
    assert "not compatible" in caplog.text
    assert Stream(label=label, rate=2).complete()


def test_a_job_that_ended_by_itself_is_started_again(local: Dataflow, label: str) -> None:
    task = Stream(label=label)
    task.run()
    local.cancel(jobs_of(local, label)[0].id)
    assert not task.complete()
    task.run()
    assert states(local, label) == ["CANCELLED", "RUNNING"]


def test_a_job_that_somebody_else_replaced_is_updated(local: Dataflow, label: str) -> None:
    """What another's update runs is not known, so that it is not taken for what should be there."""
    task = Stream(label=label)
    task.run()
    local.replace(jobs_of(local, label)[0].id)
    assert not task.complete()
    task.run()
    assert states(local, label) == ["UPDATED", "UPDATED", "RUNNING"]


def test_a_service_that_fails_is_not_started_for_ever(local: Dataflow, label: str, setting: Set) -> None:
    setting("dataflow", "attempts", "2")
    local.fail("*", "no such topic")
    local.release()
    local.fail("*", "no such topic")
    task = Stream(label=label)
    for _ in range(2):
        with pytest.raises(JobFailedError, match="no such topic"):
            task.run()
    with pytest.raises(JobFailedError, match="has failed 2 times with the same code and options"):
        task.run()
    assert states(local, label) == ["FAILED", "FAILED"]


def test_no_service_runs_in_process(local: Dataflow, label: str, setting: Set) -> None:
    setting("millrace", "runner", "FnApiRunner")
    with pytest.raises(SettingError, match=r"set runner to DataflowRunner, or run the pipeline here: python -m"):
        Stream(label=label).complete()


@pytest.fixture
def held(place: Place) -> Iterator[Place]:
    """A place in the cloud, whose jobs do nothing."""
    place.cloud.dataflow.hold("*")
    yield place
    for job in place.jobs:
        place.cloud.dataflow.cancel(job.id)


def alive(place: Place) -> list[str]:
    """The states of the jobs that are not over."""
    return [state_of(job) for job in place.jobs if not job.over]


def effects(place: Place, *flags: object) -> int:
    """How many effects on the cloud a run has that nothing disturbs."""
    before = place.cloud.effects
    ran = cloud_running.end(place.start("Stream", *flags, module="service_tasks"))
    assert ran.code == 0, ran
    return place.cloud.effects - before


@pytest.mark.parametrize("began", [False, True], ids=["start", "update"])
def test_killed_after_any_effect_there_is_one_job(cloud: Cloud, held: Place, began: bool) -> None:
    """A run that dies after each of its effects, be it a start or an update: the next one leaves one job, as wanted."""
    flags = ("--label", "counted", "--rate", 2)
    if began:
        effects(held, "--label", "counted")
    count, trouble = effects(held, *flags), []
    assert count > 3
    for n in range(1, count + 1):
        label = f"killed{n}"
        if began:
            effects(held, "--label", label)
        before = len(held.jobs)
        fault = Fault("kill")
        process = held.start("Stream", "--label", label, "--rate", 2, module="service_tasks")
        fault.pid = process.pid
        held.cloud.faults.at(n, fault, effects_only=True)
        first = cloud_running.end(process)
        held.cloud.faults.clear()
        if first.code != -signal.SIGKILL:
            trouble.append(f"{n}: was not killed: {first}")
        effects(held, "--label", label, "--rate", 2)
        new = [state_of(job) for job in held.jobs[before:]]
        if new != ["RUNNING"]:
            trouble.append(f"{n}: {new}")
        if began and state_of(held.jobs[before - 1]) != "UPDATED":
            trouble.append(f"{n}: not updated in place, but {state_of(held.jobs[before - 1])}")
    assert trouble == []


@pytest.mark.parametrize("force", [False, True], ids=["drain", "cancel"])
def test_a_stop_that_was_killed_is_gone_on_with(cloud: Cloud, held: Place, force: bool) -> None:
    """A stop that dies after each of its effects: the next one leaves no job, and says so."""
    flags, trouble, n, killed = ["--force"] * force, list[str](), 0, True
    while killed:
        n += 1
        label = f"stopped{n}"
        effects(held, "--label", label)
        fault = Fault("kill")
        process = held.start("StopStream", "--label", label, *flags, module="service_tasks")
        fault.pid = process.pid
        held.cloud.faults.at(n, fault, effects_only=True)
        killed = cloud_running.end(process).code == -signal.SIGKILL
        held.cloud.faults.clear()
        again = cloud_running.end(held.start("StopStream", "--label", label, *flags, module="service_tasks"))
        if again.code != 0 or alive(held) or state_of(held.jobs[-1]) != ("CANCELLED" if force else "DRAINED"):
            trouble.append(f"{n}: {alive(held)} {again}")
    assert n > 2
    assert trouble == []


def test_a_run_that_begins_while_another_submits_waits_for_it(cloud: Cloud, held: Place) -> None:
    """Who comes while another run creates the job, as from a second host, creates none: Dataflow is asked once."""
    slow = Fault("delay", seconds=8)
    held.cloud.faults.at(1, slow, call="jobs.create")
    first = held.start("Stream", module="service_tasks")
    assert slow.came.wait(60)
    second = held.start("Stream", module="service_tasks")
    ran = [cloud_running.end(process) for process in (first, second)]
    assert [each.code for each in ran] == [0, 0], ran
    assert [state_of(job) for job in held.jobs] == ["RUNNING"]
    asked = held.cloud.dataflow.requests[held._asked_before :]
    assert sum(each.call == "jobs.create" for each in asked) == 1

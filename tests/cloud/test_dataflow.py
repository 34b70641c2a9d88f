"""Dataflow's jobs, through Google's own client and over real connections, in the local Dataflow."""

import dataclasses
import queue
import time

import pytest
from dataflow_running import WHERE, Set, new_name, submit, wait
from google.cloud import dataflow_v1beta3 as api

from localcloud.dataflow import Dataflow
from localcloud.faults import Fault
from millrace.errors import JobCancelledError, ServiceError, SettingError
from millrace.runners.dataflow import jobs, reports
from millrace.runners.dataflow.jobs import Job
from millrace.runners.runner import Progress
from millrace.tasks import session


class Typed:
    """What somebody types into luigid."""

    def __init__(self, content: str) -> None:
        self.content = content
        self.answers: list[str] = []

    def respond(self, response: str) -> None:
        self.answers.append(response)


def looks(local: Dataflow) -> int:
    """How often somebody has asked how a job stands."""
    return sum(each.call == "jobs.get" for each in local.requests)


class Hurried(queue.Queue[Typed]):
    """Nobody types anything; the pauses are noted, and hardly made. After enough of them jobs are released."""

    def __init__(self, local: Dataflow, enough: int) -> None:
        super().__init__()
        self.local, self.enough = local, enough
        self.pauses: list[float] = []
        self.looks: list[int] = []

    def get(self, block: bool = True, timeout: float | None = None) -> Typed:
        assert block
        assert timeout
        self.pauses.append(timeout)
        self.looks.append(looks(self.local))
        if len(self.pauses) == self.enough:
            self.local.release()
        assert len(self.pauses) < self.enough + 1000, "it waits for ever"
        return super().get(block, 0.001 if len(self.pauses) < self.enough else 0.05)


def test_a_job_is_found_by_name_and_request(local: Dataflow) -> None:
    name = new_name()
    assert jobs.find(session.current().google, name, "r1", WHERE) is None
    job = submit("sleep", 0.1, name)
    assert jobs.find(session.current().google, name, "r1", WHERE) == jobs.get(session.current().google, job.id, WHERE)
    done, _ = wait(job)
    # Whoever waits sees summaries, which do not tell of requests.
    assert jobs.find(session.current().google, name, "r1", WHERE) == dataclasses.replace(done, request_id="r1")
    assert jobs.get(session.current().google, "2026-01-01_00_00_00-1", WHERE) is None


def test_no_region_is_told(local: Dataflow, setting: Set) -> None:
    setting("gcp", "region", "")
    with pytest.raises(SettingError, match=r"set region in \[gcp\]"):
        jobs.place(session.current().google)


def test_a_job_that_somebody_cancelled(local: Dataflow) -> None:
    name = new_name()
    local.hold(name)
    job = submit("sleep", 0, name)
    told: list[Progress] = []

    def report(progress: Progress) -> None:
        told.append(progress)
        local.cancel(job.id)

    done = jobs.wait(job, reports.changes(report))
    assert done.state == "CANCELLED"
    assert told[0].state in ("PENDING", "RUNNING")
    error = reports.failure(done)
    assert isinstance(error, JobCancelledError)
    assert str(error).startswith(f"Dataflow job {name} was cancelled; see https://")


def test_a_job_that_is_replaced_is_followed(local: Dataflow) -> None:
    name = new_name()
    local.hold(name)
    job = submit("sleep", 0, name)
    other = local.replace(job.id)
    attached = jobs.find(session.current().google, name, "r1", WHERE)
    assert attached
    assert (attached.id, attached.replaced_by, attached.finished) == (job.id, other.id, False)
    local.release()
    done, _ = wait(attached)
    assert (done.id, done.state) == (other.id, "DONE")


def test_a_job_that_was_updated_but_by_none_that_is_named_is_over(local: Dataflow) -> None:
    name = new_name()
    local.hold(name)
    job = submit("sleep", 0, name)
    with local.life.changed:
        local.life.ask(local.jobs[-1], "JOB_STATE_UPDATED")
    done, _ = wait(job, Hurried(local, 12))
    assert (done.id, done.state) == (job.id, "UPDATED")
    error = reports.failure(done)
    assert isinstance(error, JobCancelledError)
    assert str(error).startswith(f"Dataflow job {name} was replaced by another; see https://")


def test_a_replaced_job_is_cancelled_as_the_other(local: Dataflow) -> None:
    name = new_name()
    local.hold(name)
    job = submit("sleep", 0, name)
    other = local.replace(job.id)
    attached = jobs.get(session.current().google, job.id, WHERE)
    assert attached
    gone = jobs.cancel(attached)
    assert (gone.id, gone.state) == (other.id, "CANCELLED")


def test_a_state_that_the_client_does_not_know_is_none_to_stop_at() -> None:
    """Dataflow may come to have further states; Google's client gives them as numbers."""
    job = jobs.job_of(session.current().google, api.Job(id="1", name="n", current_state=99), WHERE)
    assert (job.state, job.finished) == ("99", False)


def test_a_new_job_may_be_unknown_for_a_while(local: Dataflow) -> None:
    local.unseen = 3
    done, _ = wait(submit("sleep", 0))
    assert done.state == "DONE"


def test_a_job_that_stays_unknown_is_given_up(local: Dataflow, setting: Set) -> None:
    setting("gcp", "patience", "1")
    with pytest.raises(ServiceError, match="Dataflow has no job lost"):
        wait(Job("2026-01-01_00_00_00-1", "lost", "", "", WHERE, session.current().google))


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
    stuck = jobs.cancel(job)
    assert stuck.state == "CANCELLING"
    begun = time.monotonic()
    with pytest.raises(JobCancelledError, match=f"job {name} is still being cancelled after 1 s"):
        wait(stuck)
    assert time.monotonic() - begun >= 1, "not before"


def test_cancel_waits_until_it_is_done(local: Dataflow) -> None:
    name = new_name()
    local.hold(name)
    job = submit("sleep", 0, name)
    assert jobs.cancel(job).state == "CANCELLED"
    assert jobs.cancel(job).state == "CANCELLED", "a job that has ended may be asked again"


def test_a_job_can_be_cancelled_in_the_moment_in_which_it_is_created(local: Dataflow) -> None:
    name = new_name()
    local.hold(name)
    local.unseen = 2
    assert jobs.cancel(submit("sleep", 0, name)).state == "CANCELLED"


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


def test_pauses_grow_from_two_seconds_to_poll_max(local: Dataflow, setting: Set) -> None:
    """One before each look but the first, each half as long again, by 20 % at random."""
    setting("dataflow", "poll_max", "30")
    name = new_name()
    local.hold(name)
    job, before = submit("sleep", 0, name), looks(local)
    hurried = Hurried(local, 12)
    done, _ = wait(job, hurried)
    assert done.state == "DONE"
    assert hurried.looks == [before + n for n in range(1, len(hurried.looks) + 1)]
    expected = [min(2 * 1.5 ** min(n, 20), 30.0) for n in range(len(hurried.pauses))]
    shares = [pause / each for pause, each in zip(hurried.pauses, expected, strict=True)]
    assert 0.8 <= min(shares) < max(shares) <= 1.2


class Commands(queue.Queue[Typed]):
    """Somebody types while the wait pauses."""

    def __init__(self, local: Dataflow, typed: Typed) -> None:
        super().__init__()
        self.local, self.typed, self.before = local, typed, 0

    def get(self, block: bool = True, timeout: float | None = None) -> Typed:
        assert block, "the pause itself listens"
        assert timeout
        assert timeout >= 1
        if not self.before and looks(self.local) >= 2:
            self.before = looks(self.local)
            self.put(self.typed)
        return super().get(block, timeout)


def test_a_command_does_not_wait_for_the_next_look(local: Dataflow, setting: Set) -> None:
    """Not a look comes between what is typed and the answer to it."""
    setting("dataflow", "poll_max", "40")
    name = new_name()
    local.hold(name)
    at: list[int] = []

    class Noting(Typed):
        def respond(self, response: str) -> None:
            super().respond(response)
            at.append(looks(local))
            commands.put(Typed("cancel"))

    job = submit("sleep", 0, name)
    commands = Commands(local, Noting("stop"))
    done, _ = wait(job, commands)
    assert done.state == "CANCELLED"
    assert at == [commands.before]


def test_an_interrupt_passes_and_leaves_the_job(local: Dataflow) -> None:
    name = new_name()
    local.hold(name)
    job = submit("sleep", 0, name)

    def look(job: Job) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jobs.wait(job, look)
    found = jobs.get(session.current().google, job.id, WHERE)
    assert found
    assert not found.finished

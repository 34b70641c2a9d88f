"""Services in the local Dataflow: one streaming job, whatever was there before, and whoever died at which step.

The jobs are held: they are RUNNING and execute nothing, since the local Dataflow runs no unbounded sources.
"""

import datetime
import functools
import json
import re
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import running
from children import Child
from cloud_running import Place, end, state_of
from dataflow_running import Set, new_name
from running import EVERY, LONGEST, WHOLE, Ran
from service_tasks import EndStream, Newer, Stream

from localcloud.dataflow import Dataflow
from localcloud.dataflow_jobs import Job
from localcloud.faults import Fault
from localcloud.storage import Storage
from millrace.core.findings import OK, WARNING, WRONG, Finding
from millrace.core.ledger import Ledger
from millrace.core.waiting import AT_WORK, Waiting
from millrace.errors import AccessError, JobFailedError, SettingError
from millrace.ops import clear
from millrace.ops.checks import services
from millrace.tasks import advice, serving, session
from millrace.tasks.session import Session

#: How many effects of each run are followed by its death, unless all are.
SAMPLE = 1

pytestmark = pytest.mark.timeout(LONGEST if WHOLE else 300)


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
    stop = EndStream(label=label)
    assert not stop.complete()
    stop.run()
    assert stop.complete()
    assert states(local, label) == ["UPDATED", "DRAINED"]


def test_what_was_stopped_stays_so_until_it_is_started(
    local: Dataflow, label: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it ever ran or not: cron's next runs have nothing to do, and say how to start it; then it is there."""
    for before in ([], ["DRAINED"]):
        stop, task = EndStream(label=label), Stream(label=label)
        assert not stop.complete()
        stop.run()
        assert stop.complete()
        caplog.clear()
        assert task.complete()
        task.run()
        assert states(local, label) == before
        assert not task.output().exists()
        assert "stopped by EndStream" in caplog.text
        assert f"Stream --label {label} --start true starts it" in caplog.text
        start = Stream(label=label, start=True)
        assert not start.complete()
        start.run()
        assert task.complete()
        assert task.output().exists()
        assert states(local, label) == [*before, "RUNNING"]


def test_a_stop_needs_no_cloud_where_nothing_was_started(setting: Set, tmp_path: Path) -> None:
    setting("millrace", "runner", "FnApiRunner")
    setting("millrace", "storage", str(tmp_path))
    with session.use(Session()):
        stop = EndStream()
        assert not stop.complete()
        stop.run()
        assert stop.complete()
        assert Stream().complete()


def test_other_code_updates_a_service(local: Dataflow, label: str) -> None:
    Stream(label=label).run()
    Newer(label=label).run()
    assert Newer(label=label).complete()
    assert states(local, label) == ["UPDATED", "RUNNING"]
    assert not Stream(label=label).complete()


def test_force_cancels(local: Dataflow, label: str) -> None:
    Stream(label=label).run()
    EndStream(label=label, force=True).run()
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


def failing(local: Dataflow, label: str, times: int) -> Stream:
    """A service whose job has failed so often before it ran."""
    local.fail("*", "no such topic")
    local.release()
    local.fail("*", "no such topic")
    task = Stream(label=label)
    for _ in range(times):
        with pytest.raises(JobFailedError, match="no such topic"):
            task.run()
    assert states(local, label) == ["FAILED"] * times
    return task


def test_a_service_that_fails_is_not_started_for_ever(local: Dataflow, label: str, setting: Set) -> None:
    """After some failures no further job is submitted, until the command that the error names was typed."""
    setting("dataflow", "attempts", "2")
    task = failing(local, label, 2)
    with pytest.raises(JobFailedError, match="has failed 2 times within 24 h with the same code and options") as raised:
        task.run()
    assert states(local, label) == ["FAILED", "FAILED"]
    [finding] = [check.look() for check in services.checks() if check.name == "Stream"]
    local.release()
    local.hold("*")
    typed = re.search(r"forget the failures \((.*)\), and run again", str(raised.value))
    assert typed
    command = shlex.split(typed[1])
    assert command[0].endswith("bin/clear")
    assert clear.main(command[command.index("Stream") :]) == 0
    task.run()
    assert task.complete()
    assert finding.said == "never started; " + advice.run("Stream") + " starts it"  # the one with no label


def test_failures_are_forgotten_in_time(local: Dataflow, label: str, setting: Set) -> None:
    """Of the failures of a day only those of the last so many seconds count."""
    setting("dataflow", "attempts", "2")
    task = failing(local, label, 2)
    storage, path = session.current().storage, f"_jobs/Stream_{label}.json"
    found = storage.read(path)
    assert found
    entry = json.loads(found.data)
    long_ago = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=25)).isoformat()
    entry["failed"][0] = long_ago
    storage.replace(path, json.dumps(entry).encode(), found.version)
    local.release()
    local.hold("*")
    task.run()
    assert task.complete()


@pytest.fixture
def leaving(label: str, setting: Set) -> str:
    """The same, for runs that do not wait."""
    setting("run", "wait", "false")
    setting("dataflow", "stuck_after", "600")
    return label


def let_go(local: Dataflow) -> None:
    """Lets jobs go on from what keeps them; those that then run are held."""
    with local.life.changed:
        local.release()
        local.hold("*")


def leaves(task: Stream | EndStream, name: str, state: str) -> None:
    """Asserts that a run of a task ends with that a job is in a state, which luigi tells by its name, since, link."""
    assert not task.complete()
    with pytest.raises(Waiting) as told:
        task.run()
    assert str(told.value).startswith(f"job {name} is {state} since 20"), told.value
    assert (told.value.kind, told.value.on) == (AT_WORK, f"job {name}")
    assert "https://console.cloud.google.com/dataflow/jobs/" in told.value.url


def submitted(local: Dataflow, task: Stream) -> Job:
    """Has a run that does not wait submit a service's job, which waits for workers then."""
    local.take("*", pending=600)
    with pytest.raises(Waiting, match=" is PENDING since "):
        task.run()
    return jobs_of(local, task.label)[-1]


def becomes(local: Dataflow, job: Job, state: str) -> None:
    with local.life.changed:
        assert local.life.changed.wait_for(lambda: state_of(job) == state, 20), state_of(job)


def test_a_run_that_does_not_wait_submits_a_service_and_leaves(local: Dataflow, leaving: str) -> None:
    """The next firing finds the job waiting for workers, and one job; a later one finds it RUNNING: all is done."""
    task = Stream(label=leaving)
    job = submitted(local, task)
    assert Ledger(session.current().storage).entry(task.service).job_id == job.id  # type: ignore[union-attr]
    for _ in range(2):
        leaves(task, job.name, "PENDING")
    let_go(local)
    becomes(local, job, "RUNNING")
    assert task.complete()
    task.run()
    assert states(local, leaving) == ["RUNNING"]


def test_a_run_that_does_not_wait_updates_and_drains_by_steps(
    local: Dataflow, leaving: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An update is submitted and left; where it is refused, the old job is drained by one run, left by the next, and
    another job follows when it is at its end. That it is drained is told once.
    """
    first = submitted(local, Stream(label=leaving))
    let_go(local)
    becomes(local, first, "RUNNING")
    other = Stream(label=leaving, rate=2)
    second = submitted(local, other)
    becomes(local, first, "UPDATED")
    leaves(other, second.name, "PENDING")
    let_go(local)
    becomes(local, second, "RUNNING")
    assert other.complete()
    local.faults.at(1, Fault("status", status=400), call="jobs.create")
    local.stick("*")
    third = Stream(label=leaving, rate=3)
    for _ in range(3):
        leaves(third, second.name, "DRAINING")
    assert caplog.text.count("is drained, then another is started") == 1
    let_go(local)
    becomes(local, second, "DRAINED")
    local.take("*", pending=600)
    leaves(third, second.name, "PENDING")
    let_go(local)
    becomes(local, jobs_of(local, leaving)[-1], "RUNNING")
    assert third.complete()
    assert states(local, leaving) == ["UPDATED", "DRAINED", "RUNNING"]


@pytest.mark.parametrize(("force", "state"), [(False, "DRAINING"), (True, "CANCELLING")])
def test_a_run_that_does_not_wait_leaves_a_service_that_ends(
    force: bool, state: str, local: Dataflow, leaving: str
) -> None:
    """Who stops a service asks for its end, once noted, and leaves; when that has come, it is stopped."""
    task, stop = Stream(label=leaving), EndStream(label=leaving, force=force)
    job = submitted(local, task)
    let_go(local)
    becomes(local, job, "RUNNING")
    local.stick("*")
    leaves(stop, job.name, state)
    noted = Ledger(session.current().storage).entry(task.service)
    assert noted is not None
    assert noted.state == "stopped"
    leaves(stop, job.name, state)
    assert Ledger(session.current().storage).entry(task.service) == noted
    assert task.complete()  # what was stopped on purpose is not started, nor waited for
    let_go(local)
    becomes(local, job, "CANCELLED" if force else "DRAINED")
    assert stop.complete()


def test_a_job_that_fails_is_told_by_the_next_run_and_given_up_by_the_same_rules(
    local: Dataflow, leaving: str, setting: Set
) -> None:
    """The firing that finds it failed tells of it, the one after submits another, until there were too many."""
    setting("dataflow", "attempts", "2")
    task = Stream(label=leaving)
    for _ in range(2):
        job = submitted(local, task)
        with local.life.changed:
            local.release()
            local.fail("*", "no such topic")
        becomes(local, job, "FAILED")
        local.release()
        with pytest.raises(JobFailedError, match=f"{job.name} failed: no such topic"):
            task.run()
    with pytest.raises(JobFailedError, match="has failed 2 times within 24 h .* the last one: .*no such topic"):
        task.run()
    assert states(local, leaving) == ["FAILED", "FAILED"]


def test_firings_bring_a_service_up_by_luigi_s_exit_codes(place: Place) -> None:
    """12 with a line that tells of the job until it runs, then 0; the end of it likewise."""
    dataflow = place.cloud.dataflow
    dataflow.take("*", pending=600)

    def fire(task: str) -> Ran:
        return end(place.start(task, "--label", "fired", "--no-wait", module="service_tasks"))

    for _ in range(2):
        ran = fire("Stream")
        assert ran.code == 12, ran
        [job] = place.jobs
        assert f"job {job.name} is PENDING since " in ran.out
    with dataflow.life.changed:
        dataflow.release()
        dataflow.hold("*")
    becomes(dataflow, job, "RUNNING")
    assert fire("Stream").code == 0
    dataflow.stick("*")
    assert fire("EndStream").code == 12
    dataflow.release()
    becomes(dataflow, job, "DRAINED")
    assert fire("EndStream").code == 0
    assert [state_of(each) for each in place.jobs] == ["DRAINED"]


def test_a_job_that_ended_by_itself_is_followed_by_another_at_once(local: Dataflow, leaving: str) -> None:
    """Whoever cancelled it, and whether it ran for long before it failed: that is no failure to be told first."""
    task = Stream(label=leaving)
    job = submitted(local, task)
    local.cancel(job.id)
    becomes(local, job, "CANCELLED")
    local.release()
    assert submitted(local, task) is not job
    assert states(local, leaving) == ["CANCELLED", "PENDING"]


def test_a_service_in_whose_turn_others_are_is_left(local: Dataflow, leaving: str) -> None:
    """Where the project runs as many jobs as it may, and where another run is at work on it, nobody waits either."""
    task = Stream(label=leaving)
    local.most = 0
    with pytest.raises(Waiting, match="runs as many Dataflow jobs as its quota allows"):
        task.run()
    local.most = 100
    with Ledger(session.current().storage).claim(task.service):
        assert Child(functools.partial(_waits, task)).end() == 0
    submitted(local, task)
    assert len(jobs_of(local, leaving)) == 1


def _waits(task: Stream) -> None:
    with pytest.raises(Waiting):
        task.run()


def test_a_job_that_failed_after_it_ran_for_long_counts_as_none(local: Dataflow, label: str, setting: Set) -> None:
    """A job that dies every few hours is started every few hours; one that dies at once is given up."""
    setting("dataflow", "attempts", "1")
    task = Stream(label=label)
    task.run()
    for hours, given_up in ((2, False), (0, True)):
        job = jobs_of(local, label)[-1]
        assert job.started
        job.started -= datetime.timedelta(hours=hours)
        with local.life.changed:  # a job that is let go looks at once whether it is to fail
            local.release()
            local.fail("*", "out of memory")
            local.life.changed.wait_for(functools.partial(getattr, job, "over"), 10)
        assert state_of(job) == "FAILED"
        local.release()
        local.hold("*")
        if given_up:
            with pytest.raises(JobFailedError, match="no further job is submitted before"):
                task.run()
        else:
            task.run()
            assert task.complete()


def test_how_a_service_stands_is_told(local: Dataflow, label: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its job, whether it is as it should be, and how far it is behind, as Dataflow's metrics have it."""
    task = Stream(label=label)
    assert serving.look(task).state == "new"
    task.run()
    [job] = jobs_of(local, label)
    job.behind = (3, 600)
    assert job.started
    job.started -= datetime.timedelta(hours=50)
    standing = serving.look(task)
    assert (standing.state, f"/{job.id}?" in standing.url) == ("running", True)
    assert standing.said == (
        f"job {job.id} is RUNNING, for 2 d; lag: system 3 s, data 10 min; with this code and these options"
    )
    assert task.shown() == (standing.url, standing.said.replace("; ", "\n"))
    assert "with other options than here" in serving.look(Stream(label=label, rate=2)).said
    assert "with other code than here" in serving.look(Newer(label=label)).said
    local.faults.at(1, Fault("status", status=403), call="metrics.get")
    assert "its lag is not known" in serving.look(task).said
    EndStream(label=label).run()
    assert serving.look(task).said.startswith("stopped by EndStream at 20")
    assert serving.look(task).state == "stopped"


def test_what_keeps_a_job_from_being_created_is_told(local: Dataflow, label: str) -> None:
    local.denied.add("dataflow.jobs.create")
    task = Stream(label=label)
    with pytest.raises(AccessError):
        task.run()
    local.denied.clear()
    assert "it has no job: " in serving.look(task).said
    assert "dataflow.jobs.create" in serving.look(task).said
    task.run()
    assert task.complete()


def test_the_doctor_tells_of_each_service(local: Dataflow, label: str, setting: Set) -> None:
    """Of each that has a value for every parameter: how it stands, and the command that brings it about."""

    def found() -> Finding:
        [finding] = [check.look() for check in services.checks() if check.name == "Stream"]
        return finding

    run = advice.run("Stream")
    Stream().run()
    assert found().state == OK
    assert "RUNNING" in found().said
    assert found().mend[0].startswith("https://console.cloud.google.com/dataflow/jobs/")
    setting("dataflow.Stream", "max_num_workers", "3")
    with session.use(Session()):
        assert (found().state, found().mend[-1]) == (WARNING, run)
        Stream().run()
        assert found().state == OK
        [job] = [job for job in local.jobs if job.name.startswith("millrace-stream-stream-") and not job.over]
        local.cancel(job.id)
        assert (found().state, found().mend[-1]) == (WARNING, run)
        local.release()
        setting("dataflow", "attempts", "1")
        local.fail("*", "no such topic")
        with pytest.raises(JobFailedError):
            Stream().run()
        assert (found().state, list(found().mend[1:])) == (WRONG, [advice.clear("Stream"), run])
        EndStream().run()
        assert found().said.endswith(f"{run} --start true starts it again")
        setting("millrace", "runner", "FnApiRunner")
        assert found().state == OK
    with session.use(Session()):
        Ledger(session.current().storage).forget("Stream_stream")
        assert services.checks() == []


def test_no_service_runs_in_process(local: Dataflow, label: str, setting: Set) -> None:
    setting("millrace", "runner", "FnApiRunner")
    with pytest.raises(SettingError, match=r"set runner to DataflowRunner, or run the pipeline here: ") as raised:
        Stream(label=label).complete()
    typed = shlex.split(str(raised.value).partition("run the pipeline here: ")[2])
    flags = ["--runner=BundleBasedDirectRunner", "--streaming=True", "--input", "--output=gs://nowhere/out"]
    assert typed[1:3] == ["-m", "dataflow_case"]
    assert [each.partition("=")[0] if "--input" in each else each for each in typed[3:]] == flags


@dataclass
class Deaths:
    """Runs that die after each of their effects on Dataflow and the storage."""

    local: Dataflow
    storage: Storage
    trouble: list[str] = field(default_factory=list)

    @property
    def effects(self) -> int:
        """How many calls so far had an effect."""
        return sum(each.effect for service in (self.local, self.storage) for each in service.requests)

    def of(self, begin: Callable[[str], object], call: Callable[[str], object]) -> Iterator[str]:
        """Begin, then run and die after one effect: the service's name, for whoever then runs it again."""
        counted = new_name()
        begin(counted)
        before = self.effects
        assert Child(lambda: call(counted)).end() == 0
        count = self.effects - before
        assert count > 2
        numbers = (
            range(1, count + 1, EVERY) if WHOLE else [(2 * i + 1) * count // (2 * SAMPLE) + 1 for i in range(SAMPLE)]
        )
        for n in numbers:
            label, fault = new_name(), Fault("kill")
            begin(label)
            self.local.faults.at(n, fault, effects_only=True)
            code = Child(lambda label=label: call(label), fault).end()  # type: ignore[misc]
            self.local.faults.clear()
            if code != -signal.SIGKILL:
                self.trouble.append(f"{n} of {count}: was not killed, but ended with {code}")
            yield label


@pytest.fixture
def deaths(local: Dataflow, services: tuple[Storage, Dataflow], setting: Set) -> Iterator[Deaths]:
    """What tries deaths, of runs whose jobs do nothing, and whose locks are renewed by no clock."""
    setting("millrace", "runner", "DataflowRunner")
    setting("gcp", "lease", "600")
    local.hold("*")
    found = Deaths(local, services[0])
    yield found
    assert found.trouble == []


def nothing(label: str) -> None:
    """What comes before a service is started."""


@pytest.mark.parametrize("began", [False, True], ids=["start", "update"])
def test_killed_after_any_effect_there_is_one_job(local: Dataflow, deaths: Deaths, began: bool) -> None:
    """A run that dies after each of its effects, be it a start or an update: the next one leaves one job, as wanted."""
    begin = (lambda label: Stream(label=label).run()) if began else nothing
    for label in deaths.of(begin, lambda label: Stream(label=label, rate=2).run()):
        wanted = Stream(label=label, rate=2)
        wanted.run()
        if states(local, label) != ["UPDATED"] * began + ["RUNNING"] or not wanted.complete():
            deaths.trouble.append(f"{label}: {states(local, label)}")


@pytest.mark.parametrize("force", [False, True], ids=["drain", "cancel"])
def test_a_stop_that_was_killed_is_gone_on_with(local: Dataflow, deaths: Deaths, force: bool) -> None:
    """A stop that dies after each of its effects: the next one leaves no job."""
    begun = deaths.of(lambda label: Stream(label=label).run(), lambda label: EndStream(label=label, force=force).run())
    for label in begun:
        again = EndStream(label=label, force=force)
        if not again.complete():
            again.run()
        if states(local, label) != ["CANCELLED" if force else "DRAINED"] or not again.complete():
            deaths.trouble.append(f"{label}: {states(local, label)}")


def test_a_job_that_was_created_and_is_not_seen_yet_is_not_created_again(local: Dataflow, label: str) -> None:
    """Dataflow may not know of a job for a moment: the next run asks for the same job again, and gets it."""
    died = Fault("kill")
    local.faults.at(1, died, call="jobs.create")
    local.unseen = 3
    assert Child(lambda: Stream(label=label).run(), died).end() == -signal.SIGKILL
    Stream(label=label).run()
    assert states(local, label) == ["RUNNING"]
    assert Stream(label=label).complete()


def test_a_stop_that_died_is_remembered_all_the_same(local: Dataflow, label: str) -> None:
    """Cron's next run starts nothing, and the next stop waits for the end."""
    Stream(label=label).run()
    died = Fault("kill")
    local.faults.at(1, died, call="jobs.update")
    stop = EndStream(label=label)
    assert Child(stop.run, died).end() == -signal.SIGKILL
    running.wait_for(lambda: states(local, label) == ["DRAINED"], 10)
    Stream(label=label).run()
    assert states(local, label) == ["DRAINED"]
    assert stop.complete()


def test_a_run_that_begins_while_another_submits_waits_for_it(local: Dataflow, label: str) -> None:
    """Who comes while another run creates the job, as from a second host, creates none: Dataflow is asked once."""
    slow = Fault("delay", seconds=2)
    local.faults.at(1, slow, call="jobs.create")
    asked = len(local.requests)
    first = Child(lambda: Stream(label=label).run())
    assert slow.came.wait(60)
    second = Child(lambda: Stream(label=label).run())
    assert [first.end(), second.end()] == [0, 0]
    assert states(local, label) == ["RUNNING"]
    assert sum(each.call == "jobs.create" for each in local.requests[asked:]) == 1


def test_a_run_on_another_host_that_died_is_waited_for_as_long_as_its_lease(
    local: Dataflow, label: str, setting: Set
) -> None:
    """It has created the job, and nobody here can see that it is dead: its lock runs out, and its job is found."""
    setting("gcp", "lease", "6")  # less, and a busy machine would be silent for as long itself
    died = Fault("kill")
    local.faults.at(1, died, call="jobs.create")
    assert Child(lambda: Stream(label=label).run(), died).end() == -signal.SIGKILL
    with session.use(Session()):
        storage, lock = session.current().storage, f"_jobs/Stream_{label}.lock"
        held = storage.read(lock)
        assert held
        elsewhere = {**json.loads(held.data), "host": "elsewhere", "boot": "another boot"}
        storage.replace(lock, json.dumps(elsewhere).encode(), held.version)
        begun = time.monotonic()
        Stream(label=label).run()
        assert time.monotonic() - begun > 6
        assert Stream(label=label).complete()
    assert states(local, label) == ["RUNNING"]

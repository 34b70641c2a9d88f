"""Runs that do not wait: a Report that only firings drive, as cron's would, each a process that submits, or publishes,
and ends. Between firings nothing of ours is there.
"""

import contextlib
import datetime
import math
import os
import re
import signal
import time
from collections import Counter
from pathlib import Path

import cloud_running
import pytest
import running
from cloud_running import FLAGS, JOBS, STEADY, Place, stage_of, state_of
from running import EVERY, LONGEST, WHOLE, Ran, Row

from localcloud import LocalCloud
from localcloud.faults import Fault

NO_WAIT = ("--no-wait",)

pytestmark = pytest.mark.timeout(LONGEST if WHOLE else 600)


@pytest.fixture(scope="module")
def expected(undisturbed: Path) -> dict[str, list[Row]]:
    """The tables of the single-machine run."""
    return running.tables(undisturbed)


def fire(place: Place, *flags: object) -> Ran:
    """One firing of cron: a fresh process, which ends."""
    return place.luigi("Report", *FLAGS, *NO_WAIT, *flags)


def over(place: Place) -> bool:
    """Whether all jobs have come to their end."""
    return all(state_of(job) in ("DONE", "FAILED", "CANCELLED") for job in place.jobs)


def ours(place: Place) -> list[str]:
    """The processes that work in a place's folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
            if (path.parent / "cwd").resolve() == place.folder.resolve():
                found.append(" ".join(words))
        except OSError:
            continue
    return found


def driven(place: Place, *flags: object) -> list[Ran]:
    """Fire until a firing does not end with "at work"; jobs come to their end between firings."""
    firings: list[Ran] = []
    while not firings or firings[-1].code == 12:
        firings.append(fire(place, *flags))
        place.wait_for(lambda: over(place))
        assert len(firings) < 20, firings[-1]
    return firings


@pytest.mark.parametrize("flags", [(), pytest.param(("--workers", 2), marks=running.long)])
def test_report_that_only_firings_drive_has_the_tables_of_an_undisturbed_run(
    place: Place, expected: dict[str, list[Row]], flags: tuple[object, ...]
) -> None:
    """Every firing but the last ends with 12, and none waits for a job; one job a stage; the tables are the same."""
    firings = driven(place, *flags)
    assert [ran.code for ran in firings] == [12] * (len(firings) - 1) + [0], firings[-1]
    assert len(firings) == 1 + len(JOBS)
    assert place.wrong(expected) == []
    assert place.stages("DONE") == JOBS
    assert place.locks() == []
    assert [ran.errors for ran in firings] == [[]] * len(firings)
    assert ["The page is" in ran.out for ran in firings] == [False] * (len(firings) - 1) + [True]


def test_firing_tells_of_each_job_at_work_and_leaves_nothing_behind(place: Place) -> None:
    """One line a job: what it is for, its state, since when, its page; no process of ours, no lock, a running entry."""
    place.cloud.dataflow.hold("*")
    process = place.start("Report", *FLAGS, *NO_WAIT)
    assert ours(place) != []
    first = cloud_running.end(process)
    [job] = place.jobs
    assert first.code == 12, first
    assert ours(place) == []
    assert place.locks() == []
    assert [entry.state for entry in place.entries("Fetch")] == ["running", "running"]
    place.wait_for(lambda: state_of(job) == "RUNNING")
    second = fire(place)
    assert second.code == 12, second
    days = f"{running.DAY - datetime.timedelta(days=1)} to {running.DAY}"
    [line] = [line for line in second.out.splitlines() if job.name in line and " since " in line]
    told = re.fullmatch(rf"\S+Z  Fetch sample:// {days}: job {job.name} is RUNNING since (\S+ \S+)Z; (\S+)", line)
    assert told, second
    assert told[1] == place.entries("Fetch")[0].started[:19].replace("T", " ")
    assert told[2].startswith("https://console.cloud.google.com/dataflow/jobs/")
    assert job.id in told[2]
    assert "because some are at work" in second.out
    assert len(place.jobs) == 1


def test_firing_asks_nothing_of_a_job_but_how_it_stands(place: Place) -> None:
    """Neither metrics nor messages of a job that is at work; both of one that has come to its end, once."""
    place.cloud.dataflow.hold("*")
    fire(place)
    [job] = place.jobs
    for _ in range(2):
        fire(place)
    assert place.asked(job.id) == 0
    place.cloud.dataflow.release()
    place.wait_for(lambda: over(place))
    fire(place)
    assert place.asked(job.id) == 1


def test_failed_job_is_seen_by_the_next_firing_and_tried_again_by_the_one_after(place: Place) -> None:
    """30 with the job's error, once for each job that fails; after [dataflow] attempts no further one is submitted."""
    place.set("dataflow", attempts="2")
    place.cloud.dataflow.take("*", pending=1.5)
    place.cloud.dataflow.fail("*", "it rained")
    codes, jobs = [], []
    for _ in range(6):
        ran = fire(place)
        codes.append(ran.code)
        place.wait_for(lambda: over(place))
        jobs.append(len(place.jobs))
    assert codes == [12, 30, 12, 30, 30, 30], ran
    assert jobs == [1, 1, 3, 3, 3, 3]
    assert "has failed 2 times" in ran.out


def test_job_that_has_to_wait_for_its_turn_is_submitted_by_a_later_firing(place: Place) -> None:
    """Where the project runs as many jobs as it may: 12, and why; nothing is waited for. Then the job comes.

    The setting says what the flag says.
    """
    place.set("run", wait="false")
    place.cloud.dataflow.most = 0
    try:
        first = place.luigi("Report", *FLAGS)
    finally:
        place.cloud.dataflow.most = math.inf
    assert first.code == 12, first
    assert "waits for its turn: project" in first.out
    assert place.jobs == []
    assert place.luigi("Report", *FLAGS).code == 12
    assert list(place.stages()) == ["fetch"]


@running.long
def test_job_for_other_settings_is_cancelled_and_not_waited_for(place: Place) -> None:
    """A firing with other settings asks for the old job to be cancelled, and submits its own at once."""
    place.set("dataflow", cancel_wait="3600")
    place.cloud.dataflow.hold("millrace-count-*")
    place.cloud.dataflow.stick("*")
    for stages in (1, 2, 3):
        assert fire(place).code == 12
        place.wait_for(
            lambda: over(place) or "RUNNING" in [state_of(job) for job in place.jobs if stage_of(job) == "count"]
        )
        assert len(place.jobs) == stages
    [*_, old] = place.jobs
    second = fire(place, "--posts-shards", 4)
    assert second.code == 12, second
    assert state_of(old) == "CANCELLING"
    assert place.stages() == {"fetch": 1, "etl": 1, "count": 2}
    assert fire(place, "--posts-shards", 4).code == 12
    assert place.stages() == {"fetch": 1, "etl": 1, "count": 2}


@running.long
def test_waiting_run_and_firings_go_on_with_each_others_jobs(place: Place, expected: dict[str, list[Row]]) -> None:
    """A run that waits takes over what a firing has submitted, and a firing what a killed run has left."""
    process = place.hold("Report", *FLAGS)
    os.killpg(process.pid, signal.SIGKILL)
    cloud_running.end(process)
    assert fire(place).code == 12
    assert len(place.jobs) == 1
    place.cloud.dataflow.release()
    place.wait_for(lambda: over(place))
    assert fire(place).code == 12
    place.succeed("Report", *FLAGS)
    assert place.wrong(expected) == []


def test_firing_beside_a_run_that_waits_does_not_wait_for_it(place: Place) -> None:
    """While another run waits for the job, a firing says so and ends with 12; the other goes on undisturbed."""
    process = place.hold("Report", *FLAGS)
    ran = fire(place)
    assert ran.code == 12, ran
    assert re.search(r"another run \(process \d+ on .* is at work on it", ran.out)
    assert process.poll() is None
    place.cloud.dataflow.release()
    assert cloud_running.end(process).code == 0


@pytest.fixture(scope="module")
def effects(tmp_path_factory: pytest.TempPathFactory, expected: dict[str, list[Row]]) -> int:
    """How many effects on the cloud the firings of an undisturbed Report have, all together."""
    with (
        LocalCloud() as cloud,
        contextlib.closing(Place(cloud, tmp_path_factory.mktemp("counted"), more=STEADY)) as place,
    ):
        driven(place)
        assert place.wrong(expected) == []
        return sum(each.effect for each in cloud.requests)


def killed(place: Place, n: int, expected: dict[str, list[Row]]) -> list[str]:
    """What is wrong after firings of which one dies right after the n-th effect of all."""
    place.cloud.faults.clear()
    fault = Fault("kill")
    place.cloud.faults.at(n, fault, effects_only=True)
    codes: list[int] = []
    while not codes or codes[-1] in (12, -signal.SIGKILL):
        process = place.start("Report", *FLAGS, *NO_WAIT)
        fault.pid = process.pid
        ran = cloud_running.end(process)
        codes.append(ran.code)
        place.wait_for(lambda: over(place))
        if len(codes) > 30:
            break
    place.cloud.faults.clear()
    if codes[-1] != 0 or (fault.came.is_set() and -signal.SIGKILL not in codes):
        return [f"firings ended with {codes}: {ran}"]
    return [f"{trouble} ({codes})" for trouble in place.wrong(expected)]


@running.long
def test_firing_killed_after_an_effect_loses_nothing(
    effects: int, expected: dict[str, list[Row]], tmp_path: Path
) -> None:
    """Killed (-9) after any effect of any firing, the next ones go on: the same tables, no job twice, nothing left."""
    numbers = [str(n) for n in range(1, effects + 1, EVERY)]
    cloud_running.try_all(numbers, tmp_path, STEADY, lambda place, n: killed(place, int(n), expected))


def stage(place: Place) -> None:
    """Stage the template that tasks of `many_jobs` launch."""
    code = f"template_tasks.stage_classic(local_dataflow.options({place.cloud.dataflow.url!r}, 'say'))"
    staged = running.run(
        [running.python(), "-c", f"import local_dataflow, template_tasks; {code}"], place.folder, place.environment
    )
    assert staged.code == 0, staged


#: Seconds and KiB that a firing which follows a thousand jobs may take.
SECONDS, KIB = 30, 300 << 10


@pytest.mark.parametrize("many", [20, pytest.param(1000, marks=running.long)])
def test_many_jobs_are_followed_by_one_list_and_a_metrics_request_for_each_that_changed(
    place: Place, many: int
) -> None:
    """1,000 jobs at work: a firing takes less than 30 s and 300 MB, one list request a page, and none a job."""
    dataflow = place.cloud.dataflow
    stage(place)
    dataflow.hold("*")

    def follow() -> tuple[Ran, Counter[str], float, int]:
        """One firing, what it asked of Dataflow, how many seconds it took, and KiB of memory at its peak."""
        before, began = len(dataflow.requests), time.monotonic()
        timed = ["-c", "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:]).returncode; "
                 "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"]  # fmt: skip
        command = running.command("Many", "--count", many, *NO_WAIT, module="many_jobs")
        ran = running.run([running.python(), *timed, *command], place.folder, place.environment, LONGEST)
        asked = Counter(each.call for each in dataflow.requests[before:])
        return ran, asked, time.monotonic() - began, int(ran.out.splitlines()[-1])

    first, *_ = follow()
    assert (first.code, len(place.jobs)) == (12, many), first
    ran, asked, seconds, kib = follow()
    assert ran.code == 12, ran
    assert asked == {"jobs.list": 1}
    assert len([line for line in ran.err.splitlines() if " is RUNNING since " in line]) == many
    print(f"{many} jobs at work: {seconds:.1f} s, {kib >> 10} MiB")
    assert kib < KIB
    assert seconds < SECONDS
    changed = place.jobs[:: many // 4]
    for job in changed:
        dataflow.cancel(job.id)
    running.wait_for(lambda: all(state_of(job) == "CANCELLED" for job in changed), 60)
    ran, asked, *_ = follow()
    assert ran.code == 30, ran
    assert asked == {"jobs.list": 1, "messages.list": len(changed)}
    if many == 1000:  # they would run for a quarter of an hour, only to be counted
        for job in place.jobs:
            dataflow.cancel(job.id)
        return
    dataflow.release()
    running.wait_for(lambda: over(place), 300)
    ran, asked, *_ = follow()
    assert asked["metrics.get"] == many - len(changed)
    assert asked["jobs.list"] == 1


def test_firing_that_is_stopped_leaves_its_jobs_at_work(place: Place) -> None:
    """SIGTERM while it submits a second job: the first one goes on, and the next firing goes on with it."""
    place.set("millrace", batch="1")
    place.cloud.dataflow.hold("*")
    slow = Fault("delay", seconds=30)
    place.cloud.faults.at(2, slow, call="jobs.create")
    process = place.start("Report", *FLAGS, *NO_WAIT)
    assert slow.came.wait(60)
    process.terminate()
    stopped = cloud_running.end(process)
    assert stopped.code == -signal.SIGINT, stopped
    first = place.jobs[0]
    assert state_of(first) == "RUNNING", stopped
    place.cloud.faults.clear()
    assert fire(place).code == 12
    assert state_of(first) == "RUNNING"
    assert len(place.jobs) == 2


@pytest.mark.parametrize("workers", [1, 3])
def test_jobs_that_a_task_turns_out_to_need_are_seen_to_be_done(place: Place, tmp_path: Path, workers: int) -> None:
    """What the ledger had of them when they were scheduled, in the midst of a run, is not what it has when they ran."""
    stage(place)
    flags = ("--count", 5, "--made", tmp_path / "made", "--workers", workers)
    ran = cloud_running.end(place.start("Yielding", *flags, module="many_jobs"))
    assert ran.code == 0, ran
    assert len(place.jobs) == 5
    assert (tmp_path / "made").exists()

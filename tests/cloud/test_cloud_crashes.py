"""A luigi process dies after each of its effects on the cloud, or loses the answer; the next run makes all well.

Who kills is the service: it has done what it was asked for, kills the process group of the run instead of answering,
and the Dataflow jobs, which are not of that group, go on. Some effects, spread over all calls of all services, are
tried; with MILLRACE_TEST_ALL=1 each one.
"""

import signal
from collections.abc import Sequence
from pathlib import Path

import cloud_running
import pytest
import running
from cloud_running import FLAGS, JOBS, STEADY, Place
from running import EVERY, LONGEST, WHOLE, Row

from localcloud import LocalCloud
from localcloud.faults import Fault, Kind

#: How many effects are tried in each way, unless all are; and how many seeds of random faults.
SAMPLE, SEEDS = 1, 20
SHARE = 0.2

pytestmark = pytest.mark.timeout(LONGEST if WHOLE else 600)


@pytest.fixture(scope="module")
def expected(undisturbed: Path) -> dict[str, list[Row]]:
    """The tables of the single-machine run."""
    return running.tables(undisturbed)


@pytest.fixture(scope="module")
def effects(tmp_path_factory: pytest.TempPathFactory, expected: dict[str, list[Row]]) -> list[str]:
    """Every effect of an undisturbed run's launcher, in order: service, call, and what it is about."""
    with LocalCloud() as cloud:
        place = Place(cloud, tmp_path_factory.mktemp("counted"), more=STEADY)
        place.succeed("Report", *FLAGS)
        assert place.wrong(expected) == []
        assert place.stages() == JOBS
        assert place.locks() == []
        return [f"{each.service} {each.call} {each.path}" for each in cloud.requests if each.effect]


def spread(count: int) -> list[int]:
    """The numbers, from 1, of some of `count` effects; of all where they are asked for."""
    if WHOLE:
        return list(range(1, count + 1, EVERY))
    return [(2 * i + 1) * count // (2 * SAMPLE) + 1 for i in range(SAMPLE)]


def disturbed(place: Place, n: int, kind: Kind, expected: dict[str, list[Row]], spared: list[int]) -> list[str]:
    """What is wrong after a run with a fault at its n-th effect, and another that nothing happens to.

    Where the counted run had to repeat a call, others have fewer effects: a run that ends before its n-th is spared.
    """
    faults, fault, before = place.cloud.faults, Fault(kind), place.cloud.effects
    faults.clear()
    process = place.start("Report", *FLAGS)
    fault.pid = process.pid
    faults.at(n, fault, effects_only=True)  # long before the first: Python is still starting
    first = cloud_running.end(process)
    faults.clear()
    if not fault.came.is_set():
        if first.code != 0 or place.cloud.effects - before >= n:
            return [f"no fault came up: {first}"]
        spared.append(n)
    elif kind == "kill" and first.code != -signal.SIGKILL:
        return [f"the run was not killed: {first}"]
    again = place.luigi("Report", *FLAGS)
    if again.code != 0:
        return [f"the next run: {again}"]
    jobs = cut_otherwise(place) if kind != "kill" else []  # what a death left may be ready one day after the other
    return [f"{trouble} ({first.code})" for trouble in jobs + place.wrong(expected)]


def cut_otherwise(place: Place) -> list[str]:
    """What is wrong if the days of a stage were not one successful job."""
    return [] if place.stages("DONE") == JOBS else [f"successful jobs: {place.stages('DONE')}"]


def disturb_all(kind: Kind, effects: Sequence[str], expected: dict[str, list[Row]], folder: Path) -> None:
    """Tries the numbers of `spread`, and fails with all that is wrong, or if more than a few were spared."""
    numbers, spared = [str(n) for n in spread(len(effects))], list[int]()
    cloud_running.try_all(numbers, folder, STEADY, lambda place, n: disturbed(place, int(n), kind, expected, spared))
    assert len(spared) <= len(numbers) // 20, f"{len(effects)} effects were counted; no run had a fault at {spared}"


def test_effects_are_those_of_every_stage(effects: list[str]) -> None:
    """What the matrix strikes at: ledger, submission, manifests, tables of all the stages, at least 25 effects."""
    assert len(effects) >= 25
    for stage in ("Fetch", "Etl", "Count", "Aggregate", "Report"):
        assert [each for each in effects if f"_jobs/{stage}_" in each or f"_jobs%2F{stage}_" in each], effects
    assert len([each for each in effects if each.startswith("dataflow jobs.create")]) == sum(JOBS.values())
    assert len([each for each in effects if each.startswith("bigquery jobs.insert")]) >= len(running.KEYS)


def test_killed_after_an_effect(effects: list[str], expected: dict[str, list[Row]], tmp_path: Path) -> None:
    """Killed (-9) after any effect and run again: the same tables, a successful job a partition, nothing left over."""
    disturb_all("kill", effects, expected, tmp_path)


def test_answer_lost_after_an_effect(effects: list[str], expected: dict[str, list[Row]], tmp_path: Path) -> None:
    """The answer to any effect lost, and run again if that failed: the same, and no row twice."""
    disturb_all("lost", effects, expected, tmp_path)


@running.long
def test_a_fifth_of_all_calls_failing(expected: dict[str, list[Row]], tmp_path: Path) -> None:
    """With 20 % of all calls failing at random (429, 500, 503, cut, slow, answer lost) the Report completes."""

    def trouble(place: Place, seed: str) -> list[str]:
        before = sum(each.fault is not None for each in place.cloud.requests)
        place.cloud.faults.randomly(SHARE, int(seed))
        ran = place.luigi("Report", *FLAGS)
        place.cloud.faults.clear()
        struck = sum(each.fault is not None for each in place.cloud.requests) - before
        if ran.code != 0:
            return [str(ran)]
        return (
            cut_otherwise(place) + place.wrong(expected) + ([] if struck > 30 else [f"only {struck} calls were struck"])
        )

    # A run has 250 calls and more that are no looks at its jobs; of those there are as many as it takes time.
    cloud_running.try_all([str(seed) for seed in range(1, SEEDS + 1, EVERY)], tmp_path, {}, trouble)

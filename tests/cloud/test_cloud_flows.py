"""Flows in the local cloud: values in Cloud Storage, days that are jobs, and runs that die after an effect."""

import signal
from pathlib import Path

import cloud_running
import pytest
import running
from cloud_running import Place
from running import EVERY, LONGEST, WHOLE, Ran

from localcloud import LocalCloud
from localcloud.faults import Fault

#: How many effects are tried, unless all are.
SAMPLE = 2
STEADY = {"gcp": {"lease": "3600"}}
FETCHED = ("Fetched", "--date", running.DAY)


def run(place: Place, task: str, *flags: object, module: str = "flow_tasks") -> Ran:
    return cloud_running.end(place.start(task, *flags, module=module))


def values(place: Place) -> dict[str, object]:
    """The value of each partition that has one."""
    return {name: made.value.json for name, made in place.manifests().items() if made.value}


def test_values_lie_beside_their_notes(place: Place) -> None:
    """Texts of any kind tell partitions apart; a second run asks for no value, and another setting is refused."""
    texts = ["a/b", "it's ü {x}*?[#]", "x" * 300]
    whole = "[" + ", ".join(f"Text(one={text!r})" for text in texts) + ", Times(number=3)]"
    ran = run(place, "Yields", "--what", whole)
    assert ran.code == 0, ran
    [made] = [value for name, value in values(place).items() if name.startswith("yields/")]
    assert made == repr([*([text, ""] for text in texts), 6])

    def read(since: int) -> list[str]:
        asked = place.cloud.storage.requests[since:]
        return [each.path for each in asked if each.call == "objects.get" and "_MANIFEST" in each.path]

    assert len(read(0)) >= 4
    before = len(place.cloud.storage.requests)
    again = run(place, "Yields", "--what", whole)
    assert again.code == 0, again
    assert read(before) == []
    other = run(place, "Yields", "--what", whole, "--numbers-times", 3)
    assert other.code == 35, other
    assert "was made with numbers.times = 2, but this run says 3 (from the flag --numbers-times)" in str(other)


def test_days_that_a_flow_yields_are_jobs_that_nobody_waits_for(place: Place) -> None:
    """With --no-wait a flow waits for its jobs without a process; what they made is what the flow was made of."""
    ran = run(place, *FETCHED, "--no-wait", module="flow_jobs")
    assert ran.code == 12, ran
    place.wait_for(lambda: run(place, *FETCHED, "--no-wait", module="flow_jobs").code == 0)
    [made] = values(place).values()
    assert isinstance(made, dict)
    assert len(made) == 2
    assert all(made.values())
    assert {entry.partition for entry in place.manifests()[f"fetched/date={running.DAY}"].inputs} == set(made)
    assert sum(place.stages("DONE").values()) == len(place.jobs) == 1  # one job for both days


@pytest.mark.timeout(LONGEST if WHOLE else 600)
def test_killed_after_an_effect(tmp_path: Path) -> None:
    """Killed after any effect on Cloud Storage and run again: the same values, each task's once, and nothing left."""
    with LocalCloud() as cloud:
        counted = Place(cloud, tmp_path / "counted", "counted", STEADY)
        before = cloud.effects
        assert run(counted, "Sum").code == 0
        count, expected = cloud.effects - before, values(counted)
        counted.close()
        assert len(expected) == 5
    numbers = range(1, count + 1, EVERY) if WHOLE else [(2 * i + 1) * count // (2 * SAMPLE) for i in range(SAMPLE)]

    def trouble(place: Place, number: str) -> list[str]:
        fault = Fault("kill")
        process = place.start("Sum", module="flow_tasks")
        fault.pid = process.pid
        place.cloud.faults.at(int(number), fault, effects_only=True)
        first = cloud_running.end(process)
        place.cloud.faults.clear()
        if first.code not in (-signal.SIGKILL, 0):
            return [f"the run was not killed: {first}"]
        again = run(place, "Sum")
        wrong = [] if again.code == 0 else [f"the next run: {again}"]
        wrong += [] if values(place) == expected else [f"values: {values(place)}"]
        return wrong + [f"left over: {each}" for each in place.leftovers()]

    cloud_running.try_all([str(number) for number in numbers], tmp_path, STEADY, trouble)

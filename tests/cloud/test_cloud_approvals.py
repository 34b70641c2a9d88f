"""A gate in Cloud Storage: what a run and bin/approve do there, killed after each effect, and racing from two hosts."""

import contextlib
import json
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import cloud_running
import pytest
import running
from cloud_running import STEADY, Place
from running import EVERY, LONGEST, WHOLE, Ran

from localcloud import LocalCloud
from localcloud.faults import Fault, Kind

DATE = ("--date", running.DAY)
GATE = f"look of {running.DAY}"
TIME = r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ"
#: What the commands of the flow end with, and what the flow has come to then.
CODES = (13, 0, 0)
OUTCOMES = (["asked"], ["asked", "approved"], ["asked", "approved", "published"])

pytestmark = pytest.mark.timeout(LONGEST if WHOLE else 600)


def steps() -> list[list[str]]:
    """The commands of the whole flow, in order: a run that asks when there is something to look at, the answer, and a
    run that goes on.
    """
    run = running.command("Publish", *DATE, module="gate_tasks")
    return [run, approving("--by", "ann", "--reason", "looks right"), run]


def approving(*arguments: object) -> list[str]:
    command = [running.python(), "-m", "millrace", "approve", "look", *DATE, "--module", "gate_tasks", *arguments]
    return [str(each) for each in command]


def start(place: Place, command: Sequence[str]) -> "subprocess.Popen[str]":
    """A process that works in a place, the leader of a group of its own."""
    return subprocess.Popen(
        command,
        cwd=place.folder,
        env={**place.environment, "GATE": "look"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def do(place: Place, command: Sequence[str]) -> Ran:
    return cloud_running.end(start(place, command))


def outcome(place: Place) -> list[str]:
    """What a flow has come to: what happened at its gate, and whether what is behind the gate is there."""
    folder = f"{place.name}/_approvals/look/date={running.DAY}/"
    blobs = sorted(cloud_running.bucket(place.cloud).list_blobs(prefix=folder), key=lambda blob: blob.name)
    said = [json.loads(blob.download_as_bytes())["kind"] for blob in blobs]
    return said + [name.partition("/")[0] for name in place.manifests() if name.startswith("published/")]


def disturbed(place: Place, number: int, n: int, kind: Kind) -> list[str]:
    """What is wrong after a flow one of whose commands met a fault at its n-th effect, and was given again."""
    for each, command in enumerate(steps()):
        if each == number:
            fault = Fault(kind)
            process = start(place, command)
            fault.pid = process.pid
            place.cloud.faults.at(n, fault, effects_only=True)  # long before the first: Python is still starting
            first = cloud_running.end(process)
            place.cloud.faults.clear()
            if not fault.came.is_set():
                return [f"command {number}: no fault came up at effect {n}: {first}"]
            if kind == "kill" and first.code != -signal.SIGKILL:
                return [f"command {number}: it was not killed at effect {n}: {first}"]
            if kind == "kill" and not WHOLE and outcome(place) != OUTCOMES[each]:
                return [f"command {number}: effect {n} was not what happens at the gate: {outcome(place)}"]
            if kind == "lost" and first.code not in (CODES[each], 30):
                return [f"command {number}: effect {n}: {first}"]
        if each > number and not WHOLE:
            break
        ran = do(place, command)
        if (ran.code, outcome(place)) != (CODES[each], OUTCOMES[each]):
            return [f"command {number}, effect {n}: command {each}: {outcome(place)}, {ran}"]
    return []


@pytest.mark.parametrize("kind", ["kill", "lost"])
def test_struck_at_any_effect_on_cloud_storage(kind: Kind, tmp_path: Path) -> None:
    """kill -9 of a run, or of bin/approve, after an effect, or the answer to one lost: the same command given again
    brings the flow to the same place, with one question and one answer.

    Without the long matrices the effects on the gate alone are tried, and not what follows.
    """
    with LocalCloud() as cloud:
        chosen: list[tuple[int, int]] = []
        with contextlib.closing(Place(cloud, tmp_path / "counted", "counted", STEADY)) as place:
            for number, command in enumerate(steps()):
                before = len([each for each in cloud.requests if each.effect])
                assert do(place, command).code == CODES[number]
                assert outcome(place) == OUTCOMES[number]
                effects = [each for each in cloud.requests if each.effect][before:]
                calls = [each.call for each in effects]
                assert calls[-1:] == ["objects.insert"] if number < 2 else calls[-1:], effects
                # The last effect of a run that asks, and the only one of an answer, is the event at the gate.
                gates = [len(effects)] if number < 2 else []
                assert number != 1 or len(effects) == 1
                chosen += [(number, n) for n in (range(1, len(effects) + 1, EVERY) if WHOLE else gates)]
        wrong = []
        for number, n in chosen:
            name = f"{kind}-{number}-{n}"
            with contextlib.closing(Place(cloud, tmp_path / name, name, STEADY)) as place:
                wrong += disturbed(place, number, n, kind)
    assert not wrong, "\n".join(wrong)


def test_two_who_answer_at_once_from_two_hosts(place: Place) -> None:
    """One answer is written; the other is told who was first, and when. The run goes on by the one that was."""
    assert do(place, steps()[0]).code == 13
    calls = [start(place, approving("--by", who, "--reason", "mine")) for who in ("ann", "bob")]
    ended = [(who, cloud_running.end(call)) for who, call in zip(("ann", "bob"), calls, strict=True)]
    [(winner, won)] = [(who, ran) for who, ran in ended if ran.code == 0]
    [lost] = [ran for _, ran in ended if ran.code != 0]
    assert re.fullmatch(rf"{GATE}: approved by {winner} at {TIME}: mine\n", won.out), won
    assert lost.code == 1
    assert re.match(rf"error: gate {GATE} was approved by {winner} at {TIME}: mine; nothing was changed; ", lost.out)
    assert outcome(place) == ["asked", "approved"]
    done = do(place, steps()[2])
    assert done.code == 0, done
    assert f"approved by {winner} at " in done.out


def test_a_run_that_waits_asks_little(place: Place) -> None:
    """A firing that finds a gate still waiting writes nothing to it, and asks for its folder and its events alone."""
    assert do(place, steps()[0]).code == 13
    before = len(place.cloud.requests)
    assert do(place, steps()[0]).code == 13
    asked = [each for each in place.cloud.requests[before:] if "_approvals" in str(each)]
    assert [each for each in place.cloud.requests[before:] if each.effect] == []
    assert 0 < len(asked) <= 6, asked

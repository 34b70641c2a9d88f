"""bin/on-event in the local cloud: a graph that only events drive, and events that ask for nothing, or for it twice."""

import base64
import contextlib
import dataclasses
import json
import re
import socket
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cloud_running
import pytest
import running
import template_tasks
from cloud_running import Place, state_of
from running import Ran

from localcloud import BUCKET, PROJECT, REGION
from localcloud.dataflow_jobs import Job
from millrace.core import leases

#: Two branches that join.
GRAPH = f"""
name = "join"

[jobs.left]
template = "{template_tasks.FLEX}"
parameters = {{ say_what = "left", say_where = "gs://{BUCKET}/joined/{{run}}/left" }}

[jobs.right]
template = "{template_tasks.FLEX}"
parameters = {{ say_what = "right", say_where = "gs://{BUCKET}/joined/{{run}}/right" }}

[jobs.both]
after = ["left", "right"]
template = "{template_tasks.FLEX}"
parameters = {{ say_what = "both", say_where = "gs://{BUCKET}/joined/{{run}}/both" }}
"""
#: A stage of ours, and a template after it.
MIXED = f"""
name = "join"

[jobs.posts]
task = "Fetch"
parameters = {{ date = "{{date}}", source = "sample://" }}

[jobs.after]
after = ["posts"]
template = "{template_tasks.FLEX}"
parameters = {{ say_what = "after", say_where = "gs://{BUCKET}/joined/{{run}}/after" }}
"""
DATE = "2026-11-19"


@pytest.fixture
def joined(place: Place) -> Place:
    """A place with the graph's file, and its template."""
    program = place.folder / "say.py"
    program.write_text(textwrap.dedent(template_tasks._PROGRAM))
    place.cloud.dataflow.images[template_tasks.IMAGE] = [sys.executable, str(program)]
    spec = {"image": template_tasks.IMAGE, "sdkInfo": {"language": "PYTHON"}, "metadata": template_tasks.METADATA}
    name = template_tasks.FLEX.removeprefix(f"gs://{BUCKET}/")
    cloud_running.bucket(place.cloud).blob(name).upload_from_string(json.dumps(spec))
    (place.folder / "graphs").mkdir()
    (place.folder / "graphs" / "join.toml").write_text(GRAPH)
    return place


def entry(job: str, words: str = "Worker pool stopped.", project: str = PROJECT) -> dict[str, Any]:
    """What Dataflow's log says of a job."""
    labels = {"job_id": job, "job_name": "whatever", "project_id": "471167364752", "region": REGION, "step_id": ""}
    return {
        "insertId": "1am96gdc4kr",
        "logName": f"projects/{project}/logs/dataflow.googleapis.com%2Fjob-message",
        "resource": {"type": "dataflow_step", "labels": labels},
        "severity": "DEBUG",
        "textPayload": words,
        "timestamp": "2026-11-19T20:40:48.601470848Z",
    }


def push(value: object) -> dict[str, Any]:
    """A push of Pub/Sub's."""
    data = base64.b64encode(json.dumps(value).encode()).decode()
    return {"message": {"data": data, "messageId": "1", "attributes": {}}, "subscription": f"projects/{PROJECT}/x"}


def start(place: Place, event: object, *specs: object) -> "subprocess.Popen[str]":
    """bin/on-event in the place, with an event on its standard input."""
    text = event if isinstance(event, str) else json.dumps(event)
    process = subprocess.Popen(
        [sys.executable, "-m", "millrace", "on-event", *map(str, specs)],
        cwd=place.folder,
        env=place.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.close()
    process.stdin = None
    return process


def on_event(place: Place, event: object, *specs: object) -> Ran:
    """The same, to its end."""
    return cloud_running.end(start(place, event, *specs))


def fire(place: Place) -> Ran:
    """A firing of the graph that no event asked for."""
    return place.run("millrace", "fire", "JobGraph", "--spec", "graphs/join.toml", "--date", DATE)


def named(place: Place) -> dict[str, list[Job]]:
    """The graph's jobs that Dataflow has, by the name that the file gives them."""
    found: dict[str, list[Job]] = {}
    for job in place.jobs:
        if told := re.fullmatch("millrace-join-([a-z]+)-[0-9a-f]{10}", job.name):
            found.setdefault(told[1], []).append(job)
    return found


def ended(place: Place) -> None:
    """Waits until all jobs have come to their end."""
    place.wait_for(lambda: all(state_of(job) in ("DONE", "FAILED", "CANCELLED") for job in place.jobs))


def waited(place: Place, event: object) -> Ran:
    """What becomes of an event while another one of the same graph and day is at work: it waits, then it fires."""
    lock = cloud_running.bucket(place.cloud).blob(f"{place.name}/_jobs/JobGraph.join.date={DATE}.lock")
    lock.upload_from_string(json.dumps(dataclasses.asdict(leases._this_process())))
    seen, process = len(place.cloud.storage.requests), start(place, event)

    def looks() -> int:
        return sum("JobGraph.join" in each.path for each in place.cloud.storage.requests[seen:])

    place.wait_for(lambda: looks() > 4 or process.poll() is not None)
    assert process.poll() is None
    assert Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text() == ""  # it has not fired
    lock.delete()
    return cloud_running.end(process)


def test_events_alone_drive_a_graph(joined: Place) -> None:
    """After the first firing each job's end is an event, which fires what comes next; each job is there once.

    Both branches end before anybody looks, and their events come together: what comes after both is launched, and once.
    An event that is sent again, one of a job at work, and one of the last job once more change nothing.
    """
    assert fire(joined).code == 0
    ended(joined)
    assert {*named(joined)} == {"left", "right"}
    left, right = named(joined)["left"][0].id, named(joined)["right"][0].id
    joined.cloud.dataflow.hold("*")
    together = [cloud_running.end(each) for each in [start(joined, push(entry(id))) for id in (left, right)]]
    assert [ran.code for ran in together] == [12, 12], together
    assert {name: len(jobs) for name, jobs in named(joined).items()} == {"left": 1, "right": 1, "both": 1}
    assert together[0].out.startswith(f"join {DATE}: job {left} has ended\n")
    again = waited(joined, {"payload": {"id": right, "location": REGION}})
    assert again.code == 12, again
    both = named(joined)["both"][0].id
    working = on_event(joined, entry(both, "Executing wait step start10"))
    assert (working.code, working.out.count("\n")) == (0, 1), working
    assert working.out.startswith(f"ignored: job {both} is ")
    # The event comes while the job is still a moment behind its log.
    process = start(joined, push(entry(both)), "graphs/join.toml")
    looks = len(joined.cloud.dataflow.requests)
    joined.wait_for(lambda: sum(both in each.path for each in joined.cloud.dataflow.requests[looks:]) >= 2)
    joined.cloud.dataflow.release()
    done = cloud_running.end(process)
    assert done.code == 0, done
    assert on_event(joined, push(entry(both))).code == 0
    assert {name: [state_of(job) for job in jobs] for name, jobs in named(joined).items()} == {
        name: ["DONE"] for name in ("left", "right", "both")
    }
    assert joined.locks() == []


@running.long
def test_a_stage_of_ours_in_a_graph_goes_on_by_its_event_too(joined: Place) -> None:
    """A stage's job tells its graph and day by labels as a template's does: its end launches what comes after it."""
    (joined.folder / "graphs" / "join.toml").write_text(MIXED)
    assert fire(joined).code == 0
    ended(joined)
    [fetch] = joined.jobs
    assert cloud_running.stage_of(fetch) == "fetch"
    ran = on_event(joined, push(entry(fetch.id)))
    assert ran.code == 12, ran
    assert {*named(joined)} == {"after"}
    ended(joined)
    assert on_event(joined, push(entry(named(joined)["after"][0].id))).code == 0
    forged = labelled(joined, {"millrace-graph": "join", "millrace-date": DATE, "millrace-task": "fetch"})
    assert on_event(joined, push(entry(forged))).out.startswith(f"ignored: job {forged} is not the last one")


@running.long
def test_a_job_that_failed_is_tried_again_when_its_event_is(joined: Place) -> None:
    """The event of a failed job ends with 30, its sentence told; sent again, it fires the next attempt.

    From then on the first job's event is late, and ignored, whatever it says.
    """
    joined.cloud.dataflow.fail("*right*", "no CPUs are left")
    assert fire(joined).code == 0
    ended(joined)
    failed = named(joined)["right"][0].id
    joined.cloud.dataflow.release()
    told = on_event(joined, push(entry(failed, "Workflow failed. Causes: no CPUs are left")))
    assert told.code == 30, told
    assert "no CPUs are left" in told.out
    assert "Traceback" not in told.out
    assert len(named(joined)["right"]) == 1
    again = on_event(joined, push(entry(failed)))
    assert again.code in (0, 12), again
    assert len(named(joined)["right"]) == 2
    late = on_event(joined, push(entry(failed)))
    assert (late.code, late.out) == (
        0,
        f"ignored: job {failed} is not the last one that the ledger has for join of {DATE}\n",
    )


def labelled(place: Place, labels: Mapping[str, str]) -> str:
    """A stranger's job in the same project, with labels, that has ended; its id."""
    seen = len(place.jobs)
    launch = {
        "jobName": f"stranger-{seen}",
        "containerSpecGcsPath": template_tasks.FLEX,
        "parameters": {"say_what": "x", "say_where": f"gs://{BUCKET}/strange/{seen}"},
        "environment": {"additionalUserLabels": labels, "tempLocation": f"gs://{BUCKET}/tmp"},
    }
    url = f"{place.cloud.dataflow.url}/v1b3/projects/{PROJECT}/locations/{REGION}/flexTemplates:launch"
    body = json.dumps({"launchParameter": launch}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})) as answered:
        made: str = json.load(answered)["job"]["id"]
    ended(place)
    return made


def test_events_of_others_are_ignored(joined: Place) -> None:
    """Another project's jobs, a stranger's here with our labels even, and what there is none of: nothing is fired.

    Each is one line that says why, and exit code 0.
    """
    joined.cloud.dataflow.fail("*", "it is a stranger's")
    forged = labelled(joined, {"millrace-graph": "join", "millrace-job": "left", "millrace-date": DATE})
    unknown = "2026-11-19_00_00_00-1234567890123456789"
    expected = {
        json.dumps(entry(forged, project="another")): f"is of the project another, and this is {PROJECT}",
        json.dumps(push(entry(unknown))): f"there is no job {unknown} in {PROJECT}/{REGION}",
        json.dumps(entry(forged)): f"is not the last one that the ledger has for join of {DATE}",
    }
    before = len(joined.jobs)
    for event, why in expected.items():
        ran = on_event(joined, event)
        assert (ran.code, ran.out.count("\n")) == (0, 1), ran
        assert ran.out.startswith("ignored: "), ran
        assert why in ran.out, ran
    assert len(joined.jobs) == before
    assert joined.locks() == []


@running.long
def test_a_job_that_stays_behind_its_event_is_to_be_sent_again(joined: Place) -> None:
    """Where the job goes on for long after an event that says that it has ended, the exit code is 75."""
    joined.cloud.dataflow.hold("*")
    assert fire(joined).code == 0
    ran = on_event(joined, push(entry(named(joined)["left"][0].id)))
    assert ran.code == 75, ran
    assert "send it again" in ran.out


@contextlib.contextmanager
def serving(place: Place) -> Iterator[str]:
    """The function, served by Google's functions framework in the place's folder."""
    (place.folder / "main.py").write_text("from millrace.ops.on_event import on_event\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    framework = str(Path(sys.executable).with_name("functions-framework"))
    server = subprocess.Popen(
        [framework, "--target=on_event", "--host=127.0.0.1", f"--port={port}"],
        cwd=place.folder,
        env=place.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/"
    try:
        running.wait_for(lambda: server.poll() is not None or answer(url, None)[0] == 405, 60)
        yield url
    finally:
        server.terminate()
        server.wait(30)


def answer(url: str, body: bytes | None, **headers: str) -> tuple[int, str]:
    """Status and text of what the function answers, to a GET where there is no body; 0 where nobody does."""
    spelt = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, spelt), timeout=120) as answered:
            return answered.status, answered.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def test_the_function_answers_so_that_events_are_sent_again_where_that_helps(joined: Place) -> None:
    """Served by the functions framework: 200 for what was fired or ignored and for what is no event, 503 for a failure.

    A push fires, and so does a binary CloudEvent of Eventarc's, here of the same job, which then is tried again.
    """
    (joined.folder / "graphs" / "join.toml").write_text(GRAPH.partition("[jobs.right]")[0].replace("left", "right"))
    joined.cloud.dataflow.fail("*right*", "no CPUs are left")
    assert fire(joined).code == 0
    ended(joined)
    right = named(joined)["right"][0].id
    joined.cloud.dataflow.release()
    kind = {"Content_Type": "application/json"}
    with serving(joined) as url:
        assert answer(url, None)[0] == 405
        assert answer(url, b"\xff{", **kind)[0] == 200
        assert answer(url, json.dumps(push(entry(right, project="another"))).encode(), **kind) == (
            200,
            f"exit code 0\nignored: job {right} is of the project another, and this is {PROJECT}\n",
        )
        failed = answer(url, json.dumps(push(entry(right))).encode(), **kind)
        assert failed == (503, f"exit code 30\njoin {DATE}: job {right} has ended\n")
        attributes = {
            "ce_specversion": "1.0",
            "ce_type": "google.cloud.dataflow.job.v1beta3.statusChanged",
            "ce_source": f"//dataflow.googleapis.com/projects/{PROJECT}/locations/{REGION}",
            "ce_id": "d20f9a8d4703f3a4313c1dde7c1b19ff",
        }
        payload = {"id": right, "location": REGION, "projectId": PROJECT, "currentState": "JOB_STATE_FAILED"}
        again = answer(url, json.dumps({"payload": payload}).encode(), **kind, **attributes)
        assert again[0] == 200, again
    assert len(named(joined)["right"]) == 2

"""What Dataflow jobs tell of themselves, in the local Dataflow."""

import datetime
import json
from pathlib import Path

import pytest
from dataflow_running import PLACE, ROOT, WHERE, Set, new_name, submit, wait

import localcloud
from localcloud.dataflow import Dataflow
from localcloud.dataflow_jobs import Message, now
from localcloud.serving import Answered
from localcloud.storage import Storage
from millrace.errors import DamagedError, JobCancelledError, JobFailedError, NotThereYetError
from millrace.runners.dataflow import jobs, reports, submission
from millrace.runners.runner import Progress, Run, Ticket
from millrace.tasks import session


def test_counters_and_usage_are_the_jobs(local: Dataflow, tmp_path: Path, services: tuple[Storage, Dataflow]) -> None:
    """A pipeline of the project, with its own counters, in a worker that knows only what was staged."""
    posts = [{"id": str(n), "text": "a word", "created_at": "2026-11-19T10:00:00Z"} for n in range(7)]
    text = "".join(json.dumps(post) + "\n" for post in posts)
    session.current().google.storage.bucket(localcloud.BUCKET).blob("posts.jsonl").upload_from_string(text)
    options = {
        "source": f"gs://{localcloud.BUCKET}/posts.jsonl",
        "date": "2026-11-19",
        "output": f"{ROOT}/{{dataset}}/date=2026-11-19/a",
    }
    job = submission.submit(
        session.current().google, "pipelines.posts.fetch", options, "Fetch", Ticket(new_name(), "r1", PLACE)
    )
    done, told = wait(job)
    assert done.state == "DONE", reports.failure(done)
    run = reports.result(done)
    assert run.job_id == done.id
    assert 7 in run.counters.values()
    assert told[-1].counters == run.counters
    used = run.usage
    place = {"project_id": localcloud.PROJECT, "location": localcloud.REGION, "job_id": done.id}
    metrics = session.current().google.dataflow.metrics.get_job_metrics(request=place).metrics
    raw = {each.name.name: each.scalar for each in metrics if each.name.origin == "dataflow/v1b3"}
    assert raw["TotalVcpuTime"] > 0
    assert used["vcpu_hours"] == pytest.approx(raw["TotalVcpuTime"] / 3600, abs=1e-6), "of seconds"
    assert raw["TotalMemoryUsage"] > 0
    assert used["memory_gb_hours"] == pytest.approx(raw["TotalMemoryUsage"] / 1024 / 3600, abs=1e-6), "of MB-seconds"
    expected = used["vcpu_hours"] * 0.056 + used["memory_gb_hours"] * 0.003557 + used["shuffle_gb"] * 0.011
    assert used["estimated_cost_usd"] == pytest.approx(expected, abs=1e-6)


def test_a_failed_job_is_told_with_its_own_error(local: Dataflow) -> None:
    """Our own sentence where a worker raised one, the link, and the command that tries again."""
    done, told = wait(submit("expand", f"gs://{localcloud.BUCKET}/nothing/*"))
    assert done.state == "FAILED"
    error = reports.failure(done)
    assert isinstance(error, JobFailedError)
    text = str(error)
    assert text.startswith(f"Dataflow job {done.name} failed: ")
    assert f"gs://{localcloud.BUCKET}/nothing/*" in text
    assert "Traceback" not in text
    assert "while running" not in text
    assert text.endswith(f"; see {done.url}")
    assert told[-1].error in text


def test_a_bug_in_a_pipeline_is_told_by_its_last_line(local: Dataflow) -> None:
    done, _ = wait(submit("sleep", "a word"))
    assert "failed: TypeError: " in str(reports.failure(done))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ([], ""),
        (["Startup of the worker pool failed: ZONE_RESOURCE_POOL_EXHAUSTED.", "Workflow failed."], "Startup"),
        (["Workflow failed. Causes: The Dataflow job appears to be stuck."], "appears to be stuck"),
        (
            [
                "Error message from worker: Traceback (most recent call last):\n  File x\nValueError: first",
                "Traceback …\nmillrace.errors.SourceError: a broken file [while running 'Read-ptransform-1']\n",
                "Error message from worker: Traceback\n  File x\nKeyError: 'y' [while running 'A']\n\nNote: imports, …",
                "Workflow failed. Causes: S01:Read failed.",
            ],
            "a broken file",
        ),
        (
            ["Traceback\n  File x\nKeyError: 'y' [while running 'A']\n\nNote: imports, …", "Workflow failed."],
            "KeyError: 'y'",
        ),
    ],
)
def test_the_error_of_consequence(said: list[str], told: str) -> None:
    found = reports.consequence(said)
    assert told in found
    assert "while running" not in found


@pytest.mark.parametrize("kind", [NotThereYetError, DamagedError])
def test_an_error_that_passes_stays_one(local: Dataflow, kind: type[Exception]) -> None:
    """So does one of a damaged file, to which the launcher adds what makes it anew."""
    name = new_name()
    local.fail(name, f"Traceback …\nmillrace.errors.{kind.__name__}: the file of 2026-11-19 is not there yet")
    done, _ = wait(submit("sleep", 0, name))
    error = reports.failure(done)
    assert isinstance(error, kind)
    assert "the file of 2026-11-19 is not there yet; see https://" in str(error)


def test_an_error_that_passed_is_not_why_the_job_failed() -> None:
    """A source was busy, the work was tried again, and failed for good for another reason: that one counts."""
    busy = "Traceback …\nmillrace.errors.SourceBusyError: https://example.org does not answer [while running 'Read']"
    bug = "Error message from worker: Traceback (most recent call last):\n  File x\nKeyError: 'y' [while running 'A']"
    summary = "Workflow failed. Causes: S01:Read failed."
    assert reports.consequence([busy, bug, summary]) == "KeyError: 'y'"
    assert reports.consequence([bug, busy, summary]) == "https://example.org does not answer"


def test_counters_that_can_t_be_read_cost_no_result(local: Dataflow, setting: Set) -> None:
    setting("gcp", "patience", "1")
    done, _ = wait(submit("sleep", 0))
    local.faults.randomly(1.0, 1, kinds=["status"])
    assert reports.result(done) == Run(done.id)


def test_what_was_drained_is_not_whole(local: Dataflow, setting: Set) -> None:
    setting("dataflow", "streaming", "true")
    name = new_name()
    local.hold(name)
    assert jobs.drain(submit("sleep", 0, name)).state in ("DRAINING", "DRAINED")
    found = jobs.find(session.current().google, name, "r1", WHERE)
    assert found
    done, _ = wait(found)
    assert done.state == "DRAINED"
    error = reports.failure(done)
    assert isinstance(error, JobCancelledError)
    assert "was drained, so what it wrote is not whole" in str(error)


def test_a_watcher_reads_a_jobs_errors_once(local: Dataflow) -> None:
    """A job may have thousands, many pages of them; one that comes to light a minute late is not lost."""
    name = new_name()
    local.hold(name)
    job = submit("sleep", 0, name)
    made, begin = local.jobs[-1], now() - datetime.timedelta(hours=10)
    made.messages += [
        Message(begin + datetime.timedelta(minutes=number), "JOB_MESSAGE_ERROR", f"KeyError: {number}")
        for number in range(250)
    ]
    told: list[Progress] = []
    look = reports.changes(told.append)

    def asked() -> list[Answered]:
        before = len(local.requests)
        look(job)
        return [each for each in local.requests[before:] if each.call == "messages.list"]

    assert len(asked()) == 3
    assert told[-1].error == "KeyError: 249"
    made.say("JOB_MESSAGE_ERROR", "ValueError: new")
    [page] = asked()
    assert page.query["startTime"]
    assert told[-1].error == "ValueError: new"
    late = now() - datetime.timedelta(minutes=1)
    made.messages.append(Message(late, "JOB_MESSAGE_ERROR", "millrace.errors.SourceError: a broken file"))
    assert len(asked()) == 1
    assert told[-1].error == "a broken file"
    assert len(asked()) == 1
    assert len(told) == 3


def test_a_watcher_of_a_job_that_was_replaced_tells_of_the_new_one(local: Dataflow) -> None:
    name = new_name()
    local.hold(name)
    job = submit("sleep", 0, name)
    told: list[Progress] = []
    look = reports.changes(told.append)
    local.jobs[-1].say("JOB_MESSAGE_ERROR", "ValueError: of the old one")
    look(job)
    assert told[-1].error == "ValueError: of the old one"
    new = jobs.get(session.current().google, local.replace(job.id).id, WHERE)
    assert new
    look(new)
    assert told[-1].error == ""


def test_progress_in_a_line() -> None:
    assert Progress("RUNNING", 1, "KeyError: 'x'", {"read": 5}).message == "RUNNING, 1 worker; KeyError: 'x'"
    assert Progress("QUEUED").message == "QUEUED"

"""bin/clear --undo where steps are templates' jobs: the ledger alone knows that they were done, and when."""

import dataclasses
import datetime
import os
import signal

import pytest
import running
import template_tasks
from apache_beam.io.filesystems import FileSystems
from children import Child
from cloud_running import Place, bucket, end
from dataflow_running import PLACE, Set, submit
from local_dataflow import options
from undo_jobs import Bill, Kept, Post, Reply, Ship, Undoes

from localcloud import PROJECT, REGION
from localcloud.dataflow import Dataflow
from millrace import TemplateJob
from millrace.core.ledger import Ledger, job_of
from millrace.ops import clear
from millrace.tasks import session

_days = iter(datetime.date(2026, 11, day) for day in range(1, 30))


@pytest.fixture
def day(local: Dataflow, setting: Set) -> datetime.date:
    """A day that no other test has; nothing is undone yet."""
    setting("gcp", "lease", "600")
    Undoes.undone.clear()
    return next(_days)


def done(*tasks: TemplateJob) -> None:
    """Has the ledger say of tasks, one after the other, that they are done, as a run leaves it."""
    for task in tasks:
        with Ledger(session.current().storage).claim(task.job) as claim:
            claim.begin("millrace-undo", work=task.work())
            claim.close()


def undo(task: str, day: datetime.date) -> int:
    return clear.main([task, "--undo", "--date", str(day)])


def test_jobs_are_undone_by_the_ledger_s_order(day: datetime.date, capsys: pytest.CaptureFixture[str]) -> None:
    """From a root that failed, and from the first step, of which the stage after them knows by requires() alone."""
    ship, bill, kept = Ship(date=day), Bill(date=day), Kept(date=day)
    for root in ("Kept", "Ship"):
        done(ship, bill)
        kept.run()
        assert kept.complete()
        assert undo(root, day) == 0
        assert Undoes.undone == [str(bill), str(ship)]
        assert [task.output().exists() for task in (ship, bill)] == [False, False]
        assert kept.manifest() is None
        assert capsys.readouterr().out.endswith("\n2 undone, 1 partition gone\n")
        Undoes.undone.clear()


def test_a_step_is_never_undone_before_what_came_after_it(day: datetime.date) -> None:
    """Also where it was done again since, or by a host whose clock is behind."""
    done(Bill(date=day), Ship(date=day))
    assert undo("Bill", day) == 0
    assert Undoes.undone == [str(Bill(date=day)), str(Ship(date=day))]


def test_a_job_of_unknown_parameters_is_named(day: datetime.date, capsys: pytest.CaptureFixture[str]) -> None:
    """The ledger keeps a digest of them; where they are said, the job is undone."""
    task = Post(text=f"posted {day:%d}")
    done(task)
    assert clear.main(["Post", "--undo"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(
        f"error: {task.job} was made by Post, which declares undo(), but its parameters can't be told"
    )
    assert Undoes.undone == []
    assert clear.main(["Post", "--undo", "--text", task.text]) == 0
    assert Undoes.undone == [str(task)]


def test_a_step_without_a_day_stays_where_days_are_said(day: datetime.date, capsys: pytest.CaptureFixture[str]) -> None:
    """It may be one of other days' windows too; a note tells of it. Without days it is undone with the others."""
    reply, post = Reply(date=day), Post(text="the same for all days")
    done(post, reply)
    assert undo("Reply", day) == 0
    assert Undoes.undone == [str(reply)]
    assert (
        f"this stays, because it has no day, and is undone where no days are said: {post}\n" in capsys.readouterr().err
    )
    done(reply)
    assert clear.main(["Reply", "--undo", "--yes"]) == 0
    assert Undoes.undone == [str(reply), str(reply), str(post)]


@pytest.mark.parametrize("noted", [True, False])
def test_a_job_at_work_is_named_and_nothing_undone(
    noted: bool, local: Dataflow, day: datetime.date, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody waits for it, and the ledger may not even have its id; once it is over, the steps before it are undone."""
    if not FileSystems.match([template_tasks.CLASSIC])[0].metadata_list:
        template_tasks.stage_classic(options(local.url, "say"))
    local.hold("*")
    ship, bill, before = Ship(date=day), Bill(date=day), len(local.jobs)
    done(ship)
    ledger = Ledger(session.current().storage)
    child = Child(bill.run)
    running.wait_for(lambda: (entry := ledger.entry(bill.job)) and entry.job_id, 60)
    os.kill(child.pid, signal.SIGKILL)
    assert child.end() == -signal.SIGKILL
    if not noted:
        with ledger.claim(bill.job) as claim:
            claim.enter(dataclasses.replace(claim.attempt, job_id=None))
    [job] = local.jobs[before:]
    assert undo("Bill", day) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: job {job.name}, of {bill.job}, is RUNNING: nothing was undone; cancel it, or")
    assert said.endswith(f"see https://console.cloud.google.com/dataflow/jobs/{REGION}/{job.id}?project={PROJECT}")
    assert Undoes.undone == []
    local.release()
    running.wait_for(lambda: job.over, 60)
    assert undo("Bill", day) == 0
    assert Undoes.undone == [str(ship)]


def test_a_stage_s_job_at_work_is_named(
    local: Dataflow, day: datetime.date, capsys: pytest.CaptureFixture[str]
) -> None:
    """Left by a run that did not wait for it, or was killed."""
    done(Ship(date=day), Bill(date=day))
    local.hold("*")
    with Ledger(session.current().storage).claim(job_of("Kept", f"kept/date={day}")) as claim:
        entry = claim.begin("millrace-kept", runner="DataflowRunner", where=PLACE)
        job = submit("sleep", 0, entry.job_name, entry.request_id)
    assert undo("Kept", day) == 1
    assert f"error: job {job.name}, of Kept_kept.date={day}, is " in capsys.readouterr().err
    assert Undoes.undone == []
    local.cancel(job.id)
    assert undo("Kept", day) == 0
    assert Undoes.undone == [str(Bill(date=day)), str(Ship(date=day))]


def test_saga_in_cloud_storage(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where locks are leases and manifests are objects: in reverse, and killed right after an undo()."""
    monkeypatch.setenv("AT", str(place.folder))
    monkeypatch.setenv("CRASH_LOG", str(place.folder / "moments"))
    one = str(running.DAY)
    (place.folder / f"Send-{one}.broken").touch()
    assert end(place.start("Send", "--date", one, module="undo_tasks")).code == 30
    (place.folder / f"Charge-{one}.dies").touch()
    flags = ("Send", "--undo", "--date", one, "--module", "undo_tasks")
    assert place.run("millrace", "clear", *flags).code == -signal.SIGKILL
    ran = place.run("millrace", "clear", *flags)
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "2 undone, 4 partitions gone"), ran
    lines = (place.folder / "outside").read_text().splitlines()
    assert [line for line in lines if line.startswith("undo")] == [
        f"undo {step} {one}" for step in ("Charge", "Charge", "Reserve")
    ]
    names = [blob.name for blob in bucket(place.cloud).list_blobs(prefix=f"{place.name}/")]
    assert {name.removeprefix(f"{place.name}/").split("/")[0] for name in names} == {"_jobs", "orders"}

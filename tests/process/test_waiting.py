"""Tasks that wait for what needs no process: what a run says of them, its exit code, and how luigid shows them."""

import os
from pathlib import Path

import pytest
import running
from luigid_asking import listed
from running import Ran

LINE = "is RUNNING since 2026-11-27 20:00:00Z; https://x.example/j"


def fire(task: str, folder: Path, *flags: object) -> Ran:
    return running.run(running.command(task, "--folder", folder, *flags, module="waiting_tasks"), folder)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("central", [False, True])
def test_run_that_waits_ends_with_a_code_of_its_own(workers: int, central: bool, server: int, tmp_path: Path) -> None:
    """Waiting is no failure: at work is 12, waiting for approval 13; the rest is done; each wait is one line."""
    flags = ["--workers", workers, *(["--scheduler-port", server] if central else [])]
    late = fire("Late", tmp_path, *flags)
    assert late.code == 12, late
    assert [line[11:] for line in late.err.splitlines() if LINE in line] == [
        f"Wait(folder={tmp_path}, name=dynamic, asks=False): dynamic {LINE}"
    ]
    assert "because some are at work" in late.err
    both = fire("Both", tmp_path, *flags)
    assert both.code == 13, both
    assert both.err.count(LINE) == 2
    assert "because some are at work and some are waiting for approval" in both.err
    assert both.errors == []
    (tmp_path / "static").touch()
    assert fire("Both", tmp_path, *flags).code == 12
    assert (tmp_path / "After").exists()
    (tmp_path / "dynamic").touch()
    done = fire("Both", tmp_path, *flags)
    assert done.code == 0, done
    assert (tmp_path / "Late").exists()


def test_luigid_shows_what_waits_as_pending_with_what_is_waited_for(server: int, tmp_path: Path) -> None:
    """Between firings luigid has nothing FAILED, RUNNING or DISABLED; what is waited for has a line and a link."""
    for _ in range(2):
        assert fire("Both", tmp_path, "--scheduler-port", server).code == 13
    for status in ("FAILED", "RUNNING", "DISABLED"):
        assert listed(server, status) == {}
    pending = listed(server, "PENDING")
    assert sorted(task["display_name"] for task in pending.values() if task["name"] == "Waiting") == [
        "Waiting(for=job dynamic)",
        "Waiting(for=job static)",
    ]
    waits = [task for task in pending.values() if task["name"] == "Wait"]
    assert [task["tracking_url"] for task in waits] == ["https://x.example/j"] * 2
    assert all(LINE.replace("; ", "\n") in task["status_message"] for task in waits)


def test_failure_and_what_is_missing_weigh_more_than_a_wait(tmp_path: Path) -> None:
    """What failed makes 30 and what is missing 20, whatever waits besides."""
    failed = fire("WithFailure", tmp_path)
    assert failed.code == 30
    assert failed.err.count(LINE) == 1
    assert fire("WithMissing", tmp_path).code == 20
    os.mkfifo(tmp_path / "missing")
    assert fire("WithMissing", tmp_path).code == 13


def test_keep_alive_keeps_no_run_that_waits(tmp_path: Path) -> None:
    """A worker that is to stay while there is something to do ends all the same, since nothing comes of waiting."""
    assert fire("Both", tmp_path, "--worker-keep-alive").code == 13


def test_run_that_waits_has_nothing_to_mail(project: Path, tmp_path: Path) -> None:
    """bin/run, as cron calls it, prints nothing while a run waits; its exit code is luigi's, the log says the rest."""
    env = running.environment(PYTHONPATH=os.pathsep.join([str(project), str(running.ROOT / "tests")]))
    del env["LUIGI_CONFIG_PATH"]
    command = [project / "bin/run", "Both", "--module", "waiting_tasks", "--folder", tmp_path]
    ran = running.run(command, tmp_path, env)
    assert (ran.code, ran.out, ran.err) == (13, "", "")
    [log] = (project / "logs").glob("*.log")
    assert log.read_text().count(LINE) == 2

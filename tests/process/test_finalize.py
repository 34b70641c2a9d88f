"""finalize(): once for each task that declares it, at the end of a run that was to do it, however that ended."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import running
from running import Ran


def command(folder: Path, of: Sequence[str], *flags: object) -> list[str]:
    storage = ("--millrace-storage", folder / "data")
    named = ("--folder", folder, "--of", json.dumps(of))
    return running.command("All", *named, *storage, *flags, module="finalize_tasks")


def fire(folder: Path, of: Sequence[str], *flags: object) -> Ran:
    return running.run(command(folder, of, *flags), folder)


def told(folder: Path) -> list[str]:
    """What was called, without the process; forgotten then."""
    ended = folder / "ended"
    lines = ended.read_text().splitlines() if ended.exists() else []
    ended.unlink(missing_ok=True)
    return [line.rpartition(" ")[0] for line in lines]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("central", [False, True])
def test_finalize_is_called_once_however_a_run_ends(workers: int, central: bool, server: int, tmp_path: Path) -> None:
    """Done, failed, and again where something failed: each task that the run was to do, once, with what came of it.

    What was complete before is no part of a run, and a run that finds all complete calls nothing.
    """
    flags = ["--workers", workers, *(["--scheduler-port", server] if central else [])]
    assert fire(tmp_path, ["Works", "Silent", "Yields", "Made", "Plain"], *flags).code == 0
    done = told(tmp_path)
    assert sorted(done) == [f"{name} done failed= waiting=" for name in ("Made", "Works", "Yields")]
    assert done.index("Works done failed= waiting=") < done.index("Made done failed= waiting=")  # what is needed first
    assert fire(tmp_path, ["Works", "Silent", "Yields", "Made"], *flags).code == 0
    assert told(tmp_path) == []
    assert fire(tmp_path, ["After", "Works"], *flags).code == 30
    assert sorted(told(tmp_path)) == [f"{name} failed failed=Fails waiting=" for name in ("After", "Fails")]
    (tmp_path / "mended").touch()
    assert fire(tmp_path, ["After", "Works"], *flags).code == 0
    assert sorted(told(tmp_path)) == [f"{name} done failed= waiting=" for name in ("After", "Fails")]


def test_finalize_is_called_in_luigi_s_process(tmp_path: Path) -> None:
    """Not in those of the tasks, of which there are two."""
    process = subprocess.Popen(
        command(tmp_path, ["Works", "Made"], "--workers", 2), cwd=tmp_path, env=running.environment()
    )
    assert process.wait(120) == 0
    pids = {line.rpartition(" ")[2] for line in (tmp_path / "ended").read_text().splitlines()}
    assert pids == {str(process.pid)}


@pytest.mark.parametrize("workers", [1, 2])
def test_run_that_only_waits_is_not_over(workers: int, tmp_path: Path) -> None:
    """A run that goes to sleep calls nothing; the firing that goes on to the end does. One that failed besides is over,
    and says what waits.
    """
    assert fire(tmp_path, ["Works", "Waits"], "--workers", workers).code == 12
    assert told(tmp_path) == []
    assert fire(tmp_path, ["Waits", "Fails"], "--workers", workers).code == 30
    assert sorted(told(tmp_path)) == [f"{name} failed failed=Fails waiting=Waits" for name in ("Fails", "Waits")]
    (tmp_path / "come").touch()
    assert fire(tmp_path, ["Works", "Waits"], "--workers", workers).code == 0
    assert told(tmp_path) == ["Waits done failed= waiting="]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("sent", "central"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_run_that_is_stopped_finalizes_when_its_tasks_have_ended(
    workers: int, sent: signal.Signals, central: bool, server: int, tmp_path: Path
) -> None:
    """Stopped while a task is at work: that ends first, in its own process too, then finalize() is called."""
    process = subprocess.Popen(
        command(tmp_path, ["Held", "Works"], "--workers", workers, *(["--scheduler-port", server] if central else [])),
        cwd=tmp_path,
        env=running.environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    running.wait_for((tmp_path / "held").exists, 60)
    os.kill(process.pid, sent)
    _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT, said
    lines = (tmp_path / "ended").read_text().splitlines()
    assert lines[0] == "Held is over"
    assert sorted(line.rpartition(" ")[0] for line in lines[1:]) == [
        f"{name} stopped failed= waiting=" for name in ("Held", "Works")
    ]
    assert "Traceback" not in said


@pytest.mark.parametrize("workers", [1, 2])
def test_run_whose_luigid_is_gone_has_failed(
    workers: int, luigid: tuple["subprocess.Popen[bytes]", int], tmp_path: Path
) -> None:
    """What is running ends, finalize() is called, and the exit code stays that of a luigid that does not answer."""
    process, port = luigid
    run = subprocess.Popen(
        command(tmp_path, ["Slowly", "After"], "--workers", workers, "--scheduler-port", port),
        cwd=tmp_path,
        env=running.environment(),
        stderr=subprocess.DEVNULL,
    )
    running.wait_for((tmp_path / "held").exists, 60)
    process.kill()
    process.wait()
    (tmp_path / "gone").touch()
    assert run.wait(120) == 45
    assert [line.split()[:2] for line in told(tmp_path)].count(["Slowly", "failed"]) == 1


def test_what_is_missing_or_unknown_ends_a_run_badly(tmp_path: Path) -> None:
    """A run that lacks something from outside, or can't schedule something, has failed."""
    assert fire(tmp_path, ["Missing", "Works"]).code == 20
    assert sorted(told(tmp_path)) == [f"{name} failed failed= waiting=" for name in ("Missing", "Works")]
    assert fire(tmp_path, ["Unknown", "Silent"]).code == 35
    assert told(tmp_path) == ["Unknown failed failed=Unknown waiting="]


@pytest.mark.parametrize("workers", [1, 2])
def test_finalize_that_fails_is_a_sentence_and_an_exit_code(workers: int, tmp_path: Path) -> None:
    """It makes the run one in which a task failed; the others are called all the same; no secret, no traceback."""
    ran = fire(tmp_path, ["Works", "Wrong"], "--workers", workers)
    assert ran.code == 30, ran
    assert sorted(told(tmp_path)) == [f"{name} done failed= waiting=" for name in ("Works", "Wrong")]
    (line,) = ran.errors
    assert line.startswith(f"ERROR: finalize() of Wrong(folder={tmp_path}) failed: KeyError: 'https://")
    assert re.search(r"\(finalize_tasks\.py, line \d+\)$", line), line
    assert "hush" not in str(ran)
    assert "Traceback" not in str(ran)
    # What was done is complete, so that there is nothing left to do, or to finalize.
    assert fire(tmp_path, ["Works", "Wrong"], "--workers", workers).code == 0
    assert told(tmp_path) == []


def test_finalize_can_t_end_the_run_as_if_all_were_well(tmp_path: Path) -> None:
    """One that calls sys.exit() has failed, and the others are called."""
    ran = fire(tmp_path, ["Works", "Exits"])
    assert ran.code == 30, ran
    assert sorted(told(tmp_path)) == [f"{name} done failed= waiting=" for name in ("Exits", "Works")]
    assert "finalize() of Exits" in ran.errors[0]


def test_finalize_that_fails_hides_no_higher_exit_code(tmp_path: Path) -> None:
    """A run that could not schedule a task ends with 35, and one that lacks something with 30, whatever fails then."""
    assert fire(tmp_path, ["Unknown", "Wrong"]).code == 35
    assert "Wrong failed failed=Unknown waiting=" in told(tmp_path)
    (tmp_path / "Wrong").unlink()
    assert fire(tmp_path, ["Missing", "Wrong"]).code == 30


def test_stop_while_finalize_is_at_work(tmp_path: Path) -> None:
    """Who stops the run then ends the one that is at work; the others are called; the run ends as stopped."""
    process = subprocess.Popen(
        command(tmp_path, ["Works", "Slow"]),
        cwd=tmp_path,
        env=running.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    running.wait_for((tmp_path / "held").exists, 60)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT, said
    assert sorted(told(tmp_path)) == [f"{name} done failed= waiting=" for name in ("Slow", "Works")]
    assert "stopped by SIGTERM" in said

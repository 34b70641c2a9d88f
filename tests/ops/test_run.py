"""bin/run: what it is told reaches luigi, what luigi comes to is told, and a task has one run at a time."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
import running
from running import Ran

from millrace.ops import run


def start(project: Path, *arguments: object) -> "subprocess.Popen[str]":
    """bin/run over one of the small tasks, as docker or systemd start it."""
    path = os.pathsep.join([str(project), str(running.ROOT / "tests")])
    env = running.environment(PYTHONPATH=path)
    del env["LUIGI_CONFIG_PATH"]
    return subprocess.Popen(
        [str(part) for part in (project / "bin/run", *arguments)],
        cwd="/",
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: "subprocess.Popen[str]") -> Ran:
    """What a process said, and its exit code."""
    out, err = process.communicate(timeout=120)
    return Ran(process.returncode, out, err)


def log(project: Path) -> str:
    """What the day's log says."""
    return "".join(path.read_text(encoding="utf-8") for path in (project / "logs").glob("*.log"))


def wait_for(path: Path) -> None:
    """Waits until a file is there."""
    running.wait_for(path.exists, 30)
    assert path.exists()


def test_stops_reach_luigi_and_one_task_runs_once(project: Path, tmp_path: Path) -> None:
    """SIGTERM to bin/run alone ends luigi as a signal to luigi does, with exit code 130 and its sentence in the log.

    Meanwhile another run of the task is refused, wherever the task's name stands; one of another task is not.
    """
    small = ("--module", "luigid_tasks", "--at", tmp_path)
    (tmp_path / "First.held").touch()
    first = start(project, "--workers", 2, "First", *small)
    wait_for(tmp_path / "First.runs")
    second = end(start(project, "First", "--workers", 2, *small))
    assert (second.code, second.out) == (10, "")
    assert second.err.endswith(": another run of First is at work\n")
    other = end(start(project, "--workers", 2, "Other", *small))
    assert (other.code, other.err) == (0, "")
    first.terminate()
    stopped = end(first)
    assert stopped.code == 130, stopped
    assert "ended with 130" in stopped.err
    assert "stopped by SIGTERM; the same command goes on from here" in log(project)
    (tmp_path / "First.held").unlink()
    again = end(start(project, "First", *small))  # nobody holds the lock
    assert (again.code, again.err) == (0, ""), again
    assert "bin/run First --module luigid_tasks" in log(project)


def test_graphs_of_two_files_are_two_tasks(project: Path, tmp_path: Path) -> None:
    """Another run of a graph is refused, one of another graph is not; a drawing is printed, and no run."""
    for name, task in (("one", "First"), ("two", "Other")):
        text = f'[jobs.only]\ntask = "{task}"\nparameters = {{ at = "{tmp_path}" }}\n'
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    small = ("--module", "luigid_tasks", "--millrace-storage", tmp_path / "data", "--spec")
    (tmp_path / "First.held").touch()
    first = start(project, "JobGraph", *small, tmp_path / "one.toml")
    wait_for(tmp_path / "First.runs")
    second = end(start(project, "JobGraph", *small, tmp_path / "one.toml"))
    assert (second.code, second.out) == (10, "")
    assert second.err.endswith(f": another run of JobGraph {tmp_path}/one.toml is at work\n")
    other = end(start(project, "JobGraph", *small, tmp_path / "two.toml"))
    assert (other.code, other.err) == (0, ""), other
    drawn = end(start(project, "JobGraph", *small, tmp_path / "one.toml", "--dry-run"))
    assert (drawn.code, drawn.err) == (0, "")
    assert drawn.out.splitlines()[1] == "└─ only: task First"
    (tmp_path / "First.held").unlink()
    ended = end(first)
    assert (ended.code, ended.err) == (0, ""), ended


def test_luigi_that_is_killed_is_told(project: Path, tmp_path: Path) -> None:
    """Where the kernel ends luigi itself, bin/run says so, with a shell's exit code."""
    (tmp_path / "First.held").touch()
    process = start(project, "First", "--module", "luigid_tasks", "--at", tmp_path, "--workers", 1)
    wait_for(tmp_path / "First.runs")
    os.kill(int((tmp_path / "First.runs").read_text()), signal.SIGKILL)
    ran = end(process)
    assert ran.code == 137
    assert "was killed, as the kernel does where memory runs out" in ran.err


def test_log_that_can_t_be_written_is_one_sentence(project: Path) -> None:
    """A file where the logs' folder should be."""
    (project / "logs").touch()
    ran = end(start(project, "First"))
    assert ran.code == 1
    assert ran.err == "error: bin/run First: logs can't be written: File exists\n"


@pytest.mark.parametrize(
    ("arguments", "task"),
    [
        ("Report", "Report"),
        ("Report --date 2026-11-19", "Report"),
        ("--workers 2 Report", "Report"),
        ("--workers=2 Report", "Report"),
        ("--local-scheduler Report --days 3", "Report"),
        ("--posts-source /data/posts Report", "Report"),
        ("RangeDaily --of Report --start 2026-09-01", "RangeDaily"),
        ("--module mine Mine", "Mine"),
        ("--workers", "run"),
    ],
)
def test_task_of_a_command_line(arguments: str, task: str) -> None:
    """The task is what luigi takes for it."""
    assert run._named(arguments.split())[0] == task


@pytest.mark.parametrize("module", ["workflow", "workflows.nothing.there", ".x", ""])
def test_misspelt_module_is_one_sentence(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """bin/run says that there is no such module, on stderr and in the log, with the exit code of a misspelt task."""
    monkeypatch.chdir(tmp_path)
    assert run.main(["Report", "--module", module]) == 40
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: there is no module {module} (--module) where Python looks")
    (log,) = (tmp_path / "logs").glob("*.log")
    assert said.removeprefix("error: ") in log.read_text()

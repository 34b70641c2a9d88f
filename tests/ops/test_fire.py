"""millrace fire: nothing that waits is a failure to whoever started it, everything else is what luigi says of it."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
import running
from running import Ran


def fire(project: Path, *arguments: object, **env: str) -> "subprocess.Popen[str]":
    """bin/fire over one of the small tasks, as something that knows nothing of the project starts it."""
    plain = running.environment(PYTHONPATH=os.pathsep.join([str(project), str(running.ROOT / "tests")]))
    del plain["LUIGI_CONFIG_PATH"]
    return subprocess.Popen(
        [str(part) for part in (project / "bin/fire", *arguments)],
        cwd="/",
        env={**plain, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(process: "subprocess.Popen[str]") -> Ran:
    """What a firing said, and its exit code."""
    said, _ = process.communicate(timeout=120)
    return Ran(process.returncode, said, "")


@pytest.mark.parametrize(
    ("task", "code", "says"),
    [
        ("Late", 0, "dynamic is RUNNING since 2026-11-27 20:00:00Z; https://x.example/j"),
        ("After", 0, "static is RUNNING"),  # waits for a person
        ("Fails", 30, "broken"),
        ("WithFailure", 30, "broken"),
        ("WithMissing", 20, "Data for Missing"),
        ("Nowhere", 40, "Nowhere"),
    ],
)
def test_only_what_waits_becomes_0(task: str, code: int, says: str, project: Path, tmp_path: Path) -> None:
    """Where nothing is left but to wait, the exit code is 0; where anything failed or is missing, it is luigi's.

    What luigi says is on the output of the command, and nothing of it is in the project's folder.
    """
    before = running.files(project)
    ran = end(fire(project, "--module", "waiting_tasks", task, "--folder", tmp_path))
    assert ran.code == code, ran
    assert says in ran.out, ran
    assert {*running.files(project)} == {*before}


def test_a_firing_does_not_wait_and_leaves_jobs(project: Path, tmp_path: Path) -> None:
    """Luigi is told not to wait, and to leave its jobs where it is stopped, whatever the settings say."""
    (tmp_path / "told.py").write_text(
        "import luigi, workflows\n"
        "from millrace.tasks import sections\n"
        "class Told(luigi.Task):\n"
        "    def complete(self): return False\n"
        "    def run(self): raise SystemExit(f'waits {sections.waits()}, detach {sections.run().detach}')\n"
    )
    path = os.pathsep.join([str(project), str(tmp_path)])
    settings = (project / "luigi.cfg").read_text(encoding="utf-8")
    assert "\nwait = true\n" in settings
    assert "\ndetach = false\n" in settings
    ran = end(fire(project, "--module", "told", "Told", PYTHONPATH=path))
    assert "waits False, detach True" in ran.out, ran


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_reach_luigi(number: signal.Signals, project: Path, tmp_path: Path) -> None:
    """What Cloud Run sends before it kills reaches luigi, which ends with 130: a stopped firing is no success."""
    (tmp_path / "First.held").touch()
    process = fire(project, "First", "--module", "luigid_tasks", "--at", tmp_path)
    running.wait_for((tmp_path / "First.runs").exists, 30)
    process.send_signal(number)
    ran = end(process)
    assert ran.code == 130, ran
    assert f"stopped by {number.name}; the same command goes on from here" in ran.out


def test_luigi_that_is_killed_is_no_success(project: Path, tmp_path: Path) -> None:
    """Where the kernel ends luigi, as it does when the container's memory is used up, the exit code is a shell's."""
    (tmp_path / "First.held").touch()
    process = fire(project, "First", "--module", "luigid_tasks", "--at", tmp_path, "--workers", 1)
    running.wait_for((tmp_path / "First.runs").exists, 30)
    os.kill(int((tmp_path / "First.runs").read_text()), signal.SIGKILL)
    assert end(process).code == 137


def test_settings_that_are_not_there_are_one_sentence(project: Path, tmp_path: Path) -> None:
    """A file of settings that was named and not mounted ends the firing: luigi would run with its defaults."""
    ran = end(fire(project, "Report", LUIGI_CONFIG_PATH=str(tmp_path / "none.cfg")))
    assert ran.code == 1, ran
    said = [line for line in ran.out.splitlines() if line.startswith("error")]
    assert said == [
        f"error: LUIGI_CONFIG_PATH = '{tmp_path}/none.cfg' in the environment names no file; mend it, or take it away"
    ]


def test_help_and_no_task() -> None:
    """Without a task there is a line of usage and exit code 2; --help tells what it is for."""
    none = running.run([running.ROOT / "bin/fire"], running.ROOT)
    assert (none.code, none.out) == (2, "")
    assert none.err.startswith("usage: bin/fire TASK")
    told = running.run([running.ROOT / "bin/fire", "--help"], running.ROOT)
    assert told.code == 0
    assert "The exit code is luigi's,\nbut 0 where nothing is left but to wait" in told.out
    flags = running.run([running.ROOT / "bin/fire", "Report", "--help"], running.ROOT)
    assert flags.code == 0
    assert "--days DAYS" in flags.out

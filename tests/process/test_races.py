"""Two luigi processes do the same at once: one result, and both are told that all is well."""

import json
import subprocess
from pathlib import Path

import running
from running import Ran

FLAGS = ("--date", running.DAY, "--posts-days", 1)


def start(storage: Path, *flags: object, task: str = "Report") -> "subprocess.Popen[str]":
    """A luigi process with a scheduler of its own."""
    return subprocess.Popen(
        running.command(task, "--millrace-storage", storage, *FLAGS, *flags),
        cwd=storage.parent,
        env=running.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: "subprocess.Popen[str]") -> Ran:
    out, err = process.communicate(timeout=300)
    return Ran(process.returncode, out, err)


def made(ran: Ran) -> list[str]:
    """The stages that a run says it made."""
    lines = (ran.out + ran.err).split("===== Luigi")[0].splitlines()
    return [" ".join(line.split()[1:3]) for line in lines if line[2:3] == ":"]


def test_two_runs_at_once_give_one_result(undisturbed: Path, tmp_path: Path) -> None:
    """Two runs of the same Report at once both exit 0; each partition has one attempt, and the tables are right."""
    storage = tmp_path / "data"
    ran = [end(process) for process in [start(storage), start(storage)]]
    assert [one.code for one in ran] == [0, 0], "\n".join(map(str, ran))
    assert running.tables(storage) == running.tables(undisturbed)
    assert running.complete(storage) == running.complete(undisturbed)
    assert running.leftovers(storage) == []
    for name in running.complete(storage):
        manifest = running.partition(storage, name)
        assert manifest is not None
        attempts = [path.name for path in (storage / name).glob("attempt-*")]
        assert attempts in ([manifest.attempt], [])
        assert manifest.attempt.startswith("attempt-001-"), f"{name} was made more than once"
    stages = made(ran[0]) + made(ran[1])
    assert len(stages) == 8, "each stage is made once, by one run or the other"


def test_two_windows_at_once_share_their_days(undisturbed: Path, tmp_path: Path) -> None:
    """Two runs at once of windows that overlap make each day once, and the page of all days lists both windows."""
    storage = tmp_path / "data"
    later = running.DAY.replace(day=2)
    both = [start(storage), start(storage, "--date", later)]
    ran = [end(process) for process in both]
    assert [one.code for one in ran] == [0, 0], "\n".join(map(str, ran))
    assert running.tables(storage) == running.tables(undisturbed)
    listed = (storage / "reports/index.html").read_text(encoding="utf-8")
    assert str(running.DAY) in listed
    assert str(later) in listed
    assert running.leftovers(storage) == []
    for day in (running.DAY, later):
        manifest = running.partition(storage, f"counts/date={day}")
        assert manifest is not None
        assert manifest.attempt.startswith("attempt-001-")


def test_tasks_that_write_one_partition_take_turns(tmp_path: Path) -> None:
    """Runs whose settings give a window other lengths write the same tables: one's stand whole, the other says why."""
    both = [start(tmp_path / "data", "--posts-days", days, task="Aggregate") for days in (1, 2)]
    ran = [end(process) for process in both]
    assert sorted(each.code == 0 for each in ran) == [False, True], "\n".join(map(str, ran))
    lost = next(each for each in ran if each.code != 0)
    assert any("was made with days = " in line for line in lost.errors), lost
    manifest = json.loads((tmp_path / f"data/word_counts/date={running.DAY}/_MANIFEST.json").read_text())
    for file in manifest["files"]:
        assert (tmp_path / "data" / file["path"]).stat().st_size == file["bytes"]

"""A real luigi process dies at every side effect of a small run; the next run gives what an undisturbed one gives.

Some moments, spread over all of them, are tried; with MILLRACE_TEST_ALL=1 each one.
"""

import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import running
from running import LONGEST, WHOLE, Row

#: How many moments are tried, unless all are.
CALLS, FILES, LOST = 3, 2, 1
FLAGS = ("--date", running.DAY, "--posts-days", 1)

pytestmark = pytest.mark.timeout(LONGEST if WHOLE else 600)


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing happened to: its partitions and tables, and each moment of it in words."""

    partitions: list[str]
    tables: dict[str, list[Row]]
    calls: list[str]
    changes: list[str]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The run that all others are compared with."""
    folder = tmp_path_factory.mktemp("counted")
    died, ran = attempt(folder, "")
    assert died == 0, ran
    moments = [line.split(" ", 1) for line in (folder / "moments").read_text().splitlines()]
    calls = [what for kind, what in moments if kind == "call"]
    changes = [what for kind, what in moments if kind == "file"]
    return Undisturbed(running.complete(folder / "data"), everything(folder / "data"), calls, changes)


def attempt(folder: Path, crash: str) -> tuple[int, str]:
    """A luigi process, the leader of its own group, that dies as `crash` says; its exit code and what it said."""
    env = running.environment(CRASH=crash, CRASH_LOG=str(folder / "moments"))
    # One worker does the window's two days in one batch, two do them one by one; two may race to make a folder, so that
    # the changes of files vary.
    workers = [] if crash.endswith((":before", ":lost")) and crash.startswith("call:") else ["--workers", "1"]
    process = subprocess.Popen(
        running.command("Report", "--millrace-storage", folder / "data", *FLAGS, *workers, module="crashing"),
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    said, _ = process.communicate(timeout=300)
    return process.returncode, said


def everything(storage: Path) -> dict[str, list[Row]]:
    """The rows of the window's tables, and of the days' posts and rejects."""
    rows = running.tables(storage)
    rows["posts"] = running.select(storage, "SELECT * FROM posts ORDER BY date, id")
    rows["posts_rejected"] = running.select(storage, "SELECT * FROM posts_rejected ORDER BY date, line")
    return rows


def trouble(folder: Path, crash: str, died: int, undisturbed: Undisturbed) -> list[str]:
    """What is wrong after a run that ended with the exit code `died` and another that nothing happens to."""
    folder.mkdir()
    code, said = attempt(folder, crash)
    if code != died:
        return [f"{crash}: ended with {code}: {said}"]
    storage = folder / "data"
    ran = running.luigi("Report", *FLAGS, storage=storage)
    if ran.code != 0:
        return [f"{crash}: the next run: {ran}"]
    wrong = []
    if running.complete(storage) != undisturbed.partitions:
        wrong.append(f"{crash}: other partitions: {running.complete(storage)}")
    rows = everything(storage)
    wrong += [f"{crash}: other rows in {table}" for table in rows if rows[table] != undisturbed.tables[table]]
    wrong += [f"{crash}: left over: {path}" for path in running.leftovers(storage)]
    if not (storage / f"reports/date={running.DAY}/index.html").exists():
        wrong.append(f"{crash}: no page")
    return wrong


def spread(moments: list[str], count: int) -> list[str]:
    """Some of the moments, evenly; all of them where they are asked for."""
    if WHOLE:
        return moments
    return [moments[(2 * i + 1) * len(moments) // (2 * count)] for i in range(min(count, len(moments)))]


def try_all(folder: Path, crashes: list[str], died: int, undisturbed: Undisturbed) -> None:
    """Tries each, two at a time, and fails with all that is wrong."""
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(trouble, folder / crash.replace(":", "-"), crash, died, undisturbed) for crash in crashes]
        wrong = [line for job in jobs for line in job.result()]
    assert not wrong, "\n".join(wrong)


def test_moments_are_those_of_every_stage(undisturbed: Undisturbed) -> None:
    """What the matrix kills at: claims, clears, files, manifests and publications of all the stages."""
    for stage in ("Fetch", "Etl", "Count", "Aggregate", "Report"):
        closed = [call for call in undisturbed.calls if call.startswith(f"replace _jobs/{stage}_")]
        assert len(closed) == (4 if stage in ("Fetch", "Etl", "Count") else 2)
    created = [call.removeprefix("create ") for call in undisturbed.calls if call.startswith("create ")]
    assert len(created) == 8
    published = [call for call in undisturbed.calls if call.startswith("replace ") and call.endswith("/_MANIFEST.json")]
    assert len(created) + len(published) == len(undisturbed.partitions)
    written = [change for change in undisturbed.changes if change.startswith("open ") and change.endswith(".parquet")]
    assert len(written) > 15


def test_death_before_or_after_any_change_of_the_storage(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """A process that is killed before or after any call that changes the storage leaves nothing that the next minds."""
    numbers = range(1, len(undisturbed.calls) + 1)
    moments = [f"call:{n}:{how}" for n in numbers for how in ("before", "after")]
    try_all(tmp_path, spread(moments, CALLS), -signal.SIGKILL, undisturbed)


def test_death_at_any_change_of_a_file(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """A process killed while it, or a pipeline in it, writes, renames or deletes files leaves no half result."""
    numbers = range(1, len(undisturbed.changes) + 1)
    moments = [f"file:{n}:{how}" for n in numbers for how in ("before", "torn")]
    torn = [
        m for m in moments if m.endswith("before") or undisturbed.changes[int(m.split(":")[1]) - 1].startswith("open ")
    ]
    try_all(tmp_path, spread(torn, FILES), -signal.SIGKILL, undisturbed)


def test_lost_answer_of_the_storage(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Where the storage did what it was asked for but its answer is lost, the run fails, and the next one goes on."""
    numbers = range(1, len(undisturbed.calls) + 1)
    try_all(tmp_path, spread([f"call:{n}:lost" for n in numbers], LOST), 30, undisturbed)

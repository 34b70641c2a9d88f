"""runner = auto decides by the memory that a stage takes, and by what this machine has."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import running
from dataflow_running import Set

from millrace.core import memory
from millrace.core.manifests import FileEntry
from millrace.errors import SettingError
from millrace.tasks import auto
from millrace.tasks.beam_task import BeamTask
from millrace.tasks.settings import Day
from millrace.tasks.work import Work

MIB = 1 << 20


class Sized(BeamTask):
    """Days of a given size; the last file is read by all."""

    writes = ("sized",)
    pipeline = "batch_case"
    date: datetime.date = Day()

    @classmethod
    def memory_here(cls, largest: int, together: int) -> int:
        return 10 * MIB + 2 * largest + together

    def input_files(self) -> list[FileEntry]:
        return [FileEntry(f"{self.date.day}", "x", 1, self.date.day * MIB, ""), FileEntry("all", "x", 1, MIB, "")]


def works(*days: int) -> list[Work]:
    no_claim: Any = None  # nothing is begun
    return [Work(Sized(date=datetime.date(2026, 11, day)), no_claim) for day in days]


def days(some: Sequence[Work]) -> list[int]:
    return [work.stage.key.date.day for work in some if work.stage.key.date]


@pytest.mark.parametrize(
    ("given", "mib", "runs"),
    [
        ([1, 2, 3], 10 + 2 * 4 + 7, [[1, 2, 3]]),
        ([1, 2, 3], 10 + 2 * 4 + 7 - 1, [[1, 2], [3]]),
        ([3, 2, 1], 10 + 2 * 4 + 7 - 1, [[3, 2], [1]]),
        ([1, 1, 2], 10 + 2 * 3 + 3, [[1, 1], [2]]),
        ([3, 9, 1], 10 + 2 * 4 + 5, [[3, 1]]),
        ([9], 10 + 2 * 10 + 10, [[9]]),
    ],
)
def test_a_batch_is_cut_where_that_makes_it_fit(
    given: list[int], mib: int, runs: list[list[int]], setting: Set
) -> None:
    """Into as few as fit: memory goes with the largest partition and with what all read, each file once. What does not
    fit alone, and has no Dataflow to go to, is told of by itself.
    """
    setting("millrace", "auto_memory", str(mib * MIB))
    some = works(*given)
    found = list(auto.runs(some))
    assert [(name, days(group)) for name, group in found] == [("FnApiRunner", group) for group in runs]
    placed = [work for _, group in found for work in group]
    for work in some:
        assert (work.error is None) == (work in placed)
    for work in (work for work in some if work.over):
        assert isinstance(work.error, SettingError)
        said = f"its pipeline takes about 40 MiB of memory, and this process may take {mib} MiB (auto_memory"
        assert str(work.error).startswith(said)


def test_under_a_limit_of_the_shell_nothing_is_begun_that_would_not_fit(tmp_path: Path) -> None:
    """The run says which, how much, by whose word, and what mends it; with more the same run works. Each under a real
    `ulimit -v`, in which the process could not even reserve more.
    """
    env = running.environment()
    storage = tmp_path / "a %41 {x} storage"
    command = running.command("Etl", "--date", running.DAY, "--millrace-storage", storage, "--millrace-runner", "auto")
    for left, code in ((500 * MIB, 30), (2200 * MIB, 0)):
        limited = ["sh", "-c", f'ulimit -v {(left + memory.RESERVED) >> 10} && exec "$@"', "sh", *command]
        ran = running.run([*limited, "--workers", "1"], tmp_path, env)
        assert ran.code == code, ran
        assert "Traceback" not in ran.out + ran.err, ran
        if code:
            (error,) = ran.errors
            assert f"Fetch sample:// {running.DAY}: its pipeline takes about 512 MiB of memory" in error
            assert f"(ulimit -v is {memory.shown(left + memory.RESERVED)}, of which" in error
            assert "runner = auto has no Dataflow to go to (a Dataflow job can't read" in error
            assert error.endswith("or more memory mends it, and runner = FnApiRunner runs it here all the same")
            assert running.complete(storage) == []
    assert f"posts/date={running.DAY}" in running.complete(storage)


def test_what_a_person_allows_is_shared_out_among_the_workers(tmp_path: Path) -> None:
    """And stands in the sentence, with where it was said."""
    given = ["--millrace-runner", "auto", "--millrace-auto-memory", 800 * MIB, "--workers", 2]
    ran = running.luigi("Fetch", "--source", "sample://", "--date", running.DAY, *given, storage=tmp_path / "data")
    assert ran.code == 30, ran
    (error,) = ran.errors
    assert (
        "this process may take 400 MiB (auto_memory, from the flag --millrace-auto-memory, is 800 MiB, for 2" in error
    )
    assert "that, fewer --workers, or more memory mends it" in error

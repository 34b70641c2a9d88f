"""--refresh: what the run needs and other code, or newer inputs, made stale is made anew, and nothing else."""

import os
import pty
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import running
from running import Ran
from small_project import COUNT, DAY, Small, said

PAGE = ("Page", "--date", DAY)
OTHER = 'WORD = "second"\n'
#: What the run for a page needs: the partition, and what its file says by either code.
NEEDED = {
    **{f"daily/date=2026-11-{day}": "Daily" for day in (17, 18, 19)},
    "weekly/date=2026-11-19": "Weekly",
    "pages/date=2026-11-19": "Page",
}


@pytest.fixture
def small(tmp_path: Path) -> Small:
    """A project that has made a page, and a day that the page does not need, by its first code."""
    made = Small(tmp_path / "a {project}")
    made.luigi(*PAGE, "--millrace-storage", made.storage)
    made.luigi("Daily", "--date", "2026-11-01", "--millrace-storage", made.storage)
    return made


def run(small: Small, *flags: object) -> Ran:
    """A run for the page, however it ends."""
    storage = ("--millrace-storage", small.storage)
    return running.run(running.command(*PAGE, *storage, *flags, module="mine"), small.folder, small.env)


def clear(small: Small, *arguments: object) -> Ran:
    """Runs `millrace clear` there."""
    command = [running.python(), "-m", "millrace", "clear", *arguments]
    return running.run([*command, "--module", "mine", "--millrace-storage", small.storage], small.folder, small.env)


def visible(small: Small) -> dict[str, str]:
    """What the file says that each partition's manifest names; all that the page needs are there."""
    found = {}
    for name in NEEDED:
        manifest = running.partition(small.storage, name)
        assert manifest is not None
        [file] = manifest.files
        found[name] = (small.storage / file.path).read_text()
    return found


def attempts(small: Small) -> dict[str, str]:
    """The attempt that each partition's manifest names."""
    found = {name: running.partition(small.storage, name) for name in running.complete(small.storage)}
    return {name: manifest.attempt for name, manifest in found.items() if manifest}


@pytest.mark.parametrize("flags", [("--refresh",), ("--millrace-refresh", "always", "--workers", "2")])
def test_what_other_code_made_stale_is_made_anew_and_nothing_else(small: Small, flags: tuple[str, ...]) -> None:
    """By the flag or by the setting; the day that is not needed stays, and nothing is left over."""
    before = attempts(small)
    assert run(small, *flags).code == 0
    assert attempts(small) == before
    small.write("counting/helping.py", OTHER)
    for _ in range(2):  # the second time there is nothing to do
        ran = run(small, *flags)
        assert ran.code == 0, ran
        assert said(ran) == []
        first = {"daily/date=2026-11-01": "Daily first"}
        assert small.made() == {name: f"{family} second" for name, family in NEEDED.items()} | first
        after = attempts(small)
        assert running.leftovers(small.storage) == []
    assert {name for name in before if before[name] != after[name]} == NEEDED.keys()


@pytest.mark.parametrize("flags", [(), ("--millrace-refresh", "ask")])
def test_without_it_nothing_is_made_anew(small: Small, flags: tuple[str, ...]) -> None:
    """Never by default; and where nobody can be asked, asking is naming."""
    before = attempts(small)
    small.write("counting/helping.py", OTHER)
    ran = run(small, *flags)
    assert ran.code == 0, ran
    assert attempts(small) == before
    [line] = said(ran)
    assert line.endswith("and so does a run with --refresh")


@pytest.mark.parametrize(("answer", "made"), [("y", "second"), ("", "first")])
def test_a_person_is_asked_at_a_terminal(small: Small, answer: str, made: str) -> None:
    """With refresh = ask the run says how many are stale and of what, and does what the person says."""
    small.write("counting/helping.py", OTHER)
    command = running.command(*PAGE, "--millrace-storage", small.storage, "--millrace-refresh", "ask", module="mine")
    terminal, theirs = pty.openpty()
    os.write(terminal, f"{answer}\n".encode())
    ran = subprocess.run(command, cwd=small.folder, env=small.env, stdin=theirs, capture_output=True, text=True)
    os.close(theirs)
    os.close(terminal)
    assert ran.returncode == 0, ran
    assert "5 partitions (pages, weekly, daily) are stale, by other code: make them anew? [y/N] " in ran.stderr
    assert {small.made()[name] for name in NEEDED} == {f"{family} {made}" for family in NEEDED.values()}


def test_what_fails_to_be_made_anew_stays_as_it_was(small: Small) -> None:
    """New code that fails takes nothing away: the old is there, complete, and read; the next code replaces it."""
    before = small.made()
    small.write("counting/count.py", COUNT.replace("return", "raise OSError('no luck') or"))
    assert run(small, "--refresh").code == 30
    assert small.made() == before
    assert run(small).code == 0
    small.write("counting/count.py", COUNT.replace("{name}", "{name} third"))
    assert run(small, "--refresh").code == 0
    assert set(attempts(small)) == set(before)
    assert {small.made()[name] for name in NEEDED} == {f"{family} third first" for family in NEEDED.values()}
    assert running.leftovers(small.storage) == []


def test_newer_inputs_make_stale(small: Small) -> None:
    """What was read has been made anew since: what was made of it is stale, and what that was made of is not."""
    shutil.rmtree(small.storage / "daily/date=2026-11-18")
    small.luigi("Daily", "--date", "2026-11-18", "--millrace-storage", small.storage)
    before = attempts(small)
    assert run(small).code == 0
    assert attempts(small) == before
    assert run(small, "--refresh").code == 0
    after = attempts(small)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"weekly/date=2026-11-19", "pages/date=2026-11-19"}
    assert run(small, "--refresh").code == 0
    assert attempts(small) == after


def test_an_input_that_is_gone_makes_nothing_stale(small: Small) -> None:
    """Raw data that was deleted to save room is no reason to make anew what it was good for."""
    shutil.rmtree(small.storage / "daily/date=2026-11-18")
    before = attempts(small)
    assert run(small, "--refresh").code == 0
    assert attempts(small) == before


def test_clear_stale_forgets_what_is_stale_alone(small: Small) -> None:
    """Of all tasks, or of those named; --dry-run says what; more than a day's is asked for."""
    nothing = clear(small, "--stale", "--yes")
    assert (nothing.code, nothing.out) == (0, "0 partitions gone\n"), nothing
    small.write("counting/helping.py", OTHER)
    small.luigi("Daily", "--date", "2026-11-02", "--millrace-storage", small.storage)
    dry = clear(small, "Daily", "--stale", "--from", "2026-11-01", "--to", "2026-11-03", "--dry-run")
    assert (dry.code, dry.out.splitlines()[-1]) == (0, "1 partition would go"), dry
    assert clear(small, "--stale").code == 1
    assert clear(small).code != 0
    assert len(small.made()) == 7
    done = clear(small, "--stale", "--yes")
    assert (done.code, done.out.splitlines()[-1]) == (0, "6 partitions gone"), done
    assert small.made() == {"daily/date=2026-11-02": "Daily second"}


def test_killed_at_any_change_of_the_storage(tmp_path: Path) -> None:
    """Killed while it makes anew, a run leaves each partition old or new, whole; the next one makes the rest anew."""
    small = Small(tmp_path / "project")
    small.write("crashes.py", "import crashing\nimport mine\n")
    flags = ("--millrace-storage", small.storage)

    def attempt(crash: str, log: str, *more: str) -> Ran:
        env = {**small.env, "CRASH": crash, "CRASH_LOG": str(tmp_path / log)}
        command = running.command(*PAGE, *flags, *more, module="crashes")
        return running.run(["setsid", "--wait", *command], small.folder, env)

    assert attempt("none:0:never", "first").code == 0
    kept = tmp_path / "kept"
    shutil.copytree(small.storage, kept)
    small.write("counting/helping.py", OTHER)
    assert attempt("none:0:never", "counted", "--refresh").code == 0
    moments = [line for line in (tmp_path / "counted").read_text().splitlines() if line.startswith("call ")]
    assert sum("_MANIFEST.json" in line for line in moments) == len(NEEDED)
    chosen = [f"call:{n}:{how}" for n in range(1, len(moments) + 1) for how in ("before", "after")]
    for crash in chosen if running.WHOLE else chosen[3 :: len(chosen) // 5]:
        shutil.rmtree(small.storage)
        shutil.copytree(kept, small.storage)
        assert attempt(crash, crash.replace(":", "-"), "--refresh").code in (-signal.SIGKILL, 128 + signal.SIGKILL)
        for name, text in visible(small).items():
            assert text in (f"{NEEDED[name]} first", f"{NEEDED[name]} second"), (crash, name)
        ran = run(small, "--refresh")
        assert ran.code == 0, (crash, ran)
        assert visible(small) == {name: f"{family} second" for name, family in NEEDED.items()}, crash
        # Killed right after the new took the old one's place, a run leaves the old one's files, which nothing names.
        assert len(running.leftovers(small.storage)) <= 1, crash
        assert clear(small, "Daily", "--yes").code == 0
        assert not [path for path in running.leftovers(small.storage) if path.startswith("daily")], crash

"""WordCount and LetterCount run end to end, from a file to complete datasets and a table."""

import os
import re
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import running

TEXT = b"Poor Tom's a-cold. Poor\xff\n"
COUNTS = {"Poor": 2, "Tom's": 1, "a": 1, "cold": 1}


def flags(text: Path | str, name: str = "tom") -> tuple[object, ...]:
    return "--input", text, "--name", name


def totals(storage: Path) -> dict[str, dict[str, int]]:
    """Source → word → count, as the warehouse has them."""
    found: dict[str, dict[str, int]] = {}
    for row in running.select(storage, "SELECT word, count, source FROM word_totals"):
        found.setdefault(str(row["source"]), {})[str(row["word"])] = int(str(row["count"]))
    return found


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A text, whose path has spaces and =, and the storage in which WordCount has counted it under the name tom."""
    folder = tmp_path_factory.mktemp("words")
    text, storage = folder / "a b=c.txt", folder / "data"
    text.write_bytes(TEXT)
    ran = running.succeed("WordCount", *flags(text), storage=storage)
    assert " 5 words, 4 distinct, " in ran.err
    assert "bytes that are no UTF-8, and ended a word each: 1\n" in ran.err
    return text, storage


def test_both_tasks_complete_their_outputs_together(counted: tuple[Path, Path]) -> None:
    """Each task's two outputs are complete after one run, and the table is filled; manifests have what was counted."""
    text, storage = counted
    running.succeed("LetterCount", *flags(text), storage=storage)
    for name in ("word_totals", "word_texts", "letter_totals", "words_a_to_f"):
        made = running.partition(storage, f"{name}/source=tom")
        assert made
        assert made.counters["invalid_bytes"] == 1
        assert made.counters["words"] == 5
    assert totals(storage) == {"tom": COUNTS}


def test_another_text_and_a_changed_one_never_pass_for_the_old(counted: tuple[Path, Path], tmp_path: Path) -> None:
    """What to do is said, about that name alone: the command that is named leaves other names as they are."""
    text, storage = counted
    changing = tmp_path / "text.txt"
    changing.write_bytes(b"one")
    running.succeed("WordCount", *flags(changing, "more"), storage=storage)
    changing.write_bytes(b"one two")
    ran = running.luigi("WordCount", *flags(changing, "more"), storage=storage)
    assert ran.code != 0
    assert f"was made of source {changing} when that was" in str(ran)
    running.succeed("WordCount", *flags(changing, "more"), "--refresh", storage=storage)
    assert totals(storage) == {"tom": COUNTS, "more": {"one": 1, "two": 1}}
    ran = running.luigi("WordCount", *flags(text, "more"), storage=storage)
    assert ran.code != 0
    (arguments,) = set(re.findall(r"forget the old results \(\S*bin/clear (\S+) ", str(ran)))
    assert arguments == "word_totals/source=more"
    cleared = running.run(
        [running.python(), "-m", "millrace", "clear", arguments, "--millrace-storage", storage], running.ROOT
    )
    assert cleared.code == 0, cleared
    assert running.complete(storage)
    assert totals(storage) == {"tom": COUNTS}
    running.succeed("WordCount", *flags(text, "more"), storage=storage)
    assert totals(storage) == {"tom": COUNTS, "more": COUNTS}


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("x.txt", "../x", "allowed"),
        ("posts-{date:%Y}.txt", "x", "has a field for a day, of which this task knows none"),
        ("ftp://host/x", "x", "has the scheme ftp://; allowed are"),
        ("none.txt", "x", "source none.txt has no file"),
    ],
)
def test_what_can_not_be_is_one_sentence(tmp_path: Path, text: str, name: str, said: str) -> None:
    """A name that leads elsewhere, a text of many days, one of no known kind, one that is not there."""
    ran = running.luigi("WordCount", *flags(text, name), storage=tmp_path / "data")
    assert ran.code != 0
    assert said in str(ran)
    assert "Traceback" not in str(ran)


def test_killed_between_its_two_outputs_a_task_is_gone_on_with(tmp_path: Path) -> None:
    """The first output is visible and the second is not: the task is not complete, and the next run makes it whole."""
    text, storage = tmp_path / "text.txt", tmp_path / "data"
    text.write_bytes(TEXT)

    def attempt(crash: str) -> int:
        process = subprocess.Popen(
            running.command("LetterCount", "--millrace-storage", storage, *flags(text), module="crashing"),
            cwd=tmp_path,
            env=running.environment(CRASH=crash, CRASH_LOG=str(tmp_path / "moments")),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        process.communicate(timeout=100)
        return process.returncode

    assert attempt("") == 0
    calls = [line for line in (tmp_path / "moments").read_text().splitlines() if line.startswith("call ")]
    between = calls.index("call replace words_a_to_f/source=tom/_MANIFEST.json") + 1
    first = letters(storage)
    storage.rename(tmp_path / "undisturbed")
    os.remove(tmp_path / "moments")
    assert attempt(f"call:{between}:before") == -signal.SIGKILL
    assert running.partition(storage, "letter_totals/source=tom")
    assert not running.partition(storage, "words_a_to_f/source=tom")
    running.succeed("LetterCount", *flags(text), storage=storage)
    assert letters(storage) == first == Counter({"p": 2, "t": 1, "a": 1, "c": 1})
    assert running.partition(storage, "words_a_to_f/source=tom")
    assert not running.leftovers(storage)


def letters(storage: Path) -> Counter[str]:
    """How many words begin with each letter."""
    rows = running.select(storage, "SELECT letter, count FROM letter_totals")
    return Counter({str(row["letter"]): int(str(row["count"])) for row in rows})

"""What was made by other code stays complete; the end of each run names it, with the command that makes it anew."""

import re
from pathlib import Path

import running
import small_project
from small_project import COUNT, DAY, Small, said

from workflows.engine import manifests
from workflows.engine.manifests import Manifest

PAGE = ("Page", "--date", DAY)
OTHER = 'WORD = "second"\n'


def command_in(line: str) -> str:
    """The command that a line names."""
    found = re.fullmatch(r".* made by other code \(.*\); (.*) makes (?:it|them) anew", line)
    assert found, line
    return found[1]


def test_other_code_is_named_and_made_anew_as_printed(tmp_path: Path) -> None:
    """An edited module that a stage's imports: one line, in runs where all is complete too; the command mends it."""
    small = Small(tmp_path / "project")
    flags = (*PAGE, "--millrace-storage", small.storage, "--workers", 2)
    assert said(small.luigi(*flags)) == []
    before = small.made()
    assert len(before) == 5

    small.write("counting/count.py", '"""Other words."""\n\n# A comment.\n' + COUNT.split("\n", 1)[1])
    assert said(small.luigi(*flags)) == []

    small.write("counting/helping.py", OTHER)
    for _ in range(2):  # it is no less so the second time
        [line] = said(small.luigi(*flags))
        pattern = r"Daily: 3 partitions of window 2026-11-19 were made by other code \([0-9a-f]{4} → [0-9a-f]{4}\); "
        assert re.match(pattern, line), line
    assert small.made() == before

    # The middle day is made anew by hand: what is left is two days, and the day between them is not meant.
    middle = [
        "Daily",
        "--from",
        "2026-11-18",
        "--to",
        "2026-11-18",
        "--module",
        "mine",
        "--millrace-storage",
        small.storage,
    ]
    cleared = running.run(
        [running.python(), "-m", "workflows.engine.commands.clear", *middle, "--yes"], small.folder, small.env
    )
    assert cleared.code == 0, cleared
    [line] = said(small.luigi(*flags))
    assert line.startswith("Daily: 2 partitions of window 2026-11-19 were made by other code"), line
    mixed = small.made()
    assert [mixed[f"daily/date=2026-11-{day}"] for day in (17, 18, 19)] == [
        "Daily first",
        "Daily second",
        "Daily first",
    ]

    script = command_in(line).replace(" && ", " --yes && ") + " --yes"
    done = running.run(["bash", "-c", script], small.folder, small.env)
    assert done.code == 0, done
    assert list(small.made()) == ["daily/date=2026-11-18"]
    assert said(small.luigi(*flags)) == []
    made = small.made()
    assert {made[f"daily/date=2026-11-{day}"] for day in (17, 18, 19)} == {"Daily second"}
    assert len(made) == 5


def test_ranges_and_luigid_say_it_once(tmp_path: Path, server: int) -> None:
    """RangeDaily over complete days says it, in one line for all windows, with luigid and several workers too."""
    small = Small(tmp_path / "project")
    days = ("--start", "2026-11-18", "--stop", "2026-11-20", "--days-back", 100000)
    luigid = ("--workers", 2, "--scheduler-port", server, "--scheduler-host", "localhost")
    flags = ("--of", "Page", *days, "--millrace-storage", small.storage, *luigid)
    assert said(small.luigi("RangeDaily", *flags)) == []
    small.write("counting/helping.py", OTHER)
    [line] = said(small.luigi("RangeDaily", *flags))
    assert line.startswith("Daily: 4 partitions of windows 2026-11-18 to 2026-11-19 were made by other code ("), line
    assert " --from 2026-11-16 --to 2026-11-19 " in command_in(line)


def test_a_declared_version_and_old_manifests(tmp_path: Path) -> None:
    """Another version is other code, whatever the code is; what was made before there was a record is not called so."""
    small = Small(tmp_path / "project")
    flags = (*PAGE, "--millrace-storage", small.storage)
    small.luigi(*flags)
    small.write(
        "mine.py",
        small_project.TASKS.replace(
            'writes = ("weekly",)\n    version = "1"', 'writes = ("weekly",)\n    version = "2"'
        ),
    )
    [line] = said(small.luigi(*flags))
    assert line.startswith("Weekly: 1 partition of window 2026-11-19 was made by other code (version 1 → version 2); ")
    for path in small.storage.rglob(manifests.NAME):
        text = re.sub(r' "code": \{[^}]*\},\n', "", path.read_text())
        assert not Manifest.from_json(text.encode(), str(path)).code
        path.write_text(text)
    small.write("counting/helping.py", OTHER)
    assert said(small.luigi(*flags)) == []

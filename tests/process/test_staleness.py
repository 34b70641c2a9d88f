"""What was made by other code stays complete; the end of each run names it, with the command that makes it anew."""

import dataclasses
import datetime
import json
import re
import shutil
from pathlib import Path

import luigi
import running
import small_project
from cloud_running import Place
from small_project import COUNT, DAY, Small, said

from millrace import Dataset, Stage
from millrace.core import code, manifests
from millrace.core.manifests import Manifest
from millrace.core.storage import LocalStorage
from millrace.tasks import staleness
from millrace.tasks.sections import millrace
from workflows import Aggregate, Count, Etl, Fetch, Report
from workflows.pages.stages import stage_run

PAGE = ("Page", "--date", DAY)
OTHER = 'WORD = "second"\n'


def command_in(line: str) -> str:
    """The command that a line names."""
    found = re.fullmatch(
        r".* made by other code \(.*\); (.*) makes (?:it|them) anew, and so does a run with --refresh", line
    )
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
    cleared = running.run([running.python(), "-m", "millrace", "clear", *middle, "--yes"], small.folder, small.env)
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
        value = json.loads(path.read_bytes())
        del value["code"], value["checksum"]  # as versions before had it
        path.write_text(json.dumps(value))
    small.write("counting/helping.py", OTHER)
    assert said(small.luigi(*flags)) == []


def test_in_the_cloud_the_listing_s_notes_tell(place: Place) -> None:
    """With storage in a bucket the same is said, without a request more than where there is nothing to say."""
    small = Small(place.folder, place.environment)
    small.luigi(*PAGE)
    asked = []
    for text in (f"# A comment.\n{small_project.HELPING}", OTHER):
        small.write("counting/helping.py", text)
        before = len(place.cloud.requests)
        told = said(small.luigi(*PAGE))
        asked.append(sorted(f"{each.service} {each.call}" for each in place.cloud.requests[before:]))
    [line] = told
    assert line.startswith("Daily: 3 partitions of window 2026-11-19 were made by other code ("), line
    assert asked[0] == asked[1]


def test_a_manifest_names_two_codes_of_many() -> None:
    """What a result is built on is named by its code, once; of many codes two, its own first, are enough to tell."""

    def read(**made: list[str]) -> Manifest:
        return Manifest("p", "a", [], {}, [], "", "", {}, {}, "", None, "", "", code=made)

    same = [read(Daily=["aa/11"]), read(Daily=["aa/22"], Fetch=["version 1.2/3"])]
    assert staleness.of("Weekly", "ww/1", same) == {"Weekly": ["ww/1"], "Daily": ["aa/11"], "Fetch": ["version 1.2/3"]}
    many = [read(Daily=["bb/1"]), read(Daily=["cc/1", "dd/1"]), read()]
    assert staleness.of("Daily", "aa/1", many) == {"Daily": ["aa/1", "bb/1"]}
    assert staleness.of("Weekly", "", many) == {"Daily": ["bb/1", "cc/1"]}


class Metered(Stage):
    """A stage of an hour, with another partition for each size.

    No other test has a stage of its name, because luigi finds none by a name that two have.
    """

    section = millrace
    writes = ("hourly",)
    version = "2"
    date: datetime.datetime = luigi.DateHourParameter()
    size: int = luigi.IntParameter(default=1)

    def output(self) -> Dataset:
        return Dataset("hourly", key=f"hour={self.date:%Y-%m-%dT%H}/size={self.size}")


class Measured(Metered):
    """The same of a day."""

    writes = ("measured",)
    date: datetime.date = luigi.DateParameter()  # type: ignore[assignment]

    def output(self) -> Dataset:
        return Dataset(f"measured/size={self.size}", self.date)


def test_commands_mean_no_other_hour_or_parameter(tmp_path: Path) -> None:
    """What has an hour is cleared by its partition, and what lies apart by a parameter with that parameter."""
    config = luigi.configuration.get_config()
    before = config.get("millrace", "storage", "data")
    config.set("millrace", "storage", str(tmp_path))
    try:
        hours = [Metered(date=datetime.datetime(2026, 11, 19, hour)) for hour in (3, 4)]
        days = ((19, 1), (18, 1), (18, 2), (16, 2))
        sized = [Measured(date=datetime.date(2026, 11, day), size=size) for day, size in days]
        for stage in [*hours, *sized]:
            own = Manifest(stage.datasets()[0].partition, "a", [], {}, [], "", "", {}, {}, "", None, "", "")
            made = dataclasses.replace(own, code={stage.task_family: ["version 1"]})
            LocalStorage(str(tmp_path)).create(stage.datasets()[0].manifest_path, made.to_json())
        [sizes, of_hours] = staleness.lines([*hours, *sized])
    finally:
        config.set("millrace", "storage", before)
    assert of_hours.startswith(
        "Metered: 2 partitions of windows 2026-11-16 to 2026-11-19 were made by other code (version "
    )
    assert re.findall(r"clear (\S+) ", of_hours) == [f"hourly/hour=2026-11-19T0{hour}/size=1" for hour in (3, 4)]
    assert re.findall(r"clear (Measured --from \S+ --to \S+ --size \d)", sizes) == [
        "Measured --from 2026-11-18 --to 2026-11-19 --size 1",
        "Measured --from 2026-11-16 --to 2026-11-16 --size 2",
        "Measured --from 2026-11-18 --to 2026-11-18 --size 2",
    ]


def test_the_page_knows_what_made_each_day(undisturbed: Path, tmp_path: Path) -> None:
    """Manifests name the code of all that they are built on; the page is told of a day that other code made."""
    report = running.partition(undisturbed, f"reports/date={running.DAY}")
    assert report
    stages = (Fetch, Etl, Count, Aggregate, Report)
    assert report.code == {stage.__name__: [code.of(stage)] for stage in stages}
    task, config = Count(date=running.DAY), luigi.configuration.get_config()
    shutil.copytree(undisturbed / f"counts/date={running.DAY}", tmp_path / f"counts/date={running.DAY}")
    config.set("millrace", "storage", str(tmp_path))
    try:
        run = stage_run(task, running.DAY, task.finished())
        assert (run.code, run.other_code) == (code.of(Count)[:4], False)
        manifest = task.finished()
        path = tmp_path / task.datasets()[0].manifest_path
        path.write_bytes(dataclasses.replace(manifest, code={"Count": ["3f2c3f2c3f2c/9a119a119a11"]}).to_json())
        run = stage_run(task, running.DAY, task.finished())
        assert (run.code, run.other_code) == ("3f2c", True)
    finally:
        config.remove_option("millrace", "storage")

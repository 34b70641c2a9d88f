"""Graphs of jobs in the local cloud, run by luigi: in order, side by side, past failures, after kills, by firings."""

import contextlib
import datetime
import gzip
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cloud_running
import graph_templates
import pytest
import running
from cloud_running import STEADY, Place, bucket, state_of
from graph_templates import FORMATS, GOOGLE, NEEDED
from running import EVERY, LONGEST, WHOLE, Ran

from localcloud import BUCKET, LocalCloud
from localcloud.dataflow_jobs import Job
from localcloud.faults import Fault

DAY = datetime.date(2026, 11, 19)
WAYS = pytest.mark.parametrize("way", ["wait", pytest.param("no-wait", marks=running.long)])
LINES = "b a B\na c\n"

pytestmark = pytest.mark.timeout(LONGEST if WHOLE else 600)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """The local cloud, with the templates of graphs/ in it, and a file of lines."""
    with LocalCloud() as started:
        furnish(started, tmp_path_factory.mktemp("furnish"))
        yield started


def furnish(cloud: LocalCloud, folder: Path, *names: str) -> None:
    """Puts classic templates of some names into a cloud, or else all that there are, and lines to read."""
    templates = f"gs://{BUCKET}/templates"
    classic = [f"{templates}/{name}" for name in names or ("extract", "words", "links", "join")]
    if not names:
        cloud.storage.create_bucket(GOOGLE)
        graph_templates.flex(cloud, folder, f"{templates}/clean.json", "clean", NEEDED, ("language", "since"))
        graph_templates.flex(cloud, folder, f"{templates}/count.json", "count", NEEDED, ("language",))
        graph_templates.flex(cloud, folder, f"{templates}/rank.json", "rank", NEEDED, ("title",))
        uri = f"gs://{GOOGLE}/latest/flex/File_Format_Conversion"
        graph_templates.flex(cloud, folder, uri, "convert", FORMATS, ())
        classic.append(f"gs://{GOOGLE}/latest/Bulk_Decompress_GCS_Files")
    place = Place(cloud, folder / "furnish", f"furnish-{folder.name}")
    ran = place.run("graph_templates", cloud.dataflow.url, *classic)
    assert ran.code == 0, ran
    bucket(cloud).blob(f"lines/{DAY}.txt").upload_from_string(LINES)


def spec(place: Place, name: str, *changes: tuple[str, str]) -> Path:
    """A graph of graphs/ as it is shipped, but with the bucket that there is here, and a folder of the test's own."""
    text = (running.ROOT / "graphs" / name).read_text(encoding="utf-8")
    for before, after in (
        ("my-bucket", BUCKET),
        ("gs://{bucket}/" + name[:4], f"gs://{{bucket}}/{place.name}/{name[:4]}"),
        *changes,
    ):
        assert before in text
        text = text.replace(before, after)
    path = place.folder / name
    path.write_text(text, encoding="utf-8")
    return path


def run(place: Place, spec: Path, *flags: object) -> Ran:
    return place.luigi("JobGraph", "--spec", spec, "--date", DAY, "--workers", 2, *flags)


def fire(place: Place, spec: Path, *flags: object) -> list[Ran]:
    """Fire until a firing does not end with "at work"; jobs come to their end between firings."""
    firings: list[Ran] = []
    while not firings or firings[-1].code == 12:
        firings.append(run(place, spec, "--no-wait", *flags))
        place.wait_for(lambda: all(job.over for job in place.jobs))
        assert len(firings) < 12, firings[-1]
    return firings


def job_of(job: Job) -> str:
    """What a graph calls a job: millrace-GRAPH-JOB-… is its name."""
    return job.name.split("-")[2]


def made(place: Place) -> dict[str, list[str]]:
    """The states of each job's attempts, in the order of their creation."""
    found: dict[str, list[str]] = {}
    for job in place.jobs:
        found.setdefault(job_of(job), []).append(state_of(job))
    return found


def read(place: Place, path: str) -> list[str]:
    """The lines of the files that begin with a path, below the test's own folder."""
    blobs = bucket(place.cloud).list_blobs(prefix=f"{place.name}/{path}")
    return [line for blob in blobs for line in blob.download_as_text().splitlines()]


@WAYS
def test_chain_of_flex_templates_with_common_parameters(place: Place, way: str) -> None:
    """Each gets what the one before it wrote; a second run launches nothing."""
    nightly = spec(place, "nightly.toml")
    if way == "wait":
        ran = run(place, nightly)
        assert ran.code == 0, ran
    else:
        assert [ran.code for ran in fire(place, nightly)] == [12, 12, 12, 0]
    assert made(place) == {"clean": ["DONE"], "count": ["DONE"], "rank": ["DONE"]}
    assert read(place, f"nightly/{DAY}/ranks") == ["2 a", "2 b", "1 c"]
    clean, _, rank = place.jobs
    given = {name: clean.options[name] for name in ("language", "since")}
    assert given == {"language": "en", "since": "2026-11-18"}
    assert rank.options["title"] == "nightly-2026-11-19"
    assert {
        f"millrace-{key}": value for key, value in (("graph", "nightly"), ("job", "rank"), ("date", str(DAY)))
    }.items() <= dict(rank.submitted.labels).items()
    pools = [job.submitted.environment.worker_pools[0].autoscaling_settings.max_num_workers for job in place.jobs]
    assert pools == [4, 4, 1]
    assert run(place, nightly).code == 0
    assert len(place.jobs) == 3


def again(place: Place, ran: Ran, *flags: str) -> Ran:
    """Runs the command that an error of a run says runs it again, as it is printed."""
    told = next(filter(None, (re.search(r"run again: (.*JobGraph.*)$", line) for line in ran.errors)), None)
    assert told, ran
    return running.run(["bash", "-c", " ".join([told[1], *flags])], place.folder, place.environment)


def joined(place: Place) -> bool:
    """Whether the join has what both branches made."""
    return sorted(read(place, "branches/branches-2026-11-19/joined")) == sorted(LINES.splitlines() * 2)


def test_branch_that_fails_stops_only_what_comes_after_it(place: Place) -> None:
    """The other branch comes to its end; the next run goes on with what failed, and joins."""
    place.cloud.dataflow.fail("*-links-*", "it rained")
    ran = run(place, spec(place, "branches.yaml"))
    assert ran.code == 30, ran
    assert [line for line in ran.errors if "it rained" in line] == ran.errors
    assert made(place) == {"extract": ["DONE"], "words": ["DONE"], "links": ["FAILED"]}
    place.cloud.dataflow.release()
    assert again(place, ran).code == 0
    assert made(place) == {"extract": ["DONE"], "words": ["DONE"], "links": ["FAILED", "DONE"], "join": ["DONE"]}
    assert joined(place)


@running.long
def test_branch_that_somebody_cancels_stops_only_what_comes_after_it(place: Place) -> None:
    """By firings: the one that sees the end ends with 30, and those after it go on."""
    branches = spec(place, "branches.yaml")
    assert run(place, branches, "--no-wait").code == 12
    place.wait_for(lambda: all(job.over for job in place.jobs))
    place.cloud.dataflow.hold("*-links-*")
    assert run(place, branches, "--no-wait").code == 12
    [links] = [job for job in place.jobs if job_of(job) == "links"]
    place.cloud.dataflow.cancel(links.id)
    place.wait_for(lambda: all(job.over for job in place.jobs))
    ran = run(place, branches, "--no-wait")
    assert ran.code == 30, ran
    assert made(place) == {"extract": ["DONE"], "words": ["DONE"], "links": ["CANCELLED"]}
    place.cloud.dataflow.release()
    assert again(place, ran, "--no-wait").code == 12
    place.wait_for(lambda: all(job.over for job in place.jobs))
    assert fire(place, branches)[-1].code == 0
    assert made(place) == {"extract": ["DONE"], "words": ["DONE"], "links": ["CANCELLED", "DONE"], "join": ["DONE"]}
    assert joined(place)


@WAYS
def test_our_stage_between_templates_of_google(place: Place, way: str) -> None:
    """What Google's template wrote our stage reads, and the files of its finished attempt the next template."""
    archive = spec(place, "archive.toml", ("packed/{date}", f"{place.name}/packed/{{date}}"))
    bucket(place.cloud).blob(f"{place.name}/packed/{DAY}/x.gz").upload_from_string(gzip.compress(LINES.encode()))
    if way == "wait":
        ran = run(place, archive)
        assert ran.code == 0, ran
    else:
        assert [ran.code for ran in fire(place, archive)] == [12, 12, 12, 0]
    assert [state_of(job) for job in place.jobs] == ["DONE"] * 3
    entry = place.entry("WordCount")
    partition = "word_totals/source=archive-2026-11-19"
    assert place.jobs[2].options["inputFileSpec"] == f"gs://{BUCKET}/{place.name}/{partition}/{entry.attempt}/*.parquet"
    rows = [eval(line) for line in read(place, f"archive/{DAY}/avro/rows")]  # as Python writes a row
    assert {row["word"]: row["count"] for row in rows} == Counter(LINES.split())


#: Two templates, one of our stages, and one that comes after both.
SMALL = f"""
[common]
folder = "gs://{BUCKET}/PLACE"
[jobs.extract]
template = "gs://{BUCKET}/templates/extract"
parameters = {{ input = "gs://{BUCKET}/lines/{{date}}.txt", output = "{{folder}}/lines" }}
[jobs.words]
after = ["extract"]
task = "WordCount"
parameters = {{ input = "{{jobs.extract.output}}*", name = "{{run}}" }}
[jobs.again]
after = ["extract"]
template = "gs://{BUCKET}/templates/extract"
parameters = {{ input = "{{jobs.extract.output}}*", output = "{{folder}}/again" }}
[jobs.join]
after = ["words", "again"]
template = "gs://{BUCKET}/templates/join"
parameters = {{ input = "{{jobs.again.output}}*", more = "{{jobs.extract.output}}*", output = "{{folder}}/joined" }}
"""
ONCE = {"extract": ["DONE"], "again": ["DONE"], "wordcount": ["DONE"], "join": ["DONE"]}


def small(place: Place, text: str = SMALL) -> Path:
    path = place.folder / "small.toml"
    path.write_text(text.replace("PLACE", place.name), encoding="utf-8")
    return path


def made_small(place: Place) -> dict[str, list[str]]:
    """As made(), a stage's job by its stage."""
    found: dict[str, list[str]] = {}
    for job in place.jobs:
        words = job.name.split("-")
        found.setdefault(words[2] if words[1] == "small" else words[1], []).append(state_of(job))
    return found


def small_in(place: Place) -> Path:
    """That graph, in a place of a cloud that may have no templates yet."""
    if not bucket(place.cloud).blob("templates/join").exists():
        furnish(place.cloud, place.folder, "extract", "join")
    return small(place)


def killed(place: Place, n: int, *flags: object) -> list[str]:
    """What is wrong after a run, or firings, of which one dies right after the n-th effect, and those that follow."""
    path, fault, codes = small_in(place), Fault("kill"), list[int]()
    place.cloud.faults.at(n, fault, effects_only=True)
    while not codes or codes[-1] in (12, -signal.SIGKILL):
        process = place.start("JobGraph", "--spec", path, "--date", DAY, *flags)
        fault.pid = process.pid
        codes.append(cloud_running.end(process).code)
        if flags:
            place.wait_for(lambda: all(job.over for job in place.jobs))
        if len(codes) > 20:
            break
    place.cloud.faults.clear()
    trouble = [f"ended with {codes}"] if codes[-1] != 0 or -signal.SIGKILL not in codes else []
    if made_small(place) != ONCE:
        trouble.append(f"jobs {made_small(place)}")
    if sorted(read(place, "joined")) != sorted(LINES.splitlines() * 2):
        trouble.append(f"joined {read(place, 'joined')}")
    return trouble


def counted(folder: Path, *flags: object) -> int:
    """How many effects the graph has when nothing happens to it."""
    with LocalCloud() as cloud, contextlib.closing(Place(cloud, folder, more=STEADY)) as place:
        path = small_in(place)
        before = sum(each.effect for each in cloud.requests)
        while place.luigi("JobGraph", "--spec", path, "--date", DAY, *flags).code == 12:
            place.wait_for(lambda: all(job.over for job in place.jobs))
        assert made_small(place) == ONCE
        return sum(each.effect for each in cloud.requests) - before


@running.long
def test_killed_after_any_effect_each_job_is_launched_once(tmp_path: Path) -> None:
    """Killed (-9) after whichever effect of the graph, the next runs go on: each job once, and all is done."""
    names = [f"wait-{n}" for n in range(1, counted(tmp_path / "waits"), EVERY)]
    names += [f"no-wait-{n}" for n in range(1, counted(tmp_path / "leaves", "--no-wait"), EVERY)]
    assert len(names) > 2 * 4 * len(ONCE) / EVERY

    def trouble(place: Place, name: str) -> list[str]:
        way, _, n = name.rpartition("-")
        return killed(place, int(n), *(["--no-wait"] if way == "no-wait" else []))

    cloud_running.try_all(names, tmp_path, STEADY, trouble)

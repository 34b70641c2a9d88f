"""Completeness in the cloud: one listing and one query tell of a year of all stages, gaps and all."""

import datetime
import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cloud_running
import google.cloud.bigquery as bigquery_api
import google.cloud.storage as storage_api
import pytest
import running
from cloud_running import Place

from localcloud import PROJECT, LocalCloud
from pipelines.posts.tables import TABLES

LAST = datetime.date(2026, 10, 31)
DAYS = [LAST - datetime.timedelta(days=n) for n in range(365)]
STAGES = ("Fetch", "Etl", "Count", "Aggregate", "Report")

#: Schedules a year of all stages in one pass, as luigi does, and prints what it would run.
PASS = """
import datetime, json, sys
import luigi.scheduler, luigi.worker
from luigi.tools.range import RangeDaily
from workflows import Aggregate, Count, Etl, Fetch, Report
first, last = (datetime.date.fromisoformat(day) for day in sys.argv[1:])
scheduler = luigi.scheduler.Scheduler()
worker = luigi.worker.Worker(scheduler, "w")
for task, more in ((Report, {}), (Aggregate, {}), (Count, {}), (Etl, {}), (Fetch, {"source": "sample://"})):
    days = {"start": first, "stop": last + datetime.timedelta(days=1), "task_limit": 1000, "days_back": 100000}
    worker.add(RangeDaily(of=task, of_params=more, param_name="date", **days))
tasks = scheduler.task_list("PENDING", "").values()
print(json.dumps(sorted(f"{t['name']} {t['params']['date']}" for t in tasks if "date" in t["params"])))
"""
#: Each stage's deciding dataset, and what the note on a manifest says where the stage is complete.
NOTES = """
import datetime, json, sys
import workflows
from millrace.tasks import session
noted = {}
for stage in ("Fetch", "Etl", "Count", "Aggregate", "Report"):
    more = {"source": "sample://"} if stage == "Fetch" else {}
    task = getattr(workflows, stage)(date=datetime.date(2026, 10, 31), **more)
    rows = json.dumps(dict.fromkeys(task.tables, 1), sort_keys=True)
    note = {**task.note(), **({"published": session.current().warehouse.uri, "rows": rows} if task.follows() else {})}
    noted[stage] = task.datasets()[0].name, note
print(json.dumps(noted))
"""


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place in which all stages of a year are complete, as far as manifests, notes and tables tell."""
    with LocalCloud() as cloud:
        place = Place(cloud, tmp_path_factory.mktemp("year"), more={"posts": {"days": "1"}, "core": {"workers": "1"}})
        notes = json.loads(python(place, NOTES))
        bucket = cloud_running.bucket(cloud)

        def write(each: tuple[str, datetime.date]) -> None:
            stage, date = each
            dataset, note = notes[stage]
            blob = bucket.blob(f"{place.name}/{dataset}/date={date}/_MANIFEST.json")
            blob.metadata = note
            blob.upload_from_string(b"{}")

        # A window is compared with the one before, so that the first one needs a day more.
        first = DAYS[-1] - datetime.timedelta(days=1)
        everything = [(stage, date) for stage in STAGES for date in DAYS] + [
            (s, first) for s in ("Fetch", "Etl", "Count")
        ]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, everything))
        with place.bigquery() as client:
            for name, table in TABLES.items():
                made = bigquery_api.Table(
                    f"{PROJECT}.{place.dataset}.{name}",
                    [bigquery_api.SchemaField(column, kind) for column, kind in table.columns.items()],
                )
                made.time_partitioning = bigquery_api.TimePartitioning(field="date")
                client.create_table(made)
                rows = [{"date": str(date)} for date in DAYS]
                client.load_table_from_json(
                    rows, made, job_config=bigquery_api.LoadJobConfig(schema=made.schema)
                ).result()
        yield place


def python(place: Place, code: str, *arguments: object) -> str:
    """What some code prints that runs with the settings of a place."""
    done = subprocess.run(
        [running.python(), "-c", code, *map(str, arguments)],
        cwd=place.folder,
        env=place.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def scheduled(place: Place) -> tuple[list[str], list[str]]:
    """What a scheduling pass over the year would run, and the requests that it made, by service and call."""
    before = {id(each) for each in place.cloud.requests}
    found: list[str] = json.loads(python(place, PASS, DAYS[-1], DAYS[0]))
    asked = [f"{each.service} {each.call}" for each in place.cloud.requests if id(each) not in before]
    return found, asked


def test_a_year_takes_three_requests_and_a_query(year: Place) -> None:
    """A scheduling pass over 365 days of all five stages: at most 3 storage and 2 BigQuery requests, nothing to run."""
    found, asked = scheduled(year)
    assert found == []
    assert len([each for each in asked if each.startswith("storage")]) <= 3, asked
    assert len([each for each in asked if each.startswith("bigquery")]) <= 2, asked


def manifest_of_aggregate(year: Place, date: datetime.date) -> "storage_api.Blob":
    """The object of an Aggregate's manifest, whose note tells of its tables."""
    dataset, _ = json.loads(python(year, NOTES))["Aggregate"]
    blob = cloud_running.bucket(year.cloud).get_blob(f"{year.name}/{dataset}/date={date}/_MANIFEST.json")
    assert blob is not None
    return blob


def test_a_partition_of_no_rows_is_complete(year: Place) -> None:
    """A table of which the note says 0 rows, and of which BigQuery has no partition, is there at first look."""
    blob = manifest_of_aggregate(year, DAYS[160])
    blob.metadata = {**blob.metadata, "rows": json.dumps({**json.loads(blob.metadata["rows"]), "urls": 0})}
    blob.patch()
    with year.bigquery() as client:
        client.delete_table(f"{PROJECT}.{year.dataset}.urls${DAYS[160]:%Y%m%d}")
    found, asked = scheduled(year)
    assert found == []
    assert len([each for each in asked if each.startswith("storage")]) <= 3, asked
    assert len([each for each in asked if each.startswith("bigquery")]) <= 2, asked


@running.long
def test_tables_of_another_warehouse_do_not_count(year: Place) -> None:
    """What the note says was published elsewhere is not there, though the warehouse has as many rows."""
    blob = manifest_of_aggregate(year, DAYS[250])
    note = blob.metadata
    blob.metadata = {**note, "published": "bigquery://elsewhere/millrace"}
    blob.patch()
    try:
        found, _ = scheduled(year)
    finally:
        blob.metadata = note
        blob.patch()
    assert found == [f"Aggregate {DAYS[250]}"]


def test_gaps_in_the_middle_are_found(year: Place) -> None:
    """RangeDaily over each of the stages finds the days that lack, and no others, with hardly a request more."""
    places = {100: ["Report"], 200: ["Report", "Aggregate"], 300: ["Etl"], 364: ["Fetch"]}
    gaps = [(stage, DAYS[n]) for n, stages in places.items() for stage in stages]
    datasets = json.loads(python(year, NOTES))
    for stage, date in gaps:
        cloud_running.bucket(year.cloud).blob(f"{year.name}/{datasets[stage][0]}/date={date}/_MANIFEST.json").delete()
    with year.bigquery() as client:
        client.delete_table(f"{PROJECT}.{year.dataset}.urls${DAYS[50]:%Y%m%d}")  # published, but not there any more
    name = f"{year.name}/{datasets['Aggregate'][0]}/date={DAYS[150]}/_MANIFEST.json"
    older = cloud_running.bucket(year.cloud).get_blob(name)
    assert older is not None
    older.metadata = {**(older.metadata or {}), "rows": json.dumps({"word_counts": 1, "word_cooccur": 1})}
    older.patch()  # published when the stage did not have all of its tables yet
    found, asked = scheduled(year)
    tables = [("Aggregate", DAYS[50]), ("Aggregate", DAYS[150])]
    assert found == sorted(f"{stage} {date}" for stage, date in [*gaps, *tables])
    # Five runs' worth of questions: each of the ranges asks again about what those before have asked about. So there
    # are two listings of two pages, a few looks at one task, and what is asked before anything may be stored.
    assert len([each for each in asked if each.startswith("storage")]) <= 12, asked


#: Schedules what RangeDaily over the Reports of some days needs, and asks again for all of them, as who runs it does.
RANGE = """
import datetime, sys
import luigi.scheduler, luigi.worker
from luigi.tools.range import RangeDaily
from workflows import Report
first, last = (datetime.date.fromisoformat(day) for day in sys.argv[1:])
days = {"start": first, "stop": last + datetime.timedelta(days=1), "task_limit": 1000, "days_back": 100000}
whole = RangeDaily(of=Report, param_name="date", **days)
luigi.worker.Worker(luigi.scheduler.Scheduler(), "w").add(whole)
print("scheduled", flush=True)
sys.stdin.readline()
print(sum(task.complete() for task in whole.deps()))
"""


def test_nothing_there_takes_no_more_requests(tmp_path: Path) -> None:
    """Of two months of which nothing is there, and then asked about once more: requests don't grow with the days."""
    with LocalCloud() as cloud:
        place = Place(cloud, tmp_path, more={"posts": {"days": "1"}, "core": {"workers": "1"}})
        with subprocess.Popen(
            [running.python(), "-c", RANGE, str(DAYS[59]), str(DAYS[0])],
            cwd=place.folder,
            env=place.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "scheduled\n"
            listed = [each.call for each in cloud.storage.requests]
            said, _ = process.communicate("\n", timeout=60)
            again = [each.call for each in cloud.storage.requests][len(listed) :]
    assert said == "0\n"
    # Beside the listings: may anything be stored here (asked once), and RangeDaily asks twice about its first task.
    assert listed.count("objects.list") <= 3, listed
    assert again.count("objects.list") <= 6, again

"""The Report on real posts in the local cloud equals the single-machine run's, row for row."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import cloud_running
import pytest
import running
from cloud_running import Place

from localcloud import BUCKET, LocalCloud

DAY = datetime.date(2017, 8, 27)
DAYS = 2
FLAGS = ("--date", DAY, "--posts-days", DAYS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place with the real posts in its bucket, and the Report of two days made of them there."""
    with LocalCloud() as cloud:
        cloud_running.upload(cloud, running.archives())
        sources = "\n ".join(f"gs://{BUCKET}/source/{path.name}" for path in running.archives())
        place = Place(cloud, tmp_path_factory.mktemp("cloud"), more={"posts": {"source": sources}})
        place.succeed("Report", *FLAGS)
        yield place


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage of the single-machine run over the same posts."""
    storage = tmp_path_factory.mktemp("single") / "data"
    running.succeed("Report", *FLAGS, "--posts-source", " ".join(map(str, running.archives())), storage=storage)
    return storage


def test_tables_equal_those_of_one_machine(place: Place, single: Path) -> None:
    """All tables are equal row for row, and none is empty."""
    expected, found = running.tables(single, DAY), place.tables(DAY)
    for name, rows in expected.items():
        assert rows
        assert running.same(found[name], rows), name


def test_every_stage_ran_on_dataflow(place: Place) -> None:
    """Each stage that wraps a pipeline was one job of Dataflow's for all days, and their manifests name it."""
    # The archives are split once; a day's part of a split is copied without a pipeline.
    assert place.stages() == {"splitarchive": 3, "etl": 1, "count": 1, "aggregate": 1}
    ids = {job.id for job in place.jobs}
    named = {manifest.job_id for manifest in place.manifests().values() if manifest.runner == "DataflowRunner"}
    assert named == ids


def test_posts_and_rejects_equal_those_of_one_machine(place: Place, single: Path) -> None:
    """What lies in Cloud Storage is what lies on the disk: the same tables of files, rows and columns."""
    there = place.manifests()
    local = {name: running.partition(single, name) for name in running.complete(single)}
    for name in ("posts", "posts_rejected", "counts"):
        for day in range(2 * DAYS):
            partition = f"{name}/date={DAY - datetime.timedelta(days=day)}"
            mine, other = there[partition], local[partition]
            assert other is not None
            assert [(f.table, f.rows) for f in mine.files] == [(f.table, f.rows) for f in other.files]
            assert mine.schemas == other.schemas


def test_the_page_is_one_for_a_browser(place: Place, single: Path) -> None:
    """index.html is served as HTML and not kept by caches, and shows what the single machine's shows."""
    blob = cloud_running.bucket(place.cloud).get_blob(f"{place.name}/reports/date={DAY}/index.html")
    assert blob is not None
    assert blob.content_type == "text/html; charset=utf-8"
    assert blob.cache_control == "no-cache"
    page = blob.download_as_text()
    assert "DataflowRunner" in page
    assert "mayweather" in page


def test_a_second_run_finds_all_complete(place: Place) -> None:
    """Run again: nothing is made, no job is submitted, nothing is written."""
    before = len(place.cloud.storage.requests), len(place.jobs)
    ran = place.succeed("Report", *FLAGS)
    assert "1 complete ones were encountered" in str(ran)
    assert len(place.jobs) == before[1]
    assert not [each for each in place.cloud.storage.requests[before[0] :] if each.effect]

"""The fixtures that the package brings, in a project of somebody else; docs/localcloud.md has the first test there."""

import importlib.metadata
from pathlib import Path

import running

_TESTS = """
import os

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from google.api_core.exceptions import Forbidden
from google.cloud import bigquery, storage

from localcloud import Fault


def test_words(place):
    with beam.Pipeline(options=PipelineOptions(place.options())) as pipeline:
        pipeline | beam.Create(["king", "lear"]) | beam.io.WriteToText(f"{place.uri}/words")
    assert sorted(place.lines("words*")) == ["king", "lear"]


@pytest.mark.parametrize("which", ["a/b", "ü"])
def test_places_are_apart(place, which):
    assert place.names() == []
    assert place.write("x/1", which) == f"{place.uri}/x/1"
    assert (place.names(), place.read("x/1").decode()) == (["x/1"], which)
    with bigquery.Client() as client:
        assert list(client.list_tables(place.dataset)) == []
        client.query_and_wait(f"CREATE TABLE {place.dataset}.t AS SELECT 1 AS one")
    assert place.rows("t") == [{"one": 1}]


def test_faults(place, faults, local_cloud):
    faults.at(2, Fault("status", status=403), call="objects.get")
    place.write("a", b"1")
    assert place.read("a") == b"1"
    with pytest.raises(Forbidden):
        place.read("a")
    faults.at(1, Fault("status", status=403), call="objects.get")


def test_the_next_test_has_none(place):
    assert place.read(place.write("a", b"1").rpartition("/")[2]) == b"1"
"""


def test_the_fixtures(tmp_path: Path) -> None:
    """A pipeline is a job there; each test has a folder and a dataset of its own, and faults that end with it."""
    (tmp_path / "test_more.py").write_text(_TESTS, encoding="utf-8")
    guide = (running.ROOT / "docs" / "localcloud.md").read_text(encoding="utf-8")
    (tmp_path / "test_first.py").write_text(guide.split("```python\n")[1].split("```")[0], encoding="utf-8")
    known = any(each.value == "localcloud.pytest_plugin" for each in importlib.metadata.entry_points(group="pytest11"))
    plugin = [] if known else ["-p", "localcloud.pytest_plugin"]
    flags = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *plugin, f"--rootdir={tmp_path}"]
    ran = running.run([running.python(), "-m", "pytest", *flags, tmp_path], tmp_path)
    assert ran.code == 0, ran
    assert "6 passed" in ran.out

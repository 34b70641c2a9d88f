"""Targets for users' own tasks, over the local services and over one machine's folder."""

import datetime
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import luigi.format
import pyarrow as pa
import pytest
import running
from cloud import BUCKET, DATASET, PROJECT, Cloud
from cloud.bigquery_files import Objects, parquet
from cloud.faults import Fault, FaultPlan, Kind
from luigi.configuration import get_config

from pipelines.errors import QueryError, SourceError
from pipelines.tables import Table
from workflows.engine import BigQueryTarget, GCSTarget, clients

DAY = datetime.date(2026, 11, 19)
TABLE = Table({"word": "STRING", "date": "DATE"})


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultPlan]:
    """Settings that name the local Cloud Storage and BigQuery; their fault plan."""
    with Cloud() as cloud:
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        get_config().set("millrace", "storage", f"gs://{BUCKET}/data")
        get_config().set("millrace", "warehouse", f"bigquery://{PROJECT}/{DATASET}")
        _forget()
        words = pa.Table.from_pylist([{"word": "x", "date": DAY}], schema=TABLE.schema())
        Objects(cloud.storage.worker_url).write(f"gs://{BUCKET}/x.parquet", parquet(words, "SNAPPY"))
        yield cloud.faults
        clients.storage_client().close()
        clients.bigquery_client().close()  # type: ignore[no-untyped-call]
        _forget()
        get_config().remove_option("millrace", "storage")
        get_config().remove_option("millrace", "warehouse")


def _forget() -> None:
    """Clients are kept for as long as a process lives; the services of a test don't."""
    for each in (clients._storage, clients._bigquery, clients._credentials):
        each.cache_clear()
    for client in (clients._storage_client, clients._bigquery_client):
        client.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is the storage."""
    get_config().set("millrace", "storage", str(tmp_path))
    yield tmp_path
    get_config().remove_option("millrace", "storage")


@pytest.mark.parametrize("path", [f"gs://{BUCKET}/else/a.txt", "mine/a.txt"])
def test_a_file_is_there_as_a_whole_once_it_is_closed(faults: FaultPlan, path: str) -> None:
    target = GCSTarget(path)
    assert not target.exists()
    assert target.size() is target.generation() is None
    with target.open("w") as file:
        file.write("first line\nzweite Zeile: ä\n")
        file.flush()
        assert not target.exists()
    assert target.exists()
    assert target.size() == 28
    with target.open() as file:
        assert list(file) == ["first line\n", "zweite Zeile: ä\n"]
    before = target.generation()
    with target.open("w") as file:
        file.write("other")
    assert target.generation() != before
    assert _text(target) == "other"


def test_a_relative_path_is_below_the_storage(faults: FaultPlan) -> None:
    with GCSTarget("mine/a.bin", format=luigi.format.Nop).open("w") as file:
        file.write(b"\x00\xff")
    same = GCSTarget(f"gs://{BUCKET}/data/mine/a.bin", format=luigi.format.Nop)
    with same.open() as file:
        assert file.read() == b"\x00\xff"


@pytest.mark.parametrize("path", [f"gs://{BUCKET}/a.txt", "a.txt"])
def test_after_an_exception_nothing_is_written(faults: FaultPlan, path: str) -> None:
    target = GCSTarget(path)
    with target.open("w") as file:
        file.write("good")
    with pytest.raises(InterruptedError):
        _write_half(target)
    assert _text(target) == "good"


def _text(target: GCSTarget) -> str:
    with target.open() as file:
        return str(file.read())


def _write_half(target: GCSTarget) -> None:
    with target.open("w") as file:
        file.write("half" * 100_000)
        raise InterruptedError


def test_a_file_that_is_never_closed_is_not_written(faults: FaultPlan) -> None:
    target = GCSTarget("a.txt")
    file = target.open("w")
    file.write("half")
    del file
    assert not target.exists()


def test_a_file_that_is_not_there_can_not_be_read(faults: FaultPlan) -> None:
    with pytest.raises(SourceError, match=f"gs://{BUCKET}/data/a.txt is not there; run the task that makes it"):
        GCSTarget("a.txt").open()


@pytest.mark.parametrize("kind", ["lost", "cut", "status"])
def test_a_failed_call_is_tried_again(faults: FaultPlan, kind: Kind) -> None:
    target = GCSTarget("a.txt")
    faults.at(1, Fault(kind))
    with target.open("w") as file:
        file.write("whole")
    faults.at(1, Fault(kind))
    assert _text(target) == "whole"
    faults.at(1, Fault(kind))
    assert target.exists()


def test_a_file_is_written_as_the_settings_say(faults: FaultPlan) -> None:
    """With [gcp] kms_key, and of its storage_class."""
    key = "projects/p/locations/us/keyRings/r/cryptoKeys/k"
    get_config().set("gcp", "kms_key", key)
    get_config().set("gcp", "storage_class", "NEARLINE")
    try:
        with GCSTarget("a.txt").open("w") as file:
            file.write("x")
    finally:
        get_config().remove_option("gcp", "kms_key")
        get_config().remove_option("gcp", "storage_class")
    blob = clients.storage_client().bucket(BUCKET).get_blob("data/a.txt")
    assert (blob.kms_key_name, blob.storage_class) == (f"{key}/cryptoKeyVersions/1", "NEARLINE")


def test_on_one_machine_a_relative_path_is_a_file_of_the_storage(folder: Path) -> None:
    target = GCSTarget("mine/a.txt")
    assert not target.exists()
    with target.open("w") as file:
        file.write("ä")
    assert (folder / "mine" / "a.txt").read_bytes() == b"\xc3\xa4"
    assert target.exists()
    assert target.size() == 2
    assert target.generation() is None
    with target.open() as file:
        assert file.read() == "ä"


_WRITE = """
import sys
import luigi.configuration
from workflows.engine import GCSTarget
luigi.configuration.get_config().set("millrace", "storage", sys.argv[1])
with GCSTarget("a.txt").open("w") as file:
    file.write("\\u00e4")
with GCSTarget("a.txt").open() as file:
    assert file.read() == "\\u00e4"
"""


def test_text_is_in_utf_8_wherever_it_is_written(tmp_path: Path) -> None:
    """Also by a process whose locale knows ASCII alone."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "LUIGI_"))},
        **{"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(running.ROOT)},
    }
    command = [sys.executable, "-X", "utf8=0", "-c", _WRITE, str(tmp_path)]
    subprocess.run(command, env=environment, cwd=tmp_path, check=True)
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa4"


def test_on_one_machine_a_file_that_is_not_there_can_not_be_read_either(folder: Path) -> None:
    with pytest.raises(SourceError, match=f"{folder}/mine/a.txt is not there; run the task that makes it"):
        GCSTarget("mine/a.txt").open()


def test_a_query_need_not_ask_for_the_day(folder: Path) -> None:
    """On one machine as in BigQuery; what it does ask for, in whichever case, it gets."""
    assert BigQueryTarget("words", DAY).query("SELECT 1 AS one").to_pylist() == [{"one": 1}]
    found = BigQueryTarget("words", DAY).query("SELECT @DATE AS day, @n AS n", {"n": 2, "more": 3})
    assert found.to_pylist() == [{"day": DAY, "n": 2}]


def test_a_partition_exists_when_it_has_its_rows(faults: FaultPlan) -> None:
    target = BigQueryTarget("words", DAY)
    assert not target.exists()
    assert target.rows() == 0
    assert BigQueryTarget("words", DAY, rows=0).exists()
    clients.warehouse().publish("words", TABLE, DAY, "a", [f"gs://{BUCKET}/x.parquet"], 1)
    assert target.exists()
    assert target.rows() == 1
    assert BigQueryTarget("words", DAY, rows=1).exists()
    assert not BigQueryTarget("words", DAY, rows=2).exists()
    assert not BigQueryTarget("words", DAY + datetime.timedelta(days=1)).exists()
    assert target.query("SELECT word FROM words WHERE date = @date").to_pylist() == [{"word": "x"}]
    with pytest.raises(QueryError, match="there is no table wrds"):
        target.query("SELECT * FROM wrds")


def test_on_one_machine_a_partition_is_read_by_queries(undisturbed: Path) -> None:
    get_config().set("millrace", "storage", str(undisturbed))
    try:
        day = running.DAY
        found = BigQueryTarget("word_counts", day)
        assert found.rows() == 500
        assert found.exists()
        assert not BigQueryTarget("word_counts", datetime.date(1999, 1, 1)).exists()
        assert not BigQueryTarget("wrds", day).exists()
        given = (
            "WITH word_counts AS (SELECT * FROM word_counts WHERE date = @date LIMIT 3) SELECT word FROM word_counts"
        )
        assert found.query(given).num_rows == 3
    finally:
        get_config().remove_option("millrace", "storage")

"""Targets for users' own tasks, over the local services and over one machine's folder."""

import dataclasses
import datetime
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import luigi.format
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import running
from luigi.configuration import get_config

from localcloud import BUCKET, DATASET, PROJECT, LocalCloud
from localcloud.bigquery_files import Objects, parquet
from localcloud.faults import Fault, FaultPlan, Kind
from millrace import BigQueryTarget, GCSTarget
from millrace.common.tables import Table
from millrace.core import keys
from millrace.core.manifests import Manifest
from millrace.errors import DamagedError, ManifestError, QueryError, SchemaError, SourceError
from millrace.ops import clear
from millrace.tasks import session
from millrace.tasks.session import Session

DAY = datetime.date(2026, 11, 19)
NEXT = datetime.date(2026, 11, 20)
TABLE = Table({"word": "STRING", "date": "DATE"})
#: A death after each so-manieth effect is tried, unless the long matrices are tried whole.
STEP = 1 if running.WHOLE else 3


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCloud]:
    """The local Cloud Storage and BigQuery, which the settings name."""
    with LocalCloud() as cloud:
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        get_config().set("millrace", "storage", f"gs://{BUCKET}/data")
        get_config().set("millrace", "warehouse", f"bigquery://{PROJECT}/{DATASET}")
        words = pa.Table.from_pylist([{"word": "x", "date": DAY}], schema=TABLE.schema())
        Objects(cloud.storage.worker_url).write(f"gs://{BUCKET}/x.parquet", parquet(words, "SNAPPY"))
        with session.use(Session()):
            yield cloud
        get_config().remove_option("millrace", "storage")
        get_config().remove_option("millrace", "warehouse")


@pytest.fixture
def faults(services: LocalCloud) -> FaultPlan:
    """Their fault plan."""
    return services.faults


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
    blob = session.current().google.storage.bucket(BUCKET).get_blob("data/a.txt")
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
from millrace import GCSTarget
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
    session.current().warehouse.publish("words", TABLE, keys.day(DAY), "a", [f"gs://{BUCKET}/x.parquet"], 1)
    assert target.exists()
    assert target.rows() == 1
    assert BigQueryTarget("words", DAY, rows=1).exists()
    assert not BigQueryTarget("words", DAY, rows=2).exists()
    assert not BigQueryTarget("words", DAY + datetime.timedelta(days=1)).exists()
    assert target.query("SELECT word FROM words WHERE date = @date").to_pylist() == [{"word": "x"}]
    with pytest.raises(QueryError, match="there is no table wrds"):
        target.query("SELECT * FROM wrds")


def test_on_one_machine_a_partition_is_read_by_queries(undisturbed: Path) -> None:
    get_config().set("millrace", "storage", str(undisturbed).replace("%", "%%"))
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


def test_on_one_machine_a_day_is_counted_in_its_own_files(folder: Path) -> None:
    """Another day's file may be damaged; its own may not, and rows that its record promises have to be in it."""
    days = [DAY, NEXT]
    for day in days:
        BigQueryTarget("mine", day).write(rows("a", "b", date=day), TABLE)
    own, other = (next(folder.glob(f"mine/date={day}/*/rows.parquet")) for day in days)
    other.write_bytes(other.read_bytes()[:-1])
    assert BigQueryTarget("mine", days[0]).exists()
    with pytest.raises(DamagedError, match=f"{days[1]}.* is damaged"):
        BigQueryTarget("mine", days[1]).exists()
    # As it was before records had checksums: the count is the file's own.
    record = folder / f"mine/date={days[0]}/_MANIFEST.json"
    said = json.loads(record.read_text())
    said["files"][0]["crc32c"] = ""
    said.pop("checksum", None)
    record.write_text(json.dumps(said))
    pq.write_table(rows("a"), own)
    assert BigQueryTarget("mine", days[0]).rows() == 1
    assert not BigQueryTarget("mine", days[0]).exists()
    own.write_bytes(b"none")
    with pytest.raises(QueryError, match=f"the rows of mine for {days[0]} can't be counted"):
        BigQueryTarget("mine", days[0]).exists()


# --- writing a partition


@pytest.fixture(params=["BigQuery", "Cloud Storage alone", "one machine"])
def anywhere(request: pytest.FixtureRequest) -> None:
    """Settings of each kind of place that tables may lie in."""
    request.getfixturevalue("folder" if request.param == "one machine" else "services")
    if request.param == "Cloud Storage alone":
        get_config().set("millrace", "warehouse", "")


def rows(*words: str, date: datetime.date = DAY) -> pa.Table:
    """Rows for TABLE."""
    return pa.Table.from_pylist([{"word": word, "date": date} for word in words], schema=TABLE.schema())


def held(target: BigQueryTarget) -> list[str]:
    """The words of a partition, by the warehouse."""
    found = target.query(f"SELECT word FROM `{target.name}` WHERE date = @date ORDER BY word")
    return [str(word) for word in found["word"].to_pylist()]


def stored(name: str) -> list[str]:
    """What lies below a folder of the storage: the names of the files with how many folders deep they are."""
    return sorted(f"{path.count('/')} {path.rpartition('/')[2]}" for path in session.current().storage.list(name))


def test_what_is_written_is_the_partition(anywhere: None) -> None:
    """Its rows and no others; another content takes its place, and what the first left is cleared."""
    target = BigQueryTarget("mine", DAY)
    assert not target.exists()
    target.write(rows("x", "y"), TABLE)
    BigQueryTarget("mine", NEXT).write(rows("z", date=NEXT), TABLE)
    assert target.exists()
    assert held(target) == ["x", "y"]
    target.write(rows("v", "w", "w"), TABLE)
    assert target.exists()
    assert held(target) == ["v", "w", "w"]
    assert held(BigQueryTarget("mine", NEXT)) == ["z"]
    assert stored("mine/date=2026-11-19") == ["2 _MANIFEST.json", "3 rows.parquet"]
    target.write(rows("x", "y"), TABLE)
    assert held(target) == ["x", "y"]
    assert BigQueryTarget("mine", DAY, rows=2).exists()
    assert not BigQueryTarget("mine", DAY, rows=3).exists()


class OwnClearedWords(luigi.Task):
    """A task of somebody's own, by which its table is cleared."""

    date = luigi.DateParameter()

    def output(self) -> BigQueryTarget:
        return BigQueryTarget("mine", self.date)


def test_clear_takes_a_day_s_record_and_rows(anywhere: None, capsys: pytest.CaptureFixture[str]) -> None:
    """By the task's name; the other day's stay, and what was written for another warehouse leaves this one's rows."""
    target, other = BigQueryTarget("mine", DAY), BigQueryTarget("mine", NEXT)
    target.write(rows("x", "y"), TABLE)
    other.write(rows("z", date=NEXT), TABLE)
    assert clear.main(["OwnClearedWords", "--from", str(DAY), "--to", str(DAY)]) == 0
    assert f"only the tasks of your own that wrote it can make this again: mine of {DAY}" in capsys.readouterr().err
    assert not target.exists()
    assert target.rows() == 0
    assert stored(f"mine/date={DAY}") == []
    assert held(other) == ["z"]
    target.write(rows("v"), TABLE)
    assert held(target) == ["v"]
    if session.current().warehouse.uri.startswith("bigquery://"):
        path = f"mine/date={DAY}/_MANIFEST.json"
        found = session.current().storage.read(path)
        assert found is not None
        old = re.sub(rb' "checksum": .*\n', b"", found.data)
        session.current().storage.replace(path, old.replace(f"{PROJECT}/{DATASET}".encode(), b"some-other/one"))
        assert clear.main([f"mine/date={DAY}"]) == 0
        assert held(target) == ["v"]


def test_a_partition_of_no_rows_exists_once_it_is_written(anywhere: None) -> None:
    target = BigQueryTarget("mine", DAY)
    target.write(rows(), TABLE)
    assert target.exists()
    assert target.rows() == 0
    assert not BigQueryTarget("mine", NEXT).exists()
    target.write(rows("x"), TABLE)
    target.write(rows(), TABLE)
    assert target.exists()
    assert held(target) == []


def test_rows_come_as_the_table_has_them(anywhere: None) -> None:
    """Columns in any order, types that can be cast; a result of a query, whose times have no zone, as it is."""
    table = Table({"n": "INT64", "at": "TIMESTAMP", "word": "STRING", "date": "DATE"}, cluster_by=["word"])
    noon = datetime.datetime(2026, 11, 19, 12)
    given = pa.table(
        {
            "date": [DAY],
            "word": pa.array(["x"]).dictionary_encode(),
            "n": pa.array([1], pa.int8()),
            "at": pa.array([noon], pa.timestamp("ms")),
        }
    )
    target, copy = BigQueryTarget("mine", DAY), BigQueryTarget("copy", DAY)
    target.write(given, table)
    found = target.query("SELECT * FROM mine")
    assert found.to_pylist() == [{"n": 1, "at": noon, "word": "x", "date": DAY}]
    copy.write(found, table)
    assert copy.query("SELECT * FROM copy").to_pylist() == found.to_pylist()


def test_rows_that_do_not_fit_are_an_error_and_change_nothing(anywhere: None) -> None:
    target = BigQueryTarget("mine", DAY)
    target.write(rows("x"), TABLE)
    wrong = {
        "have the columns word, but its Table says word, date": pa.table({"word": ["y"]}),
        "one with the date 2026-11-20": rows("y", date=NEXT),
        "one with the date None": pa.table({"word": ["y"], "date": pa.nulls(1)}),
        "can't be made what its Table says": pa.table({"word": ["y"], "date": ["today"]}),
    }
    for message, given in wrong.items():
        with pytest.raises(SchemaError, match=message):
            target.write(given, TABLE)
    for name in ("_jobs", "../mine", "a/b", ""):
        with pytest.raises(SchemaError, match=f"{name!r} can't be written"):
            BigQueryTarget(name, DAY).write(rows("y"), TABLE)
    assert target.exists()
    assert held(target) == ["x"]


def test_what_a_stage_makes_is_not_written(anywhere: None) -> None:
    """Neither its tables, those for windows of another length too, nor a dataset that is there already."""
    for name in ("word_counts", "word_counts_30d"):
        with pytest.raises(ManifestError, match=f"{name}/date=2026-11-19 is what a stage makes; give your table"):
            BigQueryTarget(name, DAY).write(rows("x"), TABLE)
    BigQueryTarget("mine", DAY).write(rows("x"), TABLE)
    made = session.current().storage.read("mine/date=2026-11-19/_MANIFEST.json")
    assert made
    mine = Manifest.from_json(made.data, "mine")
    staged = dataclasses.replace(mine, partition="other/date=2026-11-19", pipeline="pipelines.other")
    session.current().storage.create("other/date=2026-11-19/_MANIFEST.json", staged.to_json())
    with pytest.raises(ManifestError, match="other/date=2026-11-19 is what a stage makes"):
        BigQueryTarget("other", DAY).write(rows("x"), TABLE)


def loads(services: LocalCloud) -> list[str]:
    return [job.id for job in services.bigquery.jobs if job.kind == "load"]


def test_the_same_rows_are_the_same_load_job(services: LocalCloud) -> None:
    target = BigQueryTarget("mine", DAY)
    for _ in range(2):
        target.write(pa.concat_tables([rows("x"), rows("y")]), TABLE)
        target.write(rows("x", "y"), TABLE)
    assert len(loads(services)) == 1
    assert held(target) == ["x", "y"]


def test_a_table_that_differs_stops_it_before_anything_is_changed(services: LocalCloud) -> None:
    target = BigQueryTarget("mine", DAY)
    target.write(rows("x"), TABLE)
    other = pa.table({"word": [1], "date": [DAY]})
    with pytest.raises(SchemaError, match="column word is STRING NULLABLE and should be INT64 NULLABLE"):
        target.write(other, Table({"word": "INT64", "date": "DATE"}))
    assert target.exists()
    assert held(target) == ["x"]


def test_a_partition_that_somebody_changes_does_not_exist_any_more(services: LocalCloud) -> None:
    """Until it is written again, though its job was done long ago."""
    target = BigQueryTarget("mine", DAY)
    target.write(rows("x"), TABLE)
    session.current().warehouse.delete("mine", keys.day(DAY))
    assert not target.exists()
    target.write(rows("x"), TABLE)
    assert target.exists()
    assert held(target) == ["x"]


def test_what_was_written_for_another_warehouse_is_not_here(services: LocalCloud) -> None:
    target = BigQueryTarget("mine", DAY)
    target.write(rows(), TABLE)
    services.bigquery.create_dataset("other", "US")
    get_config().set("millrace", "warehouse", f"bigquery://{PROJECT}/other")
    assert not target.exists()
    target.write(rows(), TABLE)
    assert target.exists()


def test_the_answer_to_any_call_of_a_write_may_be_lost(services: LocalCloud) -> None:
    BigQueryTarget("mine", NEXT).write(rows("z", date=NEXT), TABLE)  # afterwards the dataset's location is known
    calls, n, day = 1, 0, NEXT
    while n < calls:
        n, day = n + 1, day + datetime.timedelta(days=1)
        before = len(services.requests)
        services.faults.clear()
        services.faults.at(n, Fault("lost"))
        target = BigQueryTarget("mine", day)
        target.write(rows("x", "y", date=day), TABLE)
        calls = len(services.requests) - before - 1
        assert target.exists()
        assert held(target) == ["x", "y"]
    assert n >= 8


_WRITE_ROWS = """
import datetime, os, sys
if "CRASH_LOG" in os.environ:
    import crashing
import luigi.configuration
import pyarrow as pa
from millrace.common.tables import Table
from millrace import BigQueryTarget
table = Table({"word": "STRING", "date": "DATE"})
storage, warehouse, day, *words = sys.argv[1:]
luigi.configuration.get_config().set("millrace", "storage", storage)
luigi.configuration.get_config().set("millrace", "warehouse", warehouse)
date = datetime.date.fromisoformat(day)
rows = pa.Table.from_pylist([{"word": word, "date": date} for word in words], schema=table.schema())
BigQueryTarget("mine", date).write(rows, table)
"""


def writing(
    storage: object, warehouse: str, date: datetime.date, *words: str, **more: str
) -> "subprocess.Popen[bytes]":
    """A process, the leader of a group of its own, that writes a partition of the table mine."""
    command = [sys.executable, "-c", _WRITE_ROWS, str(storage), warehouse, str(date), *words]
    return subprocess.Popen(command, env=running.environment(**more), stdin=subprocess.DEVNULL, start_new_session=True)


def changes(states: list[list[str] | None]) -> list[list[str] | None]:
    """States one after another, each once for as long as it lasted."""
    return [state for state, _ in itertools.groupby(states)]


def mended(target: BigQueryTarget) -> list[str] | None:
    """What a writer that died left of a partition, None for none; then another one mends it."""
    left = held(target) if target.exists() else None
    target.write(rows("x", "y", date=target.date), TABLE)
    assert target.exists()
    assert held(target) == ["x", "y"]
    assert stored(f"mine/date={target.date}") == ["2 _MANIFEST.json", "3 rows.parquet"]
    return left


@pytest.mark.parametrize("before", [[], ["a", "b"]], ids=["nothing", "as many rows"])
def test_killed_after_any_effect_on_the_cloud(services: LocalCloud, before: list[str]) -> None:
    """A process that writes dies (-9) after its n-th effect, for each n (or every other), and another write mends it.

    Until it has begun to publish, the partition is what it was, and from when all is done what it should be; in between
    it does not exist.
    """
    place = (f"gs://{BUCKET}/data", f"bigquery://{PROJECT}/{DATASET}")
    day, code, states = DAY, -signal.SIGKILL, list[list[str] | None]()
    while code == -signal.SIGKILL:
        day += datetime.timedelta(days=1)
        target = BigQueryTarget("mine", day)
        if before:
            target.write(rows(*before, date=day), TABLE)
        process = writing(*place, day, "x", "y")
        # Long before its first effect: Python is still starting.
        services.faults.at(1 + STEP * len(states), Fault("kill", pid=process.pid), effects_only=True)
        code = process.wait(60)
        services.faults.clear()
        states.append(mended(target))
    assert code == 0
    assert changes(states) == [*([before] if before else []), None, ["x", "y"]]
    assert len(states) > 6 // STEP


def test_killed_before_any_change_of_a_file(folder: Path) -> None:
    """The same on one machine; what is being written is half there."""
    day, code, states = DAY, -signal.SIGKILL, list[list[str] | None]()
    while code == -signal.SIGKILL:
        day += datetime.timedelta(days=1)
        target = BigQueryTarget("mine", day)
        target.write(rows("a", "b", date=day), TABLE)
        moment = {"CRASH": f"file:{1 + STEP * len(states)}:torn", "CRASH_LOG": str(folder.with_suffix(f".{day}"))}
        code = writing(folder, "", day, "x", "y", **moment).wait(60)
        states.append(mended(target))
    assert code == 0
    assert changes(states) == [["a", "b"], None, ["x", "y"]]
    assert len(states) > 6 // STEP


def test_a_load_that_may_be_at_work_ends_before_another_content_is_loaded(services: LocalCloud) -> None:
    """A process has died while it waited for its load; if that ended after the next one's, its rows would stay."""
    process = writing(f"gs://{BUCKET}/data", f"bigquery://{PROJECT}/{DATASET}", DAY, "a", "b")
    services.faults.at(1, Fault("kill", pid=process.pid), call="jobs.insert", effects_only=True)
    assert process.wait(60) == -signal.SIGKILL
    (first,) = loads(services)
    seen = len(services.bigquery.requests)
    target = BigQueryTarget("mine", DAY)
    assert not target.exists()
    target.write(rows("x", "y"), TABLE)
    assert len(loads(services)) == 2
    asked = [each for each in services.bigquery.requests[seen:] if each.call in ("jobs.insert", "jobs.get")]
    waited = [at for at, each in enumerate(asked) if each.path.endswith(first)]
    begun = [at for at, each in enumerate(asked) if each.effect and each.status == 200]
    assert waited
    assert max(waited) < max(begun)
    assert target.exists()
    assert held(target) == ["x", "y"]


def test_who_writes_waits_for_who_does_so_already(services: LocalCloud) -> None:
    target = BigQueryTarget("mine", DAY)
    target.write(rows("a", "b"), TABLE)
    lock = f"_jobs/BigQueryTarget_mine.date={DAY}.lock"

    def looks() -> int:
        return sum(each.method == "GET" and each.path.endswith(lock) for each in services.storage.requests)

    with session.current().storage.lock(lock):
        before = looks()
        process = writing(f"gs://{BUCKET}/data", f"bigquery://{PROJECT}/{DATASET}", DAY, "x", "y")
        running.wait_for(lambda: process.poll() is not None or looks() > before + 1, 60)
        assert process.poll() is None
        assert target.exists()
        assert held(target) == ["a", "b"]
    assert process.wait(60) == 0
    assert target.exists()
    assert held(target) == ["x", "y"]


# --- a partition as files


def read(uris: list[str]) -> list[str]:
    """The words in some Parquet files."""
    found: list[str] = []
    for uri in uris:
        with GCSTarget(uri, format=luigi.format.Nop).open() as file:
            found += pq.read_table(io.BytesIO(file.read()))["word"].to_pylist()
    return sorted(found)


def test_a_partition_is_given_as_files(anywhere: None) -> None:
    target = BigQueryTarget("mine", DAY)
    with pytest.raises(QueryError, match="there is no table mine"):
        target.export("out")
    target.write(rows("x", "y"), TABLE)
    BigQueryTarget("mine", NEXT).write(rows("z", date=NEXT), TABLE)
    files = target.export("out")
    assert read(BigQueryTarget("mine", NEXT).export("out")) == ["z"]
    assert read(files) == ["x", "y"]
    assert target.export("out/") == files
    assert BigQueryTarget("mine", datetime.date(1999, 1, 1)).export("out") == []
    target.write(rows("w"), TABLE)
    assert read(target.export("out")) == ["w"]


def test_files_that_have_gone_are_exported_anew(services: LocalCloud) -> None:
    """Again and again, and not where another export's files lie; what is there is taken as it is."""
    target = BigQueryTarget("mine", DAY)
    target.write(rows("x", "y"), TABLE)
    bucket = session.current().google.storage.bucket(BUCKET)
    seen = []
    for _ in range(3):
        (uri,) = target.export(f"gs://{BUCKET}/out")
        assert target.export(f"gs://{BUCKET}/out") == [uri]
        assert read([uri]) == ["x", "y"]
        bucket.delete_blob(uri.removeprefix(f"gs://{BUCKET}/"))
        seen.append(uri)
    assert len({*seen}) == 3
    assert len([job for job in services.bigquery.jobs if job.kind == "extract"]) == 3


def test_an_export_whose_answer_is_lost_is_one_job(services: LocalCloud) -> None:
    target = BigQueryTarget("mine", DAY)
    target.write(rows("x", "y"), TABLE)
    services.faults.at(1, Fault("lost"), call="jobs.insert")
    assert read(target.export("out")) == ["x", "y"]
    assert len([job for job in services.bigquery.jobs if job.kind == "extract"]) == 1

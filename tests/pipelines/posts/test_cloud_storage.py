"""The chain of the posts pipelines makes the same of Cloud Storage as of a disk, and survives what fails there."""

import datetime
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import posts_stages as stages
import pyarrow as pa
import pytest

from localcloud.storage import Storage
from millrace import runners
from millrace.beam import files, gcs
from millrace.common import results
from millrace.runners.runner import Ticket
from millrace.tasks import session
from pipelines.posts import sample

ROOT = Path(__file__).resolve().parents[3]
DAYS = list(stages.window(datetime.date(2026, 11, 1), 1))


class Chain:
    """Runs the stages below a folder or a gs:// URI, and keeps what they wrote and counted."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.written: dict[str, results.Written] = {}
        self.counted: dict[str, Mapping[str, int]] = {}

    def stage(self, stage: str, dataset: str, part: str, /, **options: object) -> list[str]:
        """Runs a stage → the paths of what it wrote."""
        given = {"output": f"{self.root}/{{dataset}}/{part}", **options}
        here, arguments = runners.of("FnApiRunner", session.current().google), {k: str(v) for k, v in given.items()}
        job = here.start(f"pipelines.posts.{stage}", arguments, stage, Ticket(stage, "r1"), lambda why: None)
        done = here.result(here.watch(job, lambda progress: None))
        written = results.read_result(files.read_input(f"{self.root}/{dataset}/{part}/{results.RESULT}"))
        self.written[f"{stage}/{part}"], self.counted[f"{stage}/{part}"] = written, done.counters
        return [file.path for file in written.files if file.table == dataset or stage == "count"]

    def run(self) -> "Chain":
        counts = []
        for day in DAYS:
            with files.open_output(f"{self.root}/source/{day}.jsonl") as stream:
                stream.write(b"".join(line + b"\n" for line in [*sample.lines(day), b"no JSON"]))
            part = f"date={day}"
            raw = self.stage("fetch", "raw", part, source=f"{self.root}/source/{{date:%Y-%m-%d}}.js*", date=day)
            posts = self.stage("etl", "posts", part, input=json.dumps(raw), sources='["s"]', date=day, pack=1)
            self.stage("count", "counts", part, input=json.dumps(posts), shards=4)
            counts.append(f"counts/{part}")
        with files.open_output(f"{self.root}/list.json") as stream:
            paths = [f.path for day in DAYS for f in self.written[f"count/date={day}"].files]
            stream.write(json.dumps(paths).encode())
        self.stage("aggregate", "word_counts", "x", input=f"@{self.root}/list.json", date=DAYS[-1], days=1)
        return self

    def rows(self) -> dict[str, list[dict[str, object]]]:
        """All rows of all files, by the file's path below the root; the file's own name in them likewise."""
        found = {}
        for written in self.written.values():
            for file in written.files:
                table: pa.Table = files.read_parquet(file.path)
                rows = table.to_pylist()
                for row in rows:
                    if "file" in row:
                        row["file"] = row["file"].removeprefix(self.root)
                found[file.path.removeprefix(self.root)] = rows
                assert len(files.read_input(file.path)) == file.bytes
        return found


@pytest.fixture
def local(tmp_path: Path) -> Chain:
    return Chain(str(tmp_path / "local")).run()


def test_the_chain_makes_the_same_of_cloud_storage_as_of_a_disk(cloud_storage: Storage, local: Chain) -> None:
    """Row for row, in the same files; counters too."""
    there = Chain("gs://bucket/data").run()
    assert there.rows() == local.rows()
    assert {k: w.counters for k, w in there.written.items()} == {k: w.counters for k, w in local.written.items()}
    assert there.counted == local.counted
    listed = {found.uri for found in gcs.match("gs://bucket/data/**")}
    written = {file.path for written in there.written.values() for file in written.files}
    assert {path for path in listed if path.endswith(".parquet")} == written


def test_rows_read_counts_each_row_of_input_once(local: Chain) -> None:
    """In every stage that goes through rows, however many shards it writes: what a launcher tells progress by."""
    for day in DAYS:
        written, counted = local.written, local.counted
        raw, posts = (
            sum(f.rows for f in written[f"{s}/date={day}"].files if f.table in ("raw", "posts"))
            for s in ("fetch", "etl")
        )
        assert counted[f"fetch/date={day}"]["rows_read"] == raw == len(list(sample.lines(day))) + 1
        assert counted[f"etl/date={day}"]["rows_read"] == raw
        assert counted[f"count/date={day}"]["rows_read"] == posts > 0


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("seed", range(2))
def test_the_chain_survives_a_fifth_of_all_calls_failing(cloud_storage: Storage, local: Chain, seed: int) -> None:
    cloud_storage.faults.randomly(0.2, seed)
    there = Chain("gs://bucket/data").run()
    cloud_storage.faults.clear()
    assert there.rows() == local.rows()
    assert sum(request.fault is not None for request in cloud_storage.requests) > 10


def test_an_archive_on_cloud_storage_is_split_by_day(cloud_storage: Storage, tmp_path: Path) -> None:
    """As one on a disk is."""
    data = b"\n".join(line for day in DAYS for line in sample.lines(day))
    found = []
    for root in (str(tmp_path), "gs://bucket"):
        with files.open_output(f"{root}/in/all.jsonl") as stream:
            stream.write(data)
        chain = Chain(root)
        chain.stage("fetch", "archives", "x", source=f"{root}/in/*", dataset="archives")
        found.append((chain.rows(), chain.counted, chain.written["fetch/x"].counters))
    assert found[0] == found[1]
    assert set(map(str, DAYS)) <= {file.table for file in chain.written["fetch/x"].files}


def test_a_stage_runs_from_the_command_line_on_cloud_storage(cloud_storage: Storage) -> None:
    """With nothing but the environment's credentials."""
    with files.open_output("gs://bucket/a.jsonl") as stream:
        stream.write(b"\n".join(sample.lines(DAYS[0])))
    line = ["--source=gs://bucket/*.jsonl", f"--date={DAYS[0]}", "--output=gs://bucket/{dataset}"]
    command = [sys.executable, "-m", "pipelines.posts.fetch", *line]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(gcs.read("gs://bucket/raw/_result.json"))["counters"]["read"] == len(list(sample.lines(DAYS[0])))

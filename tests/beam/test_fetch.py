"""A workflow of its own fetches with the library: files of a day as they are, an archive by the day that it says."""

import datetime
import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from millrace.beam import Batch, Rejected, fetch, options, write_parquet
from millrace.common.partitions import Partition, to_json
from millrace.common.results import Written, read_result
from millrace.errors import SourceError

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = b"2026-11-01 a\n2026-11-02 b\n# a remark\n2026-11-01 c\nno day\n"


def day_of(record: bytes) -> int | None:
    if record.startswith(b"#"):
        return None
    try:
        return (datetime.date.fromisoformat(record[:10].decode()) - datetime.date(1970, 1, 1)).days
    except ValueError:
        raise Rejected("no date") from None


def split(pipeline: beam.Pipeline, given: PipelineOptions) -> None:
    fetch(pipeline, given, day_of=day_of)


def run(folder: Path, build: options.Build, *flags: str) -> Written:
    (folder / "lines").write_bytes(ARCHIVE)
    options.run(build, [f"--source={folder}/lines", f"--output={folder}/out/{{dataset}}", *flags])
    return read_result((folder / "out" / "raw" / "_result.json").read_bytes())


def records(written: Written) -> dict[str, list[bytes]]:
    return {f.table: pq.read_table(f.path, partitioning=None)["record"].to_pylist() for f in written.files}


def test_an_archive_is_split_by_the_day_that_a_workflow_says(tmp_path: Path) -> None:
    """What is no record counts apart; what shows no day is kept with the reason."""
    written = run(tmp_path, split)
    assert records(written) == {
        "2026-11-01": [b"2026-11-01 a\n", b"2026-11-01 c\n"],
        "2026-11-02": [b"2026-11-02 b\n"],
        "rejected": [b"no day\n"],
    }
    assert written.counters == {"read": 5, "kept": 3, "notices": 1, "rejected: no date": 1}


def test_a_pipeline_that_runs_again_late_changes_nothing_that_a_manifest_may_name(tmp_path: Path) -> None:
    """The same attempt with another source: its first result stays, and each file that the result names, as they were;
    of a source that is still the same there is no second file.
    """
    (tmp_path / "lines").write_bytes(ARCHIVE)
    options_ = {"source": f"{tmp_path}/lines", "date": "2026-11-01"}
    partition = Partition("date=2026-11-01", f"{tmp_path}/{{dataset}}/attempt-001", options=options_)

    def run_again() -> dict[str, bytes]:
        options.run(fetch, [f"--partitions={to_json([partition])}"])
        return {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    first = run_again()
    assert run_again() == first
    (tmp_path / "lines").write_bytes(b"other\n")
    after = run_again()
    changed = {path for path, data in after.items() if first.get(path) != data}
    assert sorted(os.path.basename(path) for path in changed) == ["_result.json", "lines", "raw-00000.parquet"]
    result = f"{tmp_path}/raw/attempt-001/_result.json"
    named = read_result(after[result]).files
    assert records(read_result(after[result])) == {"raw": ARCHIVE.splitlines(keepends=True)}
    assert [google_crc32c.value(after[file.path]) for file in named] == [int(file.crc32c, 16) for file in named]


def test_a_late_try_deletes_nothing_that_the_result_names(tmp_path: Path) -> None:
    """What it wrote on the way to other files may be what the first try ended with."""
    outcome: list[Written] = []

    def write(day: Partition, unit: int) -> Iterator[Written]:
        written = write_parquet(day.output, "x", "a", pa.table({"n": [unit]}))
        yield outcome[0] if outcome else written

    def build(pipeline: beam.Pipeline, given: PipelineOptions) -> None:
        batch = Batch(pipeline, given)
        batch.units(lambda day: [1]).each(write)
        batch.results("x")

    given = [f"--partitions={to_json([Partition('all', f'{tmp_path}/{{dataset}}')])}"]
    options.run(build, given)
    (file,) = read_result((tmp_path / "x" / "_result.json").read_bytes()).files
    outcome.append(Written(superseded=[file.path]))
    options.run(build, given)
    assert Path(file.path).exists()
    assert read_result((tmp_path / "x" / "_result.json").read_bytes()).files == [file]


def test_a_run_by_hand_that_is_repeated_takes_the_place_of_the_first(tmp_path: Path) -> None:
    """Also where the files are others by then: what the earlier result names goes, and nothing else."""
    build = functools.partial(fetch, generated={})
    (tmp_path / "out" / "raw").mkdir(parents=True)
    (tmp_path / "out" / "raw" / "mine").touch()
    first = run(tmp_path, build, "--date=2026-11-01")
    (tmp_path / "a second source").write_bytes(b"other\n")
    flags = [f"--source={tmp_path}/a*", "--date=2026-11-01", f"--output={tmp_path}/out/{{dataset}}"]
    options.run(build, flags)
    second = read_result((tmp_path / "out" / "raw" / "_result.json").read_bytes())
    assert [file.path for file in second.files] == [file.path for file in first.files]
    assert records(second) == {"raw": [b"other\n"]}
    assert len(list((tmp_path / "out").rglob("*.parquet"))) == 1
    assert (tmp_path / "out" / "raw" / "mine").exists()


def test_a_file_of_a_day_needs_nothing_said(tmp_path: Path) -> None:
    """An archive does, and says so."""
    assert records(run(tmp_path, fetch, "--date=2026-11-01")) == {"raw": ARCHIVE.splitlines(keepends=True)}
    with pytest.raises(SourceError, match=r"lines can't be split by day; write {date:%Y-%m-%d} where its day stands"):
        run(tmp_path, fetch)


def test_fetch_is_a_command_too(tmp_path: Path) -> None:
    """Of sources of which each file is of a day."""
    (tmp_path / "2026-11-01.txt").write_bytes(ARCHIVE)
    given = [f"--source={tmp_path}/{{date}}.txt", "--date=2026-11-01", f"--output={tmp_path}/{{dataset}}"]
    line = [sys.executable, "-m", "millrace.beam.fetching", *given]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    written = read_result((tmp_path / "raw" / "_result.json").read_bytes())
    assert records(written) == {"raw": ARCHIVE.splitlines(keepends=True)}

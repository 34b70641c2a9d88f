"""Every stage is a command of its own."""

import json
import subprocess
import sys
from pathlib import Path

import google.cloud.storage as storage_api
import posts_stages as stages
import pytest
from posts_cases import DAY, status

from localcloud.storage import Storage
from millrace.beam import options
from millrace.errors import NotThereYetError

ROOT = Path(__file__).resolve().parents[2]
STAGES = {
    "fetch": ["--source", "--date", "--max_source_bytes"],
    "etl": ["--input", "--date", "--sources", "--pack"],
    "count": ["--input", "--rules", "--languages", "--shards"],
    "aggregate": ["--input", "--date", "--days"],
}


def command(stage: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", f"pipelines.posts.{stage}", *arguments]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("stage", STAGES)
def test_help_tells_the_options_of_a_stage(stage: str) -> None:
    answer = command(stage, "--help")
    assert answer.returncode == 0
    assert all(option in answer.stdout for option in [*STAGES[stage], "--output"])
    assert f"python -m pipelines.posts.{stage}" in answer.stdout


def test_a_stage_without_an_output_says_so_and_does_nothing() -> None:
    answer = command("etl", f"--date={DAY}")
    assert answer.returncode == 2
    assert "the following arguments are required: --output" in answer.stderr


def test_a_stage_runs_from_the_command_line(tmp_path: Path) -> None:
    """And writes what it writes when a launcher runs it."""
    (raw,) = stages.raw(tmp_path, status())
    answer = command("etl", f"--input={raw}", "--sources=[]", f"--date={DAY}", f"--output={tmp_path}/{{dataset}}")
    assert answer.returncode == 0, answer.stderr
    assert json.loads((tmp_path / "posts" / "_result.json").read_text())["counters"]["kept"] == 1


def test_the_key_and_class_of_a_stages_options_are_those_of_what_it_writes(
    tmp_path: Path, cloud_storage: Storage
) -> None:
    """Its files and its result, from the command line too."""
    (raw,) = stages.raw(tmp_path, status())
    key = "projects/p/locations/us/keyRings/r/cryptoKeys/k"
    given = [f"--gcs_kms_key={key}", "--gcs_storage_class=NEARLINE", "--gcs_user_project=payer"]
    output = "gs://bucket/{dataset}"
    answer = command("etl", f"--input={raw}", "--sources=[]", f"--date={DAY}", f"--output={output}", *given)
    assert answer.returncode == 0, answer.stderr
    inserts = [each for each in cloud_storage.requests if each.call == "objects.insert"]
    assert {each.query.get("userProject") for each in inserts} == {"payer"}
    with storage_api.Client("x") as client:
        blobs = list(client.list_blobs("bucket"))
    assert {blob.name.rpartition(".")[2] for blob in blobs} == {"parquet", "json"}
    assert {(blob.kms_key_name, blob.storage_class) for blob in blobs} == {(f"{key}/cryptoKeyVersions/1", "NEARLINE")}


def test_what_a_stage_raises_reaches_its_launcher(tmp_path: Path) -> None:
    """Typed as it was raised, so that the launcher can tell what to do."""
    with pytest.raises(NotThereYetError):
        options.run_module("pipelines.posts.fetch", [f"--source={tmp_path}/none", f"--output={tmp_path}"])

"""Manifests: what is written is what is read, and what is no manifest is said to be none."""

import dataclasses
import json
from pathlib import Path

import pytest
import running

from millrace.core import manifests
from millrace.core.manifests import FileEntry, InputEntry, Manifest
from millrace.core.storage import crc32c
from millrace.errors import ManifestError

FILES = [
    FileEntry("posts/date=2026-11-01/attempt-001-abc/a.parquet", "posts", 3, 100, "00000000"),
    FileEntry("posts/date=2026-11-01/attempt-001-abc/b.parquet", "posts", 4, 100, "00000000"),
    FileEntry("posts_rejected/date=2026-11-01/attempt-001-abc/c.parquet", "posts_rejected", 5, 100, "00000000"),
]
MANIFEST = Manifest(
    partition="posts/date=2026-11-01",
    attempt="attempt-001-abc",
    files=FILES,
    schemas={"posts": {"id": "string"}},
    inputs=[InputEntry("raw/date=2026-11-01", "ff")],
    pipeline="pipelines.posts.etl",
    code_version="0.1.0",
    settings={"posts.source": "sample://"},
    options={"date": "2026-11-01"},
    runner="FnApiRunner",
    job_id=None,
    started="2026-11-02T00:00:00.000+00:00",
    ended="2026-11-02T00:00:01.000+00:00",
    counters={"read": 7},
)


def test_manifest_survives_the_way_to_the_disk_and_back() -> None:
    """A manifest reads as it was written, its bytes and so its digest are always the same."""
    data = MANIFEST.to_json()
    again = Manifest.from_json(data, "here")
    assert again == MANIFEST
    assert again.to_json() == data
    assert manifests.digest(data) == manifests.digest(again.to_json())


def test_rows_and_files_are_those_of_a_table() -> None:
    """Rows and files are counted table by table."""
    assert (MANIFEST.rows("posts"), MANIFEST.rows("posts_rejected"), MANIFEST.rows("urls")) == (7, 5, 0)
    assert MANIFEST.files_of("posts") == FILES[:2]


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"1", b"null", b"{}", b'{"files": [{}], "inputs": []}', MANIFEST.to_json()[:200], b"\xff"],
    ids=["empty", "cut", "list", "number", "null", "object", "other file", "torn", "no text"],
)
def test_what_is_no_manifest_is_said_to_be_none(data: bytes) -> None:
    """Anything else than a manifest is an error that names the path and the way on."""
    with pytest.raises(ManifestError, match=r"^storage/x/_MANIFEST.json is no manifest \(.*\); .*bin/clear"):
        Manifest.from_json(data, "storage/x/_MANIFEST.json")


@pytest.mark.parametrize("written", [0, 2])
def test_other_format_is_said_to_be_one(written: int) -> None:
    """A manifest of a later format, or of an earlier one, is an error that names both formats."""
    other = dataclasses.replace(MANIFEST, format=written)
    with pytest.raises(ManifestError, match=f"x has format {written}; this Millrace reads 1"):
        Manifest.from_json(other.to_json(), "x")


def test_later_format_with_further_fields_is_said_to_be_one() -> None:
    """A later format is recognised even where it has fields that this one has not."""
    value = {**json.loads(MANIFEST.to_json()), "format": 2, "signature": "x"}
    with pytest.raises(ManifestError, match="x has format 2; this Millrace reads 1"):
        Manifest.from_json(json.dumps(value).encode(), "x")


def test_manifests_of_a_run_say_what_is_on_the_disk(undisturbed: Path) -> None:
    """Every file of a manifest is there with that size and checksum; every input's digest is its manifest's."""
    there = running.complete(undisturbed)
    assert there
    for name in there:
        manifest = running.partition(undisturbed, name)
        assert manifest is not None
        assert manifest.partition == name
        assert manifest.started <= manifest.ended
        assert manifest.code_version
        for file in manifest.files:
            data = (undisturbed / file.path).read_bytes()
            assert (len(data), crc32c(data)) == (file.bytes, file.crc32c)
        for entry in manifest.inputs:
            assert manifests.digest((undisturbed / entry.partition / manifests.NAME).read_bytes()) == entry.digest


def test_manifests_lead_back_to_the_source(undisturbed: Path) -> None:
    """Following the inputs from the report's manifest leads over all stages to the raw records."""
    seen: set[str] = set()
    left = [f"reports/date={running.DAY}"]
    while left:
        name = left.pop()
        seen.add(name)
        manifest = running.partition(undisturbed, name)
        assert manifest is not None
        left += [entry.partition for entry in manifest.inputs if entry.partition not in seen]
    datasets = {name.split("/")[0] for name in seen}
    assert datasets == {"reports", "word_counts", "counts", "posts", "raw"}

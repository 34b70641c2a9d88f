"""gcloud storage: the command's own calls of Cloud Storage."""

import filecmp
import json
import os

from client_running import Given, Program

from localcloud import BUCKET


def test_objects_come_and_go(given: Given, gcloud: Program) -> None:
    """`cp` up, down and across, `ls -l`, `cat`, `mv`, `rm`."""
    (given.folder / "h.txt").write_text("hello\n")
    gcloud.succeed("storage", "cp", "h.txt", given.gs("a/h.txt"))
    assert " 6  20" in gcloud.succeed("storage", "ls", "-l", given.gs("a/"))
    gcloud.succeed("storage", "cp", given.gs("a/h.txt"), given.gs("b/it's ü 50%.txt"))
    assert gcloud.succeed("storage", "cat", given.gs("b/it's ü 50%.txt")) == "hello\n"
    gcloud.succeed("storage", "mv", given.gs("a/h.txt"), given.gs("c/h.txt"))
    gcloud.succeed("storage", "cp", given.gs("c/h.txt"), "back.txt")
    assert (given.folder / "back.txt").read_text() == "hello\n"
    assert sorted(given.read("")) == ["b/it's ü 50%.txt", "c/h.txt"]
    gcloud.succeed("storage", "rm", given.gs("c/h.txt"))
    assert "matched no objects" in gcloud.fail("storage", "cat", given.gs("c/h.txt"))


def test_folders(given: Given, gcloud: Program) -> None:
    """`rsync -r` up and down, `ls -r`, `du`, `rm -r`."""
    for name in ("1", "e/2", "e/f/3"):
        (given.folder / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (given.folder / "d" / name).write_text(name)
    gcloud.succeed("storage", "rsync", "-r", "d", given.gs("d"))
    assert sorted(given.read("d/")) == ["d/1", "d/e/2", "d/e/f/3"]
    assert given.gs("d/e/f/3") in gcloud.succeed("storage", "ls", "-r", given.gs("d")).splitlines()
    assert gcloud.succeed("storage", "du", "-s", given.gs("d/")).split()[0] == "9"
    (given.folder / "back").mkdir()
    gcloud.succeed("storage", "rsync", "-r", given.gs("d"), "back")
    assert (given.folder / "back" / "e" / "f" / "3").read_text() == "e/f/3"
    (given.folder / "d" / "1").unlink()
    gcloud.succeed("storage", "rsync", "-r", "--delete-unmatched-destination-objects", "d", given.gs("d"))
    assert sorted(given.read("d/")) == ["d/e/2", "d/e/f/3"]
    gcloud.succeed("storage", "rm", "-r", given.gs("d"))
    assert given.read("d/") == {}


def test_what_is_large(given: Given, gcloud: Program) -> None:
    """`cp` of 30 MB: a resumable upload, a download in slices, both compared by checksum; `hash`."""
    (given.folder / "large").write_bytes(os.urandom(30_000_000))
    gcloud.succeed("storage", "cp", "large", given.gs("large"))
    gcloud.succeed("storage", "cp", given.gs("large"), "back")
    assert filecmp.cmp(given.folder / "large", given.folder / "back", shallow=False)
    here = json.loads(gcloud.succeed("storage", "hash", "large", "--format=json"))
    there = json.loads(gcloud.succeed("storage", "hash", given.gs("large"), "--format=json"))
    assert here[0]["crc32c_hash"] == there[0]["crc32c_hash"]


def test_preconditions(given: Given, gcloud: Program) -> None:
    """`cp --if-generation-match=0` for an object that is there: refused, as a failed precondition."""
    (given.folder / "h.txt").write_text("hello\n")
    flags = ("storage", "cp", "--if-generation-match=0", "h.txt", given.gs("h.txt"))
    gcloud.succeed(*flags)
    assert "FAILED_PRECONDITION" in gcloud.fail(*flags)


def test_metadata(given: Given, gcloud: Program) -> None:
    """`objects describe`, `objects update`: content type, custom metadata."""
    given.put("h.txt", "hello\n")
    flags = "--content-type=text/x-odd", "--custom-metadata=key=value"
    gcloud.succeed("storage", "objects", "update", given.gs("h.txt"), *flags)
    told = json.loads(gcloud.succeed("storage", "objects", "describe", given.gs("h.txt"), "--format=json"))
    assert (told["content_type"], told["custom_fields"], told["size"]) == ("text/x-odd", {"key": "value"}, 6)


def test_compose(given: Given, gcloud: Program) -> None:
    """`objects compose`."""
    parts = [given.put(name, name) for name in ("1", "2")]
    gcloud.succeed("storage", "objects", "compose", *parts, given.gs("both"))
    assert given.read("both") == {"both": b"12"}


def test_buckets(given: Given, gcloud: Program) -> None:
    """`buckets create`, `describe`, `update`, `list`, `delete`."""
    flags = "--location=europe-west1", "--uniform-bucket-level-access", "--soft-delete-duration=0"
    gcloud.succeed("storage", "buckets", "create", "gs://another-bucket", *flags)
    gcloud.succeed("storage", "buckets", "update", "gs://another-bucket", "--update-labels=a=b")
    gcloud.succeed("storage", "buckets", "update", "gs://another-bucket", "--versioning")
    told = json.loads(gcloud.succeed("storage", "buckets", "describe", "gs://another-bucket", "--format=json"))
    assert (told["location"], told["labels"], told["versioning_enabled"]) == ("EUROPE-WEST1", {"a": "b"}, True)
    names = gcloud.succeed("storage", "buckets", "list", "--format=value(name)").split()
    assert {BUCKET, "another-bucket"} <= set(names)
    gcloud.succeed("storage", "buckets", "delete", "gs://another-bucket")
    assert "not found" in gcloud.fail("storage", "buckets", "describe", "gs://another-bucket")


def test_lifecycle(given: Given, gcloud: Program) -> None:
    """`buckets update --lifecycle-file`, as docs/google-cloud.md has it."""
    condition = {"age": 14, "matchesPrefix": ["data/_dataflow/"]}
    rules = {"rule": [{"action": {"type": "Delete"}, "condition": condition}]}
    (given.folder / "lifecycle.json").write_text(json.dumps(rules))
    given.cloud.storage.create_bucket("bucket-of-rules")
    gcloud.succeed("storage", "buckets", "update", "gs://bucket-of-rules", "--lifecycle-file=lifecycle.json")
    told = json.loads(gcloud.succeed("storage", "buckets", "describe", "gs://bucket-of-rules", "--format=json"))
    assert told["lifecycle_config"]["rule"][0]["condition"] == condition

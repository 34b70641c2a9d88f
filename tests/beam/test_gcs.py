"""Objects of Cloud Storage are listed, read and written whole or not at all, with few requests, whatever fails."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import google.cloud.storage as storage_api
import google_crc32c
import pytest
from apache_beam.options.value_provider import RuntimeValueProvider

from localcloud.storage import Storage
from millrace.beam import gcs
from millrace.errors import AccessError, ServiceError, SourceError

NOISE = random.Random(1).randbytes(100_000)


def write(uri: str, data: bytes = b"x") -> str:
    with gcs.Writer(uri) as writer:
        writer.write(data)
    return uri


def calls(storage: Storage) -> Counter[str]:
    """What was asked since the last time, by call."""
    # The client asks for the bucket's own metadata once, in a thread of its own, to label traces.
    asked = Counter(request.call for request in storage.requests if request.call != "buckets.get")
    storage.requests.clear()
    return asked


@pytest.fixture
def storage(cloud_storage: Storage) -> Storage:
    return cloud_storage


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a/x-1.json", ["a/x-1.json"]),
        ("a/x-1", []),
        ("a", []),
        ("a/", []),
        ("a/*.json", ["a/x-1.json", "a/x-2.json", "a/x-[1].json"]),
        ("a/x-?.json*", ["a/x-1.json", "a/x-1.json.gz", "a/x-2.json"]),
        ("a/x-[!2].json", ["a/x-1.json"]),
        ("a/x-[1].json", ["a/x-[1].json"]),
        ("a/x-[12].json", ["a/x-1.json", "a/x-2.json"]),
        ("*/x-1.json", ["a/x-1.json", "b/x-1.json"]),
        ("a/*", ["a/x-1.json", "a/x-1.json.gz", "a/x-2.json", "a/x-[1].json"]),
        ("a/**", ["a/deep/er/x-1.json", "a/x-1.json", "a/x-1.json.gz", "a/x-2.json", "a/x-[1].json"]),
        ("**/x-1.json", ["a/deep/er/x-1.json", "a/x-1.json", "b/x-1.json"]),
        ("a/**/x-1.json", ["a/deep/er/x-1.json", "a/x-1.json"]),
        ("a/*/x-1.json", []),
    ],
)
def test_a_pattern_finds_what_it_would_find_on_a_disk_with_one_listing(
    storage: Storage, pattern: str, names: list[str]
) -> None:
    """And tells size and generation; a folder's placeholder is no file."""
    for name in ("a/x-1.json", "a/x-1.json.gz", "a/x-2.json", "a/x-[1].json", "a/deep/er/x-1.json", "b/x-1.json", "a/"):
        write(f"gs://bucket/{name}", b"four")
    calls(storage)
    found = gcs.match(f"gs://bucket/{pattern}")
    assert [f.uri for f in found] == [f"gs://bucket/{name}" for name in names]
    assert all(f.size == 4 and f.generation for f in found)
    assert calls(storage) == {"objects.list": 1}


@pytest.mark.parametrize(
    "name", ["{a,b}", "x{1}/?", "[!a]", "a[^b]c", "[2-1]", "[]", "[a", "a]b", "a\\b", "a,b", "#=&", "**", "a**", "[[]"]
)
def test_a_name_that_looks_like_a_pattern_is_still_a_name(storage: Storage, name: str) -> None:
    """Alone and in a pattern for what lies below it; nothing else is taken for it."""
    for other in ("a", "b", "c", "x1/y", "aac", "1", "ab", "z"):
        write(f"gs://bucket/{other}")
    write(f"gs://bucket/{name}")
    assert [f.uri for f in gcs.match(f"gs://bucket/{name}")] == [f"gs://bucket/{name}"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("{a}/*", ["{a}/1", "{a}/2"]),
        ("?a}/1", ["{a}/1"]),
        ("a[^b]c", ["a^c", "abc"]),
        ("a[!b]c", ["a^c"]),
        ("a**c", ["a^c", "abc"]),
        ("a[!b]*", ["a^c"]),
        ("a?*", ["a^c", "abc"]),
        ("*[\\]*", ["x\\y"]),
        ("[z-a]*", []),
    ],
)
def test_a_pattern_is_that_of_a_shell(storage: Storage, pattern: str, found: list[str]) -> None:
    """Braces and backslashes stand for themselves, ** within a name is *, and no class of characters holds a /."""
    for name in ("{a}/1", "{a}/2", "a/1", "a/c", "abc", "a^c", "x\\y"):
        write(f"gs://bucket/{name}")
    assert [f.uri for f in gcs.match(f"gs://bucket/{pattern}")] == [f"gs://bucket/{name}" for name in found]


def test_a_small_object_is_one_request_to_write_and_one_to_read(storage: Storage) -> None:
    assert gcs.read(write("gs://bucket/a", NOISE)) == NOISE
    assert calls(storage) == {"objects.insert": 1, "objects.get": 1}


@pytest.mark.parametrize("data", [b"", NOISE[:1000], NOISE * 410], ids=["empty", "small", "41 MB"])
def test_what_is_written_is_what_is_read(storage: Storage, data: bytes) -> None:
    """And the service has the same checksum."""
    write("gs://bucket/ü/ä ?#%.bin", data)
    assert gcs.read("gs://bucket/ü/ä ?#%.bin") == data
    reader = gcs.open_object("gs://bucket/ü/ä ?#%.bin")
    assert (reader.size, reader.read(), reader.read()) == (len(data), data, b"")
    assert google_crc32c.value(data) == google_crc32c.value(gcs.read("gs://bucket/ü/ä ?#%.bin"))


def test_parts_are_read_by_ranges(storage: Storage) -> None:
    reader = gcs.open_object(write("gs://bucket/a", NOISE))
    calls(storage)
    assert reader.seek(-10, 2) == 99_990
    assert reader.read(100) == NOISE[-10:]
    reader.seek(5)
    buffer = bytearray(7)
    assert reader.readinto(buffer) == 7
    assert (bytes(buffer), reader.tell()) == (NOISE[5:12], 12)
    assert calls(storage) == {"objects.get": 2}


def test_an_object_is_there_once_it_is_whole(storage: Storage) -> None:
    """Not before it is closed, and not at all where writing it broke off."""
    writer = gcs.Writer("gs://bucket/a")
    writer.write(NOISE)
    assert gcs.match("gs://bucket/a") == []
    writer.close()
    writer.close()
    assert [f.size for f in gcs.match("gs://bucket/a")] == [len(NOISE)]

    def broken() -> None:
        with gcs.Writer("gs://bucket/c") as other:
            other.write(NOISE)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert gcs.match("gs://bucket/c") == []


def test_what_is_replaced_while_it_is_read_is_no_mixture(storage: Storage) -> None:
    reader = gcs.open_object(write("gs://bucket/a", b"a" * 10))
    assert reader.read(5) == b"aaaaa"
    gcs.delete("gs://bucket/a")
    write("gs://bucket/a", b"b" * 10)
    with pytest.raises(ServiceError, match="gs://bucket/a was replaced or deleted while it was read; run again"):
        reader.read(5)


def test_each_failure_has_its_error(storage: Storage) -> None:
    """Which names the object, what was attempted, and what the service said."""
    write("gs://bucket/a")
    for missing in ("gs://bucket/none", "gs://nobucket/a"):
        with pytest.raises(SourceError, match=f"could not read {missing}: it does not exist"):
            gcs.read(missing)
        with pytest.raises(SourceError, match=f"could not read {missing}: it does not exist"):
            gcs.open_object(missing)
    with pytest.raises(SourceError, match="could not list gs://nobucket/a: it does not exist"):
        gcs.match("gs://nobucket/a")
    with pytest.raises(SourceError, match="could not write gs://nobucket/a: it does not exist"):
        write("gs://nobucket/a")
    storage.denied |= {"storage.objects.get", "storage.objects.list", "storage.objects.create"}
    with pytest.raises(AccessError, match="could not read gs://bucket/a: permission is missing"):
        gcs.read("gs://bucket/a")
    with pytest.raises(AccessError, match="could not list gs://bucket/a: permission is missing"):
        gcs.match("gs://bucket/a")
    with pytest.raises(AccessError, match="could not write gs://bucket/x: permission is missing"):
        write("gs://bucket/x")
    storage.denied.clear()
    for kinds in (("status",), ("cut",)):
        storage.faults.randomly(1.0, 1, kinds)
        with pytest.raises(
            ServiceError, match="could not read gs://bucket/a, however often it was tried: .*; run again"
        ):
            gcs.read("gs://bucket/a", 0)
        with pytest.raises(ServiceError, match="could not list gs://bucket/a, however often it was tried"):
            gcs.match("gs://bucket/a", 0)
        writer = gcs.Writer("gs://bucket/x", 0)
        with pytest.raises(ServiceError, match="could not write gs://bucket/x, however often it was tried"):
            writer.close()
    storage.faults.clear()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("seed", range(3))
def test_every_operation_survives_a_fifth_of_all_calls_failing(storage: Storage, seed: int) -> None:
    """Small objects, and those that are uploaded and read in pieces."""
    storage.faults.randomly(0.2, seed)
    large = NOISE * 200
    for number in range(8):
        assert gcs.read(write(f"gs://bucket/a/{number}", NOISE)) == NOISE
    reader = gcs.open_object(write("gs://bucket/a/large", large))
    assert b"".join(iter(lambda: reader.read(4 << 20), b"")) == large
    for _ in range(5):
        assert [f.size for f in gcs.match("gs://bucket/a/*")] == [*[len(NOISE)] * 8, len(large)]
    assert any(request.fault for request in storage.requests)


def test_without_credentials_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # nor on a machine of Google's
    before = gcs.use(None, None)
    try:
        with pytest.raises(AccessError, match="could not find credentials of Google Cloud"):
            gcs.read("gs://bucket/a")
    finally:
        gcs.use(*before)


KEY = "projects/p/locations/us/keyRings/r/cryptoKeys/k"


@pytest.fixture(params=["launcher", "worker"])
def accessed(request: pytest.FixtureRequest, storage: Storage) -> Iterator[Storage]:
    """A service in whose bucket objects are written with a key and a class, and somebody else pays.

    A launcher says so itself, a worker by its pipeline's options.
    """
    access = gcs.Access(KEY, "NEARLINE", "payer")
    client, find = gcs.use(None, None)
    if request.param == "launcher":
        gcs.use(client, lambda: access)
    else:
        gcs.use(client, None)
        RuntimeValueProvider.set_runtime_options(access.options())
    yield storage
    gcs.use(client, find)
    RuntimeValueProvider.set_runtime_options({})


def test_key_class_and_payer_reach_every_object(accessed: Storage) -> None:
    """Whatever its size; each request names who pays."""
    for name, data in {"small": b"x", "large": NOISE * 200}.items():
        uri = write(f"gs://bucket/{name}", data)
        assert [found.uri for found in gcs.match(uri)] == [uri]
        assert gcs.open_object(uri).read(1) == gcs.read(uri)[:1]
    # The pieces of an upload belong to the session that its first request has opened.
    calls = [request for request in accessed.requests if request.call not in ("buckets.get", "objects.insert.piece")]
    assert {request.call: request.query.get("userProject") for request in calls} == dict.fromkeys(
        ("objects.insert", "objects.list", "objects.get"), "payer"
    )
    with storage_api.Client("x") as client:
        found = {blob.name: (blob.storage_class, blob.kms_key_name) for blob in client.list_blobs("bucket")}
    assert found == dict.fromkeys(("small", "large"), ("NEARLINE", f"{KEY}/cryptoKeyVersions/1"))


def test_what_names_no_object_is_refused() -> None:
    for uri in ("gs://bucket", "gs://bucket/", "gs:///x", "gs://B_/x", "s3://b/x", "b/x"):
        with pytest.raises(SourceError, match="write gs://bucket/object"):
            gcs.split(uri)

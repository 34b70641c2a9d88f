"""Cloud Storage on this machine, through Google's client and Beam: what Cloud Storage's documentation promises."""

import gzip
import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import google.auth.credentials
import pytest
import requests
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.gcp import gcsio
from apache_beam.options.pipeline_options import PipelineOptions
from google.api_core import exceptions
from google.cloud import storage as api
from google.cloud.storage.retry import DEFAULT_RETRY

from localcloud import BUCKET, PROJECT
from localcloud.faults import Fault
from localcloud.storage import PIECE, Storage

RETRY = DEFAULT_RETRY.with_delay(initial=0.01, maximum=0.1).with_timeout(10)


@pytest.fixture(autouse=True)
def _only_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this the client also looks at each bucket once, at any time, in a thread of its own."""
    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")


@pytest.fixture
def service() -> Iterator[Storage]:
    with Storage() as running:
        running.create_bucket(BUCKET, "US")
        yield running


def client_of(url: str) -> api.Client:
    return api.Client(
        project=PROJECT,
        credentials=google.auth.credentials.AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options={"api_endpoint": url},
    )


@pytest.fixture
def client(service: Storage) -> Iterator[api.Client]:
    with client_of(service.url) as made:
        yield made


@pytest.fixture
def bucket(client: api.Client) -> Any:
    return client.bucket(BUCKET)


@pytest.fixture
def put(bucket: Any) -> Callable[..., Any]:
    def upload(name: str, data: bytes = b"x", **how: Any) -> Any:
        blob = bucket.blob(name)
        blob.upload_from_string(data, **how)
        return blob

    return upload


Put = Callable[..., Any]


# Preconditions: "If the values don't match, the request fails with a 412 Precondition Failed response."


def test_generation_0_lets_the_first_of_many_writers_win(service: Storage) -> None:
    def write(number: int) -> bool:
        with client_of(service.url) as client:
            try:
                client.bucket(BUCKET).blob("one").upload_from_string(str(number), if_generation_match=0, retry=None)
            except exceptions.PreconditionFailed:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(8)))
    assert sum(won) == 1
    with client_of(service.url) as client:
        assert client.bucket(BUCKET).blob("one").download_as_bytes() == str(won.index(True)).encode()


def test_a_write_over_another_generation_is_refused_and_changes_nothing(put: Put) -> None:
    old = put("a", b"1").generation
    new = put("a", b"2", if_generation_match=old).generation
    assert new > old
    for wrong in ({"if_generation_match": old}, {"if_generation_match": 0}, {"if_metageneration_match": 2}):
        with pytest.raises(exceptions.PreconditionFailed):
            put("a", b"3", **wrong)
    with pytest.raises(exceptions.PreconditionFailed):
        put("a", b"3", if_generation_not_match=new)
    with pytest.raises(exceptions.PreconditionFailed):
        put("missing", if_generation_match=old)
    with pytest.raises(exceptions.PreconditionFailed):
        put("missing", if_generation_not_match=0)  # "succeeds only if there is a live version of the object"
    assert put("a", b"3", if_generation_not_match=0).download_as_bytes() == b"3"


def test_deletes_patches_and_copies_keep_to_preconditions(bucket: Any, put: Put) -> None:
    blob = put("a")
    other = blob.generation + 1
    with pytest.raises(exceptions.PreconditionFailed):
        blob.delete(if_generation_match=other)
    with pytest.raises(exceptions.PreconditionFailed):
        blob.patch(if_metageneration_match=7)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.copy_blob(blob, bucket, "b", if_source_generation_match=other)
    put("b")
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.copy_blob(blob, bucket, "b", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("b").rewrite(blob, if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("b").compose([blob], if_generation_match=0)
    blob.delete(if_generation_match=blob.generation)
    assert not blob.exists()


def test_a_read_of_what_did_not_change_is_304(put: Put) -> None:
    blob = put("a")
    with pytest.raises(exceptions.NotModified):
        blob.reload(if_generation_not_match=blob.generation)
    with pytest.raises(exceptions.NotModified):
        blob.download_as_bytes(if_generation_not_match=blob.generation, raw_download=True)
    with pytest.raises(exceptions.PreconditionFailed):
        blob.download_as_bytes(if_generation_match=1)
    blob.reload()  # the connection is still good


# Generations: each write makes a new one; each change of metadata a new metageneration.


def test_a_read_of_another_generation_is_404(bucket: Any, put: Put) -> None:
    old = put("a", b"1").generation
    new = put("a", b"2").generation
    assert bucket.blob("a", generation=new).download_as_bytes() == b"2"
    assert bucket.get_blob("a", generation=new).generation == new
    assert bucket.get_blob("a", generation=old) is None
    with pytest.raises(exceptions.NotFound):
        bucket.blob("a", generation=old).download_as_bytes()
    with pytest.raises(exceptions.NotFound):
        bucket.delete_blob("a", generation=old)


def test_generations_grow_even_over_a_delete(put: Put) -> None:
    seen = []
    for _ in range(5):
        blob = put("a")
        seen.append(blob.generation)
        blob.delete()
    assert seen == sorted(set(seen))


def test_a_patch_is_a_new_metageneration_of_the_same_generation(bucket: Any, put: Put) -> None:
    blob = put("a", b"1")
    before, tag = blob.generation, blob.etag
    blob.metadata = {"day": "1", "gone": "x"}
    blob.patch()
    assert (blob.generation, blob.metageneration, blob.etag != tag) == (before, 2, True)
    blob.metadata = {"day": "2", "gone": None}
    blob.patch(if_metageneration_match=2)
    fresh = bucket.get_blob("a")
    assert (fresh.metageneration, fresh.metadata) == (3, {"day": "2"})
    assert fresh.download_as_bytes() == b"1"
    assert put("a", b"2").metageneration == 1


# Metadata


def test_what_an_upload_says_of_an_object_is_kept_and_listed(client: api.Client, bucket: Any) -> None:
    key = "projects/p/locations/us/keyRings/r/cryptoKeys/k"
    blob = bucket.blob("a", kms_key_name=key)
    blob.metadata = {"rows": "3", "name": "Zoë"}
    blob.storage_class = "NEARLINE"
    blob.cache_control = "no-store"
    blob.upload_from_string(b"{}", content_type="application/json")
    (listed,) = client.list_blobs(BUCKET)
    for each in (bucket.get_blob("a"), listed):
        assert each.metadata == {"rows": "3", "name": "Zoë"}
        assert each.storage_class == "NEARLINE"
        assert (each.content_type, each.cache_control, each.size) == ("application/json", "no-store", 2)
        assert each.kms_key_name == f"{key}/cryptoKeyVersions/1"


def test_an_update_drops_what_it_does_not_name(put: Put) -> None:
    blob = put("a")
    blob.metadata = {"a": "1"}
    blob.patch()
    requests.put(blob.self_link, json={"contentType": "text/html"}, timeout=10).raise_for_status()
    blob.reload()
    assert (blob.metadata, blob.content_type, blob.metageneration) == (None, "text/html", 3)


def test_custom_metadata_is_limited_to_8_kib(put: Put) -> None:
    blob = put("a")
    blob.metadata = {"k": "x" * 8191}
    blob.patch()
    blob.metadata = {"k": "x" * 8192}
    with pytest.raises(exceptions.BadRequest, match="8192"):
        blob.patch()


def test_who_pays_is_in_the_log(service: Storage, client: api.Client) -> None:
    client.bucket(BUCKET, user_project="payer").blob("a").upload_from_string(b"")
    assert service.requests[-1].query["userProject"] == "payer"


# Listings: "maxResults: … The default value is 1,000 items."


def names(blobs: Any) -> list[str]:
    return [blob.name for blob in blobs]


def test_a_listing_is_in_order_and_has_pages_of_at_most_1000(service: Storage, client: api.Client, put: Put) -> None:
    put("0")
    for number in range(2100):  # a copy costs less than an upload
        url = f"{service.worker_url}/storage/v1/b/{BUCKET}/o/0/copyTo/b/{BUCKET}/o/d%2F{number % 10}%2F{number}"
        client._http.post(url)
    everything = sorted(["0", *(f"d/{number % 10}/{number}" for number in range(2100))])
    pages = [names(page) for page in client.list_blobs(BUCKET).pages]
    assert [len(page) for page in pages] == [1000, 1000, 101]
    assert sum(pages, []) == everything
    assert [len(list(page)) for page in client.list_blobs(BUCKET, page_size=5000).pages] == [1000, 1000, 101]
    assert names(client.list_blobs(BUCKET, max_results=7)) == everything[:7]
    assert [len(list(page)) for page in client.list_blobs(BUCKET, prefix="d/3/", page_size=100).pages] == [100, 100, 10]


def test_a_delimiter_makes_folders_which_count_for_a_page(client: api.Client, put: Put) -> None:
    for name in ("a", "b/1", "b/2", "b/c/3", "b0", "d/1", "e"):
        put(name)
    listing = client.list_blobs(BUCKET, delimiter="/", page_size=2)
    pages = [(names(page), sorted(listing.prefixes)) for page in listing.pages]
    assert pages == [(["a"], ["b/"]), (["b0"], ["b/", "d/"]), (["e"], ["b/", "d/"])]
    below = client.list_blobs(BUCKET, prefix="b/", delimiter="/")
    assert (names(below), below.prefixes) == (["b/1", "b/2"], {"b/c/"})


def test_offsets_cut_a_listing(client: api.Client, put: Put) -> None:
    for name in "abcde":
        put(name)
    assert names(client.list_blobs(BUCKET, start_offset="b", end_offset="d")) == ["b", "c"]
    assert names(client.list_blobs(BUCKET, start_offset="x")) == []


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("**/_MANIFEST.json", ["data/Etl/1/_MANIFEST.json", "data/Etl/_MANIFEST.json", "data/Sum/2/_MANIFEST.json"]),
        ("data/{Etl,Day}/**/_MANIFEST.json", ["data/Etl/1/_MANIFEST.json", "data/Etl/_MANIFEST.json"]),
        ("data/*/_MANIFEST.json", ["data/Etl/_MANIFEST.json"]),
        ("data/Etl/?/rows-[0-4]*", ["data/Etl/1/rows-0"]),
    ],
)
def test_globs_select(client: api.Client, put: Put, glob: str, found: list[str]) -> None:
    for name in (
        "data/Etl/_MANIFEST.json",
        "data/Etl/1/_MANIFEST.json",
        "data/Sum/2/_MANIFEST.json",
        "data/Etl/1/rows-0",
        "data/Etl/1/rows-5",
        "data/Etl/1/x_MANIFEST.json",
    ):
        put(name)
    assert names(client.list_blobs(BUCKET, match_glob=glob)) == found
    assert names(client.list_blobs(BUCKET, prefix="data/", match_glob=glob, page_size=1)) == found


# Reads


def test_ranges(bucket: Any, put: Put) -> None:
    blob = put("a", bytes(range(100)))
    assert blob.download_as_bytes(start=10, end=19) == bytes(range(10, 20))
    assert blob.download_as_bytes(start=90) == bytes(range(90, 100))
    assert blob.download_as_bytes(start=90, end=500) == bytes(range(90, 100))
    last = requests.get(blob.media_link, headers={"Range": "bytes=-5"}, timeout=10)
    assert (last.status_code, last.content) == (206, bytes(range(95, 100)))
    assert last.headers["Content-Range"] == "bytes 95-99/100"
    with pytest.raises(exceptions.RequestRangeNotSatisfiable):
        blob.download_as_bytes(start=100)
    with blob.open("rb", chunk_size=PIECE) as file:
        file.seek(50)
        assert file.read() == bytes(range(50, 100))
    assert put("empty", b"").download_as_bytes() == b""


def test_a_downloads_headers_say_which_object_it_is(put: Put) -> None:
    blob = put("a", b"123", content_type="text/plain")
    answer = requests.get(blob.media_link, timeout=10)
    assert answer.headers["X-Goog-Generation"] == str(blob.generation)
    assert answer.headers["X-Goog-Metageneration"] == "1"
    assert answer.headers["X-Goog-Hash"] == f"crc32c={blob.crc32c},md5={blob.md5_hash}"
    assert answer.headers["Content-Type"] == "text/plain"
    blob.download_as_bytes(checksum="crc32c")
    blob.download_as_bytes(checksum="md5")


def test_gzip_is_undone_for_whoever_does_not_take_it(bucket: Any) -> None:
    packed = gzip.compress(b"plain")
    blob = bucket.blob("a")
    blob.content_encoding = "gzip"
    blob.upload_from_string(packed)
    assert blob.download_as_bytes() == b"plain"
    assert blob.download_as_bytes(raw_download=True) == packed
    assert requests.get(blob.media_link, headers={"Accept-Encoding": "identity"}, timeout=10).content == b"plain"


def test_names_may_hold_anything(client: api.Client, put: Put) -> None:
    strange = ["a b/ü%2F?x=1&y#z+", "a/o/copyTo/b/c/o/d", "dot/../x"]
    for name in strange:
        assert put(name, name.encode()).download_as_bytes() == name.encode()
    assert names(client.list_blobs(BUCKET)) == sorted(strange)


# Uploads


def test_every_kind_of_upload(client: api.Client, bucket: Any, service: Storage) -> None:
    data = bytes(range(256)) * 3 * (PIECE // 256) + b"\r\n"
    whole, pieces = bucket.blob("whole"), bucket.blob("pieces", chunk_size=PIECE)
    whole.upload_from_string(data, checksum="md5")
    pieces.upload_from_file(io.BytesIO(data), checksum="crc32c")
    with bucket.blob("stream", chunk_size=PIECE).open("wb") as stream:
        stream.write(data)
    url = f"{service.url}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name=media"
    requests.post(url, data=data, headers={"Content-Type": "a/b"}, timeout=10).raise_for_status()
    for name in ("whole", "pieces", "stream", "media"):
        assert bucket.get_blob(name).download_as_bytes() == data
    assert bucket.get_blob("media").content_type == "a/b"
    assert {each.call for each in service.requests} >= {"objects.insert", "objects.insert.piece"}


def test_an_empty_file_can_be_uploaded_in_pieces(bucket: Any) -> None:
    bucket.blob("a", chunk_size=PIECE).upload_from_file(io.BytesIO())
    assert bucket.get_blob("a").size == 0


def test_a_wrong_checksum_is_refused(service: Storage, bucket: Any) -> None:
    blob = bucket.blob("a")
    blob.md5_hash = "AAAAAAAAAAAAAAAAAAAAAA=="
    with pytest.raises(exceptions.BadRequest, match="doesn't match"):
        blob.upload_from_string(b"1", checksum=None)
    assert not bucket.blob("a").exists()


@pytest.mark.parametrize("kind", ["lost", "cut", "status"])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_resumable_upload_survives_each_of_its_answers_failing(
    service: Storage, bucket: Any, n: int, kind: Any
) -> None:
    """The start, the first piece, the second, the last: the client asks again, and one object is there."""
    data = b"a" * PIECE + b"b" * PIECE + b"c"
    service.faults.at(n, Fault(kind), call="objects.insert*")
    blob = bucket.blob("a", chunk_size=PIECE)
    blob.upload_from_file(io.BytesIO(data), retry=RETRY, if_generation_match=0)
    assert bucket.get_blob("a").download_as_bytes() == data
    assert bucket.get_blob("a").generation == blob.generation


def test_a_resumable_upload_can_ask_how_far_it_has_come(service: Storage, bucket: Any) -> None:
    session = bucket.blob("a").create_resumable_upload_session()

    def send(said: str, data: bytes = b"") -> requests.Response:
        return requests.put(session, data=data, headers={"Content-Range": said}, timeout=10)

    nothing = send("bytes */*")
    assert (nothing.status_code, "Range" in nothing.headers) == (308, False)
    assert send(f"bytes 0-{PIECE - 1}/*", b"a" * PIECE).headers["Range"] == f"bytes=0-{PIECE - 1}"
    assert send(f"bytes 0-{PIECE - 1}/*", b"a" * PIECE).headers["Range"] == f"bytes=0-{PIECE - 1}"  # the same again
    assert send("bytes */*").headers["Range"] == f"bytes=0-{PIECE - 1}"
    gap = send(f"bytes {PIECE + 5}-{PIECE + 5}/{PIECE + 6}", b"x")
    assert (gap.status_code, gap.headers["Range"]) == (308, f"bytes=0-{PIECE - 1}")
    assert send("bytes 0-2/*", b"odd").status_code == 400  # "a multiple of 256 KiB, unless it's the last"
    assert not bucket.blob("a").exists()
    done = send(f"bytes {PIECE}-{PIECE}/{PIECE + 1}", b"b")
    assert (done.status_code, done.json()["size"]) == (200, str(PIECE + 1))
    assert send("bytes */*").json()["generation"] == done.json()["generation"]
    assert requests.put(f"{session}0", timeout=10).status_code == 404


def test_a_resumable_uploads_preconditions_hold_when_it_ends(service: Storage, bucket: Any, put: Put) -> None:
    session = bucket.blob("a").create_resumable_upload_session(if_generation_match=0)
    put("a", b"the other")
    assert requests.put(session, data=b"late", timeout=10).status_code == 412
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("a").create_resumable_upload_session(if_generation_match=0)
    assert bucket.blob("a").download_as_bytes() == b"the other"


def test_a_lost_answer_to_a_conditional_upload_looks_like_another_writer(service: Storage, put: Put) -> None:
    """So it does with Google: whoever uploads must look who wrote."""
    service.faults.at(1, Fault("lost"), call="objects.insert")
    with pytest.raises(exceptions.PreconditionFailed):
        put("a", b"1", if_generation_match=0, retry=RETRY)


# Copies, batches, deletes


def test_a_copy_has_the_sources_bytes_and_fields(bucket: Any, put: Put) -> None:
    source = put("a", b"1", content_type="text/plain")
    source.metadata = {"k": "v"}
    source.patch()
    copy = bucket.copy_blob(source, bucket, "b/c", source_generation=source.generation, if_generation_match=0)
    assert (copy.metadata, copy.content_type, copy.metageneration) == ({"k": "v"}, "text/plain", 1)
    assert copy.download_as_bytes() == b"1"
    with pytest.raises(exceptions.NotFound):
        bucket.copy_blob(source, bucket, "d", source_generation=1)
    with pytest.raises(exceptions.NotFound):
        bucket.copy_blob(bucket.blob("missing"), bucket, "d")


def test_a_rewrite_can_change_the_class(bucket: Any, put: Put) -> None:
    source = put("a", b"12")
    target = bucket.blob("b")
    assert target.rewrite(source) == (None, 2, 2)
    target.update_storage_class("COLDLINE")
    assert bucket.get_blob("b").storage_class == "COLDLINE"


def test_a_composition_is_its_parts_in_order(bucket: Any, put: Put) -> None:
    parts = [put(f"part{number}", str(number).encode()) for number in range(3)]
    whole = bucket.blob("whole")
    whole.content_type = "text/plain"
    whole.compose(parts)
    assert whole.download_as_bytes() == b"012"
    assert (whole.component_count, whole.md5_hash, whole.content_type) == (3, None, "text/plain")
    with pytest.raises(exceptions.BadRequest, match="32"):
        whole.compose([parts[0]] * 33)
    with pytest.raises(exceptions.PreconditionFailed):
        whole.compose(parts[:1], if_source_generation_match=[1])


def test_a_batch_answers_each_call_by_itself(client: api.Client, bucket: Any, put: Put) -> None:
    put("a")
    kept = put("b c/ü")
    with client.batch(raise_exception=False) as batch:
        bucket.blob("a").delete()
        bucket.blob("missing").delete()
        bucket.blob("b c/ü").delete(if_generation_match=kept.generation + 1)
    assert [each.status_code for each in batch._responses] == [204, 404, 412]
    assert "No such object" in batch._responses[1].json()["error"]["message"]
    with client.batch():
        kept.metadata = {"k": "v"}
        kept.patch()
    assert bucket.get_blob("b c/ü").metadata == {"k": "v"}
    assert names(client.list_blobs(BUCKET)) == ["b c/ü"]


def test_a_batch_has_at_most_100_calls(client: api.Client, bucket: Any) -> None:
    with pytest.raises(exceptions.BadRequest, match="100"), client.batch():  # noqa: PT012
        for number in range(101):
            bucket.blob(str(number)).delete()


def test_what_is_deleted_is_gone(bucket: Any, put: Put) -> None:
    put("a").delete()
    with pytest.raises(exceptions.NotFound):
        bucket.delete_blob("a")
    with pytest.raises(exceptions.NotFound):
        bucket.blob("a").download_as_bytes()
    with pytest.raises(exceptions.NotFound):
        bucket.blob("a").patch()


# Buckets and permissions


def test_buckets(client: api.Client, put: Put) -> None:
    assert client.get_bucket(BUCKET).location == "US"
    assert client.lookup_bucket("missing") is None
    with pytest.raises(exceptions.NotFound, match="bucket does not exist"):
        list(client.list_blobs("missing"))
    with pytest.raises(exceptions.NotFound):
        client.bucket("missing").blob("a").upload_from_string(b"")
    made = client.create_bucket("another", location="europe-west1")
    assert (made.location, made.location_type) == ("EUROPE-WEST1", "region")
    with pytest.raises(exceptions.Conflict):
        client.create_bucket("another")
    made.add_lifecycle_delete_rule(age=7, matches_prefix=["data/attempts/"])
    made.patch()
    assert len(list(client.get_bucket("another").lifecycle_rules)) == 1
    assert [each.name for each in client.list_buckets()] == ["another", BUCKET]
    made.delete()
    put("a")
    with pytest.raises(exceptions.Conflict):
        client.bucket(BUCKET).delete()


def test_permissions_can_be_asked_for_and_taken_away(service: Storage, client: api.Client, put: Put) -> None:
    bucket = client.bucket(BUCKET)
    blob = put("a")
    asked = ["storage.objects.create", "storage.objects.delete", "storage.objects.get"]
    assert bucket.test_iam_permissions(asked) == asked
    service.denied.update(asked[:2])
    assert bucket.test_iam_permissions(asked) == asked[2:]
    assert bucket.test_iam_permissions(asked[:2]) == []
    with pytest.raises(exceptions.Forbidden, match=r"does not have storage\.objects\.create access") as refused:
        put("b")
    assert refused.value.response.json()["error"]["errors"][0]["reason"] == "forbidden"
    with pytest.raises(exceptions.Forbidden):
        blob.delete()
    service.denied.clear()
    service.denied.add("storage.objects.delete")
    put("b")
    with pytest.raises(exceptions.Forbidden, match="delete"):
        put("b")  # "storage.objects.delete: if the object you're uploading replaces one"


@pytest.mark.parametrize(
    ("permission", "call"),
    [
        ("storage.objects.get", lambda bucket: bucket.blob("a").download_as_bytes()),
        ("storage.objects.get", lambda bucket: bucket.copy_blob(bucket.blob("a"), bucket, "b")),
        ("storage.objects.list", lambda bucket: list(bucket.list_blobs())),
        ("storage.objects.list", lambda bucket: bucket.blob("missing").reload()),
        ("storage.objects.update", lambda bucket: bucket.blob("a").patch()),
        ("storage.buckets.get", lambda bucket: bucket.reload()),
        ("storage.buckets.update", lambda bucket: bucket.patch()),
        ("storage.buckets.delete", lambda bucket: bucket.delete()),
        ("storage.buckets.create", lambda bucket: bucket.client.create_bucket("new")),
        ("storage.buckets.list", lambda bucket: list(bucket.client.list_buckets())),
    ],
)
def test_each_call_needs_its_permission(
    service: Storage, bucket: Any, put: Put, permission: str, call: Callable[[Any], Any]
) -> None:
    put("a")
    service.denied.add(permission)
    with pytest.raises(exceptions.Forbidden):
        call(bucket)


def test_the_worker_port_has_the_same_objects_and_its_own_links(service: Storage, put: Put) -> None:
    put("a", b"1")
    logged = len(service.requests)
    with client_of(service.worker_url) as workers:
        (blob,) = workers.list_blobs(BUCKET)
        assert blob.media_link.startswith(service.worker_url)
        assert blob.download_as_bytes() == b"1"
        blob.upload_from_string(b"2")
    assert len(service.requests) == logged
    assert put("b").bucket.blob("a").download_as_bytes() == b"2"


def test_calls_have_the_names_of_the_reference(service: Storage, client: api.Client, bucket: Any, put: Put) -> None:
    put("a")
    bucket.copy_blob(bucket.blob("a"), bucket, "b")
    bucket.blob("b").rewrite(bucket.blob("a"))
    bucket.blob("c").compose([bucket.blob("a")])
    bucket.blob("c").patch()
    bucket.blob("c").download_as_bytes()
    list(client.list_blobs(BUCKET))
    bucket.blob("c").delete()
    bucket.test_iam_permissions(["storage.objects.get"])
    assert [(each.call.removeprefix("objects."), each.effect) for each in service.requests] == [
        ("insert", True),
        ("copy", True),
        ("rewrite", True),
        ("compose", True),
        ("patch", True),
        ("get", False),
        ("list", False),
        ("delete", True),
        ("buckets.testIamPermissions", False),
    ]


def test_what_is_not_there_says_so(service: Storage) -> None:
    answer = requests.get(f"{service.url}/storage/v1/b/{BUCKET}/anywhereCaches", timeout=10)
    assert answer.status_code == 501
    assert "has no caches" in answer.json()["error"]["message"]


# Beam


@pytest.fixture
def beam(service: Storage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[gcsio.GcsIO]:
    """Beam's own file system, as a worker has it."""
    path = tmp_path / "credentials.json"
    fake = dict.fromkeys(("client_id", "client_secret", "refresh_token", "token"), "x")
    fake |= {"type": "authorized_user", "expiry": "2099-01-01T00:00:00Z"}
    path.write_text(json.dumps(fake))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", service.url)
    options = PipelineOptions([f"--project={PROJECT}"])
    FileSystems.set_options(options)
    made = gcsio.GcsIO(pipeline_options=options)
    yield made
    made.client.close()
    FileSystems.set_options(PipelineOptions([]))


def test_beam_writes_reads_matches_renames_and_deletes(service: Storage, beam: gcsio.GcsIO) -> None:
    root = f"gs://{BUCKET}/out"
    data = bytes(range(256)) * 10_000
    for number in range(3):
        with FileSystems.create(f"{root}/part-{number}") as file:
            file.write(data)
    (found,) = FileSystems.match([f"{root}/part-*"])
    assert [(each.path, each.size_in_bytes) for each in found.metadata_list] == [
        (f"{root}/part-{number}", len(data)) for number in range(3)
    ]
    with FileSystems.open(f"{root}/part-1") as file:
        file.seek(1000)
        assert file.read(10) == data[1000:1010]
        assert file.read() == data[1010:]
    assert FileSystems.exists(f"{root}/part-1")
    assert not FileSystems.exists(f"{root}/part-9")
    FileSystems.rename([f"{root}/part-1"], [f"{root}/done"])
    assert not FileSystems.exists(f"{root}/part-1")
    FileSystems.copy([f"{root}/done"], [f"{root}/again"])
    FileSystems.delete([f"{root}/part-*", f"{root}/done"])
    assert list(beam.list_files(root + "/")) == [(f"{root}/again", len(data))]
    assert beam.size(f"{root}/again") == len(data)
    assert beam.get_bucket(BUCKET).name == BUCKET
    assert {each.status for each in service.requests} <= {200, 206, 404, 416}  # 416: a read at the end of a file


def test_beam_deletes_in_batches(service: Storage, beam: gcsio.GcsIO) -> None:
    for number in range(120):
        beam.client.bucket(BUCKET).blob(f"d/{number}").upload_from_string(b"")
    paths = [f"gs://{BUCKET}/d/{number}" for number in range(120)]
    for first in (0, 100):  # as Beam's file system does
        assert {status for _, status in beam.delete_batch(paths[first : first + 100])} <= {None}
    assert list(beam.list_files(f"gs://{BUCKET}/d/")) == []


# The client drops a connection whose answer was an error, without closing it.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_beam_gets_over_failing_calls(service: Storage, beam: gcsio.GcsIO) -> None:
    for n, kind in ((1, "status"), (3, "cut"), (5, "lost")):
        service.faults.at(n, Fault(kind))  # type: ignore[arg-type]
    data = b"x" * 100_000
    for number in range(3):
        with FileSystems.create(f"gs://{BUCKET}/f/{number}") as file:
            file.write(data)
        with FileSystems.open(f"gs://{BUCKET}/f/{number}") as file:
            assert file.read() == data
    assert [each.fault.kind for each in service.requests if each.fault] == ["status", "cut", "lost"]

"""What guards objects in the local Cloud Storage: keys, ETags, holds, retention, versions, access and who pays.

Expected values are those of Cloud Storage's documentation.
"""

import base64
import gzip
import hashlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import google.auth.credentials
import google_crc32c
import pytest
import requests
from google.api_core import exceptions
from google.cloud import storage as api

from localcloud import BUCKET, PROJECT
from localcloud.storage import Storage


@pytest.fixture(scope="module")
def running() -> Iterator[Storage]:
    with Storage() as made:
        yield made


@pytest.fixture
def service(running: Storage, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """Nothing is stored but an empty bucket."""
    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    running.store.buckets.clear()
    running.denied.clear()
    running.create_bucket(BUCKET, "US")
    return running


@pytest.fixture
def client(service: Storage) -> Iterator[api.Client]:
    with api.Client(
        project=PROJECT,
        credentials=google.auth.credentials.AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options={"api_endpoint": service.url},
    ) as made:
        yield made


@pytest.fixture
def bucket(client: api.Client) -> Any:
    return client.get_bucket(BUCKET)


def put(bucket: Any, name: str = "a", data: bytes = b"1", **how: Any) -> Any:
    blob = bucket.blob(name, **how)
    blob.upload_from_string(data)
    return blob


def reason(error: Any) -> str:
    return str(error.value.response.json()["error"]["errors"][0]["reason"])


# Customer-supplied keys


def headers(secret: bytes, **other: str) -> dict[str, str]:
    found = {
        "algorithm": "AES256",
        "key": base64.b64encode(secret).decode(),
        "key_sha256": base64.b64encode(hashlib.sha256(secret).digest()).decode(),
    } | other
    return {f"x-goog-encryption-{name.replace('_', '-')}": value for name, value in found.items()}


def test_an_object_is_read_with_its_key_only(bucket: Any) -> None:
    key, other = b"k" * 32, b"o" * 32
    blob = put(bucket, data=b"secret", encryption_key=key)
    assert blob._properties["customerEncryption"] == {
        "encryptionAlgorithm": "AES256",
        "keySha256": base64.b64encode(hashlib.sha256(key).digest()).decode(),
    }
    assert blob.download_as_bytes() == b"secret"
    for without, said in (
        (bucket.blob("a"), "resourceIsEncryptedWithCustomerEncryptionKey"),
        (bucket.blob("a", encryption_key=other), "customerEncryptionKeyIsIncorrect"),
    ):
        with pytest.raises(exceptions.BadRequest) as refused:
            without.download_as_bytes()
        assert reason(refused) == said
    put(bucket, "plain")
    with pytest.raises(exceptions.BadRequest) as refused:
        bucket.blob("plain", encryption_key=key).download_as_bytes()
    assert reason(refused) == "resourceNotEncryptedWithCustomerEncryptionKey"
    # "the object's checksums are not in its metadata unless the key is given"
    assert bucket.get_blob("a").crc32c is None
    assert (
        bucket.get_blob("a", encryption_key=key).md5_hash == base64.b64encode(hashlib.md5(b"secret").digest()).decode()
    )
    target = bucket.blob("a", encryption_key=other)
    target.rewrite(blob)  # the key is changed
    assert target.download_as_bytes() == b"secret"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"algorithm": "DES"}, "customerEncryptionAlgorithmIsInvalid"),
        ({"key": "c2hvcnQ="}, "customerEncryptionKeyFormatIsInvalid"),
        ({"key": "no base64!"}, "customerEncryptionKeyFormatIsInvalid"),
        ({"key_sha256": "AAAA"}, "customerEncryptionKeySha256IsInvalid"),
    ],
)
def test_a_key_that_can_t_be_is_400(service: Storage, wrong: dict[str, str], said: str) -> None:
    url = f"{service.url}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name=a"
    answer = requests.post(url, data=b"1", headers=headers(b"k" * 32, **wrong), timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"]["errors"][0]["reason"] == said


# ETags


def test_etags_hold_for_metadata_media_and_buckets(bucket: Any) -> None:
    blob = put(bucket)
    first = blob.etag
    for read in (blob.reload, blob.download_as_bytes):
        read(if_etag_match=first)
        read(if_etag_not_match="other")
        with pytest.raises(exceptions.PreconditionFailed):
            read(if_etag_match="other")
        with pytest.raises(exceptions.NotModified):
            read(if_etag_not_match=first)
    blob.content_type = "text/html"
    blob.patch()
    with pytest.raises(exceptions.PreconditionFailed):
        blob.reload(if_etag_match=first)
    about = requests.get(blob.self_link, timeout=10)
    assert about.headers["ETag"] == about.json()["etag"]
    with pytest.raises(exceptions.NotModified):
        bucket.reload(if_etag_not_match=bucket.etag)
    refused = requests.delete(blob.self_link, headers={"If-Match": first}, timeout=10)
    assert refused.status_code == 412


# Holds and retention


@pytest.mark.parametrize("hold", ["temporary_hold", "event_based_hold"])
def test_what_is_held_is_neither_deleted_nor_replaced(bucket: Any, hold: str) -> None:
    blob = put(bucket)
    setattr(blob, hold, True)
    blob.patch()
    for change in (blob.delete, lambda: put(bucket), lambda: bucket.blob("a").compose([blob])):
        with pytest.raises(exceptions.Forbidden, match="hold") as refused:
            change()
        assert reason(refused) == "objectUnderActiveHold"
    blob.metadata = {"k": "v"}
    blob.patch()  # "you can edit the object's metadata"
    setattr(blob, hold, False)
    blob.patch()
    blob.delete()


def test_a_policy_retains_until_its_period_is_over(bucket: Any) -> None:
    bucket.retention_period = 1
    bucket.patch()
    blob = put(bucket)
    blob.reload()
    assert blob.retention_expiration_time == blob.time_created + timedelta(seconds=1)
    for change in (blob.delete, lambda: put(bucket)):
        with pytest.raises(exceptions.Forbidden) as refused:
            change()
        assert reason(refused) == "retentionPolicyNotMet"
    time.sleep(1.1)
    blob.delete()


def test_a_hold_for_an_event_begins_the_period_when_it_ends(bucket: Any) -> None:
    bucket.default_event_based_hold = True
    bucket.retention_period = 100
    bucket.patch()
    blob = put(bucket)
    blob.reload()
    assert (blob.event_based_hold, blob.retention_expiration_time) == (True, None)
    before = datetime.now(UTC)
    blob.event_based_hold = False
    blob.patch()
    assert before <= blob.retention_expiration_time - timedelta(seconds=100) <= datetime.now(UTC)


def test_a_locked_policy_only_becomes_longer(bucket: Any) -> None:
    bucket.retention_period = 100
    bucket.patch()
    bucket.lock_retention_policy()
    for period in (50, None):
        bucket.retention_period = period
        with pytest.raises(exceptions.Forbidden):
            bucket.patch()
    bucket.reload()
    bucket.retention_period = 200
    bucket.patch()
    assert (bucket.retention_period, bucket.retention_policy_locked) == (200, True)


def test_a_retention_of_an_object_is_shortened_by_override_only(client: api.Client) -> None:
    bucket = client.create_bucket("kept", enable_object_retention=True)
    assert bucket.object_retention_mode == "Enabled"
    blob = put(bucket)
    later = datetime.now(UTC) + timedelta(hours=1)
    blob.retention.mode, blob.retention.retain_until_time = "Unlocked", later
    blob.patch()
    with pytest.raises(exceptions.Forbidden):
        blob.delete()
    blob.retention.mode, blob.retention.retain_until_time = None, None
    with pytest.raises(exceptions.Forbidden):
        blob.patch()
    blob.patch(override_unlocked_retention=True)
    blob.retention.mode, blob.retention.retain_until_time = "Locked", later
    blob.patch()
    blob.retention.mode, blob.retention.retain_until_time = None, None
    with pytest.raises(exceptions.Forbidden):
        blob.patch(override_unlocked_retention=True)
    other = put(client.get_bucket(BUCKET))
    other.retention.mode, other.retention.retain_until_time = "Locked", later
    with pytest.raises(exceptions.BadRequest, match="not enabled"):
        other.patch()


# Generations


def test_versioning_keeps_what_was_replaced_and_deleted(bucket: Any) -> None:
    bucket.versioning_enabled = True
    bucket.patch()
    generations = [put(bucket, data=data).generation for data in (b"1", b"2", b"3")]
    put(bucket, "b")
    assert bucket.blob("a", generation=generations[0]).download_as_bytes() == b"1"
    bucket.delete_blob("a")
    assert [each.name for each in bucket.list_blobs()] == ["b"]
    listing = bucket.list_blobs(versions=True, page_size=2)
    pages = [[(each.name, each.generation) for each in page] for page in listing.pages]
    expected = [("a", each) for each in generations]
    assert pages[0] == expected[:2]
    assert pages[1][0] == expected[2]
    old = bucket.get_blob("a", generation=generations[1])
    assert old.time_deleted is not None
    bucket.copy_blob(old, bucket, "a", source_generation=generations[1])
    assert bucket.blob("a").download_as_bytes() == b"2"
    with pytest.raises(exceptions.Conflict):
        bucket.delete()
    old.delete()
    with pytest.raises(exceptions.NotFound):
        old.reload()


def test_soft_delete_brings_back_objects_and_buckets(client: api.Client) -> None:
    bucket = client.bucket("soft")
    bucket.soft_delete_policy.retention_duration_seconds = 7 * 86400
    bucket.create()
    blob = put(bucket, data=b"back")
    blob.delete()
    assert [each.generation for each in bucket.list_blobs(soft_deleted=True)] == [blob.generation]
    restored = bucket.restore_blob("a", generation=blob.generation)
    assert restored.generation > blob.generation
    assert restored.download_as_bytes() == b"back"
    restored.delete()
    bucket.delete()
    assert client.restore_bucket("soft", generation=bucket.generation).soft_delete_time is None


def test_a_move_is_one_step_to_another_name(bucket: Any) -> None:
    source = put(bucket, data=b"1")
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.move_blob(source, "b/c", if_source_generation_match=source.generation + 1)
    moved = bucket.move_blob(source, "b/c", if_source_generation_match=source.generation)
    assert moved.download_as_bytes() == b"1"
    assert [each.name for each in bucket.list_blobs()] == ["b/c"]


# Checksums


def test_checksums_of_compositions_and_of_uploads_in_pieces(service: Storage, bucket: Any) -> None:
    parts = [put(bucket, str(each), data) for each, data in enumerate((b"one", b"two"))]
    whole = bucket.blob("whole")
    whole.compose(parts)
    again = bucket.blob("again")
    again.compose([whole, parts[0]])
    expected = base64.b64encode(google_crc32c.Checksum(b"onetwoone").digest()).decode()
    assert (again.crc32c, again.md5_hash, again.component_count) == (expected, None, 3)
    url = f"{service.url}/upload/storage/v1/b/{BUCKET}/o?uploadType=resumable&name=pieces"
    for said_first, said_last in (("AAAAAA==", None), (None, "crc32c=AAAAAA==")):
        begun = requests.post(url, json={"crc32c": said_first}, timeout=10)
        last = {"X-Goog-Hash": said_last} if said_last else {}
        refused = requests.put(begun.headers["Location"], data=b"onetwo", headers=last, timeout=10)
        assert refused.status_code == 400
        assert "crc32c" in refused.json()["error"]["message"]
    assert not bucket.blob("pieces").exists()
    begun = requests.post(url, json={}, timeout=10)
    assert requests.delete(begun.headers["Location"], timeout=10).status_code == 499  # cancelled
    assert requests.put(begun.headers["Location"], data=b"1", timeout=10).status_code == 404


def test_uploads_may_be_packed_for_their_way(service: Storage, bucket: Any) -> None:
    """`gcloud storage cp -J` packs an upload; the object is what was packed."""
    url = f"{service.url}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name=a"
    packed = {"Content-Encoding": "gzip", "Content-Type": "text/plain"}
    requests.post(url, data=gzip.compress(b"plain"), headers=packed, timeout=10).raise_for_status()
    blob = bucket.get_blob("a")
    assert (blob.download_as_bytes(raw_download=True), blob.content_encoding) == (b"plain", None)
    assert requests.post(url, data=b"plain", headers=packed, timeout=10).status_code == 400
    begun = bucket.blob("b").create_resumable_upload_session()
    ranged = {"Content-Encoding": "gzip", "Content-Range": "bytes 0-4/5"}  # of what is unpacked, as gcloud sends it
    assert requests.put(begun, data=gzip.compress(b"plain"), headers=ranged, timeout=10).json()["size"] == "5"


# Access, and who pays


def test_lists_say_who_may_read(bucket: Any) -> None:
    blob = put(bucket)
    blob.acl.reload()
    blob.acl.all().grant_read()
    blob.acl.save()
    assert blob.acl.all().get_roles() == {"READER"}
    blob.acl.all().revoke_read()
    blob.acl.save()
    assert blob.acl.all().get_roles() == set()
    bucket.default_object_acl.save_predefined("publicRead")
    assert put(bucket, "b").acl.all().get_roles() == {"READER"}
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    bucket.patch()
    with pytest.raises(exceptions.BadRequest, match="uniform bucket-level access"):
        blob.acl.reload()
    with pytest.raises(exceptions.BadRequest, match="uniform bucket-level access"):
        bucket.blob("c").upload_from_string(b"", predefined_acl="publicRead")


def test_policies_are_changed_as_they_were_read_only(bucket: Any) -> None:
    policy = bucket.get_iam_policy(requested_policy_version=3)
    policy.bindings.append({"role": "roles/storage.objectViewer", "members": {"user:me@example.com"}})
    assert bucket.set_iam_policy(policy).bindings[-1]["members"] == {"user:me@example.com"}
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.set_iam_policy(policy)  # its ETag is that of the policy before
    bucket.iam_configuration.public_access_prevention = "enforced"
    bucket.patch()
    with pytest.raises(exceptions.PreconditionFailed, match="public access prevention"):
        bucket.make_public()


def test_whoever_is_no_owner_pays_for_a_bucket_whose_requester_pays(service: Storage, client: api.Client) -> None:
    bucket = client.bucket("paying")
    bucket.requester_pays = True
    bucket.create()
    put(bucket)
    service.denied.add("resourcemanager.projects.createBillingAssignment")
    with pytest.raises(exceptions.BadRequest, match="requester pays bucket but no user project") as refused:
        bucket.blob("a").reload()
    assert reason(refused) == "required"
    assert client.bucket("paying", user_project=PROJECT).blob("a").download_as_bytes() == b"1"
    service.denied.add("serviceusage.services.use")
    with pytest.raises(exceptions.Forbidden, match=r"serviceusage\.services\.use"):
        client.bucket("paying", user_project=PROJECT).blob("a").reload()


def test_buckets_keep_what_they_are_told(client: api.Client) -> None:
    bucket = client.create_bucket("labelled", location="eu")
    bucket.labels = {"a": "1", "b": "2"}
    bucket.patch()
    bucket.labels = {"a": "1"}
    bucket.update()
    assert client.get_bucket("labelled").labels == {"a": "1"}
    bucket.storage_class = "COLDEST"
    with pytest.raises(exceptions.BadRequest, match="COLDEST"):
        bucket.patch()
    for wrong in ("Upper", "a", "x" * 64):
        with pytest.raises(exceptions.BadRequest, match="Invalid bucket name"):
            client.create_bucket(wrong)


# The XML API


def test_the_xml_api_reads_writes_and_lists(service: Storage, bucket: Any) -> None:
    url = f"{service.url}/{BUCKET}/d/a%20b"
    about = {"Content-Type": "text/plain", "x-goog-meta-k": "v", "x-goog-if-generation-match": "0"}
    written = requests.put(url, data=b"123", headers=about, timeout=10)
    assert written.headers["ETag"] == f'"{hashlib.md5(b"123").hexdigest()}"'
    again = requests.put(url, data=b"123", headers=about, timeout=10)
    assert (again.status_code, "<Code>PreconditionFailed</Code>" in again.text) == (412, True)
    blob = bucket.get_blob("d/a b")
    assert (blob.metadata, blob.content_type, blob.download_as_bytes()) == ({"k": "v"}, "text/plain", b"123")
    assert blob.public_url.endswith("/d/a%20b")
    read = requests.get(url, headers={"Range": "bytes=1-"}, timeout=10)
    assert (read.status_code, read.content, read.headers["x-goog-meta-k"]) == (206, b"23", "v")
    assert requests.head(url, timeout=10).headers["Content-Length"] == "3"
    listed = requests.get(f"{service.url}/{BUCKET}?delimiter=/", timeout=10).text
    assert "<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>" in listed
    assert requests.delete(url, timeout=10).status_code == 204
    gone = requests.get(url, timeout=10)
    assert (gone.status_code, "<Code>NoSuchKey</Code>" in gone.text) == (404, True)
    assert requests.get(f"{service.url}/{BUCKET}?acl", timeout=10).status_code == 501


def test_signed_links_end(service: Storage, bucket: Any) -> None:
    put(bucket)
    begin = (datetime.now(UTC) - timedelta(seconds=10)).strftime("%Y%m%dT%H%M%SZ")
    for seconds, status in ((60, 200), (5, 400)):
        signed = {"X-Goog-Date": begin, "X-Goog-Expires": str(seconds), "X-Goog-Signature": "00"}
        assert requests.get(f"{service.url}/{BUCKET}/a", params=signed, timeout=10).status_code == status


def test_an_upload_in_parts_at_once(bucket: Any, tmp_path: Any) -> None:
    """Google's transfer manager uploads the parts of a file by the XML API."""
    from google.cloud.storage import transfer_manager

    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * 4096 * 11)
    blob = bucket.blob("large")
    transfer_manager.upload_chunks_concurrently(
        str(path), blob, chunk_size=5 << 20, max_workers=2, worker_type=transfer_manager.THREAD
    )
    assert blob.download_as_bytes() == path.read_bytes()
    blob.reload()
    assert (blob.component_count, blob.md5_hash) == (3, None)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"storage/v1/b/{BUCKET}/o?maxResults=none", ""),
        ("GET", f"storage/v1/b/{BUCKET}/o?maxResults=-1", ""),
        ("GET", f"storage/v1/b/{BUCKET}/o?pageToken=x", ""),
        ("GET", "storage/v1/b?maxResults=0", ""),
        ("PATCH", f"storage/v1/b/{BUCKET}", "{"),
        ("POST", f"upload/storage/v1/b/{BUCKET}/o?uploadType=multipart", "no parts"),
        ("POST", f"upload/storage/v1/b/{BUCKET}/o?uploadType=none", ""),
        ("POST", f"upload/storage/v1/b/{BUCKET}/o?uploadType=media&name=..", ""),
        ("PUT", f"{BUCKET}/a?partNumber=x&uploadId=UPLOAD", ""),
        ("POST", f"{BUCKET}/a?uploadId=UPLOAD", "<no xml"),
        ("GET", f"{BUCKET}/a?X-Goog-Expires=soon", ""),
    ],
)
def test_what_can_t_be_read_is_400(service: Storage, bucket: Any, method: str, path: str, body: str) -> None:
    begun = requests.post(f"{service.url}/{BUCKET}/a?uploads", timeout=10).text
    path = path.replace("UPLOAD", begun.partition("<UploadId>")[2].partition("<")[0])
    answer = requests.request(method, f"{service.url}/{path}", data=body, headers={"Content-Type": "x/y"}, timeout=10)
    assert answer.status_code == 400, answer.text


def test_an_object_that_was_written_without_a_list_has_the_buckets(bucket: Any) -> None:
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    bucket.patch()
    blob = put(bucket)
    bucket.iam_configuration.uniform_bucket_level_access_enabled = False
    bucket.patch()
    before = blob.etag
    blob.acl.reload()
    assert len(list(blob.acl)) == 3
    answer = requests.post(f"{blob.self_link}/acl", json={"entity": "allUsers", "role": "READER"}, timeout=10)
    assert answer.json()["role"] == "READER"
    blob.reload()
    assert (blob.metageneration, blob.etag != before) == (2, True)


def test_what_is_deleted_is_kept_by_no_upload(service: Storage, bucket: Any) -> None:
    begun = bucket.blob("a").create_resumable_upload_session()
    assert requests.put(begun, data=b"1" * 1000, timeout=10).status_code == 200
    bucket.delete_blob("a")
    (session,) = [each for each in service.store.sessions.values() if each.done and each.name == "a"]
    assert session.done is not None
    assert not session.received + session.done.data

"""GcsStorage over real connections that fail in every way: nothing is lost, done twice, or told in more than a line.

What it has in common with LocalStorage is in tests/contract, its locks are in test_leases.py.
"""

import contextlib
import json
import logging
import random
import threading
from collections.abc import Callable
from email.message import Message
from pathlib import Path

import luigi.configuration
import pytest

import localcloud
from localcloud.faults import Fault, Kind
from localcloud.serving import Request
from localcloud.storage import Storage
from millrace.core.config import Config, Gcp
from millrace.core.storage import read_all
from millrace.errors import AccessError, ConflictError, ManifestError, ServiceError, SettingError
from millrace.gcloud.clients import Google
from millrace.gcloud.gcs import GcsStorage
from millrace.tasks import session, settings

#: What a storage is asked for, each with the call that it comes down to.
OPERATIONS: dict[str, tuple[str, Callable[[GcsStorage, str], object]]] = {
    "read": ("objects.get", lambda gcs, folder: getattr(gcs.read("a/there"), "data", None)),
    "sizes": ("objects.list", lambda gcs, folder: gcs.sizes("")),
    "create": ("objects.insert", lambda gcs, folder: gcs.create("a/new", b"new", {"c": "3"})),
    "replace": ("objects.insert", lambda gcs, folder: gcs.replace("a/there", b"new") and None),
    "replace that version": ("objects.insert", lambda gcs, folder: gcs.replace("a/new", b"new", "") and None),
    "note": ("objects.patch", lambda gcs, folder: gcs.note("a/there", {"b": "2"})),
    "notes": ("objects.list", lambda gcs, folder: gcs.notes("there", ["a", "b"])),
    "list": ("objects.list", lambda gcs, folder: list(gcs.list(""))),
    "copy": ("objects.rewrite", lambda gcs, folder: gcs.copy("a/there", "new")),
    "delete": ("objects.delete", lambda gcs, folder: gcs.delete("a/there")),
    "delete a folder": ("batch", lambda gcs, folder: gcs.delete("below")),
    "fetch": ("objects.get", lambda gcs, folder: Path(gcs.fetch("a/there", folder)).read_bytes()),
}


@pytest.fixture(params=OPERATIONS)
def operation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(folder: str) -> GcsStorage:
    """A storage in the bucket, furnished with what OPERATIONS take for granted."""
    gcs = GcsStorage(f"gs://{localcloud.BUCKET}/{folder}", session.current().google)
    gcs.create("a/there", b"old", {"a": "1"})
    for name in ("x", "y", "z"):
        gcs.create(f"below/{name}", b"")
    return gcs


def state(folder: str) -> dict[str, tuple[bytes, object]]:
    """Every object below a folder of the bucket: its bytes and metadata."""
    found = session.current().google.storage.list_blobs(localcloud.BUCKET, prefix=f"{folder}/")
    return {blob.name.removeprefix(folder): (blob.download_as_bytes(), blob.metadata) for blob in found}


def calls(service: Storage, work: Callable[[], object]) -> list[str]:
    """The calls that some work makes."""
    before = len(service.requests)
    work()
    return [answered.call for answered in service.requests[before:]]


@pytest.mark.parametrize(("kind", "status"), [("lost", 0), ("cut", 0), ("status", 429), ("status", 503)])
def test_what_fails_in_passing_is_done_all_the_same(
    service: Storage, tmp_path: Path, operation: str, kind: Kind, status: int
) -> None:
    """An operation whose call fails in passing, or is done but not answered, ends as if nothing had been."""
    call, work = OPERATIONS[operation]
    expected = work(opened("undisturbed"), str(tmp_path / "1"))
    disturbed = opened("disturbed")
    service.faults.at(1, Fault(kind, status=status), call=call)
    assert work(disturbed, str(tmp_path / "2")) == expected
    assert [answered.fault is not None for answered in service.requests].count(True) == 1
    assert state("disturbed") == state("undisturbed")


def test_version_after_a_lost_answer_is_the_one_that_was_written(gcs: GcsStorage, service: Storage) -> None:
    """A replace whose answer was lost gives the version that it made, good for the next."""
    first = gcs.replace("f", b"1", "")
    service.faults.at(1, Fault("lost"), call="objects.insert")
    second = gcs.replace("f", b"2", first)
    gcs.replace("f", b"3", second)


def test_what_somebody_else_wrote_is_not_taken_for_ours(gcs: GcsStorage, service: Storage) -> None:
    """A first try that failed does not turn another's file into ours, and without one not even the same bytes do."""
    gcs.create("f", b"theirs")
    service.faults.at(1, Fault("status", status=503), call="objects.insert")
    with pytest.raises(ConflictError, match="gs://millrace-test/data/f was written by somebody else"):
        gcs.create("f", b"ours")
    with pytest.raises(ConflictError):
        gcs.create("f", b"theirs")


def test_a_batch_of_which_parts_fail_is_finished(gcs: GcsStorage, service: Storage) -> None:
    """Deleting a folder whose files are partly gone by then deletes the rest, in a request for each hundred."""
    for number in range(150):
        gcs.create(f"d/{number}", b"")
    service.faults.at(1, Fault("lost"), call="batch")
    assert calls(service, lambda: gcs.delete("d")) == ["objects.list", "batch", "batch", "batch"]
    assert list(gcs.list("")) == []


def test_many_files_at_once_share_connections(
    gcs: GcsStorage, service: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    """Reading many files, however slow each is, asks for no more connections than the client keeps: it would warn."""
    paths = [f"d/{number}" for number in range(32)]
    for number, path in enumerate(paths):
        gcs.create(path, b"%d" % number)
        service.faults.at(number + 1, Fault("delay", seconds=0.05), call="objects.get")
    with caplog.at_level(logging.WARNING):
        found = read_all(gcs, paths)
    assert [there and there.data for there in found] == [b"%d" % number for number in range(32)]
    assert caplog.messages == []


def test_a_large_file_arrives_whole(gcs: GcsStorage, service: Storage, tmp_path: Path) -> None:
    """A file too large for one request is written and read whole, though answers are lost on the way."""
    data = random.Random(1).randbytes(20 << 20)
    service.faults.at(1, Fault("lost"), call="objects.insert.piece")
    service.faults.at(1, Fault("cut"), call="objects.get")
    gcs.create("large", data)
    assert Path(gcs.fetch("large", str(tmp_path))).read_bytes() == data


@pytest.mark.parametrize("seed", range(3))
def test_one_call_in_five_failing_changes_nothing(gcs: GcsStorage, service: Storage, seed: int) -> None:
    """Hundreds of operations with a fifth of all calls failing at random end in the same files as on a good day."""
    service.faults.randomly(0.2, seed)
    dice, expected = random.Random(seed), dict[str, bytes]()
    for number in range(100):
        path, data = f"d/{dice.randrange(8)}", b"%d" % number
        match dice.randrange(5):
            case 0 if path not in expected:
                gcs.create(path, data)
                expected[path] = data
            case 1 | 0:
                there = gcs.read(path)
                assert (there.data if there else None) == expected.get(path)
                gcs.replace(path, data, there.version if there else "")
                expected[path] = data
            case 2:
                gcs.delete(path)
                expected.pop(path, None)
            case 3 if path in expected:
                gcs.copy(path, f"{path}-copy")
                expected[f"{path}-copy"] = expected[path]
            case _:
                assert gcs.sizes("d") == {path: len(expected[path]) for path in sorted(expected)}
    service.faults.clear()
    assert {path: content for path, (content, _) in state("data").items()} == {f"/{p}": d for p, d in expected.items()}


def test_bytes_and_version_that_are_read_belong_together(gcs: GcsStorage) -> None:
    """While a file is written again and again, whoever reads it gets the version of just those bytes."""
    written = {gcs.replace("f", b"0"): b"0"}
    over = threading.Event()

    def write() -> None:
        for number in range(1, 150):
            written[gcs.replace("f", b"%d" % number)] = b"%d" % number
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    found = []
    while not over.is_set():
        found.append(gcs.read("f"))
    writer.join()
    assert all(there is not None and written[there.version] == there.data for there in found)


def test_a_note_is_replaced_and_leaves_the_file_as_it_is(gcs: GcsStorage) -> None:
    """note replaces the whole note and keeps version and bytes; without one the note is empty; one needs a file."""
    gcs.create("a/f", b"1", {"kept": "no", "changed": "1"})
    gcs.create("b/f", b"2")
    before = gcs.read("a/f")
    gcs.note("a/f", {"changed": "2", "new": "ünïcödé"})
    assert gcs.notes("f", ["a", "b"]) == {"a/f": {"changed": "2", "new": "ünïcödé"}, "b/f": {}}
    assert gcs.read("a/f") == before
    with pytest.raises(ConflictError, match="data/c/f was deleted by somebody else"):
        gcs.note("c/f", {"a": "b"})


def test_thousands_of_files_take_as_few_requests_as_can_be(gcs: GcsStorage, service: Storage) -> None:
    """2,500 manifests' notes are 3 requests where a page is a thousand, and so are their names and sizes.

    Each asks for more than that, since Cloud Storage may give more. To delete them takes 25 requests besides.
    """
    expected = [f"a/{number:04d}/m" for number in range(2500)]
    for number, path in enumerate(expected):
        body = "\r\n".join(
            ["--b", "Content-Type: application/json", "", json.dumps({"metadata": {"number": str(number)}})]
            + ["--b", "Content-Type: text/plain", "", "data", "--b--", ""]
        )
        headers = Message()
        headers["Content-Type"] = "multipart/related; boundary=b"
        query = {"uploadType": "multipart", "name": f"data/{path}"}
        target = f"/upload/storage/v1/b/{localcloud.BUCKET}/o"
        asked = Request("POST", target, query, headers, body.encode(), target, "objects.insert")
        assert service.handle(asked).status == 200
    found: dict[str, object] = {}
    assert calls(service, lambda: found.update(gcs.notes("m", ["a", "b"]))) == ["objects.list"] * 3
    assert found == {path: {"number": str(number)} for number, path in enumerate(expected)}
    assert calls(service, lambda: found.update(gcs.sizes("a"))) == ["objects.list"] * 3
    assert found == dict.fromkeys(expected, 4)
    assert list(gcs.list("a", "m")) == expected
    assert {each.query["maxResults"] for each in service.requests if each.call == "objects.list"} == {"5000"}
    assert calls(service, lambda: gcs.delete("a")) == ["objects.list"] * 3 + ["batch"] * 25
    assert list(gcs.list("")) == []


def test_each_operation_is_as_few_requests_as_can_be(gcs: GcsStorage, service: Storage) -> None:
    """One request each for what is done most; a file that is not there costs a second one once."""
    assert calls(service, lambda: gcs.read("f")) == ["objects.get", "objects.list"]
    assert calls(service, lambda: gcs.read("f")) == ["objects.get"]
    assert calls(service, lambda: gcs.create("f", b"", {"a": "b"})) == ["objects.insert"]
    assert calls(service, lambda: gcs.replace("f", b"")) == ["objects.insert"]
    with pytest.raises(ConflictError):
        gcs.create("f", b"")
    assert calls(service, lambda: gcs.copy("f", "g")) == ["objects.rewrite"]
    assert calls(service, lambda: gcs.delete("f")) == ["objects.list", "objects.delete"]
    with contextlib.ExitStack() as held:
        assert calls(service, lambda: held.enter_context(gcs.lock("l"))) == ["objects.insert"]
        assert calls(service, held.close) == ["objects.delete"]


def test_bucket_that_does_not_exist_is_a_wrong_setting(service: Storage, tmp_path: Path, operation: str) -> None:
    """Every operation in a bucket that is not there says so in one line, and which setting names it."""
    gcs = GcsStorage("gs://no-such-bucket/data", session.current().google)
    with pytest.raises(SettingError) as raised:
        OPERATIONS[operation][1](gcs, str(tmp_path))
    said, _, whence = str(raised.value).rpartition(" (")
    assert said == (
        "the bucket 'no-such-bucket' of storage 'gs://no-such-bucket/data' does not exist; create it, "
        "or set storage in [millrace] to one that does"
    )
    assert whence == f"{settings.origin('millrace', 'storage')})"


def test_what_is_not_permitted_is_said_with_its_name(service: Storage, tmp_path: Path, operation: str) -> None:
    """Every operation that lacks a permission says in one line what it was, where, and which permission."""
    gcs = opened("data")
    kinds = ("get", "list", "create", "update", "delete")
    service.denied |= {f"storage.objects.{kind}" for kind in kinds}
    with pytest.raises(AccessError) as raised:
        OPERATIONS[operation][1](gcs, str(tmp_path))
    said = str(raised.value)
    assert "gs://millrace-test/data" in said
    assert "does not have storage.objects." in said
    assert "\n" not in said
    assert "http" not in said


def test_without_credentials_the_error_says_what_to_do(
    gcs: GcsStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No credentials anywhere is one line that says how to get some."""
    with monkeypatch.context() as environment:
        environment.delenv("GOOGLE_APPLICATION_CREDENTIALS")
        environment.setenv("CLOUDSDK_CONFIG", str(tmp_path))
        environment.setenv("NO_GCE_CHECK", "true")
        with pytest.raises(AccessError, match="there are no Google Cloud credentials; run `gcloud auth"):
            gcs.read("f")


def test_a_service_that_stays_away_is_given_up(service: Storage, tmp_path: Path) -> None:
    """After [gcp] patience seconds of failures there is an error that passes, in one line."""
    luigi.configuration.get_config().set("gcp", "patience", "1")
    gcs = GcsStorage(f"gs://{localcloud.BUCKET}/data", session.current().google)
    service.faults.randomly(1.0, 0, kinds=("status",))
    with pytest.raises(ServiceError, match=r"could not read gs://millrace-test/data/f, tried for 1 s .*the fault plan"):
        gcs.read("f")
    with pytest.raises(ServiceError, match=r"could not write gs://millrace-test/data/f, tried for 1 s"):
        gcs.create("f", b"")
    with pytest.raises(ServiceError, match=r"could not read gs://millrace-test/data/f, tried for 1 s .*the fault plan"):
        gcs.fetch("f", str(tmp_path))
    service.faults.clear()


def test_a_file_that_has_gone_is_named(gcs: GcsStorage, tmp_path: Path) -> None:
    """To fetch or copy what is not there says which file it was."""
    for work in (lambda: gcs.fetch("a/f", str(tmp_path)), lambda: gcs.copy("a/f", "b")):
        with pytest.raises(ManifestError, match="gs://millrace-test/data/a/f is not there any more"):
            work()
    assert not list(tmp_path.rglob("f"))


def test_damaged_bytes_are_noticed(gcs: GcsStorage, service: Storage, tmp_path: Path) -> None:
    """What arrives with another checksum than it was stored with is not taken."""
    gcs.create("f", b"good")
    service.store.buckets[localcloud.BUCKET].objects["data/f"].data = b"evil"
    for work in (lambda: gcs.read("f"), lambda: gcs.fetch("f", str(tmp_path))):
        with pytest.raises(ServiceError, match="data/f: what arrived has another checksum"):
            work()
    assert not list(tmp_path.rglob("f"))


@pytest.mark.parametrize(
    ("path", "content_type", "cache_control"),
    [
        ("reports/index.html", "text/html; charset=utf-8", "no-cache"),
        ("reports/date=2026-11-01/report.html", "text/html; charset=utf-8", None),
        ("reports/report.json", "application/json", "no-cache"),
        ("a/_MANIFEST.json", "application/json", None),
        ("a/chart.png", "image/png", None),
        ("a/b.parquet", "application/octet-stream", None),
    ],
)
def test_what_people_open_has_a_type(gcs: GcsStorage, path: str, content_type: str, cache_control: str | None) -> None:
    """Browsers show pages, pictures and JSON as such, and look again for those that change in place; copies too."""
    gcs.create("plain", b"")
    gcs.create(path, b"")
    gcs.copy("plain", f"copy/{path}")
    for written in (path, f"copy/{path}"):
        blob = session.current().google.storage.bucket(localcloud.BUCKET).get_blob(f"data/{written}")
        assert (blob.content_type, blob.cache_control) == (content_type, cache_control)


def test_key_class_and_payer_are_the_settings_own(service: Storage) -> None:
    """What is written, or copied, is encrypted with [gcp] kms_key, of its storage_class, and user_project pays.

    Locks and the ledger, which are written anew again and again, are of the bucket's class.
    """
    key = "projects/p/locations/us/keyRings/r/cryptoKeys/k"
    own = Config(gcp=Gcp(kms_key=key, storage_class="NEARLINE", user_project="payer"))
    with contextlib.closing(Google(own)) as google:
        gcs = GcsStorage(f"gs://{localcloud.BUCKET}/data", google)
        gcs.create("a", b"")
        gcs.copy("a", "b")
        gcs.read("a")
        assert list(gcs.list("")) == ["a", "b"]
        gcs.delete("a")
        gcs.create("_jobs/Task.json", b"")
    assert {answered.query.get("userProject") for answered in service.requests} == {"payer"}
    for path, kind in {"b": "NEARLINE", "_jobs/Task.json": "STANDARD"}.items():
        blob = session.current().google.storage.bucket(localcloud.BUCKET).get_blob(f"data/{path}")
        assert (blob.kms_key_name, blob.storage_class) == (f"{key}/cryptoKeyVersions/1", kind)


def test_folders_that_the_console_made_are_no_files(gcs: GcsStorage) -> None:
    """The empty objects that show folders in Google's console are not listed, and go with their folder."""
    session.current().google.storage.bucket(localcloud.BUCKET).blob("data/d/").upload_from_string(b"")
    gcs.create("d/f", b"")
    assert list(gcs.list("d")) == list(gcs.sizes("d")) == ["d/f"]
    gcs.delete("d")
    assert state("data") == {}


@pytest.mark.parametrize(
    "prefix", ["d{1,2}", "a\\b", "[x]*?", "a%20b#c d", "ünï/cödé", "a//b", "/x", "..", "a+b&c=d;e:f@g"]
)
def test_a_folder_may_be_called_anything(service: Storage, tmp_path: Path, prefix: str) -> None:
    """Whatever characters its name has, what is written there is found there, and nothing of another folder."""
    gcs = GcsStorage(f"gs://{localcloud.BUCKET}/{prefix}", session.current().google)
    GcsStorage(f"gs://{localcloud.BUCKET}/{prefix}x", session.current().google).create("a/n", b"another's")
    for path in ("a/d=1/n", "b/n", "b/d{1}/n"):
        gcs.create(path, b"1", {"path": path})
    assert gcs.notes("n", ["a", "b/d{1}"]) == {path: {"path": path} for path in ("a/d=1/n", "b/d{1}/n")}
    assert list(gcs.notes("n", ["b/d{1}"])) == ["b/d{1}/n"]
    assert list(gcs.list("", "n")) == ["a/d=1/n", "b/n"]
    assert list(gcs.sizes("b/d{1}")) == ["b/d{1}/n"]
    gcs.copy("b/n", "c")
    gcs.note("c", {"new": "note"})
    assert Path(gcs.fetch("c", str(tmp_path))).read_bytes() == b"1"
    for path in ("a", "b", "c"):
        gcs.delete(path)
    assert list(gcs.list("")) == []


def test_a_bucket_needs_no_folder(service: Storage) -> None:
    """A storage may be a whole bucket."""
    gcs = GcsStorage(f"gs://{localcloud.BUCKET}", session.current().google)
    gcs.create("a/n", b"1", {"a": "b"})
    assert list(gcs.list("")) == list(gcs.list("", "n")) == ["a/n"]
    assert gcs.notes("n", ["a", "c"]) == {"a/n": {"a": "b"}}
    assert gcs.uri("a/n") == "gs://millrace-test/a/n"
    gcs.delete("a")
    assert list(gcs.list("")) == []

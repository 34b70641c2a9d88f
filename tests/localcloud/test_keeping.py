"""What `localcloud --keep DIR` keeps: all that was answered, whenever the cloud was killed."""

import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import running
from google.api_core.exceptions import GoogleAPICallError, PreconditionFailed
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, dataflow_v1beta3, storage

from localcloud import BUCKET, DATASET, PROJECT, REGION, LocalCloud, keeping
from localcloud.storage.state import Bucket

_CLOUD = [running.python(), "-m", "localcloud", "--no-emulators"]
STATES = ("RUNNING", "FAILED")


@contextmanager
def cloud(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A local cloud that keeps things in a folder; what it yields kills it with kill -9."""
    with subprocess.Popen(
        [*_CLOUD, "--keep", folder],
        env=running.environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        try:
            while not (line := process.stdout.readline()).startswith("# Ctrl-C"):
                assert line, "it ended"
                if line.startswith("export "):
                    name, _, value = line.removeprefix("export ").strip().partition("=")
                    patch.setenv(name, value.strip("'"))

            def kill() -> None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

            yield kill
            process.send_signal(signal.SIGINT)
            process.wait(30)
        finally:
            process.kill()


def create(cloud: LocalCloud, name: str) -> None:
    """Make a job, whose pipeline nobody reads."""
    options = {"options": {"temp_location": f"gs://{BUCKET}/t", "pipelineUrl": f"gs://{BUCKET}/p"}}
    place = {"temp_storage_prefix": f"storage.googleapis.com/{BUCKET}/t", "sdk_pipeline_options": options}
    with dataflow_v1beta3.JobsV1Beta3Client(**client_of(cloud)) as client:
        job = {"name": name, "type_": "JOB_TYPE_BATCH", "environment": place}
        client.create_job({"project_id": PROJECT, "location": REGION, "job": job})


def messages(cloud: LocalCloud, id: str) -> list[str]:
    """What a job says, by the API."""
    with dataflow_v1beta3.MessagesV1Beta3Client(**client_of(cloud)) as client:
        found = client.list_job_messages({"project_id": PROJECT, "location": REGION, "job_id": id})
        return [each.message_text for each in found]


def storage_of(cloud: LocalCloud) -> storage.Client:
    """A client of a cloud in this process."""
    anybody = AnonymousCredentials()  # type: ignore[no-untyped-call]
    return storage.Client(project=PROJECT, credentials=anybody, client_options={"api_endpoint": cloud.storage.url})


def client_of(cloud: LocalCloud) -> dict[str, Any]:
    anybody = AnonymousCredentials()  # type: ignore[no-untyped-call]
    options = {"api_endpoint": cloud.dataflow.url}
    return {"transport": "rest", "client_options": options, "credentials": anybody}


def test_what_was_answered_is_there_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the last answer: objects with their generations and holds, tables with rows, jobs; and once more
    after an end in peace. What was deleted stays so.
    """
    folder = tmp_path / "it's kept, ü=1"
    with cloud(folder, monkeypatch) as kill:
        with storage.Client() as client:
            bucket = client.bucket(BUCKET)
            blob = bucket.blob("a/ü?#%")
            blob.upload_from_string(b"\x00\xff" * 1000)
            blob.metadata = {"k": "v"}
            blob.patch()
            bucket.blob("gone").upload_from_string(b"1")
            bucket.blob("gone").delete()
            generation = blob.generation
        with bigquery.Client() as tables:
            tables.query_and_wait(f"CREATE TABLE {DATASET}.t AS SELECT 1 AS a, DATE '2026-11-01' AS d, [1, 2] AS r")
        kill()
    for _ in range(2):
        with cloud(folder, monkeypatch), storage.Client() as client, bigquery.Client() as tables:
            again = client.bucket(BUCKET).get_blob("a/ü?#%")
            assert (again.generation, again.metadata) == (generation, {"k": "v"})
            assert again.download_as_bytes() == b"\x00\xff" * 1000
            assert [each.name for each in client.list_blobs(BUCKET)] == ["a/ü?#%"]
            with pytest.raises(PreconditionFailed):
                client.bucket(BUCKET).blob("a/ü?#%").upload_from_string(b"", if_generation_match=0)
            [row] = tables.query_and_wait(f"SELECT a, r FROM {DATASET}.t WHERE d = '2026-11-01'")
            assert (row["a"], row["r"]) == (1, [1, 2])


def test_jobs_of_before_are_known(tmp_path: Path) -> None:
    """One that was over is as it was; one that ran when the cloud ended begins anew, by the same id."""
    with LocalCloud(keep=tmp_path, emulators=[]) as before:
        before.dataflow.hold("held")
        before.dataflow.fail("bad", "no luck")
        for name in ("held", "bad"):
            create(before, name)
        running.wait_for(lambda: [job.state for job in before.dataflow.jobs] == [f"JOB_STATE_{s}" for s in STATES], 20)
        ids, told = [job.id for job in before.dataflow.jobs], messages(before, before.dataflow.jobs[1].id)
    after = LocalCloud(keep=tmp_path, emulators=[])
    after.dataflow.hold("held")
    with after:
        assert [job.id for job in after.dataflow.jobs] == ids
        held, bad = after.dataflow.jobs
        assert (bad.state, messages(after, bad.id)) == ("JOB_STATE_FAILED", told)
        running.wait_for(lambda: held.state == "JOB_STATE_RUNNING", 20)
        assert any("the job begins anew" in said for said in messages(after, held.id))


def test_deleted_buckets_and_hmac_keys_are_there_again(tmp_path: Path) -> None:
    """A bucket that soft delete keeps is restored with what is in it, beside another one of its name."""
    policy = {"softDeletePolicy": {"retentionDurationSeconds": "604800"}}
    for again in (False, True):
        with LocalCloud(keep=tmp_path, emulators=[]) as cloud, storage_of(cloud) as client:
            if not again:
                for _ in range(2):
                    bucket = client.bucket("old")
                    client._post_resource("/b", {"name": "old", **policy}, query_params={"project": PROJECT})
                    generation = client.get_bucket("old").generation
                    bucket.delete()
                client.create_bucket("old")
                key, _ = client.create_hmac_key(service_account_email="somebody@example.com")
            else:
                found = client.get_bucket("old", soft_deleted=True, generation=generation)
                assert found.soft_delete_time is not None
                assert client.get_bucket("old").generation > generation
                assert client.get_hmac_key_metadata(key.access_id).service_account_email == "somebody@example.com"


def test_every_change_of_an_object_is_kept(tmp_path: Path) -> None:
    """Whatever the call: the store that starts again is the one that ended, and nothing else is written."""

    def make(client: storage.Client) -> None:
        bucket = client.bucket(BUCKET)
        bucket.versioning_enabled = True
        bucket.patch()
        soft = {"name": "soft", "softDeletePolicy": {"retentionDurationSeconds": "604800"}}
        client._post_resource("/b", soft, query_params={"project": PROJECT})

    def change(client: storage.Client) -> None:
        bucket, soft = client.bucket(BUCKET), client.bucket("soft")
        for name in ("a", "b", "c/d"):
            for held in (bucket, soft):
                held.blob(name).upload_from_string(name)
        bucket.blob("a").acl.save_predefined("publicRead")
        access = {"entity": "allUsers", "role": "READER"}
        client._post_resource(f"/b/{BUCKET}/o/b/acl", access)
        bucket.blob("whole").compose([bucket.blob("a"), bucket.blob("b")])
        bucket.copy_blob(bucket.blob("whole"), soft, "copied")
        bucket.move_blob(bucket.blob("c/d"), "moved")
        bucket.delete_blob("a")
        oldest = next(iter(client.list_blobs(BUCKET, versions=True, prefix="a")))
        bucket.delete_blob("a", generation=oldest.generation)
        for each in list(client.list_blobs("soft")):
            each.delete()
        [gone, *_] = [each for each in client.list_blobs("soft", soft_deleted=True) if each.name == "b"]
        soft.restore_blob("b", generation=gone.generation)

    def delete(client: storage.Client) -> None:
        client.bucket("soft").delete_blob("b")
        client.bucket("soft").delete()

    def restore(client: storage.Client) -> None:
        [gone] = client.list_buckets(soft_deleted=True)
        client._post_resource("/b/soft/restore", {}, query_params={"generation": gone.generation})

    def delete_for_good(client: storage.Client) -> None:
        bucket = client.get_bucket("soft")
        bucket.soft_delete_policy.retention_duration_seconds = 0
        bucket.patch()
        bucket.delete()

    for step in (make, change, change, delete, restore, delete_for_good):
        with LocalCloud(keep=tmp_path, emulators=[]) as before, storage_of(before) as client:
            step(client)
        with LocalCloud(keep=tmp_path, emulators=[]) as after:
            assert after.storage.store.buckets == before.storage.store.buckets, step
            assert after.storage.store.deleted == before.storage.store.deleted, step
    with sqlite3.connect(tmp_path / "localcloud.sqlite") as file:
        [written] = file.execute("SELECT count(*) FROM kept WHERE key GLOB 'storage/*/*'").fetchone()
    [bucket] = after.storage.store.buckets.values()
    assert written == sum(len(bucket.versions(name)) for name in {*bucket.objects, *bucket.replaced})


def test_a_call_costs_what_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many objects there are, one that is written is the only one that is looked at."""
    looked: list[str] = []
    plain = keeping._generations

    def generations(bucket: Bucket, name: str) -> Iterator[keeping.Item]:
        looked.append(name)
        return plain(bucket, name)

    with LocalCloud(keep=tmp_path, emulators=[]) as cloud, storage_of(cloud) as client:
        for number in range(20):
            client.bucket(BUCKET).blob(f"n{number}").upload_from_string(b"1")
        monkeypatch.setattr(keeping, "_generations", generations)
        client.bucket(BUCKET).blob("n7").upload_from_string(b"2")
        assert looked == ["n7"]


def test_what_could_not_be_written_is_with_the_next_call(tmp_path: Path) -> None:
    """As on a full disk: the call that fails says so, and nothing is missing after the next one."""
    with LocalCloud(keep=tmp_path, emulators=[]) as cloud, storage_of(cloud) as client:
        bucket = client.bucket(BUCKET)
        assert cloud._keeper
        cloud._keeper._file.execute("PRAGMA busy_timeout = 0")
        other = sqlite3.connect(tmp_path / "localcloud.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(GoogleAPICallError, match="database is locked"):
            bucket.blob("first").upload_from_string(b"1", retry=None)
        other.execute("ROLLBACK")
        other.close()
        bucket.blob("second").upload_from_string(b"2")
    with LocalCloud(keep=tmp_path, emulators=[]) as cloud:
        assert cloud.storage.store.buckets[BUCKET].names == ["first", "second"]

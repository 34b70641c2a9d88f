"""Fixtures of the engine's tests."""

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import luigi.configuration
import pytest
import running
from cloud import BUCKET, CREDENTIALS, PROJECT, Cloud
from cloud.storage import Storage
from cloud_running import Place
from dataflow_running import forget_clients
from luigid_asking import answers

from workflows.engine import clients
from workflows.engine.gcloud.gcs import GcsStorage

#: [gcp] of these tests. No lock goes by the clock, unless the test is about that (test_leases.py).
SETTINGS = {"patience": "20", "lease": "600"}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """The local cloud."""
    with Cloud() as started:
        yield started


@pytest.fixture
def place(cloud: Cloud, tmp_path: Path) -> Iterator[Place]:
    """A place of the test's own, in which nothing is held or fails afterwards; its folder looks like a partition's."""
    made = Place(cloud, tmp_path, f"date=2020-01-01/hour=5/{tmp_path.name}")
    yield made
    made.close()


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """Cloud Storage on this machine with one empty bucket; this process's clients and its children's lead there."""
    credentials = tmp_path / "credentials.json"
    credentials.write_text(json.dumps(CREDENTIALS))
    settings = tmp_path / "luigi.cfg"
    settings.write_text("[gcp]\n" + "".join(f"{key} = {value}\n" for key, value in SETTINGS.items()))
    config = luigi.configuration.get_config()
    before = {key: config.get("gcp", key, None) for key in SETTINGS}
    with Storage() as running:
        running.create_bucket(BUCKET)
        for name, value in (
            ("GOOGLE_APPLICATION_CREDENTIALS", str(credentials)),
            ("GOOGLE_CLOUD_PROJECT", PROJECT),
            ("STORAGE_EMULATOR_HOST", running.url),
            ("LUIGI_CONFIG_PATH", str(settings)),
        ):
            monkeypatch.setenv(name, value)
        for key, value in SETTINGS.items():
            config.set("gcp", key, value)
        forget_clients()
        yield running
        clients.storage_client().close()
        forget_clients()
    for key, value in before.items():
        if value is None:
            config.remove_option("gcp", key)
        else:
            config.set("gcp", key, value)


@pytest.fixture
def gcs(service: Storage) -> GcsStorage:
    """A storage in that bucket."""
    return GcsStorage(f"gs://{BUCKET}/data", clients.storage_client)


@pytest.fixture
def luigid(project: Path) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """A luigid that bin/luigid has started, and its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    process = subprocess.Popen(
        [project / "bin/luigid", "--port", str(port)],
        env=running.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        running.wait_for(lambda: process.poll() is not None or answers(port), 30)
        assert process.poll() is None
        yield process, port
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def server(luigid: tuple["subprocess.Popen[bytes]", int]) -> int:
    """The port of that luigid."""
    return luigid[1]

"""Fixtures that tests of several folders share."""

import fcntl
import functools
import gc
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import google.cloud.storage as storage_api
import luigi.configuration
import pytest
import running
from cloud_running import Place
from dataflow_running import ROOT, Set
from luigid_asking import answers
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from localcloud import BUCKET, CREDENTIALS, PROJECT, REGION, LocalCloud
from localcloud.dataflow import Dataflow
from localcloud.faults import FaultPlan
from localcloud.storage import Storage
from millrace.beam import gcs as beam_gcs
from millrace.gcloud.gcs import GcsStorage
from millrace.tasks import session
from millrace.tasks.session import Session

# UTC+14, here and in every process that a test starts, so that no test, and nothing that it tests, can lean on the
# machine's own zone: there the day is another one than in UTC for most of the hours.
os.environ["TZ"] = "Pacific/Kiritimati"
time.tzset()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage of an undisturbed run over two days of the sample; not to be changed. One for all workers.

    Its name holds what means something elsewhere: in partitions, patterns, options, SQL, shells, configuration.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    odd = "date=2020-01-01/hour=5/source=x/{dataset}/50% #?[x]*/it's ü $HOME"
    storage, done = folder / "undisturbed" / odd / "data", folder / "undisturbed.done"
    with (folder / "undisturbed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            running.succeed("Report", "--date", running.DAY, "--posts-days", 1, storage=storage)
            done.touch()
    return storage


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's root as make leaves it, its windows one day long: bin, the packages, metadata, luigi.cfg, a .venv."""
    root = tmp_path / "project"
    shutil.copytree(running.ROOT / "bin", root / "bin")
    for name in (
        "bigquery_sql",
        "localcloud",
        "millrace",
        "workflows",
        "pipelines",
        "pyproject.toml",
        "constraints.txt",
    ):
        (root / name).symlink_to(running.ROOT / name)
    (root / ".venv").symlink_to(sys.prefix)
    settings = (running.ROOT / "luigi.cfg").read_text(encoding="utf-8")
    assert "\ndays = 7\n" in settings
    (root / "luigi.cfg").write_text(settings.replace("\ndays = 7\n", "\ndays = 1\n"), encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Headless Chromium; without it the test is skipped, with CI=true it fails."""
    binary, driver = running.need("chromium"), running.need("chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    session = webdriver.Chrome(options=options, service=Service(driver))
    yield session
    session.quit()


#: [gcp] of these tests. No lock goes by the clock, unless the test is about that (test_leases.py).
SETTINGS = {"patience": "20", "lease": "600"}


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    """The local cloud."""
    with LocalCloud() as started:
        yield started


@pytest.fixture
def place(cloud: LocalCloud, tmp_path: Path) -> Iterator[Place]:
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
        with session.use(Session()):
            yield running
    for key, value in before.items():
        if value is None:
            config.remove_option("gcp", key)
        else:
            config.set("gcp", key, value)


@pytest.fixture
def gcs(service: Storage) -> GcsStorage:
    """A storage in that bucket."""
    return GcsStorage(f"gs://{BUCKET}/data", session.current().google)


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


@pytest.fixture
def cloud_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """A service with the bucket gs://bucket; the environment and pipelines of this process lead to it."""
    credentials = tmp_path / "credentials.json"
    credentials.write_text(json.dumps(CREDENTIALS))
    with Storage() as storage:
        storage.create_bucket("bucket")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.url)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))
        client = functools.cache(lambda: storage_api.Client(project="millrace-test"))
        before = beam_gcs.use(client, beam_gcs.Access)
        try:
            yield storage
        finally:
            beam_gcs.use(*before)
            client().close()
            # Google's client leaves answers that it asks for again unread: their sockets close when they are collected.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()


@pytest.fixture(scope="module")
def services() -> Iterator[tuple[Storage, Dataflow]]:
    """A storage with a bucket, and a Dataflow, with one fault plan."""
    plan = FaultPlan()
    with Storage(plan) as storage, Dataflow(storage.worker_url, plan) as service:
        storage.create_bucket(BUCKET)
        yield storage, service


@pytest.fixture
def setting() -> Iterator[Set]:
    """Sets a setting for the test: section, key, value."""
    config, before = luigi.configuration.get_config(), dict[tuple[str, str], str | None]()

    def put(section: str, key: str, value: str) -> None:
        before.setdefault((section, key), config.get(section, key, None))
        config.set(section, key, value)

    yield put
    for (section, key), value in before.items():
        if value is None:
            config.remove_option(section, key)
        else:
            config.set(section, key, value)


@pytest.fixture
def local(
    services: tuple[Storage, Dataflow], setting: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Dataflow]:
    """The Dataflow that this process's clients and settings lead to, as new."""
    storage, local = services
    credentials = tmp_path / "credentials.json"
    words = {"type": "authorized_user", "client_id": "x", "client_secret": "x", "refresh_token": "x"}
    credentials.write_text(json.dumps({**words, "token": "fake", "expiry": "2099-01-01T00:00:00Z"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.url)
    setting("millrace", "storage", ROOT)
    setting("gcp", "region", REGION)
    setting("gcp", "patience", "10")
    for key, value in {"dataflow_endpoint": local.url, "poll_max": "0.5", "cancel_wait": "10"}.items():
        setting("dataflow", key, value)
    with session.use(Session()):
        yield local
    local.faults.clear()
    local.release()
    local.duplicates, local.unseen, local.most, local.unfit = "answer", 0, math.inf, False
    for job in local.jobs:
        if not job.over:
            local.cancel(job.id)

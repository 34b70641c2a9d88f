"""Fixtures of the tests of Google's services."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from dataflow_running import ROOT, Set
from luigi.configuration import get_config

import localcloud
from localcloud.dataflow import Dataflow
from localcloud.faults import FaultPlan
from localcloud.storage import Storage
from millrace.tasks import session
from millrace.tasks.session import Session


@pytest.fixture(scope="module")
def services() -> Iterator[tuple[Storage, Dataflow]]:
    """A storage with a bucket, and a Dataflow, with one fault plan."""
    plan = FaultPlan()
    with Storage(plan) as storage, Dataflow(storage.worker_url, plan) as service:
        storage.create_bucket(localcloud.BUCKET)
        yield storage, service


@pytest.fixture
def setting() -> Iterator[Set]:
    """Sets a setting for the test: section, key, value."""
    config, before = get_config(), dict[tuple[str, str], str | None]()

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
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", localcloud.PROJECT)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.url)
    setting("millrace", "storage", ROOT)
    setting("gcp", "region", localcloud.REGION)
    setting("gcp", "patience", "10")
    for key, value in {"dataflow_endpoint": local.url, "poll_max": "0.5", "cancel_wait": "10"}.items():
        setting("dataflow", key, value)
    with session.use(Session()):
        yield local
    local.faults.clear()
    local.release()
    local.duplicates, local.unseen, local.most = "answer", 0, math.inf
    for job in local.jobs:
        if not job.over:
            local.cancel(job.id)

"""Fixtures of the local services' tests: a storage, and local Dataflows that work on it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import running
from local_dataflow import Started

from localcloud import BUCKET, CREDENTIALS, PROJECT
from localcloud.dataflow import Dataflow
from localcloud.storage import Storage


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """A storage service that this process' clients use."""
    credentials = tmp_path_factory.mktemp("credentials") / "credentials.json"
    credentials.write_text(json.dumps(CREDENTIALS))
    with Storage() as service, pytest.MonkeyPatch.context() as patch:
        service.create_bucket(BUCKET)
        patch.setenv("STORAGE_EMULATOR_HOST", service.url)
        patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))
        patch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
        yield service


@pytest.fixture(scope="module")
def shared(storage: Storage) -> Iterator[Dataflow]:
    with Dataflow(storage.worker_url) as service:
        yield service


@pytest.fixture
def dataflow(shared: Dataflow) -> Iterator[Dataflow]:
    """A service with its defaults, in which no job is left over."""
    yield shared
    shared.release()
    for job in shared.jobs:
        if not job.over and not job.asked:
            shared.cancel(job.id)
    running.wait_for(lambda: all(job.over for job in shared.jobs), 60)
    shared.faults.clear()
    assert all(job.over for job in shared.jobs)


@pytest.fixture
def special(storage: Storage) -> Iterator[Started]:
    """Starts a service with other settings."""
    services = []

    def start(**settings: Any) -> Dataflow:
        service = Dataflow(storage.worker_url, **settings)
        service.start()
        services.append(service)
        return service

    yield start
    for service in services:
        service.stop()

"""Cloud Storage for the tests of pipelines: a local service, and pipelines of this process asking it."""

import functools
import gc
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import google.cloud.storage as storage_api
import pytest
from cloud import CREDENTIALS
from cloud.storage import Storage

from pipelines import gcs


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
        before = gcs.use(client, gcs.Access)
        try:
            yield storage
        finally:
            gcs.use(*before)
            client().close()
            # Google's client leaves answers that it asks for again unread: their sockets close when they are collected.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()

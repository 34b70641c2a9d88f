"""LocalStorage and GcsStorage keep the contract of Storage."""

import functools
from pathlib import Path

import pytest

from millrace.core.config import Config
from millrace.core.storage import LocalStorage, Storage
from millrace.gcloud.clients import Google
from millrace.gcloud.gcs import GcsStorage
from millrace.testing import StorageContract
from millrace.testing.storage import Opens


def in_bucket(root: str) -> Storage:
    """The storage in a bucket, through clients of the process's own."""
    return GcsStorage(root, Google(Config()))


class TestLocalStorage(StorageContract):
    @pytest.fixture
    def opens(self, tmp_path: Path) -> Opens:
        return functools.partial(LocalStorage, str(tmp_path / "root"))


class TestGcsStorage(StorageContract):
    rounds = 5

    @pytest.fixture
    def opens(self, gcs: GcsStorage) -> Opens:
        return functools.partial(in_bucket, gcs.uri("").rstrip("/"))

"""Beam's runner in this process, and Dataflow, keep the contract of Runner."""

from pathlib import Path

import pytest
from dataflow_running import Set

from localcloud import BUCKET
from localcloud.dataflow import Dataflow as Service
from millrace import runners
from millrace.core.config import Config
from millrace.core.storage import LocalStorage, Storage
from millrace.gcloud.clients import Google
from millrace.runners.runner import Runner
from millrace.tasks import session
from millrace.testing import RunnerContract


class TestInProcess(RunnerContract):
    @pytest.fixture
    def runner(self) -> Runner:
        return runners.of("FnApiRunner", Google(Config()))

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        (tmp_path / "out").mkdir()
        return LocalStorage(str(tmp_path))


class TestDataflow(RunnerContract):
    @pytest.fixture
    def runner(self, storage: Storage) -> Runner:
        return runners.of("DataflowRunner", session.current().google)

    @pytest.fixture
    def storage(self, local: Service, setting: Set, tmp_path: Path) -> Storage:
        setting("millrace", "storage", f"gs://{BUCKET}/{tmp_path.name}")
        return session.current().storage

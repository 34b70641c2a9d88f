"""LocalWarehouse, over a folder and over a bucket, and BigQueryWarehouse keep the contract of Warehouse."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud import BUCKET, DATASET, LOCATION, PROJECT
from localcloud.bigquery import BigQuery
from localcloud.storage import Storage as Service
from millrace.core.config import Config
from millrace.core.storage import LocalStorage, Storage
from millrace.core.warehouse import LocalWarehouse, Warehouse
from millrace.tasks.session import Session, use
from millrace.testing import WarehouseContract


class TestLocalWarehouse(WarehouseContract):
    @pytest.fixture(params=["folder", "bucket"])
    def storage(self, request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
        if request.param == "folder":
            return LocalStorage(str(tmp_path / "root"))
        return request.getfixturevalue("gcs")  # type: ignore[no-any-return]

    @pytest.fixture
    def warehouse(self, storage: Storage) -> Warehouse:
        return LocalWarehouse(storage)


class TestBigQueryWarehouse(WarehouseContract):
    @pytest.fixture
    def session(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
        """A session as the settings make one; the storage's name means something in patterns and partitions."""
        config = Config(f"gs://{BUCKET}/date=2020-01-01/[x]{{1,2}} #?", f"bigquery://{PROJECT}/{DATASET}")
        with BigQuery(storage_url=service.worker_url) as bigquery:
            bigquery.create_dataset(DATASET, LOCATION)
            monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", bigquery.url)
            with use(Session(config)) as session:
                yield session

    @pytest.fixture
    def storage(self, session: Session) -> Storage:
        return session.storage

    @pytest.fixture
    def warehouse(self, session: Session) -> Warehouse:
        return session.warehouse

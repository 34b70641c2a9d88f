"""A stage checks what it is told was written before it makes any of it visible."""

import datetime
from pathlib import Path

import luigi
import pytest

from pipelines.errors import ManifestError
from workflows.engine import Stage, clients
from workflows.engine.ledger import Claim
from workflows.engine.manifests import FileEntry
from workflows.engine.sections import millrace
from workflows.engine.settings import Settings
from workflows.engine.stage import Outcome


class half_written(Settings):  # noqa: N801 (named like its section)
    """No settings."""


class HalfWritten(Stage):
    """A stage one of whose files is shorter than it says."""

    section = half_written
    writes = ("halves",)
    date: datetime.date = luigi.DateParameter()

    def execute(self, claim: Claim) -> Outcome:
        path = f"halves/date={self.date}/{claim.attempt.attempt}/half.parquet"
        clients.storage().create(path, b"half")
        return Outcome([FileEntry(path, "halves", 1, 8, "00000000")], {}, {})


def test_a_file_that_is_not_whole_makes_no_partition(tmp_path: Path) -> None:
    """Half-written output fails the stage, by name and bytes, and no manifest is written."""
    config = luigi.configuration.get_config()
    before = millrace().storage
    config.set("millrace", "storage", str(tmp_path))
    try:
        task = HalfWritten(date=datetime.date(2026, 11, 1))
        with pytest.raises(ManifestError, match=r"half\.parquet has 4 bytes, but 8 were written"):
            task.run()
        assert not task.complete()
        assert not list(tmp_path.rglob("_MANIFEST.json"))
    finally:
        config.set("millrace", "storage", before)

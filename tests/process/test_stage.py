"""A stage checks what it is told was written before it makes any of it visible."""

import dataclasses
import datetime
from pathlib import Path

import luigi
import pytest

from millrace import Stage
from millrace.core.ledger import Claim
from millrace.core.manifests import FileEntry
from millrace.errors import ManifestError, TerminalError
from millrace.tasks import finishing, session
from millrace.tasks.sections import millrace
from millrace.tasks.settings import Settings
from millrace.tasks.stage import Outcome


class half_written(Settings):  # noqa: N801 (named like its section)
    """No settings."""


class HalfWritten(Stage):
    """A stage one of whose files is shorter than it says."""

    section = half_written
    writes = ("halves",)
    date: datetime.date = luigi.DateParameter()

    def execute(self, claim: Claim) -> Outcome:
        path = f"halves/date={self.date}/{claim.attempt.attempt}/half.parquet"
        session.current().storage.create(path, b"half")
        return Outcome([FileEntry(path, "halves", 1, 8, "00000000")], {}, {})


class MakesNothing(Stage):
    """A stage whose author forgot to return what it made."""

    section = half_written
    writes = ("nothing",)
    date: datetime.date = luigi.DateParameter()

    def execute(self, claim: Claim) -> Outcome:
        return None  # type: ignore[return-value]


class Overtaken(Stage):
    """A stage that another run, which writes the attempt OTHER, takes over while it works. whole: its file stays."""

    section = half_written
    writes = ("overtaken",)
    date: datetime.date = luigi.DateParameter()
    whole: bool = luigi.BoolParameter()

    def execute(self, claim: Claim) -> Outcome:
        storage, partition = session.current().storage, self.datasets()[0].partition
        mine, theirs = (self._made(f"{partition}/{each}/f") for each in (claim.attempt.attempt, OTHER))
        manifest = finishing.manifest_of(self, dataclasses.replace(claim.attempt, attempt=OTHER), theirs)
        storage.create(self.datasets()[0].manifest_path, manifest.to_json())
        if not self.whole:
            storage.delete(theirs.files[0].path)
        return mine

    def _made(self, path: str) -> Outcome:
        session.current().storage.create(path, b"rows")
        return Outcome([FileEntry(path, "overtaken", 1, 4, "00000000")], {}, {})


OTHER = "attempt-009-other"


@pytest.mark.parametrize("whole", [True, False])
def test_a_manifest_that_is_there_stays(tmp_path: Path, whole: bool) -> None:
    """Whoever writes the manifest first has made the partition; but one whose files are gone gives way."""
    config = luigi.configuration.get_config()
    before = millrace().storage
    config.set("millrace", "storage", str(tmp_path))
    try:
        task = Overtaken(date=datetime.date(2026, 11, 1), whole=whole)
        task.run()
        made = task.manifest()
    finally:
        config.set("millrace", "storage", before)
    assert made is not None
    assert (made.attempt == OTHER) == whole
    assert [Path(file.path).parent.name for file in made.files] == [made.attempt]


def test_a_file_that_is_not_whole_makes_no_partition(tmp_path: Path) -> None:
    """Half-written output fails the stage, by name and bytes, as does none; no manifest is written."""
    config = luigi.configuration.get_config()
    before = millrace().storage
    config.set("millrace", "storage", str(tmp_path))
    try:
        task = HalfWritten(date=datetime.date(2026, 11, 1))
        with pytest.raises(ManifestError, match=r"half\.parquet has 4 bytes, but 8 were written"):
            task.run()
        assert not task.complete()
        nothing = MakesNothing(date=datetime.date(2026, 11, 1))
        with pytest.raises(TerminalError, match=r"^MakesNothing\.execute returned nothing; return an Outcome$"):
            nothing.run()
        assert not nothing.complete()
        assert not list(tmp_path.rglob("_MANIFEST.json"))
    finally:
        config.set("millrace", "storage", before)

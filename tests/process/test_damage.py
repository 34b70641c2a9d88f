"""Files that are not as they were written are never counted: which they are, and the command that makes them anew."""

import json
import re
import shutil
from pathlib import Path

import pytest
import running
from luigi.configuration import get_config

from millrace.core import keys, manifests, warehouse
from millrace.core.manifests import Manifest
from millrace.core.storage import LocalStorage
from millrace.core.warehouse import LocalWarehouse
from millrace.errors import DamagedError, ManifestError
from millrace.ops import clear, doctor
from workflows import Aggregate, Report


def flip(folder: Path, name: str, byte: float = 0.5) -> Path:
    """Flips one bit of the first file of a name below a folder; which it is."""
    path = min(folder.rglob(name))
    data = bytearray(path.read_bytes())
    data[int(len(data) * byte)] ^= 1
    path.write_bytes(data)
    return path


def forget(storage: Path, *partitions: str) -> None:
    """Takes partitions away."""
    for partition in partitions:
        shutil.rmtree(storage / partition)


def mend(error: str, project: Path) -> None:
    """Runs the command that an error prints, as it stands there."""
    found = re.search(r"anew: (.*), then run again", error)
    assert found, error
    ran = running.run(["bash", "-c", f"{found[1]} --yes"], project)
    assert ran.code == 0, ran


@pytest.fixture
def filled(project: Path, undisturbed: Path) -> Path:
    """A project whose storage is like the undisturbed run's."""
    shutil.copytree(undisturbed, project / "data")
    return project


AGGREGATED = [f"{name}/date=2026-11-01" for name in (*running.KEYS, "reports")]


def test_a_flipped_bit_is_never_counted(filled: Path, undisturbed: Path) -> None:
    """Each stage refuses a damaged input: file, partition and command; the command as printed, and a run, heal it."""
    storage = filled / "data"

    def fails(*damaged: tuple[Path, str]) -> None:
        ran = running.luigi("Aggregate", "--date", running.DAY, "--posts-days", 1, storage=storage)
        assert ran.code == 30, ran
        assert "Traceback" not in str(ran)
        errors = [line for line in ran.errors if "is damaged" in line]
        for path, partition in damaged:
            (error,) = {line for line in errors if f"{path} is damaged: it has " in line}
            assert f"make partition {partition} anew: " in error
            mend(error, filled)
            assert not (storage / partition / manifests.NAME).exists()

    forget(storage, *AGGREGATED)
    fails((flip(storage / "counts/date=2026-11-01", "words-*.parquet"), "counts/date=2026-11-01"))
    forget(storage, *(f"{name}/date=2026-10-31" for name in ("counts", "posts", "posts_rejected")))
    raw = next(storage.glob("raw/*/date=2026-10-31"))
    fails(
        (flip(storage / "posts/date=2026-11-01", "posts-*.parquet"), "posts/date=2026-11-01"),
        (flip(raw, "raw-*.parquet"), str(raw.relative_to(storage))),
    )
    running.succeed("Aggregate", "--date", running.DAY, "--posts-days", 1, storage=storage)
    assert running.tables(storage) == running.tables(undisturbed)


def test_nothing_damaged_is_published(undisturbed: Path, tmp_path: Path) -> None:
    """A run that finds the manifest of an earlier one, and has to make its tables visible, checks their files first."""
    storage = tmp_path / "data"
    shutil.copytree(undisturbed, storage)
    get_config().set("millrace", "storage", str(storage))
    get_config().set("posts", "days", "1")
    try:
        task = Aggregate(date=running.DAY)
        derived = storage / "urls/date=2026-11-01" / manifests.NAME
        derived.unlink()
        task.run()
        assert derived.exists()
        derived.unlink()
        path = flip(storage / "urls/date=2026-11-01", "urls.parquet")
        with pytest.raises(
            DamagedError, match=f"^{path} is damaged: .*make partition word_counts/date=2026-11-01 anew"
        ):
            task.run()
        assert not derived.exists()
    finally:
        get_config().remove_option("millrace", "storage")
        get_config().remove_option("posts", "days")


def test_a_query_counts_no_damaged_row(undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the warehouse: a query or an export over a damaged file fails; one that reads others' days does not."""
    storage = tmp_path / "data"
    shutil.copytree(undisturbed, storage)
    path = flip(storage / "counts/date=2026-11-01", "words-*.parquet")
    said = f"^{re.escape(str(path))} is damaged: it has .*; make partition counts/date=2026-11-01 anew: .*bin/clear"
    store = LocalWarehouse(LocalStorage(str(storage)))
    for sql in (
        "SELECT SUM(posts) AS posts FROM counts_words",
        "SELECT COUNT(*) AS n FROM counts_words",
        "SELECT word FROM counts_words WHERE date >= '2026-11-01' LIMIT 1",
        "SELECT a.word FROM word_counts AS a JOIN counts_words AS b ON a.word = b.word AND a.date = b.date",
    ):
        for checked_anyway in (0, 64 << 20):
            monkeypatch.setattr(warehouse, "_CHECKED_ANYWAY", checked_anyway)
            with pytest.raises(DamagedError, match=said):
                store.query(sql)
    with pytest.raises(DamagedError, match=said):
        store.export("counts_words", keys.day(running.DAY), "")
    other = "SELECT SUM(posts) AS posts FROM counts_words WHERE date = '2026-10-31'"
    monkeypatch.setattr(warehouse, "_CHECKED_ANYWAY", 0)
    assert store.query(other).to_pylist() == running.select(undisturbed, other)
    path.unlink()
    with pytest.raises(DamagedError, match="was written, but is not there any more"):
        store.query(other)
    path.write_bytes(b"PAR1")
    with pytest.raises(DamagedError, match="is damaged: it has 4 bytes, but"):
        store.query(other)


def test_the_list_of_days_counts_no_damaged_page(
    undisturbed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A page's data, or its manifest, with a flipped bit is left out of the list of days, and the log says so."""
    get_config().set("millrace", "storage", str(tmp_path))
    pages = Report.pages()
    try:
        for name, says in (("report.json", '"posts": *[0-9]+'), (manifests.NAME, '"bytes": *[0-9]+')):
            folder = tmp_path / "reports" / "date=2026-11-01"
            shutil.rmtree(tmp_path / "reports", ignore_errors=True)
            shutil.copytree(undisturbed / "reports", tmp_path / "reports")
            pages.make()
            assert "2026-11-01" in (tmp_path / pages.path).read_text()
            assert not caplog.records
            number = re.search(says, (folder / name).read_text())
            assert number
            flip(folder, name, (number.end() - 1) / (folder / name).stat().st_size)
            pages.make()
            assert "2026-11-01" not in (tmp_path / pages.path).read_text()
            (record,) = caplog.records
            assert re.search(f"{name} is damaged: .*bin/clear reports/date=2026-11-01", record.getMessage())
            caplog.clear()
    finally:
        get_config().remove_option("millrace", "storage")
        get_config().remove_option("posts", "days")


def test_no_flipped_bit_of_a_manifest_says_something_else(undisturbed: Path) -> None:
    """A manifest with a flipped bit is refused, or says what it said; one of before there were checksums is read."""
    path = undisturbed / "counts/date=2026-11-01" / manifests.NAME
    data = path.read_bytes()
    whole = Manifest.from_json(data, str(path))
    refused = 0
    for at in range(len(data)):
        flipped = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
        try:
            assert Manifest.from_json(flipped, str(path)) == whole
        except ManifestError:
            refused += 1
    assert refused > len(data) / 2
    old = json.loads(data)
    assert old.pop("checksum")
    assert Manifest.from_json(json.dumps(old).encode(), str(path)) == whole


def test_a_partition_that_is_another_is_not_counted_twice(undisturbed: Path, tmp_path: Path) -> None:
    """A copy of a partition's folder under another day, or a link to it, is no partition of that day.

    To clear it takes the link away, and nothing of what it leads to.
    """
    storage = tmp_path / "data"
    shutil.copytree(undisturbed / "counts", storage / "counts")
    (storage / "counts/date=2026-11-02").symlink_to("date=2026-11-01")
    with pytest.raises(ManifestError, match="is the manifest of counts/date=2026-11-01, so that its folder is a copy"):
        running.select(storage, "SELECT SUM(posts) AS posts FROM counts_hours")
    assert clear.main(["counts/date=2026-11-02", "--millrace-storage", str(storage)]) == 0
    assert not (storage / "counts/date=2026-11-02").is_symlink()
    assert running.files(storage / "counts") == running.files(undisturbed / "counts")


def test_doctor_looks_at_all_that_is_stored(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every damaged or missing file, manifest and further dataset is named, each with the command; --from and --to."""
    storage = tmp_path / "data"
    shutil.copytree(undisturbed, storage)

    def looked(*flags: str) -> tuple[int, str]:
        code = doctor.main(["--data", "--millrace-storage", str(storage), *flags])
        return code, re.sub(r"\s+", " ", capsys.readouterr().out)

    code, said = looked()
    assert code == 0, said
    assert re.search(r"14 partitions, \d+ files of [0-9,]+ bytes were looked at, byte by byte: nothing wrong", said)
    flip(storage / "counts/date=2026-11-01", "words-*.parquet")
    min((storage / "counts/date=2026-11-01").rglob("hours-*.parquet")).unlink()
    flip(storage / "reports/date=2026-11-01", "index.html")
    (storage / "urls/date=2026-11-01" / manifests.NAME).unlink()
    manifest = storage / "posts/date=2026-10-31" / manifests.NAME
    manifest.write_text(re.sub(r'"rows": (\d)', r'"rows": 1\1', manifest.read_text()))
    code, said = looked()
    assert code == 1
    assert said.endswith(": 5 wrong ")
    for wrong in (
        r"counts/date=2026-11-01 \S+words-\S+parquet is damaged: it has",
        r"counts/date=2026-11-01 \S+hours-\S+parquet was written, but is not there any more",
        r"reports/date=2026-11-01 \S+index.html is damaged",
        r"word_counts/date=2026-11-01 urls/date=2026-11-01, which was made with word_counts/\S+, is not there",
        r"posts/date=2026-10-31 \S+posts/date=2026-10-31/_MANIFEST.json is damaged: its checksum is",
    ):
        assert re.search(wrong, said), said
    for partition in ("counts/date=2026-11-01", "reports/date=2026-11-01", "word_counts/date=2026-11-01"):
        assert f"bin/clear {partition} --millrace-storage {storage}" in said
    for day, count in (("2026-10-31", 1), ("2026-11-01", 4), ("2026-11-02", "nothing")):
        assert looked("--from", day, "--to", day)[1].endswith(f": {count} wrong ")
    # What lies on a disk that is not mounted may be whole.
    raw = min(storage.glob("raw/*/date=2026-10-31/attempt-*"))
    raw.rename(tmp_path / "disk")
    raw.symlink_to(tmp_path / "elsewhere")
    (told,) = re.findall(f"wrong raw/.* is a link to {tmp_path}/elsewhere, which .*? wrong", looked()[1])
    assert "mount or mend what it leads to" in told
    assert "bin/clear raw/" not in told
    assert looked("--to", "today")[0] != 0

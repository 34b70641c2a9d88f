"""Storages of any name and shape: partitions on other disks, loops of links, folders that may not be read, modes."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import running
from luigi.configuration import get_config

from millrace import GCSTarget
from millrace.common.checksums import Input
from millrace.core import manifests
from millrace.core.storage import LocalStorage
from millrace.errors import AccessError, SettingError
from millrace.tasks import sections

#: A user that owns nothing.
NOBODY = 65534


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that every user may enter, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextlib.contextmanager
def powerless() -> Iterator[None]:
    """As a user for whom modes mean something."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_storage_may_have_any_name(undisturbed: Path) -> None:
    """What folders above the storage are called is in no column and no day; other tests compare its rows too."""
    hours = running.select(undisturbed, "SELECT * FROM posts_by_hour")
    assert {tuple(row) for row in hours} == {("hour", "posts", "ts", "date")}
    assert {row["hour"].date() for row in hours} == {row["date"] for row in hours} == {running.DAY}
    counted = running.select(undisturbed, "SELECT date, SUM(posts) AS posts FROM counts_hours GROUP BY date")
    expected = {day: running.partition(undisturbed, f"posts/date={day}") for day in ("2026-10-31", "2026-11-01")}
    assert {str(row["date"]): row["posts"] for row in counted} == {
        d: m and m.rows("posts") for d, m in expected.items()
    }


def test_temporary_files_may_lie_anywhere(undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is the name of the folder for temporary files in any column; and where it is a pattern, it means no other."""
    temporary = tmp_path / "date=2020-01-01*[x]?"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    assert running.select(undisturbed, "SELECT DISTINCT date FROM posts_by_hour") == [{"date": running.DAY}]


def test_partitions_and_datasets_may_lie_elsewhere(undisturbed: Path, tmp_path: Path) -> None:
    """A partition, a dataset or the storage itself that is a link, relative or not, is what it leads to."""
    storage, disk = tmp_path / "data", tmp_path / "disk"
    shutil.copytree(undisturbed, disk)
    storage.mkdir()
    for name in os.listdir(disk):
        (storage / name).symlink_to(Path("../disk") / name)
    moved = disk / "counts/date=2026-11-01"
    moved.rename(tmp_path / "partition")
    moved.symlink_to(tmp_path / "partition")
    (tmp_path / "linked").symlink_to(storage)
    plain, linked = LocalStorage(str(undisturbed)), LocalStorage(str(tmp_path / "linked"))
    assert list(linked.list("")) == list(plain.list(""))
    assert list(linked.list("", manifests.NAME)) == list(plain.list("", manifests.NAME))
    assert linked.sizes("counts") == plain.sizes("counts")
    assert running.tables(tmp_path / "linked") == running.tables(undisturbed)
    file = next(iter(plain.sizes("raw")))
    linked.copy(file, "other/copy")
    assert not (storage / "other/copy").is_symlink()
    assert (storage / "other/copy").read_bytes() == (undisturbed / file).read_bytes()


def test_what_a_link_leads_to_is_cleared_but_not_what_it_leads_to_in_turn(project: Path, undisturbed: Path) -> None:
    """bin/clear empties a partition on another disk, and a run makes it anew; what a link in it leads to stays."""
    storage, other = project / "data", project / "elsewhere"
    shutil.copytree(undisturbed, storage)
    partition = storage / "counts/date=2026-11-01"
    partition.rename(other)
    partition.symlink_to(other)
    (project / "precious").mkdir()
    (project / "precious/file").write_bytes(b"mine")
    (other / "link").symlink_to(project / "precious")
    ran = running.run([project / "bin/clear", "Count", "--from", "2026-11-01", "--to", "2026-11-01"], project)
    assert ran.code == 0, ran
    assert not os.listdir(other)
    assert (project / "precious/file").read_bytes() == b"mine"
    running.succeed("Count", "--date", running.DAY, storage=storage)
    assert running.select(storage, "SELECT * FROM counts_hours ORDER BY hour") == running.select(
        undisturbed, "SELECT * FROM counts_hours ORDER BY hour"
    )


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    """A link back to a folder above it is not followed for ever, and shows no file twice."""
    storage = LocalStorage(str(tmp_path / "data"))
    storage.create("a/b/f", b"")
    (tmp_path / "data/a/b/up").symlink_to(tmp_path / "data")
    (tmp_path / "data/a/self").symlink_to(".")
    assert list(storage.list("")) == ["a/b/f"]


def test_a_link_to_nothing_is_an_error(tmp_path: Path) -> None:
    """A disk that is not mounted is no empty dataset: whatever looks there says which link leads nowhere."""
    storage = LocalStorage(str(tmp_path / "data"))
    storage.create("a/f", b"")
    (tmp_path / "data/counts").symlink_to(tmp_path / "disk")
    looks: list[Callable[[], object]] = [
        lambda: list(storage.list("")),
        lambda: list(storage.list("counts", manifests.NAME)),
        lambda: storage.read("counts/date=2026-11-01/_MANIFEST.json"),
        lambda: storage.names("counts/date=2026-11-01"),
        lambda: storage.sizes("counts"),
        Input(storage.uri("counts/date=2026-11-01/f"), "00000000", 1).check_here,
        GCSTarget(storage.uri("counts/f")).exists,
    ]
    for look in looks:
        with pytest.raises(AccessError, match=f"data/counts is a link to {tmp_path}/disk, which can't be reached"):
            look()
    assert storage.read("a/other") is None


def test_a_folder_that_may_not_be_read_is_an_error(readable: Path) -> None:
    """What this user may not see is not taken for nothing; what a file system keeps for itself is nobody's."""
    storage = LocalStorage(str(readable / "data"))
    storage.create("counts/date=2026-11-01/f", b"")
    storage.create("posts/f", b"")
    storage.create("lost+found/x", b"")
    (readable / "data/lost+found").chmod(0)
    (readable / "data/counts").chmod(0)
    looks: list[Callable[[], object]] = [
        lambda: list(storage.list("")),
        lambda: list(storage.list("", manifests.NAME)),
        lambda: storage.read("counts/date=2026-11-01/_MANIFEST.json"),
        lambda: storage.names("counts"),
        lambda: storage.sizes("counts"),
        GCSTarget(str(readable / "data/counts/date=2026-11-01/f")).exists,
        lambda: GCSTarget(str(readable / "data/counts/date=2026-11-01/f")).open(),
    ]
    try:
        with powerless():
            for look in looks:
                with pytest.raises(
                    AccessError, match=r"data/counts\S* can't be read: Permission denied; let this user"
                ):
                    look()
            assert list(storage.list("posts")) == ["posts/f"]
            with pytest.raises(SettingError, match="can't be written: Permission denied"):
                storage.delete("posts")
    finally:
        (readable / "data/counts").chmod(0o755)
    with powerless():
        assert list(storage.list("")) == ["counts/date=2026-11-01/f", "posts/f"]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    """A link where a temporary file or a lock goes leads no byte out of the storage."""
    storage = LocalStorage(str(tmp_path / "data"))
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    (tmp_path / "data").mkdir()
    for name in (".f.tmp", ".g.tmp", "g", "a.lock"):
        (tmp_path / "data" / name).symlink_to(outside)
    storage.create("f", b"new")
    storage.replace("g", b"new")
    with pytest.raises(SettingError), storage.lock("a.lock"):
        pass
    assert outside.read_bytes() == b"mine"
    for name in ("f", "g"):
        assert (tmp_path / "data" / name).read_bytes() == b"new"
        assert not (tmp_path / "data" / name).is_symlink()


def test_modes_are_those_that_the_user_wants(tmp_path: Path) -> None:
    """Every file, of the storage, of a pipeline, of a target, has the mode that the umask leaves; none can be run."""
    from millrace.beam import files

    storage = LocalStorage(str(tmp_path / "data"))
    before = os.umask(0o027)
    try:
        storage.create("a/created", b"")
        storage.replace("a/replaced", b"")
        storage.copy("a/created", "b/copied")
        with storage.lock("_jobs/a.lock"):
            pass
        files.write_parquet(f"{tmp_path}/data/{{dataset}}", "posts", "written", pa.table({"n": [1]}))
        get_config().set("millrace", "storage", str(tmp_path / "data"))
        with GCSTarget("exports/told.csv").open("w") as file:
            file.write("x")
    finally:
        os.umask(before)
        get_config().remove_option("millrace", "storage")
    found = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "data").rglob("*") if path.is_file()}
    assert found == dict.fromkeys(("created", "replaced", "copied", "a.lock", "written.parquet", "told.csv"), 0o640)


@pytest.mark.parametrize("storage", ["gs://bucket//x", "gs://bucket/a//b", "gs://bucket/x//"])
def test_an_empty_folder_in_a_bucket_is_refused(storage: str) -> None:
    """BigQuery loads from no URI with // in it, so that no storage may have one."""
    with pytest.raises(SettingError, match=r"holds an empty folder \(//\), from which BigQuery loads nothing"):
        sections.millrace(storage=storage)


def test_a_name_that_is_no_text_is_refused() -> None:
    """A name that is not UTF-8, or holds control characters, could be handed to no pipeline."""
    for storage in (os.fsdecode(b"/tmp/\xff"), "/tmp/a\nb"):
        with pytest.raises(SettingError, match="its name holds control characters, or is not UTF-8"):
            sections.millrace(storage=storage)

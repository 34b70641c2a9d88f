"""LocalStorage and GcsStorage keep the contract of Storage, with any number of processes at work."""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from millrace.core import damage
from millrace.core.manifests import FileEntry
from millrace.core.storage import LocalStorage, Storage, conflict_retries, crc32c
from millrace.errors import ConflictError, DamagedError, ManifestError, SettingError
from millrace.gcloud.gcs import GcsStorage
from millrace.tasks import session

PROCESSES = 6


@pytest.fixture(params=["local", "gcs"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a storage may lie, of each kind."""
    if request.param == "local":
        return str(tmp_path / "root")
    return str(request.getfixturevalue("gcs").uri("")).rstrip("/")


@pytest.fixture
def storage(root: str) -> Storage:
    return opened(root)


def opened(root: str) -> Storage:
    """The storage in a place."""
    return GcsStorage(root, session.current().google) if root.startswith("gs://") else LocalStorage(root)


def _create(root: str, times: int, barrier: Barrier, number: int) -> int:
    """Races for one file again and again; how often it won."""
    storage = opened(root)
    won = 0
    for time in range(times):
        barrier.wait()
        try:
            storage.create(f"some/where/{time}", b"%d" % number * 1000)
            won += 1
        except ConflictError:
            pass
    return won


def _count(root: str, times: int, barrier: Barrier, number: int) -> int:
    """Adds one to the number in a file, again and again."""
    storage = opened(root)
    barrier.wait()
    for _ in range(times):
        for again in conflict_retries():
            with again:
                there = storage.read("counter")
                value = int(there.data) if there else 0
                storage.replace("counter", b"%d" % (value + 1), there.version if there else "")
    return times


def _enter(root: str, times: int, barrier: Barrier, number: int) -> int:
    """Takes a lock again and again; how often nobody else held it."""
    storage = opened(root)
    barrier.wait()
    alone = 0
    for _ in range(times):
        with storage.lock("_jobs/task.lock"):
            assert storage.read("inside") is None
            storage.replace("inside", b"%d" % number)
            there = storage.read("inside")
            alone += there is not None and there.data == b"%d" % number
            storage.delete("inside")
    return alone


def race(work: Callable[[str, int, Barrier, int], int], root: str, times: int) -> list[int]:
    """What each of some processes of their own gives that do the same at once."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(PROCESSES) as pool:
        barrier = manager.Barrier(PROCESSES)
        return pool.starmap(work, [(root, times, barrier, n) for n in range(PROCESSES)])


def _times(root: str) -> int:
    return 5 if root.startswith("gs://") else 25


def test_one_of_many_racing_creators_wins(root: str) -> None:
    """However many processes create a file at once, exactly one wins, and the file is wholly that one's."""
    times = _times(root)
    assert sum(race(_create, root, times)) == times
    for time in range(times):
        found = opened(root).read(f"some/where/{time}")
        assert found is not None
        assert len(found.data) == 1000
        assert len(set(found.data)) == 1


def test_no_update_is_lost(root: str) -> None:
    """Read, then replace that version, again on conflict: of many processes' increments none is lost."""
    times = _times(root)
    race(_count, root, times)
    found = opened(root).read("counter")
    assert found is not None
    assert int(found.data) == PROCESSES * times


def test_lock_holds_one_process_at_a_time(root: str) -> None:
    """Of many processes that want a lock, one at a time holds it."""
    assert race(_enter, root, _times(root)) == [_times(root)] * PROCESSES


def test_create_does_not_write_over_a_file(storage: Storage) -> None:
    """create refuses what is there, and leaves it as it is."""
    storage.create("a/b", b"first")
    with pytest.raises(ConflictError):
        storage.create("a/b", b"second")
    found = storage.read("a/b")
    assert found is not None
    assert found.data == b"first"


def test_replace_minds_the_version(storage: Storage) -> None:
    """replace with a version writes only over that one; "" means over none; none given means over anything."""
    storage.replace("f", b"1", "")
    with pytest.raises(ConflictError):
        storage.replace("f", b"2", "")
    first = storage.read("f")
    assert first is not None
    storage.replace("f", b"2", first.version)
    with pytest.raises(ConflictError):
        storage.replace("f", b"3", first.version)
    storage.replace("f", b"4")
    last = storage.read("f")
    assert last is not None
    assert last.data == b"4"


def test_nothing_there_reads_as_none(storage: Storage) -> None:
    """A file, or a folder of it, that is not there is None; deleting it is fine."""
    assert storage.read("a/b") is None
    storage.create("a", b"")
    assert storage.read("a/b") is None
    storage.delete("x/y")
    assert list(storage.list("x")) == []


def test_list_is_in_order(storage: Storage) -> None:
    """list gives all files below a folder in ascending order; a folder is its whole name, not how it begins."""
    for path in ("d/z", "d/b/c", "d/a", "e/f", "de/f"):
        storage.create(path, b"")
    assert list(storage.list("d")) in (["d/a", "d/b/c", "d/z"], ["d/a", "d/z", "d/b/c"])
    assert list(storage.list("e")) == ["e/f"]
    assert list(storage.list("x")) == []


def test_list_of_a_name_looks_at_no_part_of_another(storage: Storage) -> None:
    """With a name, list gives only files called so, and none that lies below the folder of another."""
    for path in ("a/name", "a/attempt/name", "b/c/name", "b/no-name", "name/b"):
        storage.create(path, b"")
    assert list(storage.list("", "name")) == ["a/name", "b/c/name"]
    assert list(storage.list("b", "name")) == ["b/c/name"]
    assert list(storage.list("b/c", "name")) == ["b/c/name"]


def test_names_are_those_directly_below(storage: Storage) -> None:
    """Files and folders of a folder, once each, and nothing that lies beside it."""
    for path in ("d/a", "d/b/c", "d/b/e/f", "dd/x"):
        storage.create(path, b"")
    assert storage.names("d") == {"a", "b"}
    assert storage.names("x") == set()


def test_an_empty_folder_has_a_name(tmp_path: Path) -> None:
    """What a process made that died before it wrote a file there can be found, and so cleared."""
    storage = LocalStorage(str(tmp_path))
    storage.create("d/a", b"")
    (tmp_path / "d/attempt").mkdir()
    (tmp_path / "d/.a.tmp").write_bytes(b"half")
    assert storage.names("d") == {"a", "attempt"}


def test_a_temporary_file_is_not_shown(tmp_path: Path) -> None:
    """list does not give what a dead process was about to write."""
    storage = LocalStorage(str(tmp_path))
    storage.create("d/a", b"")
    (tmp_path / "d/.a.tmp").write_bytes(b"half")
    assert list(storage.list("d")) == ["d/a"]


def test_what_a_dead_writer_left_is_taken_over(tmp_path: Path) -> None:
    """Half a file that a dead process left beside a file's place is gone when the file is written."""
    storage = LocalStorage(str(tmp_path / "root"))
    (tmp_path / "root").mkdir()
    (tmp_path / "root/.f.tmp").write_bytes(b"half of something long")
    storage.create("f", b"all")
    assert os.listdir(tmp_path / "root") == ["f"]
    assert (tmp_path / "root/f").read_bytes() == b"all"


def test_copy_and_delete(storage: Storage) -> None:
    """A copy outlives its origin; delete takes a file, or a folder with all in it."""
    storage.create("a/b/c", b"data")
    storage.copy("a/b/c", "x/y/z")
    storage.delete("a")
    assert list(storage.list("")) == ["x/y/z"]
    storage.delete("x/y/z")
    assert list(storage.list("")) == []


def test_what_is_copied_has_to_be_there(storage: Storage) -> None:
    """To copy a file that has gone meanwhile says which one it was."""
    with pytest.raises(ManifestError, match="a/b is not there any more; run its task again"):
        storage.copy("a/b", "x/y/z")
    assert list(storage.list("")) == []


def test_place_that_cannot_be_written_is_a_wrong_setting(tmp_path: Path) -> None:
    """Where the storage can't be written, the error says where, why and which setting to change."""
    (tmp_path / "file").write_bytes(b"")
    storage = LocalStorage(str(tmp_path / "file"))
    with pytest.raises(SettingError, match=r"storage '.*/file' can't be written: .*--millrace-storage"):
        storage.create("a", b"")
    with pytest.raises(SettingError, match="can't be written"), storage.lock("a.lock"):
        pass


def test_checksum_is_crc32c() -> None:
    """The checksum is CRC-32C (RFC 3720 gives 8a9136aa for 32 zero bytes), as Cloud Storage has it."""
    assert crc32c(bytes(32)) == "8a9136aa"


def test_sizes_are_those_of_all_files_below(storage: Storage) -> None:
    """sizes tells the bytes of every file below a folder, and nothing of a folder that is not there."""
    storage.create("a/b", b"four")
    storage.create("a/c/d", b"")
    storage.create("e", b"1")
    assert storage.sizes("a") == {"a/b": 4, "a/c/d": 0}
    assert storage.sizes("f") == {}


def test_checksums_are_those_of_all_files_below(storage: Storage) -> None:
    """checksums tells path, bytes and CRC-32C of every file below a folder: those of RFC 3720 for 32 zero bytes."""
    storage.create("a/c/d", bytes(32))
    storage.create("a/b", b"")
    storage.create("e", b"1")
    assert list(storage.checksums("a")) == [("a/b", 0, "00000000"), ("a/c/d", 32, "8a9136aa")]
    assert list(storage.checksums("f")) == []


def test_files_are_as_a_manifest_says_or_are_told_of(storage: Storage) -> None:
    """What was replaced or has gone since it was written is told of, wherever it lies, with what makes it anew."""
    files = [FileEntry(f"d/date=2026-11-01/{name}", "d", 0, 32, "8a9136aa") for name in ("same", "other", "gone")]
    for file in files:
        storage.create(file.path, bytes(32))
    damage.check(storage, "d/date=2026-11-01", files)
    storage.replace(files[1].path, bytes(31) + b"\1")
    storage.delete(files[2].path)
    damage.check(storage, "d/date=2026-11-01", files[:1])
    mend = r"; make partition d/date=2026-11-01 anew: bin/clear d/date=2026-11-01.*, then run again"
    for file, what in zip(files[1:], ("is damaged: it has 32 bytes", "was written, but is not there"), strict=True):
        with pytest.raises(DamagedError, match=f"^{storage.uri(file.path)} {what}.*{mend}"):
            damage.check(storage, "d/date=2026-11-01", [file])


def test_delete_takes_a_folder_by_its_whole_name(storage: Storage) -> None:
    """Deleting a folder leaves those alone whose names only begin like its."""
    for path in ("a/attempt-1/x", "a/attempt-1/y/z", "a/attempt-10/x", "a/attempt-1x"):
        storage.create(path, b"")
    storage.delete("a/attempt-1")
    assert sorted(storage.list("")) == ["a/attempt-10/x", "a/attempt-1x"]


def test_fetch_gives_a_file_of_this_machine(storage: Storage, tmp_path: Path) -> None:
    """fetch gives a path under which the file can be opened, and leaves the storage's own alone."""
    storage.create("a/b.parquet", b"PAR1")
    assert Path(storage.fetch("a/b.parquet", str(tmp_path / "copies"))).read_bytes() == b"PAR1"
    assert list(storage.list("")) == ["a/b.parquet"]


def test_replace_tells_the_version_it_made(storage: Storage) -> None:
    """What replace gives is the version that read tells, and that the next replace may name."""
    first = storage.replace("f", b"1", "")
    found = storage.read("f")
    assert found is not None
    assert found.version == first
    second = storage.replace("f", b"2", first)
    storage.replace("f", b"3", second)

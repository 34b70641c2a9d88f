"""LocalStorage keeps the contract of Storage, with any number of processes at work."""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from pipelines.errors import ConflictError, SettingError
from workflows.engine.storage import LocalStorage, conflict_retries, crc32c

PROCESSES, TIMES = 6, 25


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(str(tmp_path / "root"))


def _create(root: str, barrier: Barrier, number: int) -> int:
    """Races for one file again and again; how often it won."""
    storage = LocalStorage(root)
    won = 0
    for time in range(TIMES):
        barrier.wait()
        try:
            storage.create(f"some/where/{time}", b"%d" % number * 1000)
            won += 1
        except ConflictError:
            pass
    return won


def _count(root: str, barrier: Barrier, number: int) -> int:
    """Adds one to the number in a file, again and again."""
    storage = LocalStorage(root)
    barrier.wait()
    for _ in range(TIMES):
        for again in conflict_retries():
            with again:
                there = storage.read("counter")
                value = int(there.data) if there else 0
                storage.replace("counter", b"%d" % (value + 1), there.version if there else "")
    return TIMES


def _enter(root: str, barrier: Barrier, number: int) -> int:
    """Takes a lock again and again; how often nobody else held it."""
    storage = LocalStorage(root)
    barrier.wait()
    alone = 0
    for _ in range(TIMES):
        with storage.lock("_jobs/task.lock"):
            handle = os.open(f"{root}/inside", os.O_CREAT | os.O_EXCL)
            os.close(handle)
            os.unlink(f"{root}/inside")
            alone += 1
    return alone


def race(work: Callable[[str, Barrier, int], int], root: Path) -> list[int]:
    """What each of some processes of their own gives that do the same at once."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(PROCESSES) as pool:
        barrier = manager.Barrier(PROCESSES)
        return pool.starmap(work, [(str(root), barrier, n) for n in range(PROCESSES)])


def test_one_of_many_racing_creators_wins(tmp_path: Path) -> None:
    """However many processes create a file at once, exactly one wins, and the file is wholly that one's."""
    assert sum(race(_create, tmp_path)) == TIMES
    for time in range(TIMES):
        data = (tmp_path / "some/where" / str(time)).read_bytes()
        assert len(data) == 1000
        assert len(set(data)) == 1


def test_no_update_is_lost(tmp_path: Path) -> None:
    """Read, then replace that version, again on conflict: of many processes' increments none is lost."""
    race(_count, tmp_path)
    assert (tmp_path / "counter").read_bytes() == b"%d" % (PROCESSES * TIMES)


def test_lock_holds_one_process_at_a_time(tmp_path: Path) -> None:
    """Of many processes that want a lock, one at a time holds it."""
    assert race(_enter, tmp_path) == [TIMES] * PROCESSES


def test_create_does_not_write_over_a_file(storage: LocalStorage) -> None:
    """create refuses what is there, and leaves it as it is."""
    storage.create("a/b", b"first")
    with pytest.raises(ConflictError):
        storage.create("a/b", b"second")
    found = storage.read("a/b")
    assert found is not None
    assert found.data == b"first"


def test_replace_minds_the_version(storage: LocalStorage) -> None:
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


def test_nothing_there_reads_as_none(storage: LocalStorage) -> None:
    """A file, or a folder of it, that is not there is None; deleting it is fine."""
    assert storage.read("a/b") is None
    storage.create("a", b"")
    assert storage.read("a/b") is None
    storage.delete("x/y")
    assert list(storage.list("x")) == []


def test_list_is_in_order_and_shows_no_temporary_file(storage: LocalStorage, tmp_path: Path) -> None:
    """list gives all files below a folder in ascending order, but not what a dead process was about to write."""
    for path in ("d/z", "d/b/c", "d/a", "e/f"):
        storage.create(path, b"")
    (tmp_path / "root/d/.a.tmp").write_bytes(b"half")
    assert list(storage.list("d")) == ["d/a", "d/b/c", "d/z"] or list(storage.list("d")) == ["d/a", "d/z", "d/b/c"]
    assert list(storage.list("", "f")) == ["e/f"]


def test_what_a_dead_writer_left_is_taken_over(storage: LocalStorage, tmp_path: Path) -> None:
    """Half a file that a dead process left beside a file's place is gone when the file is written."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root/.f.tmp").write_bytes(b"half of something long")
    storage.create("f", b"all")
    assert os.listdir(tmp_path / "root") == ["f"]
    assert (tmp_path / "root/f").read_bytes() == b"all"


def test_copy_and_delete(storage: LocalStorage) -> None:
    """A copy outlives its origin; delete takes a file, or a folder with all in it."""
    storage.create("a/b/c", b"data")
    storage.copy("a/b/c", "x/y/z")
    storage.delete("a")
    assert list(storage.list("")) == ["x/y/z"]
    storage.delete("x/y/z")
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


def test_size_is_the_file_s_or_nothing(storage: LocalStorage) -> None:
    """size tells the bytes of a file, and None for what is not there."""
    storage.create("a/b", b"four")
    assert (storage.size("a/b"), storage.size("a/c"), storage.size("a/b/c")) == (4, None, None)

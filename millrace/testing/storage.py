"""The contract of `Storage`, as tests."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TypeAlias

import pytest

from millrace.core.storage import Storage, conflict_retries, read_all
from millrace.core.waiting import Waiting
from millrace.errors import ConflictError, ManifestError

Opens: TypeAlias = Callable[[], Storage]

#: How many processes race.
PROCESSES = 6
#: Names that mean something elsewhere: in patterns, options, URIs, partitions, shells, SQL.
ODD = ("d{1,2}", "[x]*?", "a%20b#c d", "ünï=cödé", "a+b&c=d;e:f@g", "it's $HOME", "a\\b", "!^,~")


class StorageContract:
    """What every Storage does, alone and with other processes at work.

    Fixture `opens`: what opens the storage that a test works in, called without arguments. That place is empty at
    first, and every call opens the same one; processes that a test starts get `opens` pickled.
    """

    #: How often processes race in one test.
    rounds = 25

    @pytest.fixture
    def copies(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Return a folder where a test puts copies, which the storage does not lie in."""
        return tmp_path_factory.mktemp("copies")

    @pytest.fixture
    def storage(self, opens: Opens) -> Storage:
        """Return the storage of the test."""
        return opens()

    def test_one_of_many_racing_creators_wins(self, opens: Opens) -> None:
        """However many processes create a file at once, exactly one wins, and the file is wholly that one's."""
        assert sum(_race(_create, opens, self.rounds)) == self.rounds
        for found in read_all(opens(), [f"some/where/{each}" for each in range(self.rounds)]):
            assert found is not None
            assert len(found.data) == 1000
            assert len(set(found.data)) == 1

    def test_no_update_is_lost(self, opens: Opens) -> None:
        """Read, then replace that version, again on conflict: of many processes' increments none is lost."""
        _race(_count, opens, self.rounds)
        assert _data(opens(), "counter") == b"%d" % (PROCESSES * self.rounds)

    def test_a_lock_holds_one_process_at_a_time(self, opens: Opens) -> None:
        """Of many processes that want a lock, one at a time holds it."""
        assert _race(_enter, opens, self.rounds) == [self.rounds] * PROCESSES

    def test_a_process_that_dies_lets_go_of_its_lock(self, opens: Opens, storage: Storage) -> None:
        """It is killed (-9) while it holds the lock; who waits has the lock soon. Another lock is free all the time.

        Who does not wait for the living has Waiting as long as it lives.
        """
        context = _processes()
        ours, theirs = context.Pipe()
        process = context.Process(target=_hold, args=(opens, dict(os.environ), theirs))
        process.start()
        theirs.close()
        try:
            assert ours.recv() == "holds it"
            with storage.lock("_jobs/other.lock"):
                pass
            with pytest.raises(Waiting), storage.lock("_jobs/task.lock", wait=False):
                pass
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            began = time.monotonic()
            with storage.lock("_jobs/task.lock"):
                assert time.monotonic() - began < 30
        finally:
            process.kill()
            process.join()
            ours.close()

    def test_create_does_not_write_over_a_file(self, storage: Storage) -> None:
        """Create refuses what is there, and leaves it as it is."""
        storage.create("a/b", b"first")
        with pytest.raises(ConflictError):
            storage.create("a/b", b"second")
        assert _data(storage, "a/b") == b"first"

    def test_replace_minds_the_version(self, storage: Storage) -> None:
        """Replace with a version writes only over that one; "" means over none; none given means over anything."""
        storage.replace("f", b"1", "")
        with pytest.raises(ConflictError):
            storage.replace("f", b"2", "")
        first = storage.read("f")
        assert first is not None
        storage.replace("f", b"2", first.version)
        with pytest.raises(ConflictError):
            storage.replace("f", b"3", first.version)
        storage.replace("f", b"4")
        assert _data(storage, "f") == b"4"

    def test_replace_tells_the_version_it_made(self, storage: Storage) -> None:
        """What replace gives is the version that read tells, and that the next replace may name."""
        first = storage.replace("f", b"1", "")
        found = storage.read("f")
        assert found is not None
        assert found.version == first
        second = storage.replace("f", b"2", first)
        assert second != first
        storage.replace("f", b"3", second)

    def test_a_version_of_what_was_deleted_is_none_to_write_over(self, storage: Storage) -> None:
        """Whoever read a file that somebody has deleted since does not bring it back."""
        version = storage.replace("f", b"1")
        storage.delete("f")
        with pytest.raises(ConflictError):
            storage.replace("f", b"2", version)
        assert storage.read("f") is None
        storage.create("f", b"3")

    @pytest.mark.parametrize("data", [b"", bytes(range(256)) * 5000], ids=["empty", "1.3 MB"])
    def test_what_is_written_is_what_is_read(self, storage: Storage, data: bytes) -> None:
        """Whatever bytes they are, and however many."""
        storage.create("a", data)
        storage.replace("b", data)
        assert [there and there.data for there in read_all(storage, ["a", "none", "b"])] == [data, None, data]

    def test_nothing_there_reads_as_none(self, storage: Storage) -> None:
        """A file, or a folder of it, that is not there is None; deleting it is fine."""
        assert storage.read("a/b") is None
        storage.create("a", b"")
        assert storage.read("a/b") is None
        storage.delete("x/y")
        assert list(storage.list("x")) == []

    def test_list_is_in_order(self, storage: Storage) -> None:
        """List gives all files below a folder in ascending order; a folder is its whole name, not how it begins."""
        for path in ("d/z", "d/b/c", "d/a", "e/f", "de/f"):
            storage.create(path, b"")
        assert list(storage.list("d")) == ["d/a", "d/b/c", "d/z"]
        assert list(storage.list("e")) == ["e/f"]
        assert list(storage.list("x")) == []

    def test_list_of_a_name_looks_at_no_part_of_another(self, storage: Storage) -> None:
        """With a name, list gives only files called so, and none that lies below the folder of another."""
        for path in ("a/name", "a/attempt/name", "b/c/name", "b/no-name", "name/b"):
            storage.create(path, b"")
        assert list(storage.list("", "name")) == ["a/name", "b/c/name"]
        assert list(storage.list("b", "name")) == ["b/c/name"]
        assert list(storage.list("b/c", "name")) == ["b/c/name"]

    def test_names_are_those_directly_below(self, storage: Storage) -> None:
        """Files and folders of a folder, once each, and nothing that lies beside it."""
        for path in ("d/a", "d/b/c", "d/b/e/f", "dd/x"):
            storage.create(path, b"")
        assert storage.names("d") == {"a", "b"}
        assert storage.names("x") == set()

    def test_sizes_and_checksums_are_those_of_all_files_below(self, storage: Storage) -> None:
        """Bytes, and the CRC-32C that RFC 3720 gives for 32 zero bytes; nothing of a folder that is not there."""
        storage.create("a/c/d", bytes(32))
        storage.create("a/b", b"")
        storage.create("e", b"1")
        assert storage.sizes("a") == {"a/b": 0, "a/c/d": 32}
        assert list(storage.checksums("a")) == [("a/b", 0, "00000000"), ("a/c/d", 32, "8a9136aa")]
        assert storage.sizes("f") == {}
        assert list(storage.checksums("f")) == []

    def test_a_copy_outlives_its_origin(self, storage: Storage) -> None:
        """What is written in its origin's place later does not change it; delete takes a file, or a whole folder."""
        storage.create("a/b/c", b"data")
        storage.copy("a/b/c", "x/y/z")
        storage.replace("a/b/c", b"other")
        assert _data(storage, "x/y/z") == b"data"
        storage.delete("a")
        assert list(storage.list("")) == ["x/y/z"]
        storage.delete("x/y/z")
        assert list(storage.list("")) == []

    def test_a_copy_may_be_made_again(self, storage: Storage) -> None:
        """The second time changes nothing, and a copy of something else takes its place and changes no other file."""
        storage.create("a", b"1")
        storage.create("b", b"2")
        for _ in range(2):
            storage.copy("a", "copy")
        storage.copy("b", "copy")
        assert [_data(storage, path) for path in ("a", "b", "copy")] == [b"1", b"2", b"2"]
        assert list(storage.list("")) == ["a", "b", "copy"]

    def test_what_is_copied_has_to_be_there(self, storage: Storage) -> None:
        """To copy a file that has gone meanwhile says which one it was."""
        with pytest.raises(ManifestError, match="a/b is not there any more; run its task again"):
            storage.copy("a/b", "x/y/z")
        assert list(storage.list("")) == []

    def test_delete_takes_a_folder_by_its_whole_name(self, storage: Storage) -> None:
        """Deleting a folder leaves those alone whose names only begin like its."""
        for path in ("a/attempt-1/x", "a/attempt-1/y/z", "a/attempt-10/x", "a/attempt-1x"):
            storage.create(path, b"")
        storage.delete("a/attempt-1")
        assert sorted(storage.list("")) == ["a/attempt-10/x", "a/attempt-1x"]

    def test_fetch_gives_a_file_of_this_machine(self, storage: Storage, copies: Path) -> None:
        """Fetch gives a path under which the file can be opened, and leaves the storage's own alone."""
        storage.create("a/b.parquet", b"PAR1")
        assert Path(storage.fetch("a/b.parquet", str(copies))).read_bytes() == b"PAR1"
        assert list(storage.list("")) == ["a/b.parquet"]

    def test_notes_are_those_in_the_folders_asked_for(self, storage: Storage) -> None:
        """Notes tells of files of a name in some folders, not of others beside them or of names that end alike.

        note replaces a note as a whole and leaves the file as it is. Storage that keeps no notes says so with None.
        """
        for path in ("a/d=1/n", "a/d=10/n", "ab/d=1/n", "b/n", "c/d=1/n", "b/d=1/not-n"):
            storage.create(path, b"1", {"path": path})
        before = storage.read("b/n")
        storage.note("b/n", {"new": "ünïcödé"})
        assert storage.read("b/n") == before
        found = storage.notes("n", ["a", "b"])
        if found is None:
            return
        assert found == {"a/d=1/n": {"path": "a/d=1/n"}, "a/d=10/n": {"path": "a/d=10/n"}, "b/n": {"new": "ünïcödé"}}
        assert list(storage.notes("n", ["a/d=1"]) or ()) == ["a/d=1/n"]
        assert list(storage.notes("n", ["a/d=1", "c/d=1"]) or ()) == ["a/d=1/n", "c/d=1/n"]
        assert storage.notes("n", []) == {}

    @pytest.mark.parametrize("name", ODD)
    def test_a_file_and_a_folder_may_be_called_anything(self, storage: Storage, copies: Path, name: str) -> None:
        """Whatever characters a name has, what is written there is found there, and nothing of another."""
        others = ["d1/n", "d2/n", "x/n", "a/n", "zzz"]
        for path in (*others, f"{name}/n", f"{name}/{name}"):
            storage.create(path, path.encode(), {"path": path})
        assert sorted(storage.list(name)) == sorted([f"{name}/n", f"{name}/{name}"])
        assert list(storage.list("", name)) == list(storage.list(name, name)) == [f"{name}/{name}"]
        assert storage.names(name) == {"n", name}
        assert _data(storage, f"{name}/n") == f"{name}/n".encode()
        if (found := storage.notes("n", [name, "x"])) is not None:
            assert {*found} == {f"{name}/n", "x/n"}
            assert list(storage.notes(name, [name]) or ()) == [f"{name}/{name}"]
        storage.copy(f"{name}/n", f"copy/{name}")
        assert Path(storage.fetch(f"copy/{name}", str(copies))).read_bytes() == f"{name}/n".encode()
        for path in (name, "copy"):
            storage.delete(path)
        assert sorted(storage.list("")) == sorted(others)

    def test_the_check_leaves_nothing(self, storage: Storage) -> None:
        """Where all may be done, check says nothing, and nothing is there afterwards."""
        storage.check()
        assert list(storage.list("")) == []

    def test_a_path_has_its_uri(self, storage: Storage) -> None:
        """A file's URI begins with that of the storage, whose own is that of "", and ends with the path."""
        assert storage.uri("a/b=1/c") == storage.uri("").rstrip("/") + "/a/b=1/c"


def _data(storage: Storage, path: str) -> bytes | None:
    found = storage.read(path)
    return found.data if found else None


def _processes() -> ForkServerContext:
    """Return what starts processes that share nothing with this one but what they have imported, which is done once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _enter_environment(environment: Mapping[str, str]) -> None:
    """Take over the environment of the test, since that of the first one stands in all processes."""
    os.environ.update(environment)


def _race(work: Callable[[Opens, int, Barrier, int], int], opens: Opens, times: int) -> list[int]:
    """Return what each of some processes of their own gives that do the same at once."""
    context = _processes()
    # And not a manager's, because Beam's multi_process_shared replaces what managers pickle their proxies by.
    barrier, gave = context.Barrier(PROCESSES), context.SimpleQueue()
    racers = [
        context.Process(target=_run, args=(work, opens, times, barrier, number, dict(os.environ), gave))
        for number in range(PROCESSES)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0] * PROCESSES
    return [gave.get() for _ in racers]


def _run(
    work: Callable[[Opens, int, Barrier, int], int],
    opens: Opens,
    times: int,
    barrier: Barrier,
    number: int,
    environment: Mapping[str, str],
    gave: "SimpleQueue[int]",
) -> None:
    """Do one process's part of a race."""
    _enter_environment(environment)
    try:
        gave.put(work(opens, times, barrier, number))
    except BaseException:
        barrier.abort()  # or the others would wait for ever
        raise


def _create(opens: Opens, times: int, barrier: Barrier, number: int) -> int:
    """Race for one file again and again; return how often this process won."""
    storage, won = opens(), 0
    for each in range(times):
        barrier.wait()
        try:
            storage.create(f"some/where/{each}", b"%d" % number * 1000)
            won += 1
        except ConflictError:
            pass
    return won


def _count(opens: Opens, times: int, barrier: Barrier, number: int) -> int:
    """Add one to the number in a file, again and again."""
    storage = opens()
    barrier.wait()
    for _ in range(times):
        for again in conflict_retries():
            with again:
                there = storage.read("counter")
                value = int(there.data) if there else 0
                storage.replace("counter", b"%d" % (value + 1), there.version if there else "")
    return times


def _enter(opens: Opens, times: int, barrier: Barrier, number: int) -> int:
    """Take a lock again and again; return how often nobody else held it."""
    storage, alone = opens(), 0
    barrier.wait()
    for _ in range(times):
        with storage.lock("_jobs/task.lock"):
            assert storage.read("inside") is None
            storage.replace("inside", b"%d" % number)
            alone += _data(storage, "inside") == b"%d" % number
            storage.delete("inside")
    return alone


def _hold(opens: Opens, environment: Mapping[str, str], pipe: Connection) -> None:
    """Hold a lock for ever."""
    _enter_environment(environment)
    with opens().lock("_jobs/task.lock"):
        pipe.send("holds it")
        signal.pause()

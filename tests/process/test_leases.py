"""Locks in Cloud Storage: one process holds one; whoever dies or falls silent loses it, and can do nothing then.

Where speed is what is claimed there are seconds to spare: a busy machine may pause for that long.
"""

import json
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection

import luigi.configuration
import pytest
import running

from localcloud.faults import Fault
from localcloud.storage import Storage
from millrace.core.leases import Holder, _this_process
from millrace.core.waiting import Waiting
from millrace.errors import ConflictError
from millrace.gcloud.gcs import GcsStorage
from millrace.tasks import session

#: A lock, [gcp] lease unless a test sets another, and how long to wait for what has no time of its own, in seconds.
LOCK, LEASE, LONG = "_jobs/task.lock", 2.0, 30


class Other:
    """A process of its own that takes the lock and then does as it is told."""

    def __init__(self, gcs: GcsStorage) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self.process = context.Process(target=_hold, args=(gcs.uri("").rstrip("/"), theirs))
        self.process.start()
        theirs.close()
        assert self.answer() == "holds it"

    def tell(self, word: str) -> None:
        self._ours.send(word)

    def answer(self) -> object:
        assert self._ours.poll(LONG)
        return self._ours.recv()

    def signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def end(self) -> None:
        if self.process.is_alive():
            self.signal(signal.SIGKILL)
        self.process.join()
        self._ours.close()


@pytest.fixture
def other(gcs: GcsStorage) -> Iterator[Other]:
    """Another process of this host that holds the lock."""
    holder = Other(gcs)
    yield holder
    holder.end()


@pytest.fixture(autouse=True)
def lease(service: Storage) -> None:
    """The lease of these tests."""
    set_lease(LEASE)


def _hold(root: str, pipe: Connection) -> None:
    set_lease(LEASE)
    storage = GcsStorage(root, session.current().google)
    unaware = GcsStorage(root, session.current().google)  # holds no lock, and so never looks at one
    with storage.lock(LOCK):
        entry = storage.replace("_jobs/task.json", b"ours", "")
        pipe.send("holds it")
        word = pipe.recv()
        if word == "fork":
            if os.fork() == 0:
                with storage.lock("_jobs/another.lock"):
                    return  # leaves both
            os.wait()
            pipe.send("forked")
            word = pipe.recv()
        if word == "go on":
            for change in (
                lambda: unaware.replace("_jobs/task.json", b"still ours", entry),
                lambda: storage.create("manifest", b"ours"),
                lambda: storage.delete("theirs"),
            ):
                try:
                    change()
                    pipe.send("done")
                except ConflictError as error:
                    pipe.send(str(error))
    pipe.send("let go")


def version(gcs: GcsStorage) -> str:
    """The lock file's version; "" for none."""
    found = gcs.read(LOCK)
    return found.version if found else ""


def comes(condition: Callable[[], object], seconds: float = LONG) -> bool:
    """Whether something comes to hold in that time."""
    running.wait_for(condition, seconds)
    return bool(condition())


def renewals(gcs: GcsStorage, enough: int, seconds: float = LONG) -> int:
    """How many times the lock file is written anew in that time, or enough of them."""
    seen = {version(gcs)}

    def look() -> bool:
        seen.add(version(gcs))
        return len(seen) > enough

    running.wait_for(look, seconds)
    return len(seen) - 1


def from_elsewhere(**changes: object) -> bytes:
    """The lock file of a process of another host, or of one like this but for some changes."""
    changes = changes or {"host": "elsewhere", "boot": "another boot"}
    return json.dumps({**asdict(_this_process()), **changes}).encode()


def seconds_to_take(gcs: GcsStorage) -> float:
    """How long it takes to get the lock."""
    asked = time.monotonic()
    with gcs.lock(LOCK):
        return time.monotonic() - asked


def set_lease(seconds: float) -> None:
    """Sets [gcp] lease in this process; the fixture `service` takes it back."""
    luigi.configuration.get_config().set("gcp", "lease", str(seconds))


def leased(gcs: GcsStorage, seconds: float) -> GcsStorage:
    """The same storage, with this [gcp] lease."""
    set_lease(seconds)
    return GcsStorage(gcs.uri("").rstrip("/"), session.current().google)


def test_lock_says_who_holds_it_and_goes_with_its_holder(gcs: GcsStorage) -> None:
    """The file of a lock tells the process that holds it, and is gone when it is let go."""
    with gcs.lock(LOCK):
        found = gcs.read(LOCK)
        assert found is not None
        assert json.loads(found.data)["pid"] == os.getpid()
        assert Holder(**json.loads(found.data)).is_here()
    assert version(gcs) == ""


def test_holder_renews_it(gcs: GcsStorage) -> None:
    """A lock is written anew more than once a lease, and so never stands still for as long as one."""
    with gcs.lock(LOCK):
        assert renewals(gcs, 5, 4 * LEASE) == 5  # three a lease, were it not for pauses
        gcs.create("f", b"")


def test_process_that_is_killed_lets_go_at_once(gcs: GcsStorage, other: Other) -> None:
    """After kill -9 another process of the host goes on at once, however long the lease."""
    gcs = leased(gcs, 600)
    taken = threading.Event()

    def take() -> None:
        with gcs.lock(LOCK):
            taken.set()

    waiting = threading.Thread(target=take, daemon=True)
    waiting.start()
    assert not taken.wait(1)
    other.signal(signal.SIGKILL)
    assert taken.wait(LONG)
    waiting.join()


@pytest.mark.parametrize("start", ["1", "9" * 18])
def test_process_that_has_the_pid_of_a_dead_one_is_not_taken_for_it(gcs: GcsStorage, start: str) -> None:
    """A holder whose pid belongs to a process that started at another time has ended."""
    gcs = leased(gcs, 600)
    gcs.replace(LOCK, from_elsewhere(start=start))
    assert seconds_to_take(gcs) < LONG


@pytest.mark.parametrize(
    "data",
    [from_elsewhere(), from_elsewhere(pids="pid:[1]", pid=2**22), from_elsewhere(boot="", pid=2**22), b"no JSON"],
    ids=["another host", "another container", "a system that does not tell", "unreadable"],
)
def test_holder_that_nobody_here_can_see_loses_it_after_the_lease(gcs: GcsStorage, data: bytes) -> None:
    """A holder of another host is waited for as long as a lease, and no longer if it does not renew."""
    gcs = leased(gcs, 1)
    gcs.replace(LOCK, data)
    assert 1 < seconds_to_take(gcs) < 10


def test_holder_elsewhere_that_renews_keeps_it(gcs: GcsStorage, caplog: pytest.LogCaptureFixture) -> None:
    """A holder of another host that goes on renewing is waited for, and followed when it lets go."""
    gcs = leased(gcs, 1.5)
    gcs.replace(LOCK, from_elsewhere())
    taken = threading.Event()

    def take() -> None:
        with gcs.lock(LOCK):
            taken.set()

    waiting = threading.Thread(target=take, daemon=True)
    waiting.start()
    elsewhere = GcsStorage(gcs.uri("").rstrip("/"), session.current().google)
    enough = time.monotonic() + 4
    while time.monotonic() < enough:  # without a pause: this process may have one, and then it is silent
        assert not taken.is_set()
        elsewhere.replace(LOCK, from_elsewhere())
    assert not taken.is_set()
    elsewhere.delete(LOCK)
    assert taken.wait(LONG)
    assert "taken over" not in caplog.text
    waiting.join()


def test_holder_that_lives_is_not_waited_for_by_who_does_not_wait(gcs: GcsStorage) -> None:
    """Waiting names the holder: at once where it is of this host, elsewhere when it renews, as a sign of life.

    A holder elsewhere that is silent for a lease is taken over all the same.
    """
    gcs = leased(gcs, 3)
    with gcs.lock(LOCK):
        asked = time.monotonic()
        with pytest.raises(Waiting, match=rf"another run \(process {os.getpid()} on"), gcs.lock(LOCK, wait=False):
            pass
        assert time.monotonic() - asked < 2
    gcs.replace(LOCK, from_elsewhere(host="elsewhere", boot="another"))
    elsewhere = GcsStorage(gcs.uri("").rstrip("/"), session.current().google)
    renewing = threading.Timer(
        1, lambda: elsewhere.replace(LOCK, from_elsewhere(host="elsewhere", boot="another", pid=1))
    )
    renewing.start()
    asked = time.monotonic()
    with pytest.raises(Waiting, match="on elsewhere"), gcs.lock(LOCK, wait=False):
        pass
    assert 1 <= time.monotonic() - asked < 3
    asked = time.monotonic()
    with gcs.lock(LOCK, wait=False):
        assert time.monotonic() - asked > 3


def test_paused_holder_is_taken_over_and_what_it_does_then_fails(gcs: GcsStorage, other: Other) -> None:
    """A process that wakes up after its lease can neither write over what it read, nor create, nor delete anything."""
    other.signal(signal.SIGSTOP)
    with gcs.lock(LOCK):
        entry = gcs.read("_jobs/task.json")
        assert entry is not None
        gcs.replace("_jobs/task.json", b"theirs", entry.version)
        gcs.create("theirs", b"")
        other.signal(signal.SIGCONT)
        other.tell("go on")
        assert other.answer() == "gs://millrace-test/data/_jobs/task.json was written by somebody else"
        for _ in ("create", "delete"):
            assert "_jobs/task.lock was taken over by another process" in str(other.answer())
        assert other.answer() == "let go"
        other.process.join()
        there = gcs.read(LOCK)
        assert there is not None
        assert json.loads(there.data)["pid"] == os.getpid()
    assert list(gcs.list("")) == ["_jobs/task.json", "theirs"]


def test_holder_that_was_silent_but_not_replaced_goes_on(gcs: GcsStorage, service: Storage) -> None:
    """No network for longer than the lease, and nobody else there: the holder renews as soon as it can, and goes on."""
    with gcs.lock(LOCK):
        before = version(gcs)
        service.faults.randomly(1.0, 0, kinds=("cut",))
        failed = len(service.requests)
        silent = time.monotonic() + 1.5 * LEASE
        assert comes(lambda: time.monotonic() > silent and len(service.requests) > failed)
        service.faults.clear()
        gcs.create("f", b"")
        assert version(gcs) != before
        assert renewals(gcs, 2) == 2
    assert version(gcs) == ""


def test_holder_learns_that_it_was_taken_over(
    gcs: GcsStorage, caplog: pytest.LogCaptureFixture, service: Storage
) -> None:
    """Who finds another's lock when renewing says so, changes nothing more, and leaves the lock to the other."""
    elsewhere = GcsStorage(gcs.uri("").rstrip("/"), session.current().google)
    with caplog.at_level(logging.WARNING, "millrace"), gcs.lock(LOCK):
        elsewhere.replace(LOCK, from_elsewhere())
        assert comes(lambda: "_jobs/task.lock was taken over by another process" in caplog.text)
        with pytest.raises(ConflictError, match="must not go on"):
            gcs.delete("f")
    assert version(gcs) != ""
    gcs.delete("f")


def test_holder_that_was_taken_over_meanwhile_deletes_no_further(gcs: GcsStorage, service: Storage) -> None:
    """A folder of hundreds of files is deleted in several requests: none follows once another holds the lock."""
    for number in range(150):
        gcs.create(f"d/{number}", b"")
    elsewhere = GcsStorage(gcs.uri("").rstrip("/"), session.current().google)
    service.faults.at(1, Fault("delay", seconds=LEASE), call="batch")
    with gcs.lock(LOCK):
        elsewhere.replace(LOCK, from_elsewhere())
        with pytest.raises(ConflictError, match="must not go on"):
            gcs.delete("d")
    assert len(list(gcs.list("d"))) >= 50


def test_answers_that_are_lost_do_not_lose_the_lock(gcs: GcsStorage, service: Storage) -> None:
    """Taking, renewing and letting go are done once and known to be, though every answer is lost the first time."""
    service.faults.at(1, Fault("lost"), call="objects.insert")
    with gcs.lock(LOCK):
        service.faults.at(1, Fault("lost"), call="objects.insert")
        service.faults.at(1, Fault("lost"), call="objects.delete")
        assert renewals(gcs, 3) == 3
        gcs.create("f", b"")
    assert version(gcs) == ""


def test_renewal_that_was_given_up_but_done_is_known_again(
    gcs: GcsStorage, caplog: pytest.LogCaptureFixture, service: Storage
) -> None:
    """A renewal of which only the answer got lost, and no try after it got through, is not taken for another's."""
    with caplog.at_level(logging.WARNING, "millrace"), gcs.lock(LOCK):
        service.faults.at(1, Fault("lost"), call="objects.insert")
        service.faults.randomly(1.0, 0, kinds=("cut",))
        assert comes(lambda: "could not renew the lock" in caplog.text)
        service.faults.clear()
        assert f"_jobs/task.lock, tried for {LEASE / 3:g} s:" in caplog.text
        assert renewals(gcs, 2) == 2
        gcs.create("f", b"")


def test_letting_go_is_tried_again(gcs: GcsStorage, service: Storage) -> None:
    """A call that is cut off once does not leave the lock there."""
    gcs = leased(gcs, 3)
    with gcs.lock(LOCK):
        service.faults.at(1, Fault("cut"), call="objects.delete")
    assert version(gcs) == ""


def test_lock_that_can_t_be_let_go_is_left_to_its_lease(gcs: GcsStorage, service: Storage) -> None:
    """What was done under a lock does not fail because the lock can't be removed."""
    with gcs.lock(LOCK):
        service.denied.add("storage.objects.delete")
    service.denied.clear()
    assert version(gcs) != ""


def test_forked_process_has_no_part_in_the_lock(gcs: GcsStorage, other: Other) -> None:
    """A process that the holder forks leaves the lock as it is when it ends; the holder goes on holding it."""
    other.tell("fork")
    assert other.answer() == "forked"
    before = version(gcs)
    assert before
    assert comes(lambda: version(gcs) != before)
    other.tell("end")
    assert other.answer() == "let go"
    assert version(gcs) == ""


def test_waiting_asks_seldom(gcs: GcsStorage, service: Storage) -> None:
    """Who waits asks less and less often: a dozen times in a lease, not hundreds."""
    gcs = leased(gcs, 1)
    gcs.replace(LOCK, from_elsewhere())
    asked = len(service.requests)
    seconds_to_take(gcs)
    assert len(service.requests) - asked < 20

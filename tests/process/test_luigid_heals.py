"""What failed, lacked or was stopped is done by the next run: with any luigid, ours or a team's, and without one."""

import datetime
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import running
from luigid_asking import ask, free_port, listed, start_luigid
from running import Ran
from small_project import DAY, Small

HERE = ("--scheduler-host", "localhost", "--scheduler-port")
#: How luigid may be set up: not at all; as this project's luigi.cfg was once, so that one failure shuts a task out for
#: a day; a luigid that tries again at once, and soon misses who has died.
LUIGIDS = {
    "plain": "",
    "strict": "[scheduler]\nretry_count = 1\n",
    "eager": "[scheduler]\nretry_delay = 0\nworker_disconnect_delay = 2\n",
}


@pytest.fixture(scope="module")
def luigids(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, int]]:
    """The ports of a luigid of each kind."""
    ports = {kind: free_port() for kind in LUIGIDS}
    started = [start_luigid(tmp_path_factory.mktemp(kind), ports[kind], settings) for kind, settings in LUIGIDS.items()]
    yield ports
    for process in started:
        process.terminate()
        process.wait(30)


def start(folder: Path, task: str, *flags: object, **environ: str) -> "subprocess.Popen[str]":
    """A luigi process over one of the small tasks, which looks for work again at once."""
    command = running.command(task, "--at", folder, "--worker-wait-jitter", 0, *flags, module="luigid_tasks")
    return subprocess.Popen(
        command,
        cwd=folder,
        env=running.environment(**environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end(process: "subprocess.Popen[str]") -> Ran:
    """What a process said, and its exit code."""
    out, _ = process.communicate(timeout=120)
    return Ran(process.returncode, out, "")


def run(folder: Path, task: str, *flags: object, **environ: str) -> Ran:
    """Runs one of the small tasks to its end."""
    return end(start(folder, task, *flags, **environ))


def runs(folder: Path, task: str) -> int:
    """How often a task ran."""
    noted = folder / f"{task}.runs"
    return len(noted.read_text().splitlines()) if noted.exists() else 0


def wait_for(path: Path) -> None:
    """Waits until a file is there."""
    running.wait_for(path.exists, 30)
    assert path.exists()


@pytest.mark.parametrize("kind", ["none", "strict", *(["plain"] if running.WHOLE else [])])
def test_what_failed_or_was_not_there_is_done_by_the_next_run(
    kind: str, luigids: Mapping[str, int], tmp_path: Path
) -> None:
    """Fail, mend, run; not there, there, run: the next firing does what is left, whatever luigid remembers."""
    flags = () if kind == "none" else (*HERE, luigids[kind])
    (tmp_path / "First.broken").touch()
    ran = run(tmp_path, "Reader", *flags)
    assert ran.code == 30, ran
    assert "it is broken" in ran.out
    assert runs(tmp_path, "First") == 1
    if flags:
        assert listed(luigids[kind], "DISABLED") == {}
        assert [task["name"] for task in listed(luigids[kind], "FAILED").values()] == ["First"]
    (tmp_path / "First.broken").unlink()
    ran = run(tmp_path, "Reader", *flags)
    assert ran.code == 20, ran  # the file is still not there
    (tmp_path / "file").touch()
    ran = run(tmp_path, "Reader", *flags)
    assert ran.code == 0, ran
    assert (runs(tmp_path, "First"), runs(tmp_path, "Reader")) == (2, 1)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("workers", [2, *([1] if running.WHOLE else [])])
def test_what_was_stopped_is_done_by_the_next_run(
    workers: int, stop: signal.Signals, luigids: Mapping[str, int], tmp_path: Path
) -> None:
    """Ctrl-C, or a terminal that is closed, then run: luigid hears of the stop, so that the next run need not wait
    until it misses the first.
    """
    flags = (*HERE, luigids["strict"], "--workers", workers)
    (tmp_path / "First.held").touch()
    process = start(tmp_path, "Second", *flags)
    wait_for(tmp_path / "First.runs")
    os.killpg(process.pid, stop)
    stopped = end(process)
    assert stopped.code in (130, -signal.SIGINT), stopped
    assert f"stopped by {stop.name}; the same command goes on from here" in stopped.out
    assert listed(luigids["strict"], "RUNNING") == {}
    (tmp_path / "First.held").unlink()
    ran = run(tmp_path, "Second", *flags)
    assert ran.code == 0, ran
    assert "waiting" not in ran.out


@pytest.mark.parametrize("done", [False, True])
def test_what_was_killed_is_done_by_the_next_run(done: bool, luigids: Mapping[str, int], tmp_path: Path) -> None:
    """Kill -9 of luigi, run at once: the run waits until luigid misses the dead one, then does it all.

    So it does where what the dead one was at work on is done, of which luigid has not heard.
    """
    flags = (*HERE, luigids["eager"])
    (tmp_path / "First.held").touch()
    process = start(tmp_path, "Second", *flags)
    wait_for(tmp_path / "First.runs")
    os.killpg(process.pid, signal.SIGKILL)
    end(process)
    (tmp_path / "First.held").unlink()
    if done:
        (tmp_path / "First.done").touch()
    ran = run(tmp_path, "Second", *flags)
    assert ran.code == 0, ran
    assert runs(tmp_path, "First") == (1 if done else 2)


def test_second_run_beside_a_first_waits_and_says_so(luigids: Mapping[str, int], tmp_path: Path) -> None:
    """The second run waits for what the first is at work on, in one line; both end with 0, each task ran once."""
    flags = (*HERE, luigids["plain"])
    (tmp_path / "First.held").touch()
    first = start(tmp_path, "Second", *flags)
    wait_for(tmp_path / "First.runs")
    second = start(tmp_path, "Both", *flags)  # it needs more than the first, and other things besides
    wait_for(tmp_path / "Other.done")
    assert second.stdout is not None
    said = next(line for line in second.stdout if "waiting" in line)
    (tmp_path / "First.held").unlink()
    one, other = end(first), end(second)
    assert (one.code, other.code) == (0, 0), f"{one}\n{other}"
    assert f"First(at={tmp_path}): waiting for another run (host " in said
    assert f"process {first.pid})" in said
    assert "waiting" not in other.out, other
    assert [runs(tmp_path, task) for task in ("First", "Second", "Other")] == [1, 1, 1]


def test_second_run_does_what_the_first_fails_at(luigids: Mapping[str, int], tmp_path: Path) -> None:
    """What another run failed at, a run that waited for it tries itself, as without luigid."""
    flags = (*HERE, luigids["strict"])
    (tmp_path / "First.held").touch()
    first = start(tmp_path, "Second", *flags)
    wait_for(tmp_path / "First.runs")
    second = start(tmp_path, "Second", *flags)
    assert second.stdout is not None
    assert any("waiting for another run" in line for line in second.stdout)
    os.killpg(first.pid, signal.SIGTERM)
    end(first)
    (tmp_path / "First.held").unlink()
    ran = end(second)
    assert ran.code == 0, ran


def test_what_failed_is_not_tried_again_within_a_run(luigids: Mapping[str, int], tmp_path: Path) -> None:
    """Also where luigid would give it to the same run again; a run that comes meanwhile does try it."""
    port = luigids["eager"]
    (tmp_path / "First.broken").touch()
    (tmp_path / "Other.held").touch()
    process = start(tmp_path, "Both", *HERE, port, "--workers", 3)
    wait_for(tmp_path / "Other.runs")
    wait_for(tmp_path / "First.runs")

    def changed() -> float:
        """When luigid last changed its mind about the task; asking makes it try again what failed."""
        [task] = [
            task
            for task in ask(port, "task_list", status="", upstream_status="", search=str(tmp_path)).values()
            if task["name"] == "First"
        ]
        return float(task["last_updated"])

    running.wait_for(lambda: not [task for task in listed(port, "RUNNING").values() if task["name"] == "First"], 30)
    before = changed()
    running.wait_for(lambda: changed() > before, 30)  # it was given to the run, which gave it back
    assert changed() > before
    assert runs(tmp_path, "First") == 1
    (tmp_path / "First.broken").unlink()
    ran = run(tmp_path, "First", *HERE, port)
    assert ran.code == 0, ran
    assert runs(tmp_path, "First") == 2
    (tmp_path / "Other.held").unlink()
    end(process)
    assert runs(tmp_path, "Other") == 1


def test_luigid_that_has_shut_a_task_out_gives_it_all_the_same(luigids: Mapping[str, int], tmp_path: Path) -> None:
    """A task that is DISABLED because of a failure under luigi's own worker is given to the next run of ours."""
    port = luigids["strict"]
    shut = {"task_id": "", "worker": "another", "family": "First", "params": {"at": str(tmp_path)}}
    ran = run(tmp_path, "Other", *HERE, port)
    [other] = [id for id, task in listed(port, "DONE").items() if task["params"] == {"at": str(tmp_path)}]
    shut["task_id"] = other.replace("Other", "First")
    for status in ("PENDING", "FAILED"):
        ask(port, "add_task", **shut, status=status)
    assert shut["task_id"] in listed(port, "DISABLED")
    ran = run(tmp_path, "Second", *HERE, port)
    assert ran.code == 0, ran


def test_what_was_done_and_is_gone_is_done_again_at_once(luigids: Mapping[str, int], tmp_path: Path) -> None:
    """Done, cleared, run: for ten seconds luigid takes no task that it has just seen done; the run bears with it."""
    assert run(tmp_path, "First", *HERE, luigids["plain"]).code == 0
    (tmp_path / "First.done").unlink()
    ran = run(tmp_path, "First", *HERE, luigids["plain"])
    assert ran.code == 0, ran
    assert runs(tmp_path, "First") == 2


def test_what_was_cleared_a_moment_ago_is_done_before_what_needs_it(luigids: Mapping[str, int], tmp_path: Path) -> None:
    """luigid has just seen done what is gone by now, and would give what needs that at once: nothing fails of it."""
    small = Small(tmp_path / "project")
    flags = ("--millrace-storage", small.storage, *HERE, luigids["plain"])
    span = ("--start", DAY - datetime.timedelta(days=2), "--stop", DAY + datetime.timedelta(days=1))
    small.luigi("RangeDaily", "--of", "Daily", *span, *flags)
    shutil.rmtree(small.storage / f"daily/date={DAY}")
    ran = small.luigi("Page", "--date", DAY, *flags)
    assert "ERROR" not in ran.out + ran.err, ran
    assert len(small.made()) == 5


def test_luigid_that_is_killed_and_started_again(tmp_path: Path) -> None:
    """Killed during a run and started again within seconds, with nothing that it knew: the run goes on to its end.

    One that stays away is said to be gone, in one line: what runs ends, nothing further is begun, the exit code is 45.
    """
    port = free_port()
    luigid = start_luigid(tmp_path / "luigid", port)
    (tmp_path / "First.held").touch()
    process = start(tmp_path, "Second", *HERE, port)
    wait_for(tmp_path / "First.runs")
    luigid.kill()
    luigid.wait(30)
    luigid = start_luigid(tmp_path / "luigid", port)
    (tmp_path / "First.held").unlink()
    ran = end(process)
    assert ran.code == 0, ran
    for file in (*tmp_path.glob("*.runs"), *tmp_path.glob("*.done")):
        file.unlink()
    (tmp_path / "First.held").touch()
    process = start(tmp_path, "Second", *HERE, port, "--workers", 2)
    wait_for(tmp_path / "First.runs")
    luigid.kill()
    luigid.wait(30)
    begun = time.monotonic()
    assert process.stdout is not None
    said = next(line for line in process.stdout if "ERROR" in line)
    assert time.monotonic() - begun < 15
    (tmp_path / "First.held").unlink()
    ran = end(process)
    assert ran.code == 45, ran
    assert said == (
        f"ERROR: luigid at http://localhost:{port} does not answer (Connection refused); what is running ends, "
        "nothing further is begun, and the same command goes on from here\n"
    )
    assert "Traceback" not in ran.out
    assert ran.errors == []
    assert (runs(tmp_path, "First"), runs(tmp_path, "Second")) == (1, 0)
    assert (tmp_path / "First.done").exists()


def test_no_luigid(tmp_path: Path) -> None:
    """Where none is: one line within seconds, exit code 45, and a proxy is asked nothing, though one is set."""
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.setblocking(False)
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        begun = time.monotonic()
        ran = run(tmp_path, "First", *HERE, port, http_proxy=address, HTTP_PROXY=address, all_proxy=address)
        assert time.monotonic() - begun < 30
        with pytest.raises(BlockingIOError):
            proxy.accept()
    assert (ran.code, ran.out) == (
        45,
        f"ERROR: luigid at http://localhost:{port} does not answer (Connection refused); "
        f"{running.ROOT}/bin/luigid starts one, "
        "and --local-scheduler runs without\n",
    )

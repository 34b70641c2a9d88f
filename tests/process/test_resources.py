"""A full disk, memory that runs out, a task's process that the kernel kills: one sentence, and the next run heals."""

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import running

from millrace.core import resources

FLAGS = ("--date", running.DAY)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 160 KB; only root can have one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", disk], capture_output=True).returncode:
        running.absent("no disk of a few KB can be mounted")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_full_disk_is_one_sentence(small: Path) -> None:
    """A run that fills its disk says so once, without a traceback; where there is room again the next one goes on."""
    ran = running.luigi("Etl", *FLAGS, "--workers", 1, storage=small / "data")
    assert ran.code == 30, ran
    assert len(ran.errors) == 1, ran
    assert "No space left on device: make room where the storage and temporary files (" in ran.errors[0]
    assert "Traceback" not in ran.out + ran.err
    subprocess.run(["mount", "-o", "remount,size=8m", small], check=True)
    running.succeed("Etl", *FLAGS, "--workers", 1, storage=small / "data")


def test_killed_process_is_one_sentence(tmp_path: Path) -> None:
    """What happened to the task, and what may help; the run goes on with the others, and ends as after a failure."""
    (tmp_path / "First.held").touch()
    command = running.command("Both", "--at", tmp_path, "--worker-wait-jitter", 0, module="luigid_tasks")
    env = running.environment()
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)
    running.wait_for((tmp_path / "First.runs").exists, 30)
    os.kill(int((tmp_path / "First.runs").read_text()), signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 30, said
    [line] = [line for line in said.splitlines() if line.startswith("ERROR")]
    assert line == (
        f"ERROR: First(at={tmp_path}): its process was killed, as the kernel does where memory runs out "
        "(fewer --workers need less); run again"
    )
    assert "Traceback" not in said
    assert (tmp_path / "Other.done").exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device: make room"),
        (OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"), "No space"),
        (RuntimeError("OSError: [Errno 122] Disk quota exceeded [while running 'WriteShard']"), "Disk quota exceeded"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), "File too large: make room"),
        (MemoryError(), "memory ran out"),
        (pa.ArrowMemoryError("malloc of size 4611686018427387904 failed"), "memory ran out"),
        (OSError(errno.EACCES, os.strerror(errno.EACCES)), ""),
        (ValueError("x"), ""),
    ],
)
def test_what_ran_out(error: Exception, said: str) -> None:
    """Of the system, of Arrow, of Beam's text; also where it led to another error."""
    for each in (error, _led_to(error)):
        found = resources.exhausted(each)
        assert (str(found) if found else "").startswith(said)
        assert (found is None) == (said == "")


def _led_to(error: Exception) -> Exception:
    try:
        raise RuntimeError("it failed") from error
    except RuntimeError as other:
        return other


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("kill -KILL $$", "was killed, as the kernel does where memory runs out"),
        ("kill -TERM $$", "ended by SIGTERM"),
        ("kill -HUP $$", "ended by SIGHUP"),
        ("exit 1", "ended with exit code 1"),
        ("exit 0", "ended with exit code 0"),
    ],
)
def test_how_a_process_ended(command: str, said: str) -> None:
    """By a signal, which is named, or with a code; only kill -9 is what the kernel may have done."""
    assert resources.killed(subprocess.run(["sh", "-c", command]).returncode).startswith(said)

"""A job service of Beam's and a pool of its workers, which have Beam but neither our code nor the launcher's disk."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import running
from luigid_asking import free_port

#: What of the project workers must not find on a disk.
_OURS = ("bigquery_sql", "localcloud", "millrace", "pipelines", "tests", "workflows")
#: Hides folders from this process on, makes a folder for the workers, and becomes the pool.
_POOL = """
set -e
for each in $COVERED; do mount -t tmpfs none "$each"; done
mkdir -p "$TMPDIR" && cd "$TMPDIR"
cp "$ROOT/localcloud/boot.py" boot.py
printf '#!/bin/sh\\nexec "%s" "%s/boot.py" "$@"\\n' "$PYTHON" "$TMPDIR" > boot && chmod +x boot
for each in $HIDDEN; do mount -t tmpfs none "$ROOT/$each"; done
exec "$PYTHON" -m apache_beam.runners.worker.worker_pool_main --service_port=$PORT --container_executable="$TMPDIR/boot"
"""
#: The Python of the workers.
PYTHON = os.path.realpath(sys.executable)  # the environment's own has what is installed as editable, our code


@dataclass(frozen=True)
class Engine:
    """Where jobs are taken, and by whom they are done. apart: whether the workers have a disk of their own."""

    job_endpoint: str
    pool: str
    pool_id: int
    folder: Path
    apart: bool

    @property
    def settings(self) -> dict[str, str]:
        """What [flink] says of the engine."""
        return {
            "job_endpoint": self.job_endpoint,
            "environment_type": "EXTERNAL",
            "environment_config": self.pool,
        }

    def sees(self, path: Path) -> bool:
        """Whether a file is there for the workers."""
        return Path(f"/proc/{self.pool_id}/root{path}").exists()

    def said(self) -> str:
        """What job service and workers have logged."""
        return "".join(path.read_text(encoding="utf-8") for path in sorted(self.folder.glob("*.log")))


@contextlib.contextmanager
def started(folder: Path, hidden: Path, environment: Mapping[str, str]) -> Iterator[Engine]:
    """An engine whose logs lie in a folder, and from whose workers another is hidden, where the system lets us."""
    way = apart(folder)
    port, port_file = free_port(), folder / "port"
    service = [running.python(), "-m", "apache_beam.runners.portability.local_job_service_main"]
    known = {
        **{key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ},
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "PYTHON": PYTHON,
        "ROOT": str(running.ROOT),
        "COVERED": str(hidden) if way else "",
        "HIDDEN": " ".join(_OURS) if way else "",
        "TMPDIR": str(hidden / "worker"),
        "HOME": str(hidden / "worker"),
        "PORT": str(port),
        **environment,
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            running_process([*service, "--port_file", port_file], folder / "service.log", dict(os.environ))
        )
        pool = stack.enter_context(running_process([*way, "sh", "-c", _POOL], folder / "pool.log", known))
        running.wait_for(lambda: port_file.exists() and listens(port), 60)
        engine = Engine(f"localhost:{port_file.read_text()}", f"localhost:{port}", pool, folder, bool(way))
        assert listens(port), engine.said()
        yield engine


@contextlib.contextmanager
def running_process(command: Sequence[object], log: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """A process with all that it starts, in the folder of its log, killed at the end; its id."""
    with log.open("w") as stream:
        process = subprocess.Popen(
            [str(each) for each in command],
            cwd=log.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def apart(folder: Path) -> list[str]:
    """The command that gives a process mounts of its own; nothing where the system lets nobody have such."""
    return next((way for way in (["unshare", "-m"], ["unshare", "-Urm"]) if _works(way, folder)), [])


def _works(way: list[str], folder: Path) -> bool:
    """Whether a process may have mounts of its own."""
    tried = folder / "tried"
    tried.mkdir(exist_ok=True)
    command = [*way, "mount", "-t", "tmpfs", "none", str(tried)]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


def listens(port: int) -> bool:
    """Whether somebody takes connections at a port of this machine."""
    with socket.socket() as asked:
        return asked.connect_ex(("localhost", port)) == 0

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
#: Where processes can't have mounts of their own: what keeps a Python from all that lies in some folders.
_FENCE = """
import os, sys

def fence(event, arguments, covered={covered!r}, free={free!r}):
    if event in ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove", "import"):
        for path in (os.path.realpath(os.fsdecode(each)) for each in arguments if isinstance(each, str | bytes)):
            if path.startswith(covered) and not path.startswith(free):
                raise FileNotFoundError(f"{{path}} is another machine's")

sys.addaudithook(fence)
"""
#: The Python of the workers.
PYTHON = os.path.realpath(sys.executable)  # the environment's own has what is installed as editable, our code


@dataclass(frozen=True)
class Engine:
    """Where jobs are taken, and by whom they are done; environment: the workers'."""

    job_endpoint: str
    pool: str
    pool_id: int
    folder: Path
    environment: Mapping[str, str]

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
        if self.environment["COVERED"]:
            return Path(f"/proc/{self.pool_id}/root{path}").exists()
        looked = [PYTHON, "-c", "import sys; open(sys.argv[1])", str(path)]
        return subprocess.run(looked, env=self.environment, capture_output=True).returncode == 0

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
    if not way:
        free, ours = str(hidden / "worker"), [str(running.ROOT / each) for each in _OURS]
        fence = _FENCE.format(covered=(str(hidden), *ours), free=(free, str(folder)))
        (folder / "sitecustomize.py").write_text(fence, encoding="utf-8")
        known["PYTHONPATH"] += f"{os.pathsep}{folder}"
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            running_process([*service, "--port_file", port_file], folder / "service.log", dict(os.environ))
        )
        pool = stack.enter_context(running_process([*way, "sh", "-c", _POOL], folder / "pool.log", known))
        running.wait_for(lambda: port_file.exists() and listens(port), 60)
        engine = Engine(f"localhost:{port_file.read_text()}", f"localhost:{port}", pool, folder, known)
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

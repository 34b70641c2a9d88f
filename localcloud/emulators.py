"""Google's own emulators of Pub/Sub and Datastore, from the Cloud SDK: each starts when its first client connects.

    with Emulator("datastore") as datastore:
        os.environ |= datastore.environment()

They take Java, and of the SDK `gcloud components install pubsub-emulator cloud-datastore-emulator`, or the packages of
Debian that are called google-cloud-cli-….
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from localcloud import PROJECT

#: Seconds for an emulator to start in, and to end in.
_PATIENCE = 60.0
#: Runs a command in this group of processes, and ends all of it with the command, or when its own input ends: so the
#: emulator, whose script would leave Java behind, outlives nobody, however that ended. Java may be deaf at first.
_GUARD = 'trap : TERM; (trap : TERM; "$@" </dev/null; kill -KILL 0) & read -r _; kill -TERM 0; sleep 10; kill -KILL 0'
_FILES = {
    "pubsub": "platform/pubsub-emulator/lib",
    "datastore": "platform/cloud-datastore-emulator/CloudDatastore.jar",
}


def _pubsub(files: Path, port: int, folder: Path | None) -> list[str]:
    program = files.parent / "bin" / "cloud-pubsub-emulator"
    return [str(program), "--host=127.0.0.1", f"--port={port}"]


def _datastore(files: Path, port: int, folder: Path | None) -> list[str]:
    program = ["java", "-cp", str(files), "com.google.cloud.datastore.emulator.CloudDatastore", "start"]
    place = ["--host=127.0.0.1", f"--port={port}", "--consistency=1.0", f"--store_on_disk={bool(folder)}"]
    return [*program, *place, str(folder or "/nonexistent")]


_COMMANDS: Mapping[str, Callable[[Path, int, Path | None], list[str]]] = {"pubsub": _pubsub, "datastore": _datastore}


def sdk() -> Path | None:
    """Return where the Cloud SDK of this machine is; None where it has none."""
    gcloud = shutil.which("gcloud")
    return Path(gcloud).resolve().parent.parent if gcloud else None


def available() -> list[str]:
    """Return the emulators that this machine has, of "pubsub" and "datastore"."""
    root = sdk()
    return [name for name, files in _FILES.items() if root and (root / files).exists() and shutil.which("java")]


class Emulator:
    """A port of this machine behind which an emulator is as soon as somebody connects. Raises RuntimeError if there is
    no such emulator here.

    folder: where it keeps what is stored; without one nothing is kept. Pub/Sub's never keeps anything.
    """

    def __init__(self, name: str, folder: Path | None = None) -> None:
        if name not in available():
            raise RuntimeError(f"this machine has no emulator of {name}: it takes Java and the Cloud SDK's component")
        self.name = name
        self._files, self._folder = (sdk() or Path()) / _FILES[name], folder
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._ended = False
        self._front = socket.create_server(("127.0.0.1", 0))

    @property
    def host(self) -> str:
        """Where clients find it."""
        return f"localhost:{self._front.getsockname()[1]}"

    def environment(self) -> Mapping[str, str]:
        """Return the variables that lead Google's clients to it."""
        prefix = self.name.upper()
        return {f"{prefix}_EMULATOR_HOST": self.host, f"{prefix}_PROJECT_ID": PROJECT}

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *failure: object) -> None:
        with self._lock:
            self._ended = True
            self._front.close()
            if self._process and self._process.stdin:
                self._process.stdin.close()
                try:
                    self._process.wait(_PATIENCE)
                except subprocess.TimeoutExpired:
                    os.killpg(self._process.pid, 9)
                    self._process.wait()

    def _accept(self) -> None:
        while not self._ended:
            try:
                client, _ = self._front.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Pass on what a client and the emulator say to each other, until one of them ends."""
        with client, contextlib.suppress(OSError, RuntimeError):
            self._start()
            with socket.create_connection(("127.0.0.1", self._port)) as emulator:
                back = threading.Thread(target=_pass, args=(emulator, client), daemon=True)
                back.start()
                _pass(client, emulator)
                back.join()

    def _start(self) -> None:
        """Start the emulator unless it runs, and wait until it answers. Raises RuntimeError."""
        with self._lock:
            if self._ended:
                raise RuntimeError("the local cloud has ended")
            if self._process and self._process.poll() is None:
                return
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self._port = free.getsockname()[1]
            if self._folder:
                self._folder.mkdir(parents=True, exist_ok=True)
            command = _COMMANDS[self.name](self._files, self._port, self._folder)
            with tempfile.TemporaryFile() as log:
                self._process = subprocess.Popen(
                    ["sh", "-c", _GUARD, "sh", *command],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            until = time.monotonic() + _PATIENCE
            while not _answers(self._port):
                if self._process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"the emulator of {self.name} did not start")
                time.sleep(0.05)


def _pass(source: socket.socket, target: socket.socket) -> None:
    """Pass on bytes until there are no more, and say so."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0

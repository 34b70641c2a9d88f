"""Google's Pub/Sub emulator from the Cloud SDK, for tests and `make stream-demo`: a process and its topics."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROJECT = "millrace-test"


def found() -> Path | None:
    """Return the emulator's program, where gcloud says that the SDK is; None without either."""
    gcloud = shutil.which("gcloud")
    if not gcloud or not shutil.which("java"):
        return None
    asked = subprocess.run(
        [gcloud, "info", "--format=value(installation.sdk_root)"], capture_output=True, text=True, check=False
    )
    program = Path(asked.stdout.strip()) / "platform/pubsub-emulator/bin/cloud-pubsub-emulator"
    return program if program.is_file() else None


@contextlib.contextmanager
def emulator(program: Path, folder: Path) -> Iterator[str]:
    """Run the emulator; yield what PUBSUB_EMULATOR_HOST is to be."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    host = f"127.0.0.1:{port}"
    with open(folder / "emulator.log", "wb") as log:
        process = subprocess.Popen([program, "--host=127.0.0.1", f"--port={port}"], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(
                    f"the Pub/Sub emulator did not start: {(folder / 'emulator.log').read_text()[-500:]}"
                )
            time.sleep(0.05)
        yield host
    finally:
        process.terminate()
        process.wait(20)


def clean(host: str) -> dict[str, str]:
    """Return the environment in which Google's client talks to the emulator alone."""
    return {**os.environ, "PUBSUB_EMULATOR_HOST": host, "GOOGLE_CLOUD_PROJECT": PROJECT}

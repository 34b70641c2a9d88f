"""Google's Pub/Sub emulator from the Cloud SDK: a process of its own, with topics that have a subscription each.

    with PubSub(["images", "predictions"]) as pubsub:
        os.environ |= pubsub.environment()

As a command, `python -m localcloud.pubsub --topic images -- COMMAND` runs a command beside it.
"""

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

PROJECT = "millrace-test"
#: Seconds for the emulator to start in, and to end in.
_PATIENCE = 60.0
#: What a machine without the emulator lacks.
MISSING = "no Pub/Sub emulator: it takes Java and Google's Cloud SDK with `gcloud components install pubsub-emulator`"


def program() -> Path | None:
    """Return the emulator's program, where gcloud says that the SDK is; None where it, gcloud or Java is missing."""
    gcloud = shutil.which("gcloud")
    if not gcloud or not shutil.which("java"):
        return None
    asked = subprocess.run(
        [gcloud, "info", "--format=value(installation.sdk_root)"], capture_output=True, text=True, check=False
    )
    found = Path(asked.stdout.strip()) / "platform/pubsub-emulator/bin/cloud-pubsub-emulator"
    return found if found.is_file() else None


class PubSub:
    """The emulator, which remembers nothing once it has ended. Raises RuntimeError where there is none."""

    def __init__(self, topics: Sequence[str] = ()) -> None:
        self._topics = topics
        self._program = program()
        if self._program is None:
            raise RuntimeError(MISSING)
        self._process: subprocess.Popen[bytes] | None = None
        self.host = ""

    def __enter__(self) -> "PubSub":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.host = f"127.0.0.1:{port}"
        with tempfile.TemporaryFile() as log:
            command = [str(self._program), "--host=127.0.0.1", f"--port={port}"]
            # In a group of its own, because a Ctrl-C is for the command, and the emulator ends after that.
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            until = time.monotonic() + _PATIENCE
            while not _answers(port):
                if self._process.poll() is not None or time.monotonic() > until:
                    self.__exit__(None, None, None)
                    log.seek(0)
                    said = log.read().decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
                    raise RuntimeError(f"the Pub/Sub emulator did not start: {said[-1]}")
                time.sleep(0.05)
        for name in self._topics:
            self.make(name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process:
            # The program is a shell script, whose Java would outlive it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    def environment(self) -> Mapping[str, str]:
        """Return the variables that lead Google's clients to the emulator."""
        return {"PUBSUB_EMULATOR_HOST": self.host, "PUBSUB_PROJECT_ID": PROJECT}

    def make(self, name: str, **subscription: Any) -> None:
        """Make a topic, and a subscription of the same name that keeps the order of keys."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import pubsub_v1  # type: ignore[attr-defined]

        before = os.environ.get("PUBSUB_EMULATOR_HOST")
        os.environ["PUBSUB_EMULATOR_HOST"] = self.host  # the clients know no other way
        try:
            publisher = pubsub_v1.PublisherClient(credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
            subscriber = pubsub_v1.SubscriberClient(credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
        finally:
            if before is None:
                del os.environ["PUBSUB_EMULATOR_HOST"]
            else:
                os.environ["PUBSUB_EMULATOR_HOST"] = before
        try:
            publisher.create_topic(name=topic(name))
            named = {"name": subscription_of(name), "topic": topic(name), "enable_message_ordering": True}
            subscriber.create_subscription(request={**named, **subscription})
        finally:
            publisher.transport.close()
            subscriber.close()


def topic(name: str) -> str:
    """Return a topic's full name."""
    return f"projects/{PROJECT}/topics/{name}"


def subscription_of(name: str) -> str:
    """Return the full name of a topic's subscription."""
    return f"projects/{PROJECT}/subscriptions/{name}"


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


def main(argv: Sequence[str]) -> int:
    """Run the command line; return the exit code of the command."""
    parser = argparse.ArgumentParser(prog="python -m localcloud.pubsub", description=__doc__)
    parser.add_argument("--topic", action="append", default=[], help="a topic to make, with a subscription of its name")
    parser.add_argument("command", nargs="+", help="after --, what to run beside the emulator")
    args = parser.parse_args(argv)
    try:
        emulator = PubSub(args.topic)
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    with emulator:
        command = subprocess.Popen(args.command, env={**os.environ, **emulator.environment()})
        try:
            return command.wait()
        except KeyboardInterrupt:
            return command.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

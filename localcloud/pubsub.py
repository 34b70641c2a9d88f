"""Google's Pub/Sub emulator with topics that have a subscription each.

    with PubSub(["images", "predictions"]) as pubsub:
        os.environ |= pubsub.environment()

As a command, `python -m localcloud.pubsub --topic images -- COMMAND` runs a command beside it.
"""

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from localcloud import PROJECT
from localcloud.emulators import Emulator

#: What a machine without the emulator lacks.
MISSING = "no Pub/Sub emulator: it takes Java and Google's Cloud SDK with `gcloud components install pubsub-emulator`"


class PubSub:
    """The emulator, which remembers nothing once it has ended. Raises RuntimeError where there is none."""

    def __init__(self, topics: Sequence[str] = ()) -> None:
        self._topics = topics
        try:
            self._emulator = Emulator("pubsub")
        except RuntimeError:
            raise RuntimeError(MISSING) from None
        self.host = self._emulator.host

    def __enter__(self) -> "PubSub":
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._emulator)
            for name in self._topics:
                self.make(name)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.close()

    def environment(self) -> Mapping[str, str]:
        """Return the variables that lead Google's clients to the emulator."""
        return self._emulator.environment()

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

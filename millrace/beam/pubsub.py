"""Pub/Sub: publishing in pipelines, and publishing, reading and looking at by commands.

What is published keeps its attributes and its ordering key, on every runner, which Beam's own sink does not on
Dataflow. A bundle is done when Pub/Sub has taken its messages, so that each is published at least once.
"""

import contextlib
import functools
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import apache_beam as beam

from millrace.beam import google_errors
from millrace.errors import MillraceError, SettingError

#: Messages of a pull, and seconds to wait for the first.
PULL, PATIENCE = 1000, 0.5
#: Seconds for which Pub/Sub is asked to take messages before the bundle fails, and what it takes at once.
_TIMEOUT = 120.0
_MOST, _MOST_BYTES = 1000, 9 << 20
#: Bytes that a request takes for each message besides the message.
_OVERHEAD = 16
#: Requests at once, where a bundle has messages of several ordering keys.
_AT_ONCE = 16


class Message(NamedTuple):
    """What is published: data, attributes and an ordering key, "" for none."""

    data: bytes
    attributes: Mapping[str, str] = {}
    ordering_key: str = ""


class Publish(beam.PTransform):
    """Publishes messages (Message) to a topic, projects/P/topics/T; gives nothing."""

    def __init__(self, topic: str) -> None:
        super().__init__()
        self._topic = topic

    def expand(self, messages: Any) -> Any:
        return messages | beam.ParDo(_Publish(self._topic)).with_output_types(None)


class _Publish(beam.DoFn):
    """Publishes a bundle's messages, some at a time, before the bundle is done; those of a key in their order."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._sender: _Sender | None = None
        self._waiting: list[Any] = []
        self._bytes = 0

    def setup(self) -> None:
        self._sender = _Sender(self._topic)

    def start_bundle(self) -> None:
        self._waiting, self._bytes = [], 0

    def process(self, message: Message) -> None:
        made = _as_published(message)
        size = type(made).pb(made).ByteSize() + _OVERHEAD
        if self._waiting and (len(self._waiting) == _MOST or self._bytes + size > _MOST_BYTES):
            self._send()
        self._waiting.append(made)
        self._bytes += size

    def finish_bundle(self) -> None:
        if self._waiting:
            self._send()

    def _send(self) -> None:
        assert self._sender  # setup was before
        self._sender.send(self._waiting)
        self._waiting, self._bytes = [], 0

    def teardown(self) -> None:
        if self._sender:
            self._sender.close()


class _Sender:
    """Publishes messages that fit into one request.

    Each ordering key has a request of its own, because Pub/Sub refuses two keys in one; its emulator would take them.
    """

    def __init__(self, topic: str) -> None:
        from google.cloud import pubsub_v1  # type: ignore[attr-defined]

        self._topic, self._client = topic, pubsub_v1.PublisherClient()
        self._threads = ThreadPoolExecutor(_AT_ONCE)

    def send(self, messages: Sequence[Any]) -> None:
        keys: dict[str, list[Any]] = {}
        for each in messages:
            keys.setdefault(each.ordering_key, []).append(each)
        if len(keys) == 1:
            self._publish(messages)
        else:
            list(self._threads.map(self._publish, keys.values()))  # raises what publishing raises

    def _publish(self, messages: Sequence[Any]) -> None:
        from google.pubsub_v1 import PublisherClient

        # The client's own publish takes attributes as keywords, among which some names have another meaning.
        request = {"topic": self._topic, "messages": messages}
        PublisherClient.publish(self._client, request=request, timeout=_TIMEOUT)

    def close(self) -> None:
        self._threads.shutdown()
        self._client.transport.close()


def _as_published(message: Message) -> Any:
    """Return a message as Pub/Sub's client takes it.

    Attributes that begin with `goog` are left out, because Pub/Sub takes none: it sets them itself, as where a topic
    has a schema.
    """
    from google.pubsub_v1 import PubsubMessage

    attributes = {name: text for name, text in message.attributes.items() if not name.startswith("goog")}
    return PubsubMessage(data=message.data, attributes=attributes, ordering_key=message.ordering_key)


def check_name(option: str, value: str, kind: str) -> str:
    """Return a value that is a full name, projects/PROJECT/{kind}/NAME. Raises SettingError."""
    parts = value.split("/")
    if (
        len(parts) == 4
        and parts[0] == "projects"
        and parts[2] == kind
        and all(parts)
        and value == "".join(value.split())
    ):
        return value
    raise SettingError(f"{option} = {value!r}: write projects/PROJECT/{kind}/NAME")


@contextlib.contextmanager
def publisher(topic: str) -> Iterator[Callable[[Sequence[Message]], None]]:
    """Yield what publishes some messages to a topic, projects/P/topics/T. Raises a MillraceError that says why not."""
    with google_errors.told(f"publish to {topic}"):
        sender = _Sender(topic)
        try:
            yield lambda messages: sender.send([_as_published(each) for each in messages])
        finally:
            sender.close()


@contextlib.contextmanager
def subscriber(subscription: str, topic: str = "") -> Iterator[Callable[[float, int], Iterator[list[Message]]]]:
    """Yield what gives messages as they come, until none has come for some seconds, or so many (0: any number) have.

    They are acknowledged when the next are asked for.

    topic: in place of a subscription, one is made, and deleted in the end. Raises a MillraceError.
    """
    from google.cloud import pubsub_v1  # type: ignore[attr-defined]

    with google_errors.told(f"read {subscription or topic}"):
        client = pubsub_v1.SubscriberClient()
        project = topic.split("/")[1] if topic else ""
        name = subscription or f"projects/{project}/subscriptions/millrace-{uuid.uuid4().hex[:12]}"
        if topic:
            client.create_subscription(request={"name": name, "topic": topic})
        try:
            yield functools.partial(_pulled, client, name)
        finally:
            if topic:
                client.delete_subscription(request={"subscription": name})
            client.close()


def _pulled(client: Any, subscription: str, seconds: float, most: int) -> Iterator[list[Message]]:
    from google.api_core.exceptions import DeadlineExceeded

    last, count = time.monotonic(), 0
    while time.monotonic() < last + seconds and (not most or count < most):
        request = {"subscription": subscription, "max_messages": min(PULL, most - count) if most else PULL}
        try:
            found = client.pull(request=request, timeout=max(PATIENCE, min(seconds, 5.0)), retry=None).received_messages
        except DeadlineExceeded:
            continue
        if found:
            yield [Message(m.message.data, dict(m.message.attributes), m.message.ordering_key) for m in found]
            client.acknowledge(request={"subscription": subscription, "ack_ids": [each.ack_id for each in found]})
            last, count = time.monotonic(), count + len(found)


def check_there(subscription: str, topics: Sequence[str]) -> None:
    """Raise a MillraceError for a subscription or a topic that is not there; what may not be looked at is left out."""
    from google.api_core.exceptions import NotFound, PermissionDenied
    from google.cloud import pubsub_v1  # type: ignore[attr-defined]

    def look(kind: str, name: str, ask: Callable[[], object]) -> None:
        project, short_name = name.split("/")[1::2]
        with google_errors.told(f"look at {name}"), contextlib.suppress(PermissionDenied):
            try:
                ask()
            except NotFound:
                make = f"gcloud pubsub {kind}s create {short_name} --project {project}"
                make += " --topic TOPIC" if kind == "subscription" else ""
                raise SettingError(f"{name} does not exist", mend=f"make it with `{make}`") from None

    with google_errors.told("reach Pub/Sub"):
        subscriptions, publishers = pubsub_v1.SubscriberClient(), pubsub_v1.PublisherClient()
    try:
        if subscription:
            request = {"subscription": subscription}
            look(
                "subscription", subscription, lambda: subscriptions.get_subscription(request=request, timeout=_TIMEOUT)
            )
        for topic in topics:
            asked = {"topic": topic}
            look("topic", topic, lambda: publishers.get_topic(request=asked, timeout=_TIMEOUT))  # noqa: B023 (at once)
    finally:
        subscriptions.close()
        publishers.transport.close()


def command(work: Callable[[], object]) -> None:
    """Do what a command does: an error is told in a sentence, and Ctrl-C or SIGTERM ends it in order."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        work()
    except MillraceError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)

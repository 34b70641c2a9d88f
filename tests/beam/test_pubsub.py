"""What is published keeps to the rules of Pub/Sub that its emulator does not hold anybody to."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import apache_beam as beam
import grpc
import pytest
from apache_beam.io.gcp.pubsub import PubsubMessage
from google.pubsub_v1 import PublishRequest, PublishResponse

from millrace.beam import pubsub
from millrace.beam.pubsub import Message
from pipelines.digits.stream import rejected

TOPIC = "projects/p/topics/t"


class Strict:
    """Pub/Sub's Publish by its documented rules and limits: what it took, by ordering key, and how many requests."""

    def __init__(self) -> None:
        self.taken: dict[str, list[Any]] = defaultdict(list)
        self.requests = 0
        self._lock = threading.Lock()

    def publish(self, request: PublishRequest, context: grpc.ServicerContext) -> PublishResponse:
        with self._lock:
            self.requests += 1
            wrong = self._wrong(request)
            if wrong:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, wrong)
            self.taken[request.messages[0].ordering_key] += request.messages
            return PublishResponse(message_ids=[str(at) for at, _ in enumerate(request.messages)])

    def _wrong(self, request: PublishRequest) -> str:
        if len({each.ordering_key for each in request.messages}) > 1:
            return "all messages must have no ordering key or they must all have the same ordering key"
        if len(request.messages) > 1000 or PublishRequest.pb(request).ByteSize() > 10_000_000:
            return "too large"
        for each in request.messages:
            if len(each.attributes) > 100:
                return "too many attributes"
            for name, text in each.attributes.items():
                if name.startswith("goog") or len(name.encode()) > 256 or len(text.encode()) > 1024:
                    return f"attribute {name}"
        return ""


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> Iterator[Strict]:
    """A server that takes what Pub/Sub takes."""
    service = Strict()
    method = grpc.unary_unary_rpc_method_handler(
        service.publish,
        request_deserializer=PublishRequest.deserialize,
        response_serializer=PublishResponse.serialize,
    )
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", {"Publish": method})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{port}")
    yield service
    server.stop(0).wait()


def _publish(messages: list[Message]) -> None:
    with beam.Pipeline("FnApiRunner") as pipeline:
        # One element, so that all are of one bundle.
        pipeline | beam.Create([messages]) | beam.FlatMap(lambda each: each) | pubsub.Publish(TOPIC)


def test_each_ordering_key_has_requests_of_its_own_and_its_order(strict: Strict) -> None:
    _publish([Message(b"%d" % at, {}, f"key {at % 3}" if at % 4 else "") for at in range(600)])
    taken = {key: [int(each.data) for each in found] for key, found in strict.taken.items()}
    assert taken.pop("") == [*range(0, 600, 4)]
    assert taken == {f"key {rest}": [at for at in range(600) if at % 4 and at % 3 == rest] for rest in range(3)}
    assert strict.requests == 4


def test_what_pubsub_itself_sets_is_left_out(strict: Strict) -> None:
    """A topic with a schema gives its messages attributes that nobody else may set."""
    _publish([Message(b"x", {"googclient_schemaencoding": "JSON", "who": "me"})])
    assert [dict(each.attributes) for each in strict.taken[""]] == [{"who": "me"}]


def test_messages_of_any_size_are_cut_into_requests(strict: Strict) -> None:
    _publish([Message(b"x" * 3_000_000, {"é" * 100: "é" * 500}) for _ in range(4)] + [Message(b"x")] * 1001)
    assert len(strict.taken[""]) == 1005


def test_the_largest_message_has_room_for_the_reason_that_rejects_it(strict: Strict) -> None:
    """With 100 attributes, and 10 MB, as Pub/Sub takes them; a reason is cut to what a value may be."""
    full = {f"{at}": "é" * 512 for at in range(100)}
    large = PubsubMessage(b"x" * 9_990_000, {"who": "me", "reason": "of before"})
    _publish([rejected(PubsubMessage(b"x", full), "é" * 1000), rejected(large, "not JSON")])
    first, second = strict.taken[""]
    assert {name: first.attributes[name] for name in [*full][:99]} == dict([*full.items()][:99])
    assert first.attributes["reason"] == "é" * 512
    assert dict(second.attributes) == {
        "who": "me",
        "reason": "not JSON (here the first 9,860,000 of 9,990,000 bytes)",
    }

"""Pub/Sub in pipelines: publishing, and reading on one machine.

What is published keeps its attributes and its ordering key, on every runner, which Beam's own sink does not on
Dataflow. A bundle is done when Pub/Sub has taken its messages, so that each is published at least once.

On one machine Beam's BundleBasedDirectRunner reads Pub/Sub, the only one of its local runners that does. As it comes it
acknowledges messages before it works on them, ten at a time, and a process that dies loses them. `run_here` has it
acknowledge a pull's messages when the next pull begins, which is when everything that was pulled has been worked on.
"""

import argparse
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import apache_beam as beam
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.pvalue import PBegin
from apache_beam.runners.direct import transform_evaluator
from apache_beam.runners.direct.direct_runner import _DirectReadFromPubSub
from apache_beam.runners.direct.util import TransformResult
from apache_beam.runners.direct.watermark_manager import WatermarkManager
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from millrace.beam.engines import short
from millrace.beam.options import Build, Options
from millrace.errors import MillraceError

#: Beam's runner that reads Pub/Sub on one machine.
LOCAL_RUNNER = "BundleBasedDirectRunner"
#: Messages of a pull, and seconds to wait for the first.
_PULL, _PATIENCE = 1000, 0.5
#: Seconds for which Pub/Sub is asked to take messages before the bundle fails, and what it takes at once.
_TIMEOUT = 120.0
_MOST, _MOST_BYTES = 1000, 9 << 20
#: Bytes that a message takes besides data and attributes, at most: an ordering key may be of 1 KiB.
_OVERHEAD = 2048


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
    """Publishes a bundle's messages in their order, some at a time, before the bundle is done."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._client: Any = None
        self._waiting: list[Message] = []
        self._bytes = 0

    def setup(self) -> None:
        from google.cloud import pubsub_v1  # type: ignore[attr-defined]

        self._client = pubsub_v1.PublisherClient()

    def start_bundle(self) -> None:
        self._waiting, self._bytes = [], 0

    def process(self, message: Message) -> None:
        size = len(message.data) + sum(len(name) + len(text) for name, text in message.attributes.items()) + _OVERHEAD
        if self._waiting and (len(self._waiting) == _MOST or self._bytes + size > _MOST_BYTES):
            self._send()
        self._waiting.append(message)
        self._bytes += size

    def finish_bundle(self) -> None:
        if self._waiting:
            self._send()

    def _send(self) -> None:
        from google.pubsub_v1 import PublisherClient, PubsubMessage

        # The client's own publish takes attributes as keywords, among which some names have another meaning.
        messages = [
            PubsubMessage(data=each.data, attributes=dict(each.attributes), ordering_key=each.ordering_key)
            for each in self._waiting
        ]
        request = {"topic": self._topic, "messages": messages}
        PublisherClient.publish(self._client, request=request, timeout=_TIMEOUT)
        self._waiting, self._bytes = [], 0

    def teardown(self) -> None:
        if self._client:
            self._client.transport.close()


@dataclass
class _Here:
    """What reading on one machine has to remember: what is not acknowledged yet, by subscription, and its end."""

    left: dict[str, list[str]] = field(default_factory=dict)
    ending: threading.Event = field(default_factory=threading.Event)
    read: int = 0


class _Read(transform_evaluator._PubSubReadEvaluator):
    """Beam's reading of Pub/Sub on one machine, with acknowledgements after the work, larger pulls, and an end."""

    here = _Here()

    def finish_bundle(self) -> TransformResult:
        client = self._get_subscriber_client(self._applied_ptransform)  # type: ignore[no-untyped-call]
        # A root gets its turn when nothing else is left to do.
        if done := self.here.left.pop(self._sub_name, None):
            client.acknowledge(subscription=self._sub_name, ack_ids=done)
        if self.here.ending.is_set():
            # The end of time closes the windows, so that what they hold is written.
            end = {None: WatermarkManager.WATERMARK_POS_INF}
            return TransformResult(self, [], [], None, end)
        bundles = []
        if messages := self._pulled(client):
            bundle = self._evaluation_context.create_bundle(next(iter(self._outputs)))
            for message in messages:
                bundle.output(message)
            bundles = [bundle]
        # What has no input begins with the pipeline.
        inputs, begun = self._applied_ptransform.inputs, cast("Any", self._applied_ptransform.transform)
        again = self._evaluation_context.create_bundle(inputs[0] if inputs else PBegin(begun.pipeline))
        return TransformResult(self, bundles, [again], None, {None: Timestamp.of(time.time())})

    def _pulled(self, client: Any) -> list[WindowedValue]:
        """Return some messages that are there, none after a short wait."""
        from google.api_core.exceptions import DeadlineExceeded, ServiceUnavailable

        request = {"subscription": self._sub_name, "max_messages": _PULL}
        try:
            found = client.pull(request=request, timeout=_PATIENCE, retry=None).received_messages
        except (DeadlineExceeded, ServiceUnavailable):
            return []
        self.here.left[self._sub_name] = [each.ack_id for each in found]
        self.here.read += len(found)
        return [
            GlobalWindows.windowed_value(
                PubsubMessage._from_message(each.message), Timestamp.from_utc_datetime(each.message.publish_time)
            )
            for each in found
        ]


def run_here(build: Build, options: PipelineOptions) -> int:
    """Run a streaming pipeline on this machine until SIGTERM or SIGINT; return how many messages were read.

    A signal ends the reading: what was read is worked on, its windows are closed and written, and it is acknowledged.
    A second one ends at once; what was not acknowledged comes again. Raises what the pipeline raises.
    """
    standard = options.view_as(StandardOptions)
    standard.runner, standard.streaming = LOCAL_RUNNER, True
    _Read.here = _Here()
    with _own_reading(), _ended_by_signals(_Read.here.ending):
        pipeline = beam.Pipeline(options=options)
        build(pipeline, options)
        result = pipeline.run()
        result.wait_until_finish()
    return _Read.here.read


@contextlib.contextmanager
def _own_reading() -> Iterator[None]:
    """Have the local runner read by `_Read`; Beam has only what its own tests use for that."""
    overrides = transform_evaluator.TransformEvaluatorRegistry._test_evaluators_overrides
    overrides[_DirectReadFromPubSub] = _Read
    try:
        yield
    finally:
        del overrides[_DirectReadFromPubSub]


@contextlib.contextmanager
def _ended_by_signals(ending: threading.Event) -> Iterator[None]:
    """Set an event at the first SIGTERM or SIGINT; a second one does what it would have done."""
    before: dict[signal.Signals, Any] = {}

    def end(number: int, _: object) -> None:
        ending.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(build: Build, options: type[PipelineOptions], argv: Sequence[str]) -> None:
    """Run the command line of a streaming pipeline's module: on this machine, unless --runner names another."""
    parser = argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"All other options go to Apache Beam; the default runner is {LOCAL_RUNNER}.",
    )
    own: Any = options
    own._add_argparse_args(parser)
    parser.parse_known_args(argv)
    try:
        given = Options([*argv])
        if short(given.view_as(StandardOptions).runner or LOCAL_RUNNER) == short(LOCAL_RUNNER):
            print(f"{run_here(build, given):,} messages read", file=sys.stderr)
        else:
            given.view_as(StandardOptions).streaming = True
            with beam.Pipeline(options=given) as pipeline:
                build(pipeline, given)
    except MillraceError as error:
        sys.exit(str(error))

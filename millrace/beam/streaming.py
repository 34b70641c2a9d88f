"""Streaming pipelines on one machine, which read Pub/Sub until they are told to end, and their command line.

Beam's BundleBasedDirectRunner is the only one of its local runners that reads Pub/Sub. As it comes it acknowledges
messages before it works on them, ten at a time, and a process that dies loses them. `run_here` has it acknowledge a
pull's messages once no bundle that came of them is left; what fails is never acknowledged, and comes again.
"""

import argparse
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

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

from millrace.beam import google_errors, pubsub
from millrace.beam.engines import short
from millrace.beam.options import Build, Options
from millrace.errors import MillraceError

#: Beam's runner that reads Pub/Sub on one machine.
LOCAL_RUNNER = "BundleBasedDirectRunner"
#: Seconds between two looks at whether all is worked on.
_PAUSE = 0.01


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
        working = self._working()
        if not working and (done := self.here.left.pop(self._sub_name, None)):
            client.acknowledge(subscription=self._sub_name, ack_ids=done)
        if not working and self.here.ending.is_set():
            # The end of time closes the windows, so that what they hold is written.
            end = {None: WatermarkManager.WATERMARK_POS_INF}
            return TransformResult(self, [], [], None, end)
        bundles = []
        if working:
            time.sleep(_PAUSE)
        elif messages := self._pulled(client):
            bundle = self._evaluation_context.create_bundle(next(iter(self._outputs)))
            for message in messages:
                bundle.output(message)
            bundles = [bundle]
        # What has no input begins with the pipeline.
        inputs, begun = self._applied_ptransform.inputs, cast("Any", self._applied_ptransform.transform)
        again = self._evaluation_context.create_bundle(inputs[0] if inputs else PBegin(begun.pipeline))
        return TransformResult(self, bundles, [again], None, {None: Timestamp.of(time.time())})

    def _working(self) -> bool:
        """Return whether a bundle of any step is left to work on, or has failed.

        That a root has its turn does not say so, because it has one between a bundle and the next step, and after a
        failure, too.
        """
        steps = self._evaluation_context._watermark_manager._transform_to_watermarks
        return any(
            marks._pending for step, marks in steps.items() if not isinstance(step.transform, _DirectReadFromPubSub)
        )

    def _pulled(self, client: Any) -> list[WindowedValue]:
        """Return some messages that are there, none after a short wait."""
        from google.api_core.exceptions import DeadlineExceeded, ServiceUnavailable

        request = {"subscription": self._sub_name, "max_messages": pubsub.PULL}
        try:
            found = client.pull(request=request, timeout=pubsub.PATIENCE, retry=None).received_messages
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


def runs_here(options: PipelineOptions) -> bool:
    """Return whether a streaming pipeline with these options runs on this machine, as it does unless they say else."""
    return short(options.view_as(StandardOptions).runner or LOCAL_RUNNER) == short(LOCAL_RUNNER)


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


def main(
    build: Build,
    options: type[PipelineOptions],
    argv: Sequence[str],
    named: Callable[[PipelineOptions], tuple[str, Sequence[str]]],
) -> None:
    """Run the command line of a streaming pipeline's module: on this machine, unless --runner names another.

    named: returns the subscription that it reads, "" for none, and its topics, which have to be there.
    """
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
        if runs_here(given):
            pubsub.check_there(*named(given))
            with google_errors.told("run the stream"):
                read = run_here(build, given)
            print(f"{read:,} messages read", file=sys.stderr)
        else:
            given.view_as(StandardOptions).streaming = True
            with beam.Pipeline(options=given) as pipeline:
                build(pipeline, given)
    except MillraceError as error:
        sys.exit(f"error: {error}")

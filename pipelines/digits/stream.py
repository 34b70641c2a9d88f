"""Images of a Pub/Sub topic → what an ONNX model says of each, into another topic, as they come.

A message is JSON, {"id": …, "image": …}; an image is 784 numbers from 0 to 1, as a list or a text with commas. What
comes out is {"id", "digit", "p": the probabilities of 0 to 9, "model"}, with the attributes and the ordering key of the
message. What is no such message goes to the dead-letter topic as it came, with the attribute `reason`.

With --windows the counts of each minute go to a table of BigQuery, PROJECT:DATASET.TABLE, or, on one machine, to
digit_windows.jsonl in a folder: begins, seconds, digit, count, images, share (count / images) and pane. A minute whose
images come late has more panes than pane 0, each with its own counts, so that sums over panes are right.

    python -m pipelines.digits.stream --subscription projects/P/subscriptions/S --predictions projects/P/topics/T \
        --rejects projects/P/topics/R

runs here, against Pub/Sub or its emulator (PUBSUB_EMULATOR_HOST), until Ctrl-C or SIGTERM; --runner=DataflowRunner
submits it.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.io.gcp.pubsub import PubsubMessage, ReadFromPubSub
from apache_beam.ml.inference.base import KeyedModelHandler, PredictionResult, RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import trigger, window
from apache_beam.utils.timestamp import Duration, Timestamp

from millrace.beam import pubsub, streaming
from millrace.beam.pubsub import Message, Publish
from millrace.errors import SettingError
from pipelines.digits import models
from pipelines.digits.images import NotAnImageError, Pixels, pixels_of
from pipelines.digits.scoring import DIGITS, DigitModel

#: The columns of --windows, as BigQuery has them.
WINDOWS = {
    "begins": "TIMESTAMP",
    "seconds": "INT64",
    "digit": "INT64",
    "count": "INT64",
    "images": "INT64",
    "share": "FLOAT64",
    "pane": "INT64",
}
#: What Pub/Sub takes: bytes of data beside the largest attributes, attributes of a message, bytes of a value.
_MOST_BYTES, _MOST_ATTRIBUTES, _MOST_OF_VALUE = 9_860_000, 100, 1024
#: Times of images, in seconds of Unix time: what windows and BigQuery's timestamps have room for.
_TIMES = range(253402214400)
_REJECTED = "rejected"
#: A table of BigQuery.
_TABLE = re.compile(r"[\w.:-]+:\w+\.[\w-]+")


class StreamOptions(PipelineOptions):
    """Options of the pipeline."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        parser.add_argument("--subscription", default="", help="where images come from: projects/P/subscriptions/S")
        parser.add_argument("--topic", default="", help="in its place: projects/P/topics/T, read from the job's begin")
        parser.add_argument("--predictions", default="", help="where predictions go: projects/P/topics/T")
        parser.add_argument("--rejects", default="", help="where messages go that are no images: projects/P/topics/T")
        parser.add_argument("--model", default=models.BUNDLED, help="ONNX: a path, file://, gs:// or http(s):// URI")
        parser.add_argument(
            "--time_attribute", default="", help="attribute with an image's time; its publishing without"
        )
        parser.add_argument(
            "--windows", default="", help="counts by the minute: PROJECT:DATASET.TABLE, or a folder here"
        )
        parser.add_argument("--window_seconds", type=int, default=60, help="length of a window")
        parser.add_argument(
            "--lateness_seconds", type=int, default=86400, help="how late an image may be to be counted"
        )
        parser.add_argument("--max_batch", type=int, default=256, help="images that the model scores at once, at most")


class Key(NamedTuple):
    """What a message says besides its image."""

    id: int | str
    attributes: tuple[tuple[str, str], ...]
    ordering_key: str
    time: float


def check(options: PipelineOptions) -> StreamOptions:
    """Return the options. Raises SettingError for what can't be one."""
    given = options.view_as(StreamOptions)
    if bool(given.subscription) == bool(given.topic):
        raise SettingError("images come from one place: say --subscription or --topic")
    for name, kind in (
        ("subscription", "subscriptions"),
        ("topic", "topics"),
        ("predictions", "topics"),
        ("rejects", "topics"),
    ):
        value = getattr(given, name)
        if value or name in ("predictions", "rejects"):
            pubsub.check_name(f"--{name}", value, kind)
    # What workers elsewhere write to a folder of theirs, nobody reads.
    no_folder = "://" in given.windows or not streaming.runs_here(options)
    if given.windows and not _TABLE.fullmatch(given.windows) and no_folder:
        raise SettingError(f"--windows = {given.windows!r}: write PROJECT:DATASET.TABLE, or a folder of this machine")
    for name, least, most in (
        ("window_seconds", 1, 86400),
        ("lateness_seconds", 0, 10**7),
        ("max_batch", 1, 10000),
    ):
        if not least <= getattr(given, name) <= most:
            raise SettingError(f"--{name} = {getattr(given, name)}: allowed is a whole number from {least} to {most}")
    return given


def names(options: PipelineOptions) -> tuple[str, list[str]]:
    """Return the subscription that the stream reads, "" for none, and its topics. Raises SettingError."""
    given = check(options)
    return given.subscription, [topic for topic in (given.topic, given.predictions, given.rejects) if topic]


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Add the pipeline: read, score, publish, count.

    Raises SettingError, and SourceError for a model that does not fit.
    """
    given = check(options)
    model = DigitModel(
        given.model,
        models.digest_of(models.read_model(given.model)),
        min_batch_size=1,
        max_batch_size=given.max_batch,
    )
    model.load_model()  # before anything is read
    source = {"subscription": given.subscription} if given.subscription else {"topic": given.topic}
    messages = pipeline | "Read" >> ReadFromPubSub(with_attributes=True, **source)
    parsed = messages | "Parse" >> beam.ParDo(_Parse(given.time_attribute)).with_outputs(_REJECTED, main="images")
    scored = parsed["images"] | "Score" >> RunInference(KeyedModelHandler(model))
    called = models.called(given.model, model.digest)
    scored | "Predictions" >> beam.Map(prediction, called) | "Publish" >> Publish(given.predictions)
    parsed[_REJECTED] | "Publish rejects" >> Publish(given.rejects)
    if given.windows:
        _count(scored, given)


def rejected(message: PubsubMessage, reason: str) -> Message:
    """Return what the dead-letter topic gets of a message: the message as it came, and why it is no image.

    Where the message is as large as Pub/Sub takes one, its last bytes or attributes make room for the reason.
    """
    if len(message.data) > _MOST_BYTES:
        reason = f"{reason} (here the first {_MOST_BYTES:,} of {len(message.data):,} bytes)"
    others = [(name, text) for name, text in message.attributes.items() if name != "reason"]
    told = reason.encode("utf-8", "replace")[:_MOST_OF_VALUE].decode("utf-8", "ignore")
    attributes = {**dict(others[: _MOST_ATTRIBUTES - 1]), "reason": told}
    return Message(message.data[:_MOST_BYTES], attributes, message.ordering_key)


def read(message: PubsubMessage, time_attribute: str = "") -> tuple[int | str, Pixels, float | None]:
    """Return a message's id, its pixels, and its time in seconds of Unix time, if it says one.

    Raises NotAnImageError with the reason.
    """
    try:
        said = json.loads(message.data)
    except (ValueError, RecursionError):
        raise NotAnImageError("not JSON") from None
    if not isinstance(said, dict):
        raise NotAnImageError(f"not an object but {type(said).__name__}")
    name = said.get("id")
    if isinstance(name, bool) or not isinstance(name, int | str):
        raise NotAnImageError("no id that is a number or a text")
    if isinstance(name, str) and any("\ud800" <= each <= "\udfff" for each in name):
        raise NotAnImageError("the id has half a character (a surrogate)")
    image = said.get("image")
    if not isinstance(image, list | str | None):
        raise NotAnImageError(f"image is neither a list nor a text but {type(image).__name__}")
    pixels = pixels_of(image)
    time = _time(message.attributes.get(time_attribute), time_attribute) if time_attribute else None
    return name, pixels, time


def _time(value: str | None, attribute: str) -> float | None:
    """Return a time as Pub/Sub's attributes have them: milliseconds of Unix time, or RFC 3339."""
    if value is None:
        return None
    try:
        found = Timestamp(micros=int(value) * 1000) if value.isdecimal() else Timestamp.from_rfc3339(value)
    except (ValueError, OverflowError):
        raise NotAnImageError(f"{attribute} is no time: {value[:40]!r}") from None
    if (seconds := found.seconds()) not in _TIMES:
        raise NotAnImageError(f"{attribute} is not between 1970 and 9999: {value[:40]!r}")
    return float(seconds)


def prediction(scored: tuple[Key, PredictionResult], model: str) -> Message:
    """Return what is published of an image that was scored."""
    key, result = scored
    found = _probabilities(result)
    said = {"id": key.id, "digit": int(found.argmax()), "p": [float(each) for each in found], "model": model}
    return Message(json.dumps(said).encode(), dict(key.attributes), key.ordering_key)


def _probabilities(result: PredictionResult) -> Pixels:
    """Return what the model says of one image."""
    inference: Any = result.inference
    one: Pixels = inference[0]
    return one


class _Parse(beam.DoFn):
    """Gives (key, block of one image); what is none as a message for the dead letters."""

    def __init__(self, time_attribute: str) -> None:
        self._time_attribute = time_attribute

    def process(self, message: PubsubMessage, stamp: Any = beam.DoFn.TimestampParam) -> Iterator[Any]:
        try:
            name, pixels, time = read(message, self._time_attribute)
        except NotAnImageError as error:
            yield beam.pvalue.TaggedOutput(_REJECTED, rejected(message, str(error)))
            return
        attributes = tuple(sorted(message.attributes.items()))
        key = Key(name, attributes, message.ordering_key, float(stamp.seconds()) if time is None else time)
        yield key, pixels.reshape(1, -1)


def _count(scored: Any, given: StreamOptions) -> None:
    """Add the counts of windows. A window's panes are disjoint, so that each image is in one row's count."""
    rows = (
        scored
        | "Digits" >> beam.Map(_timed)
        | "Window"
        >> beam.WindowInto(
            window.FixedWindows(given.window_seconds),
            trigger=trigger.AfterWatermark(late=trigger.AfterCount(1)),
            allowed_lateness=Duration(given.lateness_seconds),
            accumulation_mode=trigger.AccumulationMode.DISCARDING,
        )
        | "Count" >> beam.CombineGlobally(_Counts()).without_defaults()
        | "Rows" >> beam.ParDo(_Rows(given.window_seconds))
    )
    if _TABLE.fullmatch(given.windows):
        rows | "Table" >> beam.io.WriteToBigQuery(
            given.windows,
            schema=",".join(f"{name}:{kind}" for name, kind in WINDOWS.items()),
            # Load jobs of fixed names, once a minute: each row is in the table once.
            method=beam.io.WriteToBigQuery.Method.FILE_LOADS,
            triggering_frequency=60,
            additional_bq_parameters={"timePartitioning": {"type": "DAY", "field": "begins"}},
        )
    else:
        rows | "Lines" >> beam.ParDo(_Append(given.windows))


def _timed(scored: tuple[Key, PredictionResult]) -> window.TimestampedValue:
    """Return the digit of an image, at the image's own time.

    Beam could read the time itself, but one message with an early time would then hold all windows open, and one with
    no time at all would stop the job.
    """
    key, result = scored
    return window.TimestampedValue(int(_probabilities(result).argmax()), key.time)


class _Counts(beam.CombineFn):
    """Counts digits."""

    def __init__(self) -> None:  # Beam's own, which does nothing, has no types
        pass

    def create_accumulator(self) -> list[int]:
        return [0] * DIGITS

    def add_input(self, counts: list[int], digit: int) -> list[int]:
        counts[digit] += 1
        return counts

    def merge_accumulators(self, several: Iterable[list[int]]) -> list[int]:
        return np.sum([*several], axis=0, dtype=int).tolist() or self.create_accumulator()

    def extract_output(self, counts: list[int]) -> list[int]:
        return counts


class _Rows(beam.DoFn):
    """Gives a row for each digit of a window."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds

    def process(
        self, counts: list[int], span: Any = beam.DoFn.WindowParam, pane: Any = beam.DoFn.PaneInfoParam
    ) -> Iterator[dict[str, Any]]:
        images = sum(counts)
        for digit, count in enumerate(counts):
            yield {
                "begins": span.start.to_rfc3339(),
                "seconds": self._seconds,
                "digit": digit,
                "count": count,
                "images": images,
                "share": count / images,
                "pane": pane.index,
            }


class _Append(beam.DoFn):
    """Adds rows to a file of lines, in a folder of this machine."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def process(self, row: dict[str, Any]) -> None:
        os.makedirs(self._folder, exist_ok=True)
        # One write each, so that lines of several threads do not mix.
        with open(os.path.join(self._folder, "digit_windows.jsonl"), "ab", buffering=0) as file:
            file.write(json.dumps(row).encode() + b"\n")


if __name__ == "__main__":
    streaming.main(build, StreamOptions, sys.argv[1:], names)

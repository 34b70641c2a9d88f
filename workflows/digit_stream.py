"""Digits as they come: DigitStream has the job run that scores images of a Pub/Sub topic, StopStream ends it."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from millrace import Service, Setting, SettingError, Settings, StopService, whole_number
from pipelines.digits import models

#: How BigQuery's table of the counts by the minute is called where nothing else is said.
WINDOWS = "digit_windows"


def _like(pattern: str) -> Callable[[str], str]:
    """Return what takes a text that a regular expression describes, or nothing."""

    def convert(value: str) -> str:
        if value and not re.fullmatch(pattern, value):
            raise ValueError
        return value

    return convert


def _resource(kind: str, description: str) -> Any:
    """Return the setting that names a topic or subscription; none unless it is set."""
    pattern = rf"projects/[a-z][-a-z0-9:.]{{4,61}}[a-z0-9]/{kind}/(?!goog)[A-Za-z][-.\w~+%]{{2,254}}"
    allowed = f"projects/PROJECT/{kind}/NAME"
    return Setting(convert=_like(pattern), allowed=allowed, default="", description=description)


class stream(Settings):
    """Where images come from, and where predictions go."""

    subscription: str = _resource("subscriptions", "where images come from")
    topic: str = _resource("topics", "in its place: a topic, from when the job begins to read it")
    predictions: str = _resource("topics", "the topic that predictions go to")
    rejects: str = _resource("topics", "the topic that messages go to which are no images, with the reason")
    model: str = Setting(
        convert=models.check,
        allowed=f"{models.BUNDLED}, or a gs:// or http(s):// URI",
        default=models.BUNDLED,
        description="an ONNX model: n × 784 floats in, n × 10 out",
    )
    time_attribute: str = Setting(
        convert=str, default="", description="the attribute that has an image's time; without, that of its publishing"
    )
    windows: str = Setting(
        convert=_like(r"[\w.:-]+:\w+\.[\w-]+"),  # a folder would be one of a worker's own
        allowed="PROJECT:DATASET.TABLE",
        default="",
        description=f"the table of counts, PROJECT:DATASET.TABLE; without, {WINDOWS} in the warehouse's dataset",
    )
    window_seconds: int = Setting(
        convert=whole_number(1, 86400),
        allowed="a whole number from 1 to 86400",
        default=60,
        description="the length of a window of counts",
    )
    lateness_seconds: int = Setting(
        convert=whole_number(0, 10**7),
        allowed="a whole number from 0 to 10000000",
        default=86400,
        description="how late an image may come and still be counted",
    )
    max_batch: int = Setting(
        convert=whole_number(1, 10000),
        allowed="a whole number from 1 to 10000",
        default=256,
        description="images that the model scores at once, at the most",
    )


class DigitStream(Service):
    """What a model says of the images of a topic, as they come; counts by the minute in a table."""

    pipeline = "pipelines.digits.stream"
    section = stream
    passes = (
        "subscription",
        "topic",
        "predictions",
        "rejects",
        "model",
        "time_attribute",
        "window_seconds",
        "lateness_seconds",
        "max_batch",
    )

    def options(self) -> Mapping[str, Any]:
        return {"windows": stream().windows or self.table(WINDOWS)}

    def versions(self) -> Mapping[str, str]:
        model = stream().model
        return {f"model {model}": models.digest_of(models.read_model(model))}

    def check(self) -> None:
        given = stream()
        if bool(given.subscription) == bool(given.topic):
            raise SettingError("images come from one place: set subscription or topic in [stream] of luigi.cfg")
        for key in ("predictions", "rejects"):
            if not getattr(given, key):
                raise SettingError(f"no topic for {key} is known; set {key} in [stream] of luigi.cfg")
        if models.is_local(given.model):
            raise SettingError(
                f"Dataflow's workers can't read the model {given.model}; set model in [stream] to a gs:// URI"
            )


class StopStream(StopService):
    """The end of DigitStream's job, until it is started again."""

    def service(self) -> DigitStream:
        return DigitStream()

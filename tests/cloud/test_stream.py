"""The stream of digits, run for real against Google's Pub/Sub emulator from the Cloud SDK."""

import datetime
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import running

from localcloud import pubsub
from localcloud.pubsub import PubSub
from millrace.beam import streaming
from millrace.beam.options import Options
from millrace.errors import SettingError
from pipelines.digits import consume, produce, stream
from pipelines.digits.model import MODEL

IMAGES = Path(__file__).parents[3] / "shared/data/digits/images.txt.gz"
#: Seconds that a test waits for what has to come.
PATIENCE = 90.0


@pytest.fixture(scope="module")
def emulator() -> Iterator[PubSub]:
    """The emulator."""
    running.need_emulator("pubsub")
    with PubSub() as emulator:
        yield emulator


class Place:
    """Topics and subscriptions of a test's own, and the processes that use them."""

    def __init__(self, emulator: PubSub, name: str, folder: Path) -> None:
        from google.cloud import pubsub_v1  # type: ignore[attr-defined]

        self._name, self.folder, self._env = name, folder, {**os.environ, **emulator.environment()}
        ordered = pubsub_v1.types.PublisherOptions(enable_message_ordering=True)
        self.publisher, self.client = pubsub_v1.PublisherClient(publisher_options=ordered), pubsub_v1.SubscriberClient()
        self.started: list[subprocess.Popen[str]] = []
        for each in ("images", "predictions", "rejects"):
            emulator.make(self.name(each), ack_deadline_seconds=10)

    def name(self, name: str) -> str:
        return f"{self._name}-{name}"

    def topic(self, name: str) -> str:
        return pubsub.topic(self.name(name))

    def subscription(self, name: str) -> str:
        return pubsub.subscription_of(self.name(name))

    def stream(self, *options: object) -> "subprocess.Popen[str]":
        """Start the stream."""
        command = [
            *(sys.executable, "-m", "pipelines.digits.stream", "--subscription", self.subscription("images")),
            *("--predictions", self.topic("predictions"), "--rejects", self.topic("rejects"), *map(str, options)),
        ]
        with (self.folder / f"stream-{len(self.started)}.log").open("w") as log:
            process = subprocess.Popen(command, cwd=self.folder, env=self._env, stdout=log, stderr=log, text=True)
        self.started.append(process)
        return process

    def log(self) -> str:
        return (self.folder / f"stream-{len(self.started) - 1}.log").read_text()

    def command(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        """Run a command of bin/ or a module to its end, from the test's folder."""
        return subprocess.run(
            [str(each) for each in arguments],
            cwd=self.folder,
            env=self._env,
            capture_output=True,
            text=True,
            check=False,
        )

    def publish(self, data: bytes, ordering_key: str = "", **attributes: str) -> None:
        self.publisher.publish(self.topic("images"), data, ordering_key=ordering_key, **attributes)

    def take(self, name: str, enough: Callable[[list[Any]], bool]) -> list[Any]:
        """Return the messages of a subscription, in their order, once there are enough."""
        from google.api_core.exceptions import DeadlineExceeded

        taken: list[Any] = []
        until = time.monotonic() + PATIENCE
        while not enough(taken):
            assert time.monotonic() < until, f"{len(taken)} messages of {name}; {self.log()[-2000:]}"
            assert self.started[-1].poll() is None, self.log()[-2000:]
            try:
                request = {"subscription": self.subscription(name), "max_messages": 1000}
                found = self.client.pull(request=request, timeout=1, retry=None).received_messages
            except DeadlineExceeded:
                continue
            if found:
                ids = [each.ack_id for each in found]
                self.client.acknowledge(request={"subscription": self.subscription(name), "ack_ids": ids})
                taken += [each.message for each in found]
        return taken


@pytest.fixture
def place(emulator: PubSub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Topics of the test's own."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.host)
    made = Place(emulator, f"t-{uuid.uuid4().hex[:8]}", tmp_path)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.wait()
    made.client.close()


@pytest.fixture(scope="module")
def images() -> dict[int, str]:
    """500 images: id → text."""
    with gzip.open(IMAGES, "rt") as file:
        found = dict(line.rstrip("\n").split(":", 1) for line, _ in zip(file, range(500), strict=False))
    return {int(number): image for number, image in found.items()}


def scores(images: Mapping[int, str]) -> dict[int, Any]:
    """What onnxruntime alone says of images, all at once, as the batch does: id → ten probabilities."""
    session = onnxruntime.InferenceSession(MODEL.read_bytes(), providers=["CPUExecutionProvider"])
    pixels = np.array([image.split(",") for image in images.values()], np.float32)
    (found,) = session.run(None, {session.get_inputs()[0].name: pixels})
    return dict(zip(images, found, strict=True))


def ended(process: "subprocess.Popen[str]") -> int:
    """The exit code of a stream that is told to end."""
    process.send_signal(signal.SIGTERM)
    return process.wait(PATIENCE)


#: What is no image, and why.
MALFORMED = {
    b"no JSON": "not JSON",
    b"\xff\xfe": "not JSON",
    b"": "not JSON",
    b"[1]": "not an object but list",
    b'{"image": "0"}': "no id that is a number or a text",
    b'{"id": true, "image": "0"}': "no id that is a number or a text",
    b'{"id": "\\ud800", "image": "0"}': "the id has half a character (a surrogate)",
    b'{"id": 1}': "null",
    b'{"id": 1, "image": {"0": 1}}': "image is neither a list nor a text but dict",
    b'{"id": 1, "image": "0,1"}': "2 values, not 784",
    json.dumps({"id": 1, "image": [0] * 783 + [1.5]}).encode(): "pixel 783 is outside [0, 1]: 1.5",
    json.dumps({"id": 1, "image": ["x"] + [0] * 783}).encode(): "pixel 0 is not a number: 'x'",
    json.dumps({"id": 1, "image": [float("nan")] + [0] * 783}).encode(): "pixel 0 is NaN",
    b"[" * 100_000: "not JSON",
}

#: What is no time of an image, and why.
UNTIMELY = {
    "yesterday": "shot is no time: 'yesterday'",
    "9" * 20: f"shot is not between 1970 and 9999: '{'9' * 20}'",
    "0001-01-01T00:00:00Z": "shot is not between 1970 and 9999: '0001-01-01T00:00:00Z'",
}


def test_500_images_are_500_predictions_equal_to_the_batchs(place: Place, images: dict[int, str]) -> None:
    """With their attributes, in the order of their keys; what is no image is a dead letter, as it came; each image is
    counted in one window, by its own time; a stream that is told to end ends in order.
    """
    process = place.stream(
        "--windows", place.folder / "counts {x}=1", "--time_attribute", "shot", "--window_seconds", 60
    )
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    for at, (number, image) in enumerate(images.items()):
        sent = {"id": number, "image": image if at % 2 else [float(each) for each in image.split(",")]}
        attributes = {"source": "test", "data": "a name of the client's own"} if at % 5 == 0 else {}
        shot = {"shot": f"{then:%FT%T}Z"} if at < 100 else {"shot": f"{then.timestamp():.0f}000"} if at < 150 else {}
        marked = {**attributes, **shot}
        request = {"data": json.dumps(sent).encode(), "attributes": marked, "ordering_key": f"key {number % 3}"}
        _raw(place, [request])
    for data in MALFORMED:
        _raw(place, [{"data": data or b" ", "attributes": {"source": "odd"}, "ordering_key": "bad"}])
    image = images[next(iter(images))]
    for odd in UNTIMELY:
        _raw(place, [{"data": json.dumps({"id": "a", "image": image}).encode(), "attributes": {"shot": odd}}])

    found = place.take("predictions", lambda taken: len(taken) >= len(images))
    expected = scores(images)
    said = {json.loads(message.data)["id"]: json.loads(message.data) for message in found}
    assert Counter(json.loads(message.data)["id"] for message in found) == Counter([*images])
    for number, one in said.items():
        np.testing.assert_allclose(one["p"], expected[number], atol=1e-6)
        assert one["digit"] == expected[number].argmax()
        assert one["model"].startswith("digits@")
    orders = defaultdict(list)
    for message in found:
        orders[message.ordering_key].append(json.loads(message.data)["id"])
    assert orders == {f"key {rest}": [each for each in images if each % 3 == rest] for rest in range(3)}
    attributes_of = {json.loads(message.data)["id"]: dict(message.attributes) for message in found}
    assert [attributes_of[number].get("data") for number in list(images)[:6]] == [
        "a name of the client's own", None, None, None, None, "a name of the client's own"
    ]  # fmt: skip

    rejected = place.take("rejects", lambda taken: len(taken) == len(MALFORMED) + len(UNTIMELY))
    reasons = {message.data: message.attributes["reason"] for message in rejected if message.ordering_key == "bad"}
    assert reasons == {data or b" ": reason for data, reason in MALFORMED.items()}
    assert {message.attributes["source"] for message in rejected if message.ordering_key} == {"odd"}
    assert {m.attributes["reason"] for m in rejected if not m.ordering_key} == {*UNTIMELY.values()}

    assert ended(process) == 0
    assert place.log().endswith(f"{len(images) + len(MALFORMED) + len(UNTIMELY)} messages read\n")
    rows = [json.loads(line) for line in (place.folder / "counts {x}=1/digit_windows.jsonl").read_text().splitlines()]
    counts = Counter[int]()
    for row in rows:
        counts[row["digit"]] += row["count"]
        assert row["share"] == row["count"] / row["images"]
    assert counts == Counter(dict.fromkeys(range(10), 0) | Counter(int(p.argmax()) for p in expected.values()))
    shot_then = sum(row["count"] for row in rows if row["begins"] == f"{then:%FT%H:%M}:00Z")
    assert shot_then == 150


def _raw(place: Place, messages: list[dict[str, Any]]) -> None:
    """Publish messages whose attributes may have any name."""
    from google.pubsub_v1 import PublisherClient

    PublisherClient.publish(place.publisher, request={"topic": place.topic("images"), "messages": messages})


def test_a_stream_that_dies_loses_nothing(place: Place, images: dict[int, str]) -> None:
    """Killed between pulls and told to end in between: each image is predicted at least once; bin/stream-produce and
    bin/stream-consume are how people look at that.
    """
    root = Path(__file__).parents[2]
    few = dict(list(images.items())[:60])
    (place.folder / "few.txt").write_text("".join(f"{number}:{image}\n" for number, image in few.items()))
    process = place.stream()
    produced = place.command(
        root / "bin/stream-produce", "few.txt", "--topic", place.topic("images"), "--rate", 400, "--attribute", "who=me"
    )
    assert (produced.returncode, produced.stdout + produced.stderr) == (
        0,
        f"60 images published to {place.topic('images')}\n",
    )
    first = place.take("predictions", lambda taken: len(taken) > 0)
    process.kill()
    process = place.stream()
    seen = {json.loads(message.data)["id"] for message in first}
    seen |= {
        json.loads(message.data)["id"]
        for message in place.take(
            "predictions", lambda taken: {json.loads(m.data)["id"] for m in taken} | seen == {*few}
        )
    }
    assert seen == {*few}
    place.command(root / "bin/stream-produce", "few.txt", "--topic", place.topic("images"), "--count", 3, "--rate", 400)
    consumed = place.command(
        root / "bin/stream-consume", "--subscription", place.subscription("predictions"), "--count", 3
    )
    assert consumed.returncode == 0
    digits = {str(number): str(p.argmax()) for number, p in scores(few).items()}
    lines = [line.split() for line in consumed.stdout.splitlines()]
    assert len(lines) == 3
    assert all(digits[number] == digit and sure.endswith("%") for number, digit, sure, *_ in lines)
    assert ended(process) == 0


GIVEN = "--predictions projects/p/topics/a --rejects projects/p/topics/b"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--topic projects/p/topics/t --subscription projects/p/subscriptions/s", "say --subscription or --topic"),
        (
            "--predictions t --rejects projects/p/topics/r --topic projects/p/topics/t",
            "--predictions = 't': write projects",
        ),
        (
            f"{GIVEN} --topic projects/p/subscriptions/s",
            "--topic = 'projects/p/subscriptions/s': write projects/PROJECT/",
        ),
        (f"{GIVEN} --topic projects/p/topics/t --max_batch 0", "--max_batch = 0: allowed is a whole number from 1"),
        (
            f"{GIVEN} --topic projects/p/topics/t --windows gs://b/x",
            "--windows = 'gs://b/x': write PROJECT:DATASET.TABLE",
        ),
        (
            f"{GIVEN} --topic projects/p/topics/t --windows counts --runner DataflowRunner",
            "--windows = 'counts': write PROJECT:DATASET.TABLE",
        ),
    ],
)
def test_options_that_do_not_fit_are_told(options: str, said: str) -> None:
    with pytest.raises(SettingError, match=re.escape(said)):
        stream.check(Options(options.split()))


def test_what_could_not_be_published_comes_again(place: Place, images: dict[int, str], emulator: PubSub) -> None:
    """A stream whose topic of predictions is gone ends, with a sentence; what it had read was not acknowledged."""
    process = place.stream()
    few = dict(list(images.items())[:4])
    first, *others = ({"data": json.dumps({"id": each, "image": few[each]}).encode()} for each in few)
    _raw(place, [first])
    assert len(place.take("predictions", lambda taken: len(taken) > 0)) == 1
    place.publisher.delete_topic(topic=place.topic("predictions"))
    place.client.delete_subscription(subscription=place.subscription("predictions"))
    _raw(place, others)
    assert process.wait(PATIENCE) == 1
    assert "could not run the stream: " in place.log().splitlines()[-1]
    assert place.log().splitlines()[-1].startswith("error: ")
    emulator.make(place.name("predictions"))
    place.stream()
    found = place.take("predictions", lambda taken: len(taken) >= len(others))
    assert {json.loads(message.data)["id"] for message in found} == {*list(few)[1:]}


def test_what_is_not_there_is_told_in_a_sentence(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an exit with that sentence; that no traceback comes of that is Python's own."""
    monkeypatch.chdir(place.folder)
    Path("few.txt").write_text("0:" + "0," * 783 + "0\n")
    before = signal.getsignal(signal.SIGTERM)
    topic, ours = place.topic("images"), place.subscription("images")
    given = f"--predictions {place.topic('predictions')} --rejects {place.topic('rejects')} --subscription"
    try:
        for main, options, said in (
            (_stream, f"{given} {ours}-gone", f"{ours}-gone does not exist; make it with `gcloud pubsub subscriptions"),
            (_stream, f"{given} {ours} --model no.onnx", "no.onnx"),
            (produce.main, f"gone.txt --topic {topic}", "there is nothing at gone.txt"),
            (produce.main, f"few.txt --topic {topic}-gone", "could not publish to projects/"),
            (produce.main, "few.txt --topic images", "--topic = 'images': write projects/PROJECT/topics/NAME"),
            (produce.main, f"few.txt --topic {topic} --count -1", "--count = -1: allowed is a whole number from 0"),
            (produce.main, f"few.txt --topic {topic} --attribute x", "--attribute x: write NAME=VALUE"),
            (consume.main, f"--subscription {ours}-gone --seconds 1", f"could not read {ours}-gone"),
            (consume.main, "--topic images", "--topic = 'images': write projects/PROJECT/topics/NAME"),
            (consume.main, "", "say --subscription or --topic"),
        ):
            with pytest.raises(SystemExit) as ended:
                main(options.split())
            sentence = str(ended.value)
            assert sentence.startswith("error: ")
            assert said in sentence
            assert "\n" not in sentence
    finally:
        signal.signal(signal.SIGTERM, before)


def _stream(argv: list[str]) -> None:
    streaming.main(stream.build, stream.StreamOptions, argv, stream.names)


@running.long
def test_the_demo_shows_500_predictions(emulator: PubSub) -> None:
    """The command of make stream-demo prints a line a prediction, and the counts in the end."""
    root = Path(__file__).parents[2]
    topics = ["--topic", "images", "--topic", "predictions", "--topic", "rejects"]
    command = [sys.executable, "-m", "localcloud.pubsub", *topics, "--", "bin/stream-demo"]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    predictions, _, counts = ran.stdout.partition("windows of 5 seconds: images, and the share of each digit\n")
    assert len(predictions.splitlines()) == 500
    assert sum(int(line.split()[1]) for line in counts.splitlines()[1:]) == 500

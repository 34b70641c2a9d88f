"""DigitStream and StopStream in the local cloud, as cron and people run them; the job is held, and executes nothing."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import running
from cloud_running import Place, state_of
from dataflow_running import Set

from localcloud import DATASET, PROJECT, LocalCloud
from millrace.errors import MillraceError
from millrace.tasks import session
from millrace.tasks.session import Session
from workflows import DigitStream

NAMES = {
    "subscription": f"projects/{PROJECT}/subscriptions/images",
    "predictions": f"projects/{PROJECT}/topics/predictions",
    "rejects": f"projects/{PROJECT}/topics/rejects",
}


@pytest.fixture
def place(cloud: LocalCloud, tmp_path: Path) -> Iterator[Place]:
    """A place whose stream is set up."""
    made = Place(cloud, tmp_path, tmp_path.name, {"stream": NAMES})
    yield made
    made.close()


def states(place: Place) -> list[str]:
    """The states of the jobs, in the order of their creation."""
    return [state_of(job) for job in place.jobs]


def test_cron_keeps_the_stream_and_people_stop_and_start_it(place: Place) -> None:
    """Started once; updated where options changed; drained, and left alone by cron's runs until somebody starts it."""
    place.succeed("DigitStream")
    [job] = place.jobs
    running.wait_for(lambda: job.held, 30)
    assert (state_of(job), job.streaming) == ("RUNNING", True)
    assert "Pub/Sub" in job.held
    assert {key: job.options[key] for key in NAMES} == NAMES
    assert job.options["windows"] == f"{PROJECT}:{place.dataset}.digit_windows"
    place.set("stream", window_seconds="30")
    place.succeed("DigitStream")
    assert states(place) == ["UPDATED", "RUNNING"]
    doctor = place.run("millrace", "doctor")
    told = " ".join(doctor.out.split())
    assert "DigitStream job" in told, doctor
    assert "lag: system 0 s, data 0 s; with this code and these options" in told
    place.succeed("StopStream")
    assert states(place) == ["UPDATED", "DRAINED"]
    ran = place.succeed("DigitStream")
    assert states(place) == ["UPDATED", "DRAINED"]
    [said] = [line for line in ran.out.splitlines() if "stopped by StopStream" in line]
    typed = shlex.split(said.partition("nothing is done; ")[2].removesuffix(" starts it"))
    started = running.run(typed, place.folder, place.environment)
    assert started.code == 0, started
    assert states(place) == ["UPDATED", "DRAINED", "RUNNING"]


@pytest.fixture
def settings(setting: Set, tmp_path: Path) -> Iterator[Set]:
    """What sets settings, in which the stream is set up on Dataflow."""
    setting("millrace", "runner", "DataflowRunner")
    setting("millrace", "storage", "gs://nobody-s-bucket/data")
    setting("millrace", "warehouse", f"bigquery://{PROJECT}/{DATASET}")
    for key, value in NAMES.items():
        setting("stream", key, value)
    with session.use(Session()):
        yield setting


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("topic", f"projects/{PROJECT}/topics/images", "images come from one place"),
        ("subscription", "", "images come from one place"),
        (
            "subscription",
            f"projects/{PROJECT}/topics/images",
            r"stream\.subscription = .*: allowed is projects/",
        ),
        ("rejects", "projects/p/topics/rejects", r"stream\.rejects = .*: allowed is projects/PROJECT/topics/NAME"),
        ("rejects", "", "no topic for rejects is known"),
        ("windows", "/data/counts", r"stream\.windows = .*: allowed is PROJECT:DATASET\.TABLE"),
        ("model", "here.onnx", r"Dataflow's workers can't read the model here\.onnx"),
    ],
)
def test_a_setting_that_cannot_be_is_one_sentence(settings: Set, key: str, value: str, said: str) -> None:
    settings("stream", key, value)
    with pytest.raises(MillraceError, match=said):
        DigitStream().check()


def test_another_model_of_the_same_name_is_other_work(settings: Set, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    settings("stream", "model", str(model))
    found = set()
    for data in (b"one", b"other"):
        model.write_bytes(data)
        found.add(DigitStream().work())
    assert len(found) == 2

"""What an event of Google's is taken for: shapes as documentation and public reports have them, and hostile bytes."""

import base64
import json
from typing import Any

import pytest
import running
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.ops import events
from millrace.ops.events import EventError, Told

ID = "2024-03-13_13_30_56-9773037660972565699"
#: A log entry as a sink writes it: the fields, and the project's number among the labels, are those of a public report.
ENTRY = {
    "insertId": "1am96gdc4kr",
    "labels": {
        "dataflow.googleapis.com/job_id": ID,
        "dataflow.googleapis.com/job_name": "nightly-load",
        "dataflow.googleapis.com/log_type": "system",
        "dataflow.googleapis.com/region": "us-central1",
    },
    "logName": "projects/my-project/logs/dataflow.googleapis.com%2Fjob-message",
    "receiveTimestamp": "2024-03-13T20:40:49.14448264Z",
    "resource": {
        "type": "dataflow_step",
        "labels": {
            "job_id": ID,
            "job_name": "nightly-load",
            "project_id": "471167364752",
            "region": "us-central1",
            "step_id": "",
        },
    },
    "severity": "DEBUG",
    "textPayload": "Worker pool stopped.",
    "timestamp": "2024-03-13T20:40:48.601470848Z",
}
#: google.events.cloud.dataflow.v1beta3.JobEventData, as a public report has one.
JOB = {
    "@type": "type.googleapis.com/google.events.cloud.dataflow.v1beta3.JobEventData",
    "payload": {
        "id": ID,
        "name": "nightly-load",
        "projectId": "my-project",
        "location": "us-central1",
        "currentState": "JOB_STATE_DONE",
        "currentStateTime": "2024-03-13T20:40:57.106560Z",
        "labels": {"connector": "rrio"},
        "type": "JOB_TYPE_BATCH",
    },
}
#: The attributes of Eventarc's event, in the JSON format of CloudEvents.
STATUS = {
    "specversion": "1.0",
    "id": "d20f9a8d4703f3a4313c1dde7c1b19ff",
    "type": "google.cloud.dataflow.job.v1beta3.statusChanged",
    "source": "//dataflow.googleapis.com/projects/my-project/locations/us-central1",
    "subject": "jobs/nightly-load",
    "job": "nightly-load",
    "project": "471167364752",
    "location": "us-central1",
    "time": "2024-03-13T20:40:57.10656Z",
    "datacontenttype": "application/json; charset=utf-8",
    "dataschema": "https://googleapis.github.io/google-cloudevents/proto/google/events/cloud/dataflow/v1beta3/data.proto#JobEventData",
}
WORDS = Told(ID, "us-central1", "my-project", True, "the words 'Worker pool stopped.'")
DONE = Told(ID, "us-central1", "my-project", True, "the state DONE")


def packed(value: Any) -> str:
    """JSON as base64."""
    return base64.b64encode(json.dumps(value).encode()).decode()


def message(data: str, **more: Any) -> dict[str, Any]:
    """A message, with both spellings of its fields, as pushes have them."""
    both = {"messageId": "2070443601311540", "message_id": "2070443601311540"}
    times = {"publishTime": "2024-03-13T20:41:00.105Z", "publish_time": "2024-03-13T20:41:00.105Z"}
    return {"attributes": {}, "data": data, **both, **times, **more}


def push(data: str) -> dict[str, Any]:
    """What a push subscription sends."""
    return {"message": message(data), "subscription": "projects/my-project/subscriptions/jobs"}


SHAPES = {
    "an entry": (ENTRY, WORDS),
    "a push of an entry": (push(packed(ENTRY)), WORDS),
    "a message, as the first generation of functions has it": (
        {"@type": "type.googleapis.com/google.pubsub.v1.PubsubMessage", "attributes": None, "data": packed(ENTRY)},
        WORDS,
    ),
    "a push as a structured CloudEvent": (
        {
            "specversion": "1.0",
            "id": "1",
            "type": "google.cloud.pubsub.topic.v1.messagePublished",
            "source": "//pubsub.googleapis.com/projects/my-project/topics/jobs",
            "data": push(packed(ENTRY)),
        },
        WORDS,
    ),
    "Eventarc's, structured": ({**STATUS, "data": JOB}, DONE),
    "Eventarc's, its data as base64": ({**STATUS, "data_base64": packed(JOB)}, DONE),
    "the data of Eventarc's alone": (JOB, DONE),
    "Eventarc's, on its way through a topic": (push(packed({**STATUS, "data": JOB})), DONE),
    "an entry whose words are in JSON": (
        {**ENTRY, "textPayload": None, "jsonPayload": {"message": "Worker pool stopped."}},
        WORDS,
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_each_shape_tells_of_the_job(name: str) -> None:
    """Each of the shapes that Google sends tells of the same job, its region, its project, and that it ended."""
    event, expected = SHAPES[name]
    assert events.read(json.dumps(event).encode()) == expected


@pytest.mark.parametrize("spelt", ["ce-", "Ce-", "CE-"])
def test_binary_cloud_events_tell_the_same(spelt: str) -> None:
    """Where HTTP's headers have the attributes, the body is the data alone: Eventarc's, and a message of Pub/Sub's."""
    headers = {f"{spelt}{name}": value for name, value in STATUS.items() if name != "datacontenttype"}
    body = json.dumps(JOB).encode()
    assert events.read(events.structured({**headers, "Content-Type": "application/json"}, body)) == DONE
    published = {f"{spelt}Type": "google.cloud.pubsub.topic.v1.messagePublished", f"{spelt}Specversion": "1.0"}
    assert events.read(events.structured(published, json.dumps(push(packed(ENTRY))).encode())) == WORDS
    assert events.structured({"Content-Type": "application/json"}, body) == body


@pytest.mark.parametrize(
    ("state", "ended"),
    [("DONE", True), ("FAILED", True), ("CANCELLED", True), ("UPDATED", True), ("DRAINED", True)]
    + [(state, False) for state in ("RUNNING", "PENDING", "QUEUED", "CANCELLING", "RESOURCE_CLEANING_UP", "NEW_ONE")],
)
def test_which_states_end_a_job(state: str, ended: bool) -> None:
    """The states that JobState calls terminal, and no other, one that is not known yet included."""
    event = {"payload": {**JOB["payload"], "currentState": f"JOB_STATE_{state}"}}  # type: ignore[dict-item]
    assert events.read(json.dumps(event).encode()).ended is ended


@pytest.mark.parametrize(
    ("words", "ended"),
    [
        ("Worker pool stopped.", True),
        ("Workflow failed. Causes: S01:Read failed., The job failed because a work item has failed 4 times.", True),
        ("Cancel request is committed for workflow job: 2024-03-13_13_30_56-977", True),
        ("Stopping worker pool...", False),
        ("Executing success step success22", False),
        ("The Worker pool stopped.", False),
        ("", False),
    ],
)
def test_which_words_end_a_job(words: str, ended: bool) -> None:
    """An entry of any words tells of the job; a few of them say that it has ended."""
    told = events.read(json.dumps({**ENTRY, "textPayload": words}).encode())
    assert (told.job, told.ended) == (ID, ended)


@pytest.mark.parametrize(
    "event",
    [
        {**ENTRY, "resource": {"type": "gce_instance", "labels": {"job_id": ID}}},
        {**ENTRY, "logName": "projects/my-project/logs/dataflow.googleapis.com%2Fworker"},
        {**ENTRY, "logName": "folders/12/logs/dataflow.googleapis.com%2Fjob-message"},
        {**ENTRY, "resource": None},
        {"logName": 4, "resource": []},
        {**STATUS, "type": "google.cloud.dataflow.job.v2.deleted", "data": JOB},
        {**STATUS, "data": None},
        {"message": {"attributes": {"a": "b"}, "messageId": "1"}, "subscription": "s"},
    ],
)
def test_what_is_about_no_job(event: Any) -> None:
    """Other resources' entries, workers' own logs, other CloudEvents and empty messages are about no job's end."""
    assert events.read(json.dumps(event).encode()).job == ""


BROKEN = [
    b"",
    b"{",
    b"\xff\xfe",
    b"null",
    b"[1]",
    b'"text"',
    b"1e999",
    b"{}",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"9" * 10_000,
    json.dumps({"message": {"data": "!"}}).encode(),
    json.dumps({"message": {"data": "\u00fc"}}).encode(),
    json.dumps(push(base64.b64encode(b"{").decode())).encode(),
    json.dumps({**ENTRY, "resource": {"type": "dataflow_step", "labels": {"job_id": "../../x"}}}).encode(),
    json.dumps({**ENTRY, "resource": {"type": "dataflow_step", "labels": {}}}).encode(),
    json.dumps({"payload": {"id": f"{ID}\n"}}).encode(),
    json.dumps({"payload": {"id": ["x"]}}).encode(),
    json.dumps({"payload": {"id": ID, "location": "../us-central1"}}).encode(),
    json.dumps({"payload": {"id": ID, "location": ""}}).encode(),
    json.dumps({"payload": {"id": ID, "location": 1}}).encode(),
    json.dumps({"message": {"message": {"message": {"message": {"message": {"message": ENTRY}}}}}}).encode(),
    b" " * (events.LARGEST + 1),
]


@pytest.mark.parametrize("data", BROKEN, ids=lambda data: repr(data[:30]))
def test_what_is_no_event_is_one_sentence(data: bytes) -> None:
    """What is none of the shapes is refused by one short line without a character that acts on a terminal."""
    with pytest.raises(EventError) as refused:
        events.read(data)
    said = str(refused.value)
    assert said.isprintable()
    assert len(said) < 300


@pytest.mark.parametrize("region", ["us-central1", "europe-west10", "northamerica-northeast1", None])
def test_regions(region: str | None) -> None:
    """Regions as Google calls them are taken over, and where an event has none, it has none."""
    told = events.read(json.dumps({"payload": {"id": ID, "location": region}}).encode())
    assert told.region == (region or "")


def test_the_deepest_that_google_sends_is_read() -> None:
    """An entry in a message in a push in a CloudEvent is read; two envelopes more are not."""
    event: Any = {**STATUS, "type": "google.cloud.pubsub.topic.v1.messagePublished", "data": push(packed(ENTRY))}
    assert events.read(json.dumps(event).encode()) == WORDS
    with pytest.raises(EventError, match="has more than 5 envelopes"):
        events.read(json.dumps(push(packed(event))).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = (
    "message",
    "data",
    "data_base64",
    "payload",
    "specversion",
    "type",
    "resource",
    "labels",
    "logName",
    "job_id",
    "id",
)
NEAR = st.recursive(
    JSON | st.sampled_from([ID, "dataflow_step", ENTRY["logName"], packed(ENTRY), ENTRY, JOB]),
    lambda inner: st.dictionaries(st.sampled_from(KEYS), inner, max_size=4) | inner.map(packed),
    max_leaves=12,
)


def tried(data: bytes) -> None:
    """Reads an event, which tells something or is refused by its own error."""
    said = []
    try:
        told = events.read(data)
        said = [told.job.replace(ID, ""), told.what]
        assert told.job in ("", ID)
    except EventError as error:
        said = [str(error)]
    assert all(each.isprintable() for each in said)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """Whatever the bytes are, they are no job of anybody's."""
    tried(data)


@settings(max_examples=100 * (8 // running.SHARE))
@given(NEAR)
def test_any_json_that_looks_like_an_event(value: Any) -> None:
    """Documents of the right keys with wrong values tell something or are refused, and never by another error."""
    tried(json.dumps(value).encode())

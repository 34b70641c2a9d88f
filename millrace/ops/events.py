"""What an event tells of a Dataflow job: which job it is about, and whether it says that the job has ended. No more is
believed of an event, because anybody may send one: what became of the job is asked of Dataflow.

The shapes, each of which may stand in the next, as Google sends them:

    a log entry          resource.type = dataflow_step, resource.labels.job_id; textPayload or jsonPayload.message
    a job                {"payload": {"id", "location", "projectId", "currentState", …}}: the data of Eventarc's
                         google.cloud.dataflow.job.v1beta3.statusChanged
    a CloudEvent         {"specversion", "type", "data" or "data_base64"}; `structured` makes one of HTTP's headers
    a Pub/Sub message    {"data": base64}, and {"message": that, "subscription"}, as a push has it
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from millrace.common.text import one_line
from millrace.errors import TerminalError

#: The largest event that is read: a message of Pub/Sub has 10 MB at most, a third more as base64.
LARGEST = 16 << 20
#: A push, a CloudEvent, a message and an entry, with room for one more of them.
_DEEPEST = 5
_JOB = re.compile(r"[0-9]{4}(-[0-9]{2}){2}(_[0-9]{2}){3}-[0-9]{1,25}", re.ASCII)
_REGION = re.compile(r"[a-z]+(-[a-z]+)+[0-9]{1,3}", re.ASCII)
_LOG = re.compile(r"projects/([^/]+)/logs/dataflow\.googleapis\.com%2F([-a-z]+)", re.ASCII)
_STATUS = "google.cloud.dataflow.job.v1beta3.statusChanged"
#: States in which nothing becomes of a job any more.
_ENDED = ("DONE", "FAILED", "CANCELLED", "UPDATED", "DRAINED")
#: What Dataflow's log says of a job at its end, as public reports have it; other words only keep an event from being
#: sent again where the job is a moment behind its log.
_LAST_WORDS = re.compile(r"(Worker pool stopped|Workflow failed|Cancel request is committed)\b")


class EventError(TerminalError):
    """An event is none that Google sends."""


@dataclass(frozen=True)
class Told:
    """What an event tells.

    job: the job's id; "" where the event is about no job. region, project: where the event says it is; "" where it does
    not. ended: whether the event says that the job has ended. what: the event in a few words.
    """

    job: str
    region: str = ""
    project: str = ""
    ended: bool = False
    what: str = ""


def read(data: bytes) -> Told:
    """Return what an event tells. Raises EventError for what is none."""
    if len(data) > LARGEST:
        raise EventError(f"the event has more than {LARGEST >> 20} MiB, and Pub/Sub sends none of more than 10 MB")
    return _of(_json(data, "the event"), _DEEPEST)


def structured(headers: Mapping[str, str], body: bytes) -> bytes:
    """Return a CloudEvent that HTTP's headers tell of as one JSON document; the body itself where they tell of none."""
    lower = {name.lower(): value for name, value in headers.items()}
    attributes = {name.removeprefix("ce-"): value for name, value in lower.items() if name.startswith("ce-")}
    if "type" not in attributes:
        return body
    return json.dumps({**attributes, "data_base64": base64.b64encode(body).decode()}).encode()


def _of(value: Any, deep: int) -> Told:
    if not isinstance(value, dict):
        raise EventError(f"the event is {_shown(value)}, and no JSON object")
    if not deep:
        raise EventError(f"the event has more than {_DEEPEST} envelopes, one in the other, and Google's have fewer")
    if isinstance(value.get("message"), dict):
        return _of(value["message"], deep - 1)
    if "specversion" in value:
        return _of_cloud_event(value, deep)
    if "resource" in value or "logName" in value:
        return _of_entry(value)
    if isinstance(value.get("payload"), dict):
        return _of_job(value["payload"])
    if isinstance(value.get("data"), str):
        return _of(_decoded(value["data"], "the message's data"), deep - 1)
    if "attributes" in value or "messageId" in value:
        return Told("", what="a message without data")
    raise EventError(
        f"the event is neither a Pub/Sub push nor a log entry nor a CloudEvent; its keys are {_shown(sorted(value))}"
    )


def _of_cloud_event(event: Mapping[str, Any], deep: int) -> Told:
    if isinstance(event.get("data_base64"), str):
        data = _decoded(event["data_base64"], "the CloudEvent's data")
    else:
        data = event.get("data")
    if data is None:
        return Told("", what=f"a CloudEvent {_shown(event.get('type'))} without data")
    told = _of(data, deep - 1)
    if told.job and event.get("type") not in (_STATUS, "google.cloud.pubsub.topic.v1.messagePublished"):
        return Told("", what=f"a CloudEvent {_shown(event.get('type'))}")
    return told


def _of_job(job: Mapping[str, Any]) -> Told:
    state = str(job.get("currentState", "")).removeprefix("JOB_STATE_")
    what = f"the state {one_line(state, 40)}" if state else "a change"
    return Told(_id(job.get("id")), _region(job.get("location")), _text(job.get("projectId")), state in _ENDED, what)


def _of_entry(entry: Mapping[str, Any]) -> Told:
    resource = entry.get("resource")
    kind = resource.get("type") if isinstance(resource, dict) else None
    labels = resource.get("labels") if isinstance(resource, dict) else None
    log = _LOG.fullmatch(_text(entry.get("logName")))
    if kind != "dataflow_step" or not isinstance(labels, dict) or log is None or log[2] != "job-message":
        return Told("", what=f"an entry of {_shown(entry.get('logName'))} about {_shown(kind)}")
    more = entry.get("jsonPayload")
    said = _text(entry.get("textPayload")) or (_text(more.get("message")) if isinstance(more, dict) else "")
    # The label project_id has been seen to be the project's number; the log's name has its id.
    region = _region(labels.get("region"))
    ended, what = bool(_LAST_WORDS.match(said)), f"the words {_shown(one_line(said, 60))}"
    return Told(_id(labels.get("job_id")), region, log[1], ended, what)


def _id(value: object) -> str:
    if value is None:
        raise EventError("the event is one of Dataflow's, and names no job")
    if not isinstance(value, str) or not _JOB.fullmatch(value):
        raise EventError(f"the event is about job {_shown(value)}, and no job of Dataflow has such an id")
    return value


def _region(value: object) -> str:
    # It becomes a part of the address that is asked.
    if value is not None and (not isinstance(value, str) or not _REGION.fullmatch(value)):
        raise EventError(f"the event is of the region {_shown(value)}, and Google has none of such a name")
    return _text(value)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _decoded(text: str, what: str) -> Any:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise EventError(f"{what} is no base64: {_shown(text)}") from None
    return _json(data, what)


def _json(data: bytes, what: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise EventError(f"{what} is no JSON: {_shown(data[:200].decode('utf-8', 'replace'))}") from None


def _shown(value: object) -> str:
    return one_line(ascii(value), 100)

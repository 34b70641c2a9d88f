"""The jobs of the local Dataflow that outlive it: a file of JSON for each, written whole before anybody is told."""

import dataclasses
import datetime
import json
import os
from pathlib import Path
from typing import Any

from google.cloud import dataflow_v1beta3 as api
from google.protobuf import json_format

from localcloud.dataflow_checks import parsed
from localcloud.dataflow_jobs import Job, Message, Stage

#: What a job that ends with the service can't keep, or does not need to.
_FLEETING = ("launch", "pid", "unseen", "behind")


class Archive:
    """A folder of jobs. Raises OSError where it can't be written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, job: Job) -> None:
        """Write a job as it is."""
        known = {field.name: getattr(job, field.name) for field in dataclasses.fields(job)}
        kept = {name: value for name, value in known.items() if name not in _FLEETING}
        kept["submitted"] = json_format.MessageToDict(api.Job.pb(job.submitted))
        path = self._folder / f"{job.id}.json"
        half = path.with_suffix(".half")
        with half.open("w", encoding="utf-8") as file:
            json.dump(kept, file, default=_plain)
            file.flush()
            os.fsync(file.fileno())
        half.rename(path)

    def load(self) -> list[Job]:
        """Return all jobs, in the order of their creation."""
        found = [_job(json.loads(path.read_text(encoding="utf-8"))) for path in self._folder.glob("*.json")]
        return sorted(found, key=lambda job: job.created)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return dataclasses.asdict(value)


def _job(kept: dict[str, Any]) -> Job:
    kept["submitted"] = parsed(api.Job, kept["submitted"])
    kept["messages"] = [Message(**{**each, "time": _time(each["time"])}) for each in kept["messages"]]
    kept["stages"] = [
        Stage(**{**each, "started": _time(each["started"]), "ended": _time(each["ended"])}) for each in kept["stages"]
    ]
    kept["workers"] = [(_time(time), number) for time, number in kept["workers"]]
    return Job(**{**kept, **{name: _time(kept[name]) for name in ("created", "entered", "started")}})


def _time(text: str | None) -> Any:
    return datetime.datetime.fromisoformat(text) if text else None

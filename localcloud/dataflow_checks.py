"""What the local Dataflow refuses, by its documentation: names, labels, places and numbers of workers."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from google.cloud import dataflow_v1beta3 as api
from google.protobuf import json_format

#: As jobs.create documents them.
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,1022}[a-z0-9])?")
_REGION = re.compile(r"[a-z]+-[a-z]+[0-9]+")
_ZONE = re.compile(r"[a-z]+-[a-z]+[0-9]+-[a-z]")
_LABELS, _LABEL_BYTES, _LABEL_LENGTH = 64, 128, 63
_WORKERS = 1000


class RefusedError(Exception):
    """A request that is answered with an error of this HTTP status, and with such details."""

    def __init__(self, status: int, message: str, details: Iterable[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.details = [dict(each) for each in details]


def parsed(kind: Any, value: Any) -> Any:
    """Return a message of the API from its JSON. Raises RefusedError for other JSON."""
    message = kind()
    try:
        json_format.ParseDict(value, kind.pb(message))
    except json_format.ParseError as problem:
        raise RefusedError(400, f"Invalid JSON payload received. {problem}") from None
    return message


def check_name(name: str) -> None:
    """Raise RefusedError for what can be no job's name."""
    if not _NAME.fullmatch(name):
        raise RefusedError(400, f"The job name {name!r} is invalid: it must match {_NAME.pattern}.")


def check_region(region: str) -> None:
    """Raise RefusedError for what can be no region."""
    if not _REGION.fullmatch(region):
        raise RefusedError(400, f"{region} is no region of Dataflow")


def check_job(job: Any) -> None:
    """Raise RefusedError for a job (api.Job) whose name, labels, places or numbers of workers can't be."""
    check_name(job.name)
    check_labels(job.labels)
    environment = job.environment
    _check_place(environment.worker_region, environment.worker_zone)
    for pool in environment.worker_pools:
        _check_workers(pool.num_workers, pool.autoscaling_settings.max_num_workers)


def check_environment(environment: Any) -> None:
    """Raise RefusedError for a launch's environment, a classic or flex template's, that can't be."""
    check_labels(environment.additional_user_labels)
    # "zone" alone is a zone too; worker_zone takes precedence over it.
    _check_place(environment.worker_region, environment.worker_zone or environment.zone)
    _check_workers(environment.num_workers, environment.max_workers)
    for name in ("temp_location", "staging_location"):
        if (place := str(getattr(environment, name, ""))) and not place.startswith("gs://"):
            raise RefusedError(
                400, f"{camel(name)} must be a valid Cloud Storage URL, beginning with gs://, not {place}."
            )
    for option in getattr(environment, "additional_pipeline_options", ()):
        if not option.partition("=")[0].lstrip("-"):
            raise RefusedError(400, f"additionalPipelineOptions has {option!r}, which names no option.")


def check_labels(labels: Mapping[str, str]) -> None:
    """Raise RefusedError for labels that are not as documented."""
    if len(labels) > _LABELS:
        raise RefusedError(400, f"A job can have no more than {_LABELS} labels, not {len(labels)}.")
    for key, value in labels.items():
        good = key[:1].isalpha() and all(_of_label(each) for each in key + value)
        if not good or max(len(key), len(value)) > _LABEL_LENGTH:
            raise RefusedError(
                400,
                f"The label {key!r}: {value!r} is invalid: a key begins with a lower-case letter, and key and value "
                f"have at most {_LABEL_LENGTH} lower-case letters, digits, underscores and dashes.",
            )
        if max(len(each.encode()) for each in (key, value)) > _LABEL_BYTES:
            raise RefusedError(400, f"The label {key!r}: {value!r} is invalid: it is longer than {_LABEL_BYTES} bytes.")


def _of_label(letter: str) -> bool:
    # Letters without case, as of Chinese, are letters here: \p{Ll}, \p{Lo} and \p{N}.
    return letter in "_-" or letter.isnumeric() or (letter.isalpha() and letter == letter.lower())


def _check_place(region: str, zone: str) -> None:
    if region and zone:
        raise RefusedError(400, f"workerRegion ({region}) and workerZone ({zone}) are mutually exclusive.")
    if region and not _REGION.fullmatch(region):
        raise RefusedError(400, f"The worker region {region!r} is no region of Compute Engine.")
    if zone and not _ZONE.fullmatch(zone):
        raise RefusedError(400, f"The worker zone {zone!r} is no zone of Compute Engine.")


def _check_workers(number: int, most: int) -> None:
    for name, value in (("numWorkers", number), ("maxWorkers", most)):
        if not 0 <= value <= _WORKERS:  # 0 is what was not given
            raise RefusedError(400, f"{name} must be between 1 and {_WORKERS}, not {value}.")
    if most and number > most:
        raise RefusedError(400, f"numWorkers ({number}) must not be more than maxWorkers ({most}).")


def camel(name: str) -> str:
    """Return a field's name as JSON has it."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def unsupported(what: str) -> RefusedError:
    """Return the refusal of what Dataflow has and the local one has not."""
    return RefusedError(501, f"the local Dataflow has no {what}")


def state_name(number: int) -> str:
    """Return the name of a job's state."""
    return str(api.JobState(number).name)

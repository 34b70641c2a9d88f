"""Templates of the local Dataflow: what a launch makes of a classic template's job, or of a flex template's image."""

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.error import HTTPError

from google.cloud import dataflow_v1beta3 as api
from google.protobuf import json_format


class RefusedError(Exception):
    """A request that is answered with an error of this HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def parsed(kind: Any, value: Any) -> Any:
    """Return a message of the API from its JSON. Raises RefusedError for other JSON."""
    message = kind()
    try:
        json_format.ParseDict(value, kind.pb(message))
    except json_format.ParseError as problem:
        raise RefusedError(400, f"Invalid JSON payload received. {problem}") from None
    return message


def classic(storage_url: str, uri: str, launch: Any) -> Any:
    """Return the job of a classic template: what was staged, with the launch's name, parameters and environment.

    launch: LaunchTemplateParameters. Raises RefusedError.
    """
    described = _read(storage_url, uri)
    metadata = parsed(api.TemplateMetadata, _read(storage_url, f"{uri}_metadata", {}))
    _check(launch.parameters, metadata)
    options = described.get("environment", {}).get("sdkPipelineOptions", {}).get("options", {})
    options.update(launch.parameters)
    if launch.environment.temp_location:
        options["temp_location"] = launch.environment.temp_location
        described["environment"]["tempStoragePrefix"] = launch.environment.temp_location.replace(
            "gs:/", "storage.googleapis.com"
        )
    job = parsed(api.Job, described)
    job.name, job.client_request_id = launch.job_name, ""
    return job


def template(storage_url: str, uri: str) -> Any:
    """Return what is known of a template, classic or flex. Raises RefusedError."""
    kinds = api.GetTemplateResponse.TemplateType
    value = _read(storage_url, uri)
    if "image" in value:
        spec = parsed(api.ContainerSpec, value)
        return api.GetTemplateResponse(metadata=spec.metadata, template_type=kinds.FLEX)
    metadata = parsed(api.TemplateMetadata, _read(storage_url, f"{uri}_metadata", {}))
    return api.GetTemplateResponse(metadata=metadata, template_type=kinds.LEGACY)


def flex(storage_url: str, launch: Any, images: Mapping[str, Sequence[str]]) -> tuple[Any, list[str]]:
    """Return the job that a flex template's launch begins, and the command that submits it, but for where to.

    launch: LaunchFlexTemplateParameter; images: what a container of an image would run. Raises RefusedError.
    """
    spec = launch.container_spec
    if launch.container_spec_gcs_path:
        spec = parsed(api.ContainerSpec, _read(storage_url, launch.container_spec_gcs_path))
    if spec.image not in images:
        raise RefusedError(400, f"Unable to pull the image {spec.image}: the local Dataflow knows {sorted(images)}.")
    _check(launch.parameters, spec.metadata)
    chosen = {
        key: getattr(launch.environment, key) or getattr(spec.default_environment, key)
        for key in ("temp_location", "staging_location")
    }
    arguments = {**{key: value for key, value in chosen.items() if value}, **launch.parameters}
    command = [*images[spec.image], *(f"--{key}={value}" for key, value in arguments.items())]
    return api.Job(name=launch.job_name, type_=api.JobType.JOB_TYPE_BATCH), command


def _check(parameters: Mapping[str, str], metadata: Any) -> None:
    """Raise RefusedError for parameters that are not as the template's metadata, if there are any, want them."""
    known = {each.name: each for each in metadata.parameters}
    problems = [f"{name}: Unrecognized parameter" for name in parameters if known and name not in known]
    for name, each in known.items():
        if name not in parameters:
            if not each.is_optional:
                problems.append(f"{name}: Missing required parameter")
        elif bad := [pattern for pattern in each.regexes if not re.fullmatch(pattern, parameters[name])]:
            problems.append(f"{name}: Unmatched regex {bad[0]}")
    if problems:
        raise RefusedError(400, f"The template parameters are invalid. Details: {'; '.join(problems)}")


def _read(storage_url: str, uri: str, otherwise: Any = None) -> dict[str, Any]:
    """Return an object of JSON.

    Raises RefusedError for an object that isn't there, unless there is something to return instead.
    """
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    if not uri.startswith("gs://") or not name:
        raise RefusedError(400, f"{uri!r} is no gs:// path of a template.")
    try:
        with urllib.request.urlopen(
            f"{storage_url}/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}?alt=media"
        ) as answer:
            value: dict[str, Any] = json.load(answer)
            return value
    except HTTPError as problem:
        if problem.code == 404 and otherwise is not None:
            return dict(otherwise)
        raise RefusedError(404, f"Unable to open template file: {uri}.") from None
    except ValueError:
        raise RefusedError(400, f"The template file {uri} is no JSON.") from None

"""Templates of the local Dataflow: what a launch makes of a classic template's job, or of a flex template's image."""

import json
import sys
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import regex
from google.cloud import dataflow_v1beta3 as api

from localcloud.dataflow_checks import RefusedError, check_environment, parsed, unsupported
from localcloud.dataflow_environments import apply, flags, merged, unused

#: What an image is on this machine: a Python program by its path, or the words of a command.
Image = str | Sequence[str]
#: Options of Dataflow's runner, which a flex template takes as parameters although its metadata need not name them.
_RUNNERS = set(
    "autoscaling_algorithm dataflow_kms_key dataflow_service_options disk_size_gb docker_registry_push_url "
    "enable_streaming_engine experiments extra_package extra_packages flexrs_goal labels machine_type max_num_workers "
    "min_cpu_platform network num_workers number_of_worker_harness_threads pickle_library "
    "prebuild_sdk_container_engine requirements_file save_main_session sdk_container_image sdk_location "
    "service_account_email setup_file staging_location streaming subnetwork temp_location use_public_ips "
    "worker_disk_type worker_machine_type worker_region worker_zone zone".split()
)
_VIOLATIONS = "type.googleapis.com/google.dataflow.v1beta3.InvalidTemplateParameters"


@dataclass(frozen=True)
class Launch:
    """A flex template's launch: the job that it begins, and the command that makes the job object.

    template: where the program writes its job, as `--template_location`. folder: what the command runs in, "" for any.
    unused: the fields of the environment that have no effect here.
    """

    job: Any
    command: list[str]
    template: str
    folder: str
    unused: list[str]

    @property
    def log(self) -> str:
        """Where the console log of the launcher goes."""
        return f"{self.template.rpartition('/')[0]}/console_logs"


def image(text: str) -> tuple[str, str]:
    """Return an image and its program, of `gcr.io/p/i=./main.py`. Raises ValueError for what is no such pair."""
    name, _, program = text.partition("=")
    if not name or not program:
        raise ValueError(f"{text!r} is no image: say IMAGE=PROGRAM, as in gcr.io/p/i=./main.py")
    path = Path(program).expanduser().resolve()
    if not path.is_file():
        raise ValueError(f"the image {name} can't be run, because there is no program {path}")
    return name, str(path)


def classic(storage_url: str, uri: str, launch: Any, place: Mapping[str, str]) -> Any:
    """Return the job of a classic template: what was staged, with the launch's name, parameters and environment.

    launch: LaunchTemplateParameters; place: the project and region, as options. Raises RefusedError.
    """
    described = read(storage_url, uri)
    if "image" in described:
        raise RefusedError(400, f"{uri} is a flex template's spec; flexTemplates.launch launches such.")
    metadata = parsed(api.TemplateMetadata, read(storage_url, f"{uri}_metadata", {}))
    _check(launch.parameters, metadata)
    check_environment(launch.environment)
    options = described.get("environment", {}).get("sdkPipelineOptions", {}).get("options", {})
    options.update(launch.parameters, **place, job_name=launch.job_name)
    job = parsed(api.Job, described)
    apply(launch.environment, job, options)
    job.name = launch.job_name
    job.environment.sdk_pipeline_options = described.get("environment", {}).get("sdkPipelineOptions", {})
    job.client_request_id = ""
    return job


def template(storage_url: str, uri: str) -> Any:
    """Return what is known of a template, classic or flex. Raises RefusedError."""
    kinds = api.GetTemplateResponse.TemplateType
    value = read(storage_url, uri)
    if "image" in value:
        spec = parsed(api.ContainerSpec, value)
        runtime = api.RuntimeMetadata(sdk_info=spec.sdk_info, parameters=spec.metadata.parameters)
        return api.GetTemplateResponse(metadata=spec.metadata, template_type=kinds.FLEX, runtime_metadata=runtime)
    metadata = parsed(api.TemplateMetadata, read(storage_url, f"{uri}_metadata", {}))
    return api.GetTemplateResponse(metadata=metadata, template_type=kinds.LEGACY)


def flex(storage_url: str, launch: Any, images: Mapping[str, Image], place: Mapping[str, str], id: str) -> Launch:
    """Return what a flex template's launch does.

    launch: LaunchFlexTemplateParameter; images: what a container of an image would run; place: the project, region and
    endpoint, as flags; id: the job's. Raises RefusedError.
    """
    spec = launch.container_spec
    if launch.container_spec_gcs_path:
        spec = parsed(api.ContainerSpec, read(storage_url, launch.container_spec_gcs_path))
    if spec.sdk_info.language == api.SDKInfo.Language.JAVA:
        raise unsupported(f"launcher for Java, which the template's image {spec.image} needs")
    if spec.image not in images:
        raise RefusedError(
            400,
            f"Unable to pull the image {spec.image!r}: the local Dataflow knows {sorted(images) or 'none'}; "
            f"localcloud --image {spec.image or 'IMAGE'}=PROGRAM names one.",
        )
    _check({name: value for name, value in launch.parameters.items() if name not in _RUNNERS}, spec.metadata)
    environment = merged(launch.environment, spec.default_environment)
    check_environment(environment)
    default = f"gs://dataflow-staging-{place['region']}-{place['project']}"
    environment.temp_location = environment.temp_location or f"{default}/tmp"
    environment.staging_location = environment.staging_location or f"{default}/staging"
    if default in (environment.temp_location + environment.staging_location):
        _create_bucket(storage_url, default.removeprefix("gs://"), place["project"])
    written = f"{environment.staging_location.rstrip('/')}/template_launches/{id}/job_object"
    told = {"runner": "DataflowRunner", **place, "job_name": launch.job_name, "template_location": written}
    arguments = [f"--{key}={value}" for key, value in {**told, **launch.parameters}.items()]
    if launch.update:
        arguments.append("--update")
        if launch.transform_name_mappings:
            arguments.append(f"--transform_name_mapping={json.dumps(dict(launch.transform_name_mappings))}")
    found = images[spec.image]
    path = Path(found).resolve() if isinstance(found, str) else None
    command = [sys.executable, str(path)] if path else list(found)
    kind = api.JobType.JOB_TYPE_STREAMING if spec.metadata.streaming else api.JobType.JOB_TYPE_BATCH
    job = api.Job(name=launch.job_name, type_=kind, labels=environment.additional_user_labels)
    ignored = unused(environment) + [f"launchOptions.{name}" for name in launch.launch_options]
    folder = str(path.parent) if path else ""
    return Launch(job, [*command, *arguments, *flags(environment)], written, folder, ignored)


def _check(parameters: Mapping[str, str], metadata: Any) -> None:
    """Raise RefusedError for parameters that are not as the template's metadata, if there are any, want them."""
    known = {each.name: each for each in metadata.parameters}
    problems = [(name, "Unrecognized parameter") for name in parameters if known and name not in known]
    for name, each in known.items():
        if name not in parameters:
            if not each.is_optional:
                problems.append((name, "Missing required parameter"))
        elif bad := [pattern for pattern in each.regexes if not _matches(pattern, parameters[name])]:
            problems.append((name, f"Unmatched regex {bad[0]}"))
    if problems:
        told = "; ".join(f"{name}: {problem}" for name, problem in problems)
        violations = [{"parameter": name, "description": problem} for name, problem in problems]
        raise RefusedError(
            400,
            f"The template parameters are invalid. Details: {told}",
            [{"@type": _VIOLATIONS, "parameterViolations": violations}],
        )


def _matches(pattern: str, text: str) -> bool:
    r"""Return whether a whole text is as a pattern of RE2 says.

    RE2 takes [[:alpha:]] and \w for ASCII's letters, and \p{L} for those of all scripts.
    """
    return bool(regex.fullmatch(pattern, text, 0 if "\\p" in pattern.lower() else regex.ASCII))


def read(storage_url: str, uri: str, otherwise: Any = None) -> dict[str, Any]:
    """Return an object of JSON.

    Raises RefusedError for an object that isn't there, unless there is something to return instead.
    """
    bucket, name = _parts(uri)
    try:
        with urllib.request.urlopen(
            f"{storage_url}/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}?alt=media"
        ) as answer:
            value = json.load(answer)
    except HTTPError as problem:
        if problem.code == 404 and otherwise is not None:
            return dict(otherwise)
        raise RefusedError(404, f"Unable to open template file: {uri}.") from None
    except ValueError:
        raise RefusedError(400, f"The template file {uri} is no JSON.") from None
    if not isinstance(value, dict):
        raise RefusedError(400, f"The template file {uri} is no object of JSON.")
    return value


def write(storage_url: str, uri: str, data: bytes) -> None:
    """Write an object of text. Raises OSError."""
    bucket, name = _parts(uri)
    query = urllib.parse.urlencode({"uploadType": "media", "name": name})
    _post(f"{storage_url}/upload/storage/v1/b/{bucket}/o?{query}", data, "text/plain; charset=utf-8")


def _create_bucket(storage_url: str, name: str, project: str) -> None:
    """Create a bucket, unless there is one of that name."""
    query = urllib.parse.urlencode({"project": project})
    try:
        _post(f"{storage_url}/storage/v1/b?{query}", json.dumps({"name": name}).encode(), "application/json")
    except HTTPError as problem:
        if problem.code != 409:
            raise


def _post(url: str, data: bytes, kind: str) -> None:
    request = urllib.request.Request(url, data, {"Content-Type": kind}, method="POST")
    with urllib.request.urlopen(request):
        pass


def _parts(uri: str) -> tuple[str, str]:
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    if not uri.startswith("gs://") or not name:
        raise RefusedError(400, f"{uri!r} is no gs:// path of a template.")
    return bucket, name

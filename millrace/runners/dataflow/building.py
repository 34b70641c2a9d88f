"""Templates of pipelines: a classic one, whose graph is staged, or a flex one's spec, which names an image.

What both say of their parameters is what the pipeline's options say (millrace.beam.templates). Google has the formats:
https://cloud.google.com/dataflow/docs/guides/templates/creating-templates and …/configuring-flex-templates.
"""

import importlib
import inspect
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from millrace.beam.gcs import split
from millrace.core.child import in_child
from millrace.errors import SettingError
from millrace.gcloud.clients import Google
from millrace.runners.dataflow import jobs
from millrace.runners.dataflow.jobs import TIMEOUT
from millrace.runners.dataflow.submission import check_root, command_line, staged


def build_classic(google: Google, module: str, uri: str) -> None:
    """Write the classic template of a pipeline's module, and its metadata beside it.

    Raises SettingError for a module that is no template, or options that Beam refuses, AccessError, ServiceError.
    """
    check_root(google)
    about = described(module)

    def graph() -> bytes:
        with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
            _ = google.credentials  # Beam looks for them for half a minute and then goes on without
            tempfile.tempdir = folder  # Beam leaves files behind
            job = staged(google, module, _options(google, module, uri, folder))
            return str(job.json()).encode()

    _write(google, uri, in_child(graph))
    _write(google, f"{uri}_metadata", _to_json(about))


def build_flex(google: Google, module: str, uri: str, image: str) -> None:
    """Write the spec of a flex template whose image runs a pipeline's module, see flex_template.py.

    Raises SettingError for a module that is no template, AccessError, ServiceError.
    """
    spec = {
        "image": image,
        "sdkInfo": {"language": "PYTHON"},
        "metadata": described(module),
        # Workers have the code from the image, as the program that launches the job has.
        "defaultEnvironment": {"sdkContainerImage": image},
    }
    _write(google, uri, _to_json(spec))


def described(module: str) -> dict[str, Any]:
    """Return what a template's file says of a pipeline's module. Raises SettingError for one that is no template."""
    from millrace.beam.templates import TemplateOptions, metadata

    none = SettingError(f"there is no pipeline {module!r}; say its module, as in pipelines.posts.window")
    if not all(module.split(".")):  # which Python takes for no name, or for one from here
        raise none
    try:
        pipeline = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise none from None
    own = [
        each
        for each in vars(pipeline).values()
        if inspect.isclass(each) and issubclass(each, TemplateOptions) and each.__module__ == module
    ]
    if len(own) != 1:
        raise SettingError(
            f"{module} is no template, because it has {len(own)} classes of options from "
            "millrace.beam.TemplateOptions, and a template has one"
        )
    return metadata(own[0], " ".join((inspect.getdoc(pipeline) or "").partition("\n\n")[0].split()))


def _options(google: Google, module: str, uri: str, folder: str) -> list[str]:
    """Return the command line with which a template is built; what is staged lies beside the template and stays."""
    name = module.rpartition(".")[2].replace("_", "-")
    given = command_line(google, module, module, name, jobs.place(google), folder, f"{uri}_staged")
    return [*given, f"--template_location={uri}"]


def _write(google: Google, uri: str, data: bytes) -> None:
    access = replace(google.access, storage_class="")
    with google.told(f"write {uri}"):
        blob = access.blob(google.storage, *split(uri))
        blob.upload_from_string(data, "application/json", retry=google.retry(), timeout=TIMEOUT)


def _to_json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"

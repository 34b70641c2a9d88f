"""Settings of a job → the environment of a template's launch, by the names that Google has for its fields.

What holds for jobs in [dataflow] and [dataflow.TASK] holds for launches too, as far as there is a field for an option.
A task's own environment comes before them, by the names of Google's fields (max_workers, in REST maxWorkers) or
of Beam's options (max_num_workers).
"""

import configparser
import logging
import re
from collections.abc import Mapping
from typing import Any

from millrace.core.config import Option
from millrace.errors import SettingError
from millrace.gcloud.clients import Google
from millrace.runners.beam_options import TAKEN
from millrace.runners.dataflow.jobs import task_label

log = logging.getLogger("millrace")

#: Beam's options, and short words, whose fields have other names.
_CALLED = {
    "max_num_workers": "max_workers",
    "worker_machine_type": "machine_type",
    "worker_disk_size_gb": "disk_size_gb",
    "dataflow_kms_key": "kms_key_name",
    "experiment": "additional_experiments",
    "experiments": "additional_experiments",
    "label": "additional_user_labels",
    "labels": "additional_user_labels",
    "service_account": "service_account_email",
    "worker_harness_container_image": "sdk_container_image",
}
#: Flags of Beam's, by the field and what it is to be where the flag is set.
_FLAGS = {
    "use_public_ips": ("ip_configuration", "WORKER_IP_PUBLIC"),
    "no_use_public_ips": ("ip_configuration", "WORKER_IP_PRIVATE"),
}
_OPPOSITES = {"WORKER_IP_PUBLIC": "WORKER_IP_PRIVATE", "WORKER_IP_PRIVATE": "WORKER_IP_PUBLIC"}
#: What Beam calls the values of a field that is an enumeration, where Google's API calls them otherwise.
_VALUES = {
    "NONE": "AUTOSCALING_ALGORITHM_NONE",
    "THROUGHPUT_BASED": "AUTOSCALING_ALGORITHM_BASIC",
    "COST_OPTIMIZED": "FLEXRS_COST_OPTIMIZED",
    "SPEED_OPTIMIZED": "FLEXRS_SPEED_OPTIMIZED",
}
#: The experiment that makes a launch an update where there is an active job of the name.
_UPDATES = "create_or_update_job"
#: Settings of [dataflow] that are no options of a job.
_NONE = ("runner", "dataflow_endpoint")


def environment(google: Google, task: str, own: Mapping[str, Any], *, flex: bool) -> Any:
    """Return the environment of a task's launches: the settings', and before them what the task says itself.

    Raises SettingError that names all that no launch takes.
    """
    from google.cloud import dataflow_v1beta3 as api

    kind = api.FlexTemplateRuntimeEnvironment if flex else api.RuntimeEnvironment
    found, wrong = kind(), list[str]()
    for name, value in _defaults(google, task, flex=flex).items():
        _put(kind.pb(found), name, value)
    for option in google.config.options("DataflowRunner", task):
        if option.name not in _NONE and option.value.strip():
            wrong += _set(kind.pb(found), option, google, common=option.section == "dataflow")
    for name, value in own.items():
        if problem := _put(kind.pb(found), _snake(name), value):
            wrong.append(f"{name} = {value!r}: {problem}")
    if _UPDATES in found.additional_experiments:
        wrong.append(f"the experiment {_UPDATES} would have a repeated launch replace the job")
    if wrong:
        raise SettingError(f"the environment of {task} is not one of a {_called(flex)} template: {'; '.join(wrong)}")
    return found


def _called(flex: bool) -> str:
    return "flex" if flex else "classic"


def _defaults(google: Google, task: str, *, flex: bool) -> dict[str, Any]:
    config = google.config
    found: dict[str, Any] = {"additional_user_labels": {"millrace-task": task_label(task)}}
    if config.storage.startswith("gs://"):
        found["temp_location"] = f"{config.storage}/_dataflow"
        if flex:
            found["staging_location"] = f"{config.storage}/_dataflow"
    if config.gcp.kms_key:
        found["kms_key_name"] = config.gcp.kms_key
    return found


def _set(there: Any, option: Option, google: Google, *, common: bool) -> list[str]:
    """Set the field of an option in an environment; return what is wrong. common: whether it is for all tasks."""
    where = f"[{option.section}] {option.name} = {option.value!r}, {google.config.origin(option.section, option.name)}"
    if why := TAKEN.get(option.name):
        return [f"{where}: this option is taken; {why}"]
    name, value = option.name, _read(option)
    if name in _FLAGS:
        wanted = configparser.ConfigParser.BOOLEAN_STATES.get(option.value.strip().lower())
        if wanted is None:
            return [f"{where}: allowed is true or false"]
        name, value = _FLAGS[name]
        value = value if wanted else _OPPOSITES[value]
    if _field(there, name) is None and common:
        log.info("%s: launches of templates have no such setting, so that it changes nothing there", where)
        return []
    problem = _put(there, name, value)
    return [f"{where}: {problem}"] if problem else []


def _read(option: Option) -> Any:
    """Return the value of an option as luigi.cfg has it: lists by lines or commas."""
    text = option.value.strip()
    field = _CALLED.get(option.name, option.name)
    if field in ("additional_experiments", "additional_pipeline_options"):
        return [each.strip() for each in re.split(r"\n" if "\n" in text else ",", text) if each.strip()]
    if field == "additional_user_labels":
        pairs = [each.strip().partition("=") for each in re.split(r"\n" if "\n" in text else ",", text) if each.strip()]
        return {key: value for key, _, value in pairs}
    return text


def _field(there: Any, name: str) -> Any:
    """Return what describes a field of an environment; None where there is none such."""
    return there.DESCRIPTOR.fields_by_name.get(_CALLED.get(name, name))


def _put(there: Any, name: str, value: Any) -> str:
    """Set a field of an environment; return what is wrong with that, or ""."""
    from google.protobuf import json_format

    field = _field(there, name)
    if field is None:
        return f"there is no such field; there are {', '.join(sorted(there.DESCRIPTOR.fields_by_name))}"
    value = _plain(value)
    if field.cpp_type == field.CPPTYPE_ENUM and isinstance(value, str):
        value = _VALUES.get(value, value)
        if value not in field.enum_type.values_by_name:
            return f"allowed is one of {', '.join(field.enum_type.values_by_name)}"
    if field.cpp_type == field.CPPTYPE_BOOL and isinstance(value, str):
        value = configparser.ConfigParser.BOOLEAN_STATES.get(value.lower(), value)
    if field.name == "additional_user_labels" and isinstance(value, dict):  # they are added to those that are there
        value = {**there.additional_user_labels, **value}
    before = type(there)()
    before.CopyFrom(there)
    there.ClearField(field.name)
    try:
        json_format.ParseDict({field.name: value}, there)
    except json_format.ParseError as error:
        there.CopyFrom(before)
        return str(error).partition(": ")[2] or str(error)
    return ""


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: luigi's dictionaries and lists do not change, and are of kinds of their own."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()

"""[dataflow] and [dataflow.TASK] → Beam's command line: any option of Beam or Dataflow, checked as Beam would.

In luigi.cfg an option is written as it is called, without the dashes: `machine_type = n2-standard-4`. A flag is true or
false, whether Beam calls it by its opposite or not. Of a list several lines give one element each, one line gives them
by commas. Without a value an option is as if it were not there.
"""

import argparse
import configparser
import difflib
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.errors import SettingError
from workflows.engine import sections
from workflows.engine.settings import origin

#: Options that are Millrace's to give, and why.
_TAKEN = {
    "project": "say project in [gcp]",
    "region": "say region in [gcp]",
    "impersonate_service_account": "say impersonate in [gcp]",
    "dataflow_kms_key": "say kms_key in [gcp]",
    "job_name": "Millrace names jobs by their task",
    "update": "a task's job is never an update of another",
    "template_location": "a template is no job",
    "dry_run": "a task needs its job",
}


def arguments(task: str) -> list[str]:
    """The command line of a task's job, less what Millrace gives. Raises SettingError for what Beam does not take."""
    return [each for name, value in sections.dataflow_options(task).items() for each in _argument(task, name, value)]


@functools.cache
def known() -> Mapping[str, argparse.Action]:
    """Beam's own options: name → what Beam does with it."""
    from apache_beam.options import pipeline_options

    parser = pipeline_options._BeamArgumentParser(allow_abbrev=False)
    for options in pipeline_options.PipelineOptions.__subclasses__():
        if options.__module__.startswith("apache_beam."):
            options._add_argparse_args(parser)
    return {flag.removeprefix("--"): action for action in parser._actions for flag in action.option_strings}


def _argument(task: str, name: str, value: str) -> Sequence[str]:
    where = f"[{_section(task, name)}] {name} = {value!r}, {origin(_section(task, name), name)}"
    if name in _TAKEN:
        raise SettingError(f"{where}: this option is taken; {_TAKEN[name]}")
    action = known().get(name)
    if action is None:
        near = difflib.get_close_matches(name, known(), 1)
        raise SettingError(f"{where}: Beam has no such option{f'; did you mean {near[0]}?' if near else ''}")
    if not value.strip():
        return []
    if action.nargs == 0:
        return _flag(where, name, action, value)
    found = [f"--{name}={each}" for each in _elements(action, value)]
    parser = argparse.ArgumentParser(exit_on_error=False, add_help=False, allow_abbrev=False)
    parser._add_action(action)
    try:
        parser.parse_args(found)
    except argparse.ArgumentError as error:
        raise SettingError(f"{where}: {error.message}") from None
    return found


def _flag(where: str, name: str, action: argparse.Action, value: str) -> Sequence[str]:
    wanted = configparser.ConfigParser.BOOLEAN_STATES.get(value.strip().lower())
    if wanted is None:
        raise SettingError(f"{where}: allowed is true or false")
    if wanted:
        return [f"--{name}"]
    opposite = [flag for flag, other in known().items() if other.dest == action.dest and other.const != action.const]
    return [f"--{flag}" for flag in opposite[:1]]


def _elements(action: argparse.Action, value: str) -> list[str]:
    lines = [line.strip() for line in value.splitlines() if line.strip()]
    several: Any = (argparse._AppendAction,)
    if isinstance(action, several) and "\n" not in value:
        return [part.strip() for part in value.split(",") if part.strip()]
    return lines if "\n" in value else [value.strip()]


def _section(task: str, name: str) -> str:
    """The section that gives an option: the task's own before everybody's."""
    from luigi.configuration import get_config

    own = f"dataflow.{task}"
    config = get_config()
    named = config.has_section(own) and name in (key.replace("-", "_") for key in config.options(own))
    return own if named else "dataflow"

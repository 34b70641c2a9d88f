"""[dataflow] and [dataflow.TASK] → Beam's command line: any option of Beam or Dataflow, checked as Beam would.

So [flink], [dask], [fnapi] and others with their runners.

In luigi.cfg an option is written as it is called, without the dashes: `machine_type = n2-standard-4`. A flag is true or
false, whether Beam calls it by its opposite or not. Of a list several lines give one element each, one line gives them
by commas. Without a value an option is as if it were not there.
"""

import argparse
import configparser
import difflib
import functools
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from millrace.beam import engines
from millrace.core.config import Config
from millrace.errors import SettingError

#: Options of jobs that are Millrace's to give, and why.
TAKEN = {
    "project": "say project in [gcp]",
    "region": "say region in [gcp]",
    "impersonate_service_account": "say impersonate in [gcp]",
    "dataflow_kms_key": "say kms_key in [gcp]",
    "job_name": "Millrace names jobs by their task",
    "update": "a task's job is never an update of another",
    "template_location": "a template is no job",
    "dry_run": "a task needs its job",
}


def arguments(config: Config, task: str, runner: str = "DataflowRunner") -> list[str]:
    """Return a task's command line on a runner, less what Millrace gives.

    Raises SettingError for what Beam does not take.
    """
    taken = {"runner": "say runner in [millrace] or [dataflow.TASK]"}
    found: list[str] = []
    for option in config.options(runner, task):
        where = f"[{option.section}] {option.name} = {option.value!r}, {config.origin(option.section, option.name)}"
        if why := (TAKEN if runner == "DataflowRunner" else taken).get(option.name):
            raise SettingError(f"{where}: this option is taken; {why}")
        if (option.name, option.value.strip()) == ("direct_running_mode", "multi_threading"):
            raise SettingError(f"{where}: {engines.MULTI_THREADING}")
        found += _argument(where, option.name, option.value, known(runner == "DaskRunner"))
    return found


@functools.cache
def known(dask: bool = False) -> Mapping[str, argparse.Action]:
    """Return Beam's own options, with those of its runner on Dask or without: name → what Beam does with it."""
    from apache_beam.options import pipeline_options

    if dask:
        importlib.import_module("apache_beam.runners.dask.dask_runner")
    parser = pipeline_options._BeamArgumentParser(add_help=False, allow_abbrev=False)
    for options in pipeline_options.PipelineOptions.__subclasses__():
        if options.__module__.startswith("apache_beam."):
            options._add_argparse_args(parser)
    return {flag.removeprefix("--"): action for action in parser._actions for flag in action.option_strings}


def _argument(where: str, name: str, value: str, options: Mapping[str, argparse.Action]) -> Sequence[str]:
    """Return an option's arguments; where: how it is named in an error. options: those that there are."""
    action = options.get(name)
    if action is None:
        near = difflib.get_close_matches(name, options, 1)
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

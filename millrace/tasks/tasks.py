"""Which tasks there are by name, and what is said of a name that no task has."""

import configparser
import difflib
import functools
import logging
import re
import sys
import traceback
from collections.abc import Callable
from types import TracebackType

import luigi
from luigi.cmdline_parser import CmdlineParser
from luigi.configuration import get_config
from luigi.parameter import MissingParameterException
from luigi.task_register import Register, TaskClassException

from millrace.errors import MillraceError, SettingError
from millrace.tasks import console
from millrace.tasks.approval import Approval as Approval  # which a command line names as it is
from millrace.tasks.base import registered
from millrace.tasks.console import print_error
from millrace.tasks.delay import Delay as Delay  # which a command line names as it is
from millrace.tasks.job_graph import JobGraph as JobGraph  # which a command line names as it is
from millrace.tasks.ranges import RangeDaily as RangeDaily  # which a command line names, because luigi takes ours then
from millrace.tasks.service import Service
from millrace.tasks.settings import in_luigi_command, not_filled_in, origin
from millrace.tasks.stage import Stage
from millrace.tasks.template_job import TemplateJob as TemplateJob  # which a command line names as it is

#: What a task of each kind says, so that one that does not is a base of others.
_SAYS = {Stage: "writes", Service: "pipeline"}
_WRONG = re.compile(r"(\w+)\[args=.*\]: Error when parsing the default value of '(\w+)'")


def known_tasks() -> dict[str, type[luigi.Task]]:
    """Return the tasks of the modules that were imported, by name, without luigi's own, sections and bases."""
    found = {}
    for name, task in registered().items():
        own = not task.__module__.startswith(("luigi.", "millrace."))
        base = any(issubclass(task, kind) and not hasattr(task, what) for kind, what in _SAYS.items())
        if own and not base and not issubclass(task, luigi.Config):
            found[name] = task
    return found


def no_task(name: str) -> SettingError:
    """Return the error for a name that no task has."""
    there = list(known_tasks())
    ranges = [each for each in Register.task_names() if each.startswith("Range")]
    near = difflib.get_close_matches(name, [*there, *ranges], 1) or [
        each for each in there if each.lower() == name.lower()
    ]
    meant = f"did you mean {near[0]}? There" if near else "there"
    return SettingError(f"there is no task {name}; {meant} are {', '.join(there)}")


def install() -> None:
    """Set up the run of which this import is a part, once: how it looks, how it ends, how it says what is no task."""
    console.install()
    if in_luigi_command() and _in_a_sentence not in logging.getLogger("luigi-interface").filters:
        logging.getLogger("luigi-interface").filters.insert(0, _in_a_sentence)
        sys.excepthook = functools.partial(_tell, sys.excepthook)


def _in_a_sentence(record: logging.LogRecord) -> bool:
    """Put an error that is meant for people in the place of luigi's, for the filters that come after this one."""
    if record.exc_info and record.exc_info[1]:
        error = for_people(record.exc_info[1])
        if error is not record.exc_info[1]:
            record.exc_info = (type(error), error, None)
    return True


def _tell(
    others: Callable[[type[BaseException], BaseException, TracebackType | None], object],
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType | None,
) -> None:
    """Say what ended the process, because what luigi finds on its command line never comes to its own handlers."""
    error = for_people(error)
    if not isinstance(error, MillraceError):
        others(kind, error, trace)
        return
    print_error(error)
    raise SystemExit(get_config().getint("retcode", "unhandled_exception", 40))


def for_people(error: BaseException) -> BaseException:
    """Return the error for people in place of an error of luigi's that is somebody's mistake; any other as it is."""
    if isinstance(error, TaskClassException):
        return _no_class(error)
    for each in (error, error.__cause__):
        if isinstance(each, configparser.InterpolationError):
            return not_filled_in(each)
    if given := _on_command_line(error):
        return given
    # A value that a section of luigi's own does not take.
    wrong = _WRONG.match(str(error)) if isinstance(error, ValueError) else None
    if wrong is None:
        return error
    if isinstance(error.__cause__, SettingError):  # a setting of ours says all that by itself
        return error.__cause__
    return SettingError(f"{wrong[1]}.{wrong[2]}, {origin(wrong[1], wrong[2])}: {error.__cause__ or error}")


def _on_command_line(error: BaseException) -> SettingError | None:
    """Return the error for a task that can't be made of its flags, because a value is wrong or missing."""
    if not isinstance(error, ValueError | MissingParameterException) or isinstance(error, MillraceError):
        return None
    frames = {frame.f_code: frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__)}
    if flags := frames.get(CmdlineParser._get_task_kwargs.__code__):
        return SettingError(f"--{flags['param_name'].replace('_', '-')} {flags['attr']}: {error}")
    missing = re.match(r"(\w+)\[args=.*\]: requires the '(\w+)' parameter", str(error), re.DOTALL)
    if missing and CmdlineParser.get_task_obj.__code__ in frames:
        return SettingError(f"{missing[1]} needs --{missing[2].replace('_', '-')}")
    return None


def _no_class(error: TaskClassException) -> SettingError:
    missing = re.match(r"No task (\S*?)\.(?:\s|$)", str(error))
    return no_task(missing[1]) if missing else SettingError(f"{error}: give one of them another name, or a namespace")

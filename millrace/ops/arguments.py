"""The command lines of bin/: their own arguments, and the flags of luigi.cfg's settings as luigi has them."""

import argparse
import contextlib
import datetime
import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import luigi
from luigi.cmdline_parser import CmdlineParser

from millrace.errors import SettingError
from millrace.tasks import sections, settings
from millrace.tasks.tasks import registered

#: Where tasks are, unless --module says otherwise; its tasks are known beside those of another module.
MODULE = "workflows"
#: Sections whose flags --help lists.
_SHOWN = (sections.millrace, sections.gcp, sections.bigquery)


def load(argv: Sequence[str]) -> None:
    """Import the module of tasks that a command line names. Raises SettingError if that can't be."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--module", default=MODULE)
    for name in dict.fromkeys((MODULE, parser.parse_known_args(argv)[0].module)):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):  # one that the module itself lacks
                raise
            raise no_module(name) from None


def no_module(name: str) -> SettingError:
    """Return what is said of a module that there is none of."""
    return SettingError(
        f"there is no module {name} (--module) where Python looks: in the project's folder, in PYTHONPATH, and among "
        "what is installed"
    )


def day(value: str | None, flag: str, default: datetime.date) -> datetime.date:
    """Return the day that a flag names, the default without one. Raises SettingError."""
    if value is None:
        return default
    try:
        return settings.day(value)
    except ValueError:
        raise SettingError(f"{flag} = {value!r}: allowed is a day as YYYY-MM-DD") from None


@contextlib.contextmanager
def parsed(parser: argparse.ArgumentParser, argv: Sequence[str]) -> Iterator[argparse.Namespace]:
    """Give what a command line says; meanwhile its settings are this process's. `load` was called before."""
    parser.add_argument("--module", default=MODULE, help=f"where tasks are defined; {MODULE} unless given")
    group = parser.add_argument_group(
        "settings", "every key of luigi.cfg, as luigi has them (--SECTION-KEY VALUE); these matter here:"
    )
    keys: dict[str, str] = {}
    for section in _sections():
        for name, parameter in section.get_params():
            prefix = f"{section.__name__}_" if section.__dict__.get("use_cmdline_section", True) else ""
            flag, where = f"--{prefix}{name}".replace("_", "-"), f"{section.__name__}.{name}"
            described = parameter.description if section in _SHOWN else argparse.SUPPRESS
            nargs: dict[str, Any] = {"nargs": "?", "const": "true"} if isinstance(parameter, settings.Flag) else {}
            group.add_argument(flag, dest=where, metavar="VALUE", help=described, **nargs)
            keys[where] = flag
    arguments = parser.parse_args(argv)
    given = {flag: value for where, flag in keys.items() if (value := getattr(arguments, where)) is not None}
    # luigi wants a task, and a section is one.
    line = ["--module", arguments.module, sections.millrace.__name__, *(f"{f}={value}" for f, value in given.items())]
    with CmdlineParser.global_instance(line, allow_override=True):
        yield arguments


def _sections() -> list[type[luigi.Config]]:
    """Return the sections that are not luigi's own."""
    return [
        task
        for task in registered().values()
        if issubclass(task, luigi.Config) and task is not settings.Settings and not task.__module__.startswith("luigi.")
    ]

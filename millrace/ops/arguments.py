"""The command lines of `millrace`: a command's own arguments, and the flags of all settings as luigi has them."""

import datetime
import importlib
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
import luigi
from luigi.cmdline_parser import CmdlineParser

from millrace.errors import MillraceError, SettingError
from millrace.tasks import advice, console, sections, settings
from millrace.tasks.base import registered
from millrace.tasks.tasks import known_tasks

#: Sections whose flags --help lists.
_SHOWN = (sections.millrace, sections.gcp, sections.bigquery)
_SETTINGS = "Settings: every key of luigi.cfg, as luigi has them (--SECTION-KEY VALUE); these matter here"
_PARAMETERS = "Parameters of tasks, for only the results that were made with them"
_WRONG_USAGE, _INTERRUPTED = 2, 130


def run(command: click.Command, argv: Sequence[str] | None, name: str = "") -> int:
    """Run a command; return the exit code. What is wrong is one sentence."""
    name = name or f"{called()}{command.name}"
    try:
        argv = sys.argv[1:] if argv is None else argv
        return command.main([*argv], prog_name=name, standalone_mode=False) or 0
    except click.UsageError as error:
        sentence = " ".join(error.format_message().split()).rstrip(".")
        path = error.ctx.command_path if error.ctx else name
        print(f"error: {sentence}; {path} --help says what there is", file=sys.stderr)
        return _WRONG_USAGE
    except click.Abort:
        return _INTERRUPTED
    except MillraceError as error:
        return console.print_error(error)


def called() -> str:
    """Return what stands before a command's name where the person is."""
    return "bin/" if os.environ.get(advice.CALLED_FROM) else "millrace "


class Context(click.Context):
    """What click knows of a call; help names the command as the person calls it."""

    @property
    def command_path(self) -> str:
        return f"{called()}{self.command.name}" if self.parent else str(self.info_name)


class Flag(click.Option):
    """An option that --help lists below a heading: a setting's, or that of a parameter of tasks."""

    def __init__(self, flag: str, key: str, heading: str, **about: Any) -> None:
        super().__init__([flag, f"flag_{key.replace('.', '_')}"], metavar="VALUE", **about)
        self.flag, self.key, self.heading = flag, key, heading


def of_parameter(name: str, tasks: Sequence[str]) -> Flag:
    """Return the flag of a parameter that some tasks have."""
    return Flag(f"--{name.replace('_', '-')}", name, _PARAMETERS, help=f"of {', '.join(tasks)}")


class Command(click.Command):
    """A command that works with the settings that its flags give; its module of tasks is imported before.

    parameters: flags of the tasks' parameters, which are known only then; the function gets them as one mapping.
    """

    def __init__(self, *args: Any, parameters: Callable[[], Sequence[Flag]] | None = None, **about: Any) -> None:
        super().__init__(*args, **about)
        self._parameters = parameters
        self._flags: list[click.Parameter] = []

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Import the module of tasks, and then find the flags that its sections and tasks have."""
        load(args)
        settings_ = _of_settings()
        taken = {each.flag for each in settings_}
        # Of a setting and a parameter with the same flag the setting is meant, as luigi has it for other tasks.
        more = [each for each in self._parameters() if each.flag not in taken] if self._parameters else []
        default = sections.modules()[0]
        module = click.Option(["--module"], default=default, help=f"where tasks are defined; {default} unless given")
        self._flags = [module, *more, *settings_]
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own arguments and those flags."""
        return [*super().get_params(ctx), *self._flags]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options below their headings."""
        if self._parameters:
            with formatter.section("Tasks"):
                formatter.write_text(", ".join(known_tasks()))
        listed: dict[str, list[tuple[str, str]]] = {"Options": []}
        for each in self.get_params(ctx):
            if isinstance(each, click.Option) and (record := each.get_help_record(ctx)):
                listed.setdefault(each.heading if isinstance(each, Flag) else "Options", []).append(record)
        for heading, records in listed.items():
            with formatter.section(heading):
                formatter.write_dl(records)

    def invoke(self, ctx: click.Context) -> Any:
        """Call the function, while the settings are those of the command line."""
        # luigi wants a task, and a section is one; its keys are flags without a prefix then, which must be no others.
        line, parameters = ["--module", ctx.params.pop("module"), sections.bigquery.__name__], {}
        for each in self._flags:
            if isinstance(each, Flag) and (value := ctx.params.pop(str(each.name))) is not None:
                if each.heading == _SETTINGS:
                    line.append(f"{each.flag}={value}")
                else:
                    parameters[each.key] = value
        if self._parameters:
            ctx.params["parameters"] = parameters
        with CmdlineParser.global_instance(line, allow_override=True):
            try:
                return super().invoke(ctx)
            except MillraceError as error:  # told here, because the commands that it prints repeat these flags
                return console.print_error(error)


def load(argv: Sequence[str]) -> None:
    """Import the modules of tasks that [millrace] modules and a command line name.

    Raises SettingError if that can't be.
    """
    for name in dict.fromkeys((*sections.modules(), _named(argv))):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):  # a module that the named one lacks
                raise
            said = f"[millrace] modules, {settings.origin('millrace', 'modules')}"
            raise no_module(name, said if name in sections.modules() else "--module") from None


def _named(argv: Sequence[str]) -> str:
    """Return the module that a command line names, the last one as click has it."""
    default = name = sections.modules()[0]
    for here, following in itertools.zip_longest(argv, argv[1:], fillvalue=default):
        if here == "--module":
            name = following
        elif here.startswith("--module="):
            name = here.partition("=")[2]
    return name


def no_module(name: str, where: str = "--module") -> SettingError:
    """Return the error for a module that is not there."""
    return SettingError(
        f"there is no module {name} ({where}) where Python looks: in the project's folder, in PYTHONPATH, and among "
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


def _of_settings() -> list[Flag]:
    """Return the flags of all sections that are not luigi's own."""
    flags = []
    for section in registered().values():
        if not issubclass(section, luigi.Config) or section is settings.Settings:
            continue
        if section.__module__.startswith("luigi."):
            continue
        for name, parameter in section.get_params():
            prefix = f"{section.__name__}_" if section.__dict__.get("use_cmdline_section", True) else ""
            # A flag of yes and no needs no value.
            bare: dict[str, Any] = (
                {"is_flag": False, "flag_value": "true"} if isinstance(parameter, settings.Flag) else {}
            )
            shown = {"help": parameter.description} if section in _SHOWN else {"hidden": True}
            flag = f"--{prefix}{name}".replace("_", "-")
            flags.append(Flag(flag, f"{section.__name__}.{name}", _SETTINGS, **shown, **bare))
    return flags

"""Commands that messages tell people to type: right as printed, where the run was started and anywhere else.

A command carries the days, and the settings of this run that the command would not find by itself.
"""

import configparser
import contextlib
import datetime
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from luigi.cmdline_parser import CmdlineParser

from millrace import errors
from millrace.core import keys
from millrace.errors import Command
from millrace.tasks import sections
from millrace.tasks.settings import Settings

#: The settings that tell where results lie, and by which rights they are reached.
_WHERE: dict[type[Settings], Sequence[str]] = {
    sections.millrace: ("storage", "warehouse"),
    sections.gcp: ("project", "impersonate", "user_project"),
    sections.bigquery: ("location",),
}
_ROOT = Path(__file__).parents[2]
#: The variable in which bin/ tells from which folder it was called, because it goes to the project's own; a run by
#: `millrace run` tells so too, so that it is named as it was called.
CALLED_FROM = "MILLRACE_CALLED_FROM"


def clear(
    names: str | Sequence[str],
    first: datetime.date | None = None,
    last: datetime.date | None = None,
    **parameters: object,
) -> str:
    """Return the bin/clear command for tasks, or partitions, of the days from `first` to `last`.

    parameters: those of the task that the partitions were made with (source="…").
    """
    arguments = [names] if isinstance(names, str) else [*names]
    for flag, value in {"from": first, "to": last, **parameters}.items():
        if value is not None:
            arguments += [f"--{flag.replace('_', '-')}", str(value)]
    return command("clear", *arguments)


def clear_partition(partition: str) -> str:
    """Return the bin/clear command for a partition alone, and what was made of it."""
    return clear(keys.argument(partition))


#: What workflows call it.
clear_command = clear


def spelled(command_: Command) -> str:
    """Return a command that an error carries as it is typed here."""
    if command_.name == "clear":
        return clear(command_.arguments, command_.first, command_.last, **command_.parameters)
    return command(command_.name, *command_.arguments)


def command(name: str, *arguments: str) -> str:
    """Return the command that does this with this run's settings."""
    program, folder = _program(name)
    return shlex.join([*program, *arguments, *_flags(folder)])


def run(family: str, **parameters: object) -> str:
    """Return the command that runs a task as this run does: by bin/run or luigi, with the flags that were given."""
    known = CmdlineParser.get_instance()
    module = (known and known.known_args.core_module) or sections.modules()[0]
    if os.environ.get(CALLED_FROM):
        arguments = [*_program("run")[0], family, *(["--module", module] if module != sections.modules()[0] else [])]
    else:
        arguments = [*_luigi(), "--module", module, family]
    for name, value in parameters.items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    for section in Settings.__subclasses__():
        prefixed = section.__dict__.get("use_cmdline_section", True)
        for key, _ in section.get_params():
            value = getattr(known.known_args, f"{section.__name__}_{key}", None) if known else None
            if value is not None:
                flag = f"--{section.__name__}-{key}" if prefixed else f"--{key}"
                here = _path(value, Path.cwd()) if (section, key) == (sections.millrace, "storage") else value
                arguments += [flag.replace("_", "-"), here]
    return shlex.join(arguments)


def pipeline(module: str, *options: str) -> str:
    """Return the command that runs a pipeline by itself, without luigi, in this process's folder."""
    shell = shlex.join([_python(), "-m", module, *options])
    return shell if _person_in(Path.cwd()) else f"cd {shlex.quote(str(Path.cwd()))} && {shell}"


def program(name: str) -> str:
    """Return how a command that goes by luigi.cfg alone is called from where the person is."""
    return shlex.join(_program(name)[0])


def install() -> str:
    """Return the command that installs what this Python lacks."""
    pip = f"{shlex.quote(sys.executable)} -m pip install"
    if (_ROOT / "pyproject.toml").is_file():
        return in_project(f"{pip} -c constraints.txt -e '.[workflows]'")
    return f"{pip} 'millrace[workflows]'"


def in_project(shell: str) -> str:
    """Return a command that has to be run in the project's folder, for where the person is."""
    return shell if _person_in(_ROOT) else f"cd {shlex.quote(str(_ROOT))} && {shell}"


def _program(name: str) -> tuple[list[str], Path]:
    """Return how a command is called from where the person is, and the folder whose luigi.cfg it reads by itself."""
    path = _ROOT / "bin" / name
    if path.is_file() and (_ROOT / ".venv/bin/python").exists() and not _elsewhere():
        return [f"bin/{name}" if _person_in(_ROOT) else str(path)], _ROOT
    # An installed library has no bin/, and a project with a luigi.cfg of its own is not the library's.
    return [*_script("millrace"), name], Path.cwd()


def _elsewhere() -> bool:
    """Return whether this process works in another project's folder than the one that the library lies in."""
    return not _same(Path.cwd(), _ROOT) and Path("luigi.cfg").is_file()


def _script(name: str) -> list[str]:
    """Return how a program that is installed beside this Python is called."""
    found, own = shutil.which(name), Path(sys.executable).with_name(name)
    if not own.exists():
        return [_python(), "-m", name]
    return [name if found and _same(Path(found), own) else str(own)]


def _luigi() -> list[str]:
    """Return how luigi is called from here."""
    # `python -m luigi` finds modules in its folder, so that a run that was called so is called so again.
    if Path(sys.argv[0]).parts[-2:] == ("luigi", "__main__.py"):
        return [_python(), "-m", "luigi"]
    return _script("luigi")


def _python() -> str:
    found = shutil.which("python")
    return "python" if found and _same(Path(found), Path(sys.executable)) else sys.executable


def _person_in(folder: Path) -> bool:
    return _same(folder, Path(os.environ.get(CALLED_FROM) or Path.cwd()))


def _same(one: Path, other: Path) -> bool:
    return os.path.abspath(one) == os.path.abspath(other)


def _flags(folder: Path) -> Iterator[str]:
    """Yield the flags without which a command in a folder would have other settings than this run."""
    parser = CmdlineParser.get_instance()
    module = parser.known_args.core_module if parser else None
    if module and module not in sections.modules():
        yield from ("--module", module)
    written = configparser.RawConfigParser()
    with contextlib.suppress(configparser.Error, UnicodeDecodeError):  # nothing is taken of a file that can't be read
        written.read(folder / "luigi.cfg", encoding="utf-8-sig")
    for section, names in _WHERE.items():
        own, name = section(), section.__name__
        for key in names:
            here = str(getattr(own, key))
            there = written.get(name, key, fallback=str(own.default(key))).strip()
            if section is sections.millrace and key == "storage":
                here, there = _path(here, Path.cwd()), _path(there, folder)
            if here != there:
                yield from (f"--{name}-{key}".replace("_", "-"), here)


def _path(storage: str, folder: Path) -> str:
    """Return a storage's folder as a whole path; a URI as it is."""
    return storage.rstrip("/") if "://" in storage else os.path.abspath(folder / Path(storage).expanduser())


errors.spell(spelled)

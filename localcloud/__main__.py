"""The command `localcloud`: starts the local services, and runs a command among them or waits until it is stopped."""

import configparser
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from localcloud import LocalCloud

#: What is missing where the extra was not installed.
_MISSING = "error: localcloud needs {}; pip install 'millrace[localcloud]'"
try:
    import click
except ModuleNotFoundError as missing:
    sys.exit(_MISSING.format(missing.name))


@click.command(
    "localcloud",
    context_settings={
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
        "help_option_names": ["-h", "--help"],
    },
    epilog="For example: localcloud -- luigi --module workflows Report --days 1",
)
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="IMAGE=PROGRAM",
    help="A flex template's image, and the Python program that its container would run. May be given several times.",
)
@click.option("--keep", metavar="DIR", help="Keep what is stored in a folder, for the next run.")
@click.option("--no-emulators", is_flag=True, help="Leave out Google's emulators of Pub/Sub and Datastore.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def main(images: Sequence[str], keep: str | None, no_emulators: bool, command: Sequence[str]) -> NoReturn:
    """Run Cloud Storage, BigQuery and Dataflow on this machine, in memory unless --keep names a folder.

    COMMAND is run in that cloud; without one, it waits until it is stopped. Google's emulators of Pub/Sub and Datastore
    are there too where the Cloud SDK of this machine has them.
    """
    sys.exit(_serve(command, images, keep, [] if no_emulators else None))


def _serve(command: Sequence[str], images: Sequence[str], keep: str | None, emulators: Sequence[str] | None) -> int:
    """Start the services; return the exit code of the command, or 0."""
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, _leave)
    try:
        from localcloud.dataflow_templates import image

        programs = dict(map(image, images))
    except ValueError as problem:
        sys.exit(f"error: --image: {problem}")
    except ModuleNotFoundError as error:
        sys.exit(_MISSING.format(error.name))
    try:
        made = LocalCloud(images=programs, emulators=emulators, keep=keep)
    except ValueError as problem:
        sys.exit(f"error: --keep: {problem}")
    except ModuleNotFoundError as error:
        sys.exit(_MISSING.format(error.name))
    with made as cloud, tempfile.TemporaryDirectory() as folder:
        # luigi reads the luigi.cfg of the folder and, over it, the file that this variable names.
        config, own = configparser.RawConfigParser(), os.environ.get("LUIGI_CONFIG_PATH", "")
        try:
            config.read(own, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as problem:
            what = " ".join(str(problem).split())
            sys.exit(
                f"error: {own}, which LUIGI_CONFIG_PATH names, can't be read: {what}; mend it, or unset the variable"
            )
        config.read_string(cloud.settings())
        path = Path(folder) / "luigi.cfg"
        with path.open("w", encoding="utf-8") as file:
            config.write(file)
        variables = {**cloud.environment(), "LUIGI_CONFIG_PATH": str(path)}
        if command:
            return _run(command, variables)
        print(f"# What is in it, for a browser: {cloud.page}/\n")
        print("# For another terminal, in this folder:\n")
        print("".join(f"export {key}={shlex.quote(value)}\n" for key, value in variables.items()))
        print(f"# These settings, over those of luigi.cfg, are in {path}:\n")
        print(cloud.settings())
        print(f"# Ctrl-C ends it{'' if keep else ', and all that is in it'}.", flush=True)
        try:
            threading.Event().wait()
        except SystemExit as left:
            return 0 if left.code == 128 + signal.SIGINT else int(str(left.code))
    raise AssertionError("nobody sets that event")


def _leave(number: int, _: object) -> NoReturn:
    """End this process, and the services with it."""
    sys.exit(128 + number)


def _run(command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run a command to its end; return its exit code. It hears of Ctrl-C by itself, and is told of SIGTERM."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    try:
        process = subprocess.Popen(command, env={**os.environ, **variables, "PATH": path})
    except OSError as error:
        print(f"error: {command[0]} can't be run: {error.strerror}", file=sys.stderr)
        return 127
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    signal.signal(signal.SIGINT, lambda *_: None)
    code = process.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    main()

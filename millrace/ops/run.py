"""Run a task as cron should: by luigi, in this folder, one run of the task at a time, with a log a day (UTC).

The exit code is luigi's: 0 only if all is complete. A run that fails prints what went wrong, for cron to mail; one that
waits (12: at work, 13: waiting for approval) says nothing but in the log, and to people at a terminal.
"""

import contextlib
import datetime
import fcntl
import importlib.util
import io
import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence

from luigi.cmdline_parser import CmdlineParser

from millrace.common import secrets
from millrace.core import resources
from millrace.core.waiting import WORDS
from millrace.ops import luigi_process
from millrace.ops.arguments import called, load, no_module
from millrace.tasks import sections

_ANOTHER, _WRONG = 10, 40
#: How a run ended that failed nowhere and has not come to its end: exit code → words.
_WAITING = {kind.value: words for kind, words in WORDS.items()}
_TROUBLE = re.compile(r"ERROR|WARNING|error")


def main(arguments: Sequence[str]) -> int:
    """Run luigi over the command line's task; return the exit code."""
    me = f"{called()}run"
    if (code := luigi_process.usage(me, arguments, __doc__)) is not None:
        return code
    if {"--help", "--help-all"} & {*arguments} or any(each.startswith("--dry-run") for each in arguments):
        luigi_process.become(["--module", sections.modules()[0], *arguments])
    said = f"{me} {shlex.join(map(secrets.redacted, arguments))}"
    name = os.path.abspath(f"logs/{datetime.datetime.now(datetime.UTC):%Y-%m-%d}.log")
    task, module = _named(arguments)
    lock_name = f"logs/.{re.sub('[^A-Za-z0-9_.-]', '_', task)[-150:]}.lock"
    try:
        os.makedirs("logs", exist_ok=True)
        with open(name, "ab") as log, open(lock_name, "ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _say(log, f"{said}: another run of {task} is at work")
                print(f"{said}: another run of {task} is at work", file=sys.stderr)
                return _ANOTHER
            if module is not None and not _is_there(module):
                _say(log, f"{said}: {no_module(module)}")
                print(f"error: {no_module(module)}", file=sys.stderr)
                return _WRONG
            _say(log, said)
            begin = log.tell()
            code = luigi_process.run(["--module", sections.modules()[0], *arguments], log.fileno())
            if code in _WAITING:  # nothing to mail every few minutes
                if sys.stdout.isatty():
                    print(f"{said}: {_WAITING[code]}; see {name}")
            elif code:
                print(f"error: {said} ended with {code}{_killed(code)}; see {name}", file=sys.stderr)
                sys.stderr.writelines(_trouble(name, begin))
            _say(log, f"{said}: exit code {code}")
            return code
    except OSError as error:
        print(f"error: {said}: {error.filename or name} can't be written: {error.strerror}", file=sys.stderr)
        return 1


def _named(arguments: Sequence[str]) -> tuple[str, str | None]:
    """Return the task, and the module, that luigi will take from a command line; of a graph of jobs with its file."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        # What goes wrong luigi will say itself. The modules have flags, whose values are no tasks.
        with contextlib.suppress(Exception):
            load(arguments)
        with contextlib.suppress(SystemExit):
            known, _ = CmdlineParser._build_parser().parse_known_args(arguments)
            task, module = known.root_task or "run", known.core_module
            if task == "JobGraph":  # two graphs are two tasks
                known, _ = CmdlineParser._build_parser(root_task=task).parse_known_args(arguments)
                task = " ".join(["JobGraph", *filter(None, [known.spec])])
            return task, module
    return "run", None


def _is_there(module: str) -> bool:
    """Return whether Python finds a module; luigi, which imports it before anything of ours, would show its stack."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a package around it is missing; or the text is no name
        return False


def _say(log: io.BufferedWriter, what: str) -> None:
    log.write(f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ} {what}\n".encode())
    log.flush()
    log.seek(0, os.SEEK_END)


def _killed(code: int) -> str:
    """Return what an exit code means that is none of luigi's."""
    return f": it {resources.killed(-signal.SIGKILL)}" if code == 128 + signal.SIGKILL else ""


def _trouble(name: str, begin: int) -> list[str]:
    """Return what went wrong in a run, as its log says from a place on; or else its last lines."""
    with open(name, "rb") as log:
        log.seek(begin)
        lines = log.read().decode("utf-8", "replace").splitlines(keepends=True)
    return [line for line in lines if _TROUBLE.match(line)] or lines[-40:]


command = luigi_process.Command("run", callback=main)

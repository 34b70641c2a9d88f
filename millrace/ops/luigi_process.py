"""Luigi as a process of its own, which is told of every stop that the command around it is told of."""

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from millrace.core.stopping import held
from millrace.tasks import advice

#: What docker stop and systemd, a terminal, and one that goes away send.
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_STOPPED = 130


def usage(name: str, arguments: Sequence[str], about: str | None) -> int | None:
    """Print how a command over luigi is used, where it is asked for or nothing is named; return the exit code then."""
    if arguments and arguments[0] not in ("-h", "--help"):
        return None
    said = f"usage: {name} TASK [flags of luigi]; with --help they are listed"
    print(f"{said}\n\n{about}" if arguments else said, file=sys.stdout if arguments else sys.stderr)
    return 0 if arguments else 2


def run(arguments: Sequence[str], output: int | None = None) -> int:
    """Run luigi in a child process, and tell it of every stop; return the exit code.

    output: the file descriptor that what it says goes to; where this process's own goes unless given.
    """
    with held(_STOPS):
        child = os.fork()
        if not child:
            _as_child(arguments, output)
        for number in _STOPS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
                signal.signal(number, lambda number, _: os.kill(child, number))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for number in _STOPS:
        signal.signal(number, signal.SIG_IGN)  # there is no child any more, and the last words are soon said
    if -code in _STOPS:
        return _STOPPED
    return code if code >= 0 else 128 - code


def become(arguments: Sequence[str]) -> NoReturn:
    """Become luigi; with -m, so that --module finds tasks that stand in this folder.

    What its tasks start finds the programs beside this Python, and the settings of this folder wherever it works.
    """
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    mine = {advice.CALLED_FROM: os.getcwd()}
    if os.path.exists("luigi.cfg"):
        mine["LUIGI_CONFIG_PATH"] = os.path.abspath("luigi.cfg")
    os.execve(sys.executable, [sys.executable, "-m", "luigi", *arguments], {**mine, **os.environ, "PATH": path})


def _as_child(arguments: Sequence[str], output: int | None) -> NoReturn:
    try:
        if output is not None:
            for stream in (1, 2):
                os.dup2(output, stream)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        become(arguments)
    finally:
        os._exit(127)


class Command(click.Command):
    """A command whose arguments are luigi's to read."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take all that is given as it is."""
        ctx.params["arguments"] = [*args]
        return []

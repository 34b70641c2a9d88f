"""The command `millrace`, of which bin/ has thin names: bin/NAME is `millrace NAME` in the project's folder.

A subcommand is imported when it is called, so that none waits for what another needs.
"""

import importlib
import os
import sys
from collections.abc import Sequence

try:
    import click

    from millrace.ops import arguments
except ModuleNotFoundError as missing:
    if missing.name not in ("click", "luigi"):
        raise
    sys.exit(
        f"error: there is no {missing.name} in this Python, which commands need: pip install 'millrace[workflows]'"
    )

#: Each subcommand, where it is, and what it is for.
_COMMANDS = {
    "run": ("run:command", "what cron calls: run a task once at a time, with a dated log and an exit code"),
    "approve": ("approve:command", "answer at a gate where a flow waits for a person, or say what waits"),
    "fire": ("fire:command", "what Cloud Run or a timer calls: run a task without waiting, all it says on the output"),
    "on-event": ("on_event:command", "fire a graph's next step when an event says that one of its jobs has ended"),
    "clear": ("clear:command", "forget results, so that the next run makes them anew"),
    "query": ("query:command", "ask the warehouse, in BigQuery's dialect"),
    "doctor": ("doctor:command", "say whether a run can work, and what mends what can't"),
    "luigid": ("luigid:command", "serve luigi's page on this machine"),
    "build-template": ("build_template:command", "make a pipeline a template of Dataflow, which others launch"),
    "new-workflow": ("new:workflow", "write a workflow that runs, to be changed; an empty folder becomes a project"),
    "new-stage": ("new:stage", "write a stage that runs, to be changed, into a workflow"),
}


class _Commands(click.Group):
    """The subcommands, by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"millrace.ops.{module}"), attribute)
        command.context_class = arguments.Context
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, purpose) for name, (_, purpose) in _COMMANDS.items()])


_group = _Commands(
    "millrace",
    help="Daily data workflows with Luigi. Commands work in the folder that you are in: its luigi.cfg holds, and its "
    "workflows are known.",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the subcommand that the command line names; return the exit code."""
    if os.getcwd() not in map(os.path.abspath, sys.path):
        sys.path.insert(0, os.getcwd())  # as `python -m` does, so that the project's own modules are found
    return arguments.run(_group, (sys.argv[1:] if argv is None else argv) or ["--help"], "millrace")

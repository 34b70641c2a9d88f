"""Check what a run needs, with the settings of luigi.cfg, and say how to mend what is wrong.

With --data: whether what runs made is still as it was written.
"""

import datetime
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click
from luigi.parameter import UnconsumedParameterWarning

from millrace.common.text import plain
from millrace.core.findings import NOT_ASKED, OK, WARNING, WRONG, Finding
from millrace.ops import arguments
from millrace.ops.checks import cloud, machine, services, stored, templates
from millrace.ops.checks.findings import Check, examine, in_bucket
from millrace.tasks import session

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {OK: "green", WARNING: "yellow", WRONG: "bold red", NOT_ASKED: "dim"}
#: Columns of the state and of the check's name.
_STATE, _NAME = 9, 20


def _examine_data(first: datetime.date | None, last: datetime.date | None) -> int:
    """Look at all that is stored; print what is wrong as it is found."""
    from rich.console import Console

    console, looked = _console(), stored.Looked()
    console.print(f"\nData in {session.current().storage.uri('')}", style="bold", markup=False)
    with Console(stderr=True).status("looking for manifests") as status:
        looked.tell = lambda looked: status.update(
            f"{looked.partitions:,} of {looked.total:,} partitions, {looked.bytes / 1e6:,.0f} MB"
        )
        for partition, finding in stored.examine(first, last, looked):
            # Whole lines, because paths and commands are there to be copied.
            for line, style in ((f"  wrong  {plain(partition)}", "bold red"), (f"    {plain(finding.said)}", "")):
                console.print(line, style=style, markup=False, soft_wrap=True)
            for command in finding.mend:
                console.print(f"    {command}", style="bold", markup=False, soft_wrap=True)
    how = "by what Cloud Storage says of them" if in_bucket() else "byte by byte"
    console.print(
        f"{looked.partitions:,} partitions, {looked.files:,} files of {looked.bytes:,} bytes were looked at, {how}: "
        f"{looked.wrong or 'nothing'} wrong"
    )
    return 1 if looked.wrong else 0


def _console() -> "Console":
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 120, highlight=False)


def _examine() -> int:
    warnings.filterwarnings("ignore", category=UnconsumedParameterWarning)  # [dataflow] is open
    console = _console()
    found = _print(console, "This machine", examine(machine.CHECKS))
    if found["settings"].state == WRONG:
        console.print("\nGoogle Cloud\n  not asked before the settings are right")
    elif cloud.applies():
        found |= _print(console, "Google Cloud", examine(cloud.CHECKS))
    else:
        console.print(
            "\nGoogle Cloud\n  not needed: storage is a folder, there is no warehouse, and no task runs on Dataflow"
        )
    if WRONG not in {finding.state for finding in found.values()} and (known := services.checks()):
        found |= _print(console, "Services", examine(known))
    if WRONG not in {finding.state for finding in found.values()} and (launched := templates.checks()):
        found |= _print(console, "Templates", examine(launched))
    counts = Counter(finding.state for finding in found.values())
    console.print("\n" + ", ".join(f"{counts[state]} {state}" for state in _STYLES if counts[state]))
    return 1 if counts[WRONG] else 0


def _print(console: "Console", title: str, examined: Iterable[tuple[Check, Finding]]) -> dict[str, Finding]:
    """Print findings as they come, those that wait for others in one line a cause; return check → finding."""
    found: dict[str, Finding] = {}
    waiting: dict[str, list[str]] = {}
    console.print(f"\n{title}", style="bold")
    for check, finding in examined:
        found[check.name] = finding
        if finding.state == NOT_ASKED and finding.said in found:
            waiting.setdefault(finding.said, []).append(check.name)
        else:
            _print_finding(console, check.name, finding)
    for cause, names in waiting.items():
        _print_finding(console, f"before {cause}", Finding(NOT_ASKED, ", ".join(names)))
    return found


def _print_finding(console: "Console", name: str, finding: Finding) -> None:
    from rich.text import Text

    begin = f"  {finding.state:{_STATE}}  {name:{_NAME}}  "
    text = Text.assemble("  ", (f"{finding.state:{_STATE}}", _STYLES[finding.state]), f"  {plain(name):{_NAME}}  ")
    for line in Text(plain(finding.said, keep="\n")).wrap(console, max(console.width - len(begin), 30)):
        line.rstrip()
        console.print(text + line, soft_wrap=True)
        text = Text(" " * len(begin))
    for command in finding.mend:
        console.print(Text(f"{' ' * (2 + _STATE + 2)}{command}", style="bold"), soft_wrap=True)  # whole, to be copied


@click.command("doctor", cls=arguments.Command, help=__doc__)
@click.option("--data", is_flag=True, help="look instead at every file that a manifest names")
@click.option("--from", "first", metavar="DATE", help="with --data: the first day; else the earliest")
@click.option("--to", "last", metavar="DATE", help="with --data: the last day; else the latest")
def command(data: bool, first: str | None, last: str | None) -> int:
    """Ask for everything that the settings need, or for all data; return the exit code, 0 if nothing is wrong."""
    if data:
        days = [(first, "--from", datetime.date.min), (last, "--to", datetime.date.max)]
        return _examine_data(*(arguments.day(*each) if each[0] else None for each in days))
    if first or last:
        raise click.UsageError("--from and --to are days of --data")
    return _examine()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    return arguments.run(command, argv)

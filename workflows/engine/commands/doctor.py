"""The command behind bin/doctor: whether a run can work, and the command that mends what can't."""

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from luigi.parameter import UnconsumedParameterWarning

from pipelines.errors import SettingError
from pipelines.text import plain
from workflows.engine.checks import cloud, machine
from workflows.engine.checks.findings import NOT_ASKED, OK, WARNING, WRONG, Check, Finding, examine
from workflows.engine.commands import arguments
from workflows.engine.console import print_error

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {OK: "green", WARNING: "yellow", WRONG: "bold red", NOT_ASKED: "dim"}
#: Columns of the state and of the check's name.
_STATE, _NAME = 9, 20


def main(argv: Sequence[str] | None = None) -> int:
    """Asks for everything that the settings need; the exit code is 0 if a run can work."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="bin/doctor",
        description="Checks what a run needs, with the settings of luigi.cfg, and says how to mend what is wrong.",
        allow_abbrev=False,
    )
    try:
        arguments.load(argv)
        with arguments.parsed(parser, argv):
            return _examine()
    except SettingError as error:
        return print_error(error)


def _examine() -> int:
    from rich.console import Console

    warnings.filterwarnings("ignore", category=UnconsumedParameterWarning)  # [dataflow] is open
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    found = _print(console, "This machine", examine(machine.CHECKS))
    if found["settings"].state == WRONG:
        console.print("\nGoogle Cloud\n  not asked before the settings are right")
    elif cloud.applies():
        found |= _print(console, "Google Cloud", examine(cloud.CHECKS))
    else:
        console.print(
            "\nGoogle Cloud\n  not needed: storage is a folder, there is no warehouse, and no task runs on Dataflow"
        )
    counts = Counter(finding.state for finding in found.values())
    console.print("\n" + ", ".join(f"{counts[state]} {state}" for state in _STYLES if counts[state]))
    return 1 if counts[WRONG] else 0


def _print(console: "Console", title: str, examined: Iterable[tuple[Check, Finding]]) -> dict[str, Finding]:
    """Prints findings as they come; those of checks that wait for others in one line each cause. Check → finding."""
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


if __name__ == "__main__":
    sys.exit(main())

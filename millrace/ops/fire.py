"""Run a task as Cloud Run, a timer or an event should: by luigi, in this folder, without waiting for anything.

A firing (--no-wait --detach) submits what can be submitted, publishes what has finished, and ends. What luigi says goes
where this command's output goes; no log is written, and nothing is locked but by the ledger. The exit code is luigi's,
but 0 where nothing is left but to wait, for jobs at work (12) or for a person (13): the next firing goes on.
"""

import os
from collections.abc import Sequence

from millrace.core.waiting import Kind
from millrace.errors import SettingError
from millrace.ops import luigi_process
from millrace.ops.arguments import called
from millrace.tasks import sections

#: Luigi's exit codes after which nothing has to be mended: all is complete, or is waited for.
FINE = (0, *(kind.value for kind in Kind))


def main(arguments: Sequence[str]) -> int:
    """Run luigi over the command line's task; return the exit code."""
    me = f"{called()}fire"
    if (code := luigi_process.usage(me, arguments, __doc__)) is not None:
        return code
    if {"--help", "--help-all"} & {*arguments}:
        luigi_process.become(["--module", sections.modules()[0], *arguments])
    code = luigi(*arguments)
    return 0 if code in FINE else code


def luigi(*arguments: str) -> int:
    """Run luigi over a task, without waiting; return luigi's own exit code."""
    named = os.environ.get("LUIGI_CONFIG_PATH")
    if named and not os.path.isfile(named):  # luigi would go on with the settings that hold without a file
        raise SettingError(f"LUIGI_CONFIG_PATH = {named!r} in the environment names no file; mend it, or take it away")
    return luigi_process.run(["--module", sections.modules()[0], *arguments, "--no-wait", "--detach"])


command = luigi_process.Command("fire", callback=main)

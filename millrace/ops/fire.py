"""Run a task as Cloud Run, a timer or an event should: by luigi, in this folder, without waiting for anything.

A firing (--no-wait --detach) submits what can be submitted, publishes what has finished, and ends. What luigi says goes
where this command's output goes; no log is written, and nothing is locked but by the ledger. The exit code is luigi's,
but 0 where nothing is left but to wait, for jobs at work (12) or for a person (13): the next firing goes on.
"""

import os
import sys
from collections.abc import Sequence

from millrace.core.waiting import Kind
from millrace.errors import SettingError
from millrace.ops import luigi_process
from millrace.ops.arguments import called
from millrace.tasks import sections


def main(arguments: Sequence[str]) -> int:
    """Run luigi over the command line's task; return the exit code."""
    me = f"{called()}fire"
    if not arguments or arguments[0] in ("-h", "--help"):
        usage = f"usage: {me} TASK [flags of luigi]; with --help they are listed"
        print(usage if not arguments else f"{usage}\n\n{__doc__}", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    line = ["--module", sections.modules()[0], *arguments]
    if {"--help", "--help-all"} & {*arguments}:
        luigi_process.become(line)
    named = os.environ.get("LUIGI_CONFIG_PATH")
    if named and not os.path.isfile(named):  # luigi would go on with the settings that hold without a file
        raise SettingError(f"LUIGI_CONFIG_PATH = {named!r} in the environment names no file; mend it, or take it away")
    code = luigi_process.run([*line, "--no-wait", "--detach"])
    return 0 if code in {kind.value for kind in Kind} else code


command = luigi_process.Command("fire", callback=main)

"""bin/local-cloud: starts the local services, and runs a command among them or waits until it is stopped."""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from cloud import Cloud

_ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Starts the services; the exit code of the command, or 0."""
    parser = argparse.ArgumentParser(
        prog="bin/local-cloud",
        description="Cloud Storage, BigQuery and Dataflow on this machine, in memory: they end with this command.",
        epilog="bin/local-cloud -- luigi --module workflows Report --days 1",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run in that cloud; without it, it waits")
    arguments = parser.parse_args()
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    with Cloud() as cloud, tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "luigi.cfg"
        own = Path(os.environ.get("LUIGI_CONFIG_PATH", "luigi.cfg"))
        # luigi reads what is beside its command and, over it, the file that this variable names.
        config.write_text(cloud.settings(), encoding="utf-8")
        variables = {**cloud.environment(), "LUIGI_CONFIG_PATH": str(config)}
        if not command:
            print(f"# {own} holds, and over it the settings of this cloud:\n")
            print(cloud.settings())
            print("".join(f"export {key}={shlex.quote(value)}\n" for key, value in variables.items()), flush=True)
            print("# Ctrl-C ends it, and all that is in it.", flush=True)
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
            return 0
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        return subprocess.run(command, env={**os.environ, **variables, "PATH": path}, check=False).returncode


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, ())
    sys.exit(main())

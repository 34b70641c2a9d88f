"""Which calls of gcloud a block of the guides makes, and what gcloud's own parser says of them; none is made."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import running

#: What stands in a block in the place of what needs an account: gcloud notes its arguments, the others do nothing.
_INSTEAD = """
gcloud() {
    case "$1 $2 ${3-}" in
        "config get account") echo somebody@example.org ;;
        "auth print-access-token ") echo token ;;
        "projects describe my-project") echo 123456789012 ;;
        "run services describe") echo https://service.example.org ;;
        "logging sinks describe") echo serviceAccount:sink@example.org ;;
    esac
    (IFS=''; printf '%s\\0' "$@"; printf '\\0') >>"$NOTED"
}
git() { echo 1a2b3c4; }
"""
_OTHERS = ("bq", "curl", "docker", "gsutil", "luigi")
#: What earlier blocks of the guides have set.
_SET = {
    "PROJECT": "my-project",
    "REGION": "europe-west1",
    "BUCKET": "my-project-millrace",
    "LAUNCHER": "millrace-launcher@my-project.iam.gserviceaccount.com",
    "WORKER": "millrace-worker@my-project.iam.gserviceaccount.com",
    "FIRER": "millrace-firer@my-project.iam.gserviceaccount.com",
    "IMAGE": "europe-west1-docker.pkg.dev/my-project/millrace/worker:1",
}


def called(script: str, folder: Path) -> list[list[str]]:
    """The arguments of every call of gcloud that a block of the guides makes."""
    noted = folder / "noted"
    noted.touch()
    others = "".join(f"{name}() {{ :; }}\n" for name in _OTHERS)
    for program in set(re.findall(r"(?:\.venv/)?bin/[-\w]+", script)):  # one of ours, which would want an account
        (folder / program).parent.mkdir(parents=True, exist_ok=True)
        (folder / program).write_text("#!/bin/sh\n")
        (folder / program).chmod(0o755)
    env = {"PATH": os.environ["PATH"], "NOTED": str(noted), "HOME": str(folder), **_SET}
    ran = running.run(["bash", "-eu", "-c", f"{_INSTEAD}{others}{script}"], folder, env)
    assert (ran.code, ran.err) == (0, ""), ran
    calls = noted.read_bytes().decode().split("\0\0")[:-1]
    return [call.split("\0") for call in calls]


def refused(calls: Sequence[Sequence[str]], folder: Path) -> list[str]:
    """What gcloud's parser says of the calls that it does not take. Without gcloud the test is skipped."""
    library = Path(running.need("gcloud")).resolve().parents[1] / "lib"
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(Path(__file__).with_name("gcloud_parser.py")), str(library)],
        input=json.dumps(calls),
        env={"CLOUDSDK_CONFIG": str(folder / "gcloud"), "PATH": os.environ["PATH"], "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found

"""Which code made a partition."""

import functools
import importlib.metadata
from pathlib import Path


@functools.cache
def code_version() -> str:
    """Return the package's version and, in a git checkout, the commit: `0.1.0+1a2b3c4d5e6f`. Reads files only."""
    try:
        version = importlib.metadata.version("millrace")
    except importlib.metadata.PackageNotFoundError:
        version = "0"
    commit = _commit(Path(__file__).resolve().parents[2] / ".git")
    return f"{version}+{commit[:12]}" if commit else version


def _commit(git: Path) -> str:
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        ref = head.removeprefix("ref: ")
        if (git / ref).exists():
            return (git / ref).read_text().strip()
        packed = (git / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in packed if line.endswith(" " + ref)), "")
    except (OSError, IndexError):
        return ""

"""What several tests share: real luigi processes over a storage of their own, and what lies in a storage."""

import datetime
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from millrace.core import manifests
from millrace.core.manifests import Manifest
from millrace.core.storage import LocalStorage
from millrace.core.warehouse import LocalWarehouse

ROOT = Path(__file__).resolve().parents[1]
POSTS = ROOT.parent / "shared" / "data" / "posts"
ARCHIVES = [POSTS / f"{name}.jsonl" for name in ("barackobama", "mayweather_2017", "realdonaldtrump")]
#: What Aggregate publishes, each with the columns that tell its rows apart.
KEYS = {
    "word_counts": ("word",),
    "urls": ("url",),
    "word_cooccur": ("w1", "w2"),
    "emerging_pairs": ("w1", "w2"),
    "posts_by_hour": ("hour",),
}
DAY = datetime.date(2026, 11, 1)
#: Whether the long matrices are tried whole and not in samples, and how many seconds a test of one may take then.
WHOLE = os.environ.get("MILLRACE_TEST_ALL") == "1"
#: Of a matrix that is tried whole, each so-manieth case alone: CI has not the time for all of them.
EVERY = int(os.environ.get("MILLRACE_TEST_EVERY", "1"))
LONGEST = 2 * 3600
#: What is tried only where the long matrices are, because it takes more than its share of a quarter of an hour.
long = pytest.mark.skipif(not WHOLE, reason="long; make test-all")
#: Of long lists of texts, and of random ones, each so-manieth is tried unless the long matrices are tried whole.
SHARE = 1 if WHOLE else 8

_CLOUD_SDK = "https://cloud.google.com/sdk/docs/install"
#: Where programs come from that a test may find missing.
_FROM = {
    "bq": _CLOUD_SDK,
    "chromedriver": "Debian: chromium-driver",
    "chromium": "Debian: chromium",
    "cron": "Debian: cron",
    "gcloud": _CLOUD_SDK,
    "setpriv": "Debian: util-linux",
    "unshare": "Debian: util-linux",
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Ran:
    """A finished process."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """What it says went wrong, a line each."""
        return [line for line in (self.out + self.err).splitlines() if line.startswith(("ERROR", "error"))]

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.out}{self.err}"


def environment(**changes: str) -> dict[str, str]:
    """This process's environment, with the project's modules and settings whatever the folder."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    # Without what keeps Python from compiling once: a user has it so, and hundreds of processes start.
    plain = {
        key: value for key, value in os.environ.items() if not key.startswith(("LUIGI", "PYTHONDONTWRITEBYTECODE"))
    }
    return {**plain, "PYTHONPATH": path, "LUIGI_CONFIG_PATH": str(ROOT / "luigi.cfg"), **changes}


def command(task: str, *flags: object, module: str = "workflows") -> list[str]:
    """A luigi command line, with this Python's luigi."""
    return [str(Path(sys.executable).with_name("luigi")), "--module", module, task, *map(str, flags)]


def run(arguments: Sequence[object], cwd: Path, env: Mapping[str, str] | None = None, seconds: float = 300) -> Ran:
    """Runs a process to its end, at most five minutes unless told otherwise."""
    done = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=cwd,
        env=dict(env or environment()),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def luigi(task: str, *flags: object, storage: Path, env: Mapping[str, str] | None = None) -> Ran:
    """Runs `luigi --module workflows TASK` over a storage, in the folder above it."""
    storage.parent.mkdir(parents=True, exist_ok=True)
    return run(command(task, "--millrace-storage", storage, *flags), storage.parent, env)


def succeed(task: str, *flags: object, storage: Path) -> Ran:
    """Like luigi(), for what must end with 0."""
    ran = luigi(task, *flags, storage=storage)
    assert ran.code == 0, ran
    return ran


def select(storage: Path, sql: str) -> list[Row]:
    """The rows of a query in BigQuery's dialect over a storage's warehouse."""
    rows: list[Row] = LocalWarehouse(LocalStorage(str(storage))).query(sql).to_pylist()
    return rows


def tables(storage: Path, date: datetime.date = DAY) -> dict[str, list[Row]]:
    """The rows of all the tables of a window, in order of their keys."""
    return {
        table: select(storage, f"SELECT * FROM {table} WHERE date = DATE '{date}' ORDER BY {', '.join(keys)}")
        for table, keys in KEYS.items()
    }


def partition(storage: Path, name: str) -> Manifest | None:
    """A partition's manifest; None where there is none."""
    path = storage / name / manifests.NAME
    return Manifest.from_json(path.read_bytes(), str(path)) if path.exists() else None


def complete(storage: Path) -> list[str]:
    """All the partitions that are complete."""
    return sorted(str(path.parent.relative_to(storage)) for path in storage.rglob(manifests.NAME))


def leftovers(storage: Path) -> list[str]:
    """What no manifest accounts for: unnamed attempts, and temporary files anywhere but in the ledger."""
    named = {(m, found.attempt) for m in complete(storage) if (found := partition(storage, m))}
    over = []
    for path in storage.rglob("*"):
        inside = path.relative_to(storage)
        if path.is_dir() and path.name.startswith("attempt-") and (str(inside.parent), path.name) not in named:
            over.append(str(inside))
        if path.name.endswith(".tmp") and (inside.parts[0] != "_jobs" or not path.name.startswith(".")):
            over.append(str(inside))
    return sorted(over)


def files(folder: Path) -> dict[str, bytes]:
    """Everything below a folder: path → bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def write_posts(path: Path, posts: Iterable[Mapping[str, object] | str]) -> Path:
    """Writes JSON lines; a text is a line as it is."""
    lines = [post if isinstance(post, str) else json.dumps(post) for post in posts]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def same(found: Sequence[Row], expected: Sequence[Row]) -> bool:
    """Whether rows are equal; floats to 12 digits, since sums of logarithms have no one last bit."""
    return len(found) == len(expected) and all(
        a.keys() == b.keys() and all(_same(a[name], b[name]) for name in a)
        for a, b in zip(found, expected, strict=True)
    )


def _same(a: object, b: object) -> bool:
    return math.isclose(a, b, rel_tol=1e-12) if isinstance(a, float) and isinstance(b, float) else a == b


def absent(what: str) -> NoReturn:
    """Skips the test, saying what is not there; where CI is true, fails it."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def need(program: str) -> str:
    """Where a program is; without it the test is skipped, or fails where CI is true: a skip would hide a hole there."""
    return shutil.which(program) or absent(f"{program} is not installed ({_FROM[program]})")


def need_emulator(name: str) -> None:
    """Like need(), for one of Google's emulators: "pubsub" or "datastore"."""
    from localcloud import emulators

    if name not in emulators.available():
        absent(f"no emulator of {name} is here: it takes Java and the Cloud SDK's component ({_CLOUD_SDK})")


def archives() -> list[Path]:
    """The three files of real posts; without them the test is skipped."""
    for path in ARCHIVES:
        if not path.exists():
            absent(f"{path} is not there")
    return ARCHIVES


def python() -> str:
    """This Python."""
    return sys.executable


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    """Waits until something holds, or for so long; look again afterwards."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)

"""What each stage takes of memory, beside what it says that it takes, and the chain of a day under a limit.

    python -m benchmarks.memory --posts-in /var/tmp/p --last-day 2026-11-07 --days 7           # stage by stage
    python -m benchmarks.memory --posts-in /var/tmp/p --last-day 2026-11-07 --limit 4096 --by cgroup

The first runs Fetch, Etl, Count and Aggregate one after the other, each for all days as one luigi run with one worker,
and prints the largest process's peak, what BeamTask.memory_here says of it, and the bytes read; it ends with 1 where a
stage takes more than it says.

The second runs Report with runner = auto and --workers 2 where all processes together (cgroup, systemd-run), or each
(ulimit, of address space), may take so many MiB; it ends with the run's exit code, 1 where anything was killed. cgroup
takes root and a cgroup v1 or v2 that can be written.

With --results the stages' figures are added to a file; `python -m benchmarks.curves FILE docs/memory.svg` draws them.
"""

import argparse
import contextlib
import datetime as dt
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import measure

ROOT = Path(__file__).resolve().parents[1]
MIB = 1 << 20
STAGES = ("Fetch", "Etl", "Count", "Aggregate")


class Read(NamedTuple):
    """What a stage reads: bytes of its largest partition, and of all, each file once."""

    largest: int
    together: int


def source_of(args: argparse.Namespace) -> str:
    return f"{args.posts_in}/posts-{{date:%Y-%m-%d}}.jsonl"


def luigi(args: argparse.Namespace, storage: Path, task: str, *flags: str) -> list[str]:
    return [
        *(str(Path(sys.executable).with_name("luigi")), "--module", "workflows", task, *flags),
        *("--posts-source", source_of(args), "--posts-rules", args.rules, "--millrace-storage", str(storage)),
    ]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "LUIGI_CONFIG_PATH": str(ROOT / "luigi.cfg")}


def days_of(args: argparse.Namespace) -> list[dt.date]:
    last = dt.date.fromisoformat(args.last_day)
    return [last - dt.timedelta(days=back) for back in reversed(range(args.days))]


# ---------------------------------------------------------------------------------------------------- stage by stage


def read_by(args: argparse.Namespace, storage: Path, task: str) -> Read:
    """Return what a stage reads, as the manifests of the stage before say it."""
    if task == "Fetch":
        return Read(0, 0)
    before = {"Etl": "raw", "Count": "posts", "Aggregate": "counts"}[task]
    found = [path.parent for path in (storage / before).rglob("_MANIFEST.json")]
    sizes = [sum(path.stat().st_size for path in folder.rglob("*.parquet")) for folder in found]
    return Read(sum(sizes) if task == "Aggregate" else max(sizes), sum(sizes))


def stage_by_stage(args: argparse.Namespace, folder: Path) -> int:
    from workflows import posts

    storage, wrong = folder / "data", 0
    found: dict[str, dict[str, float]] = {}
    print(f"{'stage':<10} {'reads MiB':>10} {'peak MiB':>9} {'says MiB':>9}  CPU s")
    for task in STAGES:
        read = read_by(args, storage, task)
        first, *_, last = [*days_of(args), days_of(args)[-1]]
        flags = ["--workers", "1", "--date", str(last), "--days", str(args.days)]
        if task != "Aggregate":  # all days of a stage at once, as a batch
            flags = ["--workers", "1", "--of", task, "--start", str(first), "--stop", str(last + dt.timedelta(days=1))]
            if task == "Fetch":
                flags += ["--param-name", "date", "--of-params", json.dumps({"source": source_of(args)})]
        command = luigi(args, storage, task if task == "Aggregate" else "RangeDaily", *flags)
        done = measure(command, folder, environment(), folder / f"{task}.log")
        says = getattr(posts, task).memory_here(*read)
        wrong += done.peak > says
        print(f"{task:<10} {read.together // MIB:>10,} {done.peak // MIB:>9,} {says // MIB:>9,}  {done.cpu:.1f}")
        found[task] = {"peak": done.peak, "cpu": round(done.cpu, 1)}
    if args.results:
        posts_a_day = max(sum(1 for _ in path.open("rb")) for path in args.posts_in.glob("posts-*.jsonl"))
        with args.results.open("a") as stream:
            stream.write(json.dumps({"posts": posts_a_day, "stages": found}) + "\n")
    return int(wrong > 0)


# ------------------------------------------------------------------------------------------------------ under a limit


@contextlib.contextmanager
def cgroup(limit: int) -> Iterator[Path]:
    """Make a cgroup of so much memory, of version 2 or 1."""
    top = Path("/sys/fs/cgroup")
    two = (top / "cgroup.controllers").exists() and "memory" in (top / "cgroup.controllers").read_text()
    folder = (top if two else top / "memory") / f"millrace-{os.getpid()}"
    folder.mkdir()
    try:
        (folder / ("memory.max" if two else "memory.limit_in_bytes")).write_text(str(limit))
        with contextlib.suppress(OSError):
            (folder / "memory.swap.max").write_text("0")
        yield folder
        for name in ("memory.peak", "memory.max_usage_in_bytes"):
            if (folder / name).exists():
                used = int((folder / name).read_text())
                print(f"of the cgroup's {limit // MIB:,} MiB {used // MIB:,} were used, cache included")
    finally:
        folder.rmdir()


def under_limit(args: argparse.Namespace, folder: Path) -> int:
    limit = args.limit * MIB
    flags = ["--workers", "2", "--date", args.last_day, "--days", str(args.days), "--millrace-runner", "auto"]
    command = luigi(args, folder / "data", "Report", *flags)
    with contextlib.ExitStack() as stack:
        if args.by == "cgroup":
            tasks = stack.enter_context(cgroup(limit)) / "cgroup.procs"
            command = ["sh", "-c", f'echo $$ > {tasks} && exec "$@"', "sh", *command]
        elif args.by == "systemd-run":
            limits = ["-p", f"MemoryMax={limit}", "-p", "MemorySwapMax=0"]
            command = ["systemd-run", "--quiet", "--scope", *limits, "--", *command]
        before = None
        if args.by == "ulimit":
            before = lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))  # noqa: E731
        done = subprocess.run(command, cwd=folder, env=environment(), preexec_fn=before, check=False)
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    print(f"exit code {done.returncode}, the largest process took {largest:,} MiB")
    return done.returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts-in", type=Path, required=True, help="folder that make_posts wrote")
    parser.add_argument("--last-day", required=True, help="the last day, YYYY-MM-DD")
    parser.add_argument("--days", type=int, default=1)
    parser.add_argument("--rules", default="standard")
    parser.add_argument("--results", type=Path, help="file to which the stages' figures are added, for curves.py")
    parser.add_argument("--limit", type=int, default=0, help="MiB; without it stage by stage, without a limit")
    parser.add_argument("--by", choices=("cgroup", "systemd-run", "ulimit"), default="cgroup")
    args = parser.parse_args()
    args.posts_in = args.posts_in.resolve()
    folder = Path(tempfile.mkdtemp(prefix="memory-"))
    try:
        return under_limit(args, folder) if args.limit else stage_by_stage(args, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())

"""`make bench`: measure Millrace's posts workflow beside its peers, and print the figures with their targets.

Each measured run is a fresh process, timed from its start to its end, imports included. Peer and product take turns
(A B A B …) on files that are in the page cache; a figure is the median of the runs. Nothing here is a test: a missed
target is printed, not raised. A run that fails or makes no page is an error.
"""

import argparse
import datetime as dt
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import Measure, measure

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("luigi", "apache-beam", "duckdb", "pyarrow", "numpy")
DAYS = 7
TINY = 10 * DAYS
GIB = 2**30


class Row(NamedTuple):
    """One line of the printed table: a figure, what it is held against, and the runs that it comes from."""

    case: str
    what: str
    figure: float
    target: str
    met: bool | None
    detail: str


def median(runs: Sequence[Measure]) -> Measure:
    walls, cpus, peaks = zip(*runs, strict=True)
    return Measure(statistics.median(walls), statistics.median(cpus), max(peaks))


def show(runs: Sequence[Measure]) -> str:
    wall, cpu, peak = median(runs)
    return f"{wall:.2f} s ({cpu:.2f} s CPU, {peak / GIB:.2f} GiB)"


def alternate(runs: int, *sides: Callable[[], Measure]) -> list[list[Measure]]:
    found: list[list[Measure]] = [[] for _ in sides]
    for _ in range(runs):
        for side, measures in zip(sides, found, strict=True):
            measures.append(side())
    return found


class Bench:
    def __init__(self, args: argparse.Namespace, work: Path) -> None:
        self.args = args
        self.work = work
        self.data_folder: Path = args.data or work / "posts"
        self.root: Path = args.root.resolve()
        self.day: dt.date = args.last_day
        self.before: Path | None = args.before and args.before.resolve()
        self.rows: list[Row] = []
        self.raw: dict[str, list[Measure]] = {}
        self.tables: dict[str, list[str]] = {}
        self.cold_runs: dict[str, tuple[list[Measure], list[Measure]]] = {}

    def posts(self, posts: int, extra_day: bool = False) -> Path:
        """Return a folder of `posts` posts over the days that end with the last day.

        extra_day: one more day, as large as one of them.
        """
        folder = self.data_folder / f"posts-{posts}"
        if not (folder / f"posts-{self.day}.jsonl").exists():
            self.make_posts(folder, posts, DAYS, self.day)
        after = self.day + dt.timedelta(days=1)
        if extra_day and not (folder / f"posts-{after}.jsonl").exists():
            self.make_posts(folder, posts // DAYS, 1, after)
        return folder

    def make_posts(self, folder: Path, posts: int, days: int, last_day: dt.date) -> None:
        say(f"writing {posts:,} posts to {folder}")
        options = ["--posts", str(posts), "--days", str(days), "--last-day", str(last_day), "--out", str(folder)]
        subprocess.run(
            [sys.executable, "-m", "benchmarks.make_posts", *options], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
        )

    def timed(self, name: str, command: Sequence[str], data: Path | None = None, root: Path | None = None) -> Measure:
        for file in sorted(data.glob("*.jsonl")) if data else ():
            with file.open("rb") as stream:
                while stream.read(1 << 24):
                    pass
        os.sync()
        log = self.work / f"{name.replace(' ', '_')}.log"
        root = root or self.root
        env = {
            key: value
            for key, value in os.environ.items()
            if key not in ("LUIGI_CONFIG_PATH", "PYTHONDONTWRITEBYTECODE")
        }
        env["PYTHONPATH"] = os.pathsep.join(dict.fromkeys((str(root), str(ROOT))))
        found = measure(command, root, env, log)
        self.raw.setdefault(name, []).append(found)
        say(f"{name}: {show([found])}")
        return found

    def peer(self, name: str, module: str, data: Path, rules: str) -> Measure:
        options = ["--posts", str(data), "--last-day", str(self.day), "--days", str(DAYS), "--rules", rules]
        command = [sys.executable, "-m", f"benchmarks.{module}", *options, "--out", str(self.out(module, rules))]
        return self.timed(name, command, data)

    def luigi(self, *arguments: str) -> list[str]:
        return [str(Path(sys.executable).with_name("luigi")), "--module", *arguments]

    def report(
        self, name: str, data: Path, rules: str, storage: Path, day: dt.date, root: Path | None = None
    ) -> Measure:
        """Run the command as a user types it, and check that it made its page."""
        source = str(data / "posts-{date:%Y-%m-%d}.jsonl")
        settings = ["--posts-source", source, "--posts-rules", rules, "--millrace-storage", str(storage)]
        command = self.luigi("workflows", "Report", "--date", str(day), "--days", str(DAYS), *settings)
        found = self.timed(name, command, data, root)
        page = storage / "reports" / f"date={day}" / "index.html"
        if not page.exists():
            raise RuntimeError(f"{' '.join(command)}\nmade no {page}; its output is in {self.work}")
        return found

    def cold_report(self, name: str, data: Path, rules: str, root: Path | None = None) -> Measure:
        storage = self.storage(rules)
        shutil.rmtree(storage, ignore_errors=True)
        return self.report(name, data, rules, storage, self.day, root)

    def backfill(self, name: str, storage: Path, root: Path) -> Measure:
        """Make a span of sample days, Fetch to the Aggregate of each day's window; or see that all are there."""
        first = self.day - dt.timedelta(days=self.args.backfill_days - 1)
        span = ["--start", str(first), "--stop", str(self.day + dt.timedelta(days=1)), "--workers", "2"]
        command = self.luigi("workflows", "RangeDaily", "--of", "Aggregate", *span, "--millrace-storage", str(storage))
        found = self.timed(name, command, root=root)
        made = len(list((storage / "word_counts").glob("*/_MANIFEST.json")))
        if made != self.args.backfill_days:
            raise RuntimeError(f"{' '.join(command)}\nmade {made} windows; its output is in {self.work}")
        return found

    def storage(self, rules: str) -> Path:
        return self.work / f"storage-{rules}"

    def out(self, module: str, rules: str) -> Path:
        return self.work / f"{module}-{rules}"

    def cold(self, rules: str) -> tuple[list[Measure], list[Measure]]:
        """Run the cold chain and the DuckDB script, in turns; once for all cases that need them."""
        if rules not in self.cold_runs:
            data = self.posts(self.args.posts)
            peer, product = alternate(
                self.args.runs,
                lambda: self.peer(f"duckdb script {rules}", "duckdb_script", data, rules),
                lambda: self.cold_report(f"cold chain {rules}", data, rules),
            )
            self.tables[rules] = self.compare(rules)
            self.cold_runs[rules] = peer, product
        return self.cold_runs[rules]

    def compare(self, rules: str) -> list[str]:
        command = [sys.executable, "-m", "benchmarks.compare", "--date", str(self.day)]
        folders = [str(self.storage(rules)), str(self.out("duckdb_script", rules))]
        done = subprocess.run([*command, *folders], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.splitlines() or done.stderr.splitlines()[-1:]

    def case_a(self) -> None:
        for rules in self.args.rules:
            peer, product = self.cold(rules)
            what = f"cold chain, {self.args.posts:,} posts, {rules} rules / DuckDB script"
            self.ratio("a", what, product, peer, 1.5, aim=1.0)

    def case_b(self) -> None:
        rules, data, tiny = "classic", self.posts(self.args.row_posts), self.posts(TINY)
        size = f"{self.args.row_posts:,} posts"
        peer, product = alternate(
            1 if self.args.row_posts > 200_000 else self.args.runs,
            lambda: self.peer(f"row by row {size}", "row_by_row", data, rules),
            lambda: self.cold_report(f"cold chain {size}", data, rules),
        )
        peer_start, product_start = alternate(
            self.args.runs,
            lambda: self.peer("row by row start", "row_by_row", tiny, rules),
            lambda: self.cold_report("cold chain start", tiny, rules),
        )
        self.add("b", f"row by row / cold chain, {size}, whole process", median(peer).wall / median(product).wall,
                 "≥ 25", lambda x: x >= 25, f"{show(peer)} / {show(product)}")  # fmt: skip
        slow, fast = (median(all_).wall - median(start).wall
                      for all_, start in ((peer, peer_start), (product, product_start)))  # fmt: skip
        self.add("b", f"the same beyond what {TINY} posts take", slow / max(fast, 1e-3), "", None,
                 f"{slow:.2f} s / {fast:.2f} s; {TINY} posts: {show(peer_start)} / {show(product_start)}")  # fmt: skip

    def case_c(self) -> None:
        rules = "classic"
        _, cold = self.cold(rules)
        data, next_day = self.posts(self.args.posts, extra_day=True), self.day + dt.timedelta(days=1)
        storage, kept = self.storage("next-day"), self.storage("complete")
        self.report("complete window", data, rules, storage, self.day)
        shutil.copytree(storage, kept)
        runs = []
        for _ in range(self.args.runs):
            shutil.rmtree(storage)
            shutil.copytree(kept, storage)
            runs.append(self.report("one new day", data, rules, storage, next_day))
        shutil.rmtree(storage)
        shutil.rmtree(kept)
        self.ratio("c", "one new day in a complete window / cold chain", runs, cold, 0.3)
        if before := self.before:
            old = [self.cold_report("cold chain before", data, rules, before) for _ in range(self.args.runs)]
            self.ratio("c", "the same / cold chain before", runs, old, 0.3)

    def case_d(self) -> None:
        rules, tiny, storage = "classic", self.posts(TINY), self.storage("all-complete")
        data = self.posts(self.args.posts) if "a" in self.args.cases else tiny
        self.report("to be complete", data, rules, storage, self.day)
        nothing, product = alternate(
            max(5, self.args.runs),
            lambda: self.timed("nothing", self.luigi("benchmarks.nothing", "Nothing", "--local-scheduler")),
            lambda: self.report("all complete", data, rules, storage, self.day),
        )
        shutil.rmtree(storage)
        self.ratio("d", "everything complete / one complete do-nothing task", product, nothing, 1.2)

    def case_e(self) -> None:
        large = self.args.large_posts
        data = self.posts(large)
        for rules in self.args.rules:
            peer = [self.peer(f"duckdb script {large:,} posts {rules}", "duckdb_script", data, rules)]
            runs = [self.cold_report(f"cold chain {large:,} posts {rules}", data, rules)]
            self.ratio("e", f"cold chain, {large:,} posts, {rules} rules / DuckDB script", runs, peer, 1.0)
            peak = median(runs).peak / GIB
            self.add("e", "the same: peak memory of all processes, GiB", peak, "≤ 2", lambda x: x <= 2, show(runs))

    def case_f(self) -> None:
        """Hold a backfill, and a look at one that is complete, against the checkout of --before."""
        if self.before is None:
            say("case f needs --before, a checkout to be held against")
            return
        made: dict[str, list[Measure]] = {"before": [], "now": []}
        seen: dict[str, list[Measure]] = {"before": [], "now": []}
        for which, root in (("before", self.before), ("now", self.root)):
            storage = self.storage(f"backfill-{which}")
            made[which].append(self.backfill(f"backfill {which}", storage, root))
            for _ in range(self.args.runs):
                seen[which].append(self.backfill(f"complete backfill {which}", storage, root))
            shutil.rmtree(storage)
        what = f"backfill of {self.args.backfill_days} sample days, Fetch to Aggregate"
        self.ratio("f", f"{what} / before", made["now"], made["before"], 0.25)
        wall = median(seen["now"]).wall
        details = f"{show(seen['now'])} / before {show(seen['before'])}"
        self.add("f", "the same, complete: seconds until that is seen", wall, "≤ 3", lambda x: x <= 3, details)

    def case_g(self) -> None:
        """Hold the CPU time of the cold chain against the checkout of --before."""
        if self.before is None:
            say("case g needs --before, a checkout to be held against")
            return
        data, before = self.posts(self.args.posts), self.before
        for rules in self.args.rules:
            old, new = alternate(
                self.args.runs,
                lambda rules=rules: self.cold_report(f"cold chain before {rules}", data, rules, before),  # type: ignore[misc]
                lambda rules=rules: self.cold_report(f"cold chain now {rules}", data, rules),  # type: ignore[misc]
            )
            figure = median(new).cpu / median(old).cpu
            what = f"CPU time of the cold chain, {self.args.posts:,} posts, {rules} rules / before"
            self.add("g", what, figure, "≤ 0.75", lambda x: x <= 0.75, f"{show(new)} / {show(old)}")

    def case_h(self) -> None:
        """Time what `make report` does where all is installed: the sample's report of a week, cold."""
        runs = []
        storage = self.storage("sample")
        settings = ["--local-scheduler", "--date", str(self.day), "--millrace-storage", str(storage)]
        for _ in range(max(3, self.args.runs)):
            shutil.rmtree(storage, ignore_errors=True)
            runs.append(self.timed("sample report", self.luigi("workflows", "Report", *settings)))
        wall = median(runs).wall
        self.add("h", "the sample's report, cold: seconds", wall, "≤ 6", lambda x: x <= 6, show(runs))

    def ratio(self, case: str, what: str, product: list[Measure], peer: list[Measure], target: float,
              aim: float | None = None) -> None:  # fmt: skip
        held = f"≤ {target}" + (f", aim {aim}" if aim else "")
        figure = median(product).wall / median(peer).wall
        self.add(case, what, figure, held, lambda x: x <= target, f"{show(product)} / {show(peer)}")

    def add(
        self, case: str, what: str, figure: float, target: str, met: Callable[[float], bool] | None, detail: str
    ) -> None:
        self.rows.append(Row(case, what, figure, target, met(figure) if met else None, detail))


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    def field(path: str, name: str) -> str:
        try:
            lines = Path(path).read_text().splitlines()
        except OSError:
            return "unknown"
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "unknown")

    def version(library: str) -> str:
        try:
            return importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            return "missing"

    return {
        "cores used": len(os.sched_getaffinity(0)),
        "cores": os.cpu_count(),
        "memory": field("/proc/meminfo", "MemTotal"),
        "cpu": field("/proc/cpuinfo", "model name"),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load at the start": round(os.getloadavg()[0], 2),
        **{library: version(library) for library in LIBRARIES},
    }


def print_table(bench: Bench, about: dict[str, Any]) -> None:
    print("\n" + ", ".join(f"{key} {value}" for key, value in about.items()) + "\n")
    width = max(len(row.what) for row in bench.rows)
    for row in bench.rows:
        verdict = {True: "met", False: "MISSED", None: ""}[row.met]
        print(f"{row.case}  {row.what:{width}}  {row.figure:7.2f}  {row.target:14}  {verdict:6}  {row.detail}")
    for rules, findings in bench.tables.items():
        print(f"\nTables of Millrace and of the DuckDB script, {rules} rules:")
        for finding in findings:
            print(f"   {finding}")


def write_results(bench: Bench, about: dict[str, Any], file: Path) -> None:
    results = {
        "machine": about,
        "posts": bench.args.posts,
        "figures": [row._asdict() for row in bench.rows],
        "tables": bench.tables,
        "runs": {name: [found._asdict() for found in runs] for name, runs in bench.raw.items()},
    }
    file.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    print(f"\nAll runs: {file}")


def listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=listed, default=list("abcdefgh"), help="a to h: see README.md (default: all)")
    parser.add_argument("--posts", type=int, default=1_000_000, help="posts of the cold chain (default: %(default)s)")
    parser.add_argument("--row-posts", type=int, default=1_000_000, help="posts of case b (default: %(default)s)")
    parser.add_argument("--large-posts", type=int, default=10_000_000, help="posts of case e (default: %(default)s)")
    parser.add_argument("--rules", type=listed, default=["classic", "standard"], help="rules of case a (default: both)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each side (default: %(default)s)")
    parser.add_argument("--cores", type=int, default=2, help="cores that all runs share (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="keep the generated posts in this folder, and use those it has")
    parser.add_argument("--last-day", type=dt.date.fromisoformat, default=dt.date(2026, 11, 7))
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout that is measured (default: this one)")
    parser.add_argument("--before", type=Path, help="another checkout, for the cases c, f and g")
    parser.add_argument("--backfill-days", type=int, default=365, help="days of case f (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results.json")
    args = parser.parse_args()
    if unknown := set(args.cases) - set("abcdefgh"):
        parser.error(f"--cases: {', '.join(sorted(unknown))}: the cases are a to h")
    if args.data:
        args.data = args.data.resolve()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    about = machine()
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as work:
        bench = Bench(args, Path(work))
        bench.cold_report("warm-up", bench.posts(TINY), "classic")
        for case in args.cases:
            getattr(bench, f"case_{case}")()
        print_table(bench, about)
        write_results(bench, about, args.results)


if __name__ == "__main__":
    main()

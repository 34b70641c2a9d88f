"""Measure WordCount beside Beam's own example and beside DuckDB, and print the figures with their targets.

The text is King Lear, repeated. Each run is a fresh process, timed from its start to its end, imports included; product
and DuckDB take turns, a figure is the median. Beam's example reads the first `--beam-mb` alone, because it would take
many minutes for all; what it takes to start is measured on one line, and taken off on both sides for a second figure.

    python -m benchmarks.words --text ../shared/data/text/kinglear.txt
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import duckdb

from benchmarks.measure import Measure, measure
from benchmarks.run import ROOT, alternate, median, show

#: As many times as fast as Beam's example, and of DuckDB's time, at least and at most.
BEAM, DUCKDB = 5.0, 1.5


def repeated(text: Path, megabytes: float, out: Path) -> Path:
    """Write a text again and again, whole lines up to a size, and return where."""
    data = text.read_bytes()
    size, left = int(megabytes * 1e6), int(megabytes * 1e6)
    with out.open("wb") as file:
        while left > len(data):
            left -= file.write(data)
        file.write(data[: data.rfind(b"\n", 0, max(left, 1000)) + 1])
    print(f"{out.stat().st_size / 1e6:,.1f} MB of {size / 1e6:,.1f} MB: {out}")
    return out


class Bench:
    """The runs, and where they write."""

    def __init__(self, work: Path) -> None:
        self.work, self.runs = work, 0
        self.env = {**os.environ, "PYTHONPATH": str(ROOT)}

    def _fresh(self) -> Path:
        self.runs += 1
        folder = self.work / f"run-{self.runs}"
        folder.mkdir()
        return folder

    def _run(self, folder: Path, *command: str) -> Measure:
        return measure([sys.executable, *command], ROOT, self.env, folder / "log")

    def ours(self, text: Path) -> Measure:
        """Run WordCount as people do."""
        folder = self._fresh()
        storage = str(folder / "data")
        flags = ["--input", str(text), "--name", "words", "--local-scheduler", "--millrace-storage", storage]
        found = self._run(folder, "-m", "luigi", "--module", "workflows", "WordCount", *flags)
        (made,) = folder.glob("data/word_totals/*/*/*.parquet")
        shutil.copy(made, self.work / "ours.parquet")
        return found

    def duckdb(self, text: Path, way: str) -> Measure:
        """Run a script over DuckDB."""
        out = str(self.work / f"{way}.parquet")
        flags = ["--input", str(text), "--out", out, "--way", way, "--ascii"]
        return self._run(self._fresh(), "-m", "benchmarks.duckdb_words", *flags)

    def beam(self, text: Path) -> Measure:
        """Run Beam's example, in process, on the runner that ours runs on."""
        folder = self._fresh()
        flags = ["--input", str(text), "--output", str(folder / "out"), "--runner", "FnApiRunner"]
        return self._run(folder, "-m", "apache_beam.examples.wordcount", *flags)

    def same(self, *others: str) -> None:
        """Raise RuntimeError if tables differ."""
        columns = "SELECT word, count, source FROM '{}/{}.parquet'"
        for other in others:
            one, two = columns.format(self.work, "ours"), columns.format(self.work, other)
            query = f"SELECT count(*) FROM (({one} EXCEPT {two}) UNION ALL ({two} EXCEPT {one}))"
            if different := duckdb.connect().execute(query).fetchall()[0][0]:
                raise RuntimeError(f"{different} rows of ours and of {other} differ")


def line(what: str, figure: float, target: str, met: bool) -> str:
    """Return a printed line."""
    return f"{what:48} {figure:8.2f}  {target:8} {'met' if met else 'MISSED'}"


def main(argv: Sequence[str] | None = None) -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, default=ROOT.parent / "shared/data/text/kinglear.txt")
    parser.add_argument("--mb", type=float, default=500, help="megabytes of text")
    parser.add_argument("--beam-mb", type=float, default=25, help="megabytes of it for Beam's example")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="bench-words-") as folder:
        work = Path(folder)
        bench = Bench(work)
        text = repeated(args.text, args.mb, work / "text.txt")
        part = repeated(args.text, args.beam_mb, work / "part.txt")
        little = repeated(args.text, 0.001, work / "little.txt")
        bench.ours(little)
        ours, tokens = alternate(args.runs, lambda: bench.ours(text), lambda: bench.duckdb(text, "tokens"))
        bench.same("tokens")
        plain = [bench.duckdb(text, "plain")]
        bench.same("plain")
        beam, start, beams_start = (
            [bench.beam(part)],
            *alternate(args.runs, lambda: bench.ours(little), lambda: bench.beam(little)),
        )
        mb, beam_mb = text.stat().st_size / 1e6, part.stat().st_size / 1e6

        def rate(runs: Sequence[Measure], megabytes: float, started: Sequence[Measure] = ()) -> float:
            return megabytes / (median(runs).wall - (median(started).wall if started else 0))

        for name, runs, megabytes in (
            ("WordCount", ours, mb),
            ("DuckDB, distinct tokens", tokens, mb),
            ("DuckDB, the expression on each line", plain, mb),
            ("Beam's example", beam, beam_mb),
        ):
            print(f"{name:48} {show(runs)}, {rate(runs, megabytes):.2f} MB/s")
        print(f"{'started and done with 1 kB: WordCount, Beam':48} {show(start)}; {show(beams_start)}")
        whole = rate(ours, mb) / rate(beam, beam_mb)
        beyond = rate(ours, mb, start) / rate(beam, beam_mb, beams_start)
        print(line("MB/s / Beam's example, whole process", whole, f"≥ {BEAM}", whole >= BEAM))
        print(line("MB/s / Beam's example, beyond the start", beyond, f"≥ {BEAM}", beyond >= BEAM))
        for name, runs in (("distinct tokens", tokens), ("the expression on each line", plain)):
            ratio = median(ours).wall / median(runs).wall
            print(line(f"time / DuckDB's, {name}", ratio, f"≤ {DUCKDB}", ratio <= DUCKDB))


if __name__ == "__main__":
    main()

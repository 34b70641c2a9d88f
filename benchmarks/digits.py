"""Measure ScoreDigits' pipeline beside onnxruntime alone, and beside scoring row by row, and print images a second.

The images are the real ones, again and again. Each run is a fresh process, and the sides take turns; a figure is the
median. What is timed: of onnxruntime the calls alone, on one thread as in the pipeline, on images that lie in memory as
it takes them, as many at a time as the pipeline gives it; of the pipelines all, from building them to their last file.
Row by row is what most examples do: an element is an image, and the model is called for each. Where a machine has other
work, seconds tell little. So beside them stand the images a second of CPU time: of the thread that calls the model,
which is what the clock shows where a second processor is free for reading text, and of the whole process.

    python -m benchmarks.digits --images ../shared/data/digits/images.txt.gz
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.run import ROOT
from millrace.beam.options import run
from pipelines.digits import load, models, score, scoring
from pipelines.digits.images import Pixels, pixels_of

NAMES = ("by the clock", "of the thread's CPU", "of all CPU")
#: Of onnxruntime's images a second, at least.
TARGET = 0.8
#: The first of these is what the others are compared with.
WAYS = ("onnxruntime", "pipeline, text", "pipeline, bytes", "row by row")


def table_of(images: Path, times: int, work: Path) -> None:
    """Write the images, so many times, as tables of text and of bytes, and once for row by row."""
    run(load.build, [f"--source={images}", f"--output={work}/{{dataset}}"])
    (made,) = (work / "digits").glob("*.parquet")
    blocks = [
        pq.ParquetFile(made).read_row_group(n, ["id", "image"]) for n in range(pq.read_metadata(made).num_row_groups)
    ]
    for form in ("text", "bytes"):
        schema = pa.schema([("id", pa.int64()), ("image", pa.string() if form == "text" else pa.binary())])
        ready = [block if form == "text" else as_bytes(block, schema) for block in blocks]
        with pq.ParquetWriter(work / f"{form}.parquet", schema, compression="lz4", use_dictionary=False) as file:
            for _ in range(times):
                for block in ready:
                    file.write_table(block)


def as_bytes(block: pa.Table, schema: pa.Schema) -> pa.Table:
    levels = [np.rint(pixels_of(image) * 255).astype(np.uint8).tobytes() for image in block["image"].to_pylist()]
    return pa.table([block["id"], pa.array(levels)], schema=schema)


class Row(beam.DoFn):
    def __init__(self) -> None:
        self._session: Any = None

    def setup(self) -> None:
        self._session = scoring.load_model(models.read_model(models.BUNDLED), models.BUNDLED)

    def process(self, row: dict[str, str]) -> list[dict[str, object]]:
        (probabilities,) = scoring.score(self._session, pixels_of(row["image"])[None])
        return [{"id": row["id"], "digit": int(probabilities.argmax()), "p": probabilities.tolist()}]


class Took(NamedTuple):
    """What a run took: seconds, and those of CPU time of the thread that calls the model and of the process."""

    wall: float
    thread: float
    process: float


def clocks() -> Took:
    return Took(time.perf_counter(), time.thread_time(), time.process_time())


def one(way: str, work: Path, times: int) -> tuple[int, Took]:
    """Return how many images were scored, and what that took."""
    if way == WAYS[0]:
        session = scoring.load_model(models.read_model(models.BUNDLED), models.BUNDLED)
        table = pq.read_table(work / "digits", columns=["image"], partitioning=None)
        images: Pixels = np.stack([pixels_of(image) for image in table["image"].to_pylist()])
        began, done = clocks(), 0
        for _ in range(times):
            for at in range(0, len(images), score.ROWS):
                done += len(scoring.score(session, images[at : at + score.ROWS]))
        return done, since(began)
    began = clocks()
    if way == WAYS[-1]:
        made, out = "rows-*", pa.schema([("id", pa.int64()), ("digit", pa.int64()), ("p", pa.list_(pa.float32()))])
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            rows = pipeline | beam.io.ReadFromParquet(f"{work}/digits/*.parquet", columns=["id", "image"])
            rows | beam.ParDo(Row()) | beam.io.WriteToParquet(f"{work}/rows", out)
    else:
        form = way.partition(", ")[2]
        made = f"digit_predictions-{form}/*.parquet"
        run(score.build, [f"--input={work}/{form}.parquet", f"--output={work}/{{dataset}}-{form}"])
    took = since(began)
    return sum(pq.read_metadata(each).num_rows for each in work.glob(made)), took


def since(began: Took) -> Took:
    return Took(*(now - then for now, then in zip(clocks(), began, strict=True)))


def apart(way: str, work: Path, times: int) -> Took:
    """Return the images a second of a way, in a process of its own, by each clock."""
    command = [sys.executable, "-m", "benchmarks.digits", "--one", way, "--work", str(work), "--times", str(times)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    images, took = json.loads(done.stdout.splitlines()[-1])
    if images != (times if way != WAYS[-1] else 1) * 10_000:
        raise RuntimeError(f"{way}: {images:,} images were scored")
    return Took(*(images / seconds for seconds in took))


def main(argv: Sequence[str] | None = None) -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=ROOT.parent / "shared/data/digits/images.txt.gz")
    parser.add_argument("--times", type=int, default=20, help="how often the 10,000 images are there")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        print(json.dumps(one(args.one, args.work, args.times)))
        return
    with tempfile.TemporaryDirectory(prefix="bench-digits-") as folder:
        table_of(args.images, args.times, Path(folder))
        rates: dict[str, list[Took]] = {way: [] for way in WAYS}
        for _ in range(args.runs):
            for way in WAYS:
                rates[way].append(apart(way, Path(folder), args.times))
    middle = {way: Took(*map(median, zip(*found, strict=True))) for way, found in rates.items()}
    for way, found in middle.items():
        each = ", ".join(
            f"{name} {rate:,.0f} ({rate / alone:.2f} ×)"
            for name, rate, alone in zip(NAMES, found, middle[WAYS[0]], strict=True)
        )
        print(f"{way:16} images/s {each}; runs {', '.join(f'{rate.wall:,.0f}' for rate in rates[way])}")
    for way in WAYS[1:-1]:
        ratio = middle[way].wall / middle[WAYS[0]].wall
        print(f"{way:16} {ratio:.2f} ≥ {TARGET}  {'met' if ratio >= TARGET else 'MISSED'}")


if __name__ == "__main__":
    main()

"""Images of a table → what an ONNX model says of each, and the rows that are no images, with the reason.

Always: read = kept + rejected. Run alone:

    python -m pipelines.digits.score --input 'out/digits/*.parquet' --output 'out/{dataset}'
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.ml.inference.base import KeyedModelHandler, PredictionResult, RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from numpy.typing import NDArray

from millrace.beam import files
from millrace.beam.batch import Batch, Block, Item
from millrace.beam.options import StageOptions, main
from millrace.common.partitions import Partition
from millrace.common.results import Written
from millrace.common.tables import type_of
from millrace.errors import SourceError
from pipelines.digits import images, models, scoring
from pipelines.digits.images import PIXELS, NotAnImageError, Pixels
from pipelines.digits.tables import TABLES, P

#: Rows that are read and scored at once: few, because what comes before the first of them waits.
ROWS = 256
#: Row groups of a file of images whose predictions become one file, because those are a fortieth as large.
GROUPS = 32

PREDICTIONS = TABLES["digit_predictions"].schema()
#: What is no image: its id, the reason, and the image as it came, where it was a list as JSON.
REJECTED = pa.schema([("id", pa.int64()), ("reason", pa.string()), ("image", pa.large_binary())])


class ScoreOptions(StageOptions):
    """Options of score."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--model", default=models.BUNDLED, help="ONNX: a path, file://, gs:// or http(s):// URI")
        parser.add_argument("--digest", default="", help="the model's digest; another model is refused")


class _Read(NamedTuple):
    """Some rows, read: the ids and pixels of images, and the dead letters."""

    ids: pa.Array
    pixels: Pixels
    rejects: list[tuple[int | None, NotAnImageError, bytes]]


def check_columns(digits: Partition) -> None:
    """Raise SourceError for a table that has no ids or no images, whatever its rows are."""
    if not digits.input:
        return
    with files.open_checked(digits.input[0]) as stream:
        schema = pq.read_schema(stream)
    for name, fits, allowed in (("id", pa.types.is_integer, "INT64"), ("image", images.may_be, images.ALLOWED)):
        if name not in schema.names:
            raise SourceError(f"the table has no column {name}, but {', '.join(schema.names)}", mend=_MEND)
        if not fits(kind := schema.field(name).type):
            raise SourceError(f"the table's column {name} is {type_of(str(kind))}, not {allowed}", mend=_MEND)


_MEND = "--images takes a table with a column id and a column image"


def read_block(digits: Partition, block: Block) -> Iterator[Item]:
    """Yield the images of a block, as many at a time as are scored at once, and write its dead letters."""
    table = block.table
    slices = [table.slice(at, ROWS) for at in range(0, table.num_rows, ROWS)]
    rejects = []
    # While some rows are scored, which is what becomes of them when they are yielded, the next ones are read.
    with ThreadPoolExecutor(1) as pool:
        for number, read in enumerate(_ahead(pool, slices)):
            rejects += read.rejects
            if len(read.ids):
                pixels = pa.FixedSizeListArray.from_arrays(pa.array(read.pixels.ravel()), PIXELS)
                name = f"{block.order:05d}-{block.number // GROUPS:05d}"
                yield f"{name}/{block.number}-{number}", pa.table([read.ids, pixels], names=["id", "pixels"])
    counters = Counter(f"rejected: {why.kind}" for _, why, _ in rejects)
    yield Written(counters={"read": table.num_rows, "kept": table.num_rows - len(rejects), **counters})
    if rejects:
        rows = [(number, str(why), image) for number, why, image in rejects]
        columns = [pa.array(each, kind) for each, kind in zip(zip(*rows, strict=True), REJECTED.types, strict=True)]
        dead = pa.Table.from_arrays(columns, schema=REJECTED)
        name = f"digit_predictions_rejected-{block.name}"
        yield files.write_parquet(digits.output, "digit_predictions_rejected", name, dead)


def _ahead(pool: ThreadPoolExecutor, slices: list[pa.Table]) -> Iterator[_Read]:
    following = None
    for each in [*slices, None]:
        current, following = following, each and pool.submit(_read, each)
        if current:
            yield current.result()


def _read(table: pa.Table) -> _Read:
    ids, column = (table[name].combine_chunks() for name in ("id", "image"))
    pixels, good = images.read_column(column)
    if ids.null_count:
        has_id = ids.is_valid().to_numpy(zero_copy_only=False)
        pixels, good = pixels[has_id[good]], good & has_id
    if good.all():
        return _Read(ids.cast(pa.int64()), pixels, [])
    late, rejects = dict[int, Pixels](), []
    for row in np.flatnonzero(~good).tolist():
        number, value = ids[row].as_py(), column[row].as_py()
        try:
            if number is None:
                raise NotAnImageError("no id")
            late[row] = images.pixels_of(value)
        except NotAnImageError as why:
            rejects.append((number, why, _as_bytes(value)))
    if late:
        pixels, good = _inserted(pixels, good, late)
    return _Read(ids.filter(pa.array(good)).cast(pa.int64()), pixels, rejects)


def _inserted(pixels: Pixels, good: NDArray[np.bool_], late: dict[int, Pixels]) -> tuple[Pixels, NDArray[np.bool_]]:
    """Return pixels with those of further rows, and of each row whether it is there."""
    rows = np.concatenate([np.flatnonzero(good), list(late)])
    found = np.concatenate([pixels, np.stack(list(late.values()))])[np.argsort(rows)]
    there = good.copy()
    there[list(late)] = True
    return found, there


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, list):
        return json.dumps(value).encode()
    return value.encode() if isinstance(value, str) else value or b""


class Score(beam.PTransform):
    """(key and name, images) → (key and the name before its /, predictions), through Beam's RunInference."""

    def __init__(self, uri: str, digest: str) -> None:
        super().__init__()
        # An element is as many images as the model is given at once.
        self._model = scoring.DigitModel(uri, digest, min_batch_size=1, max_batch_size=1)

    def expand(self, tables: Any) -> Any:
        inference: Any = RunInference(KeyedModelHandler(self._model), model_identifier=f"digits {self._model.digest}")
        named = models.called(self._model.uri, self._model.digest)
        return tables | beam.Map(_keyed) | inference | beam.Map(_predictions, named)


def _keyed(element: tuple[tuple[str, str], pa.Table]) -> tuple[tuple[str, str, pa.Array], Pixels]:
    (key, name), table = element
    (pixels,), (ids,) = table["pixels"].chunks, table["id"].chunks  # as a slice was read, or a worker got it
    return (key, name.partition("/")[0], ids), pixels.flatten().to_numpy().reshape(-1, PIXELS)


def _predictions(element: tuple[Any, PredictionResult], model: str) -> tuple[tuple[str, str], pa.Table]:
    (key, name, ids), result = element
    found: Any = result.inference
    columns = [ids, *found.T.astype(np.float64), found.argmax(axis=1), pa.repeat(model, len(ids))]
    return (key, name), pa.table([pa.array(each) for each in columns], schema=PREDICTIONS)


def write(digits: Partition, name: str, tables: Iterable[pa.Table]) -> Iterator[Written]:
    """Write predictions, in the order of their ids."""
    table = pa.concat_tables(tables).sort_by([("id", "ascending"), *((p, "ascending") for p in P)])
    yield files.write_parquet(digits.output, "digit_predictions", f"digit_predictions-{name}", table.combine_chunks())


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Add the pipeline: read by block, score, write. Raises SourceError for a model that does not fit."""
    batch = Batch(pipeline, options, ScoreOptions)
    ((uri, digest),) = {(each.options["model"], each.options["digest"]) for each in batch.partitions.values()}
    model = scoring.DigitModel(uri, digest or models.digest_of(models.read_model(uri)))
    model.load_model()  # before anything is read
    batch.find(check_columns)
    batch.blocks("id", "image").each(read_block).through(Score(uri, model.digest)).by_key(write)
    batch.results("digit_predictions")


if __name__ == "__main__":
    main(build, ScoreOptions)

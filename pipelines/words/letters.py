"""Texts → how often each lower-cased word from a to f comes, and how many words begin with each letter.

Run alone:

    python -m pipelines.words.letters --source 'texts/*.txt' --name lear --output 'out/{dataset}'
"""

from collections.abc import Iterable, Iterator

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.options.pipeline_options import PipelineOptions

from millrace.beam import files
from millrace.beam.batch import Batch, Item
from millrace.beam.options import main
from millrace.beam.sources.ranges import Unit
from millrace.common.partitions import Partition
from millrace.common.results import Written
from pipelines.words import tokens
from pipelines.words.texts import TextOptions, read, units

#: Output → what its key is called.
KEYS = {"words_a_to_f": "word", "letter_totals": "letter"}
#: Words that are Python's at a time, because they take several times as much memory as Arrow's.
_LOWERED = 1 << 16


def schema(name: str) -> pa.Schema:
    """Return the columns of an output."""
    return pa.schema([(KEYS[name], pa.string()), ("count", pa.int64()), ("source", pa.string())])


def count_text(texts: Partition, unit: Unit) -> Iterator[Item]:
    """Yield both counts of a text, or of a range of one, which is read and cut into words once."""
    as_written, invalid = tokens.count_words(read(texts, unit))
    words, counts = _lowered(as_written["key"]), as_written["count"]
    letters = pc.utf8_slice_codeunits(words, 0, 1)
    few = pc.is_in(letters, pa.array(list("abcdef")))
    yield Written(counters={"invalid_bytes": invalid, "words": pc.sum(counts, min_count=0).as_py()})
    yield "words_a_to_f", tokens.summed(words.filter(few), counts.filter(few))
    yield "letter_totals", tokens.summed(letters, counts)


def _lowered(words: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return words in lower case as Python has it, because Arrow goes character by character."""
    few = (words.slice(at, _LOWERED).to_pylist() for at in range(0, len(words), _LOWERED))
    return pa.chunked_array([[word.lower() for word in each] for each in few], pa.string())


def write(texts: Partition, name: str, tables: Iterable[pa.Table]) -> Iterator[Written]:
    """Write the sum of all texts, in the order of its keys."""
    total = tokens.add(list(tables)).sort_by("key")
    columns = [total["key"], total["count"], pa.repeat(texts.options["name"], total.num_rows)]
    yield files.write_parquet(texts.output, name, name, pa.Table.from_arrays(columns, schema=schema(name)))


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Add the pipeline: one read, two counts."""
    batch = Batch(pipeline, options, TextOptions)
    batch.units(units).each(count_text).add_up(tokens.add).by_key(write)
    batch.results("letter_totals")


if __name__ == "__main__":
    main(build, TextOptions)

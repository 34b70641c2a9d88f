"""Texts → how often each word comes, as a table and as lines of text ("word: count").

Run alone:

    python -m pipelines.words.count --source 'texts/*.txt.gz' --name lear --output 'out/{dataset}'
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

WORD_TOTALS = pa.schema([("word", pa.string()), ("count", pa.int64()), ("source", pa.string())])


def count_text(texts: Partition, unit: Unit) -> Iterator[Item]:
    """Yield how often each word of a text, or of a range of one, comes."""
    counted, invalid = tokens.count_words(read(texts, unit))
    yield Written(counters={"invalid_bytes": invalid})
    yield "words", counted


def write(texts: Partition, name: str, tables: Iterable[pa.Table]) -> Iterator[Written]:
    """Write the sum of all texts, in the order of the words."""
    total = tokens.add(list(tables)).sort_by("key")
    source = pa.repeat(texts.options["name"], total.num_rows)
    columns = [total["key"], total["count"], source]
    yield files.write_parquet(
        texts.output, "word_totals", "word_totals", pa.Table.from_arrays(columns, schema=WORD_TOTALS)
    )
    lines = pc.binary_join_element_wise(total["key"], total["count"].cast(pa.string()), ": ")
    yield files.write_lines(texts.output, "word_texts", "words.txt", lines)
    yield Written(counters={"words": pc.sum(total["count"]).as_py() or 0, "distinct": total.num_rows})


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Add the pipeline: count by text, add up before the shuffle and after it."""
    batch = Batch(pipeline, options, TextOptions)
    batch.units(units).each(count_text).add_up(tokens.add).by_key(write)
    batch.results("word_totals")


if __name__ == "__main__":
    main(build, TextOptions)

"""Texts → how often each lower-cased word from a to f comes, and how many words begin with each letter.

Run alone:

    python -m pipelines.words.letters --source 'texts/*.txt' --name lear --output 'out/{dataset}'
"""

from collections import Counter
from collections.abc import Iterable, Iterator

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions

from millrace.beam import files
from millrace.beam.batch import Batch, Item
from millrace.beam.options import main
from millrace.beam.sources.named import Stored
from millrace.common.partitions import Partition
from millrace.common.results import Written
from pipelines.words import tokens
from pipelines.words.texts import TextOptions, files_of, read

#: Output → what its key is called.
KEYS = {"words_a_to_f": "word", "letter_totals": "letter"}


def schema(name: str) -> pa.Schema:
    """Return the columns of an output."""
    return pa.schema([(KEYS[name], pa.string()), ("count", pa.int64()), ("source", pa.string())])


def count_file(texts: Partition, file: Stored) -> Iterator[Item]:
    """Yield both counts of a file, whose text is read and cut into words once."""
    as_written, invalid = tokens.count_words(read(texts, file))
    few, letters = Counter[str](), Counter[str]()
    for written, count in as_written.items():
        word = written.lower()
        letters[word[0]] += count
        if "a" <= word[0] <= "f":
            few[word] += count
    yield Written(counters={"invalid_bytes": invalid, "words": as_written.total()})
    yield "words_a_to_f", tokens.to_table(few)
    yield "letter_totals", tokens.to_table(letters)


def write(texts: Partition, name: str, tables: Iterable[pa.Table]) -> Iterator[Written]:
    """Write the sum of all files, in the order of its keys."""
    total = tokens.add(list(tables))
    columns = [total["key"], total["count"], pa.repeat(texts.options["name"], total.num_rows)]
    yield files.write_parquet(texts.output, name, name, pa.Table.from_arrays(columns, schema=schema(name)))


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Add the pipeline: one read, two counts."""
    batch = Batch(pipeline, options, TextOptions)
    batch.units(files_of).each(count_file).add_up(tokens.add).by_key(write)
    batch.results("letter_totals")


if __name__ == "__main__":
    main(build, TextOptions)

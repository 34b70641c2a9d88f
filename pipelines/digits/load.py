"""A source's images → the table of digits, as text, with their labels where they are given.

Run alone:

    python -m pipelines.digits.load --source 't10k-images-idx3-ubyte.gz' --labels 't10k-labels-idx1-ubyte.gz' \
        --output 'out/{dataset}'
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.options.pipeline_options import PipelineOptions

from millrace.beam.batch import Batch, Block, Item
from millrace.beam.files import ParquetFile
from millrace.beam.options import StageOptions, main
from millrace.beam.rejects import dead_letters
from millrace.beam.sources import bounds, named, records
from millrace.beam.sources.named import Stored
from millrace.common.checksums import Input
from millrace.common.partitions import Partition
from millrace.common.results import Written
from millrace.errors import NotThereYetError, SourceError
from pipelines.digits import readers, sample
from pipelines.digits.sources import SAMPLE

#: The tables of labels, by the partition's key and their name.
Labels: TypeAlias = Mapping[tuple[str, str], Iterable[pa.Table]]


class LoadOptions(StageOptions):
    """Options of load."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        where = "a path or glob, file://, gs:// or http(s):// URI"
        bounds.add_options(parser, f"images: {SAMPLE}, {where}", "files (none here)")
        parser.add_argument("--labels", default="", help=f"their labels, where no file of images has them: {where}")


def files_of(digits: Partition) -> list[tuple[int, int, Stored]]:
    """Return the files of images, each with its number and how many there are. Raises NotThereYetError for none."""
    found = _files(digits, "source")
    return [(number, len(found), file) for number, file in enumerate(found)]


def labels_of(digits: Partition) -> list[Stored]:
    """Return the files of labels."""
    return _files(digits, "labels") if digits.options["labels"] else []


def _files(digits: Partition, option: str) -> list[Stored]:
    source = digits.options[option]
    named.check(source, [SAMPLE])
    if named.is_generated(source):
        return [Stored(source)]
    if not (found := named.stored(source, None, bounds.hosts(digits.options))):
        raise NotThereYetError(f"source {source} has no file")
    return found


def read_labels(digits: Partition, file: Stored) -> Iterator[Item]:
    """Yield labels by id, in the order of the ids."""
    with named.open_uri(file.uri, *bounds.transfer(digits.options)) as stream:
        found = sorted(readers.read_labels(stream, file.uri).items())
    ids, labels = (np.array([row[at] for row in found], np.int64) for at in (0, 1))
    digit = (labels >= 0) & (labels <= 9)
    yield Written(counters={"labels": int(digit.sum()), "labels that are no digit": int((~digit).sum())})
    yield "labels", pa.table({"id": ids[digit], "label": labels[digit]})


def load_file(
    digits: Partition, unit: tuple[int, int, Stored], labels: Mapping[tuple[str, str], Iterable[pa.Table]]
) -> Iterator[Written]:
    """Write the images of a file, a row group a block, and its dead letters."""
    number, of, file = unit
    given = None
    if digits.options["labels"]:
        if not (tables := list(labels[digits.key, "labels"])):  # the error of the labels is the partition's
            return
        given = pa.concat_tables(tables)
    with ParquetFile(digits.output, "digits", f"digits-{number:05d}-of-{of:05d}", readers.DIGITS) as output:
        for at, images in enumerate(_images(digits, file)):
            if images.placed and of > 1:
                raise SourceError(
                    f"source {digits.options['source']} has {of} files, and {file.uri} has no ids, so that its images "
                    "would have those of another file",
                    mend="load a file, or give each image an id",
                )
            table = images.table
            if given is not None:
                table = table.set_column(2, readers.DIGITS.field(2), labelled(table, given))
            output.write(table)
            counters = {"read": table.num_rows + len(images.rejects), "kept": table.num_rows}
            yield Written(counters=counters | {"labelled": table.num_rows - table["label"].null_count})
            if images.block is not None:
                block = Block(number, Input(file.uri), at, records.table(file.uri, images.block))
                yield dead_letters(digits, "digits_rejected", block, images.rejects)
        yield output.close()


def _images(digits: Partition, file: Stored) -> Iterator[readers.Images]:
    if file.uri == SAMPLE:
        yield sample.images()
        return
    with named.open_uri(file.uri, *bounds.transfer(digits.options)) as stream:
        yield from readers.read(stream, file.uri)


def labelled(images: pa.Table, labels: pa.Table) -> pa.ChunkedArray:
    """Return the label of each image, by its id; a label that came with the image stays where none is given."""
    at = pc.index_in(images["id"], labels["id"])
    return pc.coalesce(labels["label"].take(at), images["label"])


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Add the pipeline: a file is a unit of work."""
    batch = Batch(pipeline, options, LoadOptions)
    labels = batch.units(labels_of).each(read_labels).by_name()
    batch.units(files_of).each(load_file, labels)
    batch.results("digits")


if __name__ == "__main__":
    main(build, LoadOptions)

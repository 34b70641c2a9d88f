"""Where texts come from: the files of a source, large ones in ranges, in pieces that cut no word."""

import argparse
from collections.abc import Iterator

from millrace.beam.options import StageOptions
from millrace.beam.sources import bounds, named, texts
from millrace.beam.sources.ranges import Unit
from millrace.common.partitions import Partition
from millrace.errors import NotThereYetError


class TextOptions(StageOptions):
    """Options of what reads texts."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        bounds.add_options(parser, "texts: a path or glob, file://, gs:// or http(s):// URI", "texts")
        parser.add_argument("--name", default="", help="what the tables call the source")


def units(partition: Partition) -> list[Unit]:
    """Return what there is to read. Raises NotThereYetError if there is nothing."""
    given = partition.options
    named.check(given["source"])
    found = texts.units(given["source"], given["range_bytes"], given["max_source_bytes"], bounds.hosts(given))
    if not found:
        raise NotThereYetError(f"source {given['source']} has no file")
    return found


def read(partition: Partition, unit: Unit) -> Iterator[bytes]:
    """Yield the pieces of a text, or of a range of one."""
    return texts.read(unit, *bounds.transfer(partition.options))

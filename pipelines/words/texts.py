"""Where texts come from: the files of a source, large ones in ranges, in pieces that cut no word."""

import argparse
from collections.abc import Iterator

from millrace.beam.options import StageOptions
from millrace.beam.sources import named, ranges, texts
from millrace.beam.sources.ranges import Unit
from millrace.common.partitions import Partition
from millrace.errors import NotThereYetError


class TextOptions(StageOptions):
    """Options of what reads texts."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--source", required=True, help="texts: a path or glob, file://, gs:// or http(s):// URI")
        parser.add_argument("--name", default="", help="what the tables call the source")
        parser.add_argument("--max_source_bytes", type=int, default=10 << 30, help="larger files are refused")
        parser.add_argument("--max_transfer_seconds", type=int, default=3600, help="a file by HTTP may take so long")
        parser.add_argument("--redirect_hosts", default="", help="other hosts that HTTP may redirect to, by commas")
        parser.add_argument(
            "--range_bytes", type=int, default=ranges.LENGTH, help="larger texts are read in such ranges"
        )


def units(partition: Partition) -> list[Unit]:
    """Return what there is to read. Raises NotThereYetError if there is nothing."""
    given = partition.options
    named.check(given["source"])
    found = texts.units(given["source"], given["range_bytes"], given["max_source_bytes"], _hosts(partition))
    if not found:
        raise NotThereYetError(f"source {given['source']} has no file")
    return found


def read(partition: Partition, unit: Unit) -> Iterator[bytes]:
    """Yield the pieces of a text, or of a range of one."""
    given = partition.options
    return texts.read(unit, given["max_source_bytes"], given["max_transfer_seconds"], _hosts(partition))


def _hosts(partition: Partition) -> list[str]:
    return [host for host in partition.options["redirect_hosts"].split(",") if host]

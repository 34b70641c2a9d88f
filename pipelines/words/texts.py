"""Where texts come from: the files of a source, each cut into pieces between words."""

import argparse
from collections.abc import Iterator
from typing import IO

from millrace.beam.options import StageOptions
from millrace.beam.sources import named
from millrace.beam.sources.named import Stored
from millrace.common.partitions import Partition
from millrace.errors import NotThereYetError

#: Bytes that are read at a time.
PIECE = 8 << 20


class TextOptions(StageOptions):
    """Options of what reads texts."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--source", required=True, help="texts: a path or glob, file://, gs:// or http(s):// URI")
        parser.add_argument("--name", default="", help="what the tables call the source")
        parser.add_argument("--max_source_bytes", type=int, default=10 << 30, help="larger files are refused")


def files_of(texts: Partition) -> list[Stored]:
    """Return the files of a source. Raises NotThereYetError if there are none."""
    source = texts.options["source"]
    named.check(source)
    found = named.stored(source, None)
    if not found:
        raise NotThereYetError(f"source {source} has no file")
    return found


def read(texts: Partition, file: Stored) -> Iterator[bytes]:
    """Yield a file in pieces, decompressed."""
    with named.open_uri(file.uri, texts.options["max_source_bytes"]) as stream:
        yield from pieces(stream)


def pieces(stream: IO[bytes], size: int = PIECE) -> Iterator[bytes]:
    """Yield the bytes of a stream, cut after a line feed or a space, so that no word and no character is cut."""
    held: list[bytes] = []
    while data := stream.read(size):
        end = max(data.rfind(b"\n"), data.rfind(b" ")) + 1
        if end:
            yield b"".join([*held, data[:end]])
            held = []
        held.append(data[end:])
    yield b"".join(held)

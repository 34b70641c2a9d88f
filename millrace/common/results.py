"""What a pipeline tells of a partition: `Written`, or the error, which its launcher finds in `_result.json`."""

import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from millrace.errors import TransientError, from_data

RESULT = "_result.json"
_LATE = re.compile(r"/late-[0-9a-f]{16}(?=/[^/]*$)")


@dataclass(frozen=True)
class File:
    """A file that a pipeline wrote: its path, its table (a label), rows, bytes, and the CRC-32C of its bytes as hex."""

    path: str
    table: str
    rows: int
    bytes: int
    crc32c: str


@dataclass(frozen=True)
class Written:
    """What one bundle wrote and counted: files, counters (name → number) and each table's columns (name → type).

    error: an error of ours as data, if there was one; then nothing of the partition counts. superseded: paths of files
    that were written on the way to others; they are deleted when the partition's result is there.
    """

    files: Sequence[File] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    schemas: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None
    superseded: Sequence[str] = ()


def merge_written(parts: Iterable[Written]) -> Written:
    """Return the sum of several: files in order of the names that were asked for, counters added; of several errors
    one, always the same.
    """
    files: list[File] = []
    counters: dict[str, int] = {}
    schemas: dict[str, Mapping[str, str]] = {}
    errors: list[Mapping[str, Any]] = []
    superseded: list[str] = []
    for part in parts:
        files += part.files
        for name, count in part.counters.items():
            counters[name] = counters.get(name, 0) + count
        schemas |= part.schemas
        errors += [part.error] if part.error else []
        superseded += part.superseded
    error = min(errors, key=_weight, default=None)
    in_order = sorted(files, key=lambda f: (_LATE.sub("", f.path), f.path))
    return Written(in_order, dict(sorted(counters.items())), dict(sorted(schemas.items())), error, sorted(superseded))


def late(path: str) -> str:
    """Return a path of its own for a file whose name another file has: the same name, in a new folder beside it."""
    folder, name = os.path.split(path)
    return f"{folder}/late-{secrets.token_hex(8)}/{name}"


def _weight(error: Mapping[str, Any]) -> tuple[bool, str]:
    """Return what puts errors in order: first those that would come again."""
    return isinstance(from_data(error), TransientError), json.dumps(error, sort_keys=True)


def to_result(written: Written) -> bytes:
    """Return the content of `_result.json`: what was written, or the error alone."""
    value = asdict(written)
    error, _ = value.pop("error"), value.pop("superseded")
    return json.dumps({"error": error} if error else value, indent=1).encode()


def read_result(data: bytes) -> Written:
    """Return what `_result.json` tells of. Raises the error that it holds."""
    value = json.loads(data)
    if "error" in value:
        raise from_data(value["error"])
    return Written([File(**f) for f in value["files"]], value["counters"], value["schemas"])

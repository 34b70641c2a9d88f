"""What a pipeline tells of what it wrote: `Written`, which its launcher finds in the file `_result.json`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

RESULT = "_result.json"


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
    """What one bundle wrote and counted: files, counters (name → number) and each table's columns (name → type)."""

    files: Sequence[File] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    schemas: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def merge_written(parts: Iterable[Written]) -> Written:
    """Return the sum of several: files in order of path, counters added."""
    files: list[File] = []
    counters: dict[str, int] = {}
    schemas: dict[str, Mapping[str, str]] = {}
    for part in parts:
        files += part.files
        for name, count in part.counters.items():
            counters[name] = counters.get(name, 0) + count
        schemas |= part.schemas
    return Written(sorted(files, key=lambda f: f.path), dict(sorted(counters.items())), dict(sorted(schemas.items())))


def read_result(data: bytes) -> Written:
    """Return the content of `_result.json`."""
    value = json.loads(data)
    return Written([File(**f) for f in value["files"]], value["counters"], value["schemas"])

"""Files that are not as their manifests say: looked for, and reported with the command that makes them anew."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from millrace.common.checksums import Input
from millrace.core import keys
from millrace.core.manifests import FileEntry
from millrace.core.storage import Storage
from millrace.errors import Command, DamagedError

Stored: TypeAlias = Mapping[str, tuple[int, str]]


def check(storage: Storage, partition: str, files: Sequence[FileEntry]) -> None:
    """Raise DamagedError unless files that a partition's manifest names are there as they were written."""
    for error in differing(storage, files, stored(storage, files)):
        raise told(partition, error)


def stored(storage: Storage, files: Sequence[FileEntry]) -> Stored:
    """Return what lies in the folders of some files: bytes and checksums, by path."""
    folders = sorted({os.path.dirname(file.path) for file in files})
    return {path: (size, crc32c) for folder in folders for path, size, crc32c in storage.checksums(folder)}


def differing(storage: Storage, files: Sequence[FileEntry], there: Stored) -> Iterator[DamagedError]:
    """Yield what is wrong with files that are not there as they were written."""
    for file in files:
        uri = storage.uri(file.path)
        if file.path not in there:
            yield DamagedError(f"{uri} was written, but is not there any more")
            continue
        try:
            Input(uri, file.crc32c, file.bytes).check(*there[file.path])
        except DamagedError as error:
            yield error


def told(partition: str, error: DamagedError) -> DamagedError:
    """Return the error with the command that mends what it says."""
    mend = f"make partition {partition.replace('{', '{{').replace('}', '}}')} anew: {{0}}, then run again"
    return DamagedError(str(error), Command("clear", [keys.argument(partition)]), mend=mend)

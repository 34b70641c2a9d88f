"""Files that are not as their manifests say: looked for, and told of with the command that makes them anew."""

import os
from collections.abc import Sequence

from pipelines.checksums import Input
from pipelines.errors import DamagedError
from workflows.engine import advice
from workflows.engine.manifests import FileEntry
from workflows.engine.storage import Storage


def check(storage: Storage, partition: str, files: Sequence[FileEntry]) -> None:
    """Raises DamagedError unless files that a partition's manifest names are there as they were written."""
    there = {
        path: (size, crc32c)
        for folder in sorted({os.path.dirname(file.path) for file in files})
        for path, size, crc32c in storage.checksums(folder)
    }
    for file in files:
        try:
            entry = Input(storage.uri(file.path), file.crc32c, file.bytes)
            if file.path not in there:
                raise DamagedError(f"{entry.path} was written, but is not there any more")
            entry.check(*there[file.path])
        except DamagedError as error:
            raise told(partition, error) from None


def told(partition: str, error: DamagedError) -> DamagedError:
    """The error with what mends it."""
    return DamagedError(f"{error}; make partition {partition} anew: {advice.clear(partition)}, then run again")

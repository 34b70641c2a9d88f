"""What bin/doctor --data looks at: whether what manifests name is there, as it was written."""

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from millrace.common import folders
from millrace.core import damage, manifests
from millrace.core.findings import Finding, wrong
from millrace.core.manifests import Manifest
from millrace.errors import AccessError
from millrace.ops.checks.findings import in_bucket
from millrace.tasks import advice, session


@dataclass
class Looked:
    """How much was looked at so far; total: partitions to look at."""

    total: int = 0
    partitions: int = 0
    files: int = 0
    bytes: int = 0
    wrong: int = 0
    tell: Callable[["Looked"], object] = field(default=lambda looked: None)


def examine(first: datetime.date | None, last: datetime.date | None, looked: Looked) -> Iterator[tuple[str, Finding]]:
    """Yield the partitions of some days, or of all, that something is wrong with, and what that is.

    On this machine every byte is read; Cloud Storage tells sizes and checksums in a listing.
    """
    storage = session.current().storage
    paths = [path for path in storage.list("", manifests.NAME) if _within(path, first, last)]
    looked.total = len(paths)
    there: dict[str, Manifest] = {}
    for partition, found in manifests.read(storage, paths):
        if isinstance(found, Manifest):
            there[partition] = found
        else:
            looked.wrong += 1
            yield partition, wrong(str(found))
    listed = {path: (size, crc) for path, size, crc in storage.checksums("")} if in_bucket() else None
    for partition, manifest in there.items():
        looked.tell(looked)
        own = manifest.files_in(partition)
        mend = advice.clear(partition)
        try:
            stored = damage.stored(storage, own) if listed is None else listed
            told = [wrong(str(error), mend) for error in damage.differing(storage, own, stored)]
        except AccessError as error:  # what can't be reached may be whole
            told = [wrong(str(error))]
        told += [wrong(said, mend) for said in _further(partition, manifest, there)]
        looked.partitions += 1
        looked.files += len(own)
        looked.bytes += sum(file.bytes for file in own)
        looked.wrong += len(told)
        for each in told:
            yield partition, each


def _further(partition: str, manifest: Manifest, there: dict[str, Manifest]) -> list[str]:
    """Return what is wrong with the further datasets that were made with a partition."""
    _, _, key = partition.partition("/")
    others = {f"{file.path.partition('/')[0]}/{key}" for file in manifest.files} - {partition}
    return [
        f"{other}, which was made with {partition}, {'is of another attempt' if other in there else 'is not there'}"
        for other in sorted(others)
        if other not in there or there[other].attempt != manifest.attempt
    ]


def _within(path: str, first: datetime.date | None, last: datetime.date | None) -> bool:
    if first is None and last is None:
        return True
    date = folders.date_of(path)
    return date is not None and (first or date) <= date <= (last or date)

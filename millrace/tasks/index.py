"""Index: a file that is made of a file of every partition of a dataset, such as the page that lists all pages.

    LIST = Index("reports", "report.json", read=row, render=page_of_rows)

The stage of the dataset calls `LIST.make()` when it has written its files, and `LIST.remake()` in `cleared`.
"""

import logging
import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from millrace.common.checksums import Input
from millrace.core import damage, keys, manifests
from millrace.core.manifests import Manifest
from millrace.core.storage import Versioned, conflict_retries, read_all
from millrace.errors import DamagedError, ManifestError
from millrace.tasks import session

T = TypeVar("T")

log = logging.getLogger("millrace")


@dataclass(frozen=True)
class Index(Generic[T]):
    """An index over a dataset's partitions, those of every key.

    dataset, file: which file of each partition it is made of. read: makes a row of the file's bytes and of the link to
    the partition's page, relative to the index; raises ValueError for bytes that are none. render: makes the index of
    the rows. name: of the index in the dataset's folder, and of a partition's page in its own.
    """

    dataset: str
    file: str
    read: Callable[[bytes, str], T]
    render: Callable[[Sequence[T]], bytes]
    name: str = "index.html"

    @property
    def path(self) -> str:
        """The index's path in the storage."""
        return f"{self.dataset}/{self.name}"

    @property
    def uri(self) -> str:
        """Where the index is: a path or URI."""
        return session.current().storage.uri(self.path)

    def make(self) -> None:
        """Make the index of what is there."""
        storage = session.current().storage
        # The run that writes last must have seen all others' files: read the index's version, then the files, then
        # write.
        for again in conflict_retries():
            with again:
                there = storage.read(self.path)
                storage.replace(self.path, self.render(list(self._rows())), there.version if there else "")

    def remake(self) -> None:
        """Make the index anew, if there is one."""
        if session.current().storage.read(self.path):
            self.make()

    def _rows(self) -> Iterator[T]:
        """Yield a row for each partition. One whose file is damaged is left out, and the log says so."""
        storage = session.current().storage
        datasets = sorted(name for name in storage.names("") if keys.suffix_of(name, [self.dataset]) is not None)
        paths = [path for dataset in datasets for path in storage.list(dataset, self.file)]
        described = read_all(storage, [f"{posixpath.dirname(path)}/{manifests.NAME}" for path in paths])
        for path, manifest, data in zip(paths, described, read_all(storage, paths), strict=True):
            if data:
                try:
                    yield self._row(path, manifest, data)
                except ManifestError as error:
                    log.warning("%s; until then %s leaves it out", error, self.path)

    def _row(self, path: str, manifest: Versioned | None, data: Versioned) -> T:
        """Return the row of a partition. Raises ManifestError unless its file is as it was written."""
        uri, folder = session.current().storage.uri(path), posixpath.dirname(path)
        # A partition that is being made has no manifest yet.
        files = Manifest.from_json(manifest.data, f"{folder}/{manifests.NAME}").files if manifest else []
        try:
            for file in files:
                if file.path == path:
                    Input(uri, file.crc32c, file.bytes).check_bytes(data.data)
            return self.read(data.data, posixpath.relpath(f"{folder}/{self.name}", self.dataset))
        except DamagedError as error:
            raise damage.told(folder, error) from None
        except ValueError as error:
            raise damage.told(folder, DamagedError(f"{uri}: {error}")) from None

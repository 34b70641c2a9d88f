"""Dataset: a luigi Target for one partition of a named set of files."""

import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

import luigi

from millrace.core import damage, keys, manifests
from millrace.core.keys import Said
from millrace.core.manifests import Manifest
from millrace.core.storage import Versioned
from millrace.errors import ManifestError
from millrace.tasks import session

if TYPE_CHECKING:
    import pyarrow as pa


class Dataset(luigi.Target):
    """A partition of a dataset: that of a key, or of a day, an hour's start, or a name; all there is without one.

    It exists when its manifest does; files without a manifest are nothing.
    """

    def __init__(self, name: str, key: Said = None) -> None:
        self.key = keys.of(key)
        self.name = self.key.named(name)
        self.partition = self.key.partition(name)

    @property
    def manifest_path(self) -> str:
        """The manifest's path in the storage."""
        return f"{self.partition}/{manifests.NAME}"

    def exists(self) -> bool:
        return self.read() is not None

    def read(self) -> tuple[Manifest, str] | None:
        """Return the manifest and its digest; None where there is none. Raises ManifestError for a broken one."""
        return self.parsed(session.current().storage.read(self.manifest_path))

    def parsed(self, found: Versioned | None) -> tuple[Manifest, str] | None:
        """Return a manifest as read() does, given what was read."""
        if found is None:
            return None
        path = session.current().storage.uri(self.manifest_path)
        return Manifest.from_json(found.data, path), manifests.digest(found.data)

    @property
    def uri(self) -> str:
        """Where the partition is: a path or URI."""
        return session.current().storage.uri(self.partition)

    def rows(self, table: str = "", columns: Sequence[str] | None = None) -> "pa.Table":
        """Return the rows of the partition, or those of one table where its files are of several.

        Raises ManifestError if there is no partition, DamagedError for a file that is not as it was written.
        """
        there = self.read()
        if there is None:
            raise ManifestError(f"{self.partition} is not there; run the task that makes it")
        return read_rows(there[0], table, columns)

    def __repr__(self) -> str:
        return f"Dataset({self.partition})"


def read_rows(manifest: Manifest, table: str = "", columns: Sequence[str] | None = None) -> "pa.Table":
    """Return the rows of the files that a manifest names for a table, or in its own partition without one.

    Raises DamagedError for a file that is not as it was written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    storage = session.current().storage
    files = manifest.files_of(table) if table else manifest.files_in(manifest.partition)
    damage.check(storage, manifest.partition, files)
    with tempfile.TemporaryDirectory() as copies:
        tables = [pq.read_table(storage.fetch(file.path, copies), columns=columns) for file in files]
    return pa.concat_tables(tables, promote_options="default") if tables else pa.table({})

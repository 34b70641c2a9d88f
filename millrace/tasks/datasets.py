"""Dataset: a luigi Target for one partition of a named set of files."""

import luigi

from millrace.core import keys, manifests
from millrace.core.keys import Said
from millrace.core.manifests import Manifest
from millrace.core.storage import Versioned
from millrace.tasks import session


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
        return Manifest.from_json(found.data, session.current().storage.uri(self.manifest_path)), manifests.digest(
            found.data
        )

    def __repr__(self) -> str:
        return f"Dataset({self.partition})"

"""Dataset: a luigi Target for one daily partition of a named set of files."""

import datetime

import luigi

from millrace.core import manifests
from millrace.core.manifests import Manifest
from millrace.core.storage import Versioned
from millrace.tasks import session


class Dataset(luigi.Target):
    """A partition: `<name>/date=<date>/`, or `<name>/<key>/` for what has no date, `<name>/` without a key.

    It exists when its manifest does; files without a manifest are nothing.
    """

    def __init__(self, name: str, date: datetime.date | None = None, *, key: str = "") -> None:
        self.name = name
        self.partition = f"{name}/date={date}" if date else f"{name}/{key}".rstrip("/")

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

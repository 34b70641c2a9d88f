"""The page that lists all days, made of the data of each day's page."""

import logging
import posixpath
from collections.abc import Iterator
from typing import TYPE_CHECKING

from millrace.common.checksums import Input
from millrace.core import damage, keys, manifests
from millrace.core.manifests import Manifest
from millrace.core.storage import Versioned, conflict_retries, read_all
from millrace.errors import DamagedError, ManifestError
from millrace.tasks import session

if TYPE_CHECKING:
    from workflows.report.page import IndexRow

LIST = "reports/index.html"

log = logging.getLogger("millrace")


def make_list() -> None:
    """Make the page that lists all days."""
    from workflows.report.page import render_index

    storage = session.current().storage
    # The run that writes last must have seen all others' pages: it reads the list's version, then the pages, then
    # writes.
    for again in conflict_retries():
        with again:
            there = storage.read(LIST)
            storage.replace(LIST, render_index(_rows()), there.version if there else "")


def _rows() -> Iterator["IndexRow"]:
    """Yield what the list says of each page. A page whose data is damaged is left out, and the log says so."""
    storage = session.current().storage
    datasets = sorted(name for name in storage.names("") if keys.suffix_of(name, ["reports"]) is not None)
    paths = [path for dataset in datasets for path in storage.list(dataset, "report.json")]
    described = read_all(storage, [f"{path.rpartition('/')[0]}/{manifests.NAME}" for path in paths])
    for path, manifest, data in zip(paths, described, read_all(storage, paths), strict=True):
        if data:
            try:
                yield _row(path, manifest, data)
            except ManifestError as error:
                log.warning("%s; until then the list of days leaves it out", error)


def _row(path: str, manifest: Versioned | None, data: Versioned) -> "IndexRow":
    """Return what the list says of a page, given the page's data. Raises ManifestError where that data has changed."""
    from workflows.report.page import index_row

    uri, folder = session.current().storage.uri(path), path.rpartition("/")[0]
    # A page that is being made has no manifest yet.
    files = Manifest.from_json(manifest.data, f"{folder}/{manifests.NAME}").files if manifest else []
    try:
        for file in files:
            if file.path == path:
                Input(uri, file.crc32c, file.bytes).check_bytes(data.data)
        return index_row(data.data, posixpath.relpath(f"{folder}/index.html", posixpath.dirname(LIST)))
    except DamagedError as error:
        raise damage.told(folder, error) from None
    except ValueError as error:
        raise damage.told(folder, DamagedError(f"{uri}: {error}")) from None

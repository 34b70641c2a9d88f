"""The page that lists all days, made of the data of each day's page."""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from workflows.engine import advice, clients
from workflows.engine.storage import conflict_retries

if TYPE_CHECKING:
    from workflows.report.page import IndexRow

LIST = "reports/index.html"

log = logging.getLogger("millrace")


def make_list() -> None:
    """Makes the page that lists all days."""
    from workflows.report.page import render_index

    storage = clients.storage()
    # Whoever writes last must have seen all others' pages: read the list's version, then the pages, then write.
    for again in conflict_retries():
        with again:
            there = storage.read(LIST)
            storage.replace(LIST, render_index(_rows()), there.version if there else "")


def _rows() -> Iterator["IndexRow"]:
    """What the list says of each page. One whose data can't be read is left out, and the log says so."""
    from workflows.report.page import index_row

    storage = clients.storage()
    for path in storage.list("reports", "report.json"):
        if found := storage.read(path):
            try:
                yield index_row(found.data)
            except ValueError as error:
                again = advice.clear(path.rpartition("/")[0])
                what = "%s: %s; the list of days leaves it out; to make it anew: %s, then run it again"
                log.warning(what, storage.uri(path), error, again)

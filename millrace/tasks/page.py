"""PageTask: a stage that makes files for people, such as an HTML page, of what the warehouse has.

Beside a dataset's pages lies the list of them, with a link to each; it is made anew with each page. A dataset that is
one partition is one page, and has no list.
"""

import html
import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from millrace.core import warehouse
from millrace.core.ledger import Claim
from millrace.tasks import session
from millrace.tasks.index import Index
from millrace.tasks.stage import Outcome, Stage

if TYPE_CHECKING:
    import pyarrow as pa

_PAGE = "index.html"
#: What each partition has for the list of days; the list's own name is the page's.
_LISTED = "listed.txt"
_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}th,td{padding:.2rem .8rem;border-bottom:1px solid #ddd;text-align:left}"
    ".n{text-align:right;font-variant-numeric:tabular-nums}"
)


class PageTask(Stage):
    """A stage whose result is a page. Say requires(), one dataset in `writes`, and render()."""

    def render(self) -> Mapping[str, bytes]:
        """Return the files of the page by name; index.html is the page itself."""
        raise NotImplementedError(f"{type(self).__name__}.render")

    def preload(self) -> None:
        """Import what asks a warehouse of this machine, and the package or module that makes the page."""
        if not session.current().config.warehouse:
            warehouse.preload()
        importlib.import_module(self.maker()[0])

    @property
    def page(self) -> str:
        """Where the page is: a path or URI."""
        return f"{self.datasets()[0].uri}/{_PAGE}"

    @property
    def list_of_pages(self) -> str:
        """Where the list of all pages is: a path or URI."""
        return self.pages().uri

    def execute(self, claim: Claim) -> Outcome:
        """Write the page, and the list of all pages, unless the page is all that there is."""
        pages = self.pages()
        made = dict(self.render())
        listed = pages.uri != self.page  # the page of a dataset that is one partition lies where the list would
        if listed:
            made.setdefault(pages.file, str(self.date).encode() if hasattr(self, "date") else b"all")
        files = [self.write(name, data) for name, data in made.items()]
        if listed:
            pages.make()
        return Outcome(files, {}, {}, self.maker()[0])

    @classmethod
    def cleared(cls) -> None:
        """Take pages that are gone out of the list."""
        cls.pages().remake()

    @classmethod
    def pages(cls) -> Index[Any]:
        """Return the list of all pages: their days, unless a stage says another, of a file that its render() makes."""

        def row(title: bytes, link: str) -> str:
            return f'<li><a href="{html.escape(link)}">{html.escape(title.decode())}</a>'

        def listed(rows: Sequence[str]) -> bytes:
            return _document(cls.writes[0], f"<ul>{''.join(sorted(rows, reverse=True))}</ul>")

        return Index(cls.writes[0], _LISTED, read=row, render=listed, name=_PAGE)


def html_table(title: str, rows: "pa.Table") -> bytes:
    """Return a page with a heading and the rows of a table."""
    numbers = [str(field.type).startswith(("int", "uint", "double", "float", "decimal")) for field in rows.schema]
    kinds = [' class="n"' if number else "" for number in numbers]

    def line(tag: str, cells: Sequence[object]) -> str:
        texts = ["" if cell is None else html.escape(str(cell)) for cell in cells]
        return "<tr>" + "".join(f"<{tag}{kind}>{text}" for kind, text in zip(kinds, texts, strict=True))

    body = [line("td", [*row.values()]) for row in rows.to_pylist()]
    return _document(title, "\n".join(["<table>", line("th", rows.column_names), *body, "</table>"]))


def _document(title: str, body: str) -> bytes:
    head = f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>"
    return f"{head}\n<h1>{html.escape(title)}</h1>\n{body}\n".encode("utf-8", "replace")

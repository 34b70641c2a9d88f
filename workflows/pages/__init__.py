"""What the pages of all workflows are made of: their frame and looks, letters, elements of SVG, texts, data as JSON.

Nothing heavy is imported here. A workflow's page has templates of its own, which extend `base.html.j2`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace import escaped, plain
from workflows.pages import texts

if TYPE_CHECKING:
    import jinja2
    import pyarrow

Query = Callable[[str, Mapping[str, object]], "pyarrow.Table"]
"""Runs one statement of BigQuery's SQL with named parameters (`@date`, …) and gives its rows."""

#: Widths of pictures in pixels: of a page, of half of it, and of a phone.
WIDE, HALF, NARROW = 1016, 470, 340

_TEMPLATES = Path(__file__).parent / "templates"


def environment(templates: Path) -> "jinja2.Environment":
    """Return what renders the templates of a folder and those that all pages share."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([templates, _TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        # What data and servers say is escaped like any text, and shows the characters that hide in it.
        finalize=lambda value: plain(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=lambda value: f"{value:,}",
        percent=texts.percent_text,
        day=texts.day_text,
        short=texts.short_day,
        seconds=texts.seconds_text,
        cut=plain,
    )
    return made


def json_bytes(report: Mapping[str, Any]) -> bytes:
    """Return a page's data as the bytes of its JSON, in which nothing is hidden."""
    import orjson

    layout = orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
    return escaped(orjson.dumps(report, option=layout).decode()).encode()

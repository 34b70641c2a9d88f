"""SVG, written directly: elements of a few kinds, whose numbers are short and whose text is only ever text.

What is drawn here reads the same as an element of a page and as a picture of its own, so that looks are attributes;
the page's style sheet changes colours by them, for a dark screen and for paper.
"""

import html
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple, NewType

#: A piece of SVG. Only this module makes one of other text, so that no word gets into a picture unescaped.
Svg = NewType("Svg", str)

Kind = Literal["circle", "g", "line", "path", "rect", "text"]

FONT = "Helvetica, Arial, sans-serif"
INK = "#1d2733"
#: Letters' usual height, in pixels.
SIZE = 13

# Characters that no XML may hold, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Picture(NamedTuple):
    """A drawing and its size, in pixels."""

    width: int
    height: int
    body: Svg


def element(kind: Kind, *content: Svg, **attributes: str | float) -> Svg:
    """Return an element. attributes: by their names, with _ for - (`stroke_width`)."""
    inner = "".join(content)
    return Svg(f"<{kind}{_attributes(attributes)}" + (f">{inner}</{kind}>" if inner else "/>"))


def text(words: str, x: float, y: float, **attributes: str | float) -> Svg:
    """Return a line of text; x, y: where its baseline begins, or ends for text_anchor="end"."""
    return element("text", Svg(html.escape(_allowed(words), quote=False)), x=x, y=y, **attributes)


def moved(body: Svg, x: float, y: float) -> Svg:
    """Return a drawing elsewhere."""
    return element("g", body, transform=f"translate({number(x)},{number(y)})")


def together(*pieces: Svg) -> Svg:
    """Return pieces as one, later ones above earlier ones."""
    return Svg("".join(pieces))


def number(value: float) -> str:
    """Write a number as briefly as a hundredth of a pixel allows."""
    return f"{round(value, 2) + 0:.2f}".rstrip("0").rstrip(".")  # + 0 makes -0 a 0


def inline(picture: Picture, label: str) -> Svg:
    """Return a picture as an element of a page: one image named `label`, at most as wide as it was drawn."""
    return _root(picture, {"role": "img", "aria_label": label, "style": f"max-width:{picture.width}px"})


def document(picture: Picture) -> Svg:
    """Return a picture as a document of its own."""
    return _root(picture, {"xmlns": "http://www.w3.org/2000/svg", "width": picture.width, "height": picture.height})


def _root(picture: Picture, attributes: Mapping[str, str | float]) -> Svg:
    looks = _attributes({"font_family": FONT, "font_size": SIZE, "fill": INK})
    box = f' viewBox="0 0 {picture.width} {picture.height}"'
    return Svg(f"<svg{_attributes(attributes)}{box}{looks}>{picture.body}</svg>")


def _attributes(attributes: Mapping[str, str | float]) -> str:
    written = {
        name.replace("_", "-"): value if isinstance(value, str) else number(value) for name, value in attributes.items()
    }
    return "".join(f' {name}="{html.escape(_allowed(value))}"' for name, value in written.items())


def _allowed(words: str) -> str:
    return _FORBIDDEN.sub("\ufffd", words)

"""What charts of all pages have in common: colours, the room that names take, lines, bars and axes."""

import itertools
import math
from collections.abc import Sequence

from workflows.pages import letters, svg
from workflows.pages.svg import SIZE, Svg, element

SOFT, LINE, PAPER = "#5b6775", "#dfe4e8", "#ffffff"
WATER, WARM, PALE = "#2a7391", "#c65d2e", "#a9b6bf"

#: The letters of numbers and axes, in pixels.
SMALL = 12
#: Room between a name and what it names, and between that and its number.
GAP = 8
#: How far below the middle of a line of text its baseline is, as a part of the letters' size.
MIDDLE = 0.33
#: A rim in the colour of the paper, so that letters can be read where lines cross them.
RIM: dict[str, str | float] = {"stroke": PAPER, "stroke_width": 3, "stroke_linejoin": "round", "paint_order": "stroke"}


def ticks(most: int) -> list[int]:
    """Return the whole numbers that an axis from 0 to `most` names: three or so, 0 left out."""
    step = next(
        step for power in itertools.count() for step in (10**power, 2 * 10**power, 5 * 10**power) if 4 * step > most
    )
    return list(range(step, most + 1, step))


def names_room(texts: Sequence[str], width: int, most: float) -> int:
    """Return the room for names left of bars, in pixels: for the longest, but no more than `most` of the width."""
    return math.ceil(min(max(room_of(texts, SIZE) + GAP + 1, width * 0.2), width * most))


def room_of(texts: Sequence[str], size: int) -> float:
    """Return the room that the longest of some texts takes, in pixels."""
    return max(letters.width(text, size) for text in texts)


def name_at(text: str, end: float, middle: float) -> Svg:
    """Return a name left of what it names; middle: of its letters' height."""
    return svg.text(text, end, middle + MIDDLE * SIZE, text_anchor="end")


def number_at(text: str, start: float, middle: float) -> Svg:
    """Return a number right of what it counts; middle: of its letters' height."""
    return svg.text(text, start, middle + MIDDLE * SMALL, fill=SOFT, font_size=SMALL)


def stroke(x1: float, y1: float, x2: float, y2: float, colour: str, **looks: str | float) -> Svg:
    """Return a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=colour, **looks)


def bar(x: float, y: float, long: float, thick: float) -> Svg:
    """Draw a bar to the right, whose far corners are round."""
    round_by = min(2.0, long)
    r, across, down = (svg.number(each) for each in (round_by, long - round_by, thick - 2 * round_by))
    turns = f"a{r},{r} 0 0 1 {r},{r}v{down}a{r},{r} 0 0 1 -{r},{r}"
    return element("path", d=f"M{svg.number(x)},{svg.number(y)}h{across}{turns}h-{across}Z", fill=WATER)

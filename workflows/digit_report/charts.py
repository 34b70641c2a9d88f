"""The chart of a page: how sure the model was, and how often it was right. Fixed width, in pixels."""

import math
from collections.abc import Sequence

from workflows.digit_report.data import Tenth
from workflows.pages import letters, svg
from workflows.pages.drawing import LINE, PALE, RIM, SMALL, SOFT, WATER, stroke
from workflows.pages.svg import Picture, Svg, element

#: Room left of the square for its percentages, below it for those of the other axis, and right of it.
_LEFT, _FOOT, _RIGHT = 44, 42, 10
#: The height of the tallest column of images, and the room above that for its number and the columns' name.
_COLUMN, _NUMBER = 64, 40
_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)


def calibration(tenths: Sequence[Tenth], width: int) -> Picture:
    """Draw the calibration curve, and below it the images of each tenth.

    A dot is a tenth's images that have labels: right of the left edge their mean confidence, above the foot the share
    that was right, with the interval of that as a line. Dots on the broken line are of a model that is as sure as it
    may be.
    """
    side = width - _LEFT - _RIGHT
    top = 8

    def across(part: float) -> float:
        return _LEFT + side * part

    def up(part: float) -> float:
        return top + side * (1 - part)

    drawn: list[Svg] = []
    for part in _QUARTERS:
        x, y = math.floor(across(part)) + 0.5, math.floor(up(part)) + 0.5
        drawn += [
            stroke(_LEFT, y, _LEFT + side, y, LINE),
            stroke(x, top, x, top + side, LINE),
            _small(f"{part:.0%}".replace("%", " %"), _LEFT - 6, y + 4, "end"),
            _small(f"{part:.0%}".replace("%", " %"), x, top + side + 18, "end" if part == 1 else "middle"),
        ]
    drawn.append(stroke(across(0), up(0), across(1), up(1), PALE, stroke_width=1.5, stroke_dasharray="5 4"))
    for tenth in tenths:
        interval, accuracy = tenth.correct.interval, tenth.correct.value
        if tenth.confidence is None or interval is None or accuracy is None:
            continue
        x = across(tenth.confidence)
        drawn += [
            stroke(x, up(interval[0]), x, up(interval[1]), WATER, stroke_width=3, stroke_opacity=0.45),
            element("circle", cx=x, cy=up(accuracy), r=4.3, fill=WATER),
        ]
    drawn += [
        svg.text("Were right", _LEFT + 6, top + 16, fill=SOFT, font_size=SMALL, **RIM),
        _small("Highest probability", _LEFT + side / 2, top + side + 34, "middle"),
    ]
    columns = _columns([tenth.images for tenth in tenths], side)
    below = top + side + _FOOT
    drawn.append(svg.moved(columns.body, _LEFT, below))
    return Picture(width, below + columns.height, svg.together(*drawn))


def confidence(tenths: Sequence[Tenth], width: int) -> Picture:
    """Draw the images of each tenth alone, for a page without labels."""
    side = width - _LEFT - _RIGHT
    columns = _columns([tenth.images for tenth in tenths], side)
    drawn = [svg.moved(columns.body, _LEFT, 0)]
    for part in _QUARTERS:
        x = _LEFT + side * part
        drawn.append(_small(f"{part:.0%}".replace("%", " %"), x, columns.height + 14, "end" if part == 1 else "middle"))
    drawn.append(_small("Highest probability", _LEFT + side / 2, columns.height + 30, "middle"))
    return Picture(width, columns.height + 36, svg.together(*drawn))


def _columns(images: Sequence[int], width: int) -> Picture:
    """Draw a column for each tenth, as high as its images are many, with their number above."""
    each, most = width / len(images), max(*images, 1)
    foot = _NUMBER + _COLUMN
    drawn = [_small("Images", 6, 12, "start")]
    for number, count in enumerate(images):
        high = _COLUMN * count / most
        if count:
            drawn.append(element("rect", x=each * number + 2, y=foot - high, width=each - 4, height=high, fill=WATER))
        text = short(count)
        if letters.width(text, SMALL) < each + 4:
            drawn.append(_small(text, each * (number + 0.5), foot - high - 5, "middle"))
    drawn.append(stroke(0, foot + 0.5, width, foot + 0.5, LINE))
    return Picture(width, foot + 4, svg.together(*drawn))


def short(count: int) -> str:
    """Write a number in as few letters as a column is wide: `999`, `1.2k`, `12k`, `3.4M`."""
    if count < 1000:
        return str(count)
    for unit in "kMG":
        count_of = count / 1000
        if count_of < 9.95:
            return f"{count_of:.1f}{unit}"
        if count_of < 999.5:
            return f"{count_of:.0f}{unit}"
        count = round(count_of)
    return f"{count}G"


def _small(text: str, x: float, y: float, anchor: str) -> Svg:
    return svg.text(text, x, y, fill=SOFT, font_size=SMALL, text_anchor=anchor)

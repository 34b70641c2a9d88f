"""Draw the memory that each stage takes by the posts of a day: `python -m benchmarks.curves RESULTS docs/memory.svg`.

RESULTS is what `benchmarks.memory --results` wrote, a line for each size of a day.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from workflows.pages import svg

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 44, 96, 36, 44
#: Pixels from one name to the next.
ROOM = 16
GIB = 1 << 30
COLOURS = {"Fetch": "#66717d", "Etl": "#2a7391", "Count": "#c65d2e", "Aggregate": "#5f7f3a"}
SOFT, LINE = "#5b6775", "#dfe4e8"


def curves(days: Sequence[Mapping[str, object]]) -> svg.Picture:
    """Return the curves: a line a stage, gibibytes over millions of posts."""
    most_posts = max(_posts(day) for day in days)
    most = 1.5

    def x(posts: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * posts / most_posts

    def y(gib: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * gib / most

    pieces = [
        svg.together(
            svg.element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(gib), y2=y(gib), stroke=LINE),
            svg.text(f"{gib:g}", LEFT - 8, y(gib) + 4, text_anchor="end", fill=SOFT),
        )
        for gib in (0, 0.5, 1, 1.5)
    ]
    pieces += [
        svg.text(f"{posts / 1e6:g} M", x(posts), HEIGHT - BOTTOM + 20, text_anchor="middle", fill=SOFT)
        for posts in map(_posts, days)
    ]
    pieces.append(svg.text("GiB of the largest process", 4, 12, fill=SOFT))
    pieces.append(svg.text("posts a day", WIDTH - RIGHT, HEIGHT - 6, text_anchor="end", fill=SOFT))
    for stage, colour in COLOURS.items():
        points = [(x(_posts(day)), y(_peak(day, stage) / GIB)) for day in days]
        path = "M" + "L".join(f"{svg.number(a)},{svg.number(b)}" for a, b in points)
        pieces.append(svg.element("path", d=path, fill="none", stroke=colour, stroke_width=2))
        pieces += [svg.element("circle", cx=a, cy=b, r=3, fill=colour) for a, b in points]
    below = float(TOP)
    for at, stage in sorted((y(_peak(days[-1], stage) / GIB), stage) for stage in COLOURS):
        below = max(at, below + ROOM)  # names of lines that end together stand below each other
        pieces.append(svg.text(stage, WIDTH - RIGHT + 10, below + 4, fill=COLOURS[stage]))
    return svg.Picture(WIDTH, HEIGHT, svg.together(*pieces))


def _posts(day: Mapping[str, object]) -> int:
    posts = day["posts"]
    assert isinstance(posts, int)
    return posts


def _peak(day: Mapping[str, object], stage: str) -> float:
    stages = day["stages"]
    assert isinstance(stages, dict)
    return float(stages[stage]["peak"])


def main() -> None:
    results, out = map(Path, sys.argv[1:])
    days = sorted(map(json.loads, results.read_text().splitlines()), key=_posts)
    out.write_text(svg.document(curves(days)) + "\n")


if __name__ == "__main__":
    main()

"""The pictures of a page. Every picture has a fixed width; names longer than their room end in an ellipsis."""

import math
import struct
import zlib
from collections.abc import Sequence

from millrace import plain
from workflows.pages import letters, svg
from workflows.pages.drawing import (
    GAP,
    LINE,
    PALE,
    PAPER,
    RIM,
    SMALL,
    SOFT,
    WARM,
    WATER,
    bar,
    name_at,
    names_room,
    number_at,
    room_of,
    stroke,
    ticks,
)
from workflows.pages.svg import SIZE, Picture, element
from workflows.pages.texts import percent_text, short_day, weekday
from workflows.report import layout
from workflows.report.data import Data, Hour, Pair, Rising, Word

GROUPS = ("#2a7391", "#c65d2e", "#5f7f3a", "#7b5aa6", "#b08a1e", "#b04a6f", "#66717d")

#: Characters of a word that a picture shows at most; most often the room ends before.
_LONGEST = 80


def hours(rows: Sequence[Hour], width: int, height: int) -> Picture:
    """Draw posts per hour: a step an hour, the hours in UTC; `width` and `height` in pixels."""
    left, right, foot = 2, width - 2, height - 18
    most = max(row.posts for row in rows)

    def across(hour: float) -> float:
        return left + (right - left) * hour / len(rows)

    def up(posts: float) -> float:
        return foot - foot * posts / (max(most, 1) * 1.15)

    grid, names = [], []
    for posts in ticks(most):
        at = math.floor(up(posts)) + 0.5  # in the middle of a row of pixels, where a thin line is sharp
        grid.append(stroke(left, at, right, at, LINE))
        names.append(svg.text(f"{posts:,}", left + 3, up(posts) - 3, fill=SOFT, font_size=SMALL, **RIM))
    for hour, name in _times(rows, width):
        at = math.floor(across(hour)) + 0.5
        grid.append(stroke(at, 0, at, foot, LINE))
        if at + 3 + letters.width(name, SMALL) <= width:
            names.append(svg.text(name, at + 3, height - 4, fill=SOFT, font_size=SMALL))
    steps = _steps([(across(hour), up(row.posts)) for hour, row in enumerate(rows)], right)
    start = svg.number(left)
    area = element("path", d=f"M{start},{foot}V{steps}V{foot}Z", fill=WATER, fill_opacity=0.22)
    top = svg.number(up(rows[0].posts))
    line = element("path", d=f"M{start},{top}V{steps}", fill="none", stroke=WATER, stroke_width=1.4)
    return Picture(width, height, svg.together(*grid, area, line, *names))


def words(rows: Sequence[Word], width: int, step: int = 22, room: float = 0.42) -> Picture:
    """Draw words as bars of their share of posts.

    width, and step, the height of a row: in pixels. room: the part of the width that names may take.
    """
    shown = [plain(row.word, _LONGEST) for row in rows]
    name = names_room(shown, width, room)
    shares = [percent_text(row.percent) for row in rows]
    longest = width - name - GAP - room_of(shares, SMALL)
    most = max(row.percent for row in rows) or 1
    thick = round(step * 0.68)
    drawn = []
    for rank, row in enumerate(rows):
        middle = step * (rank + 0.5)
        long = longest * row.percent / most
        drawn += [
            name_at(letters.fit(shown[rank], name - GAP, SIZE), name - GAP, middle),
            bar(name, middle - thick / 2, long, thick),
            number_at(shares[rank], name + long + GAP, middle),
        ]
    return Picture(width, step * len(rows), svg.together(*drawn))


def rising(rows: Sequence[Rising], width: int, step: int = 24, room: float = 0.52) -> Picture:
    """Draw pairs that rose: from a pale dot (posts before) to a warm one (posts now); for sizes see `words`."""
    pairs = [(plain(row.w1, _LONGEST), plain(row.w2, _LONGEST)) for row in rows]
    name = names_room([f"{one} + {other}" for one, other in pairs], width, room)
    counts = [f"{row.count:,}" for row in rows]
    start, end = name + 6, width - 2 * GAP - room_of(counts, SMALL)
    most = max(max(row.count, row.previous_count) for row in rows) or 1
    drawn = []
    for rank, row in enumerate(rows):
        middle = step * (rank + 0.5)
        before, now = (start + (end - start) * posts / most for posts in (row.previous_count, row.count))
        drawn += [
            name_at(letters.fit_pair(pairs[rank], name - GAP, SIZE), name - GAP, middle),
            stroke(before, middle, now, middle, WARM, stroke_width=3, stroke_opacity=0.45),
            element("circle", cx=before, cy=middle, r=3.7, fill=PALE),
            element("circle", cx=now, cy=middle, r=4.3, fill=WARM),
            number_at(counts[rank], max(before, now) + GAP + 2, middle),
        ]
    return Picture(width, step * len(rows), svg.together(*drawn))


def network(pairs: Sequence[Pair], width: int, height: int, size: int = 12) -> Picture:
    """Draw words that share posts as a network: a dot as large as its word's share, a line as strong as its pair.

    width, height: of the picture, in pixels. size: the letters' height, in pixels.
    """
    share: dict[str, float] = {}
    for pair in pairs:
        share[pair.w1] = pair.percent1 or share.get(pair.w1, 0.0)
        share[pair.w2] = pair.percent2 or share.get(pair.w2, 0.0)
    index = {word: number for number, word in enumerate(share)}
    edges = [(index[pair.w1], index[pair.w2], max(pair.log_weight, 1e-9)) for pair in pairs]
    largest = max(share.values()) or 1.0
    radius = [3.1 + 9.3 * math.sqrt(part / largest) for part in share.values()]
    shown = [letters.fit(plain(word, _LONGEST), 11 * size, size) for word in share]
    # A box holds the label above its dot.
    boxes = [
        (max(letters.width(text, size), 2 * r) + 8, 2 * r + size + 5) for text, r in zip(shown, radius, strict=True)
    ]
    spots = [(x, y + (size + 5) / 2) for x, y in layout.place(boxes, edges, width, height)]
    groups = layout.communities(len(share), edges)
    colour = [GROUPS[min(group, len(GROUPS) - 1)] for group in groups]
    heaviest = max(weight for _, _, weight in edges)
    drawn = [
        stroke(
            *spots[one],
            *spots[other],
            colour[one] if groups[one] == groups[other] else PALE,
            stroke_width=0.6 + 5.4 * weight / heaviest,
            stroke_opacity=0.5,
            stroke_linecap="round",
        )
        for one, other, weight in reversed(edges)
    ]
    for (x, y), r, tone in zip(spots, radius, colour, strict=True):
        drawn.append(element("circle", cx=x, cy=y, r=r, fill=tone))
    for (x, y), r, text in zip(spots, radius, shown, strict=True):
        drawn.append(svg.text(text, x, y - r - 6, text_anchor="middle", font_size=size, **RIM))
    return Picture(width, height, svg.together(*drawn))


def mail(title: str, subtitle: str, data: Data) -> Picture:
    """Return the picture for mail, 600 pixels wide: title, posts per hour, the top words, the pairs that rose most.

    title, subtitle: plain text. data: rows of which the first few are drawn; without posts the picture says so.
    """
    inner, margin = 552, 24
    parts: list[tuple[str, Picture]] = []
    if data.posts:
        parts.append(("Posts per hour (UTC)", hours(data.hours, inner, 128)))
        # One below the other, because names side by side have room for a dozen letters.
        if data.words:
            parts.append(("Top words, share of posts", words(data.words[:15], inner, 21, 0.62)))
        if data.emerging:
            rose = rising(data.emerging[:15], inner, 21, 0.72)
            parts.append(("On the rise: posts before and now", rose))
    drawn = [
        svg.text(letters.fit(plain(title), inner / 1.1, 22), margin, 43, font_size=22, font_weight="bold"),
        svg.text(letters.fit(plain(subtitle), inner, SIZE), margin, 63, fill=SOFT),
    ]
    height = 72
    for name, part in parts:
        drawn.append(svg.text(name, margin, height + 27, fill=SOFT, font_weight="bold"))
        drawn.append(svg.moved(part.body, margin, height + 37))
        height += 37 + part.height
    if not parts:
        drawn.append(svg.text("No posts in this window.", margin, height + 28, font_size=15, fill=SOFT))
        height += 40
    height += margin
    paper = element("rect", width=inner + 2 * margin, height=height, fill=PAPER)
    return Picture(inner + 2 * margin, height, svg.together(paper, *drawn))


def png(picture: Picture) -> bytes:
    """Convert a picture to a PNG of two pixels a unit."""
    import vl_convert

    return _packed(vl_convert.svg_to_png(svg.document(picture), scale=2))


def _packed(picture: bytes) -> bytes:
    """Compress a PNG further, because the converter hurries and this picture goes by mail. Nothing but the bytes
    changes.
    """
    head, rest, pixels = picture[:8], [], b""
    at = len(head)
    while at < len(picture):
        size, kind = struct.unpack_from(">I4s", picture, at)
        if kind == b"IDAT":
            pixels += picture[at + 8 : at + 8 + size]
        elif kind != b"IEND":
            rest.append(picture[at : at + 12 + size])
        at += 12 + size
    packed = zlib.compress(zlib.decompress(pixels), 3)
    data, end = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IDAT", packed), (b"IEND", b""))
    )
    return b"".join((head, *rest, data, end))


def _times(rows: Sequence[Hour], width: int) -> list[tuple[int, str]]:
    """Return the hours that an axis of such a width names, by their places in `rows`, each with its name."""
    wide, days = width > 500, len(rows) // 24
    if days == 1:
        return [(hour, f"{rows[hour].start:%H:%M}") for hour in range(0, len(rows), 3 if wide else 6)]
    every = 24 * math.ceil(days * (76 if wide else 46) / width)
    starts = [(hour, rows[hour].start) for hour in range(0, len(rows), every)]
    if days > 31:
        return [(hour, short_day(day).removeprefix(weekday(day)).strip()) for hour, day in starts]
    return [(hour, short_day(day) if wide else f"{weekday(day)} {day.day}") for hour, day in starts]


def _steps(points: Sequence[tuple[float, float]], end: float) -> str:
    """Return the way along steps as a path has it, from the first one's height on; steps of one height as one."""
    way, last = [], ""
    for x, y in points:
        height = svg.number(y)
        if height != last:
            way.append(f"H{svg.number(x)}V{height}" if last else height)
        last = height
    return f"{''.join(way)}H{svg.number(end)}"

"""The pictures of a page: Altair charts, converted by vl-convert with no network and no browser.

Words are data, never names: places are ranks and numbers, and a word is only ever the text of a text mark. So no word
(`null`, `__proto__`, `a.b`, `<svg>`) can mean anything to Vega. Every picture has a fixed width; names longer than
their room end in an ellipsis.
"""

import datetime
import itertools
import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import altair as alt
import vl_convert

from millrace import plain
from workflows.report import layout
from workflows.report.data import Data, Hour, Pair, Rising, Word, percent_text

INK, SOFT, LINE = "#1d2733", "#5b6775", "#dfe4e8"
WATER, WARM, PALE = "#2a7391", "#c65d2e", "#a9b6bf"
GROUPS = ("#2a7391", "#c65d2e", "#5f7f3a", "#7b5aa6", "#b08a1e", "#b04a6f", "#66717d")

#: Characters of a word that a picture shows at most; most often the room ends before.
_LONGEST = 80
_FONT = "Helvetica, Arial, sans-serif"
_SVG = "http://www.w3.org/2000/svg"
# The elements that Vega draws these charts with. Any other in a picture (script, link, image, …) is refused.
_ELEMENTS = {f"{{{_SVG}}}{name}" for name in ("svg", "g", "path", "rect", "line", "text", "tspan", "circle", "defs")}
_CONFIG: dict[str, Any] = {
    "aria": False,
    "background": None,
    "font": _FONT,
    "padding": 0,
    "view": {"stroke": None},
    "axis": {"labelColor": SOFT, "labelFontSize": 12, "gridColor": LINE, "domain": False, "ticks": False},
    "text": {"color": INK, "fontSize": 13},
}

Rows = list[dict[str, Any]]
Spec = dict[str, Any]
Picture = alt.LayerChart | alt.FacetChart


def spec(chart: Picture) -> Spec:
    """Return a chart's Vega-Lite, to convert by `svg` or `png` in any thread.

    Build charts and call this function in one thread at a time, because Altair loses data when two threads build at
    once. The result is not validated, because its shape does not depend on the data and the tests draw it.
    """
    built: Spec = chart.to_dict(validate=False)
    built["config"] = _CONFIG
    return built


def svg(chart: Spec, label: str) -> str:
    """Convert a chart to an SVG element for a page: scales with its column, and is one image named `label`.

    Raises ValueError when Vega-Lite refuses the chart or the SVG holds an element that no chart here draws.
    """
    text = vl_convert.vegalite_to_svg(chart, allowed_base_urls=[])
    root = ElementTree.fromstring(text)
    strange = {element.tag for element in root.iter()} - _ELEMENTS
    if strange:
        raise ValueError(f"a chart drew {', '.join(sorted(strange))}, which no chart of a page may hold")
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "style": f"max-width:{root.attrib['width']}px",
        "role": "img",
        "aria-label": label,
    }
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode")


def png(chart: Spec) -> bytes:
    """Convert a chart to a PNG of two pixels a unit. Raises ValueError when Vega-Lite refuses the chart."""
    return _packed(vl_convert.vegalite_to_png(chart, scale=2, allowed_base_urls=[]))


def hours(rows: Sequence[Hour], width: int, height: int) -> Picture:
    """Draw posts per hour: a step a hour, the hours in UTC; `width` and `height` in pixels."""
    end = rows[-1].start + datetime.timedelta(hours=1)
    values: Rows = [{"at": _ms(row.start), "posts": row.posts} for row in rows]
    values.append({"at": _ms(end), "posts": rows[-1].posts})
    days = len(rows) // 24
    if days == 1:
        ticks, form = [row.start for row in rows[:: 3 if width > 500 else 6]], "%H:%M"
    else:
        every = math.ceil(days * (76 if width > 500 else 46) / width)
        ticks = [row.start for row in rows[:: 24 * every]]
        form = "%a %-d %b" if width > 500 else "%a %-d"
    most = max(row.posts for row in rows)
    across = alt.X("at:T").scale(type="utc", domain=[_ms(rows[0].start), _ms(end)], range=[2, width - 2], nice=False)
    up = alt.Y("posts:Q").scale(domain=[0, max(most, 1) * 1.15], nice=False)
    below = alt.Axis(
        title=None, values=[_ms(tick) for tick in ticks], format=form, labelAlign="left", labelOffset=3, labelBound=True
    )
    left = alt.Axis(
        title=None, values=_ticks(most), format=",d", labelAlign="left", labelPadding=-3, labelBaseline="bottom"
    )
    base = alt.Chart(_inline(values)).encode(across.axis(below), up.axis(left))
    area = base.mark_area(interpolate="step-after", color=WATER, opacity=0.22)
    line = base.mark_line(interpolate="step-after", color=WATER, strokeWidth=1.4)
    return alt.layer(area, line).properties(width=width, height=height)


def words(rows: Sequence[Word], width: int, step: int = 22, room: float = 0.42) -> Picture:
    """Draw words as bars of their share of posts.

    width, and step, the height of a row: in pixels. room: the part of the width that names may take.
    """
    shown = [plain(row.word, _LONGEST) for row in rows]
    name = _names(shown, width, room)
    values: Rows = [
        {
            "rank": rank,
            "word": layout.fit(text, name - 8, 13),
            "percent": row.percent,
            "label": percent_text(row.percent),
        }
        for rank, (text, row) in enumerate(zip(shown, rows, strict=True))
    ]
    across = alt.X("percent:Q").axis(None).stack(False)
    across = across.scale(range=[name, width - 52], domain=[0, max(row.percent for row in rows) or 1], nice=False)
    base = alt.Chart(_inline(values)).encode(_row(len(rows)))
    bars = base.mark_bar(orient="horizontal", color=WATER, size=round(step * 0.68), cornerRadiusEnd=2).encode(across)
    names = base.mark_text(align="right", baseline="middle", limit=0).encode(alt.Text("word:N"), x=alt.value(name - 8))
    shares = base.mark_text(align="left", baseline="middle", dx=6, color=SOFT, fontSize=12).encode(
        across, alt.Text("label:N")
    )
    return alt.layer(bars, names, shares).properties(width=width, height=step * len(rows))


def rising(rows: Sequence[Rising], width: int, step: int = 24, room: float = 0.52) -> Picture:
    """Draw pairs that rose: from a pale dot (posts before) to a warm one (posts now); for sizes see `words`."""
    pairs = [(plain(row.w1, _LONGEST), plain(row.w2, _LONGEST)) for row in rows]
    name = _names([f"{one} + {other}" for one, other in pairs], width, room)
    values: Rows = [
        {
            "rank": rank,
            "pair": layout.fit_pair(pairs[rank], name - 8, 13),
            "now": row.count,
            "before": row.previous_count,
            "label": f"{row.count:,}",
        }
        for rank, row in enumerate(rows)
    ]
    most = max(max(row.count, row.previous_count) for row in rows)
    scale = alt.Scale(range=[name + 6, width - 48], domain=[0, max(most, 1)], nice=False)
    before, now = alt.X("before:Q").scale(scale).axis(None), alt.X("now:Q").scale(scale).axis(None)
    base = alt.Chart(_inline(values)).encode(_row(len(rows)))
    ways = base.mark_rule(color=WARM, opacity=0.45, strokeWidth=3).encode(before, alt.X2("now:Q"))
    was = base.mark_point(filled=True, opacity=1, color=PALE, size=55).encode(before)
    dots = base.mark_point(filled=True, opacity=1, color=WARM, size=75).encode(now)
    counts = base.mark_text(align="left", baseline="middle", dx=9, color=SOFT, fontSize=12).encode(
        now, alt.Text("label:N")
    )
    names = base.mark_text(align="right", baseline="middle", limit=0).encode(alt.Text("pair:N"), x=alt.value(name - 8))
    return alt.layer(ways, was, dots, counts, names).properties(width=width, height=step * len(rows))


def network(pairs: Sequence[Pair], width: int, height: int, size: int = 12) -> Picture:
    """Draw words that share posts as a network: a dot as large as its word's share, a line as strong as its pair.

    width, height: of the picture, in pixels. size: the letters' height, in pixels.
    """
    share: dict[str, float] = {}
    for pair in pairs:
        share[pair.w1] = pair.percent1 or share.get(pair.w1, 0.0)
        share[pair.w2] = pair.percent2 or share.get(pair.w2, 0.0)
    nodes = list(share)
    index = {word: number for number, word in enumerate(nodes)}
    edges = [(index[pair.w1], index[pair.w2], max(pair.log_weight, 1e-9)) for pair in pairs]
    largest = max(share.values()) or 1.0
    radius = [3.5 + 10.5 * math.sqrt(share[word] / largest) for word in nodes]
    shown = [plain(word, 20) for word in nodes]
    boxes = [
        (max(layout.text_width(text, size), 2 * r) + 8, 2 * r + size + 5) for text, r in zip(shown, radius, strict=True)
    ]
    centres = layout.place(boxes, edges, width, height)
    groups = layout.communities(len(nodes), edges)
    colour = [GROUPS[min(group, len(GROUPS) - 1)] for group in groups]
    # A box holds the label above its dot.
    spots = [(x, round(y + (size + 5) / 2, 1)) for x, y in centres]
    heaviest = max(weight for _, _, weight in edges)
    lines: Rows = [
        {
            "x": spots[one][0],
            "y": spots[one][1],
            "x2": spots[other][0],
            "y2": spots[other][1],
            "weight": weight / heaviest,
            "colour": colour[one] if groups[one] == groups[other] else PALE,
        }
        for one, other, weight in reversed(edges)
    ]
    dots: Rows = [
        {"x": x, "y": y, "top": round(y - r - 4, 1), "area": round(math.pi * r * r, 1), "word": text, "colour": tone}
        for (x, y), r, text, tone in zip(spots, radius, shown, colour, strict=True)
    ]
    across = alt.X("x:Q").axis(None).scale(domain=[0, width], nice=False, zero=False)
    down = alt.Y("y:Q").axis(None).scale(domain=[height, 0], nice=False, zero=False)
    tone = alt.Color("colour:N", scale=None)
    edge_marks = (
        alt.Chart(_inline(lines))
        .mark_rule(opacity=0.5, strokeCap="round")
        .encode(
            across,
            down,
            alt.X2("x2:Q"),
            alt.Y2("y2:Q"),
            tone,
            alt.StrokeWidth("weight:Q").scale(domain=[0, 1], range=[0.6, 6]).legend(None),
        )
    )
    base = alt.Chart(_inline(dots)).encode(across)
    dot_marks = base.mark_point(filled=True, opacity=1).encode(down, tone, alt.Size("area:Q", scale=None))
    labels = base.mark_text(baseline="bottom", fontSize=size).encode(
        alt.Y("top:Q").axis(None).scale(domain=[height, 0], nice=False, zero=False), alt.Text("word:N")
    )
    return alt.layer(edge_marks, dot_marks, labels).properties(width=width, height=height)


def mail(title: str, subtitle: str, data: Data) -> Spec:
    """Return the picture for mail, 600 units wide: title, posts per hour, the top words, the pairs that rose most.

    title, subtitle: plain text. data: rows of which the first few are drawn; without posts the picture says so. Charts
    are put together as Vega-Lite, which takes a third of the time of Altair's own concatenation.
    """
    inner, margin = 552, 24
    head = alt.TitleParams(
        title,
        subtitle=plain(subtitle, 200),
        anchor="start",
        fontSize=22,
        color=INK,
        subtitleFontSize=13,
        subtitleColor=SOFT,
        subtitlePadding=5,
        offset=18,
        limit=inner,
    )
    datasets: Spec = {}

    def part(chart: Picture) -> Spec:
        built = spec(chart)
        datasets.update(built.pop("datasets"))
        return {name: value for name, value in built.items() if name not in ("$schema", "config")}

    parts: list[Spec] = []
    if data.posts:
        parts.append(part(_titled(hours(data.hours, inner, 110), "Posts per hour (UTC)")))
        # One below the other, because names side by side have room for a dozen letters.
        if data.words:
            parts.append(part(_titled(words(data.words[:15], inner, 21, 0.62), "Top words, share of posts")))
        if data.emerging:
            rose = rising(data.emerging[:15], inner, 21, 0.72)
            parts.append(part(_titled(rose, "On the rise: posts before and now")))
    else:
        parts.append(part(_note("No posts in this window.", inner)))
    return {
        "$schema": alt.SCHEMA_URL,
        "title": head.to_dict(validate=False),
        "vconcat": parts,
        "spacing": 24,
        "padding": margin,
        "background": "#ffffff",
        "datasets": datasets,
        "config": _CONFIG,
    }


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
    packed = zlib.compress(zlib.decompress(pixels), 6)
    data, end = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IDAT", packed), (b"IEND", b""))
    )
    return b"".join((head, *rest, data, end))


def _ticks(most: int) -> list[int]:
    """Return the whole numbers that an axis from 0 to `most` names: three or so, 0 left out."""
    step = next(
        step for power in itertools.count() for step in (10**power, 2 * 10**power, 5 * 10**power) if 4 * step > most
    )
    return list(range(step, most + 1, step))


def _names(texts: Sequence[str], width: int, most: float) -> int:
    """Return the room for names left of bars, in pixels: for the longest, but no more than `most` of the width."""
    longest = max(layout.text_width(text, 13) for text in texts)
    return math.ceil(min(max(longest + 9, width * 0.2), width * most))


def _note(text: str, width: int) -> Picture:
    mark = alt.Chart(_inline([{"text": text}])).mark_text(align="left", baseline="top", fontSize=15, color=SOFT)
    return alt.layer(mark.encode(alt.Text("text:N"), x=alt.value(0), y=alt.value(0))).properties(width=width, height=40)


def _titled(chart: Picture, title: str) -> Picture:
    head = alt.TitleParams(title, anchor="start", frame="group", fontSize=13, color=SOFT, fontWeight="bold", offset=8)
    return chart.properties(title=head)


def _row(count: int) -> alt.Y:
    return alt.Y("rank:Q").axis(None).scale(domain=[count - 0.5, -0.5], nice=False, zero=False)


def _inline(values: Rows) -> alt.InlineData:
    return alt.InlineData(values=values)


def _ms(moment: datetime.datetime) -> int:
    return int(moment.timestamp()) * 1000

"""A picture of a job's graph: its outermost transforms, each below those whose output it reads."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_WIDTH, _HEIGHT, _GAP, _STEP = 170, 34, 24, 76
#: Letters that fit into a box.
_FIT = 22


def drawn(graph: Sequence[Mapping[str, Any]]) -> str:
    """Return the picture as SVG; "" for none. graph: transforms with name, inputs and outputs, as workers report."""
    edges = outermost(graph)
    if not edges:
        return ""
    levels: defaultdict[int, list[str]] = defaultdict(list)
    for name, level in _levels(edges).items():
        levels[level].append(name)
    width = max(len(row) for row in levels.values()) * (_WIDTH + _GAP) + _GAP
    places = {}
    for level, row in levels.items():
        left = (width - len(row) * (_WIDTH + _GAP) + _GAP) / 2
        for index, name in enumerate(row):
            places[name] = (left + index * (_WIDTH + _GAP), 10 + level * _STEP)
    height = 20 + (max(levels) * _STEP) + _HEIGHT
    lines = []
    for name, before in edges.items():
        x, y = places[name]
        for each in before:
            from_x, from_y = places[each][0] + _WIDTH / 2, places[each][1] + _HEIGHT
            middle, to_x = (from_y + y) / 2, x + _WIDTH / 2
            curve = f"M{from_x:g} {from_y:g}C{from_x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} {y - 2:g}"
            lines.append(f'<path d="{curve}" marker-end="url(#end)"/>')
    for name, (x, y) in places.items():
        short = name if len(name) <= _FIT else name[: _FIT - 1] + "…"
        lines.append(
            f"<g><title>{escape(name)}</title>"
            f'<rect x="{x:g}" y="{y:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="5"/>'
            f'<text x="{x + _WIDTH / 2:g}" y="{y + 22:g}">{escape(short)}</text></g>'
        )
    arrow = (
        '<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z"/></marker></defs>'
    )
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" aria-label="The job\'s graph">'
        f"{arrow}{''.join(lines)}</svg>"
    )


def outermost(graph: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return each outermost transform, and those whose output it reads."""
    makers = {output: _outer(each["name"]) for each in graph for output in each["outputs"]}
    edges: dict[str, list[str]] = {}
    for each in graph:
        name = _outer(each["name"])
        before = edges.setdefault(name, [])
        for read in each["inputs"]:
            maker = makers.get(read, name)
            if maker != name and maker not in before:
                before.append(maker)
    return edges


def _outer(name: str) -> str:
    """Return the outermost part of a transform's name; names that are in brackets have slashes of their own."""
    depth = 0
    for index, letter in enumerate(name):
        depth += (letter in "([") - (letter in ")]")
        if letter == "/" and depth <= 0:
            return name[:index]
    return name


def _levels(edges: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return for each transform how many others are before it at most."""
    levels = dict.fromkeys(edges, 0)
    for _ in edges:  # no way is longer
        for name, before in edges.items():
            levels[name] = min(max([levels[each] + 1 for each in before], default=0), len(edges))
    return levels

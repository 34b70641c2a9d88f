"""Where the words of the network picture stand: a force layout that gives the same picture for the same pairs."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

Edge = tuple[int, int, float]
Floats = npt.NDArray[np.float64]

_GOLDEN_ANGLE = 2.399963229728653


def place(
    boxes: Sequence[tuple[float, float]], edges: Sequence[Edge], width: float, height: float
) -> list[tuple[float, float]]:
    """Place nodes on a canvas so that joined nodes are near each other and no two cover each other.

    boxes: the size of each node with its label, in pixels. edges: (node, node, weight > 0), nodes by index.
    width, height: the canvas, in pixels. Returns the centre of each node's box, x to the right and y down. Chance plays
    no part: the start is a spiral in the order given. A canvas too small for its nodes leaves some covered.
    """
    if not boxes:
        return []
    size = np.asarray(boxes, dtype=np.float64)
    spread = _spread(len(boxes), edges, width / height)
    low, high = spread.min(axis=0), spread.max(axis=0)
    room = np.array([width, height]) - size.max(axis=0)
    unit = (spread - low) / np.where(high > low, high - low, 1.0)
    unit[:, high <= low] = 0.5
    centre = _separate(size.max(axis=0) / 2 + unit * np.maximum(room, 1.0), size, np.array([width, height]))
    return [(round(x, 1), round(y, 1)) for x, y in cast("list[list[float]]", centre.tolist())]


def _spread(count: int, edges: Sequence[Edge], aspect: float, rounds: int = 250) -> Floats:
    """Let joined nodes attract and all nodes repel each other (Fruchterman and Reingold), on a plane of this aspect."""
    order = np.arange(count, dtype=np.float64)
    radius = np.sqrt((order + 0.5) / count)
    x, y = radius * np.cos(order * _GOLDEN_ANGLE), radius * np.sin(order * _GOLDEN_ANGLE)
    pull = np.zeros((count, count))
    heaviest = max((weight for _, _, weight in edges), default=1.0) or 1.0
    for one, other, weight in edges:
        pull[one, other] = pull[other, one] = 0.4 + 0.6 * (max(weight, 0.0) / heaviest) ** 0.5
    push = 1.0 / count
    pull *= push**-0.5
    for step in range(rounds):
        apart_x, apart_y = x[:, None] - x, y[:, None] - y
        square = apart_x * apart_x + apart_y * apart_y + 1e-12
        force = push / square - pull * np.sqrt(square)
        # Towards the middle, more so along the canvas's shorter side.
        move_x = (apart_x * force).sum(axis=1) - 0.9 * x * aspect**-0.5
        move_y = (apart_y * force).sum(axis=1) - 0.9 * y * aspect**0.5
        length = np.sqrt(move_x * move_x + move_y * move_y) + 1e-9
        heat = 0.12 * (1.0 - step / rounds) + 0.001
        stride = np.minimum(length, heat) / length
        x, y = x + move_x * stride, y + move_y * stride
    return np.stack([x, y], axis=1)


def _separate(centre: Floats, size: Floats, canvas: Floats, rounds: int = 160) -> Floats:
    """Push boxes that cover each other apart along the shorter way, and keep them on the canvas."""
    (x, y), (width, height) = centre.T, size.T
    need_x, need_y = (width[:, None] + width) / 2 + 2.0, (height[:, None] + height) / 2 + 2.0
    order = np.arange(len(centre))
    side = np.sign(order[:, None] - order).astype(np.float64)
    itself = np.eye(len(centre), dtype=np.bool_)
    for _ in range(rounds):
        apart_x, apart_y = x[:, None] - x, y[:, None] - y
        cover_x, cover_y = need_x - np.abs(apart_x), need_y - np.abs(apart_y)
        covered = (cover_x > 0.1) & (cover_y > 0.1) & ~itself
        if not covered.any():
            break
        along_x = cover_x < cover_y
        push_x = np.where(covered & along_x, cover_x * np.where(apart_x == 0, side, np.sign(apart_x)) / 2, 0.0)
        push_y = np.where(covered & ~along_x, cover_y * np.where(apart_y == 0, side, np.sign(apart_y)) / 2, 0.0)
        x = _within(x + push_x.sum(axis=1) * 0.6, width, canvas[0])
        y = _within(y + push_y.sum(axis=1) * 0.6, height, canvas[1])
    return np.stack([x, y], axis=1)


def _within(centre: Floats, size: Floats, room: float) -> Floats:
    """Keep boxes of these sizes from 0 to `room`, along one side."""
    return np.clip(centre, size / 2, np.maximum(room - size / 2, size / 2))


def communities(count: int, edges: Sequence[Edge], rounds: int = 8) -> list[int]:
    """Group nodes that hang together, by passing on the label that weighs most among a node's neighbours.

    Returns a group for each node, groups numbered from 0 by size (equal sizes by their first node).
    """
    near: list[list[tuple[int, float]]] = [[] for _ in range(count)]
    for one, other, weight in edges:
        near[one].append((other, weight))
        near[other].append((one, weight))
    label = list(range(count))
    for _ in range(rounds):
        before = list(label)
        for node in range(count):
            votes: dict[int, float] = {}
            for other, weight in near[node]:
                votes[label[other]] = votes.get(label[other], 0.0) + weight
            if votes:
                label[node] = min(votes, key=lambda name: (-votes[name], name))
        if label == before:
            break
    members: dict[int, list[int]] = {}
    for node, name in enumerate(label):
        members.setdefault(name, []).append(node)
    ranked = sorted(members, key=lambda name: (-len(members[name]), members[name][0]))
    number = {name: rank for rank, name in enumerate(ranked)}
    return [number[name] for name in label]

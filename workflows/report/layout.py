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
    at = np.stack([radius * np.cos(order * _GOLDEN_ANGLE), radius * np.sin(order * _GOLDEN_ANGLE)], axis=1)
    pull = np.zeros((count, count))
    heaviest = max((weight for _, _, weight in edges), default=1.0) or 1.0
    for one, other, weight in edges:
        pull[one, other] = pull[other, one] = 0.4 + 0.6 * (max(weight, 0.0) / heaviest) ** 0.5
    ideal = 1.0 / np.sqrt(count)
    for step in range(rounds):
        apart = at[:, None, :] - at[None, :, :]
        distance = np.sqrt((apart**2).sum(axis=2)) + 1e-6
        force = ideal**2 / distance**2 - pull * distance / ideal
        np.fill_diagonal(force, 0.0)
        move = (apart * force[:, :, None]).sum(axis=1) - 0.9 * at * np.array([1.0 / aspect, aspect]) ** 0.5
        length = np.sqrt((move**2).sum(axis=1, keepdims=True)) + 1e-9
        heat = 0.12 * (1.0 - step / rounds) + 0.001
        at = at + move / length * np.minimum(length, heat)
    return at


def _separate(centre: Floats, size: Floats, canvas: Floats, rounds: int = 160) -> Floats:
    """Push boxes that cover each other apart along the shorter way, and keep them on the canvas."""
    need = (size[:, None, :] + size[None, :, :]) / 2 + 2.0
    order = np.arange(len(centre))
    side = np.sign(order[:, None] - order[None, :]).astype(np.float64)
    for _ in range(rounds):
        apart = centre[:, None, :] - centre[None, :, :]
        cover = need - np.abs(apart)
        covered: npt.NDArray[np.bool_] = np.all(cover > 0, axis=2)
        np.fill_diagonal(covered, False)
        if not covered.any():
            break
        along_x = cover[:, :, 0] < cover[:, :, 1]
        way = np.where(apart == 0, side[:, :, None], np.sign(apart))
        push = np.where(covered[:, :, None], cover * way / 2, 0.0)
        push[:, :, 0] *= along_x
        push[:, :, 1] *= ~along_x
        centre = np.clip(centre + push.sum(axis=1) * 0.6, size / 2, np.maximum(canvas - size / 2, size / 2))
    return centre


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

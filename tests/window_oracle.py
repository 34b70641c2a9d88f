"""What the window template must give, computed with plain Python over the oracle's posts."""

import datetime
from collections.abc import Iterable
from typing import Any

import oracle

NAMES = ("word_counts", "urls", "word_cooccur")


def expected(records: Iterable[bytes], timestamp: str, days: int, rules: str) -> dict[str, list[tuple[Any, ...]]]:
    """The three tables, where timestamp − days < created_at ≤ timestamp."""
    end = datetime.datetime.fromisoformat(timestamp).replace(tzinfo=datetime.UTC)
    kept: dict[tuple[str, datetime.date], oracle.Post] = {}
    for post in map(oracle.parse, records):
        if isinstance(post, oracle.Post) and end - datetime.timedelta(days=days) < post.created_at <= end:
            kept[post.id, post.created_at.date()] = post
    if not kept:
        return {name: [] for name in NAMES}
    found = oracle.tables(list(kept.values()), [], end.date() + datetime.timedelta(days=1), rules)
    return {name: list(map(tuple, found[name])) for name in NAMES}  # type: ignore[literal-required]

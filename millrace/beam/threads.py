"""Work in threads, for what Arrow, numpy and connections do while other threads run."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Yield what a function makes of each item, in their order; of so many threads each has one item at a time.

    Items are taken as threads come free, so that few of them are in memory.
    """
    waiting = deque[Future[R]]()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            del item  # which the thread alone keeps, for as long as it works
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

"""Circles: tasks that come to need each other while they run, which luigi would run again and again."""

from collections import defaultdict
from collections.abc import Iterable


class Needs:
    """What each task needs, by ids, as far as a run has found out, and which tasks need themselves by others."""

    def __init__(self) -> None:
        self._of = defaultdict[str, set[str]](set)
        #: The tasks that are in a circle.
        self.circular = set[str]()

    def add(self, task_id: str, *needed: Iterable[str] | None) -> None:
        """Note what a task needs."""
        for some in needed:
            self._of[task_id].update(some or ())

    def circle(self, task_id: str) -> set[str]:
        """Return the tasks of the circle that a task is in, itself too, and note them; none where it is in none."""
        reached = self._reached(task_id)
        found = {each for each in reached if task_id in self._reached(each)} if task_id in reached else set[str]()
        self.circular |= found
        return found

    def _reached(self, task_id: str) -> set[str]:
        """Return what a task needs, and what that needs, and so on."""
        seen, left = set[str](), [*self._of[task_id]]
        while left:
            each = left.pop()
            if each not in seen:
                seen.add(each)
                left += self._of.get(each, ())
        return seen

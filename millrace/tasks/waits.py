"""What a run waits for, told to luigi, which has no state for it: neither done nor failed, and not given out again.

the result    of a task that raised Waiting carries it in place of the explanation of a failure
the worker    says then that the task is PENDING, and needs one thing more: a task that no worker can run, which
              stands on luigid's page for what is waited for, with its link. What the task needs is said anew by the
              next run, so that this one thing is gone by then
the summary   takes a waiting task for one that misses something from outside; the words are put right here, and
              the exit code is that of what is waited for
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import luigi
from luigi.execution_summary import _partition_tasks
from luigi.task_status import FAILED, PENDING

from millrace.core.ledger import Entry
from millrace.core.waiting import WORDS, Kind, Waiting, from_data
from millrace.runners.runner import Job
from millrace.tasks import sections

#: Under which name the explanation of a task's result carries what the task waits for.
_MARK = "millrace.waiting"
#: What luigid calls what is waited for, in place of a task's name.
FAMILY = "Waiting"
#: Words of luigi's summary for what comes from outside, and those for what is waited for.
_WORDS = {
    "were missing external dependencies:": "are waited for:",
    "there were missing external dependencies": "{}",
    "had missing dependencies:": "need what is waited for:",
}


def at_work(job: Job, entry: Entry) -> Waiting:
    """Return what a run that does not wait says of a job that has not come to its end."""
    return Waiting(f"job {job.name} is {job.state}", on=f"job {job.name}", since=entry.started, url=job.url)


def in_turn(name: str, why: str) -> None:
    """Raise Waiting for a job that has to wait for its turn, where the run does not wait. why: what it waits for."""
    if not sections.waits():
        raise Waiting(f"job {name} {why}", on=f"job {name}")


def result(waiting: Waiting) -> dict[str, Any]:
    """Return what the result of a task that waits carries as its explanation."""
    return {_MARK: waiting.as_data()}


def told(explanation: object) -> Waiting | None:
    """Return what a task waits for, by the explanation of its result; None for any other result."""
    return from_data(explanation[_MARK]) if isinstance(explanation, dict) and _MARK in explanation else None


class Waits:
    """What the tasks of one run wait for, and what tasks came to need while they ran."""

    def __init__(self) -> None:
        self.of: dict[luigi.Task, Waiting] = {}
        self._needed: dict[luigi.Task, list[luigi.Task]] = {}

    def needs(self, task: luigi.Task, needed: list[luigi.Task]) -> list[luigi.Task]:
        """Note that a task turned out to need others; return all that it has turned out to need."""
        self._needed.setdefault(task, []).extend(needed)
        return self._needed[task]

    def grouped(self) -> list[tuple[list[luigi.Task], Waiting]]:
        """Return the tasks that wait for the same, with what that is."""
        groups = defaultdict[str, list[luigi.Task]](list)
        for task, waiting in self.of.items():
            groups[waiting.on].append(task)
        return [(tasks, self.of[tasks[0]]) for tasks in groups.values()]

    def ids(self) -> set[str]:
        """Return what luigid calls all that is waited for."""
        return {_id(waiting) for waiting in self.of.values()}

    def settle(self, worker: Any) -> None:
        """Put right what luigi's summary goes by: its worker's history, and what tasks need that turned out late."""
        worker._add_task_history = [
            (task, status, self._runnable(task, runnable) if status == PENDING else runnable)
            for task, status, runnable in worker._add_task_history
        ]
        for task, needed in self._needed.items():
            before = list(task._requires())
            vars(task)["_requires"] = lambda all=(*before, *needed): list(all)

    def _runnable(self, task: luigi.Task, runnable: bool | None) -> bool | None:
        if task in self.of:
            return False
        return True if task in self._needed else runnable

    def code(self, worker: Any) -> int | None:
        """Return the exit code of a run that waits; None for one that does not, or misses something besides."""
        if not self.of or _partition_tasks(worker)["still_pending_ext"] - self.of.keys():
            return None
        return max(waiting.kind.value for waiting in self.of.values())

    def summary(self, text: str) -> str:
        """Return luigi's summary of the run in our words."""
        if not self.of:
            return text
        kinds = {waiting.kind for waiting in self.of.values()}
        why = " and ".join(f"some are {WORDS[kind]}" for kind in Kind if kind in kinds)
        for theirs, ours in _WORDS.items():
            text = text.replace(theirs, ours.format(why))
        return text


def left(task: Mapping[str, Any], waiting: Waiting) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the scheduler is told in place of a failure: of the task, and of what the task waits for."""
    stands_for = {
        "worker": task["worker"],
        "task_id": _id(waiting),
        "family": FAMILY,
        "params": {"for": waiting.on},
        "status": PENDING,
        "runnable": False,
        "tracking_url": waiting.url or None,
    }
    needs = {"status": PENDING, "runnable": False, "expl": None, "new_deps": [stands_for["task_id"]]}
    return {**task, **needs, "tracking_url": waiting.url or None}, stands_for


def _id(waiting: Waiting) -> str:
    return f"{FAMILY}_{waiting.on}"


def is_one(task: Mapping[str, Any]) -> Waiting | None:
    """Return what a task waits for, of which luigi's worker is about to tell the scheduler that it failed."""
    return told(json.loads(task["expl"])) if task.get("status") == FAILED and task.get("expl") else None

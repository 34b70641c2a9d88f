"""What luigi makes of the parameters of our tasks: quickly, since a year has thousands of tasks, and for batches.

And what luigi knows by name.
"""

import contextlib
import enum
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import luigi
from luigi.task_register import Register, TaskClassException

from millrace.tasks.settings import KeyParameter, take_over


def registered() -> dict[str, type[luigi.Task]]:
    """Return all that luigi knows by name, sections too; a name that two have can mean neither."""
    found = {}
    for name in sorted(Register.task_names()):
        with contextlib.suppress(TaskClassException):
            found[name] = Register.get_task_cls(name)
    return found


class How(enum.StrEnum):
    """How a run ended."""

    #: All that the run was to do is done.
    DONE = "done"
    #: Something failed, could not be scheduled, or was not there.
    FAILED = "failed"
    #: Somebody stopped the run, by SIGTERM, SIGINT or SIGHUP.
    STOPPED = "stopped"


@dataclass(frozen=True)
class Ending:
    """What came of a run, as finalize() is told.

    failed: the tasks that failed, or could not be scheduled. waiting: those that wait for what needs no process.
    """

    how: How
    failed: Sequence[luigi.Task] = ()
    waiting: Sequence[luigi.Task] = ()


class Task(luigi.Task):
    """luigi's, whose parameters say which of its kind may be one batch, and which partition a task makes."""

    #: Whether the task decides when something is made, and nothing about what is made. Then the identity of what
    #: requires the task has nothing of the task, nor of what that one requires (identity.py).
    only_orders: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        take_over(cls)

    @classmethod
    @functools.cache
    def get_params(cls) -> Any:
        """Return luigi's parameters, kept, because luigi looks through the class for each task that is made."""
        return super().get_params()  # type: ignore[no-untyped-call]

    @classmethod
    def get_param_values(cls, params: Any, args: Any, kwargs: Any) -> Any:
        """Return what luigi returns; where all is given by name, there is no error or default to look for."""
        if not args and len(kwargs) == len(params) and all(name in kwargs for name, _ in params):
            given = [(name, parameter.normalize(kwargs[name])) for name, parameter in params]
            return [(name, tuple(value) if isinstance(value, list | set) else value) for name, value in given]
        return super().get_param_values(params, args, kwargs)  # type: ignore[no-untyped-call]

    @classmethod
    @functools.cache
    def batched(cls) -> list[str]:
        """Return the parameters that the tasks of a batch may differ in."""
        return [name for name, parameter in cls.get_params() if getattr(parameter, "batched", False)]

    @classmethod
    def batch_param_names(cls) -> list[str]:
        """Return none, because luigi's own worker would make one task of several days; workers.py does not."""
        return []

    @classmethod
    @functools.cache
    def key_parameters(cls) -> list[tuple[str, KeyParameter]]:
        """Return the parameters, by name, that say which partition a task makes."""
        return [(name, each) for name, each in cls.get_params() if isinstance(each, KeyParameter)]

    def undo(self) -> None:
        """Take back what the task did outside of its own partition: a row that it sent, a file, a message.

        A task that has such effects declares this; `bin/clear --undo` calls it, then forgets the partition, which is
        still there while this runs. A process that dies in between can't know whether this has been called, so that it
        has to bear being called twice. What it raises stops the command.
        """
        raise NotImplementedError(f"{type(self).__name__}.undo")

    def finalize(self, ending: Ending) -> None:
        """Do what is to be done once, at the end of a run that was to do this task, whatever came of the run.

        It is called in luigi's process, which need not be the one in which run() was.
        """
        raise NotImplementedError(f"{type(self).__name__}.finalize")


def declares(kind: type[luigi.Task], method: str) -> bool:
    """Return whether a kind of task, ours or luigi's, says undo() or finalize() itself."""
    found = getattr(kind, method, None)
    return found is not None and found is not getattr(Task, method)

"""What luigi makes of the parameters of our tasks: quickly, since a year has thousands of tasks, and for batches.

And what luigi knows by name.
"""

import contextlib
import functools
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

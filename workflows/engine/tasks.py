"""Which tasks there are by name, for commands that take one."""

import difflib

import luigi
from luigi.task_register import Register, TaskClassException

from pipelines.errors import SettingError
from workflows.engine.stage import Stage


def known_tasks() -> dict[str, type[luigi.Task]]:
    """Returns the tasks of the modules that were imported, by name; luigi's own, sections and bases are none."""
    found = {}
    for name in sorted(Register.task_names()):
        try:
            task = Register.get_task_cls(name)
        except TaskClassException:  # of two that have one name neither can be meant
            continue
        own = not task.__module__.startswith(("luigi.", f"{__package__}."))
        if own and not issubclass(task, luigi.Config) and (not issubclass(task, Stage) or hasattr(task, "writes")):
            found[name] = task
    return found


def no_task(name: str) -> SettingError:
    """Returns what is said of a name that no task has."""
    there = list(known_tasks())
    near = difflib.get_close_matches(name, there, 1) or [each for each in there if each.lower() == name.lower()]
    meant = f"did you mean {near[0]}? There" if near else "there"
    return SettingError(f"there is no task {name}; {meant} are {', '.join(there)}")

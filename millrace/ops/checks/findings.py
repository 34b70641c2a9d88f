"""What a check is, and what it finds: that all is well, or what mends it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from luigi.task_register import Register

import workflows
from millrace.errors import MillraceError
from millrace.tasks import sections
from millrace.tasks.beam_task import BeamTask

OK, WARNING, WRONG, NOT_ASKED = "ok", "warning", "wrong", "not asked"


@dataclass(frozen=True)
class Finding:
    """What a check found. state: one of the four words above; said: a sentence; mend: commands, or what to set."""

    state: str
    said: str
    mend: Sequence[str] = ()


@dataclass(frozen=True)
class Check:
    """A thing to ask for. after: what must be well before it can be asked; applies: whether the settings need it."""

    name: str
    look: Callable[[], Finding]
    after: Sequence[str] = ()
    applies: Callable[[], bool] = lambda: True


def ok(said: str) -> Finding:
    """Return the finding that all is well."""
    return Finding(OK, said)


def warning(said: str, *mend: str) -> Finding:
    """Return the finding that a run works, but costs more than it should, or may not always work."""
    return Finding(WARNING, said, mend)


def wrong(said: str, *mend: str) -> Finding:
    """Return the finding that a run would fail."""
    return Finding(WRONG, said, mend)


def examine(checks: Iterable[Check]) -> Iterator[tuple[Check, Finding]]:
    """Ask for one thing after the other; do not ask for what depends on something wrong, and say on what."""
    causes: dict[str, str] = {}
    for check in checks:
        if waits := [causes[name] for name in check.after if name in causes]:
            found = Finding(NOT_ASKED, waits[0])
        elif not check.applies():
            continue
        else:
            try:
                found = check.look()
            except MillraceError as error:
                found = wrong(str(error))
        if found.state == WRONG:
            causes[check.name] = check.name
        elif found.state == NOT_ASKED:
            causes[check.name] = found.said
        yield check, found


def uses_dataflow() -> bool:
    """Return whether any task may run on Dataflow."""
    named = {sections.runner_options("DataflowRunner", task).get("runner") for task in beam_tasks()}
    return bool({"DataflowRunner", "auto"} & {sections.millrace().runner, *named})


def job_options() -> list[Mapping[str, str]]:
    """Return the options of each task's jobs, if any runs on Dataflow."""
    return [sections.dataflow_options(task) for task in beam_tasks()] if uses_dataflow() else []


def in_bucket() -> bool:
    """Return whether the storage is a bucket."""
    return sections.millrace().storage.startswith("gs://")


def beam_tasks() -> dict[str, type[BeamTask]]:
    """Return the public tasks that wrap a pipeline, by name."""
    found = {name: Register.get_task_cls(name) for name in workflows.__all__}
    return {name: task for name, task in found.items() if issubclass(task, BeamTask)}

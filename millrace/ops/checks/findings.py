"""What a check is, how checks are made one after the other, and what of the settings decides which are needed."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from millrace.core.findings import NOT_ASKED, WRONG, Finding, wrong
from millrace.errors import MillraceError
from millrace.tasks import sections
from millrace.tasks.beam_task import BeamTask
from millrace.tasks.service import Service
from millrace.tasks.tasks import known_tasks
from millrace.tasks.template_job import TemplateJob


@dataclass(frozen=True)
class Check:
    """A thing to ask for. after: what must be well before it can be asked; applies: whether the settings need it."""

    name: str
    look: Callable[[], Finding]
    after: Sequence[str] = ()
    applies: Callable[[], bool] = lambda: True


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
    launched = in_bucket() and bool(template_jobs())
    return launched or bool({"DataflowRunner", "auto"} & {sections.millrace().runner, *named})


def job_options() -> list[Mapping[str, str]]:
    """Return the options of each task's jobs, if any runs on Dataflow."""
    return [sections.dataflow_options(task) for task in beam_tasks()] if uses_dataflow() else []


def in_bucket() -> bool:
    """Return whether the storage is a bucket."""
    return sections.millrace().storage.startswith("gs://")


def beam_tasks() -> dict[str, type[BeamTask | Service]]:
    """Return the tasks that wrap a pipeline, by name."""
    return {name: task for name, task in known_tasks().items() if issubclass(task, BeamTask | Service)}


def template_jobs() -> dict[str, type[TemplateJob]]:
    """Return the tasks that launch a template, by name."""
    return {name: task for name, task in known_tasks().items() if issubclass(task, TemplateJob)}

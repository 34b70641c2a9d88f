"""What bin/doctor says of streaming services: which job there is, whether it is as it should be, and how far behind."""

import functools
from collections.abc import Sequence

from millrace.core.findings import NOT_ASKED, Finding, ok, warning, wrong
from millrace.core.ledger import Ledger
from millrace.ops.checks.findings import Check
from millrace.tasks import advice, serving, session
from millrace.tasks.service import Service
from millrace.tasks.tasks import known_tasks


def checks() -> Sequence[Check]:
    """Return a check for each service that may run on Dataflow, or has."""
    found = []
    for family, kind in known_tasks().items():
        if issubclass(kind, Service):
            if lacking := _lacking(kind):
                said = f"it has a parameter without a value, --{lacking}, so that nobody can tell which is meant"
                found.append(Check(family, functools.partial(Finding, NOT_ASKED, said)))
            elif (task := kind()) and _may_be_there(task):
                found.append(Check(family, functools.partial(_look, task)))
    return found


def _lacking(kind: type[Service]) -> str:
    """Return a parameter of which no value is known, as a flag is called; "" for none."""
    names = (name for name, each in kind.get_params() if not each.has_task_value(str(kind.task_family), name))
    return next(names, "").replace("_", "-")


def _may_be_there(task: Service) -> bool:
    entry = Ledger(session.current().storage).entry(task.service)
    return entry is not None or task.named_runner() in (serving.RUNNER, "auto")


def _look(task: Service) -> Finding:
    standing, run = serving.look(task), advice.run(task.task_family)
    said = f"{standing.said}; {standing.url}" if standing.url else standing.said
    if standing.state == "new":
        return ok(f"{said}; {run} starts it")
    if standing.state == "stopped":
        return ok(f"{said}; {task.starter} starts it again")
    if standing.state == "running":
        return ok(said)
    if standing.state == "other":
        return warning(f"{said}; the next run updates it", run)
    if given_up := serving.given_up(task):
        return wrong(str(given_up), advice.clear(task.task_family), run)
    return warning(f"{said}; the next run starts another job", run)

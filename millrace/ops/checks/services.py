"""What bin/doctor says of streaming services: which job there is, whether it is as it should be, and how far behind."""

import contextlib
import functools
from collections.abc import Sequence

from millrace.core.findings import NOT_ASKED, OK, WARNING, WRONG, Finding, ok
from millrace.core.ledger import Ledger
from millrace.errors import MillraceError
from millrace.ops.checks.findings import Check
from millrace.tasks import advice, serving, session
from millrace.tasks.service import Service
from millrace.tasks.tasks import known_tasks


def checks() -> Sequence[Check]:
    """Return a check for each service that was started, or that the settings set up on Dataflow."""
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
    """Return whether a service was ever started, or the settings have all that it needs."""
    if Ledger(session.current().storage).entry(task.service) is not None:
        return True
    with contextlib.suppress(MillraceError):
        task.check()
        return task.named_runner() in (serving.RUNNER, "auto")
    return False


def _look(task: Service) -> Finding:
    """Return how a service stands, what the next run of its task does, and the page of its job."""
    standing, run = serving.look(task), advice.run(task.task_family)
    link = [standing.url] if standing.url else []
    if standing.state == "stopped":
        return Finding(OK, f"{standing.said}; {task.starter} starts it again", link)
    if standing.state == "running":
        return Finding(OK, standing.said, link)
    if standing.state == "new":
        return ok(f"{standing.said}; {run} starts it")
    try:
        task.check()
    except MillraceError as error:
        return Finding(WARNING, f"{standing.said}; the next run would say: {error}", link)
    if standing.state == "other":
        return Finding(WARNING, f"{standing.said}; the next run updates it", [*link, run])
    if given_up := serving.given_up(task):
        return Finding(WRONG, str(given_up), [*link, advice.clear(task.task_family), run])
    return Finding(WARNING, f"{standing.said}; the next run starts another job", [*link, run])

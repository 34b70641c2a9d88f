"""What bin/doctor says of the templates that tasks launch: whether each is there, and takes what it is given."""

import functools
from collections.abc import Sequence

from millrace.core.findings import NOT_ASKED, Finding, ok
from millrace.ops.checks.findings import Check, template_jobs
from millrace.tasks import launching
from millrace.tasks.template_job import TemplateJob


def checks() -> Sequence[Check]:
    """Return a check for each task that launches a template."""
    return [Check(family, functools.partial(_look, kind)) for family, kind in template_jobs().items()]


def _look(kind: type[TemplateJob]) -> Finding:
    """Return what a launch by a task would find; without values for all of its parameters nobody can tell."""
    for name, parameter in kind.get_params():
        if not parameter.has_task_value(str(kind.task_family), name):
            flag = f"--{name.replace('_', '-')}"
            said = f"it has a parameter without a value, {flag}, so that nobody can tell what is launched"
            return Finding(NOT_ASKED, said)
    task = kind()
    task.preflight()
    known = launching.known(task)
    launching.checked(task, known)
    return ok(f"the {'flex' if known.flex else 'classic'} template {known.uri}, which takes these parameters")

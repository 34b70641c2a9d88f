"""One look, as a run that does not wait begins, at all jobs that earlier runs left at work.

What stands in the ledger is read at once, several entries at a time, and how the jobs stand is told by a list, page by
page, so that a thousand jobs are a few requests. A template's job that is at work needs nothing else: its task waits
before a process has begun for it. For what has come to its end, and for pipelines, the task runs, and does not ask
again how its job stands.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterable

import luigi

from millrace.core.ledger import Entry, job_of
from millrace.core.waiting import Waiting
from millrace.errors import MillraceError
from millrace.runners.runner import Job, Ticket
from millrace.tasks import session, waits
from millrace.tasks.beam_task import BeamTask
from millrace.tasks.template_job import TemplateJob


def ahead(tasks: Iterable[luigi.Task]) -> None:
    """Read what the ledger has of tasks that luigi is about to ask one by one whether they are complete.

    It is kept until tasks run (over).
    """
    with contextlib.suppress(MillraceError):  # whoever is asked finds out
        here = session.current()
        if names := [task.job for task in tasks if isinstance(task, TemplateJob)]:
            here.entries = here.entries or {}
            here.entries_of(names)


def over() -> None:
    """Have the ledger asked anew from now on, because tasks run."""
    with contextlib.suppress(MillraceError):
        session.current().entries = None


def look(tasks: Iterable[luigi.Task]) -> dict[luigi.Task, Waiting]:
    """Return which tasks wait for jobs that are at work, and keep how their jobs stand for the tasks that run."""
    try:
        names = {task: name for task in tasks if (name := _in_ledger(task))}
        entries = session.current().entries_of(names.values())
        begun = {task: entry for task, name in names.items() if (entry := entries[name]) and _is_begun(entry)}
        jobs = _jobs(begun.values())
    except MillraceError:  # the tasks ask by themselves, and say what is wrong
        return {}
    session.current().looked.update(jobs)
    found = {}
    for task, entry in begun.items():
        job = jobs.get((entry.where, entry.job_id or ""))
        if job and not job.finished and job.state != "CANCELLING" and _wants(task, entry):
            found[task] = waits.at_work(job, entry)
    return found


def _in_ledger(task: luigi.Task) -> str:
    """Return what the ledger calls a task that may have a job at work; "" for any other."""
    if isinstance(task, TemplateJob):
        return task.job
    if isinstance(task, BeamTask):
        return job_of(task.task_family, task.datasets()[0].partition)
    return ""


def _is_begun(entry: Entry) -> bool:
    return entry.state == "running" and bool(entry.job_id) and session.current().runner(entry.runner).outlives


def _jobs(entries: Iterable[Entry]) -> dict[tuple[str, str], Job]:
    """Return the jobs of some attempts, by place and id."""
    tickets = defaultdict[str, set[Ticket]](set)
    for entry in entries:
        tickets[entry.runner].add(Ticket(entry.job_name, entry.request_id, entry.where, entry.job_id or ""))
    return {
        (ticket.place, ticket.id): job
        for runner, some in tickets.items()
        for ticket, job in session.current().runner(runner).look(some).items()
    }


def _wants(task: luigi.Task, entry: Entry) -> bool:
    """Return whether a template's job does what its task would have it do."""
    with contextlib.suppress(MillraceError):
        return isinstance(task, TemplateJob) and entry.work == task.work()
    return False

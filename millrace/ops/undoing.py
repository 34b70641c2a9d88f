"""bin/clear --undo: have tasks take back what they did outside of their partitions, the last step first (window.py).

All claims of the window are taken first, so that no run does again meanwhile what is undone; where a run is at work on
any of it, nothing is undone. Then step by step: undo(), and once that has returned the step's partitions go. A process
that dies in between leaves the step complete, and the next call of the command begins with it.
"""

import contextlib

from millrace.common import folders
from millrace.common.text import plain
from millrace.core.ledger import Entry, Ledger
from millrace.core.waiting import Waiting
from millrace.errors import ConflictError, JobFailedError, SettingError, TerminalError
from millrace.ops import deleting, results
from millrace.ops.window import Step, Window
from millrace.runners.runner import Job, Ticket
from millrace.tasks import session, telling

#: Of how many tasks the claims are held at once, each by an open file, or by a thread that renews it.
_MOST = 200


def plan(named: results.Named) -> Window:
    """Return what there is to undo. Raises SettingError where nothing of it declares undo()."""
    window = Window(named, session.current().storage)
    if not window.declared():
        raise SettingError(
            f"{', '.join(named.names)}: no undo() is declared, neither there nor by what it is built on or what was "
            "made from it, so that there is nothing to undo; without --undo this command forgets results"
        )
    return window


def carry_out(window: Window, *, yes: bool) -> None:
    """Undo the steps of a window, once a person has said yes where they are more than one day's.

    Raises a MillraceError where somebody is at work on them, or one can't be undone; what comes after it is left.
    """
    _check_nobody_is_at_work(window)
    names = [step.name for step in window.steps]
    # A job without a day is one thing, where a partition without a day holds many.
    timeless = [step.name for step in window.steps if not step.partitions and not folders.date_of(step.name)]
    if not yes and (len(timeless) > 1 or deleting.are_many([*{*names} - {*timeless}], window.named)):
        deleting.ask(f"{len(names)} steps of {deleting.days_of(names)}", "undo", "undone", "would be undone")
    claims = window.claims()
    if len(claims) > _MOST:
        raise SettingError(
            f"{len(claims)} tasks are of this window, and at most {_MOST} are undone at once: nothing was undone; say "
            "fewer days with --from and --to, the last ones first"
        )
    storage = session.current().storage
    with contextlib.ExitStack() as held:
        for job in claims:
            try:
                held.enter_context(Ledger(storage).claim(job, wait=False))
            except Waiting:
                raise ConflictError(
                    f"a run is at work on {job}: nothing was undone; stop that run, or let it end, then call this again"
                ) from None
        now = Window(window.named, storage)
        _check_nobody_is_at_work(now)  # a run may have come and gone since
        if now.steps != window.steps:
            raise ConflictError("what there is to undo has changed meanwhile: nothing was undone; call this again")
        for step in window.steps:
            _undo(step, window)


def _check_nobody_is_at_work(window: Window) -> None:
    """Raise JobFailedError for a job of Dataflow that is at work for the window."""
    for entry, launched in window.running():
        if job := _job_at_work(entry, launched=launched):
            raise JobFailedError(
                f"job {job.name}, of {entry.task}, is {job.state}: nothing was undone; cancel it, or have a run bring "
                f"it to its end, then call this again{f'; see {job.url}' if job.url else ''}"
            )


def show(step: Step) -> None:
    """Print what is going to be done to a step."""
    storage = session.current().storage
    if step.task:
        print(plain(f"undo {step}"))
    for partition in step.partitions:
        print(plain(storage.uri(partition)))
    if not step.partitions:
        print(plain(f"that {step.name} was done, so that it is launched again"))


def _undo(step: Step, window: Window) -> None:
    """Undo a step, then have it go. Raises TerminalError if its undo() fails."""
    if step.task:
        try:
            step.task.undo()
        except Exception as error:  # which somebody's own code raises
            raise TerminalError(
                f"undo() of {step.task} failed: {telling.why(error)}; so it stays, and what was done before it; mend "
                "that, then call this again"
            ) from error
        print(plain(f"undone {step.task}"), flush=True)
    if not step.partitions:
        Ledger(session.current().storage).forget(step.name)
        return
    # What an earlier call has begun to delete is no partition any more, but its files may be there.
    begun = results.of_one_attempt(step.name, window.named.tasks) - {*step.partitions}
    for partition in [*sorted(begun), *step.partitions]:
        deleting.forget(partition, window.there.get(partition), window.named.tasks)


def _job_at_work(entry: Entry, *, launched: bool) -> Job | None:
    """Return the job of an attempt that is at work whatever became of the process that began it; None for none.

    launched: whether a template was launched for it.
    """
    if not entry.runner or not session.current().runner(entry.runner).outlives:
        return None
    ticket = Ticket(entry.job_name, entry.request_id, entry.where, entry.job_id or "")
    job = None if launched and not ticket.id else session.current().runner(entry.runner).find(ticket)
    if job is None and launched:
        from millrace.runners.dataflow import templates

        job = templates.find(session.current().google, ticket, entry.started)
    return job if job is not None and not job.finished else None

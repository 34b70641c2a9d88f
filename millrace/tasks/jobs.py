"""The pipelines of a batch: which there are, how they are begun or found again, waited for, and stopped.

In process a pipeline ends with the process. On Dataflow it is a job, which outlives the process:

    begun   each partition's ledger entry says which job it will be of (name and request id), and which others are of
            the same job, before that job is submitted, once for all
    found   a run that finds such an entry looks for the job: running or done, the attempt is gone on with, also by a
            run that wants but one of the job's partitions; not there, it is submitted as the same job by a run that
            holds all of its partitions, and else each makes its next attempt; failed or cancelled, the attempt is over,
            and so is one that was asked to do other work than this run would
    run     submit, note the job's id, wait; whoever stops this process cancels the jobs, unless [run] detach. A run
            that does not wait ([run] wait = false) submits, and leaves what is at work to the next run: each partition
            of it waits then (core/waiting.py)

An entry says that an attempt is over only when its job is known to be over, or never was. What else goes wrong, such as
a service that does not answer, leaves the entry at "running", for the next run to look for the job.

An error that belongs to one partition comes in the partition's result. One that ends the whole pipeline belongs to
none: in process the partitions are then made one by one; on Dataflow all have failed once, and jobs of partitions that
have failed are the smaller the more often they have, so that one bad day can't hold the others forever.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from millrace.common import partitions
from millrace.core import ledger, resources
from millrace.core.ledger import Entry, failures
from millrace.core.stopping import Stopped
from millrace.errors import JobCancelledError, JobFailedError, MillraceError, TerminalError
from millrace.runners.runner import Job, Progress, Run, Runner, Ticket
from millrace.tasks import auto, sections, session, settings, waits
from millrace.tasks.finishing import Look
from millrace.tasks.protocols import PipelineLike
from millrace.tasks.work import Work, left, prefix

log = logging.getLogger("millrace")

#: An option longer than this many characters goes through a file: a job takes 10 MB of options, a process less.
_LONGEST_OPTION = 50_000
#: By how much jobs are smaller for each time that their partitions have failed.
_SMALLER = 8


@dataclass
class Batch:
    """Partitions that are one run of their pipeline. job: that run, once it is known. ended: whether it is over."""

    works: list[Work]
    runner: Runner
    job: Job | None = None
    ended: bool = False

    @property
    def entry(self) -> Entry:
        """The attempt of one of its partitions; all have the same job."""
        return max((work.claim.attempt for work in self.works), key=lambda entry: entry.job_id or "")

    @property
    def ticket(self) -> Ticket:
        """What its runner finds the job by."""
        entry = self.entry
        return Ticket(entry.job_name, entry.request_id, entry.where, entry.job_id or "")

    @property
    def name(self) -> str:
        """The batch as people say it."""
        first, *others = self.works
        return f"{first.stage}{f' and {len(others)} more' if others else ''}"


def _task(work: Work) -> PipelineLike:
    return cast(PipelineLike, work.stage)


# --- jobs of earlier runs


def found(works: Sequence[Work]) -> list[Batch]:
    """Return the jobs that earlier runs left, with those of the partitions that go on with them."""
    groups = defaultdict(list)
    for work in works:
        entry = work.claim.entry
        if entry and entry.state in ("running", "refused") and session.current().runner(entry.runner).outlives:
            groups[entry.job_name, entry.request_id].append(work)
    return [batch for group in groups.values() if (batch := _found(group)).works]


def _found(works: list[Work]) -> Batch:
    batch, same = Batch(works, session.current().runner(works[0].claim.attempt.runner)), set[Work]()
    for work in works:
        with work.alone():
            same |= {work} if work.claim.attempt.work == _task(work).work() else set()
    try:
        batch.job = job = session.current().find(batch.runner, batch.ticket)
        whole = {work.claim.task for work in works} >= set(batch.entry.members)
        stopping = job is not None and job.state == "CANCELLING"
        unwanted = whole and not same and len(left(works)) == len(works)
        if job and not job.finished and (stopping or unwanted):
            batch.job = job = batch.runner.stop(job, wait=sections.waits())
    except Exception as error:
        for work in works:
            work.end(error)
        return Batch([], batch.runner)
    if job is None:
        entries = [(work, work.claim.attempt) for work in works]
        again = all(each.state == "running" and each.code == work.stage.code_now() for work, each in entries)
        # Where some of its partitions have gone on to other attempts, there must be no such job any more.
        batch.works = works if again and whole and len(same) == len(works) else []
        return batch
    ended = _end_of(batch) if job.finished and job.state != "DONE" and not stopping else None
    batch.works = []
    for work in left(works):
        with work.alone():
            if not (over := _is_over(work, job, stopping, work in same)):
                batch.works.append(work)
            elif work in same and ended:
                failed = _fail(work, ended)
                if not sections.waits():  # the run that submitted the job has not told of it
                    raise failed
            else:
                work.claim.close(over, "stopped")
    return batch


def _is_over(work: Work, job: Job, stopping: bool, same: bool) -> str:
    """Return why an attempt is not gone on with; "" if it is."""
    entry, became = work.claim.attempt, f"job {job.id} is {job.state.lower()}"
    if not same:
        return f"its input or options have changed; {became}"
    if stopping:
        return f"stopped before; {became}"
    if job.finished and job.state != "DONE":
        return became
    if entry.state == "refused" and entry.code != work.stage.code_now():
        return f"{entry.error}; other code may do better"
    if job.finished and session.current().storage.read(_task(work).result_of(entry)) is None:
        return f"what it made is gone; {became}"
    return ""


# --- new ones


def begun(works: Sequence[Work]) -> Iterator[Batch]:
    """Enter attempts for partitions, and yield the runs that they are to be, each when its turn comes."""
    for name, some in _by_runner(works):
        for group in _by_failures(some, name):
            if batch := _begun(group, name):
                yield batch


def _by_runner(works: Sequence[Work]) -> Iterator[tuple[str, list[Work]]]:
    """Yield which runner is for which partitions: what the settings say, and for auto by the memory that they take."""
    anywhere: list[Work] = []
    here: list[Work] = []
    for work in works:
        with work.alone():
            (here if _task(work).runs_here() else anywhere).append(work)
    if anywhere:
        named = _task(anywhere[0]).named_runner()
        if named == "auto":
            yield from auto.runs(anywhere)
        else:
            yield named, anywhere
    if here:
        yield "FnApiRunner", here


def _by_failures(works: Sequence[Work], name: str) -> Iterator[list[Work]]:
    """Yield the partitions that may be one job. Those that have failed too often end with JobFailedError."""
    if not session.current().runner(name).outlives:
        yield list(works)
        return
    limit = sections.dataflow().attempts
    groups = defaultdict[int, list[Work]](list)
    for work in works:
        with work.alone():
            failed = failures(work.claim.entry, _task(work).work(), work.stage.code_now())
            if failed >= limit:
                raise _too_often(work, failed, limit)
            groups[failed].append(work)
    for failed, group in sorted(groups.items()):
        last = failed and failed == limit - 1
        size = 1 if last else max(1, len(works) // _SMALLER**failed)
        yield from (group[at : at + size] for at in range(0, len(group), size))


def _too_often(work: Work, failed: int, limit: int) -> JobFailedError:
    entry = work.claim.attempt
    return JobFailedError(
        f"{work.stage} has failed {failed} times with the same code and input, and dataflow.attempts = {limit} "
        f"({settings.origin('dataflow', 'attempts')}), so no further job was submitted; the last one: "
        f"{entry.error}; mend it, forget the failures ({_task(work).forget}), and run again"
    )


def _begun(works: Sequence[Work], name: str) -> Batch | None:
    """Enter the attempts of one run; None where there is none left."""
    runner = session.current().runner(name)
    try:
        where = runner.place()
    except MillraceError as error:
        for work in works:
            work.end(error)
        return None
    entries = ledger.Batch(
        prefix([work.stage for work in works]), [work.claim for work in works], runner=name, where=where
    )
    for work in works:
        with work.alone():
            entries.enter(work.claim, _task(work).work(), work.stage.code_now())
    return Batch(left(works), runner) if left(works) else None


# --- running them


def run(batches: Iterable[Batch]) -> None:
    """Run some pipelines, and make the partitions of what they write.

    Jobs are all submitted before the first is waited for; what runs in this process does so in between.
    """
    alive: list[Batch] = []
    try:
        for batch in batches:
            _clear(batch)
            if batch.works and batch.runner.outlives:
                alive.append(batch)
                _start(batch)
            elif batch.works:
                _run_here(batch)
        for batch in alive:
            if left(batch.works):
                _wait(batch)
    except (KeyboardInterrupt, Stopped) as stop:
        for batch in alive:
            if not batch.ended and left(batch.works):
                _stop(batch, stop)
        raise


def _clear(batch: Batch) -> None:
    for work in batch.works:
        with work.alone():
            work.clear()
    batch.works = left(batch.works)


def _arguments(batch: Batch) -> Mapping[str, str]:
    """Return the pipeline's options."""
    first, storage = batch.works[0], session.current().storage
    given = partitions.to_json(_task(work).partition_of(work.claim.attempt) for work in batch.works)
    if len(given) > _LONGEST_OPTION:
        folder = _task(first).result_of(first.claim.attempt).rpartition("/")[0]
        storage.replace(f"{folder}/_partitions.json", given.encode())
        given = f"@{storage.uri(folder)}/_partitions.json"
    return {"partitions": given, **session.current().google.access.options(), **_task(first).common_options()}


def _begin(batch: Batch) -> Job:
    first = _task(batch.works[0])

    def in_turn(why: str) -> None:
        waits.in_turn(batch.entry.job_name, why)
        for work in batch.works:
            _task(work).say(why)

    return batch.runner.start(first.pipeline, _arguments(batch), first.task_family, batch.ticket, in_turn)


def _start(batch: Batch) -> None:
    """Submit a job, unless it has been found, and note its id."""
    for work in batch.works:
        work.claim.alive = True
    try:
        if batch.job is None:
            batch.job = _begin(batch)
    except Exception as error:
        for work in batch.works:
            work.end(error)
        return
    for work in batch.works:
        with work.alone():
            work.claim.submitted(batch.job.id)
            _task(work).link(batch.job.url)


def _wait(batch: Batch) -> None:
    """Wait for a job, and make the partitions of what it wrote; a run that does not wait leaves one that is at work."""
    assert batch.job is not None
    works = left(batch.works)
    if not sections.waits() and not batch.job.finished:
        for work in works:
            work.end(waits.at_work(batch.job, work.claim.attempt))
        return
    messages: Any = next((found for work in works if (found := _task(work).scheduler_messages)), None)
    rows = sum(file.rows for work in works for file in _task(work).input_files())

    def tell(progress: Progress) -> None:
        for work in works:
            _task(work).tell(progress, rows)

    try:
        if not batch.job.finished:
            batch.job = batch.runner.watch(batch.job, tell, messages)
    except JobCancelledError as error:  # the cancellation is taking too long
        for work in works:
            with work.alone():
                work.claim.close(str(error), counts=True)
                raise error
        return
    except Exception as error:
        for work in works:
            work.end(error)
        return
    batch.ended = True
    for work in works:
        work.claim.alive = False
    if batch.job.state != "DONE":
        ended = _end_of(batch)
        for work in works:
            with work.alone():
                raise _fail(work, ended)
        return
    _make(batch, batch.runner.result(batch.job))


def _run_here(batch: Batch) -> None:
    """Run a pipeline in this process; where it fails for several partitions, one by one."""
    try:
        with resources.told():
            job = batch.runner.watch(_begin(batch), lambda progress: None)
            run = batch.runner.result(job)
    except Exception as error:
        for work in batch.works:
            with work.alone():
                work.claim.close(str(error) or type(error).__name__)
                if len(batch.works) == 1:
                    raise _task(work).explained(error) from error.__cause__
        if len(batch.works) > 1:
            log.warning("%s: failed, so each is done by itself now: %s", batch.name, error)
            for work in left(batch.works):
                for alone in begun([work]):
                    _clear(alone)
                    if alone.works:
                        _run_here(alone)
        return
    _make(batch, run)


def _make(batch: Batch, run: Run) -> None:
    """Make the partitions of what a pipeline wrote, each by itself."""
    works = left(batch.works)
    look = Look([work.stage for work in works])
    for work in works:
        task, outcome = _task(work), None
        with work.attempted():
            attempt = work.claim.attempt
            written = task.written(attempt)
            try:
                outcome = task.outcome(attempt, written, run, len(attempt.members) or len(batch.works))
            except MillraceError as error:
                # What the pipeline says of the partition is its last word, which no other look at the result would
                # mend.
                told = _told_by(batch, task, error)
                work.claim.close(str(told), counts=batch.runner.outlives and isinstance(told, TerminalError))
                raise told from None
        if outcome is not None:
            work.make(outcome, look)


def _told_by(batch: Batch, task: PipelineLike, error: MillraceError) -> Exception:
    """Return what a pipeline told of one of its partitions, with the job where there is one."""
    error = cast(MillraceError, task.explained(error))
    if batch.job is None or not batch.job.url:
        return error
    mend = "; ".join(filter(None, [error.mend, f"see {batch.job.url}", _again(task)]))
    what = f"Dataflow job {batch.job.name} failed: {error.what}"
    return type(error)(what, *error.commands, where=error.where, mend=mend)


def _end_of(batch: Batch) -> MillraceError:
    """Return the error that tells of a job that has come to a bad end."""
    assert batch.job is not None
    try:
        batch.runner.result(batch.job)
    except MillraceError as error:
        return error
    raise AssertionError(f"{batch.job.name} is {batch.job.state} and has a result")


def _fail(work: Work, error: MillraceError) -> MillraceError:
    """Close the attempt of a job that has come to a bad end; return the error with the command that tries again."""
    own = type(error)(error.what, *error.commands, where=error.where, mend=_again(_task(work)))
    # A source that was busy, say, is no reason to stop submitting.
    work.claim.close(str(own), counts=isinstance(own, TerminalError | JobCancelledError))
    return own


def _again(task: PipelineLike) -> str:
    """Return what tries again, as errors have it: braces in the command are no places for others."""
    return f"run again: {task.command}".replace("{", "{{").replace("}", "}}")


def _stop(batch: Batch, stop: BaseException) -> None:
    """Have a job end with this process, unless it is to be left."""
    name = batch.entry.job_name
    if sections.run().detach or not sections.waits():
        log.warning("%s: left running as job %s; the next run waits for it", batch.name, name)
        return
    try:
        job = batch.job or batch.runner.find(batch.ticket)
        if job is None:  # the entries stay as they are
            log.warning("%s: job %s may be on its way; the next run finds it", batch.name, name)
            return
        job = batch.runner.stop(job)
        log.warning("%s: job %s is %s", batch.name, job.id, job.state.lower())
        if job.finished and job.state != "DONE":
            for work in batch.works:
                work.claim.close(f"{stop}; job {job.id} is {job.state.lower()}", "stopped")
    except MillraceError as error:
        log.warning("%s: job %s may still run; the next run finds it: %s", batch.name, name, error)

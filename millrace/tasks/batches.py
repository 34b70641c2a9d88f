"""The protocol of a run: what is done for several partitions of one stage, each with a fate of its own.

    1  claim every partition in the ledger, in the order of their names, so that two hosts wait for each other in one
       order; a living run is waited for (unless this one waits for nothing), a dead one is taken over. What is complete
       by then is published, and drops out
    2  look for jobs that earlier runs left at work, and go on with them (jobs.py)
    3  enter an attempt for each of the others, clear what dead attempts left, and run their pipeline, one for all;
       what needs no pipeline is made one by one
    4  for each partition by itself: check what came out, write its manifest if there is none (from here on it is
       there), publish its further datasets and tables, close its attempt

Every step may be the last thing that a process ever does; the next run continues from there, be its batch the same, a
part of it, or another that overlaps. One partition that fails takes none of the others with it. A stage that is run by
itself is a batch of one.

Luigi's worker forms batches (workers.py) and hands their members here, in the process that does them. Each member has
luigi's `set_tracking_url`, `set_status_message` and `set_progress_percentage` for its own line in luigid; all share one
queue of `scheduler_messages`, so that what is sent to any of them arrives.
"""

import contextlib
import itertools
import time
from collections.abc import Sequence

from millrace.core import resources
from millrace.core.ledger import Ledger, job_of
from millrace.core.storage import read_all
from millrace.core.waiting import Waiting
from millrace.errors import TerminalError
from millrace.tasks import finishing, freshness, jobs, preflight, sections, session
from millrace.tasks.finishing import Look
from millrace.tasks.protocols import Outcome, StageLike, Unmet
from millrace.tasks.work import Work, left, prefix


def run(members: Sequence[StageLike], fates: dict[str, BaseException | None]) -> None:
    """Do what is left to do of some partitions of one stage; note what went wrong with each, by its task_id.

    fates: what is known of them is there also when this ends by an exception. A second run at the same time, or after a
    crash, gives the same result.
    """
    waiting = list(members)
    while waiting:
        # By partition, not by luigi's task id, because tasks that differ in a parameter may write the same one.
        batch = {_name(stage): stage for stage in reversed(waiting)}
        waiting = [stage for stage in waiting if batch[_name(stage)] is not stage]
        with resources.told(), contextlib.ExitStack() as held:
            works: list[Work] = []
            for name in sorted(batch):
                try:
                    claim = Ledger(session.current().storage).claim(name, wait=sections.waits())
                    works.append(Work(batch[name], held.enter_context(claim)))
                except Waiting as another:
                    fates[batch[name].task_id] = another
            try:
                _do(works)
            finally:
                fates |= {work.stage.task_id: work.error for work in works if work.over}


def _name(stage: StageLike) -> str:
    return job_of(stage.task_family, stage.datasets()[0].partition)


def _do(works: Sequence[Work]) -> None:
    _drop_what_is_there(works)
    look = Look([work.stage for work in left(works)])
    for work in left(works):
        with work.alone():
            work.stage.look_from(look)
    found = jobs.found(left(works))
    at_work = {work for batch in found for work in batch.works}
    pipelined = []
    for work in [work for work in left(works) if work not in at_work]:
        with work.alone():
            if _is_pipelined(work):
                pipelined.append(work)
            else:
                _execute(work)
    jobs.run(itertools.chain(found, jobs.begun(pipelined)))


def _drop_what_is_there(works: Sequence[Work]) -> None:
    """Publish what is complete meanwhile, as far as that is left to do; what is stale stays until the new is."""
    datasets = [work.stage.datasets()[0] for work in works]
    read = read_all(session.current().storage, [dataset.manifest_path for dataset in datasets])
    stale = freshness.wanted(dataset.partition for dataset in datasets)
    for work, dataset, file in zip(works, datasets, read, strict=True):
        with work.alone():
            there = dataset.parsed(file)
            current = there is None or freshness.current(work.stage, there[0])
            if file and there and (not current or dataset.partition in stale):
                work.stale = there[0], file.version
            if there and not work.stale:
                finishing.publish_there(work.stage, work.claim, there)
                work.end()
            else:  # nobody may have asked, because luigid gives tasks to workers that did not schedule them
                preflight.check(type(work.stage).__qualname__, work.stage.preflight)


def _is_pipelined(work: Work) -> bool:
    """Return whether a pipeline makes the partition; where even that can't be told, the ledger says why."""
    try:
        return work.stage.pipelined()
    except Exception as error:
        _begin(work)
        work.claim.close(str(error) or type(error).__name__)
        raise


def _prepare(work: Work) -> None:
    """Have the stage do what comes before an attempt; where that fails, the ledger says why."""
    try:
        work.stage.prepare()
    except (Unmet, Waiting):
        raise  # there is no attempt yet, and nothing is wrong
    except Exception as error:
        _begin(work)
        work.claim.close(str(error) or type(error).__name__)
        raise


def _begin(work: Work) -> None:
    work.claim.begin(prefix([work.stage]), code=work.stage.code_now())


def _execute(work: Work) -> None:
    """Make a partition that needs no pipeline."""
    work.since = time.monotonic()
    _prepare(work)
    _begin(work)
    work.clear()
    outcome: Outcome | None = None
    with work.attempted():
        outcome = work.stage.execute(work.claim)
        if outcome is None:  # whoever writes a stage without types is told of it here
            raise TerminalError(f"{type(work.stage).__qualname__}.execute returned nothing; return an Outcome")
    if outcome is not None:
        work.make(outcome, Look([work.stage]))

"""finalize(): what tasks have done once, at the end of a run that was to do them, whatever came of the run.

The tasks are those that the run found not complete. A run that found all complete has none, and a run that waits
(exit codes 12 and 13) is not over: the firing that ends it calls finalize().
"""

import logging
from typing import Any

from luigi.execution_summary import _partition_tasks
from luigi.task_status import DONE, FAILED

from millrace.tasks import signals, telling
from millrace.tasks.base import Ending, How, declares

luigis_log = logging.getLogger("luigi-interface")


class Noting:
    """luigi's factory of a run's worker, which notes the worker: a run that is stopped returns none."""

    def __init__(self, factory: Any) -> None:
        self._factory = factory
        self.worker: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._factory, name)

    def create_worker(self, *args: Any, **kwargs: Any) -> Any:
        """Return the worker that the factory makes."""
        self.worker = self._factory.create_worker(*args, **kwargs)
        return self.worker


def ended(worker: Any, *, well: bool) -> bool:
    """Call finalize() of a run's tasks at its end; return whether each of them ended well.

    One that fails has the run end as one in which a task failed does, unless it ends by a higher exit code anyway.
    """
    wrong = _call(worker, How.STOPPED if signals.asked() else How.DONE if well else How.FAILED)
    worker._add_task_history += [(what, FAILED, False) for what in wrong]  # by which luigi finds the exit code
    return not wrong


def broke_off(worker: Any, error: BaseException) -> None:
    """Call finalize() of the tasks of a run that somebody stopped, or that broke off otherwise, once its tasks have
    ended.
    """
    if worker is None:
        return
    for process in set(worker._running_tasks.values()):
        if process.is_alive():
            process.join()
    stopped = signals.asked() or isinstance(error, KeyboardInterrupt)
    _call(worker, How.STOPPED if stopped else How.FAILED)


def _call(worker: Any, how: How) -> list[str]:
    """Call finalize() of each task that declares it, what others need first; return what went wrong, told already.

    Whoever stops the process stops the one that is at work, and the others are still called.
    """
    tasks = dict.fromkeys(task for task, status, _ in worker._add_task_history if status != DONE)
    parts = _partition_tasks(worker)
    failed = [task for task in tasks if task in parts["failed"] | parts["scheduling_error"]]
    waits = getattr(worker, "waits", None)  # somebody may have brought another worker
    ending = Ending(how, failed, list(waits.of) if waits else [])
    wrong, stop = [], None
    declaring: list[Any] = [task for task in tasks if declares(type(task), "finalize")]
    for task in reversed(declaring):
        try:
            task.finalize(ending)
        except KeyboardInterrupt as interrupt:
            stop = interrupt
        except (Exception, SystemExit) as error:  # whatever somebody's own code raises, the others have their turn
            wrong.append(f"finalize() of {task} failed: {telling.why(error)}")
            luigis_log.error("%s", wrong[-1])
    if stop:
        raise stop
    return wrong

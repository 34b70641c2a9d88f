"""What a task that waits for a job tells luigid meanwhile. A luigid that is gone is no reason to stop waiting.

And what is told of what users' own code raises.
"""

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from luigi.rpc import RPCError

from millrace.common.secrets import redacted
from millrace.common.text import one_line
from millrace.errors import MillraceError

log = logging.getLogger("millrace")

T = TypeVar("T")


def show(how: Callable[[T], None] | None, value: T) -> None:
    """Show luigid something. how: as luigi gives it to a task that runs, None where nobody runs the task."""
    try:
        if how:
            how(value)
    except RPCError as error:
        log.info("luigid does not answer: %s", error)


def link(task: Any, url: str) -> None:
    """Show luigid where a task's job has its page."""
    show(lambda where: _link(task, where), url)


def _link(task: Any, url: str) -> None:
    if task.set_tracking_url is None:  # nobody runs the task through luigi
        return
    try:
        # luigi's own call leaves out that the task accepts messages, which luigid takes for a no.
        reporter = task.set_tracking_url.__self__
        worker = {"worker": reporter._worker_id, "status": "RUNNING", "accepts_messages": task.accepts_messages}
        reporter._scheduler.add_task(task_id=task.task_id, tracking_url=url, **worker)
    except (AttributeError, TypeError) as error:  # another luigi may do this otherwise
        log.warning("%s: luigid can't be shown the job's page %s with this version of luigi: %s", task, url, error)


def why(error: BaseException) -> str:
    """Return what somebody's own code raised as a part of a sentence: where it was raised, if it is not for people."""
    if isinstance(error, MillraceError):
        return one_line(str(error))
    *_, last = traceback.extract_tb(error.__traceback__)
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return one_line(redacted(f"{said} ({Path(last.filename).name}, line {last.lineno})"), 500)

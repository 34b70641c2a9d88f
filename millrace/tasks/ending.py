"""What a run says and does when it ends: well, with where its page is; badly, with a mail; what is stale either way."""

import atexit
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import luigi
import luigi.interface
import luigi.retcodes
from luigi.execution_summary import LuigiStatusCode
from luigi.task import flatten

from millrace.common.text import one_line, plain
from millrace.errors import MillraceError
from millrace.tasks import finalizing, freshness, mail, signals, staleness
from millrace.tasks.waits import Waits

luigis_log = logging.getLogger("luigi-interface")

# luigi's classes have no type hints.
_luigi: Any = luigi.interface
_retcode: Any = luigi.retcodes.retcode
_WELL = (LuigiStatusCode.SUCCESS, LuigiStatusCode.SUCCESS_WITH_RETRY)

#: What the run is to make, once that is known; and whether it ended well, once that is.
_task: luigi.Task | None = None
_well: bool | None = None


def install(said: Callable[[], Sequence[str]]) -> None:
    """Have the run of this process say at its end what there is to say, and ask before it begins what there is to ask.

    said: returns the sentences of what went wrong.
    """
    schedule_and_run = _luigi._schedule_and_run

    def and_end(tasks: Sequence[luigi.Task], worker_scheduler_factory: Any = None, *args: Any, **kwargs: Any) -> Any:
        global _task, _well
        _task = tasks[0]
        factory = finalizing.Noting(worker_scheduler_factory or _luigi._WorkerSchedulerFactory())
        with contextlib.suppress(MillraceError):  # what is wrong with the settings or the storage, scheduling says
            freshness.ask(tasks)
        try:
            ran = schedule_and_run(tasks, factory, *args, **kwargs)
        except BaseException as error:
            finalizing.broke_off(factory.worker, error)
            raise
        staleness.tell()
        waited: Waits = getattr(ran.worker, "waits", Waits())  # somebody may have brought another worker
        luigis_log.info(waited.summary(ran.summary_text))
        if code := waited.code(ran.worker):
            _retcode().missing_data = code  # the one that luigi has made before, and looks at now
        asleep = ran.status is LuigiStatusCode.MISSING_EXT and bool(code)
        if ran.status in _WELL and (where := _where(_task)):
            print(plain(where), file=sys.stderr)
        _well = asleep or (finalizing.ended(ran.worker, well=ran.status in _WELL) and ran.status in _WELL)
        return ran

    _luigi._schedule_and_run = and_end  # there is no event at the end of a run
    atexit.register(_send_mail, os.getpid(), said)


def _where(task: luigi.Task) -> str:
    """Say where the page is that the run was to make, or those of the tasks that it stands for (RangeDaily)."""
    tasks = flatten(task.requires()) if isinstance(task, luigi.WrapperTask) else [task]
    pages: list[Any] = [each for each in tasks if hasattr(each, "page")]
    if len(pages) > 1:
        return f"{len(pages)} pages are listed in {_opened(pages[0].list_of_pages)}"
    return f"The page is {_opened(pages[0].page)}" if pages else ""


def _opened(uri: str) -> str:
    """Return what a browser opens."""
    return uri.replace("gs://", "https://storage.cloud.google.com/", 1)


def _send_mail(process: int, said: Callable[[], Sequence[str]]) -> None:
    """Send the mail of a run that failed, even before it began; none for a run that somebody stopped."""
    failed = _well is False or (_well is None and said())
    if process == os.getpid() and failed and not signals.asked():
        mail.send(one_line(str(_task or "luigi"), 200), said())

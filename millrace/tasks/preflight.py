"""What a run is going to need, asked for when it is scheduled: once for each kind of task, before any job is paid for.

When a task's complete() raises, luigi runs neither the task nor what it depends on. So a dataset that does not exist,
or a region that nobody has set, costs no job. What may not be looked at is left to the step that needs it.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

from millrace.common.tables import Table
from millrace.core.findings import WRONG, Finding
from millrace.errors import AccessError, Command, MillraceError, ServiceError, SettingError
from millrace.tasks import session

T = TypeVar("T")


def check(kind: str, look: Callable[[], None]) -> None:
    """Raise AccessError if nothing can be stored, and what `look` raised for the first stage of this kind."""
    once(("preflight", "storage"), lambda: session.current().storage.check())
    once(("preflight", kind), look)


def for_tables(tables: Mapping[str, Table]) -> None:
    """Raise SettingError, AccessError or SchemaError if the warehouse can't take rows of these tables."""
    here = session.current()
    here.warehouse.check(tables)
    if here.config.warehouse:
        _require(here.places.dataset_fits)


def for_dataflow() -> None:
    """Raise SettingError, or AccessError, if no job of these settings can run on Dataflow."""
    from millrace.runners.dataflow import jobs, submission

    here = session.current()
    submission.check_root(here.google)
    jobs.place(here.google)
    _require(here.places.region_fits)


def once(key: Hashable, look: Callable[[], T]) -> T:
    """Return what looking found, or raise the MillraceError that it raised, now or the first time in this session."""
    found = session.current().once(key, lambda: _found(look))
    if isinstance(found, MillraceError):
        # Without its traceback, which would grow with every task that the error is raised for.
        raise found.with_traceback(None)
    return found


def _found(look: Callable[[], T]) -> T | MillraceError:
    try:
        return look()
    except MillraceError as error:
        return error


def _require(look: Callable[[], Finding]) -> None:
    """Raise SettingError if something is found wrong."""
    try:
        found = look()
    except (AccessError, ServiceError):  # a run does not need storage.buckets.get, which this look takes
        return
    if found.state == WRONG:
        raise SettingError(found.said, Command("doctor"), mend="{0} has the commands")

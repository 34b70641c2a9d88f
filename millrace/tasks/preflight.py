"""What a run is going to need, asked for when it is scheduled: once for each kind of task, before any job is paid for.

When a task's complete() raises, luigi runs neither the task nor what it depends on. So a dataset that does not exist,
or a region that nobody has set, costs no job. What may not be looked at is left to the step that needs it.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from millrace.common.tables import Table
from millrace.errors import AccessError, MillraceError, ServiceError, SettingError
from millrace.tasks import advice, sections, session

if TYPE_CHECKING:
    from millrace.ops.checks.findings import Finding
    from millrace.tasks.stage import Stage

#: What was found, by the kind and the places that it works with; processes that are forked later inherit it.
_asked: dict[tuple[str, str, str], MillraceError | None] = {}


def check(stage: "Stage") -> None:
    """Raise AccessError if nothing can be stored, and what preflight() raised for the first stage of this kind."""
    _once("storage", session.current().storage.check)
    _once(type(stage).__qualname__, stage.preflight)


def for_tables(tables: Mapping[str, Table]) -> None:
    """Raise SettingError, AccessError or SchemaError if the warehouse can't take rows of these tables."""
    session.current().warehouse.check(tables)
    if sections.millrace().warehouse:
        from millrace.ops.checks import data

        _require(data.dataset_location)


def for_dataflow() -> None:
    """Raise SettingError, or AccessError, if no job of these settings can run on Dataflow."""
    from millrace.ops.checks import data
    from millrace.runners.dataflow import jobs as dataflow
    from millrace.runners.dataflow import submission

    submission.check_root(session.current().google)
    dataflow.place(session.current().google)
    _require(data.bucket_region)


def _once(kind: str, look: Callable[[], None]) -> None:
    """Raise what looking raised, now or the first time."""
    key = (kind, sections.millrace().storage, sections.millrace().warehouse)
    if key not in _asked:
        _asked[key] = _trouble(look)
    if trouble := _asked[key]:
        # Without its traceback, which would grow with every task that the error is raised for.
        raise trouble.with_traceback(None)


def _trouble(look: Callable[[], None]) -> MillraceError | None:
    try:
        look()
    except MillraceError as error:
        return error
    return None


def _require(look: "Callable[[], Finding]") -> None:
    """Raise SettingError if a check of bin/doctor's finds something wrong."""
    from millrace.ops.checks.findings import WRONG

    try:
        found = look()
    except (AccessError, ServiceError):  # a run does not need storage.buckets.get, which this look takes
        return
    if found.state == WRONG:
        raise SettingError(f"{found.said}; {advice.command('doctor')} has the commands")

"""runner = auto: which pipelines run in this process, and which on Dataflow, by memory.

A stage says how much memory its pipeline takes here (BeamTask.memory_here); what a process may take is what the
machine, its cgroups and its limits leave, shared out among luigi's workers (core/memory.py), or what [millrace]
auto_memory says. A batch that is too large for that is cut into as few as fit. A partition that does not fit alone goes
to Dataflow; where there is no Dataflow to go to it is refused, because the alternative is a process that the kernel
kills.
"""

from collections.abc import Iterator, Sequence

from millrace.core import memory
from millrace.core.memory import Room
from millrace.errors import MillraceError, SettingError
from millrace.tasks import preflight, sections, session, settings
from millrace.tasks.protocols import PipelineLike
from millrace.tasks.work import Work

HERE, AWAY = "FnApiRunner", "DataflowRunner"


def share() -> Room:
    """Return what one of luigi's processes may take; found out once a run, before there are any but the first."""
    workers = max(1, settings.workers())
    if given := sections.millrace().auto_memory:
        said = f"auto_memory, {settings.origin('millrace', 'auto_memory')}, is {memory.shown(given)}"
        return Room(given // workers, said)
    return session.current().once(("memory", workers), lambda: memory.share(workers))


def runs(works: Sequence[Work]) -> Iterator[tuple[str, list[Work]]]:
    """Yield which runner is for which partitions of a stage; what can run nowhere ends with SettingError."""
    room, here, away = share(), list[Work](), list[Work]()
    for work in works:
        with work.alone():
            if _needed([work]) > room.bytes:
                away.append(work)
            elif here and _needed([*here, work]) > room.bytes:
                yield HERE, here
                here = [work]
            else:
                here.append(work)
    if here:
        yield HERE, here
    if away:
        nowhere = _no_dataflow()
        if nowhere is None:
            yield AWAY, away
        for work in away if nowhere is not None else ():
            work.end(_refused(work, room, nowhere))


def _needed(works: Sequence[Work]) -> int:
    """Return the bytes of memory that the pipeline of some partitions takes."""
    tasks: list[PipelineLike] = [work.stage for work in works]  # type: ignore[misc]
    read = [{file.path: file.bytes for file in task.input_files()} for task in tasks]
    largest = max(sum(files.values()) for files in read)
    # A file that several partitions read is read once.
    together = sum({path: size for files in read for path, size in files.items()}.values())
    return tasks[0].memory_here(largest, together)


def _no_dataflow() -> MillraceError | None:
    """Return what keeps jobs from running on Dataflow; None for nothing."""
    try:
        preflight.once("Dataflow for auto", preflight.for_dataflow)
    except SettingError as error:
        return error
    return None


def _refused(work: Work, room: Room, nowhere: MillraceError | None) -> SettingError:
    workers = settings.workers()
    among = f", for {workers} workers" if workers > 1 and room.shared else ""
    fewer = "fewer --workers, " if among else ""
    return SettingError(
        f"its pipeline takes about {memory.shown(_needed([work]))} of memory, and this process may take "
        f"{memory.shown(room.bytes)} ({room.said}{among}), and runner = auto has no Dataflow to go to ({nowhere}); "
        f"that, {fewer}or more memory mends it, and runner = {HERE} runs it here all the same"
    )

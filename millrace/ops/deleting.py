"""How a partition goes, and who is asked before."""

import contextlib
import sys
from collections.abc import Iterable, Mapping, Sequence

import luigi

from millrace.common import folders
from millrace.core import keys, manifests
from millrace.core.ledger import Ledger, job_of
from millrace.core.manifests import Manifest
from millrace.errors import SettingError
from millrace.ops import results
from millrace.tasks import session
from millrace.tasks.stage import Stage
from millrace.tasks.targets import WRITER


def described(partitions: Sequence[str]) -> str:
    """Return partitions in few words: their datasets and days."""
    names = ", ".join(dict.fromkeys(partition.split("/")[0] for partition in partitions))
    return f"{names} of {days_of(partitions)}"


def days_of(described: Iterable[str]) -> str:
    """Return the days of partitions in words."""
    days = sorted({day for partition in described if (day := folders.date_of(partition))})
    if not days:
        return "no day"
    return str(days[0]) if len(days) == 1 else f"{len(days)} days, {days[0]} to {days[-1]}"


def ask(what: str, verb: str = "delete", done: str = "deleted", would: str = "would go") -> None:
    """Raise SettingError unless a person says yes. what: what is to be done with the verb, in words."""
    if not (sys.stdin and sys.stdin.isatty()):
        raise SettingError(
            f"{what} {would}, which is more than one day's, and there is nobody to ask: nothing was {done}; "
            "say --yes, or fewer days with --from and --to"
        )
    print(f"{what}: {verb} them? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise SettingError(f"nothing was {done}")


def are_many(names: Iterable[str], named: results.Named) -> bool:
    """Return whether what goes is more than one day's, so that somebody is asked."""
    days = {folders.date_of(name) for name in names}
    # What has no day holds many, unless somebody has named it by itself.
    return len(days) > 1 or (None in days and any("/" not in name for name in named.names or [""]))


def delete(partition: str, manifest: Manifest | None, tasks: Mapping[str, type[luigi.Task]]) -> None:
    """Delete a partition as forget() does, once what is at work for it has ended."""
    with contextlib.ExitStack() as claims:
        for job in jobs_of(partition, manifest, tasks):
            claims.enter_context(Ledger(session.current().storage).claim(job))
        forget(partition, manifest, tasks)


def jobs_of(partition: str, manifest: Manifest | None, tasks: Mapping[str, type[luigi.Task]]) -> list[str]:
    """Return what the ledger calls the work for a partition, of each stage that may have made it or what wrote it."""
    name, own = partition.split("/")[0], manifest is not None and manifest.pipeline == WRITER
    stages = {family: task for family, task in tasks.items() if issubclass(task, Stage)}
    jobs = [job_of(family, partition) for family, task in stages.items() if results.makes(task, name, task.writes[:1])]
    return [*jobs, *([job_of(WRITER, partition)] if own else [])]


def forget(partition: str, manifest: Manifest | None, tasks: Mapping[str, type[luigi.Task]]) -> None:
    """Delete a partition, its table's rows, and what the ledger knows of it; the next attempt is a first one.

    Whoever calls this holds the claims of jobs_of().
    """
    storage, name = session.current().storage, partition.split("/")[0]
    if manifest:
        storage.delete(f"{partition}/{manifests.NAME}")  # from here on nothing of it counts
    own = manifest is not None and manifest.pipeline == WRITER
    # What was written for another warehouse says nothing of the rows in this one.
    mine = own and manifest is not None and manifest.settings.get("warehouse") == session.current().warehouse.uri
    stages = [task for task in tasks.values() if issubclass(task, Stage)]
    if mine or any(results.makes(task, name, [*task.tables]) for task in stages):
        session.current().warehouse.delete(name, keys.name(partition.partition("/")[2]))
    # Where the partition is a link to another disk, what lies there goes, not the link alone. A folder whose
    # manifest is another partition's is a link to that one.
    for each in sorted(storage.names(partition)) if manifest else ():
        storage.delete(f"{partition}/{each}")
    # Last, because a run clears by the number of its attempt what earlier attempts have left.
    for job in jobs_of(partition, manifest, tasks):
        Ledger(storage).forget(job)
    storage.delete(partition)

"""Forgets partitions, and those made from them, so that the next run makes them anew. Sources are never touched.

Failures are forgotten too: after too many of them no further job would be submitted.

The command behind bin/clear.
"""

import argparse
import contextlib
import datetime
import re
import sys

from luigi.task_register import Register

import workflows
from pipelines.errors import ManifestError, MillraceError, SettingError
from workflows.engine import clients, console, manifests, settings
from workflows.engine.ledger import Ledger
from workflows.engine.stage import Stage, job_of
from workflows.engine.storage import read_all


def main() -> int:
    """Deletes the partitions that the command line names; the exit code."""
    parser = argparse.ArgumentParser(prog="bin/clear", description=__doc__)
    parser.add_argument("tasks", nargs="+", metavar="TASK", help=f"one or more of {', '.join(workflows.__all__)}")
    parser.add_argument(
        "--from", dest="first", metavar="DATE", help="the first day, YYYY-MM-DD; the earliest unless given"
    )
    parser.add_argument("--to", dest="last", metavar="DATE", help="the last day, YYYY-MM-DD; the latest unless given")
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    arguments = parser.parse_args()
    try:
        first = _day(arguments.first, "--from", datetime.date.min)
        last = _day(arguments.last, "--to", datetime.date.max)
        if first > last:
            raise SettingError(f"--from = {first} is after --to = {last}, so there is no day between them")
        for task in arguments.tasks:
            if task not in workflows.__all__:
                raise SettingError(f"there is no task {task}; there are {', '.join(workflows.__all__)}")
        _clear([Register.get_task_cls(task) for task in arguments.tasks], first, last, arguments.dry_run)
    except MillraceError as error:
        return console.print_error(error)
    return 0


def _day(value: str | None, flag: str, default: datetime.date) -> datetime.date:
    if value is None:
        return default
    try:
        return settings.day(value)
    except ValueError:
        raise SettingError(f"{flag} = {value!r}: allowed is a day as YYYY-MM-DD") from None


def _clear(tasks: list[type[Stage]], first: datetime.date, last: datetime.date, dry_run: bool) -> None:
    storage = clients.storage()
    inputs: dict[str, set[str]] = {}
    paths = list(storage.list("", manifests.NAME))
    for path, found in zip(paths, read_all(storage, paths), strict=True):
        if found:
            try:
                entries = manifests.Manifest.from_json(found.data, path).inputs
            except ManifestError:  # nobody can say what it was made from; it can go all the same
                entries = ()
            inputs[path.rpartition("/")[0]] = {entry.partition for entry in entries}
    names = {name for task in tasks for name in task.writes}
    gone = [p for p in inputs if p.split("/")[0] in names and first <= (_date(p) or first) <= last]
    # What was made from something that goes has to go too, and before it: who dies in between leaves no orphan behind.
    for partition in gone:
        gone += [p for p, read in inputs.items() if partition in read and p not in gone]
    for partition in reversed(gone):
        print(storage.uri(partition))
        if not dry_run:
            _delete(partition)
    ledger, families = Ledger(storage), [task.get_task_family() for task in tasks]  # type: ignore[no-untyped-call]
    for job in ledger.failed():
        if job.partition("_")[0] in families and first <= (_date(job) or first) <= last:
            print(f"failures of {job}")
            if not dry_run:
                ledger.pardon(job)
    print(f"{len(gone)} partition{'s' * (len(gone) != 1)} {'would go' if dry_run else 'gone'}")


def _delete(partition: str) -> None:
    """Deletes a partition, its table's rows, and what the ledger knows of it: the next attempt is a first one."""
    storage, name, date = clients.storage(), partition.split("/")[0], _date(partition)
    ledger, tasks = Ledger(storage), [Register.get_task_cls(task) for task in workflows.__all__]
    jobs = [job_of(task.task_family, partition) for task in tasks if name == task.writes[0]]
    with contextlib.ExitStack() as claims:
        for job in jobs:  # a run that is at work for this partition ends first
            claims.enter_context(ledger.claim(job))
        storage.delete(f"{partition}/{manifests.NAME}")  # from here on nothing of it counts
        if date and any(name in task.tables for task in tasks):
            clients.warehouse().delete(name, date)
        for job in jobs:
            ledger.forget(job)
        # Where the partition is a link to another disk, what lies there goes, not the link alone.
        for each in sorted(storage.names(partition)):
            storage.delete(f"{partition}/{each}")
        storage.delete(partition)


def _date(partition: str) -> datetime.date | None:
    found = re.search(r"[/.]date=(\d{4}-\d\d-\d\d)", partition)
    return datetime.date.fromisoformat(found[1]) if found else None


if __name__ == "__main__":
    sys.exit(main())

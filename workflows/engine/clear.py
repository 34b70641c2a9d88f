"""The command behind bin/clear: forgets partitions, so that the next run makes them anew. Sources are never touched."""

import argparse
import datetime
import re
import sys

from luigi.task_register import Register

import workflows
from pipelines.errors import MillraceError, SettingError
from workflows.engine import clients, console, manifests, settings
from workflows.engine.stage import Stage


def main() -> int:
    """Deletes the partitions that the command line names; the exit code."""
    parser = argparse.ArgumentParser(prog="bin/clear", description=__doc__)
    parser.add_argument("tasks", nargs="+", metavar="TASK", help=f"one or more of {', '.join(workflows.__all__)}")
    parser.add_argument("--from", dest="first", metavar="DATE", help="the first day, YYYY-MM-DD; the earliest unless given")
    parser.add_argument("--to", dest="last", metavar="DATE", help="the last day, YYYY-MM-DD; the latest unless given")
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    arguments = parser.parse_args()
    try:
        first = _day(arguments.first, "--from", datetime.date.min)
        last = _day(arguments.last, "--to", datetime.date.max)
        for task in arguments.tasks:
            if task not in workflows.__all__:
                raise SettingError(f"there is no task {task}; there are {', '.join(workflows.__all__)}")
        for task in arguments.tasks:
            _clear(Register.get_task_cls(task), first, last, arguments.dry_run)
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


def _clear(task: type[Stage], first: datetime.date, last: datetime.date, dry_run: bool) -> None:
    storage = clients.storage()
    found = 0
    for name in task.dataset_names:
        for path in storage.list(name, manifests.NAME):
            partition = path.rpartition("/")[0]
            date = re.search(r"/date=(\d{4}-\d\d-\d\d)", partition)
            if date and not first <= datetime.date.fromisoformat(date[1]) <= last:
                continue
            print(storage.uri(partition))
            found += 1
            if not dry_run:
                storage.delete(path)  # from here on nothing of it counts
                storage.delete(partition)
    print(f"{task.__name__}: {found} partition{'s' * (found != 1)} {'would go' if dry_run else 'gone'}")


if __name__ == "__main__":
    sys.exit(main())

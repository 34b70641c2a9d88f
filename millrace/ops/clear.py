"""Forget results, and what was made from them, so that the next run makes them anew. Sources are never touched.

What goes is shown first; where it is more than one day's, a person is asked, and a script has to say --yes. Failures
are forgotten too: after too many of them no further job would be submitted. Of a streaming service these are all that
goes; its job stays as it is. Of a template's job what goes is that it was done: it is launched again.

TASK is one of the project's tasks, PARTITION one as this command shows it (posts/date=2026-11-19).
"""

import datetime
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import click
import luigi

from millrace.common import folders
from millrace.common.text import plain
from millrace.core.ledger import Ledger
from millrace.core.manifests import Manifest
from millrace.errors import SettingError
from millrace.ops import arguments, deleting, results
from millrace.tasks import freshness, session
from millrace.tasks.delay import Delay
from millrace.tasks.job_graph import GraphJob
from millrace.tasks.stage import Stage
from millrace.tasks.targets import WRITER
from millrace.tasks.tasks import known_tasks
from millrace.tasks.template_job import TemplateJob

#: Flags that are no task's parameter: days have their own, and the rest means something else here.
_RESERVED = {"date", "from", "to", "first", "last", "names", "dry_run", "yes", "module", "help"}


def _tasks() -> dict[str, type[luigi.Task]]:
    """Return the tasks that may be named: of the library's own those too that do something as they are."""
    return {**known_tasks(), "Delay": Delay, "GraphJob": GraphJob, "TemplateJob": TemplateJob}


def _flags() -> list[arguments.Flag]:
    """Return the flags for the parameters of the tasks that are known."""
    of_tasks: dict[str, list[str]] = defaultdict(list)
    for name, task in _tasks().items():
        for parameter, what in task.get_params():
            if what.significant and parameter not in _RESERVED:
                of_tasks[parameter].append(name)
    return [arguments.of_parameter(parameter, names) for parameter, names in of_tasks.items()]


@click.command("clear", cls=arguments.Command, parameters=_flags, help=__doc__)
@click.argument("names", nargs=-1, metavar="TASK|PARTITION …")
@click.option("--from", "first", metavar="DATE", help="the first day, YYYY-MM-DD; else the earliest")
@click.option("--to", "last", metavar="DATE", help="the last day, YYYY-MM-DD; else the latest")
@click.option("--stale", is_flag=True, help="only what other code, or newer inputs, made stale")
@click.option("--dry-run", is_flag=True, help="only say what would go")
@click.option("--yes", is_flag=True, help="don't ask where it is more than one day's")
def command(
    names: Sequence[str],
    first: str | None,
    last: str | None,
    stale: bool,
    dry_run: bool,
    yes: bool,
    parameters: Mapping[str, str],
) -> int:
    """Delete what the command line names; return the exit code."""
    begin = arguments.day(first, "--from", datetime.date.min)
    end = arguments.day(last, "--to", datetime.date.max)
    if begin > end:
        raise SettingError(f"--from = {begin} is after --to = {end}, so there is no day between them")
    if not names and not stale:
        raise SettingError("no TASK or PARTITION is named; name what is to go, or say --stale for all that is stale")
    days = None if first is None and last is None else (begin, end)
    return _clear(results.Named(_tasks(), names, days, parameters), stale, dry_run, yes)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    return arguments.run(command, argv)


def _clear(named: results.Named, stale: bool, dry_run: bool, yes: bool) -> int:
    storage = session.current().storage
    there = results.partitions(storage)
    meant = results.meant(named, there, storage) if named.names else sorted(p for p in there if named.within(p))
    if stale:
        meant = freshness.Lineage(storage, freshness.kind).stale(meant)
    gone = results.with_further(meant, results.made_of(there, named.tasks))
    failed = [job for job in Ledger(storage).ended("failed") if results.is_of(job, named) and named.within(job)]
    done = [job for job in results.launched(named, storage) if named.within(job)]
    for partition in reversed(gone):  # what was made of another goes first, so that a death leaves no orphan
        print(plain(storage.uri(partition)))
    for job in failed:
        print(plain(f"failures of {job}"))
    for job in done:
        print(plain(f"that {job} was done, so that it is launched again"))
    for note in _notes(meant, gone, there):
        print(plain(f"note: {note}"), file=sys.stderr)
    if not dry_run:
        days = {folders.date_of(partition) for partition in gone}
        # What has no day holds many, unless somebody has named it by itself.
        many = len(days) > 1 or (None in days and any("/" not in name for name in named.names or [""]))
        if not yes and many:
            deleting.ask(gone, storage)
        for partition in reversed(gone):
            deleting.delete(partition, there[partition], named.tasks)
        for job in failed:
            Ledger(storage).pardon(job)
        for job in done:
            Ledger(storage).forget(job)
        touched = {partition.split("/")[0] for partition in gone}
        for family, task in named.tasks.items():
            if issubclass(task, Stage) and (
                family in named.families or any(results.makes(task, name) for name in touched)
            ):
                task.cleared()
    print(f"{len(gone)} partition{'s' * (len(gone) != 1)} {'would go' if dry_run else 'gone'}")
    return 0


def _notes(meant: Sequence[str], gone: Sequence[str], there: Mapping[str, Manifest | None]) -> Iterable[str]:
    """Yield what a person should know before all that is gone."""
    if further := [partition for partition in gone if partition not in meant]:
        yield f"with that goes what was made from it: {deleting.described(further)}"
    own = {partition for partition in gone if (made := there[partition]) and made.pipeline == WRITER}
    if own:
        yield f"only the tasks of your own that wrote it can make this again: {deleting.described(sorted(own))}"
    read = [p for p in gone if p not in own and not ((made := there[p]) and made.inputs)]
    # For a manifest that can't be read, those of its dataset's other partitions tell.
    inner = {p.split("/")[0] for p, made in there.items() if made and made.inputs}
    if read := [p for p in read if there[p] or p.split("/")[0] not in inner]:
        lost = deleting.described(read)
        yield f"this can't be had again where the source that it was read from has it no more: {lost}"

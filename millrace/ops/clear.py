"""Forget results, and what was made from them, so that the next run makes them anew. Sources are never touched.

What goes is shown first; where it is more than one day's, a person is asked, and a script has to say --yes. Failures
are forgotten too: after too many of them no further job would be submitted. Of a streaming service these are all that
goes; its job stays as it is. Of a template's job what goes is that it was done: it is launched again.

With --undo tasks first take back what they did elsewhere, by the undo() that they declare: those that TASK is built on
included, as far as they are of these days, and those that were built on any of them; what was completed last is undone
first, and goes before the next. Where one fails, this ends; called again, it goes on from there.

TASK is one of the project's tasks, PARTITION one as this command shows it (posts/date=2026-11-19).
"""

import datetime
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import click
import luigi

from millrace.common.text import plain
from millrace.core import graphs
from millrace.core.ledger import Ledger
from millrace.core.manifests import Manifest
from millrace.errors import SettingError
from millrace.ops import arguments, deleting, results, undoing
from millrace.tasks import freshness, session
from millrace.tasks.approval import Approval
from millrace.tasks.base import declares
from millrace.tasks.delay import Delay
from millrace.tasks.job_graph import GraphJob, JobGraph
from millrace.tasks.stage import Stage
from millrace.tasks.targets import WRITER
from millrace.tasks.tasks import known_tasks
from millrace.tasks.template_job import TemplateJob

#: Flags that are no task's parameter: days have their own, and the rest means something else here.
_RESERVED = {"date", "from", "to", "first", "last", "names", "dry_run", "yes", "undo", "stale", "module", "help"}


def _tasks() -> dict[str, type[luigi.Task]]:
    """Return the tasks that may be named: of the library's own those too that do something as they are."""
    own: dict[str, type[luigi.Task]] = {
        "Approval": Approval,
        "Delay": Delay,
        "GraphJob": GraphJob,
        "JobGraph": JobGraph,
        "TemplateJob": TemplateJob,
    }
    return {**known_tasks(), **own}


def _flags() -> list[arguments.Flag]:
    """Return the flags for the parameters of the tasks that are known."""
    of_tasks: dict[str, list[str]] = defaultdict(list)
    for name, task in _tasks().items():
        if task is Approval:
            continue  # it has nothing to clear, which is said
        for parameter, what in task.get_params():
            if what.significant and parameter not in _RESERVED:
                of_tasks[parameter].append(name)
    return [arguments.of_parameter(parameter, names) for parameter, names in of_tasks.items()]


@click.command("clear", cls=arguments.Command, parameters=_flags, help=__doc__)
@click.argument("names", nargs=-1, metavar="TASK|PARTITION …")
@click.option("--from", "first", metavar="DATE", help="the first day, YYYY-MM-DD; else the earliest")
@click.option("--to", "last", metavar="DATE", help="the last day, YYYY-MM-DD; else the latest")
@click.option("--date", "date", metavar="DATE", help="the one day, YYYY-MM-DD")
@click.option("--undo", is_flag=True, help="first have tasks take back, by their undo(), what they did elsewhere")
@click.option("--stale", is_flag=True, help="only what other code, or newer inputs, made stale")
@click.option("--dry-run", is_flag=True, help="only say what would go")
@click.option("--yes", is_flag=True, help="don't ask where it is more than one day's")
def command(
    names: Sequence[str],
    first: str | None,
    last: str | None,
    date: str | None,
    undo: bool,
    stale: bool,
    dry_run: bool,
    yes: bool,
    parameters: Mapping[str, str],
) -> int:
    """Delete what the command line names; return the exit code."""
    if date is not None and (first is not None or last is not None):
        raise SettingError("--date is one day, and --from and --to are several; say one or the other")
    if date is not None:
        arguments.day(date, "--date", datetime.date.min)
        first = last = date
    if undo and (stale or not names):
        raise SettingError("--undo is for a TASK or PARTITION that is named, and not for what is --stale")
    begin = arguments.day(first, "--from", datetime.date.min)
    end = arguments.day(last, "--to", datetime.date.max)
    if begin > end:
        raise SettingError(f"--from = {begin} is after --to = {end}, so there is no day between them")
    if not names and not stale:
        raise SettingError("no TASK or PARTITION is named; name what is to go, or say --stale for all that is stale")
    days = None if first is None and last is None else (begin, end)
    named = results.Named(_tasks(), names, days, parameters)
    _check_job(named)
    return _undo(named, dry_run, yes) if undo else _clear(named, stale, dry_run, yes)


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
    failed = _failed(named)
    done = [job for job in results.launched(named, storage) if named.within(job)]
    for partition in reversed(gone):  # what was made of another goes first, so that a death leaves no orphan
        print(plain(storage.uri(partition)))
    for job in failed:
        print(plain(f"failures of {job}"))
    for job in done:
        print(plain(f"that {job} was done, so that it is launched again"))
    for note in [*_notes(meant, gone, there), *_not_undone(named, [*gone, *done])]:
        print(plain(f"note: {note}"), file=sys.stderr)
    if not dry_run:
        if not yes and deleting.are_many(gone, named):
            deleting.ask(f"{len(gone)} partitions of {deleting.days_of(gone)} in {storage.uri('').rstrip('/')}")
        for partition in reversed(gone):
            deleting.delete(partition, there[partition], named.tasks)
        for job in done:
            Ledger(storage).forget(job)
        _mend(named, gone, failed)
    print(_counted(len(gone), dry_run))
    return 0


def _undo(named: results.Named, dry_run: bool, yes: bool) -> int:
    window, failed = undoing.plan(named), _failed(named)
    gone = [partition for step in window.steps for partition in step.partitions]
    for step in window.steps:
        undoing.show(step)
    for job in failed:
        print(plain(f"failures of {job}"))
    meant = [p for p in gone if p in {each for m in window.meant for each in results.of_one_attempt(m, named.tasks)}]
    for note in [*_notes(meant, gone, window.there), *window.notes()]:
        print(plain(f"note: {note}"), file=sys.stderr)
    if not dry_run:
        undoing.carry_out(window, yes=yes)
        _mend(named, gone, failed)
    undone = sum(step.task is not None for step in window.steps)
    print(f"{undone} {'would be undone' if dry_run else 'undone'}, {_counted(len(gone), dry_run)}")
    return 0


def _counted(partitions: int, dry_run: bool) -> str:
    return f"{partitions} partition{'s' * (partitions != 1)} {'would go' if dry_run else 'gone'}"


def _check_job(named: results.Named) -> None:
    """Raise SettingError for a job of a graph that no template of the graph's file, nor of the ledger, is called."""
    name, spec = named.parameters.get("name"), named.parameters.get("spec")
    if "GraphJob" not in named.families or (name is None and spec is None):
        return
    if spec is None:
        raise SettingError(f"GraphJob --name {name} is a job of a graph; name the graph's file too, by --spec")
    graph, mistakes = graphs.read(spec)
    mistakes.check()
    if name is None:
        return
    if name not in graph.jobs:
        launched = [told for job in Ledger(session.current().storage).all() if (told := graphs.of_ledger(job))]
        if not any(told[:2] == (graph.name, name) for told in launched):  # it may have been taken out of the file
            raise SettingError(f"{spec} has no job {name}; {graphs.meant(name, graph.jobs)}")
    elif task := graph.jobs[name].task:
        raise SettingError(f"{name} of {spec} is no template but the task {task}, which is cleared by that name")


def _failed(named: results.Named) -> list[str]:
    """Return the jobs of the ledger that failed, of what is named, as far as that counts."""
    entries = Ledger(session.current().storage).all().items()
    failed = [job for job, entry in entries if entry.state == "failed" and (entry.failures or entry.failed)]
    return [job for job in failed if results.is_of(job, named) and named.within(job)]


def _mend(named: results.Named, gone: Sequence[str], failed: Sequence[str]) -> None:
    """Forget failures, and mend what leads to partitions that are gone."""
    for job in failed:
        Ledger(session.current().storage).pardon(job)
    touched = {partition.split("/")[0] for partition in gone}
    for family, task in named.tasks.items():
        if issubclass(task, Stage) and (family in named.families or any(results.makes(task, name) for name in touched)):
            task.cleared()


def _not_undone(named: results.Named, gone: Sequence[str]) -> Iterable[str]:
    """Yield what a person should know of effects that stay when what told of them has gone."""
    stays = {
        family
        for family, kind in named.tasks.items()
        if declares(kind, "undo")
        for name in gone
        if results.makes_first(kind, name) or (issubclass(kind, TemplateJob) and kind.is_of(name))
    }
    if stays:
        declare = "declares" if len(stays) == 1 else "declare"
        yield f"{', '.join(sorted(stays))} {declare} undo(), which only --undo calls: what they did elsewhere stays"


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

"""Forget results, and what was made from them, so that the next run makes them anew. Sources are never touched.

What goes is shown first; where it is more than one day's, a person is asked, and a script has to say --yes. Failures
are forgotten too: after too many of them no further job would be submitted. Of a streaming service these are all that
goes; its job stays as it is. Of a template's job what goes is that it was done: it is launched again.

TASK is one of the project's tasks, PARTITION one as this command shows it (posts/date=2026-11-19).
"""

import contextlib
import datetime
import shlex
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
import luigi
from luigi.task import flatten

from millrace.common import folders
from millrace.common.text import plain
from millrace.core import keys, manifests
from millrace.core.ledger import Ledger, job_of
from millrace.core.manifests import Manifest
from millrace.core.storage import Storage
from millrace.errors import SettingError
from millrace.ops import arguments
from millrace.tasks import freshness, session, settings
from millrace.tasks.datasets import Dataset
from millrace.tasks.service import Service
from millrace.tasks.stage import Stage
from millrace.tasks.targets import WRITER, BigQueryTarget
from millrace.tasks.tasks import known_tasks, no_task
from millrace.tasks.template_job import TemplateJob

_DAY = datetime.date(2000, 1, 1)
#: Flags that are no task's parameter: days have their own, and the rest means something else here.
_RESERVED = {"date", "from", "to", "first", "last", "names", "dry_run", "yes", "module", "help"}


def _flags() -> list[arguments.Flag]:
    """Return the flags for the parameters of the tasks that are known."""
    of_tasks: dict[str, list[str]] = defaultdict(list)
    for name, task in known_tasks().items():
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
    return _clear(_Named({**known_tasks(), "TemplateJob": TemplateJob}, names, days, parameters), stale, dry_run, yes)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    return arguments.run(command, argv)


@dataclass(frozen=True)
class _Named:
    """What the command line names.

    names: tasks and partitions. days: the first and the last; None for all there are, and for what has no day.
    parameters: with which values of their tasks' parameters partitions were made; all unless given.
    """

    tasks: Mapping[str, type[luigi.Task]]
    names: Sequence[str]
    days: tuple[datetime.date, datetime.date] | None
    parameters: Mapping[str, str]

    @property
    def families(self) -> list[str]:
        """The tasks that are named."""
        return [name for name in self.names if "/" not in name]

    def within(self, name: str) -> bool:
        """Return whether a partition, or a job of the ledger, is of the days that are meant."""
        date = folders.date_of(name)
        return self.days is None or (date is not None and self.days[0] <= date <= self.days[1])


def _clear(named: _Named, stale: bool, dry_run: bool, yes: bool) -> int:
    storage = session.current().storage
    there = _partitions(storage)
    meant = _meant(named, there, storage) if named.names else sorted(p for p in there if named.within(p))
    if stale:
        meant = freshness.Lineage(storage, freshness.kind).stale(meant)
    gone = _with_what_was_made_of(meant, there, named.tasks)
    failed = [job for job in Ledger(storage).ended("failed") if _of(job, named) and named.within(job)]
    done = [job for job in _launched(named, storage) if named.within(job)]
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
            _ask(gone, storage)
        for partition in reversed(gone):
            _delete(partition, there[partition], named.tasks)
        for job in failed:
            Ledger(storage).pardon(job)
        for job in done:
            Ledger(storage).forget(job)
        touched = {partition.split("/")[0] for partition in gone}
        for family, task in named.tasks.items():
            if issubclass(task, Stage) and (family in named.families or any(_makes(task, name) for name in touched)):
                task.cleared()
    print(f"{len(gone)} partition{'s' * (len(gone) != 1)} {'would go' if dry_run else 'gone'}")
    return 0


def _of(job: str, named: _Named) -> bool:
    """Return whether a job of the ledger is of a task that is named."""
    tasks = [(family, named.tasks[family]) for family in named.families]
    stages = [(family, task) for family, task in tasks if issubclass(task, Stage)]
    services = [_instance(task, _DAY, named.parameters) for _, task in tasks if issubclass(task, Service)]
    return (
        any(job.startswith(job_of(family, stage.writes[0])) for family, stage in stages)
        or job in [each.service for each in services if isinstance(each, Service)]
        or _is_launch(job, named)
    )


def _launched(named: _Named, storage: Storage) -> list[str]:
    """Return the jobs of templates that are done, of the tasks that are named: the ledger alone knows of them."""
    if not any(issubclass(named.tasks[family], TemplateJob) for family in named.families):
        return []
    return [job for job in Ledger(storage).ended("done") if _is_launch(job, named)]


def _is_launch(job: str, named: _Named) -> bool:
    """Return whether a job of the ledger is a template's, of a task that is named, with the parameters that are."""
    for family in named.families:
        task = named.tasks[family]
        if issubclass(task, TemplateJob) and task.is_of(job):
            day = folders.date_of(job) or _DAY
            instance = _instance(task, day, named.parameters) if named.parameters else None
            if not isinstance(instance, TemplateJob) or instance.job == job:
                return True
    return False


def _partitions(storage: Storage) -> dict[str, Manifest | None]:
    """Return all partitions with their manifests; None for one that can't be read."""
    read = manifests.read(storage, list(storage.list("", manifests.NAME)))
    # Nobody can say what one that can't be read was made from; it can go all the same.
    return {partition: each if isinstance(each, Manifest) else None for partition, each in read}


def _meant(named: _Named, there: Mapping[str, Manifest | None], storage: Storage) -> list[str]:
    """Return the partitions that are named, in the order of their names. Raises SettingError for a name of none."""
    meant: set[str] = set()
    for name in named.names:
        if "/" in name:
            partition = name.rstrip("/").removeprefix(storage.uri("")).removesuffix(f"/{manifests.NAME}")
            if partition not in there:
                raise SettingError(f"there is no partition {partition} in {storage.uri('').rstrip('/')}")
            meant |= {each for each in _of_one_attempt(partition, named.tasks) if each in there}
        else:
            if name not in named.tasks:
                raise no_task(name)
            task = named.tasks[name]
            datasets, own = _datasets(task, named.parameters), _own_parameters(task, named.parameters)
            mine = [p for p in there if keys.suffix_of(p.split("/")[0], datasets) is not None and named.within(p)]
            meant |= {p for p in mine if _made_with(there[p], own)}
    return sorted(meant)


def _of_one_attempt(partition: str, tasks: Mapping[str, type[luigi.Task]]) -> set[str]:
    """Return a partition, with those of further datasets that the same run of a stage makes."""
    name, _, key = partition.partition("/")
    found = {partition}
    for stage in (task for task in tasks.values() if issubclass(task, Stage)):
        if (suffix := keys.suffix_of(name, stage.writes)) is not None:
            found |= {f"{other}{suffix}/{key}".rstrip("/") for other in stage.writes}
    return found


def _makes(task: type[Stage], dataset: str, names: Collection[str] | None = None) -> bool:
    """Return whether a dataset or table is one that a stage makes, of all or of some names, whatever its key."""
    return keys.suffix_of(dataset, task.writes if names is None else names) is not None


def _own_parameters(task: type[luigi.Task], parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of those parameters that a task has. Raises SettingError for a value that it can't have."""
    own = {}
    for name, parameter in task.get_params():
        if name in parameters:
            try:
                own[name] = parameter.parse(parameters[name])
            except ValueError as error:
                raise SettingError(f"--{name.replace('_', '-')} = {parameters[name]!r}: {error}") from None
    if others := sorted(parameters.keys() - own.keys()):
        raise SettingError(f"--{others[0].replace('_', '-')} is no parameter of {task.get_task_family()}")
    return own


def _made_with(manifest: Manifest | None, own: Mapping[str, Any]) -> bool:
    if manifest is None:
        return not own
    # What a task of one's own writes says nothing of its parameters; they chose the table.
    return manifest.pipeline == WRITER or all(
        manifest.settings.get(name) in (str(value), shlex.quote(str(value))) for name, value in own.items()
    )


def _datasets(task: type[luigi.Task], parameters: Mapping[str, str]) -> set[str]:
    """Return the datasets, or tables, that a task fills. Raises SettingError if there is none that could be cleared."""
    if issubclass(task, Stage):
        return set(task.writes)
    if issubclass(task, Service | TemplateJob):
        return set()
    outputs = flatten(_instance(task, _DAY, parameters).output())
    names = {out.name for out in outputs if isinstance(out, BigQueryTarget | Dataset)}
    if not names:
        said = ", ".join(map(str, outputs)) or "nothing"
        raise SettingError(
            f"{task.get_task_family()} fills no table or dataset; what it makes ({said}) is for you to delete"
        )
    return names


def _instance(task: type[luigi.Task], day: datetime.date, parameters: Mapping[str, str]) -> luigi.Task:
    """Return a task of a day. Raises SettingError if it has a parameter of which no value is known."""
    values = _own_parameters(task, parameters)
    for name, parameter in task.get_params():
        if name in values or parameter.has_task_value(task.get_task_family(), name):
            continue
        if not isinstance(parameter, luigi.DateParameter | luigi.DateHourParameter | settings.Day):
            raise SettingError(
                f"{task.get_task_family()} has a parameter without a value; say --{name.replace('_', '-')}"
            )
        hours = isinstance(parameter, luigi.DateHourParameter)
        values[name] = datetime.datetime(day.year, day.month, day.day) if hours else day
    return task(**values)


def _with_what_was_made_of(
    meant: Sequence[str], there: Mapping[str, Manifest | None], tasks: Mapping[str, type[luigi.Task]]
) -> list[str]:
    """Return some partitions, and after each what was made from it, from that, and so on."""
    made: dict[str, set[str]] = defaultdict(set)
    for partition, manifest in there.items():
        for read in [entry.partition for entry in manifest.inputs] if manifest else ():
            made[read].add(partition)
    for read, further in _by_own_tasks(there, tasks).items():
        made[read] |= further
    gone = list(meant)
    for partition in gone:
        gone += sorted(made[partition] - {*gone})
    return gone


def _by_own_tasks(there: Mapping[str, Manifest | None], tasks: Mapping[str, type[luigi.Task]]) -> dict[str, set[str]]:
    """Return what luigi tasks that are no stages filled: a stage's partition → what was made of it, by requires()."""
    made: dict[str, set[str]] = defaultdict(set)
    for task in tasks.values():
        if issubclass(task, Stage):
            continue
        try:
            names = _datasets(task, {})
        except SettingError:  # nobody can tell for a parameter without a value
            continue
        for partition in there:
            if partition.split("/")[0] in names and (day := folders.date_of(partition)):
                needed = flatten(_instance(task, day, {}).requires())
                for stage in needed:
                    for target in flatten(stage.output()):
                        read = target.partition if isinstance(target, Dataset | BigQueryTarget) else None
                        if read and read != partition:
                            made[read].add(partition)
    return made


def _notes(meant: Sequence[str], gone: Sequence[str], there: Mapping[str, Manifest | None]) -> Iterable[str]:
    """Yield what a person should know before all that is gone."""
    if further := [partition for partition in gone if partition not in meant]:
        yield f"with that goes what was made from it: {_described(further)}"
    own = {partition for partition in gone if (made := there[partition]) and made.pipeline == WRITER}
    if own:
        yield f"only the tasks of your own that wrote it can make this again: {_described(sorted(own))}"
    read = [p for p in gone if p not in own and not ((made := there[p]) and made.inputs)]
    # For a manifest that can't be read, those of its dataset's other partitions tell.
    inner = {p.split("/")[0] for p, made in there.items() if made and made.inputs}
    if read := [p for p in read if there[p] or p.split("/")[0] not in inner]:
        yield f"this can't be had again where the source that it was read from has it no more: {_described(read)}"


def _described(partitions: Sequence[str]) -> str:
    """Return partitions in few words: their datasets and days."""
    names = ", ".join(dict.fromkeys(partition.split("/")[0] for partition in partitions))
    return f"{names} of {_days(partitions)}"


def _days(described: Iterable[str]) -> str:
    days = sorted({day for partition in described if (day := folders.date_of(partition))})
    if not days:
        return "no day"
    return str(days[0]) if len(days) == 1 else f"{len(days)} days, {days[0]} to {days[-1]}"


def _ask(gone: Sequence[str], storage: Storage) -> None:
    """Raise SettingError unless a person says yes."""
    what = f"{len(gone)} partitions of {_days(gone)} in {storage.uri('').rstrip('/')}"
    if not (sys.stdin and sys.stdin.isatty()):
        raise SettingError(
            f"{what} would go, which is more than one day's, and there is nobody to ask: nothing was deleted; "
            "say --yes, or fewer days with --from and --to"
        )
    print(f"{what}: delete them? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise SettingError("nothing was deleted")


def _delete(partition: str, manifest: Manifest | None, tasks: Mapping[str, type[luigi.Task]]) -> None:
    """Delete a partition, its table's rows, and what the ledger knows of it; the next attempt is a first one."""
    storage, name = session.current().storage, partition.split("/")[0]
    ledger, stages = Ledger(storage), {family: task for family, task in tasks.items() if issubclass(task, Stage)}
    jobs = [job_of(family, partition) for family, task in stages.items() if _makes(task, name, task.writes[:1])]
    own = manifest is not None and manifest.pipeline == WRITER
    with contextlib.ExitStack() as claims:
        for job in [*jobs, *([job_of(WRITER, partition)] if own else [])]:  # what is at work for it ends first
            claims.enter_context(ledger.claim(job))
        if manifest:
            storage.delete(f"{partition}/{manifests.NAME}")  # from here on nothing of it counts
        # What was written for another warehouse says nothing of the rows in this one.
        mine = own and manifest is not None and manifest.settings.get("warehouse") == session.current().warehouse.uri
        if mine or any(_makes(task, name, [*task.tables]) for task in stages.values()):
            session.current().warehouse.delete(name, keys.name(partition.partition("/")[2]))
        for job in jobs:
            ledger.forget(job)
        # Where the partition is a link to another disk, what lies there goes, not the link alone. A folder whose
        # manifest is another partition's is a link to that one.
        for each in sorted(storage.names(partition)) if manifest else ():
            storage.delete(f"{partition}/{each}")
        storage.delete(partition)

"""What a command line names of results: tasks and partitions, the days of them, and all that was made from them."""

import datetime
import shlex
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import luigi
from luigi.task import flatten

from millrace.common import folders
from millrace.core import keys, manifests
from millrace.core.ledger import Ledger, job_of
from millrace.core.manifests import Manifest
from millrace.core.storage import Storage
from millrace.errors import SettingError
from millrace.tasks import advice, settings
from millrace.tasks.approval import Approval
from millrace.tasks.datasets import Dataset
from millrace.tasks.job_graph import JobGraph
from millrace.tasks.service import Service
from millrace.tasks.stage import Stage
from millrace.tasks.targets import WRITER, BigQueryTarget
from millrace.tasks.tasks import no_task
from millrace.tasks.template_job import TemplateJob

#: A day for a task that is looked at for what it makes, whatever the day.
DAY = datetime.date(2000, 1, 1)


@dataclass(frozen=True)
class Named:
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


def is_of(job: str, named: Named) -> bool:
    """Return whether a job of the ledger is of a task that is named."""
    tasks = [(family, named.tasks[family]) for family in named.families]
    stages = [(family, task) for family, task in tasks if issubclass(task, Stage)]
    services = [instance(task, DAY, named.parameters) for _, task in tasks if issubclass(task, Service)]
    return (
        any(job.startswith(job_of(family, stage.writes[0])) for family, stage in stages)
        or job in [each.service for each in services if isinstance(each, Service)]
        or _is_launch(job, named)
    )


def launched(named: Named, storage: Storage) -> list[str]:
    """Return the jobs of templates that are done, of the tasks that are named: the ledger alone knows of them."""
    if not any(issubclass(named.tasks[family], TemplateJob) for family in named.families):
        return []
    return [job for job in Ledger(storage).ended("done") if _is_launch(job, named)]


def _is_launch(job: str, named: Named) -> bool:
    """Return whether a job of the ledger is a template's, of a task that is named, with the parameters that are."""
    for family in named.families:
        task = named.tasks[family]
        if issubclass(task, TemplateJob) and task.is_of(job):
            day = folders.date_of(job) or DAY
            one = instance(task, day, {**task.told_by(job), **named.parameters}) if named.parameters else None
            if not isinstance(one, TemplateJob) or one.job == job:
                return True
    return False


def partitions(storage: Storage) -> dict[str, Manifest | None]:
    """Return all partitions with their manifests; None for one that can't be read."""
    read = manifests.read(storage, list(storage.list("", manifests.NAME)))
    # Nobody can say what one that can't be read was made from; it can go all the same.
    return {partition: each if isinstance(each, Manifest) else None for partition, each in read}


def meant(named: Named, there: Mapping[str, Manifest | None], storage: Storage) -> list[str]:
    """Return the partitions that are named, in the order of their names. Raises SettingError for a name of none."""
    meant: set[str] = set()
    for name in named.names:
        if "/" in name:
            partition = name.rstrip("/").removeprefix(storage.uri("")).removesuffix(f"/{manifests.NAME}")
            if partition not in there:
                raise SettingError(f"there is no partition {partition} in {storage.uri('').rstrip('/')}")
            meant |= {each for each in of_one_attempt(partition, named.tasks) if each in there}
        else:
            if name not in named.tasks:
                raise no_task(name)
            task = named.tasks[name]
            own, fills = own_parameters(task, named.parameters), datasets(task, named.parameters)
            mine = [p for p in there if keys.suffix_of(p.split("/")[0], fills) is not None and named.within(p)]
            meant |= {p for p in mine if made_with(there[p], own)}
    return sorted(meant)


def of_one_attempt(partition: str, tasks: Mapping[str, type[luigi.Task]]) -> set[str]:
    """Return a partition, with those of further datasets that the same run of a stage makes."""
    name, _, key = partition.partition("/")
    found = {partition}
    for stage in (task for task in tasks.values() if issubclass(task, Stage)):
        if (suffix := keys.suffix_of(name, stage.writes)) is not None:
            found |= {f"{other}{suffix}/{key}".rstrip("/") for other in stage.writes}
    return found


def makes(task: type[Stage], dataset: str, names: Collection[str] | None = None) -> bool:
    """Return whether a dataset or table is one that a stage makes, of all or of some names, whatever its key."""
    return keys.suffix_of(dataset, task.writes if names is None else names) is not None


def own_parameters(task: type[luigi.Task], parameters: Mapping[str, str]) -> dict[str, Any]:
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


def texts_of(task: type[luigi.Task], parameters: Mapping[str, str]) -> dict[str, str]:
    """Return those of some parameters that a task has."""
    return {name: parameters[name] for name, _ in task.get_params() if name in parameters}


def made_with(manifest: Manifest | None, own: Mapping[str, Any]) -> bool:
    """Return whether a partition was made with some values of its task's parameters."""
    if manifest is None:
        return not own
    # What a task of one's own writes says nothing of its parameters; they chose the table.
    return manifest.pipeline == WRITER or all(
        manifest.settings.get(name) in (str(value), shlex.quote(str(value))) for name, value in own.items()
    )


def makes_first(task: type[luigi.Task], partition: str) -> bool:
    """Return whether a partition is of the dataset whose manifest decides whether a stage of this kind is complete."""
    return issubclass(task, Stage) and makes(task, partition.split("/")[0], task.writes[:1])


def datasets(task: type[luigi.Task], parameters: Mapping[str, str]) -> set[str]:
    """Return the datasets, or tables, that a task fills. Raises SettingError if there is none that could be cleared."""
    if issubclass(task, Stage):
        return set(task.writes)
    if issubclass(task, Service | TemplateJob):
        return set()
    if issubclass(task, JobGraph):
        raise SettingError(
            f"{task.task_family} fills no table or dataset; {advice.program('clear')} GraphJob --spec FILE forgets "
            "that the templates of a graph were done, and its tasks are named as they are without a graph"
        )
    if issubclass(task, Approval):
        raise SettingError(
            f"{task.task_family} is a gate, which fills no table or dataset; {advice.program('approve')} NAME --date D "
            "--reopen opens it again"
        )
    outputs = flatten(instance(task, DAY, parameters).output())
    names = {out.name for out in outputs if isinstance(out, BigQueryTarget | Dataset)}
    if not names:
        said = ", ".join(map(str, outputs)) or "nothing"
        raise SettingError(
            f"{task.get_task_family()} fills no table or dataset; what it makes ({said}) is for you to delete"
        )
    return names


def filled(task: type[luigi.Task]) -> set[str]:
    """Return the datasets, or tables, that a task fills; none where that can't be told of it."""
    try:
        return datasets(task, {})
    except SettingError:  # nobody can tell for a parameter without a value
        return set()


def instance(task: type[luigi.Task], day: datetime.date, parameters: Mapping[str, str]) -> luigi.Task:
    """Return a task of a day. Raises SettingError if it has a parameter of which no value is known."""
    values = own_parameters(task, parameters)
    for name, parameter in task.get_params():
        # Ours have a value by themselves, which is that of today.
        days = isinstance(parameter, settings.Day) or (name == "date" and isinstance(parameter, luigi.DateParameter))
        hours = isinstance(parameter, settings.Hour | luigi.DateHourParameter)
        ours = days or isinstance(parameter, settings.Hour)
        if name in values or (parameter.has_task_value(task.get_task_family(), name) and not ours):
            continue
        if not isinstance(parameter, luigi.DateParameter) and not days and not hours:
            raise SettingError(
                f"{task.get_task_family()} has a parameter without a value; say --{name.replace('_', '-')}"
            )
        values[name] = datetime.datetime(day.year, day.month, day.day) if hours else day
    return task(**values)


def made_of(there: Mapping[str, Manifest | None], tasks: Mapping[str, type[luigi.Task]]) -> dict[str, set[str]]:
    """Return which partitions were made from each."""
    made: dict[str, set[str]] = defaultdict(set)
    for partition, manifest in there.items():
        for read in [entry.partition for entry in manifest.inputs] if manifest else ():
            made[read].add(partition)
    for read, further in _by_own_tasks(there, tasks).items():
        made[read] |= further
    return made


def with_further(meant: Iterable[str], made: Mapping[str, Collection[str]]) -> list[str]:
    """Return some partitions, and after each what was made from it, from that, and so on."""
    gone = list(meant)
    for partition in gone:
        gone += sorted({*made.get(partition, ())} - {*gone})
    return gone


def _by_own_tasks(there: Mapping[str, Manifest | None], tasks: Mapping[str, type[luigi.Task]]) -> dict[str, set[str]]:
    """Return what luigi tasks that are no stages filled: a stage's partition → what was made of it, by requires()."""
    made: dict[str, set[str]] = defaultdict(set)
    for task in tasks.values():
        if issubclass(task, Stage):
            continue
        names = filled(task)
        for partition in there:
            if partition.split("/")[0] in names and (day := folders.date_of(partition)):
                needed = flatten(instance(task, day, {}).requires())
                for stage in needed:
                    for target in flatten(stage.output()):
                        read = target.partition if isinstance(target, Dataset | BigQueryTarget) else None
                        if read and read != partition:
                            made[read].add(partition)
    return made

"""What --undo is about: the steps of a window as they are now, and the order in which they go.

Which steps   Of a TASK that is named, what it is built on, by requires() and by manifests, as far as that is of the
              days that are meant and declares undo(); what the TASK itself made; and all that was made from any of
              these, because without its inputs it would pass for done, and nothing would do the undone steps again. Of
              a PARTITION that is named, that one, and all that was made from it. Whatever else is complete stays.
In which      Last completed first, by the manifests' `ended` and the ledger's; but never a step before what was made
order         from it, whatever the clocks of two hosts say.
"""

import contextlib
import datetime
import heapq
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import luigi
from luigi.task import flatten

from millrace.common import folders
from millrace.core import keys
from millrace.core.ledger import Entry, Ledger, job_of
from millrace.core.manifests import Manifest
from millrace.core.storage import Storage
from millrace.errors import MillraceError, SettingError
from millrace.ops import deleting, results
from millrace.tasks import advice, identity, settings
from millrace.tasks.base import declares
from millrace.tasks.datasets import Dataset
from millrace.tasks.flows import Flow
from millrace.tasks.job_graph import GraphTask
from millrace.tasks.service import Service
from millrace.tasks.stage import Stage
from millrace.tasks.targets import BigQueryTarget
from millrace.tasks.tasks import no_task
from millrace.tasks.template_job import TemplateJob


@dataclass(frozen=True)
class Step:
    """What was done by one task, and is to go.

    name: its partition, or what the ledger calls a template's job. partitions: all that the attempt made, the one that
    decides last. ended: when it was complete. task: the task whose undo() is to be called; None where it declares none.
    """

    name: str
    partitions: Sequence[str]
    attempt: str
    ended: str
    task: Any = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.task}, done {self.ended[:19].replace('T', ' ')}Z" if self.task else self.name


class Window:
    """What there is of the tasks that are named, and of the days that are meant, as it is now."""

    def __init__(self, named: results.Named, storage: Storage) -> None:
        self.named, self._storage = named, storage
        self.there = results.partitions(storage)
        self._entries = Ledger(storage).all()
        self._launched = {
            job: entry
            for job, entry in self._entries.items()
            if entry.state == "done" and any(kind.is_of(job) for kind in self._launching())
        }
        #: What tasks that are no stages fill, by their names.
        self._fill = {
            family: results.filled(kind)
            for family, kind in named.tasks.items()
            if not issubclass(kind, Stage | Service | TemplateJob | luigi.WrapperTask)
        }
        #: Tasks by their ids, and by the names of what they make.
        self._tasks: dict[str, luigi.Task] = {}
        self._makers: dict[str, list[luigi.Task]] = defaultdict(list)
        for job in self._launched:
            self._know_launch(job)
        roots = list(self._roots())
        self._walk(roots)
        self._window = [task for task in self._tasks.values() if any(named.within(name) for name in self._names(task))]
        self.meant = self._meant()
        self._made = self._made_of()
        self.steps = self._in_order([self._step(name) for name in self._going()])

    # --- tasks, and what they make

    def _launching(self) -> list[type[TemplateJob]]:
        return [kind for kind in self.named.tasks.values() if issubclass(kind, TemplateJob)]

    def _know(self, task: luigi.Task) -> None:
        for name in self._names(task):
            if task not in self._makers[name]:
                self._makers[name].append(task)

    def _know_launch(self, job: str) -> None:
        """Know the task of a template's job that is done, if it is the one that its day alone tells."""
        for kind in self._launching():
            if kind.is_of(job):
                with contextlib.suppress(MillraceError):  # a parameter without a value
                    task = results.instance(kind, folders.date_of(job) or results.DAY, kind.told_by(job))
                    if isinstance(task, TemplateJob) and task.job == job:
                        self._know(task)

    def _names(self, task: luigi.Task) -> list[str]:
        """Return what a task makes: its deciding partition, or its job; nothing for one that only has others done."""
        if isinstance(task, Stage):
            return [task.datasets()[0].partition]
        if isinstance(task, TemplateJob):
            return [task.job]
        if isinstance(task, Service | luigi.WrapperTask):
            return []
        return [each.partition for each in flatten(task.output()) if isinstance(each, Dataset | BigQueryTarget)]

    def _is_done(self, name: str) -> bool:
        return name in self.there or name in self._launched

    def _done(self, task: luigi.Task) -> set[str]:
        """Return what there is of what a task makes."""
        return {name for name in self._names(task) if self._is_done(name)}

    def _roots(self) -> Iterator[luigi.Task]:
        """Yield the tasks that are named, of each day of which there is anything."""
        named = self.named
        found = {
            day for name in [*self.there, *self._launched] if named.within(name) and (day := folders.date_of(name))
        }
        begin = named.days[0] if named.days and named.days[0] > datetime.date.min else results.DAY
        for family in named.families:
            if family not in named.tasks:
                raise no_task(family)
            kind = named.tasks[family]
            own = results.own_parameters(kind, named.parameters)
            mine = [name for name in self.there if results.makes_first(kind, name) and named.within(name)]
            known = [self.maker(name) for name in mine if results.made_with(self.there[name], own)]
            yield from (task for task in known if task is not None)
            try:
                for day in sorted(found) or [begin]:
                    yield from _of_day(kind, day, named.parameters)
            except SettingError:  # a parameter without a value
                if not any(known):
                    raise

    def _walk(self, roots: Iterable[luigi.Task]) -> None:
        """Know some tasks, and all that they are built on."""
        left = list(roots)
        for task in left:
            if task.task_id not in self._tasks:
                self._tasks[task.task_id] = task
                self._know(task)
                left += self._built_on(task)

    def _built_on(self, task: luigi.Task) -> list[luigi.Task]:
        """Return what a task needs now, and what a complete one was made from then."""
        made = [self.there[name] for name in self._names(task) if name in self.there]
        try:
            needed = _needed(task)
        except MillraceError:
            if not made:  # what it would need can't be told, nor what it was made from
                raise
            needed = []
        read = [self.maker(entry.partition) for manifest in made if manifest for entry in manifest.inputs]
        return [*needed, *(each for each in read if each is not None)]

    def _kinds(self, partition: str) -> dict[str, type[luigi.Task]]:
        """Return the tasks that may have made a partition, by name; of several stages the one that the ledger knows."""
        name, manifest = partition.split("/")[0], self.there.get(partition)
        found = {family: kind for family, kind in self.named.tasks.items() if results.makes_first(kind, partition)}
        # A name that two tasks have means neither, but what one of them needs is known all the same.
        found |= {task.task_family: type(task) for task in self._makers.get(partition, ()) if isinstance(task, Stage)}
        said = {
            family: kind
            for family, kind in found.items()
            if manifest
            and (entry := self._entries.get(job_of(family, partition)))
            and entry.attempt == manifest.attempt
        }
        if found:
            return said or found
        return {family: self.named.tasks[family] for family, fills in self._fill.items() if name in fills}

    def maker(self, name: str) -> luigi.Task | None:
        """Return the task that made a partition, with the parameters that the manifest tells; None if nobody knows."""
        if name not in self.there:
            return next(iter(self._makers.get(name, ())), None)
        manifest = self.there[name]
        known = self._makers.get(name, [])
        for kind in self._kinds(name).values():
            same = [each for each in known if type(each) is kind]
            for task in same if issubclass(kind, Stage) else ():
                if manifest and _says(manifest, task):
                    return task
            if not issubclass(kind, Stage):
                with contextlib.suppress(MillraceError):
                    return next(iter(same), None) or results.instance(
                        kind, folders.date_of(name) or results.DAY, results.texts_of(kind, self.named.parameters)
                    )
            elif manifest and (rebuilt := _rebuilt(kind, name, manifest)):
                return rebuilt
        return None

    # --- what goes

    def _meant(self) -> list[str]:
        """Return the partitions and jobs that the command line means."""
        named, tasks = self.named, self.named.tasks
        # What another task makes is not known; that one may stand for what it needs.
        fills = [name for name in named.names if "/" in name or name not in self._fill or self._fill[name]]
        fills = [name for name in fills if "/" in name or not issubclass(tasks[name], luigi.WrapperTask)]
        known = results.Named(tasks, fills, named.days, named.parameters)
        meant = dict.fromkeys(results.meant(known, self.there, self._storage))
        meant |= dict.fromkeys(job for job in results.launched(named, self._storage) if named.within(job))
        for task in self._window:
            if self._undoes(task):
                meant |= dict.fromkeys(name for name in sorted(self._done(task)) if named.within(name))
        return list(meant)

    def _undoes(self, task: luigi.Task) -> bool:
        return declares(type(task), "undo")

    def declared(self) -> bool:
        """Return whether anything of the window declares undo(), done or not."""
        kinds = {type(task) for task in self._tasks.values()} | {
            kind for step in self.steps for name in step.partitions for kind in self._kinds(name).values()
        }
        return any(declares(kind, "undo") for kind in kinds) or any(step.task for step in self.steps)

    def notes(self) -> Iterator[str]:
        """Yield what a person should know of what stays."""
        gone = {step.name for step in self.steps}
        left = [task for task in self._tasks.values() if self._done(task) - gone]
        if silent := sorted({task.task_family for task in left if not self._undoes(task) and task in self._window}):
            yield f"what {', '.join(silent)} made stays, because {_of(silent)} no undo()"
        timeless = [
            str(task) for task in left if self._undoes(task) and not any(map(folders.date_of, self._names(task)))
        ]
        strange = [step.name for step in self.steps if step.partitions and not self._kinds(step.name)]
        if strange:
            yield f"no task is known that made {', '.join(strange)}, so that nothing is undone of that; say --module"
        if timeless:
            named = ", ".join(sorted(timeless))
            yield f"this stays, because it has no day, and is undone where no days are said: {named}"

    def _made_of(self) -> dict[str, set[str]]:
        """Return which partitions and jobs were made from each, or came after it."""
        made = results.made_of(self.there, self.named.tasks)
        after = [task for tasks in self._makers.values() for task in tasks]
        if self._launched:  # no manifest tells that a stage came after a job
            after += [task for name in self.there if (task := self.maker(name))]
        for task in dict.fromkeys(after):
            if done := self._done(task):
                for need in self._nearest(task) - done:
                    made[need] |= done
        return made

    def _nearest(self, task: luigi.Task) -> set[str]:
        """Return what is done of what a task needs, or, of needs that make nothing of ours, of what these need."""
        found, seen, left = set[str](), {task.task_id}, [task]
        for each in left:
            with contextlib.suppress(MillraceError):  # what it would need can't be told
                for need in _needed(each):
                    found |= self._done(need)
                    if not self._done(need) and need.task_id not in seen:
                        seen.add(need.task_id)
                        left.append(need)
        return found

    def _going(self) -> list[str]:
        """Return the deciding partitions, and jobs, that are meant, and all that was made from them."""
        going = results.with_further(self.meant, self._made)
        return list(dict.fromkeys(self._deciding(name) for name in going))

    def _deciding(self, name: str) -> str:
        for kind in self.named.tasks.values():
            if issubclass(kind, Stage) and (suffix := keys.suffix_of(name.split("/")[0], kind.writes)) is not None:
                first = f"{kind.writes[0]}{suffix}/{name.partition('/')[2]}".rstrip("/")
                if first in self.there:
                    return first
        return name

    def _step(self, name: str) -> Step:
        """Return what made a partition, or a job. Raises SettingError where its undo() can't be called."""
        if name in self._launched:
            entry = self._launched[name]
            kinds: list[type[luigi.Task]] = [kind for kind in self._launching() if kind.is_of(name)]
            partitions, attempt, ended, manifest = [], entry.attempt, entry.ended, None
        else:
            manifest = self.there[name]
            kinds = list(self._kinds(name).values())
            partitions = sorted(results.of_one_attempt(name, self.named.tasks) & {*self.there} - {name}) + [name]
            attempt, ended = (manifest.attempt, manifest.ended) if manifest else ("", "")
        task = None
        if any(declares(kind, "undo") for kind in kinds):
            task = self.maker(name)
            if task is None:
                raise self._unknown(name, kinds[0], manifest)
            task = task if self._undoes(task) else None
        return Step(name, partitions, attempt, ended, task)

    def _unknown(self, name: str, kind: type[luigi.Task], manifest: Manifest | None) -> SettingError:
        family = kind.task_family
        if name in self.there and manifest is None:
            why = "its manifest can't be read"
            mend = f"{advice.clear_partition(name)} forgets it without an undo()"
        else:
            why = "its parameters can't be told"
            mend = f"say those of {family} as flags, or name the task that needs it"
        return SettingError(
            f"{name} was made by {family}, which declares undo(), but {why}: nothing was undone; {mend}"
        )

    def _in_order(self, steps: Sequence[Step]) -> list[Step]:
        """Return steps in the order in which they go: last completed first, none before what was made from it."""
        by_name = {name: step for step in steps for name in [step.name, *step.partitions]}
        left = {step.name: 0 for step in steps}
        needs: dict[str, set[str]] = defaultdict(set)
        for step in steps:
            for name in [step.name, *step.partitions]:
                needed = {self._deciding(further) for further in self._made.get(name, ())} - {step.name}
                for further in needed & by_name.keys():
                    needs[by_name[further].name].add(step.name)
        for step in steps:
            for below in needs[step.name]:
                left[below] += 1
        # A heap gives the least; what was completed last has to be that.
        latest = sorted(steps, key=lambda step: (step.ended, step.name), reverse=True)
        rank = {step.name: number for number, step in enumerate(latest)}
        ready = [rank[name] for name, above in left.items() if not above]
        heapq.heapify(ready)
        ordered = []
        while ready:
            step = latest[heapq.heappop(ready)]
            ordered.append(step)
            for below in needs[step.name]:
                left[below] -= 1
                if not left[below]:
                    heapq.heappush(ready, rank[below])
        return ordered

    # --- who may be at work

    def claims(self) -> list[str]:
        """Return what the ledger calls the work of all steps, and of what is not done yet of the window, in order."""
        found = set()
        for step in self.steps:
            jobs = [job for p in step.partitions for job in deleting.jobs_of(p, self.there[p], self.named.tasks)]
            jobs += [job for task in self._makers.get(step.name, ()) for job in _jobs(task)]
            found |= {*jobs} if step.partitions else {step.name}
        undone = [task for task in self._window if not self._done(task)]
        return sorted(found | {job for task in undone for job in _jobs(task)})

    def running(self) -> list[tuple[Entry, bool]]:
        """Return the attempts at tasks of the window that are not over, as far as the ledger knows, and whether each is
        the launch of a template.
        """
        # Where the attempt's partition is there, only the ledger's last word is missing.
        made = {manifest.attempt for manifest in self.there.values() if manifest}
        names = dict.fromkeys([*self.claims(), *(job for task in self._window for job in _jobs(task))])
        entries = [self._entries[name] for name in names if name in self._entries]
        return [
            (entry, any(kind.is_of(entry.task) for kind in self._launching()))
            for entry in entries
            if entry.state == "running" and entry.attempt not in made
        ]


def _needed(task: luigi.Task) -> list[luigi.Task]:
    """Return what a task requires, and what it turned out to need so far. Raises a MillraceError where nobody knows."""
    needed = list(flatten(task.requires()))
    if isinstance(task, Flow):
        needed += task.asked_for()
    if isinstance(task, GraphTask):
        with contextlib.suppress(MillraceError):  # its parameters may name what is not there
            needed.append(task.task())
    return needed


def _of(names: Sequence[str]) -> str:
    return "it declares" if len(names) == 1 else "they declare"


def _of_day(kind: type[luigi.Task], day: datetime.date, parameters: Mapping[str, str]) -> Iterator[luigi.Task]:
    """Yield the tasks of a kind that are of a day: one, or one for each of its hours."""
    hours = [name for name, each in kind.get_params() if isinstance(each, settings.Hour | luigi.DateHourParameter)]
    if not hours or hours[0] in parameters:
        yield results.instance(kind, day, parameters)
        return
    for hour in range(24):
        yield results.instance(kind, day, {**parameters, hours[0]: f"{day}T{hour:02}"})


def _says(manifest: Manifest, task: luigi.Task) -> bool:
    """Return whether a partition was made with a task's own parameters."""
    own = identity.own(task) if identity.is_stage(task) else {}
    return all(manifest.settings.get(name, text) == text for name, text in own.items())


def _rebuilt(kind: type[Stage], partition: str, manifest: Manifest) -> Stage | None:
    """Return the stage that made a partition, of what its manifest says of its parameters; None where that fails."""
    date, hour = folders.date_of(partition), folders.hour_of(partition)
    values: dict[str, Any] = {}
    try:
        for name, parameter in kind.get_params():
            if isinstance(parameter, settings.Hour):
                values[name] = parameter.parse(f"{date}T{hour:02}")
            elif isinstance(parameter, settings.Day) or name == "date":
                values[name] = date
            elif name in manifest.settings and not _is_default(kind, name, parameter, manifest.settings[name]):
                values[name] = parameter.parse(_unquoted(manifest.settings[name]))
        task = kind(**values)
        same = task.datasets()[0].partition == partition and _says(manifest, task)
    except (ValueError, TypeError, KeyError, AttributeError, MillraceError, luigi.parameter.ParameterException):
        return None
    return task if same else None


def _is_default(kind: type[luigi.Task], name: str, parameter: Any, text: str) -> bool:
    """Return whether a parameter has a value by itself, and that is the one that the text says."""
    if not parameter.has_task_value(kind.task_family, name):
        return False
    default = parameter.normalize(parameter.task_value(kind.task_family, name))
    return text == identity.text(default)


def _unquoted(text: str) -> str:
    """Return a parameter's text without the quotes that a manifest has around one with a space in it."""
    parts = shlex.split(text) if any(map(str.isspace, text)) else [text]
    if len(parts) != 1:
        raise ValueError(text)
    return parts[0]


def _jobs(task: luigi.Task) -> list[str]:
    """Return what the ledger calls the work of a task."""
    if isinstance(task, Stage):
        return [job_of(task.task_family, task.datasets()[0].partition)]
    return [task.job] if isinstance(task, TemplateJob) else []

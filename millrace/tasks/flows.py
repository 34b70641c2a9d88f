"""Flow: a stage whose result is a small value, and which says while it runs what it needs next.

`steps()` yields tasks and gets back what they hand on; what it returns is the flow's value, kept in its manifest.
luigi's own dynamic dependencies carry it (run() that yields): where something is not there yet, luigi does that first
and runs the flow anew, from the beginning. So steps() is run several times, and each time has to ask for the same. The
partition is claimed meanwhile, as any stage's, and an attempt is begun only when steps() has come to its end.
"""

import contextlib
import hashlib
import inspect
import re
from collections.abc import Callable, Container, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar
from urllib.parse import quote

import luigi
from luigi.task import flatten

from millrace.common.text import one_line
from millrace.core import ledger, values
from millrace.core.keys import Key
from millrace.core.ledger import Claim
from millrace.core.manifests import Manifest
from millrace.core.storage import read_all
from millrace.core.values import Value
from millrace.errors import ManifestError, TerminalError
from millrace.tasks import advice, batches, freshness, session
from millrace.tasks.protocols import Inputs, Outcome, Unmet
from millrace.tasks.stage import Stage, stages_of

#: How much of a folder's name parameters may be, because it is also a part of the name of a file of the ledger; of what
#: is longer, the beginning and a digest stand there.
_LONGEST = 100


class Flow(Stage):
    """A stage whose result is a value: say steps(), and requires() where that is known beforehand."""

    yields: ClassVar[bool] = True
    _value: Value | None = None
    _began = ""
    _yielded: Mapping[str, Stage] = MappingProxyType({})
    _read: Inputs = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "writes" not in vars(cls):
            cls.writes = (_snake(cls.__name__),)

    def steps(self) -> Any:
        """Return the value; yield the tasks that it needs, one, or a list or dict of them, to be handed what they made.

        That is of a Flow its value, and of any other task its output().
        """
        raise TerminalError(f"{type(self).__name__} has no steps(); what it returns is the flow's value")

    def value(self) -> Any:
        """Return the value. Raises ManifestError if it is not there yet, or is not as it was written."""
        manifest = self.manifest()
        if manifest is None:
            raise ManifestError(
                f"{self} has no value yet; {advice.run(self.task_family, **self.told_apart())} makes it"
            )
        freshness.current(self, manifest)
        return _handed_on(self, manifest)

    @property
    def key(self) -> Key:
        """Return the key of the task's day, or hour, in which each of its other parameters is a folder."""
        key = super().key
        said = {name for name, _ in self.key_parameters()} | {"date"}
        apart = {name: text for name, text in self.told_apart().items() if name not in said}
        return replace(key, folder="/".join(filter(None, [key.folder, _folder(apart)])))

    def told_apart(self) -> Mapping[str, str]:
        """Return the parameters, as texts, that tell the task's partition from others of its dataset."""
        given: dict[str, str] = self.to_str_params(only_significant=True)  # type: ignore[no-untyped-call]
        return dict(given)

    def run(self) -> Generator[Any, Any, None]:  # type: ignore[override]
        """Yield what is to be there first; do what is left to do when all of that is."""
        before: list[str] = []
        while True:
            self._yielded, self._read = {}, ()
            fates: dict[str, BaseException | None] = {}
            batches.run([self], fates)
            error = fates.get(self.task_id)
            if not isinstance(error, Unmet):
                break
            wanted = [task.task_id for task in flatten(error.wanted)]
            if wanted == before:
                raise ManifestError(f"what {self} needs is there, and yet not complete; run it again")
            before = wanted
            yield error.wanted
        if error:
            raise error

    def prepare(self) -> None:
        """Walk through the steps, as far as what they need is there. Raises Unmet for what is not."""
        self._began = ledger.now()
        asked: set[str] = set()

        def handed(wanted: Any) -> Any:
            tasks = list(self._tasks(_plainly(wanted)))
            asked.update(task.task_id for task in tasks)
            try:
                return self._handed(wanted)
            except Unmet:
                self._check_walk(tasks, asked)
                raise

        self._value = values.of(self._walked(handed))
        self._inputs = [*self.inputs(), *self._read]

    def execute(self, claim: Claim) -> Outcome:
        """Return the value that the steps came to."""
        return Outcome([], {}, {}, self.maker()[0], value=self._value, started=self._began)

    def required(self) -> list[Stage]:
        """Return the stages that requires() says, and those that the steps have asked for."""
        return [*super().required(), *self._yielded.values()]

    def yielded(self) -> Sequence[Manifest]:
        return [manifest for _, (manifest, _) in self._read]

    def asked_for(self) -> list[luigi.Task]:
        """Return the tasks that the steps ask for, one after the other, as far as they come with what is there."""
        asked: list[luigi.Task] = []
        if not inspect.isgeneratorfunction(self.steps):
            return asked  # steps without a yield ask for nothing, and what they do would be done once more

        def handed(wanted: Any) -> Any:
            asked.extend(self._tasks(_plainly(wanted)))
            return self._handed(wanted)

        with contextlib.suppress(Exception):  # that something is not there, or whatever else ends the steps
            self._walked(handed)
        return asked

    def _walked(self, handed_on: Callable[[Any], Any] | None = None) -> Any:
        """Return what the steps return. handed_on: what they get for what they yield."""
        walk = self.steps()
        if not isinstance(walk, Generator):
            return walk
        handed = None
        try:
            while True:
                handed = (handed_on or self._handed)(walk.send(handed))
        except StopIteration as end:
            return end.value
        finally:
            walk.close()

    def _check_walk(self, wanted: Sequence[luigi.Task], asked: Container[str]) -> None:
        """Raise TerminalError where steps ask for something new, and not for what they have asked for in this run.

        Steps that throw dice would have luigi make one task after the other, without end.
        """
        before = {task.task_id: task for task in self.came_to_need}
        new = [task for task in wanted if task.task_id not in before]
        gone = [task for task_id, task in before.items() if task_id not in asked]
        if new and gone:
            raise TerminalError(
                f"its steps yield {one_line(str(new[0]), 60)} where they yielded {one_line(str(gone[0]), 60)} before; "
                "they have to yield the same each time that they are walked"
            )

    def _handed(self, wanted: Any) -> Any:
        """Return what some tasks made, in the form in which they were yielded. Raises Unmet if one is not complete."""
        wanted = _plainly(wanted)
        tasks = list(self._tasks(wanted))
        if not all(task.complete() for task in tasks):
            raise Unmet(wanted)
        stages = {stage.task_id: stage for stage in stages_of(tasks)}
        datasets = [stage.datasets()[0] for stage in stages.values()]
        files = read_all(session.current().storage, [dataset.manifest_path for dataset in datasets])
        known = {stage.task_id for stage in self.required()}
        found = {}
        for stage, dataset, file in zip(stages.values(), datasets, files, strict=True):
            there = dataset.parsed(file)
            if there is None:
                raise ManifestError(f"{self} needs {dataset.partition}, which has no manifest any more; run it again")
            found[stage.task_id] = there[0]
            if stage.task_id not in known:
                self._yielded = {**self._yielded, stage.task_id: stage}
                self._read = [*self._read, (dataset, there)]
        return _formed(wanted, lambda task: _handed_on(task, found.get(task.task_id)))

    def _tasks(self, wanted: Any) -> Iterable[luigi.Task]:
        """Yield the tasks in what the steps yielded. Raises TerminalError for what is none."""
        if isinstance(wanted, luigi.Task):
            if wanted.task_id == self.task_id:
                raise TerminalError("its steps yield the task itself, which would never be complete")
            yield wanted
        elif isinstance(wanted, list | tuple):
            for each in wanted:
                yield from self._tasks(each)
        elif isinstance(wanted, dict):
            yield from self._tasks([*wanted.values()])
        else:
            raise TerminalError(
                f"its steps yield {one_line(repr(wanted), 60)}, which is no task; yield a task, or a list or "
                "dict of tasks"
            )


def in_order(*steps: Any) -> Generator[Any, Any, list[Any]]:
    """Yield tasks, or lists or dicts of tasks, one after the other; return what they hand on, in that order.

    For `handed = yield from in_order(…)` in steps(): none begins before all that comes before it is complete.
    """
    handed = []
    for each in steps:
        handed.append((yield each))
    return handed


def after(first: Any, *, then: Any) -> Generator[Any, Any, Any]:
    """Yield what is to be complete first, and then what is not to begin before; return what that hands on.

    For `handed = yield from after(…, then=…)` in steps().
    """
    yield first
    return (yield then)


def _plainly(wanted: Any) -> Any:
    """Return what the steps yielded without the form that luigi has for many tasks."""
    return wanted.requirements if isinstance(wanted, luigi.task.DynamicRequirements) else wanted


def _handed_on(task: luigi.Task, manifest: Manifest | None) -> Any:
    """Return what a complete task hands to others. Raises ManifestError for a flow's manifest that has no value."""
    if not isinstance(task, Flow):
        return task.output()
    if manifest is None or manifest.value is None:
        partition = task.datasets()[0].partition
        raise ManifestError(
            f"{partition} has no value, because no flow made it; delete it ({advice.clear_partition(partition)}), then "
            "run again"
        )
    return manifest.value.json


def _formed(wanted: Any, of: Callable[[luigi.Task], Any]) -> Any:
    """Return what is to be had of each task, in the form in which the tasks are."""
    if isinstance(wanted, luigi.Task):
        return of(wanted)
    if isinstance(wanted, dict):
        return {name: _formed(each, of) for name, each in wanted.items()}
    return [_formed(each, of) for each in wanted]


def _folder(parameters: Mapping[str, str]) -> str:
    """Return the folder that parameters name, in which no others have a folder of the same name."""
    whole = "/".join(f"{name}={quote(text, safe=':+,@')}" for name, text in parameters.items())
    if len(whole) <= _LONGEST:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:16]
    return f"{whole[:_LONGEST]}~{digest}"


def _snake(name: str) -> str:
    """Return a class's name as datasets are named: word_counts for WordCounts."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()

"""JobGraph: the jobs of a file in their order, each one task of luigi's: a template's launch, or a task by its name.

    JobGraph        requires all jobs, and is complete when they are
    GraphJob        a job that is a template: a TemplateJob whose ledger entry is called by graph, job and day
    GraphTask       a job that is a task of luigi's: it has that task run when what comes before is complete

A job is complete when it is done with what the file says now, and all before it is complete; a template's job besides
when it was done with the results of those directly before it that are there now. So what is launched anew, because it
was cleared or its parameters changed, has all after it launched anew. A graph whose file says other parameters stops
a job that still runs with the old ones (launching.py).
"""

import datetime
import difflib
import functools
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType, NoneType
from typing import Any

import luigi
from luigi.parameter import ParameterException
from luigi.task import flatten

from millrace.common.text import one_line
from millrace.core import drawing, graphs
from millrace.core.documents import Mistakes
from millrace.core.graphs import Graph, Job
from millrace.core.ledger import Entry
from millrace.errors import ManifestError, MillraceError, SettingError
from millrace.tasks import advice, launching, session
from millrace.tasks.base import Task, registered
from millrace.tasks.datasets import Dataset
from millrace.tasks.flows import Flow
from millrace.tasks.settings import Day, Hour, Setting
from millrace.tasks.stage import Stage
from millrace.tasks.template_job import TemplateJob

_SPEC = "the graph's file: TOML or YAML"


def graph_of(spec: str, date: datetime.date) -> Graph:
    """Return the graph of a file, for one run as it was when the run first asked.

    Raises SettingError that says all that is wrong with the file.
    """
    return session.current().once(("graph", os.path.abspath(spec), date), functools.partial(load, spec, date))


def load(spec: str, date: datetime.date) -> Graph:
    """Return the graph of a file, for a day. Raises SettingError that says all that is wrong with the file."""
    graph, mistakes = graphs.read(spec)
    for job in graph.jobs.values():
        if job.task:
            _check_task(graph, job, date, mistakes)
    mistakes.check()
    return graph


def tasks_of(spec: str, date: datetime.date, names: Iterable[str] | None = None) -> "list[GraphJob | GraphTask]":
    """Return the tasks of a graph's jobs, of all or of some, each after those that it comes after."""
    graph = graph_of(spec, date)
    return [
        (GraphJob if graph.jobs[name].template else GraphTask)(graph=graph.name, name=name, date=date, spec=spec)
        for name in (graph.jobs if names is None else names)
    ]


class DryRun(Setting):
    """Whether a graph is only drawn, and how; as a flag it needs no value."""

    _HOW = ("tree", "mermaid")

    def __init__(self) -> None:
        super().__init__(
            self._how,
            "tree or mermaid",
            "draw the graph and do nothing: as a tree, or mermaid",
            default="",
            significant=False,
            positional=False,
        )

    def _how(self, value: str) -> str:
        if value not in ("", *self._HOW):
            raise ValueError
        return value

    @classmethod
    def _parser_kwargs(cls, param_name: str, task_name: str | None = None) -> dict[str, Any]:
        given: dict[str, Any] = super()._parser_kwargs(param_name, task_name)  # type: ignore[no-untyped-call]
        return {**given, "nargs": "?", "const": "tree"}


class JobGraph(Task):
    """The jobs of a file: templates of Dataflow and tasks, in the order and side by side as the file says."""

    date: datetime.date = Day()
    spec: str = luigi.Parameter(positional=False, description=_SPEC)
    dry_run: str = DryRun()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        if self.dry_run:
            # Here, because from here on luigi would tell luigid of the task, and ask whether the storage has results.
            encoding = sys.stdout.encoding or "utf-8"
            try:
                print(self.drawn(self.dry_run).encode(encoding, "replace").decode(encoding), flush=True)
            except BrokenPipeError:  # as of `| head`
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0)

    def drawn(self, how: str = "tree") -> str:
        """Return a picture of the graph: as a tree, with all that is known before its run, or mermaid."""
        graph = graph_of(self.spec, self.date)
        if how == "mermaid":
            return drawing.mermaid(graph)
        return drawing.tree(graph, self.date, functools.partial(_about, graph, self.date))

    def requires(self) -> Any:
        """Return all jobs, so that one that fails keeps none from running but those after it."""
        google = session.current().google
        labels = _labels(graph_of(self.spec, self.date), self.date)
        # For stages, which know of no graph. A run of several graphs, or days, can't tell whose they are.
        google.labels = labels if google.labels in ({}, labels) else dict.fromkeys(labels, "")
        return tasks_of(self.spec, self.date)

    def complete(self) -> bool:
        """Return whether all jobs are. Raises SettingError that says all that is wrong with the file."""
        _known(self.spec, self.date).clear()  # a run asks this first
        return all(_made(self.spec, self.date, graph_of(self.spec, self.date).jobs).values())


def _labels(graph: Graph, date: datetime.date) -> dict[str, str]:
    """Return the labels that tell of a job of Dataflow's which graph it is of, and which day."""
    return {"millrace-graph": graph.name, "millrace-date": str(date)}


class _Node(Task):
    """What the tasks of a graph's jobs have in common."""

    graph: str = luigi.Parameter(default="", positional=False, description="the graph's name, for luigid's page")
    name: str = luigi.Parameter(positional=False, description="the job, as the graph's file calls it")
    date: datetime.date = Day()
    spec: str = luigi.Parameter(positional=False, description=_SPEC)

    @property
    def task_family(self) -> str:
        """What luigid calls the task: by the job, because its picture of a graph shows no more than this."""
        return f"{self.graph}.{self.name}" if self.graph else type(self).__name__

    def __str__(self) -> str:
        """Return graph, job and day as people say them."""
        return f"{type(self).__name__} {self.graph}{'.' * bool(self.graph)}{self.name} {self.date}"

    @property
    def plan(self) -> Graph:
        """The graph that the job is of. Raises SettingError."""
        found = graph_of(self.spec, self.date)
        if self.name not in found.jobs:
            raise SettingError(f"{self.spec} has no job {self.name}; there are {', '.join(found.jobs)}")
        return found

    @property
    def said(self) -> Job:
        """What the file says of the job."""
        return self.plan.jobs[self.name]

    def filled(self, value: Any) -> Any:
        """Return a value with what stands in braces filled in; the jobs whose outputs it names have to be complete."""
        return self.plan.filled(value, self.date, lambda name: _task(self.spec, self.date, name).result())

    def result(self) -> str:
        """Return what stands for {jobs.NAME.output}."""
        raise NotImplementedError

    def result_is_to_come(self) -> bool:
        """Return whether nobody can tell yet where the output is going to be."""
        return any(
            _task(self.spec, self.date, name).result_is_to_come()
            for name in graphs.outputs_in(graphs.output_of(self.said))
        )

    def token(self) -> str:
        """Return what tells the job's result from that of another execution; "" where there is none."""
        raise NotImplementedError

    def made(self, before: Mapping[str, str], entry: Entry | None) -> str:
        """Return the token of a result that was made with those of the jobs directly before; "" where there is none.

        entry: what the ledger has for the job. Raises a MillraceError for what would keep the job from making one.
        """
        raise NotImplementedError

    def look_ahead(self) -> None:
        """Raise a MillraceError for what would keep the job from running, as far as that can be known by now."""

    def requires(self) -> Any:
        """Return the jobs directly before it."""
        return [_task(self.spec, self.date, name) for name in self.said.after]

    def complete(self) -> bool:
        """Return whether the job is done, and all before it. Raises a MillraceError for what would keep it from being
        so.
        """
        found = _made(self.spec, self.date, self.plan.before(self.name))
        before = {name: found[name] for name in self.said.after}
        if all(before.values()) and self.made(before, _entries([self])[0]):
            return True
        self.look_ahead()
        return False

    @property
    def command(self) -> str:
        """The command that goes on with the graph."""
        return advice.run("JobGraph", date=self.date, spec=self.spec)


def _filled_in(part: str) -> property:
    """Return a property that is what the file says of a job, with what stands in braces filled in."""
    return property(lambda node: str(node.filled(getattr(node.said, part))))


class GraphJob(_Node, TemplateJob):
    """A job of a graph that launches a template."""

    parameters: Mapping[str, Any] = MappingProxyType({})  # no parameters of luigi's: the file says them
    environment: Mapping[str, Any] = MappingProxyType({})

    template: Any = _filled_in("template")
    region: Any = _filled_in("region")
    version: Any = _filled_in("version")

    @property
    def called(self) -> str:
        """What messages, settings and the names of Dataflow's jobs call it."""
        return f"{self.plan.name}.{self.name}"

    @property
    def job(self) -> str:
        """What the ledger calls it."""
        return graph_of(self.spec, self.date).ledger_name(self.name, self.date)

    @classmethod
    def is_of(cls, job: str) -> bool:
        """Return whether what the ledger calls so is a job of a graph."""
        return graphs.of_ledger(job) is not None

    @classmethod
    def told_by(cls, job: str) -> Mapping[str, str]:
        """Return the job's name."""
        told = graphs.of_ledger(job)
        return {"name": told[1]} if told else {}

    def arguments(self) -> Mapping[str, Any]:
        """Return what the template gets."""
        found: Mapping[str, Any] = self.filled(self.said.parameters)
        return found

    def own_environment(self) -> Mapping[str, Any]:
        """Return what the launch says of workers, with labels that tell graph, job and day."""
        own = dict(self.filled(self.said.environment))
        labels = {**_labels(self.plan, self.date), "millrace-job": self.name}
        if isinstance(own.get("labels", {}), dict):
            own["labels"] = {**labels, **own.get("labels", {})}
        return own

    def work(self) -> str:
        """Return a digest of what the job is to do, and of the results that it is to do it with."""
        return self._work({name: _task(self.spec, self.date, name).token() for name in self.said.after})

    def _work(self, before: Mapping[str, str]) -> str:
        return hashlib.sha256(json.dumps([super().work(), before], sort_keys=True).encode()).hexdigest()[:32]

    def result(self) -> str:
        """Return what the file says is the output."""
        return str(self.filled(graphs.output_of(self.said)))

    def token(self) -> str:
        """Return the attempt that the ledger says is done."""
        entry = session.current().entry(self.job)
        return entry.attempt if entry is not None and entry.state == "done" else ""

    def made(self, before: Mapping[str, str], entry: Entry | None) -> str:
        """Return the attempt that was done with these results before it."""
        done = entry is not None and entry.state == "done" and entry.work == self._work(before)
        return entry.attempt if entry is not None and done else ""

    def look_ahead(self) -> None:
        """Raise a MillraceError for what no launch would take, with lines of the file, before anything is launched."""
        said = self.said
        named = graphs.outputs_in([said.template, said.parameters, said.environment, said.region, said.version])
        if any(_task(self.spec, self.date, name).result_is_to_come() for name in named):
            return  # what it is to be launched with is not known yet
        self.preflight()
        entry = session.current().entry(self.job)
        if entry is not None and entry.state == "running":
            return  # what was launched is waited for, whatever has become of its template
        known, mistakes = launching.known(self), Mistakes(self.spec)
        for problem in launching.problems(self, known):
            name = problem.split()[0]
            mistakes.add(self.plan.line(self.name, "parameters", name), f"{self.name}: {problem}")
        mistakes.check()
        launching.checked(self, known)

    @property
    def forget(self) -> str:
        """The command that forgets the job's failures."""
        return advice.clear("GraphJob", self.date, self.date, spec=self.spec, name=self.name)


class GraphTask(_Node):
    """A job of a graph that is a task: luigi runs the task, and all that it requires, when what comes before is
    complete.
    """

    def task(self) -> luigi.Task:
        """Return the task. Raises SettingError for a parameter that it does not take."""
        mistakes = Mistakes(self.spec)
        found = _instance(self.plan, self.said, self.filled, mistakes)
        mistakes.check()
        assert found is not None
        return found

    def requires(self) -> Any:
        """Return the jobs directly before it; where there are none, the task, because it can be known at once."""
        return super().requires() or [self.task()]

    def run(self) -> Iterator[luigi.Task]:
        """Have luigi run the task."""
        yield self.task()

    def result(self) -> str:
        """Return what the file says is the output, or else where the task's own output is."""
        if self.said.output is not None:
            return str(self.filled(self.said.output))
        return _place(self.task(), f"{self.plan.document.path}, line {self.plan.line(self.name)}: {self.name}")

    def result_is_to_come(self) -> bool:
        """Return whether nobody can tell yet where the output is going to be."""
        if self.said.output is None:
            return not self.complete()
        return super().result_is_to_come()

    def token(self) -> str:
        """Return the digest of a stage's manifest; of another task its id, because nothing tells its results apart."""
        task = self.task()
        if not isinstance(task, Stage):
            return str(task.task_id)
        found = task.datasets()[0].read()
        return found[1] if found else ""

    def made(self, before: Mapping[str, str], entry: Entry | None) -> str:
        """Return the token where the task is complete."""
        return self.token() if self.task().complete() else ""


def _task(spec: str, date: datetime.date, name: str) -> "GraphJob | GraphTask":
    (found,) = tasks_of(spec, date, [name])
    return found


def _known(spec: str, date: datetime.date) -> dict[str, str]:
    """Return the tokens of the jobs that this run has found complete, by name: they stay so while the run lasts."""
    return session.current().once(("graph made", os.path.abspath(spec), date), dict)


def _made(spec: str, date: datetime.date, names: Iterable[str]) -> dict[str, str]:
    """Return the tokens of jobs that are complete, by name, "" for the others; with each job all before it is named."""
    jobs, known = graph_of(spec, date).jobs, _known(spec, date)
    found, left = dict[str, str](), list[str]()
    for name in names:
        if name in known and all(found.get(each) for each in jobs[name].after):
            found[name] = known[name]
        else:
            left.append(name)
    while ready := [name for name in left if all(found.get(each) for each in jobs[name].after)]:
        tasks = tasks_of(spec, date, ready)
        for task, entry in zip(tasks, _entries(tasks), strict=True):
            try:
                token = task.made({name: found[name] for name in jobs[task.name].after}, entry)
            except Exception:  # what is wrong with a job is said for that job alone
                token = ""
            found[task.name] = token
            if token:
                known[task.name] = token
        left = [name for name in left if name not in found]
    return {**dict.fromkeys(left, ""), **found}


def _entries(tasks: Sequence[_Node]) -> list[Entry | None]:
    """Return what the ledger has for each of some jobs, asked for several at a time."""
    there = session.current().entries_of(task.job for task in tasks if isinstance(task, GraphJob))
    return [there[task.job] if isinstance(task, GraphJob) else None for task in tasks]


def _kinds() -> dict[str, type[luigi.Task]]:
    """Return the tasks by name, looked for once, because luigi goes through all that it knows for each name."""

    def ask() -> dict[str, type[luigi.Task]]:
        return {name: kind for name, kind in registered().items() if not issubclass(kind, luigi.Config)}

    return session.current().once("the tasks of graphs", ask)


def _check_task(graph: Graph, job: Job, date: datetime.date, mistakes: Mistakes) -> None:
    """Note what is wrong with a job that is a task, as far as that can be known before anything has run."""
    known = _kinds()
    kind, line = known.get(job.task), graph.line(job.name, "task")
    if kind is None or issubclass(kind, JobGraph | _Node):
        offered = [name for name, each in known.items() if not each.__module__.startswith(("luigi.", "millrace."))]
        near = difflib.get_close_matches(job.task, offered, 1)
        which = f"did you mean {near[0]}?" if near else f"there are {', '.join(offered)}"
        mistakes.add(line, f"there is no task {job.task} for a graph; {which}")
        return
    parameters = dict(kind.get_params())
    for name in job.parameters:
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, 1)
            which = f"did you mean {near[0]}?" if near else f"there are {', '.join(parameters) or 'none'}"
            mistakes.add(_line(graph, job, name), f"{job.task} has no parameter {name}; {which}")
    missing = False
    for name, parameter in parameters.items():
        if name in job.parameters:
            continue
        # A day that is not said would be another one than the graph's: yesterday, or none.
        if name == "date" or type(parameter) in (Day, Hour) or not parameter.has_task_value(job.task, name):
            mistakes.add(line, f"{job.task} needs the parameter {name}, which the job {job.name} does not say")
            missing = True
    if not missing and job.parameters.keys() <= parameters.keys() and not graphs.outputs_in(job.parameters):
        _instance(graph, job, lambda value: graph.filled(value, date, str), mistakes)


def _instance(graph: Graph, job: Job, filled: Callable[[Any], Any], mistakes: Mistakes) -> luigi.Task | None:
    """Return the task of a job, with what stands in braces filled in; note what it does not take."""
    kind = _kinds()[job.task]
    parameters, values = dict(kind.get_params()), {}
    for name, value in filled(job.parameters).items():
        text = json.dumps(value, default=str) if isinstance(value, dict | list) else graphs.as_text(value)
        try:
            values[name] = parameters[name].parse(text)
        except Exception as error:  # what a parameter raises is its own matter
            own = parameters[name]
            why = f"allowed is {own.allowed}" if isinstance(own, Setting) else str(error)
            mistakes.add(_line(graph, job, name), f"{name} = {text!r} is none for {job.task}: {why}")
    if len(values) < len(job.parameters):
        return None
    try:
        return kind(**values)
    except (MillraceError, ValueError, ParameterException) as error:
        mistakes.add(graph.line(job.name, "parameters"), f"{job.task} can't be made of these parameters: {error}")
        return None


def _line(graph: Graph, job: Job, parameter: str) -> int:
    """Return the line of a parameter, or else that where a common one is taken."""
    written = graph.document.value["jobs"][job.name]
    return graph.line(
        job.name, *(("parameters", parameter) if parameter in written.get("parameters", {}) else ("common",))
    )


def _place(task: luigi.Task, who: str) -> str:
    """Return where a complete task's output is: of a stage the folder of its files, of others a path or URI. Of a flow
    it is the value itself.
    """
    if isinstance(task, Flow):
        value = task.value()
        return json.dumps(value) if isinstance(value, dict | list | NoneType) else graphs.as_text(value)
    targets = flatten(task.output())
    if targets and isinstance(targets[0], Dataset):
        found = targets[0].read()
        if found is None:
            raise ManifestError(f"{targets[0].partition} has no manifest any more; run again")
        return session.current().storage.uri(f"{found[0].partition}/{found[0].attempt}")
    places = [place for each in targets if (place := getattr(each, "uri", None) or getattr(each, "path", None))]
    if len(places) != 1:
        raise SettingError(f"{who} is {task}, which does not make one file; say its output: output = …")
    return str(places[0])


def _about(graph: Graph, date: datetime.date, job: Job) -> Sequence[str]:
    """Return what a job is, and its parameters as far as they are known before it runs, a line each."""

    def output(name: str) -> str:
        said = graphs.output_of(graph.jobs[name]) if graph.jobs[name].template else graph.jobs[name].output
        return f"{{jobs.{name}.output}}" if said is None else str(graph.filled(said, date, output))

    filled = graph.filled({**job.parameters}, date, output)
    what = f"template {graph.filled(job.template, date, output)}" if job.template else f"task {job.task}"
    lines = [f"{name} = {graphs.as_text(value)}" for name, value in filled.items()]
    return [one_line(line) for line in (what, *lines)]

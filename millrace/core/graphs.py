"""Graphs of jobs as a file says them: what each job is, which ones it comes after, and what its parameters are.

    name = "nightly"

    [common]
    bucket = "my-bucket"

    [jobs.clean]
    template = "gs://{bucket}/templates/clean.json"
    parameters = { input = "gs://{bucket}/in/{date}.jsonl", output = "gs://{bucket}/clean/{run}" }

    [jobs.count]
    after = ["clean"]
    template = "gs://{bucket}/templates/count.json"
    parameters = { input = "{jobs.clean.output}", output = "gs://{bucket}/counts/{run}" }

What can be wrong with a file without asking anybody is found here; `read` notes all of it, each with its line.
"""

import datetime
import difflib
import graphlib
import heapq
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from millrace.core import documents
from millrace.core.documents import Document, Mistakes, Way

#: How graphs and jobs are called: as labels of Google's, and parts of the names of jobs, are.
NAME = re.compile(r"[a-z][-a-z0-9_]{0,39}")
_COMMON = re.compile(r"[A-Za-z_][-A-Za-z0-9_]*")
_TEXT = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_DATE = re.compile(r"date([+-]\d{1,4})?(?::(.+))?", re.DOTALL)
_OUTPUT = re.compile(r"jobs\.([^.]+)\.output")
_LEDGER = re.compile(r"GraphJob\.([-a-z0-9_]+)\.([-a-z0-9_]+)\.date=(\d{4}-\d\d-\d\d)")
#: What a graph, and a job, may say: name → what that is.
_OF_GRAPH = {"name": str, "description": str, "common": dict, "environment": dict, "jobs": dict}
_OF_JOB = {
    "template": str,
    "task": str,
    "description": str,
    "after": list,
    "common": list,
    "parameters": dict,
    "output": str,
    "environment": dict,
    "region": str,
    "version": str,
}
#: What is said of templates alone.
_OF_TEMPLATES = ("environment", "region", "version")
_CALLED: Mapping[type, str] = {str: "a text", dict: "a table", list: "a list of names"}


@dataclass(frozen=True)
class Job:
    """A job as the file says it, nothing filled in yet.

    template: where the template is, "" for a task of luigi's, whose name is in `task` then. after: the jobs that it
    comes after. output: what stands for {jobs.NAME.output}, None where the file does not say. environment: with the
    graph's own. parameters: with those that it takes from the common ones.
    """

    name: str
    template: str
    task: str
    description: str
    after: Sequence[str]
    parameters: Mapping[str, Any]
    output: str | None
    environment: Mapping[str, Any]
    region: str
    version: str


@dataclass(frozen=True)
class Graph:
    """A file's jobs, each after those that it comes after. document: which knows the lines."""

    name: str
    description: str
    common: Mapping[str, Any]
    jobs: Mapping[str, Job]
    document: Document = field(repr=False)

    def before(self, name: str) -> list[str]:
        """Return all that a job comes after, directly or not, in order."""
        found: set[str] = set()
        left = [name]
        while left:
            left += (new := {*self.jobs[left.pop()].after} - found)
            found |= new
        return [each for each in self.jobs if each in found]

    def after(self, name: str) -> list[str]:
        """Return the jobs that come directly after a job, in order."""
        return [each.name for each in self.jobs.values() if name in each.after]

    def line(self, job: str, *way: str | int) -> int:
        """Return the line of what a job says; a parameter that is a common one has the line where it is taken."""
        return self.document.line("jobs", job, *way)

    def run(self, date: datetime.date) -> str:
        """Return what {run} stands for: the same for every run of the graph for a day."""
        return f"{self.name}-{date}"

    def ledger_name(self, job: str, date: datetime.date) -> str:
        """Return what the ledger calls a template's job of a day."""
        return f"GraphJob.{self.name}.{job}.date={date}"

    def filled(self, value: Any, date: datetime.date, outputs: Callable[[str], str]) -> Any:
        """Return a value with all that stands in braces filled in; outputs: what a job's output is."""
        return _filled(value, {**self._own(date), **self._common(date)}, date, outputs)

    def _own(self, date: datetime.date) -> dict[str, str]:
        return {"run": self.run(date)}

    def _common(self, date: datetime.date) -> dict[str, str]:
        found = self._own(date)
        for name, value in self.common.items():
            found[name] = as_text(_filled(value, found, date, _none))
        return found


def _none(job: str) -> str:
    raise KeyError(job)


def of_ledger(name: str) -> tuple[str, str, datetime.date] | None:
    """Return the graph, the job and the day of what the ledger calls so; None for what is no job of a graph."""
    if not (found := _LEDGER.fullmatch(name)):
        return None
    return found[1], found[2], datetime.date.fromisoformat(found[3])


def as_text(value: Any) -> str:
    """Return a value as it stands in a text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def outputs_in(value: Any) -> list[str]:
    """Return the jobs whose outputs a value names."""
    found = (_OUTPUT.fullmatch(inside) for text in _texts(value) for inside in _braces(text) if inside)
    return list(dict.fromkeys(each[1] for each in found if each))


def _texts(value: Any, way: Way = ()) -> Iterator[str]:
    yield from (text for _, text in _ways(value, way))


def _ways(value: Any, way: Way) -> Iterator[tuple[Way, str]]:
    """Yield the texts in a value, each with the way to it."""
    if isinstance(value, str):
        yield way, value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _ways(each, (*way, name))
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from _ways(each, (*way, number))


def _braces(text: str) -> Iterator[str | None]:
    """Yield what stands between braces in a text; None for a brace that is alone. Doubled ones are no such."""
    for found in _TEXT.finditer(text):
        if found[0] not in ("{{", "}}"):
            yield found[1]


def _filled(value: Any, known: Mapping[str, str], date: datetime.date, outputs: Callable[[str], str]) -> Any:
    if isinstance(value, Mapping):
        return {name: _filled(each, known, date, outputs) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(each, known, date, outputs) for each in value]
    if not isinstance(value, str):
        return value

    def instead(found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        inside = found[1]
        if day := _DATE.fullmatch(inside):
            moved = date + datetime.timedelta(days=int(day[1] or 0))
            return moved.strftime(day[2]) if day[2] else str(moved)
        if of := _OUTPUT.fullmatch(inside):
            return outputs(of[1])
        return known[inside]

    return _TEXT.sub(instead, value)


def read(path: str) -> tuple[Graph, Mistakes]:
    """Return the graph of a file, as far as it is one, and all that is wrong with it. Raises SettingError for a file
    that says nothing of the kind.
    """
    document = documents.read(path)
    mistakes = Mistakes(path)
    if not isinstance(document.value, dict):
        mistakes.add(1, "a graph is a table with jobs in it: [jobs.NAME]")
        mistakes.check()
    return _Reader(document, mistakes).graph(), mistakes


class _Reader:
    """What reads one file, and notes what is wrong with it."""

    def __init__(self, document: Document, mistakes: Mistakes) -> None:
        self._document, self._mistakes = document, mistakes
        self._used: set[str] = set()

    def _wrong(self, way: Way, what: str) -> None:
        self._mistakes.add(self._document.line(*way), what)

    def graph(self) -> Graph:
        """Return the graph."""
        said = self._fitting(self._document.value, (), _OF_GRAPH, "a graph")
        name = said.get("name", re.sub(r"\.\w+$", "", Path(self._document.path).name))
        if not NAME.fullmatch(name):
            why = "" if "name" in said else ", after which the file is called; say another one: name = …"
            self._wrong(("name",), f"{_no_name('graph', name)}{why}")
        common = self._common(said.get("common", {}))
        jobs = self._jobs(said)
        graph = Graph(name, said.get("description", ""), common, jobs, self._document)
        self._ordered(graph)
        graph = Graph(name, graph.description, common, {each: jobs[each] for each in _in_order(jobs)}, self._document)
        self._texts(graph)
        for each in common:
            if each not in self._used:
                self._wrong(("common", each), f"the common parameter {each} is used by no job")
        return graph

    def _fitting(self, value: Mapping[Any, Any], way: Way, allowed: Mapping[str, type], of: str) -> dict[str, Any]:
        """Return what a table says that may stand in it."""
        found = {}
        for name, each in value.items():
            kind = allowed.get(name)
            if kind is None:
                self._wrong((*way, name), f"{of} has no {name}; {meant(str(name), allowed)}")
            elif not isinstance(each, kind):
                self._wrong((*way, name), f"{name} is {_CALLED[kind]}, not {_told(each)}")
            elif kind is str and not str(each).strip():
                self._wrong((*way, name), f"{name} is empty")
            else:
                found[name] = each
        return found

    def _common(self, said: Mapping[Any, Any]) -> dict[str, Any]:
        """Return the common parameters; each may use those that stand before it."""
        found: dict[str, Any] = {}
        for name, value in said.items():
            way = ("common", name)
            if not isinstance(name, str) or not _COMMON.fullmatch(name) or name in ("date", "run", "jobs"):
                self._wrong(way, f"no common parameter may be called {name}; letters, digits, - and _ make a name")
            elif not _single(value):
                self._wrong(way, f"the common parameter {name} is one text, number, true, false or time, not a list")
            else:
                for inside in self._insides(way, value):
                    if _OUTPUT.fullmatch(inside):
                        self._wrong(way, f"the common parameter {name} names the output of a job; say it with a job")
                    elif not self._known(inside, found):
                        self._wrong(way, f"{{{inside}}} is none of {_fields(found)}")
                found[name] = value
        return found

    def _jobs(self, said: Mapping[str, Any]) -> dict[str, Job]:
        """Return the jobs, in the order of the file."""
        if not said.get("jobs"):
            if "jobs" in said or "jobs" not in self._document.value:
                self._wrong(("jobs",), "there is no job; a job is a table [jobs.NAME] with a template or a task")
            return {}
        found: dict[str, Job] = {}
        for name, each in said["jobs"].items():
            way = ("jobs", name)
            if not isinstance(name, str) or not NAME.fullmatch(name):
                self._wrong(way, _no_name("job", name))
            if not isinstance(each, dict):
                self._wrong(way, f"the job {name} is a table, not {_told(each)}")
            elif isinstance(name, str):
                found[name] = self._job(name, self._fitting(each, way, _OF_JOB, f"the job {name}"), each, said)
        templates = [job for job in found.values() if job.template]
        if "environment" in said and not templates:
            self._wrong(("environment",), "the environment is that of templates, and there is no template")
        return found

    def _job(self, name: str, job: Mapping[str, Any], written: Mapping[Any, Any], graph: Mapping[str, Any]) -> Job:
        way = ("jobs", name)
        if ("template" in written) == ("task" in written):
            which = "both a template and a task" if "task" in written else "neither a template nor a task"
            self._wrong(way, f"the job {name} has {which}; it is one of them")
        for each in _OF_TEMPLATES if "task" in written and "template" not in written else ():
            if each in job:
                self._wrong((*way, each), f"{each} is for templates, and the job {name} is the task {written['task']}")
        environment = {**graph.get("environment", {}), **job.get("environment", {})}
        there = [each for each, value in graph["jobs"].items() if isinstance(value, dict)]
        return Job(
            name,
            job.get("template", ""),
            "" if "template" in job else job.get("task", ""),
            job.get("description", ""),
            self._list((*way, "after"), job.get("after", []), there, "job"),
            self._parameters(name, job, graph.get("common", {})),
            job.get("output"),
            environment if "template" in job else {},
            job.get("region", ""),
            job.get("version", ""),
        )

    def _list(self, way: Way, said: Sequence[Any], there: Iterable[str], what: str) -> list[str]:
        """Return the names of a list that are names of something, each once."""
        found: list[str] = []
        for number, name in enumerate(said):
            if not isinstance(name, str) or name not in there:
                self._wrong((*way, number), f"{name} is no {what}; {meant(str(name), there)}")
            elif name in found:
                self._wrong((*way, number), f"{name} is there twice in {way[-1]}")
            else:
                found.append(name)
        return found

    def _parameters(self, name: str, job: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
        way = ("jobs", name)
        own = job.get("parameters", {})
        found = {}
        for each in self._list((*way, "common"), job.get("common", []), common, "common parameter"):
            self._used.add(each)
            if each in own:
                said = f"the job {name} has the parameter {each} itself, in line {{}}, and takes the common one besides"
                self._wrong((*way, "common"), said.format(self._document.line(*way, "parameters", each)))
            found[each] = f"{{{each}}}"
        for each, value in own.items():
            here = (*way, "parameters", each)
            if not isinstance(each, str):
                self._wrong(here, f"the name {each} of a parameter is no text; write it in quotes")
            elif not _single(value) and ("template" in job or not isinstance(value, dict | list)):
                self._wrong(here, f"the parameter {each} is one text, number, true, false or time, not {_told(value)}")
            else:
                found[each] = value
        return found

    def _ordered(self, graph: Graph) -> None:
        """Note each circle of jobs."""
        edges = {name: {*job.after} for name, job in graph.jobs.items()}
        while circle := _circle(edges):
            lines = ", ".join(str(graph.line(name, "after")) for name in circle[:-1])
            many = "s" * (len(circle) > 2)
            self._wrong(
                ("jobs", circle[0], "after"),
                f"jobs come after each other in a circle: {' after '.join(circle)} (line{many} {lines})",
            )
            edges[circle[0]].discard(circle[1])

    def _texts(self, graph: Graph) -> None:
        """Note what stands in braces and is nothing."""
        for name, job in graph.jobs.items():
            before = graph.before(name)
            written = graph.document.value["jobs"][name]
            for part in ("template", "parameters", "output", "environment", "region", "version"):
                for way, text in _ways(written.get(part), ("jobs", name, part)):
                    self._text(graph, job, before, way, text)
        for way, text in _ways(graph.document.value.get("environment"), ("environment",)):
            for inside in self._insides(way, text):
                if not self._known(inside, graph.common):
                    self._wrong(way, f"{{{inside}}} is none of {_fields(graph.common)}")

    def _text(self, graph: Graph, job: Job, before: Sequence[str], way: Way, text: str) -> None:
        for inside in self._insides(way, text):
            if not (of := _OUTPUT.fullmatch(inside)):
                if not self._known(inside, graph.common):
                    self._wrong(way, f"{{{inside}}} is none of {_fields(graph.common)}, {{jobs.NAME.output}}")
                continue
            other = graph.jobs.get(of[1])
            if other is None:
                self._wrong(way, f"{{{inside}}}: {of[1]} is no job; {meant(of[1], graph.jobs)}")
            elif of[1] not in before:
                self._wrong(way, f"{{{inside}}}: {job.name} does not come after {of[1]}; say so with after")
            elif other.template and output_of(other) is None:
                where = graph.line(of[1])
                self._wrong(way, f"{{{inside}}}: {of[1]} (line {where}) says no output, by `output` or as a parameter")

    def _insides(self, way: Way, value: Any) -> Iterator[str]:
        """Yield what stands between braces in a text; note a brace that is alone."""
        for inside in _braces(value) if isinstance(value, str) else ():
            if inside is None:
                self._wrong(way, f"a brace is alone in {value!r}; write {{{{ or }}}} for one that stands for itself")
            else:
                yield inside

    def _known(self, inside: str, common: Iterable[str]) -> bool:
        """Return whether something between braces is a day, the run or a common parameter."""
        self._used |= {inside} & {*common}
        return bool(_DATE.fullmatch(inside)) or inside == "run" or inside in common


def output_of(job: Job) -> Any:
    """Return what a job says that its output is, nothing filled in: `output`, or its parameter of that name."""
    return job.output if job.output is not None else job.parameters.get("output")


def _in_order(jobs: Mapping[str, Job]) -> list[str]:
    """Return the jobs' names, each after those that it comes after, otherwise as the file has them."""
    places = {name: place for place, name in enumerate(jobs)}
    left = {name: len(job.after) for name, job in jobs.items()}
    ready = [(place, name) for name, place in places.items() if not left[name]]
    following: dict[str, list[str]] = {name: [] for name in jobs}
    for name, job in jobs.items():
        for each in job.after:
            following[each].append(name)
    found: list[str] = []
    while ready:
        _, name = heapq.heappop(ready)
        found.append(name)
        for each in following[name]:
            left[each] -= 1
            if not left[each]:
                heapq.heappush(ready, (places[each], each))
    return found + [name for name in jobs if left[name]]  # the last ones lie in circles, or after such


def _circle(edges: Mapping[str, Iterable[str]]) -> list[str]:
    """Return jobs that come after each other in a circle, the first one last again; [] for none."""
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        circle: list[str] = error.args[1][::-1]  # which names what comes before first
        first = circle.index(min(circle))
        return [*circle[first:-1], *circle[: first + 1]]
    return []


def _single(value: Any) -> bool:
    return isinstance(value, str | int | float | datetime.date | datetime.time)


def _fields(common: Iterable[str]) -> str:
    return ", ".join(f"{{{each}}}" for each in ("date", "date-1", "run", *common))


def meant(name: str, there: Iterable[str]) -> str:
    """Return which of some names was meant by one that is none of them, or all that there are."""
    names = [str(each) for each in there]
    near = difflib.get_close_matches(name, names, 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(names) or 'none'}"


def _no_name(what: str, name: Any) -> str:
    return f"no {what} may be called {name}; a name is a small letter and small letters, digits, - and _, at most 40"


def _told(value: Any) -> str:
    return (
        "nothing"
        if value is None
        else repr(value)
        if _single(value)
        else "a table"
        if isinstance(value, Mapping)
        else "a list"
    )

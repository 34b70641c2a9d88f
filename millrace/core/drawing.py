"""Pictures of a graph of jobs: as lines of text, and as Mermaid draws it."""

import datetime
from collections.abc import Callable, Sequence

from millrace.core.graphs import Graph, Job

#: What is to be said of a job behind its name, and below it, a line each.
About = Callable[[Job], Sequence[str]]


def tree(graph: Graph, date: datetime.date, about: About) -> str:
    """Return the jobs as a tree, each below one that it comes after: the last one there, with all that it says."""
    said = f": {graph.description}" if graph.description else ""
    lines = [f"{graph.name} {date}, {len(graph.jobs)} job{'s' * (len(graph.jobs) != 1)}{said}"]
    left = {name: len(job.after) for name, job in graph.jobs.items()}
    roots = [name for name, job in graph.jobs.items() if not job.after]
    stack = [(name, "", name is roots[-1]) for name in reversed(roots)]
    while stack:
        name, indent, last = stack.pop()
        job = graph.jobs[name]
        left[name] -= 1
        branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
        if left[name] > 0:
            lines.append(f"{indent}{branch}{name}, which comes after more: see below")
            continue
        after = f" (after {', '.join(job.after)})" if len(job.after) > 1 else ""
        what, *more = about(job)
        lines.append(f"{indent}{branch}{name}{after}: {what}")
        following = graph.after(name)
        bar = "│  " if following else "   "
        lines += [f"{indent}{below}{bar}  {each}" for each in more]
        stack += [(each, indent + below, each is following[-1]) for each in reversed(following)]
    return "\n".join(lines)


def mermaid(graph: Graph) -> str:
    """Return the graph as a flowchart of Mermaid's: templates as boxes, tasks with round ends."""
    numbers = {name: f"job{number}" for number, name in enumerate(graph.jobs, 1)}
    lines = ["flowchart TD"]
    for name, job in graph.jobs.items():
        what = job.template.rstrip("/").rpartition("/")[2] or job.task
        begin, end = ("[", "]") if job.template else ("([", "])")
        lines.append(f'    {numbers[name]}{begin}"{name}<br/>{_quoted(what)}"{end}')
    for name, job in graph.jobs.items():
        lines += [f"    {numbers[each]} --> {numbers[name]}" for each in job.after]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """Return a text as Mermaid takes it between quotes."""
    for sign, code in (("&", "#amp;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):
        text = text.replace(sign, code)
    return text

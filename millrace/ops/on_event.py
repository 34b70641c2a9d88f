"""Fire a graph's next step when an event, on standard input, says that one of its jobs has ended.

An event is a push of Pub/Sub, a log entry of Dataflow's (bare, or base64 in a message, as a log sink sends it), or the
CloudEvent of Eventarc (google.cloud.dataflow.job.v1beta3.statusChanged). It only says where to look: whose job it was,
and what became of it, Dataflow and the ledger are asked. A job that is none of these graphs' is ignored, in one line.

SPEC is a graph's file; those in graphs/ unless given. The exit code is 0 for what is ignored, 65 for what is no event,
75 for a job that goes on though the event says that it has ended (send it again), and that of the firing otherwise,
which is luigi's: 0, 12 (jobs are at work), 13 (a person is waited for), 30 (something failed).
"""

import datetime
import glob
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from millrace.common.text import one_line
from millrace.core import graphs, ledger
from millrace.core.graphs import Graph
from millrace.core.ledger import Entry, Ledger
from millrace.errors import SettingError
from millrace.ops import events, fire
from millrace.ops.events import EventError, Told
from millrace.tasks import console, sections, session

if TYPE_CHECKING:
    from millrace.runners.dataflow.jobs import Job

_NO_EVENT, _AGAIN = 65, 75  # EX_DATAERR and EX_TEMPFAIL of sysexits.h
#: Seconds for which a job may be behind the event that says that it has ended.
_BEHIND = 20.0
#: Seconds after which a function gives up a firing; Pub/Sub waits for an answer for 600 at most.
_LONGEST = 540.0
#: What a function answers where an event is to be sent again, and where it is not. A 4xx would be sent again too.
_TAKEN, _NOT_TAKEN = 200, 503


class Step(NamedTuple):
    """What is to be fired: a graph's file, and the day."""

    spec: str
    graph: str
    date: datetime.date


class Ignored(Exception):  # noqa: N818  # because nothing has gone wrong
    """An event asks for nothing; why, in a few words."""


@click.command("on-event", help=__doc__)
@click.argument("specs", nargs=-1, metavar="[SPEC …]")
def command(specs: Sequence[str]) -> int:
    """Read the event, and fire what it asks for; return the exit code."""
    if specs:
        _known(specs)  # because a name that is misspelt would have every event ignored, or only fail when one is of use
    try:
        told = events.read(sys.stdin.buffer.read(events.LARGEST + 1))
    except EventError as error:
        console.print_error(error)
        return _NO_EVENT
    try:
        step = _step(told, specs)
    except Ignored as why:
        said = f"ignored: {one_line(str(why))}"
        print(said.encode("ascii", "backslashreplace").decode())  # whatever the locale, and there may be none
        return 0
    if step is None:
        print(f"job {told.job} goes on, and the event says that it has ended: send it again", file=sys.stderr)
        return _AGAIN
    # One at a time: two firings side by side may each find that the other one's job is still being looked at, and then
    # nobody would do what comes after both.
    lock = f"{ledger.FOLDER}/JobGraph.{step.graph}.date={step.date}.lock"
    with session.current().storage.lock(lock):
        print(f"{step.graph} {step.date}: job {told.job} has ended", flush=True)
        return fire.luigi("JobGraph", "--spec", step.spec, "--date", str(step.date))


def on_event(request: Any) -> tuple[str, int]:
    """Answer a push of Pub/Sub's, or an event of Eventarc's, by firing the graph's next step.

    The function for Google's functions framework: `functions-framework --target on_event`, in the project's folder,
    with a main.py that imports this name. The answer is 200 for what was fired or ignored, and for what is no event,
    which would be none the next time either; it is 503, after which the event is sent again, for what failed.
    """
    if request.method != "POST":
        return "an event is sent by POST\n", 405
    event = events.structured(request.headers, request.get_data(cache=False))
    command_ = [sys.executable, "-m", "millrace", "on-event"]
    try:
        # A process of its own, because the server has threads and luigi has forks.
        done = subprocess.run(command_, input=event, stdout=subprocess.PIPE, timeout=_LONGEST)
    except subprocess.TimeoutExpired:
        return f"the firing took more than {_LONGEST:g} s\n", _NOT_TAKEN
    said = done.stdout.decode("utf-8", "replace")
    sys.stdout.write(said)
    sys.stdout.flush()
    taken = done.returncode in (*fire.FINE, _NO_EVENT)
    return f"exit code {done.returncode}\n{said.partition(chr(10))[0]}\n", _TAKEN if taken else _NOT_TAKEN


def _step(told: Told, specs: Sequence[str]) -> Step | None:
    """Return what an event asks for; None where its job has yet to end. Raises Ignored."""
    from millrace.runners.dataflow import jobs

    if not told.job:
        raise Ignored(f"{told.what} tells of no Dataflow job")
    google = session.current().google
    where = (google.project, told.region or sections.gcp().region)
    if told.project not in ("", google.project):
        raise Ignored(f"job {told.job} is of the project {told.project}, and this is {google.project}")
    job = jobs.get(google, told.job, where)
    if job is None:
        raise Ignored(f"there is no job {told.job} in {'/'.join(where)}")
    step = _of_graph(job, specs)
    waiting = jobs.pauses(google, _BEHIND)
    while not job.finished and told.ended and waiting.pause():
        job = jobs.get(google, told.job, where) or job
    if not job.finished and not told.ended:
        raise Ignored(f"job {told.job} is {job.state}, and {told.what} does not say that it has ended")
    return step if job.finished else None


def _of_graph(job: "Job", specs: Sequence[str]) -> Step:
    """Return the graph and the day that a job is of, as its labels and the ledger say. Raises Ignored."""
    name, day = (job.labels.get(f"millrace-{each}", "") for each in ("graph", "date"))
    if not name:
        raise Ignored(f"job {job.id} ({job.name}) is of no graph")
    known = _known(specs)
    if name not in known:
        files = ", ".join(graph.document.path for graph in known.values())
        raise Ignored(f"job {job.id} is of the graph {name}, and there is none such in {files}")
    try:
        date = datetime.date.fromisoformat(day)
    except ValueError:
        raise Ignored(f"job {job.id} is of the graph {name}, and of no day: {day!r}") from None
    if not any(_made(job, entry) for entry in _entries(job, known[name], date)):
        raise Ignored(f"job {job.id} is not the last one that the ledger has for {name} of {date}")
    return Step(known[name].document.path, name, date)


def _entries(job: "Job", graph: Graph, date: datetime.date) -> Iterable[Entry | None]:
    """Return what the ledger has of what a job says that it is for: a graph's template, or a stage."""
    from millrace.runners.dataflow import jobs

    storage = session.current().storage
    if node := job.labels.get("millrace-job"):
        names = [graph.ledger_name(node, date)] if node in graph.jobs else []
    else:
        paths = storage.list(ledger.FOLDER)
        known = [os.path.basename(path).removesuffix(".json") for path in paths if path.endswith(".json")]
        task = job.labels.get("millrace-task")
        names = [each for each in known if jobs.task_label(each.partition("_")[0]) == task]
    return Ledger(storage).entries(names).values()


def _made(job: "Job", entry: Entry | None) -> bool:
    """Return whether a job is the one of an attempt."""
    from millrace.runners.dataflow import jobs

    if entry is None:
        return False
    # The ledger has the id once the submission was heard of; until then the request tells, of a template's a label.
    return job.id == entry.job_id or entry.request_id in (job.request_id, job.labels.get(jobs.REQUEST_LABEL))


def _known(specs: Sequence[str]) -> Mapping[str, Graph]:
    """Return the graphs that there are, by name. Raises SettingError for what is none, and for two of a name."""
    paths = specs or sorted(path for ending in ("toml", "yaml", "yml") for path in glob.glob(f"graphs/*.{ending}"))
    if not paths:
        raise SettingError(f"there is no graph in {os.path.abspath('graphs')}; name the file of one")
    known: dict[str, Graph] = {}
    for path in paths:
        graph, mistakes = graphs.read(path)
        mistakes.check()
        if graph.name in known:
            raise SettingError(f"{known[graph.name].document.path} and {path} are both called {graph.name}; rename one")
        known[graph.name] = graph
    return known

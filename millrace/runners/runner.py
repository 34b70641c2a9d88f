"""The one contract of what runs pipelines: `Runner`, which in_process.py and dataflow/ keep.

    check    what would stop every run of a task, before there is one
    start    a run begins, under the name and the request id that the ledger has for it
    find     a run that some process has begun, and that may outlive that process
    look     many of them at once
    watch    waits until a run has come to its end
    stop     has a run end, as far as that can be done
    result   what a run that is over counted and used, or the error that says why there is no result

A run is known by its `Ticket`, which is in the ledger before the run begins; the same ticket twice is the same run.
"""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol


class Ticket(NamedTuple):
    """What the ledger knows of a run: its name, request id, the place where it runs, and its id once it has one."""

    name: str
    request_id: str
    place: str = ""
    id: str = ""


class Progress(NamedTuple):
    """How a run stands: state, workers (None where unknown), its last error of consequence, its user counters."""

    state: str
    workers: int | None = None
    error: str = ""
    counters: Mapping[str, int] = MappingProxyType({})

    @property
    def message(self) -> str:
        """The progress in a line, the counters left out."""
        workers = f", {self.workers} worker{'' if self.workers == 1 else 's'}" if self.workers else ""
        return f"{self.state}{workers}{f'; {self.error}' if self.error else ''}"


class Run(NamedTuple):
    """A finished run: its job, where the runner has such, the pipeline's user counters, and what a job used."""

    job_id: str | None = None
    counters: Mapping[str, int] = MappingProxyType({})
    usage: Mapping[str, float] = MappingProxyType({})


class Job(Protocol):
    """A run as its runner last knew it. state: as in RUNNING, CANCELLING or DONE. id, url: "" where there is none."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def state(self) -> str: ...

    @property
    def url(self) -> str: ...

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end, whatever that is."""


class Messages(Protocol):
    """Where commands of people arrive: a task's `scheduler_messages`, or any queue."""

    def get(self, block: bool = True, timeout: float | None = None, /) -> Any:
        """Return the next command. Raises queue.Empty if none comes within the seconds."""


class Runner(Protocol):
    """Where pipelines run. Every method raises a MillraceError for what a person should mend."""

    #: Whether a run goes on when the process that began it dies, so that the next process has to look for it.
    outlives: bool

    def check(self, task: str) -> None:
        """Raise SettingError for options that the settings give a task and that Beam does not take."""

    def place(self) -> str:
        """Return where new runs run, for their tickets. Raises SettingError where that is not known."""

    def preload(self, pipeline: str) -> None:
        """Import what a run needs, before processes are forked that would each import it."""

    def start(
        self, pipeline: str, arguments: Mapping[str, str], task: str, ticket: Ticket, waits: Callable[[str], None]
    ) -> Job:
        """Begin a run. task: whose options of Beam count. waits: told why, once, if the run waits for its turn.

        What goes wrong leaves the run unknown, so that the same ticket may be started again.
        """

    def find(self, ticket: Ticket) -> Job | None:
        """Return the run of a ticket, a finished one included; None for none."""

    def look(self, tickets: Collection[Ticket]) -> Mapping[Ticket, Job]:
        """Return the runs of many tickets that have an id, with far fewer requests than there are tickets.

        A run that is missing here may be found all the same.
        """

    def watch(self, job: Job, tell: Callable[[Progress], None], messages: Messages | None = None) -> Job:
        """Wait until a run has come to its end; tell: told how it stands, whenever that is not as it was.

        What interrupts the wait leaves the run as it is.
        """

    def stop(self, job: Job, *, wait: bool = True) -> Job:
        """Ask for a run to end, and wait for that unless told otherwise, though not for long; the run as it is then."""

    def result(self, job: Job) -> Run:
        """Return what a finished run counted and used.

        Raises what a worker raised, JobFailedError and JobCancelledError of a run that ended without its result.
        """

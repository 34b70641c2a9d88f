"""Runs a pipeline in this process, on any of Beam's runners, and turns what goes wrong into our own errors.

Such a run ends with its process, so there is nothing to find, and nothing to stop but the process itself.
"""

import gc
import importlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import millrace.errors
from millrace.core.config import Config
from millrace.errors import JobFailedError, MillraceError
from millrace.runners import beam_alone, beam_options, engines
from millrace.runners.runner import Job, Messages, Progress, Run, Ticket

_OURS = re.compile(r"millrace\.errors\.(\w+): (.*?)(?: \[while running '[^']*'\])?\s*$", re.MULTILINE)


@dataclass(frozen=True)
class LocalJob:
    """A run of this process: PENDING until it is watched, because the process that watches also runs it."""

    name: str
    begin: Callable[[], Any]
    state: str = "PENDING"
    counters: Mapping[str, int] | None = None
    error: Exception | None = None
    id: str = ""
    url: str = ""

    @property
    def finished(self) -> bool:
        return self.state != "PENDING"


class InProcess:
    """Runner for FnApiRunner, FlinkRunner and all others but Dataflow's."""

    outlives = False

    def __init__(self, name: str, config: Config) -> None:
        self._name, self._config = name, config

    def check(self, task: str) -> None:
        engines.check(self._config, task, self._name)

    def place(self) -> str:
        return ""

    def preload(self, pipeline: str) -> None:
        """Import the pipeline, and so Beam."""
        collects = gc.isenabled()
        gc.disable()  # because what is imported stays: the collector would look through it many times for nothing
        try:
            self._import_beam()
            importlib.import_module(pipeline)
            importlib.import_module("apache_beam.runners.portability.fn_api_runner.fn_runner")  # Beam would at first
        finally:
            gc.freeze()  # because the collector would touch, and so copy, every page that parent and children share
            if collects:
                gc.enable()

    def start(
        self, pipeline: str, arguments: Mapping[str, str], task: str, ticket: Ticket, waits: Callable[[str], None]
    ) -> LocalJob:
        self._import_beam()
        given = {**arguments, "runner": self._name}
        argv = [
            *beam_options.arguments(self._config, task, self._name),
            *(f"--{key}={value}" for key, value in given.items()),
        ]
        return LocalJob(ticket.name, lambda: engines.run(self._config, self._name, pipeline, argv))

    def _import_beam(self) -> None:
        """Import Beam; alone, where the settings name nothing in Google Cloud."""
        if self._name == "FnApiRunner" and "://" not in self._config.storage:
            beam_alone.import_beam()

    def find(self, ticket: Ticket) -> None:
        return None

    def watch(self, job: Job, tell: Callable[[Progress], None], messages: Messages | None = None) -> LocalJob:
        assert isinstance(job, LocalJob)
        try:
            return replace(job, state="DONE", counters=_counters(job.begin()))
        except Exception as error:
            return replace(job, state="FAILED", error=error)

    def look(self, tickets: Collection[Ticket]) -> Mapping[Ticket, Job]:
        return {}

    def stop(self, job: Job, *, wait: bool = True) -> Job:
        return job

    def result(self, job: Job) -> Run:
        assert isinstance(job, LocalJob)
        if job.error is not None:
            if ours := _our_error(job.error):
                raise ours from None
            raise job.error
        if job.state != "DONE":
            raise JobFailedError(f"{job.name} has not run; run it again")
        return Run(counters=job.counters or {})


def _counters(result: Any) -> Mapping[str, int]:
    """Return the user counters of a Beam result, each summed over the steps that count in it."""
    counters: dict[str, int] = {}
    try:
        told = result.metrics()
    except NotImplementedError:  # Dask's has none
        return {}
    for counter in told.query()["counters"]:
        name = counter.key.metric.name
        # Some runners know nothing of what was committed, only of what was attempted.
        counters[name] = counters.get(name, 0) + (counter.committed or counter.attempted or 0)
    return dict(sorted(counters.items()))


def _our_error(error: Exception) -> MillraceError | None:
    """Return the error of ours that a pipeline ended with: Beam appends the step's name to it, or tells it as text."""
    if isinstance(error, MillraceError):
        # Beam makes the error anew from its text, with the step's name at the end.
        error.what = re.sub(r" \[while running '[^']*'\]$", "", error.what)
        return error
    return told_in(str(error))


def told_in(text: str) -> MillraceError | None:
    """Return the last error of ours that a traceback tells of; None for none.

    An error that belongs to a partition comes as data, in the partition's result. Of what ends a whole pipeline (a
    bundle that failed too often) Beam and Dataflow keep the traceback's text alone.
    """
    found = _OURS.findall(text)
    if not found:
        return None
    name, sentence = found[-1]
    return getattr(millrace.errors, name, MillraceError)(sentence)

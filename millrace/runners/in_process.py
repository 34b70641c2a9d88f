"""Runs a pipeline on the runner that the settings name, and turns what goes wrong into our own errors."""

import gc
import importlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import millrace.errors
from millrace.errors import MillraceError

_OURS = re.compile(r"millrace\.errors\.(\w+): (.*?)(?: \[while running '[^']*'\])?\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """A finished run: its job, where the runner has such, the pipeline's user counters, and what a job used."""

    job_id: str | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    usage: Mapping[str, float] = field(default_factory=dict)


def run(module: str, options: Mapping[str, str], runner: str, more: Iterable[str]) -> Run:
    """Run a pipeline to its end, in this process; more: further arguments, those of the runner. Raises what a worker
    raised.
    """
    start = importlib.import_module("millrace.beam.options").run_module  # only here is Beam imported
    try:
        given = {**options, "runner": runner}
        result = start(module, [*more, *(f"--{key}={value}" for key, value in given.items())])
    except Exception as error:
        if ours := _our_error(error):
            raise ours from None
        raise
    return Run(counters=_counters(result))


def preload(module: str, runner: str) -> None:
    """Import a pipeline, and so Beam, before workers fork: they share it instead of each importing it."""
    importlib.import_module(module)
    if runner in ("DataflowRunner", "auto"):
        importlib.import_module("millrace.runners.dataflow.submission").preload()
    importlib.import_module("apache_beam.runners.portability.fn_api_runner.fn_runner")  # Beam would at the first run
    gc.collect()
    gc.freeze()  # the collector would touch, and so copy, every page that parent and children share


def _counters(result: Any) -> Mapping[str, int]:
    """Return the user counters of a Beam result, each summed over the steps that count in it."""
    counters: dict[str, int] = {}
    for counter in result.metrics().query()["counters"]:
        name = counter.key.metric.name
        # Some runners know nothing of what was committed, only of what was attempted.
        counters[name] = counters.get(name, 0) + (counter.committed or counter.attempted or 0)
    return dict(sorted(counters.items()))


def _our_error(error: Exception) -> MillraceError | None:
    """Return a worker's error travels as text; the last one of ours in it counts."""
    if isinstance(error, MillraceError):
        return type(error)(re.sub(r" \[while running '[^']*'\]$", "", str(error)))
    return told_in(str(error))


def told_in(text: str) -> MillraceError | None:
    """Return the last error of ours that a traceback tells of; None for none."""
    found = _OURS.findall(text)
    if not found:
        return None
    name, sentence = found[-1]
    return getattr(millrace.errors, name, MillraceError)(sentence)

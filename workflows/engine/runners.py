"""Runs a pipeline on the runner that the settings name, and turns what goes wrong into our own errors."""

import gc
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

import pipelines.errors
from pipelines.errors import MillraceError

#: The file in which a pipeline tells what it wrote.
RESULT = "_result.json"
_OURS = re.compile(r"pipelines\.errors\.(\w+): (.*?)(?: \[while running '[^']*'\])?\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """A finished run; job_id is None where a runner has no jobs."""

    job_id: str | None = None


def run(module: str, options: Mapping[str, str], runner: str) -> Run:
    """Runs a pipeline to its end, in this process. Raises what a worker raised."""
    start = importlib.import_module("pipelines.options").run_module  # only here is Beam imported
    try:
        start(module, [f"--{key}={value}" for key, value in options.items()] + [f"--runner={runner}"])
    except Exception as error:
        if ours := _our_error(error):
            raise ours from None
        raise
    return Run()


def preload(module: str) -> None:
    """Imports a pipeline, and so Beam, before workers fork: they share it instead of each importing it."""
    importlib.import_module(module)
    importlib.import_module("apache_beam.runners.portability.fn_api_runner.fn_runner")  # Beam would at the first run
    gc.collect()
    gc.freeze()  # the collector would touch, and so copy, every page that parent and children share


def _our_error(error: Exception) -> MillraceError | None:
    """A worker's error travels as text; the last one of ours in it counts."""
    if isinstance(error, MillraceError):
        return type(error)(re.sub(r" \[while running '[^']*'\]$", "", str(error)))
    found = _OURS.findall(str(error))
    if not found:
        return None
    name, text = found[-1]
    kind = getattr(pipelines.errors, name, MillraceError)
    return kind(text)

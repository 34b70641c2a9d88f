"""Beam's runners, less Dataflow's: what each has to be told, and whether its workers are on another machine."""

import re
from collections.abc import Mapping
from typing import Any

#: Runners that need a server, with the options that name one; without them Beam would look for one on the net.
_SERVERS = {
    "portable": ("job_endpoint",),
    "flink": ("job_endpoint", "flink_job_server_jar"),
    "spark": ("job_endpoint", "spark_job_server_jar"),
    "prism": ("job_endpoint", "prism_location"),
}
#: The options that name a runner's cluster, and what names none; Beam then has its workers in this process.
_CLUSTERS = {"flink": ("flink_master", r"\[(local|auto)\]|"), "spark": ("spark_master_url", r"local(\[.+\])?|")}
#: Why no pipeline runs in Beam's threads: one of them sends what another has half encoded.
MULTI_THREADING = (
    "tables break on their way between Beam's threads, which is a fault of Beam's; say multi_processing, or leave the "
    "option out"
)


def short(runner: str) -> str:
    """Return a runner's name as sections of luigi.cfg have it: flink for FlinkRunner, Flink and Beam's full name."""
    return runner.rpartition(".")[2].lower().removesuffix("runner")


def in_full(runner: str) -> str:
    """Return the name by which Beam finds a runner."""
    return "apache_beam.runners.dask.dask_runner.DaskRunner" if short(runner) == "dask" else runner


def refusal(runner: str, given: Mapping[str, str]) -> str:
    """Return why a runner would not run a pipeline, or not run it well, with these options of Beam; "" for nothing."""
    name = short(runner)
    if given.get("direct_running_mode") == "multi_threading":
        return f"--direct_running_mode=multi_threading: {MULTI_THREADING}"
    if name == "direct":
        return "Beam would look for its Prism on the net; say FnApiRunner"
    if name in _SERVERS and not any(given.get(option) for option in _SERVERS[name]):
        return f"Beam would look for its job server on the net; name one with {' or '.join(_SERVERS[name])}"
    return ""


def away(runner: str, given: Mapping[str, Any]) -> bool:
    """Return whether a runner's workers have another disk than who runs the pipeline; Dataflow's have."""
    return short(runner) == "dataflow" or elsewhere(runner, given)


def elsewhere(runner: str, given: Mapping[str, str]) -> bool:
    """Return whether a runner's workers have neither this process's code nor, for all it knows, its disk."""
    name = short(runner)
    if name not in _SERVERS:
        return False
    if environment := given.get("environment_type"):
        return environment != "LOOPBACK"
    if name in _CLUSTERS:
        option, none = _CLUSTERS[name]
        return not re.fullmatch(none, given.get(option, ""))
    return name != "prism"

"""Runs a pipeline on one of Beam's runners, with what that runner needs besides: code for workers elsewhere, a cluster.

What a runner lacks is said before a stage begins, with the setting that gives it.
"""

import contextlib
import importlib
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from millrace.beam import engines
from millrace.core.config import Config
from millrace.errors import ServiceError, SettingError
from millrace.runners import beam_options, dask_cluster, worker_package


def check(config: Config, task: str, runner: str) -> None:
    """Raise SettingError where a runner would not run a task, or its workers could not reach the storage."""
    if runner == "DaskRunner":
        dask_cluster.check_installed()
    beam_options.arguments(config, task, runner)
    given = {option.name: option.value for option in config.options(runner, task)}
    section = engines.short(runner)
    if why := engines.refusal(runner, given):
        raise SettingError(f"runner = {runner}: {why}, in [{section}] or [{section}.{task}]")
    if engines.elsewhere(runner, given) and not config.storage.startswith("gs://"):
        raise SettingError(
            f"runner = {runner} has its workers elsewhere, and they can't reach {config.storage}, "
            f"{config.origin('millrace', 'storage')}; set storage in [millrace] to gs://BUCKET/PREFIX, or "
            f"environment_type in [{section}] to LOOPBACK"
        )


def run(config: Config, runner: str, pipeline: str, argv: Sequence[str]) -> Any:
    """Run a pipeline, a module, to its end and return Beam's result.

    argv: its options and Beam's, each as --name=value.
    """
    given = {name: value for name, _, value in (argument.removeprefix("--").partition("=") for argument in argv)}
    with contextlib.ExitStack() as stack:
        more: list[str] = []
        if engines.elsewhere(runner, given):
            more = stack.enter_context(_shipped(pipeline, given))
        elif engines.short(runner) == "dask":
            more = stack.enter_context(dask_cluster.connected(given, pipeline, config.storage))
        # Beam is imported only here.
        grpc: Any = importlib.import_module("grpc")
        run_module = importlib.import_module("millrace.beam.options").run_module
        try:
            return run_module(pipeline, [*argv, *more])
        except grpc.FutureTimeoutError:
            raise ServiceError(
                f"no job service answers at job_endpoint = {given.get('job_endpoint')} ([{engines.short(runner)}]); "
                "start it, or mend the option"
            ) from None
        except Exception as error:
            lacks = re.search(r"ModuleNotFoundError: No module named '(\w+)", str(error))
            if lacks and lacks[1] in ("millrace", pipeline.partition(".")[0]) and engines.elsewhere(runner, given):
                raise SettingError(
                    f"runner = {runner}: the workers have not installed the code that came with the job, and have no "
                    f"module {lacks[1]}; start their pool with --container_executable, as Beam's containers do"
                ) from None
            raise


@contextlib.contextmanager
def _shipped(pipeline: str, given: Mapping[str, str]) -> Iterator[list[str]]:
    """Yield the options with which workers install a pipeline's code, unless options of the user's say how."""
    # Beam warns of every wheel that it may be one of another machine; ours is plain Python.
    logging.getLogger("apache_beam.runners.portability.stager").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
        own = {"setup_file", "sdk_container_image"}.intersection(given)
        yield [
            "--experiments=disable_logging_submission_environment",  # spares a second of `pip freeze`
            *([] if own else [f"--extra_package={worker_package.write(folder, pipeline)}"]),
        ]

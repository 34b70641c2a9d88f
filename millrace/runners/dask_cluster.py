"""Dask: the cluster of a pipeline, one of this machine where [dask] names none, and what its workers must have."""

import contextlib
import importlib.util
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from millrace.errors import ServiceError, SettingError
from millrace.runners import worker_package

#: The options of Beam that name a cluster, as Dask calls them.
_NAMED = {"dask_client_address": "address", "dask_scheduler_file": "scheduler_file"}
#: Partitions of a pipeline's units of work, for each of the cluster's threads: enough for a late one not to matter.
_PARTITIONS = 4


def check_installed() -> None:
    """Raise SettingError where Dask is not installed."""
    for package in ("dask", "distributed"):
        if importlib.util.find_spec(package) is None:
            raise SettingError(
                f"runner = DaskRunner: the package {package} is not installed; pip install 'millrace[dask]' installs it"
            )


@contextlib.contextmanager
def connected(given: Mapping[str, str], pipeline: str, storage: str) -> Iterator[list[str]]:
    """Yield the options with which Beam's DaskRunner runs a pipeline, a module, on a cluster.

    given: Beam's options. Raises ServiceError where no cluster answers, and SettingError where a worker has another
    disk than this process, though the storage is a folder, or other code.
    """
    import distributed

    with contextlib.ExitStack() as stack:
        more: list[str] = []
        named = {key: given[option] for option, key in _NAMED.items() if given.get(option)}
        if not named:
            processes = len(os.sched_getaffinity(0))
            local = distributed.LocalCluster(
                n_workers=processes, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=logging.ERROR
            )
            named = {"address": stack.enter_context(local).scheduler_address}
            more.append(f"--dask_client_address={named['address']}")
        patience = {"timeout": given["dask_connection_timeout"]} if given.get("dask_connection_timeout") else {}
        try:
            client = stack.enter_context(distributed.Client(**named, **patience, set_as_default=False))
        except OSError as error:
            raise ServiceError(
                f"no scheduler of Dask's answers ({error}), see [dask] in luigi.cfg; start one"
            ) from None
        _look_at_workers(client, pipeline, storage)
        if not {"dask_npartitions", "dask_partition_size"}.intersection(given):
            more.append(f"--dask_npartitions={_PARTITIONS * sum(client.ncores().values())}")
        stack.callback(_close_beams)
        yield more


def _close_beams() -> None:
    """Close the connection that Beam has made and leaves open."""
    import distributed

    with contextlib.suppress(ValueError):  # there is none
        distributed.default_client().close()


def _look_at_workers(client: Any, pipeline: str, storage: str) -> None:
    """Raise SettingError where a worker has other code than this process, or not the folder that is the storage.

    Workers load a module once, so that later code needs workers started anew.
    """
    top, digest = pipeline.partition(".")[0], worker_package.digest(pipeline)

    def code() -> str:  # Dask sends this function by its text, because it is defined in another
        import importlib.util
        import sys

        kept = sys.__dict__.setdefault("_millrace_code", {})
        if top not in kept and top in sys.modules:
            return "may have older code of this project, because it has loaded some already; start it anew"
        if top not in kept and importlib.util.find_spec(top) is None:
            return f"has no module {top}; start it where this project is installed"
        return "" if kept.setdefault(top, digest) == digest else "has other code of this project; start it anew"

    _ask(client, code)
    if storage.startswith("gs://"):
        return
    os.makedirs(storage, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix=".millrace-", dir=storage) as file:
        path = os.path.abspath(file.name)

        def disk() -> str:
            import os

            there = os.path.exists(path)
            return "" if there else f"can't reach {storage}; set storage in [millrace] to gs://BUCKET/PREFIX"

        _ask(client, disk)


def _ask(client: Any, question: Callable[[], str]) -> None:
    for worker, trouble in sorted(client.run(question).items()):
        if trouble:
            raise SettingError(f"runner = DaskRunner: the worker {worker} {trouble}")

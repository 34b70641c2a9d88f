"""Leads Beam's own BigQuery client, whose address is fixed in its code, to the local BigQuery.

Beam reads and writes tables (ReadFromBigQuery, WriteToBigQuery) through a client of its own, which knows no variable.
`lead` has that client's address changed as soon as Beam imports it: to what BIGQUERY_EMULATOR_HOST names. It stands
alone, without this package, in what Python imports at its start (`dataflow_network.held`).
"""

import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

#: Beam's modules that have a client with a fixed address, each with that client's class.
_CLIENTS = {"apache_beam.io.gcp.internal.clients.bigquery.bigquery_v2_client": "BigqueryV2"}


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of clients where they are, and has them changed after they ran."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _CLIENTS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Runs a module as its own loader does, and changes its client."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._own.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        self._own.exec_module(module)
        _change(module)


def _change(module: ModuleType) -> None:
    host = os.environ.get("BIGQUERY_EMULATOR_HOST", "")
    if host:
        base = host if "//" in host else f"http://{host}"
        getattr(module, _CLIENTS[module.__name__]).BASE_URL = f"{base.rstrip('/')}/bigquery/v2/"


def lead() -> None:
    """Lead Beam's BigQuery client to where BIGQUERY_EMULATOR_HOST says, now or when it is imported."""
    for name in _CLIENTS:
        if name in sys.modules:
            _change(sys.modules[name])
    sys.meta_path.insert(0, _Finder())

"""Millrace: daily data workflows with Luigi, each stage one Apache Beam pipeline.

What is named here is what workflows use. It is imported when it is first asked for, because workers, which have neither
luigi nor Google's clients, import this package too.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from millrace.tasks.beam_task import BeamTask
    from millrace.tasks.datasets import Dataset
    from millrace.tasks.ranges import RangeDaily
    from millrace.tasks.stage import Stage
    from millrace.tasks.targets import BigQueryTarget, GCSTarget

__all__ = ["BeamTask", "BigQueryTarget", "Dataset", "GCSTarget", "RangeDaily", "Stage"]

#: Where each name is.
_HOMES = {
    "BeamTask": "millrace.tasks.beam_task",
    "BigQueryTarget": "millrace.tasks.targets",
    "Dataset": "millrace.tasks.datasets",
    "GCSTarget": "millrace.tasks.targets",
    "RangeDaily": "millrace.tasks.ranges",
    "Stage": "millrace.tasks.stage",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        # Whatever a module of tasks takes from here, its runs look and end as Millrace's.
        importlib.import_module("millrace.tasks.tasks").install()
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

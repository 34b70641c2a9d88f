"""Millrace: daily data workflows with Luigi, each stage one Apache Beam pipeline.

What is named here is what workflows use. It is imported when it is first asked for, because workers, which have neither
luigi nor Google's clients, import this package too.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from millrace.common.tables import Table
    from millrace.common.text import escaped, plain
    from millrace.core.keys import Key
    from millrace.core.ledger import Claim
    from millrace.core.manifests import FileEntry, Manifest
    from millrace.core.waiting import Waiting
    from millrace.errors import DeadLetterError, MillraceError, NotThereYetError, SettingError, SourceError
    from millrace.tasks.advice import clear_command
    from millrace.tasks.approval import Approval, answer_gate
    from millrace.tasks.base import Ending
    from millrace.tasks.beam_task import BeamTask
    from millrace.tasks.datasets import Dataset, read_rows
    from millrace.tasks.delay import Delay
    from millrace.tasks.fetching import (
        FetchStage,
        Source,
        SourceBounds,
        SourceSettings,
        SourceTask,
        SplitStage,
        WindowEnd,
    )
    from millrace.tasks.flows import Flow, after, in_order
    from millrace.tasks.index import Index
    from millrace.tasks.job_graph import JobGraph
    from millrace.tasks.page import PageTask, html_table
    from millrace.tasks.ranges import RangeDaily
    from millrace.tasks.rejects import accounting, check_rejects
    from millrace.tasks.service import Service, StopService
    from millrace.tasks.settings import Day, Days, Flag, Hour, Setting, Settings, number, one_of, share, whole_number
    from millrace.tasks.stage import Outcome, Stage
    from millrace.tasks.tables import TableStage
    from millrace.tasks.targets import BigQueryTarget, GCSTarget
    from millrace.tasks.template_job import TemplateJob

__all__ = [
    "Approval",
    "BeamTask",
    "BigQueryTarget",
    "Claim",
    "Dataset",
    "Day",
    "Days",
    "DeadLetterError",
    "Delay",
    "Ending",
    "FetchStage",
    "FileEntry",
    "Flag",
    "Flow",
    "GCSTarget",
    "Hour",
    "Index",
    "JobGraph",
    "Key",
    "Manifest",
    "MillraceError",
    "NotThereYetError",
    "Outcome",
    "PageTask",
    "RangeDaily",
    "Service",
    "Setting",
    "SettingError",
    "Settings",
    "Source",
    "SourceBounds",
    "SourceError",
    "SourceSettings",
    "SourceTask",
    "SplitStage",
    "Stage",
    "StopService",
    "Table",
    "TableStage",
    "TemplateJob",
    "Waiting",
    "WindowEnd",
    "accounting",
    "after",
    "answer_gate",
    "check_rejects",
    "clear_command",
    "escaped",
    "html_table",
    "in_order",
    "number",
    "one_of",
    "plain",
    "read_rows",
    "share",
    "whole_number",
]

#: Where each name is; code.py follows imports of these names to there.
HOMES = {
    "Approval": "millrace.tasks.approval",
    "BeamTask": "millrace.tasks.beam_task",
    "BigQueryTarget": "millrace.tasks.targets",
    "Claim": "millrace.core.ledger",
    "Dataset": "millrace.tasks.datasets",
    "Day": "millrace.tasks.settings",
    "Days": "millrace.tasks.settings",
    "DeadLetterError": "millrace.errors",
    "Delay": "millrace.tasks.delay",
    "Ending": "millrace.tasks.base",
    "FetchStage": "millrace.tasks.fetching",
    "FileEntry": "millrace.core.manifests",
    "Flag": "millrace.tasks.settings",
    "Flow": "millrace.tasks.flows",
    "GCSTarget": "millrace.tasks.targets",
    "Hour": "millrace.tasks.settings",
    "Index": "millrace.tasks.index",
    "JobGraph": "millrace.tasks.job_graph",
    "Key": "millrace.core.keys",
    "Manifest": "millrace.core.manifests",
    "MillraceError": "millrace.errors",
    "NotThereYetError": "millrace.errors",
    "Outcome": "millrace.tasks.stage",
    "PageTask": "millrace.tasks.page",
    "RangeDaily": "millrace.tasks.ranges",
    "Service": "millrace.tasks.service",
    "Setting": "millrace.tasks.settings",
    "SettingError": "millrace.errors",
    "Settings": "millrace.tasks.settings",
    "Source": "millrace.tasks.fetching",
    "SourceBounds": "millrace.tasks.fetching",
    "SourceError": "millrace.errors",
    "SourceSettings": "millrace.tasks.fetching",
    "SourceTask": "millrace.tasks.fetching",
    "SplitStage": "millrace.tasks.fetching",
    "Stage": "millrace.tasks.stage",
    "StopService": "millrace.tasks.service",
    "Table": "millrace.common.tables",
    "TableStage": "millrace.tasks.tables",
    "TemplateJob": "millrace.tasks.template_job",
    "Waiting": "millrace.core.waiting",
    "WindowEnd": "millrace.tasks.fetching",
    "accounting": "millrace.tasks.rejects",
    "after": "millrace.tasks.flows",
    "answer_gate": "millrace.tasks.approval",
    "check_rejects": "millrace.tasks.rejects",
    "clear_command": "millrace.tasks.advice",
    "escaped": "millrace.common.text",
    "html_table": "millrace.tasks.page",
    "in_order": "millrace.tasks.flows",
    "number": "millrace.tasks.settings",
    "one_of": "millrace.tasks.settings",
    "plain": "millrace.common.text",
    "read_rows": "millrace.tasks.datasets",
    "share": "millrace.tasks.settings",
    "whole_number": "millrace.tasks.settings",
}


def __getattr__(name: str) -> Any:
    if name in HOMES:
        if HOMES[name].startswith("millrace.tasks."):
            # Whatever a module of tasks takes from here, its runs look and end as Millrace's.
            importlib.import_module("millrace.tasks.tasks").install()
        return getattr(importlib.import_module(HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

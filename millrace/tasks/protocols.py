"""What the steps of a run know of stages, so that they need not know the class Stage, which needs them."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import luigi

from millrace.common.partitions import Partition
from millrace.common.tables import Table
from millrace.core.keys import Key
from millrace.core.ledger import Claim, Entry
from millrace.core.manifests import FileEntry, Manifest
from millrace.runners.runner import Progress, Run
from millrace.tasks.datasets import Dataset
from millrace.tasks.settings import Settings

#: What a stage read: each partition with its manifest and the manifest's digest.
Inputs: TypeAlias = Sequence[tuple[Dataset, tuple[Manifest, str]]]


@dataclass(frozen=True)
class Outcome:
    """What an execution wrote (paths relative to the storage) and counted, and how.

    code: what made it, where that is not the code of the stage itself, as code.py says it.
    """

    files: Sequence[FileEntry]
    counters: Mapping[str, int]
    schemas: Mapping[str, Mapping[str, str]]
    pipeline: str = ""
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    runner: str = "in process"
    job_id: str | None = None
    usage: Mapping[str, float] = dataclasses.field(default_factory=dict)
    code: str = ""


class StageLike(Protocol):
    """A stage; stage.py says what each of these is."""

    @property
    def task_family(self) -> Any: ...

    @property
    def task_id(self) -> Any: ...

    @property
    def writes(self) -> Sequence[str]: ...

    @property
    def tables(self) -> Mapping[str, Table]: ...

    @property
    def section(self) -> type[Settings]: ...

    @property
    def version(self) -> Any: ...

    @property
    def key(self) -> Key: ...

    @classmethod
    def maker(cls) -> tuple[str, bool]: ...

    def requires(self) -> Any: ...

    def required(self) -> Sequence["StageLike"]: ...

    def built_on(self) -> list[luigi.Task]: ...

    def decided_by(self) -> Sequence[str]: ...

    def versions(self) -> Mapping[str, str]: ...

    def parameters(self) -> dict[str, Any]: ...

    def datasets(self) -> list[Dataset]: ...

    def published(self) -> dict[str, Table]: ...

    def named(self, table: str) -> str: ...

    def partition_date(self) -> datetime.date: ...

    def follows(self) -> bool: ...

    def note(self, manifest: Manifest | None = None) -> dict[str, str]: ...

    def code_now(self) -> str: ...

    def manifest(self) -> Manifest | None: ...

    def check_settings(self) -> None: ...

    def preflight(self) -> None: ...

    def pipelined(self) -> bool: ...

    def inputs(self) -> Inputs: ...

    def look_from(self, look: "LookLike") -> None: ...

    def execute(self, claim: Claim) -> Outcome: ...

    def check(self, manifest: Manifest) -> None: ...


class LookLike(Protocol):
    """One look at the inputs of several stages; finishing.py has it."""

    def of(self, stage: Any) -> Inputs: ...


class PipelineLike(StageLike, Protocol):
    """A stage that wraps a pipeline; beam_task.py says what each of these is."""

    @property
    def pipeline(self) -> str: ...

    @property
    def scheduler_messages(self) -> Any: ...

    @classmethod
    def memory_here(cls, largest: int, together: int) -> int: ...

    def runs_here(self) -> bool: ...

    def named_runner(self) -> str: ...

    def input_files(self) -> list[FileEntry]: ...

    def work(self) -> str: ...

    def partition_of(self, attempt: Entry) -> Partition: ...

    def written(self, attempt: Entry) -> bytes: ...

    def outcome(self, attempt: Entry, written: bytes, run: Run, partitions: int) -> Outcome: ...

    def explained(self, error: Exception) -> Exception: ...

    def common_options(self) -> dict[str, str]: ...

    def result_of(self, attempt: Entry) -> str: ...

    def say(self, message: str) -> None: ...

    def link(self, url: str) -> None: ...

    def tell(self, progress: Progress, rows: int) -> None: ...

    @property
    def forget(self) -> str: ...

    @property
    def command(self) -> str: ...

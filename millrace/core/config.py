"""What the settings say, as plain data: what the layers below the tasks are made from.

Whoever reads the settings makes these (millrace/tasks/sections.py of luigi.cfg's), so that nothing here knows luigi.
Named tuples, because a data class takes a millisecond to be made, at the start of every command.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Gcp(NamedTuple):
    """[gcp]: what holds for every service of Google Cloud. "" leaves a choice to the credentials, or to the bucket."""

    project: str = ""
    region: str = ""
    impersonate: str = ""
    kms_key: str = ""
    user_project: str = ""
    storage_class: str = ""
    patience: float = 120.0
    lease: float = 60.0


class BigQuery(NamedTuple):
    """[bigquery]."""

    location: str = ""
    max_bytes_billed: int = 10 << 30


class Dataflow(NamedTuple):
    """[dataflow], less the options of Beam. endpoint: where Dataflow is, "" for Google's own."""

    attempts: int = 3
    cancel_wait: float = 60.0
    poll_max: float = 30.0
    stuck_after: float = 3600.0
    price_vcpu_hour: float = 0.056
    price_gb_hour: float = 0.003557
    price_shuffle_gb: float = 0.011
    endpoint: str = ""


class Option(NamedTuple):
    """An option of Beam's for a runner's jobs, and the section that gives it, such as [dataflow] or [dataflow.Etl]."""

    name: str
    value: str
    section: str


def _nothing(runner: str, task: str) -> Sequence[Option]:
    return ()


def _nowhere(section: str, key: str) -> str:
    return "the default"


@dataclass(frozen=True)
class Config:
    """Where results lie, whether stale ones are made anew, and how Google Cloud is used.

    storage: a folder, or gs://BUCKET/PREFIX. warehouse: "" for the storage's own files, or bigquery://PROJECT/DATASET.
    refresh: whether a run makes anew what is stale.
    origin: gives where a setting was read, by its section and key, for the texts of errors. options: gives those of
    Beam, by runner and task.
    """

    storage: str = "data"
    warehouse: str = ""
    gcp: Gcp = Gcp()
    bigquery: BigQuery = BigQuery()
    dataflow: Dataflow = Dataflow()
    refresh: bool = False
    origin: Callable[[str, str], str] = field(default=_nowhere, compare=False)
    options: Callable[[str, str], Sequence[Option]] = field(default=_nothing, compare=False)

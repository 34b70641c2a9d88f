"""The engine's own sections of luigi.cfg. A workflow's section stands in the workflow's module."""

import os
import re
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from luigi.cmdline_parser import CmdlineParser
from luigi.configuration import get_config
from luigi.parameter import UnconsumedParameterWarning

from millrace.core import config as plain
from millrace.core.config import Config, Option
from millrace.errors import SettingError
from millrace.tasks.settings import (
    Flag,
    Setting,
    Settings,
    in_luigi_command,
    number,
    one_of,
    origin,
    text,
    whole_number,
)

#: Where a pipeline may run. `auto` is FnApiRunner where a pipeline fits this machine's memory, else DataflowRunner.
RUNNERS = (
    "FnApiRunner",
    "DataflowRunner",
    "auto",
    "DaskRunner",
    "FlinkRunner",
    "SparkRunner",
    "PortableRunner",
    "PrismRunner",
)
#: How a URI begins, well written or not; a folder of such a name can be written ./name:.
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:|.*://")
_BUCKET = re.compile(r"gs://[a-z0-9][-_.a-z0-9]{1,220}[a-z0-9](/[^\s?#*\[\]]*)?")
_DATASET = re.compile(r"bigquery://[a-z][-a-z0-9.:]{4,80}[a-z0-9]/[A-Za-z0-9_]{1,1024}")


def _storage_root(value: str) -> str:
    if _URI.match(value):
        if "//" in value.removeprefix("gs://"):
            raise SettingError(f"{value!r} holds an empty folder (//), from which BigQuery loads nothing")
        if not _BUCKET.fullmatch(value):
            raise SettingError(f"{value!r} is no gs://BUCKET/PREFIX")
        return value.rstrip("/")
    if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", value):
        raise SettingError("its name holds control characters, or is not UTF-8")
    folder = os.path.abspath(os.path.expanduser(text(value)))
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        raise SettingError(f"{folder} is no folder")
    if in_luigi_command() and not os.access(folder, os.W_OK | os.X_OK):
        raise SettingError(f"nothing may be written in {folder}")
    return value


def _warehouse(value: str) -> str:
    if value and not _DATASET.fullmatch(value):
        raise SettingError(f"{value!r} is no bigquery://PROJECT/DATASET")
    return value


def _like(pattern: str) -> Callable[[str], str]:
    """Return what takes an empty text, or one that a regular expression describes."""

    def convert(value: str) -> str:
        if value and not re.fullmatch(pattern, value):
            raise ValueError
        return value

    return convert


_PROJECT = _like(r"[a-z][-a-z0-9.:]*[a-z0-9]")


def _modules(value: str) -> str:
    """Names of modules, without spaces between them."""
    names = [name.strip() for name in value.split(",")]
    if not all(part.isidentifier() for name in names for part in name.split(".")):
        raise SettingError(
            f"millrace.modules = {value!r}, {origin('millrace', 'modules')}: allowed is one or more modules' names, by "
            "commas"
        )
    return ",".join(names)


class millrace(Settings):
    """What holds for every workflow."""

    gone = MappingProxyType(
        {"auto_dataflow_above": "runner = auto goes by the memory that a stage takes, and auto_memory bounds that"}
    )
    modules: str = Setting(
        convert=_modules,
        allowed="one or more modules' names, by commas",
        default="workflows",
        description="where tasks are defined; the first is the one that is meant where none is named",
    )
    storage: str = Setting(
        convert=_storage_root,
        allowed="a folder that can be written, or gs://BUCKET/PREFIX",
        default="data",
        description="where datasets lie: a folder, or gs://BUCKET/PREFIX",
    )
    warehouse: str = Setting(
        convert=_warehouse,
        allowed="nothing, or bigquery://PROJECT/DATASET",
        default="",
        description="where tables lie: nothing for the datasets' own files, or bigquery://PROJECT/DATASET",
    )
    runner: str = Setting(
        convert=one_of(*RUNNERS),
        allowed=f"one of {', '.join(RUNNERS)}",
        default="FnApiRunner",
        description="the Beam runner of every pipeline",
    )
    refresh: str = Setting(
        convert=one_of("never", "ask", "always"),
        allowed="never, ask or always",
        default="never",
        description="whether a run makes anew what other code, or newer inputs, made stale",
    )
    auto_memory: int = Setting(
        convert=whole_number(0, 1 << 60),
        allowed="a whole number of bytes, 0 for what is left",
        default=0,
        description="with runner = auto, memory that all workers together may take here; 0: what this machine has left",
    )
    batch: int = Setting(
        convert=whole_number(1, 366),
        allowed="a whole number from 1 to 366",
        default=31,
        description="days of a stage that are done in one pipeline, and so in one job, at the most; 1: each by itself",
    )


def modules() -> list[str]:
    """Return where tasks are defined, the first the one that is meant where none is named.

    Read from luigi.cfg alone, because a command knows its flags only once these modules are imported.
    """
    said: str = get_config().get("millrace", "modules", millrace.default("modules"))
    return _modules(said).split(",")


class run(Settings):
    """What only concerns a run; the flags have no prefix: --detach."""

    use_cmdline_section = False
    detach: bool = Flag(
        default=False,
        description="a run that is stopped leaves its Dataflow jobs running, for the next to wait for",
    )
    wait: bool = Flag(
        default=True,
        description="whether a run waits for its jobs, or submits them and ends, for the next run to go on",
    )
    no_wait: bool = Flag(default=False, description="the same as wait = false")
    refresh: bool = Flag(
        default=False,
        description="what the run needs and other code, or newer inputs, made stale is made anew",
    )


def waits() -> bool:
    """Return whether a run waits for its jobs."""
    said = run()
    return said.wait and not said.no_wait


class gcp(Settings):
    """What holds for every service of Google Cloud."""

    project: str = Setting(
        convert=_PROJECT,
        allowed="a project's id",
        default="",
        description="the project that pays; the credentials' own unless given",
    )
    region: str = Setting(
        convert=_like(r"[a-z][-a-z0-9]*"),
        allowed="a region, such as europe-west1",
        default="",
        description="where Dataflow jobs run",
    )
    impersonate: str = Setting(
        convert=_like(r"[^\s@]+@[^\s@]+\.[^\s@]+"),
        allowed="a service account's e-mail address",
        default="",
        description="the service account to act as; the application-default credentials themselves unless given",
    )
    kms_key: str = Setting(
        convert=_like(r"projects/[^/\s]+/locations/[^/\s]+/keyRings/[^/\s]+/cryptoKeys/[^/\s]+"),
        allowed="projects/P/locations/L/keyRings/R/cryptoKeys/K",
        default="",
        description="the key that encrypts what is written to Cloud Storage and BigQuery",
    )
    user_project: str = Setting(
        convert=_PROJECT, allowed="a project's id", default="", description="who pays for a requester-pays bucket"
    )
    storage_class: str = Setting(
        convert=one_of("", "STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"),
        allowed="STANDARD, NEARLINE, COLDLINE or ARCHIVE",
        default="",
        description="the storage class of what is written; the bucket's own unless given",
    )
    patience: float = Setting(
        convert=number(1, 3600),
        allowed="a number from 1 to 3600",
        default=120.0,
        description="seconds for which a call that fails in passing is tried again",
    )
    lease: float = Setting(
        convert=number(1, 3600),
        allowed="a number from 1 to 3600",
        default=60.0,
        description="seconds after which a host that no longer says so is no longer working for a task",
    )


class bigquery(Settings):
    """What holds for BigQuery."""

    location: str = Setting(
        convert=_like(r"[A-Za-z][-A-Za-z0-9]*"),
        allowed="a location, such as EU",
        default="",
        description="where jobs run; the dataset's own unless given",
    )
    max_bytes_billed: int = Setting(
        convert=whole_number(1, 1 << 60),
        allowed="a whole number of bytes",
        default=10 << 30,
        description="a query that would be billed for more bytes is not run",
    )


class dataflow(Settings):
    """What holds for Dataflow jobs. Further keys, here and in [dataflow.TASK], are options of Beam or Dataflow."""

    open_keys = True
    attempts: int = Setting(
        convert=whole_number(1, 100),
        allowed="a whole number from 1 to 100",
        default=3,
        description="jobs of the same code that may fail for a task before no more are submitted",
    )
    failures_within: float = Setting(
        convert=number(60, 1e8),
        allowed="a number from 60 to 100000000",
        default=86400.0,
        description="seconds for which the failure of a service's job counts among those attempts",
    )
    cancel_wait: float = Setting(
        convert=number(0, 3600),
        allowed="a number from 0 to 3600",
        default=60.0,
        description="seconds to wait for a job to be cancelled",
    )
    poll_max: float = Setting(
        convert=number(0.1, 600),
        allowed="a number from 0.1 to 600",
        default=30.0,
        description="seconds between two looks at a job, once it has run for a while",
    )
    stuck_after: float = Setting(
        convert=number(1, 1e6),
        allowed="a number from 1 to 1000000",
        default=3600.0,
        description="seconds after which a job is given up that is still being cancelled, does not answer, or waits "
        "for the project's quota of jobs",
    )
    price_vcpu_hour: float = Setting(
        convert=number(0, 1e6), allowed="a number", default=0.056, description="price of a vCPU-hour, for estimates"
    )
    price_gb_hour: float = Setting(
        convert=number(0, 1e6), allowed="a number", default=0.003557, description="price of a GB-hour of memory"
    )
    price_shuffle_gb: float = Setting(
        convert=number(0, 1e6), allowed="a number", default=0.011, description="price of a GB shuffled"
    )


# [dataflow] is open: its further keys are Beam's to know.
warnings.filterwarnings("ignore", ".* is not consumed by the task 'dataflow'", UnconsumedParameterWarning)


def runner_options(runner: str, task: str) -> Mapping[str, str]:
    """Return the options of Beam that the settings give a task on a runner: name → value, as written in luigi.cfg.

    They stand in the runner's section, [dataflow] or [flink] or [spark] or [fnapi]; the task's own, [dataflow.Etl],
    overrides it.
    """
    config, section = get_config(), runner.removesuffix("Runner").lower()
    own = set(dataflow.get_param_names(include_significant=True)) if section == "dataflow" else set()  # type: ignore[no-untyped-call]
    found: dict[str, str] = {}
    for name in (section, f"{section}.{task}"):
        for key in config.options(name) if config.has_section(name) else ():
            found[key.replace("-", "_")] = config.get(name, key, raw=True)
    return {key: value for key, value in found.items() if key not in own}


def dataflow_options(task: str) -> Mapping[str, str]:
    """Return `runner_options` of Dataflow, less the choice of the runner itself."""
    return {key: value for key, value in runner_options("DataflowRunner", task).items() if key != "runner"}


def options(runner: str, task: str) -> list[Option]:
    """Return the options of Beam that a task's run on a runner has, and the section that gives each.

    Raises SettingError for a task's section with a setting that holds for all tasks, because nobody would read it.
    """
    common = runner.removesuffix("Runner").lower()
    if runner != "DataflowRunner":
        return [
            Option(name, value, _section(common, task, name)) for name, value in runner_options(runner, task).items()
        ]
    config, section, taken = get_config(), f"{common}.{task}", dataflow.get_param_names()  # type: ignore[no-untyped-call]
    for key in config.options(section) if config.has_section(section) else ():
        if key.replace("-", "_") in taken:
            value = config.get(section, key, raw=True)
            raise SettingError(
                f"[{section}] {key} = {value!r}, {origin(section, key)}: this holds for all tasks; say it in [dataflow]"
            )
    return [Option(name, value, _section(common, task, name)) for name, value in dataflow_options(task).items()]


def _section(common: str, task: str, name: str) -> str:
    """Return the section that gives an option: the task's own before everybody's."""
    own = f"{common}.{task}"
    config = get_config()
    named = config.has_section(own) and name in (key.replace("-", "_") for key in config.options(own))
    return own if named else common


#: Of the settings that were read last: the command that they are of, or else how they are written, and what they say.
_read: tuple[object, Config] | None = None


def config() -> Config:
    """Return what the settings at hand say, as plain data; read once a command, because its flags and files stay."""
    global _read
    at_hand = CmdlineParser.get_instance() or _written()
    if _read is None or _read[0] != at_hand:
        _read = (
            at_hand,
            Config(
                storage=millrace().storage,
                warehouse=millrace().warehouse,
                refresh=run().refresh or millrace().refresh == "always",
                gcp=plain.Gcp(**_values(gcp, plain.Gcp)),
                bigquery=plain.BigQuery(**_values(bigquery, plain.BigQuery)),
                dataflow=plain.Dataflow(
                    **_values(dataflow, plain.Dataflow), endpoint=dataflow_options("").get("dataflow_endpoint", "")
                ),
                origin=origin,
                options=options,
            ),
        )
    return _read[1]


def _written() -> dict[str, dict[str, str]]:
    """Return the sections that `config` goes by as they are written."""
    at_hand: Any = get_config()
    names = [section.__name__ for section in (millrace, run, gcp, bigquery, dataflow)]
    return {name: dict(at_hand.items(name, raw=True)) for name in names if at_hand.has_section(name)}


def _values(section: type[Settings], plain_: type[plain.Gcp | plain.BigQuery | plain.Dataflow]) -> dict[str, Any]:
    """Return the values of a section's keys that plain data has too."""
    own = section()
    return {name: getattr(own, name) for name in plain_._fields if hasattr(own, name)}

"""What a workflow needs not write that reads sources: their settings, fetching a day, splitting an archive by the day.

    class logs(SourceSettings, Settings):
        source: tuple[str, ...] = SourceSettings.sources(default="logs/access-{date:%Y-%m-%d}.log")

    class FetchLogs(FetchStage):
        section = logs
        writes = ("log_lines",)

    requires():  FetchLogs.of(self)         # one for each source, of the task's day

A source with a field for the day has a file a day (dated); one without is an archive of many days, which the stage in
`splits` reads once for each version of it. The pipeline is the library's own for dated sources, unless the stage says
another; it takes the options source, date ("" for an archive), dataset and the bounds of SourceSettings, and labels its
files `raw`, those of a split by their days.
"""

import copy
import datetime
import functools
import re
import shlex
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import luigi

from millrace.beam.sources import named
from millrace.core import damage, keys, manifests
from millrace.core.ledger import Claim, Entry
from millrace.core.manifests import FileEntry, Manifest
from millrace.errors import NotThereYetError, SettingError
from millrace.tasks import preflight, rejects, session, settings
from millrace.tasks.beam_task import BeamTask
from millrace.tasks.datasets import Dataset
from millrace.tasks.settings import Day, Setting
from millrace.tasks.stage import Outcome, Stage

F = TypeVar("F", bound="FetchStage")

_BOUNDS = ("max_source_bytes", "max_transfer_seconds", "redirect_hosts")


def _sources(value: str, generated: Collection[str] = ()) -> tuple[str, ...]:
    names = tuple(name.strip(",") for name in shlex.split(named.named(value)))
    for name in names:
        named.check(name, generated)
    if not names or len(set(names)) < len(names):
        raise ValueError
    return names


def _hosts(value: str) -> str:
    hosts = [host.lower() for host in re.split(r"[\s,]+", value) if host]
    if not all(re.fullmatch(r"[a-z0-9*.:_-]+", host) for host in hosts):
        raise ValueError
    return ",".join(hosts)


class SourceBounds:
    """The settings of a workflow whose tasks name their sources themselves: what bounds reading those."""

    max_source_bytes: int = Setting(
        convert=settings.whole_number(1, 1 << 50),
        allowed="a whole number of bytes",
        default=10 << 30,
        significant=False,  # a larger file is refused, and a smaller one is read alike
        description="files of a source larger than this, as stored or decompressed, are refused",
    )
    max_transfer_seconds: int = Setting(
        convert=settings.whole_number(1, 10**6),
        allowed="a whole number of seconds",
        default=3600,
        significant=False,  # as are these two: what comes is read alike
        description="seconds in which a file of a source has to arrive by HTTP, pauses and repeats included",
    )
    redirect_hosts: str = Setting(
        convert=_hosts,
        allowed="names of hosts, by commas (cdn.example.org, *.example.org)",
        default="",
        significant=False,
        description="other hosts to which a source's server may redirect",
    )


class SourceSettings(SourceBounds):
    """The settings of a workflow that reads sources; its section derives from this and from Settings."""

    @staticmethod
    def sources(*, generated: Collection[str] = (), **kwargs: Any) -> Any:
        """Return the setting that names the sources, with a default or a description of one's own.

        generated: the sources that the workflow's pipeline generates, such as sample://.
        """
        described = "where records come from; a {date:%Y-%m-%d} in it selects the day, none makes it an archive"
        ours = "".join(f"{name}, " for name in generated)
        allowed = f"one or more of {ours}a path or glob, file://, gs:// or http(s):// URIs, each once"
        given = {"allowed": f"{allowed}, by spaces or line ends", "default": "", "description": described, **kwargs}
        return Setting(convert=functools.partial(_sources, generated=generated), keeps_variables=True, **given)

    source: tuple[str, ...] = sources()
    max_dead_letter_share: float = Setting(
        convert=settings.share,
        default=0.05,
        description="share of rejected records that a day may have",
    )


class WindowEnd(Setting):
    """The last day of the window that a day is wanted for, itself unless given. Tasks that differ only in it are the
    same.
    """

    def __init__(self) -> None:
        super().__init__(
            lambda value: settings.day(value) if value else None,
            "a day as YYYY-MM-DD",
            "the last day of the window that the day is wanted for; the day itself unless given",
            default=None,
            significant=False,
            batched=True,
        )


class Source(Setting):
    """A source as a task's parameter; dated: whether a field in its name may select a day."""

    def __init__(self, description: str, *, dated: bool = True) -> None:
        def convert(value: str) -> str:
            (source,) = _sources(shlex.quote(value))
            if not dated and not named.is_archive(source):
                raise SettingError(
                    f"source {source} has a field for a day, of which this task knows none; write * there"
                )
            return source

        super().__init__(convert, "a source", description)

    def of(self, section: Any) -> "Source":
        """Return the parameter for one of the sources that a section's setting allows."""
        own, setting = copy.copy(self), section.source
        own._convert = lambda value: setting._convert(shlex.quote(value))[0]
        return own


class SourceTask(BeamTask):
    """What reads a source that it names itself. Say the section, which is of SourceBounds, the source, in reading(),
    what it writes, and the pipeline.
    """

    passes = _BOUNDS

    def reading(self) -> str:
        """Return the source that is read."""
        raise NotImplementedError(f"{type(self).__name__}.reading")

    def versions(self) -> Mapping[str, str]:
        return {f"source {self.reading()}": named.version(self.reading(), self.redirect_hosts)}

    @classmethod
    def memory_here(cls, largest: int, together: int) -> int:
        return 512 << 20  # whatever is in a file, and however large the file is

    def options(self) -> Mapping[str, Any]:
        return {"source": self.reading()}

    def runs_here(self) -> bool:
        return named.is_local(self.reading())

    @property
    def redirect_hosts(self) -> list[str]:
        """The hosts to which the source's server may redirect."""
        section: Any = self.section()
        return [host for host in section.redirect_hosts.split(",") if host]


class SourceStage(SourceTask):
    """What reads a source of a workflow's setting. Say the section, which is of SourceSettings, the dataset in
    `writes`, and the pipeline.
    """

    source: str = Source(description="a source, as the section's setting names it")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "section" in vars(cls):
            own: Any = cls
            own.source = own.source.of(cls.section)

    def reading(self) -> str:
        return self.source

    def versions(self) -> Mapping[str, str]:
        """Return nothing, because what was fetched stays as it is; a split of an archive has the version in its key."""
        return {}

    def options(self) -> Mapping[str, Any]:
        return {**super().options(), "dataset": self.datasets()[0].name}


class SplitStage(SourceStage):
    """The raw records of an archive of many days, by day; read once for each version of the archive."""

    version: str = luigi.Parameter(description="what the archive's files are like: a digest of sizes and times")

    def output(self) -> Dataset:
        return Dataset(self.writes[0], keys.name(f"source={named.key(self.source)}/version={self.version}"))

    def run(self) -> None:
        """Run as every stage does; then clear splits of earlier versions. Fetched days have their own files."""
        super().run()
        storage, mine = session.current().storage, self.output().partition
        for path in list(storage.list(mine.rpartition("/")[0], manifests.NAME)):
            if (other := path.rpartition("/")[0]) != mine:
                storage.delete(path)
                storage.delete(other)

    def check(self, manifest: Manifest) -> None:
        place = session.current().storage.uri(manifest.partition)
        lie = f"{self.writes[0]}, in {place}/{manifest.attempt}/rejected-*.parquet"
        # A mended archive is another version, which is a partition of its own.
        rejects.check_rejects(manifest, self.section(), lie, lambda: "mend the archive")


class FetchStage(SourceStage):
    """A source's raw records of a day, kept as they came.

    A day that the source does not have is "not there yet", and nothing is written; where the source has the last day
    of the window that the day is wanted for, a day before it is empty, and stays so.
    """

    date: datetime.date = Day()
    window_end: datetime.date | None = WindowEnd()
    pipeline = "millrace.beam.fetching"
    empty_from_empty = False
    #: The stage that splits archives by the day; archives are refused without one.
    splits: ClassVar[type[SplitStage] | None] = None
    #: What the source's records are called in what is said of them.
    records: ClassVar[str] = "records"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _windows()[self.task_id].add(self.window_end or self.date)

    @classmethod
    def of(cls: type[F], task: Stage) -> list[F]:
        """Return the stages that fetch the day of a task: one for each source of the settings."""
        end = getattr(task, "window_end", None)
        section: Any = cls.section()
        return [cls(source=source, date=task.partition_date(), window_end=end) for source in section.source]

    def requires(self) -> list[SplitStage]:
        if not named.is_archive(self.source):
            return []
        if self.splits is None:
            raise SettingError(f"source {self.source}, {self._origin}, names no day; write {{date:%Y-%m-%d}} in it")
        # Asked once a run, so that all days see the same.
        version = preflight.once(
            ("version of archive", self.source), lambda: named.version(self.source, self.redirect_hosts)
        )
        if not version:
            raise NotThereYetError(f"source {self.source} is not there ({self._origin})")
        return [self.splits(source=self.source, version=version)]

    def built_on(self) -> list[luigi.Task]:
        """Return nothing, because an archive's split goes by its version, which changes when days are added to the
        archive.

        A day that is complete stays as it is, and asking for the version costs a request.
        """
        return []

    def output(self) -> Dataset:
        return Dataset(f"{self.writes[0]}/source={named.key(self.source)}", self.date)

    def pipelined(self) -> bool:
        """Return whether there are files to read: not for an archive's day, nor for a day that the source has not."""
        if not named.is_generated(self.source) and self.date > settings.yesterday():
            raise NotThereYetError(
                f"{self.date} is not over yet (UTC), so the {self.records} of source {self.source} can't be whole"
            )
        if named.is_archive(self.source):
            return False
        if self._files(self.date):
            return True
        ends = _windows()[self.task_id] | {self.window_end or self.date}
        # Only a source that has the window's last day can be said to have nothing for an earlier one.
        if self.date in ends or not any(self._files(last) for last in sorted(ends)):
            raise NotThereYetError(
                f"source {self.source} has nothing for {min(ends)} yet, the last day of the window ({self._origin}); "
                "run again when it is there"
            )
        return False

    def execute(self, claim: Claim) -> Outcome:
        if named.is_archive(self.source):
            return self._from_archive(claim.attempt)
        return replace(self.empty("missing_files", read=0), options={"source": self.source})

    @property
    def _origin(self) -> str:
        return settings.origin(self.section.__name__, "source")

    def _files(self, date: datetime.date) -> list[str]:
        return named.resolve(self.source, date, self.redirect_hosts)

    def _from_archive(self, attempt: Entry) -> Outcome:
        """Return the day's part of the split archive; a day without one is empty."""
        split = self.inputs()[0][1][0]
        files = list(self._from_shared(split, attempt))
        files += [replace(file, table="raw") for file in self.adopt(split, split.files_of(str(self.date)), attempt)]
        rejected = sum(rejects.accounting(split)["rejected"].values())
        counters = {"read": sum(file.rows for file in files), "archive_rejected": rejected}
        made = next(iter(split.code.get(self.required()[0].task_family, ())), "")
        return Outcome(files, counters, {}, self.pipeline, {"source": self.source}, code=made)

    def _from_shared(self, split: Manifest, attempt: Entry) -> Iterator[FileEntry]:
        """Yield the day's part of those files of a split that several days share."""
        several = [file for file in split.files if "_" in file.table]
        if not several:
            return
        from millrace.beam.sources import splits  # here, because it loads Beam

        storage, shared = session.current().storage, [f for f in several if splits.shared_with(f.table, self.date)]
        damage.check(storage, split.partition, shared)
        output = storage.uri(self._folder("{dataset}", attempt))
        for file in shared:
            for made in splits.take_day(storage.uri(file.path), self.date, output, self.output().name).files:
                yield replace(made, path=made.path.removeprefix(storage.uri("")))


def _windows() -> "defaultdict[str, set[datetime.date]]":
    """Return the last days of the windows that days are wanted for in this session, by the task that fetches a day.

    Luigi takes tasks that differ only in their window_end for one, and a day may be the last of one window and within
    another.
    """
    return session.current().once("last days of windows", lambda: defaultdict(set))

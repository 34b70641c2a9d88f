"""What a stream of posts talks about: Fetch → Etl → Count → Aggregate → Report, every day."""

import datetime
import functools
import json
import re
import shlex
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import luigi

from millrace import BeamTask, Dataset, Stage
from millrace.core import code, damage, manifests
from millrace.core.ledger import Claim, Entry
from millrace.core.manifests import FileEntry, Manifest
from millrace.core.storage import crc32c
from millrace.errors import DeadLetterError, MillraceError, NotThereYetError
from millrace.tasks import advice, session, settings
from millrace.tasks.settings import Day, Days, Setting, Settings
from millrace.tasks.stage import Outcome
from pipelines.posts import sources
from pipelines.posts.tables import TABLES
from workflows import pages

if TYPE_CHECKING:
    from workflows.report.page import Facts, StageRun


def _sources(value: str) -> tuple[str, ...]:
    names = tuple(name.strip(",") for name in shlex.split(sources.named(value)))
    for name in names:
        sources.check(name)
    if not names or len(set(names)) < len(names):
        raise ValueError
    return names


def _hosts(value: str) -> str:
    hosts = [host.lower() for host in re.split(r"[\s,]+", value) if host]
    if not all(re.fullmatch(r"[a-z0-9*.:_-]+", host) for host in hosts):
        raise ValueError
    return ",".join(hosts)


def _languages(value: str) -> str:
    codes = [code.strip().lower() for code in value.split(",")]
    if not all(code.isalpha() and len(code) in (2, 3) for code in codes):
        raise ValueError
    return ",".join(codes)


class posts(Settings):
    """Which posts are read, and how."""

    source: tuple[str, ...] = Setting(
        convert=_sources,
        allowed="one or more of sample://, a path or glob, file://, gs:// or http(s):// URIs, "
        "each once, by spaces or line ends",
        default="sample://",
        description="where posts come from; a {date:%Y-%m-%d} in it selects the day, none makes it an archive",
        keeps_variables=True,
    )
    days: int = Setting(
        convert=settings.whole_number(1, 366),
        allowed="a whole number from 1 to 366",
        default=7,
        description="days of a window",
    )
    rules: str = Setting(
        convert=settings.one_of("standard", "classic"),
        allowed="standard or classic",
        default="standard",
        description="what words are, and which URLs are the same",
    )
    languages: str = Setting(
        convert=_languages,
        allowed="codes of languages, by commas (en,de)",
        default="en",
        description="languages of posts that don't say theirs, for stop words",
    )
    max_dead_letter_share: float = Setting(
        convert=settings.share,
        allowed="a number from 0 to 1",
        default=0.05,
        description="share of rejected records that a day may have",
    )
    max_source_bytes: int = Setting(
        convert=settings.whole_number(1, 1 << 50),
        allowed="a whole number of bytes",
        default=10 << 30,
        significant=False,  # a file that is larger is refused, one that is not is read alike
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
    shards: int = Setting(
        convert=settings.whole_number(1, 1000),
        allowed="a whole number from 1 to 1000",
        default=4,
        description="shards of a day's URLs and pairs: more for more data, the same for all days",
    )


class WindowEnd(Setting):
    """The last day of the window that a day is wanted for, itself unless given. It does not tell tasks apart."""

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
    """A source as a task's parameter."""

    def __init__(self, description: str) -> None:
        super().__init__(lambda value: _sources(shlex.quote(value))[0], "a source", description)


def too_many_rejected(manifest: Manifest, dataset: str, mend: Callable[[], str]) -> None:
    """Raise DeadLetterError if more than max_dead_letter_share of the records were rejected; mend: what helps."""
    counts = accounting(manifest)
    reasons, limit = counts["rejected"], posts().max_dead_letter_share
    read = counts["read"] - counts["notices"]  # a stream of notices must not hide the rejects
    rejected = sum(reasons.values())
    if rejected > limit * read:
        worst = ", ".join(f"{n:,} {reason}" for reason, n in sorted(reasons.items(), key=lambda r: -r[1]))
        raise DeadLetterError(
            f"{manifest.partition}: {rejected:,} of {read:,} records were rejected ({worst}), more than "
            f"posts.max_dead_letter_share = {limit} ({settings.origin('posts', 'max_dead_letter_share')}) allows; "
            f"they lie in the dataset {dataset}; raise the limit, or {mend()}, then run again"
        )


class PostsTask(BeamTask):
    """What the stages of this workflow share."""

    section = posts


@functools.cache
def archive_version(source: str) -> str | MillraceError:
    """Return what an archive is like, or why that can't be told: asked once a run, so that all days see the same."""
    try:
        return sources.version(source, _redirect_hosts())
    except MillraceError as error:
        return error


def _redirect_hosts() -> list[str]:
    return [host for host in posts().redirect_hosts.split(",") if host]


class SplitArchive(PostsTask):
    """The raw records of an archive of many days, by day; read once for each version of the archive."""

    writes = ("archives",)
    source: str = Source(description="an archive, as in [posts] source")
    version: str = luigi.Parameter(description="what the archive's files are like: a digest of sizes and times")
    pipeline = "pipelines.posts.fetch"
    passes = ("max_source_bytes", "max_transfer_seconds", "redirect_hosts")

    def output(self) -> Dataset:
        return Dataset("archives", key=f"source={sources.key(self.source)}/version={self.version}")

    def options(self) -> Mapping[str, Any]:
        return {"source": self.source, "dataset": "archives"}

    def runs_here(self) -> bool:
        return sources.is_local(self.source)

    def run(self) -> None:
        """As every stage; then splits of earlier versions go. Days fetched from them have files of their own."""
        super().run()
        storage, mine = session.current().storage, self.output().partition
        for path in list(storage.list(mine.rpartition("/")[0], manifests.NAME)):
            if (other := path.rpartition("/")[0]) != mine:
                storage.delete(path)
                storage.delete(other)

    def check(self, manifest: Manifest) -> None:
        lie = f"archives, in {session.current().storage.uri(manifest.partition)}/{manifest.attempt}/rejected-*.parquet"
        # What is mended is another version of the archive, which is a partition of its own.
        too_many_rejected(manifest, lie, lambda: "mend the archive")


class Fetch(PostsTask):
    """A source's raw records of a day, kept as they came."""

    writes = ("raw",)
    priority = 2  # all days' fetches, then all days' etls: so that workers end together
    source: str = Source(description="one of [posts] source")
    date: datetime.date = Day()
    window_end: datetime.date | None = WindowEnd()
    pipeline = "pipelines.posts.fetch"
    passes = ("max_source_bytes", "max_transfer_seconds", "redirect_hosts")
    empty_from_empty = False

    #: The last days of windows in this process. Luigi takes tasks that differ only in their window_end for one.
    _last_days: ClassVar[set[str]] = set()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.window_end in (None, self.date):
            self._last_days.add(self.task_id)

    def requires(self) -> list[SplitArchive]:
        if not sources.is_archive(self.source):
            return []
        version = archive_version(self.source)
        if isinstance(version, MillraceError):
            raise version
        if not version:
            raise NotThereYetError(f"source {self.source} is not there ({settings.origin('posts', 'source')})")
        return [SplitArchive(source=self.source, version=version)]

    def built_on(self) -> list[luigi.Task]:
        """Nothing: an archive's split goes by its version, which changes when days are added to the archive. A day that
        is complete stays as it is, and the version costs a request.
        """
        return []

    def output(self) -> Dataset:
        return Dataset(f"raw/source={sources.key(self.source)}", self.date)

    def options(self) -> Mapping[str, Any]:
        return {"source": self.source, "dataset": f"raw/source={sources.key(self.source)}"}

    def runs_here(self) -> bool:
        return sources.is_local(self.source)

    def pipelined(self) -> bool:
        if self.source != sources.SAMPLE and self.date > settings.yesterday():
            raise NotThereYetError(
                f"{self.date} is not over yet (UTC), so the posts of source {self.source} can't be whole"
            )
        if sources.is_archive(self.source):
            return False
        if self._files(self.date):
            return True
        # Only a source that has the window's last day can be said to have nothing for an earlier one.
        last = self.date if self.task_id in self._last_days else self.window_end
        if last == self.date or not self._files(last):
            raise NotThereYetError(
                f"source {self.source} has nothing for {last} yet, the last day of the window "
                f"({settings.origin('posts', 'source')}); run again when it is there"
            )
        return False

    def execute(self, claim: Claim) -> Outcome:
        if sources.is_archive(self.source):
            return self._from_archive(claim.attempt)
        return Outcome([], {"read": 0, "missing_files": 1}, {}, self.pipeline, {"source": self.source})

    def _files(self, date: datetime.date | None) -> list[str]:
        return sources.resolve(self.source, date, _redirect_hosts())

    def _from_shared(self, split: Manifest, attempt: Entry) -> Iterator[FileEntry]:
        """Yield the day's part of those files of a split that several days share."""
        several = [file for file in split.files if "_" in file.table]
        if not several:
            return
        from pipelines.posts import fetch  # here, because it loads Beam

        storage = session.current().storage
        shared = [file for file in several if fetch.shared_with(file.table, self.date)]
        damage.check(storage, split.partition, shared)
        output = storage.uri(self._folder("{dataset}", attempt))
        for file in shared:
            for made in fetch.take_day(storage.uri(file.path), self.date, output, self.output().name).files:
                yield replace(made, path=made.path.removeprefix(storage.uri("")))

    def _from_archive(self, attempt: Entry) -> Outcome:
        """Return the day's part of the split archive; none is an empty day."""
        split = self.inputs()[0][1][0]
        files = list(self._from_shared(split, attempt))
        damage.check(session.current().storage, split.partition, split.files_of(str(self.date)))
        for file in split.files_of(str(self.date)):
            path = f"{self.output().partition}/{attempt.attempt}/{file.path.rpartition('/')[2]}"
            session.current().storage.copy(file.path, path)
            files.append(FileEntry(path, "raw", file.rows, file.bytes, file.crc32c))
        counters = {"read": sum(f.rows for f in files), "archive_rejected": sum(accounting(split)["rejected"].values())}
        made = next(iter(split.code.get(self.required()[0].task_family, ())), "")
        return Outcome(files, counters, {}, self.pipeline, {"source": self.source}, code=made)


class Etl(PostsTask):
    """A day's posts, each once, and the records that can't be used."""

    writes = ("posts", "posts_rejected")
    priority = 1
    progress = "rows_read"
    date: datetime.date = Day()
    window_end: datetime.date | None = WindowEnd()
    pipeline = "pipelines.posts.etl"
    settings = ("source",)

    def requires(self) -> list[Fetch]:
        return [Fetch(source=source, date=self.date, window_end=self.window_end) for source in posts().source]

    def options(self) -> Mapping[str, Any]:
        names = [
            task.source
            for task, (_, (manifest, _)) in zip(self.requires(), self.inputs(), strict=True)
            for _ in manifest.files
        ]
        rows = sum(file.rows for file in self.input_files())
        return {"sources": json.dumps(names), "shards": -(-rows // 500_000) or 1}

    def check(self, manifest: Manifest) -> None:
        lie = f"posts_rejected, in {session.current().storage.uri(f'posts_rejected/date={self.date}')}"
        too_many_rejected(manifest, lie, lambda: self._mend(manifest))

    def _mend(self, manifest: Manifest) -> str:
        """Return what helps against bad records: to read the day anew from the source that has most of them, if it
        has it.
        """
        import pyarrow.parquet as pq

        found: Counter[str] = Counter()
        with tempfile.TemporaryDirectory() as copies:
            for file in manifest.files_of("posts_rejected"):
                path = session.current().storage.fetch(file.path, copies)
                found.update(pq.read_table(path, columns=["source"])["source"].to_pylist())
        (source, _), *_ = found.most_common(1)
        forget = advice.clear("Fetch", self.date, self.date, source=source)
        return f"mend {source} and, if it still has the day, forget what was read of it ({forget})"


class Count(PostsTask):
    """A day's partial counts: posts by hour, word to posts, URL to occurrences, pair to posts."""

    writes = ("counts",)
    progress = "rows_read"
    date: datetime.date = Day()
    window_end: datetime.date | None = WindowEnd()
    pipeline = "pipelines.posts.count"
    passes = ("rules", "languages", "shards")

    def requires(self) -> Etl:
        return Etl(date=self.date, window_end=self.window_end)


class Aggregate(PostsTask):
    """A window of days: top words, URLs and pairs, and the pairs that rose against the window before."""

    writes = ("word_counts", "urls", "word_cooccur", "emerging_pairs", "posts_by_hour")
    tables = TABLES
    date: datetime.date = Day()
    days: int = Days(section=posts)
    pipeline = "pipelines.posts.aggregate"
    empty_from_empty = False

    def requires(self) -> list[Count]:
        return [Count(date=day, window_end=self.date) for day in window(self.date, 2 * self.days)]

    def options(self) -> Mapping[str, Any]:
        return {"days": self.days}


def window(last: datetime.date, days: int) -> Iterator[datetime.date]:
    """Return the days of a window, the last one first."""
    return (last - datetime.timedelta(days=n) for n in range(days))


class Report(Stage):
    """The page of a window, its data as JSON and its picture, and the page that lists all days."""

    writes = ("reports",)
    section = posts
    made_by = "workflows.report"
    date: datetime.date = Day()
    days: int = Days(section=posts)

    def requires(self) -> Aggregate:
        return Aggregate(date=self.date, days=self.days)

    @property
    def page(self) -> str:
        """Where the page is: a path or URI."""
        return session.current().storage.uri(f"{self.datasets()[0].partition}/index.html")

    @property
    def list_of_pages(self) -> str:
        """Where the page that lists all days is: a path or URI."""
        return session.current().storage.uri(pages.LIST)

    def execute(self, claim: Claim) -> Outcome:
        from workflows.report.page import render

        storage = session.current().storage
        made = render(self._facts(), self.requires().query)
        files = []
        for name, data in made.items():
            path = f"{self.datasets()[0].partition}/{name}"
            storage.replace(path, data)
            files.append(FileEntry(path, "reports", 0, len(data), crc32c(data)))
        pages.make_list()
        return Outcome(files, {}, {}, "workflows.report")

    @classmethod
    def cleared(cls) -> None:
        if session.current().storage.read(pages.LIST):
            pages.make_list()

    def _facts(self) -> "Facts":
        from workflows.report.page import Facts, Quality, StageRun

        aggregate = self.requires()
        days = [(count.date, count, count.requires()) for count in aggregate.requires()]
        runs: list[StageRun] = []
        quality = []
        split_rejected: dict[str, int] = {}
        posts_before = 0
        for date, count, etl in reversed(days):
            fetches = etl.requires()
            runs += [stage_run(stage, date) for stage in (*fetches, etl, count)]
            if date > self.date - datetime.timedelta(days=self.days):
                quality.append(Quality(date, **accounting(etl.finished())))
            else:
                posts_before += count.finished().counters.get("posts", 0)
            fetched = [fetch.finished() for fetch in fetches]
            split_rejected |= {i.partition: m.counters.get("archive_rejected", 0) for m in fetched for i in m.inputs}
        runs.append(stage_run(aggregate, self.date))
        return Facts(
            date=self.date,
            days=self.days,
            sources=posts().source,
            rules=posts().rules,
            generated=sources.SAMPLE in posts().source,
            stages=runs,
            quality=quality,
            split_rejected=sum(split_rejected.values()),
            posts_before=posts_before,
            made_at=datetime.datetime.now(datetime.UTC),
        )


def stage_run(stage: Stage, date: datetime.date) -> "StageRun":
    """Return what the page says of a finished stage of a day."""
    from workflows.report.page import StageRun

    manifest = stage.finished()
    started, ended = (datetime.datetime.fromisoformat(t) for t in (manifest.started, manifest.ended))
    made = next(iter(manifest.code.get(stage.task_family, ())), "")
    return StageRun(
        stage=stage.task_family,
        date=date,
        rows=sum(file.rows for file in manifest.files),
        seconds=(ended - started).total_seconds(),
        runner=manifest.runner,
        code_version=manifest.code_version,
        job=manifest.job_id,
        code=code.short(made),
        other_code=made != "" and not code.is_of(made, stage),
    )


def accounting(manifest: Manifest) -> dict[str, Any]:
    """Return a manifest's counters of records; rejected: reason → records."""
    counters = manifest.counters
    rejected = {k.removeprefix("rejected: "): n for k, n in counters.items() if k.startswith("rejected: ")}
    return {name: counters.get(name, 0) for name in ("read", "kept", "other_days", "duplicates", "notices")} | {
        "rejected": rejected
    }

"""What a stream of posts talks about: Fetch → Etl → Count → Aggregate → Report, every day."""

import datetime
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from millrace import (
    BeamTask,
    Dataset,
    Day,
    Days,
    FetchStage,
    Index,
    Manifest,
    PageTask,
    Setting,
    Settings,
    SourceSettings,
    SplitStage,
    WindowEnd,
    accounting,
    check_rejects,
    clear_command,
    one_of,
    read_rows,
    whole_number,
)
from pipelines.posts.sources import SAMPLE
from pipelines.posts.tables import TABLES
from workflows.pages.stages import StageRun, stage_run

if TYPE_CHECKING:
    from workflows.report.page import Facts


def _languages(value: str) -> str:
    codes = [code.strip().lower() for code in value.split(",")]
    if not all(code.isalpha() and len(code) in (2, 3) for code in codes):
        raise ValueError
    return ",".join(codes)


def _shards(value: str) -> int:
    number = int(value)
    if not 0 <= number <= 1 << 16 or number & (number - 1):
        raise ValueError
    return number


class posts(SourceSettings, Settings):
    """Which posts are read, and how."""

    source: tuple[str, ...] = SourceSettings.sources(
        generated=[SAMPLE],
        default=SAMPLE,
        description="where posts come from; a {date:%Y-%m-%d} in it selects the day, none makes it an archive",
    )
    days: int = Setting(convert=whole_number(1, 366), default=7, description="days of a window")
    rules: str = Setting(
        convert=one_of("standard", "classic"),
        default="standard",
        description="what words are, and which URLs are the same",
    )
    languages: str = Setting(
        convert=_languages,
        allowed="codes of languages, by commas (en,de)",
        default="en",
        description="languages of posts that don't say theirs, for stop words",
    )
    shards: int = Setting(
        convert=_shards,
        allowed="a power of two up to 65536, or 0: as many as the day's posts need",
        default=0,
        significant=False,
        description="shards of a day's URLs and pairs; days of different shards add up",
    )


class PostsTask(BeamTask):
    """What the stages of this workflow share."""

    section = posts

    @classmethod
    def memory_here(cls, largest: int, together: int) -> int:
        # As benchmarks/memory.py measures days of 1 to 20 million posts; distinct pairs grow slower than posts.
        return min((360 << 20) + 6 * together, (840 << 20) + together // 3)


class SplitArchive(SplitStage):
    """The raw records of an archive of many days, by day; read once for each version of the archive."""

    section = posts
    writes = ("archives",)
    pipeline = "pipelines.posts.fetch"


class Fetch(FetchStage):
    """A source's raw records of a day, kept as they came."""

    section = posts
    writes = ("raw",)
    priority = 2  # all days' fetches, then all days' etls, so that workers end together
    pipeline = "pipelines.posts.fetch"
    splits = SplitArchive
    records = "posts"


class Etl(PostsTask):
    """A day's posts, each once, and the records that can't be used."""

    writes = ("posts", "posts_rejected")
    priority = 1
    progress = "rows_read"
    date: datetime.date = Day()
    window_end: datetime.date | None = WindowEnd()
    pipeline = "pipelines.posts.etl"
    settings = ("source",)

    @classmethod
    def memory_here(cls, largest: int, together: int) -> int:
        return (400 << 20) + together // 2

    def requires(self) -> list[Fetch]:
        return Fetch.of(self)

    def options(self) -> Mapping[str, Any]:
        names = [
            task.source
            for task, (_, (manifest, _)) in zip(self.requires(), self.inputs(), strict=True)
            for _ in manifest.files
        ]
        return {"sources": json.dumps(names)}

    def check(self, manifest: Manifest) -> None:
        rejected = Dataset("posts_rejected", self.date)
        check_rejects(manifest, posts(), f"posts_rejected, in {rejected.uri}", lambda: self._mend(manifest))

    def _mend(self, manifest: Manifest) -> str:
        """Return what helps against bad records: to read the day anew from the source that has most of them, if it has
        it.
        """
        found = Counter(read_rows(manifest, "posts_rejected", ["source"])["source"].to_pylist())
        (source, _), *_ = found.most_common(1)
        forget = clear_command("Fetch", self.date, self.date, source=source)
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

    @classmethod
    def memory_here(cls, largest: int, together: int) -> int:
        return min((330 << 20) + 24 * together, (960 << 20) + together // 2)

    def requires(self) -> list[Count]:
        return [Count(date=day, window_end=self.date) for day in window(self.date, 2 * self.days)]

    def options(self) -> Mapping[str, Any]:
        return {"days": self.days}


def window(last: datetime.date, days: int) -> Iterator[datetime.date]:
    """Return the days of a window, the last one first."""
    return (last - datetime.timedelta(days=n) for n in range(days))


class Report(PageTask):
    """The page of a window, its data as JSON and its picture, and the page that lists all days."""

    writes = ("reports",)
    section = posts
    made_by = "workflows.report"
    date: datetime.date = Day()
    days: int = Days(section=posts)

    def requires(self) -> Aggregate:
        return Aggregate(date=self.date, days=self.days)

    def preload(self) -> None:
        from workflows.report.page import preload

        preload()
        super().preload()

    def render(self) -> Mapping[str, bytes]:
        from workflows.report.page import render

        return render(self._facts(), self.requires().query)

    @classmethod
    def pages(cls) -> Index[Any]:
        from workflows.report.page import index_row, render_index

        return Index("reports", "report.json", index_row, render_index)

    def _facts(self) -> "Facts":
        from workflows.report.page import Facts, Quality

        aggregate = self.requires()
        made = aggregate.lineage()
        runs: list[StageRun] = []
        quality = []
        split_rejected: dict[str, int] = {}
        posts_before = 0
        for count in reversed(aggregate.requires()):
            etl = count.requires()
            fetches = etl.requires()
            runs += [stage_run(stage, count.date, made[stage]) for stage in (*fetches, etl, count)]
            if count.date > self.date - datetime.timedelta(days=self.days):
                quality.append(Quality(count.date, **accounting(made[etl])))
            else:
                posts_before += made[count].counters.get("posts", 0)
            fetched = [made[fetch] for fetch in fetches]
            split_rejected |= {i.partition: m.counters.get("archive_rejected", 0) for m in fetched for i in m.inputs}
        runs.append(stage_run(aggregate, self.date, made[aggregate]))
        return Facts(
            date=self.date,
            days=self.days,
            sources=posts().source,
            rules=posts().rules,
            generated=SAMPLE in posts().source,
            stages=runs,
            quality=quality,
            split_rejected=sum(split_rejected.values()),
            posts_before=posts_before,
            made_at=datetime.datetime.now(datetime.UTC),
        )

r"""The posts of any window of time → the tables of what they talk about, as Etl, Count and Aggregate have them.

A post is in the window if timestamp − days < created_at ≤ timestamp. Run alone:

    python -m pipelines.posts.window --input 'posts-{date:%Y-%m-%d}.jsonl' --timestamp '2026-11-19 05:00:00' --days 4 \
        --output out

It is a template, too (millrace.beam.templates): nothing of a launch, and above all no time, is known before a job runs.
"""

import datetime
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.options.value_provider import ValueProvider
from apache_beam.pvalue import AsMultiMap, AsSingleton

from millrace.beam import bigquery, engines, files, shards
from millrace.beam.adding import Adding
from millrace.beam.batch import Block
from millrace.beam.sources import named, ranges, records
from millrace.beam.sources.named import Stored
from millrace.beam.sources.ranges import Unit
from millrace.beam.templates import Parameter, TemplateOptions, main
from millrace.common.checksums import Input
from millrace.common.partitions import Partition
from millrace.common.results import Written
from millrace.errors import NotThereYetError, SettingError
from pipelines.posts import aggregate, columns, count, etl, pairs, parse, sample
from pipelines.posts.sources import SAMPLE
from pipelines.posts.tables import TABLES

#: The tables that are written.
NAMES = ("word_counts", "urls", "word_cooccur")
#: Bounds of a file of a source, as Fetch has them where nothing else is said.
_MAX_BYTES, _MAX_SECONDS = 10 << 30, 3600
#: Bytes of posts in memory that one byte of a source may stand for, where it is compressed.
_UNPACKED = 4
#: Bytes in memory that a generated day stands for.
_GENERATED_DAY = 1 << 20
#: How many times the parts that a source needs, by its size, it may be cut into: each part has all the shards of URLs
#: and pairs once more.
_MORE_PARTS = 4
_MICROSECOND = datetime.timedelta(microseconds=1)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_GENERATED: named.Generated = {SAMPLE: sample.lines}
#: What was read, and what became of it: name → how many.
_TOLD = pa.schema([("name", pa.string()), ("count", pa.int64())])
#: A table by name, between steps.
_Named: TypeAlias = tuple[str, pa.Table]


class WindowOptions(TemplateOptions):
    """Parameters of a window."""

    title = "Trends of posts"
    parameters = (
        Parameter(
            "input",
            "Posts",
            "where the posts come from: a path or glob, or a file://, gs:// or http(s):// URI, with {date:%Y-%m-%d} "
            "where the day of a file stands; or sample://",
        ),
        Parameter(
            "timestamp",
            "End of the window",
            "when the window ends, UTC: YYYY-MM-DD HH:MM:SS, microseconds after a point if need be",
            pattern=r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?",
        ),
        Parameter(
            "output",
            "Output",
            "folder of the tables, as Parquet and JSON lines; {dataset} in it stands for a table's name",
        ),
        Parameter("days", "Days", "how many days the window has", pattern="[1-9][0-9]{0,3}", default="4"),
        Parameter(
            "rules",
            "Rules",
            "what words and URLs are, classic or standard",
            pattern="classic|standard",
            default="standard",
        ),
        Parameter(
            "languages",
            "Languages",
            "languages of posts that don't say theirs, by commas",
            pattern="[a-z]{2,3}(,[a-z]{2,3})*",
            default="en",
        ),
        Parameter(
            "shards",
            "Shards",
            "shards of URLs and pairs, a power of two; 0: as the source's size needs",
            pattern="0|[1-9][0-9]{0,4}",
            default="0",
        ),
        Parameter(
            "bigquery",
            "BigQuery dataset",
            "dataset whose tables get the rows as well, PROJECT.DATASET; the rows of the same end are replaced",
            pattern=r"([a-z0-9.:-]+\.[A-Za-z0-9_]+)?",
            default="",
        ),
    )

    @classmethod
    def check(cls, given: Mapping[str, str | None]) -> None:
        super().check(given)
        values = cls.texts(given)
        if end_of(values["timestamp"]) - int(values["days"]) * parse.DAY < parse.FIRST:
            raise SettingError(
                f"--days {values['days']} before --timestamp {values['timestamp']!r} begin before the year 1"
            )
        named.check(values["input"], _GENERATED)
        wanted = int(values["shards"])
        if wanted & (wanted - 1):
            raise SettingError(f"--shards {wanted} is no power of two (1, 2, 4, …)")
        output = values["output"]
        if why := files.refusal(output):
            raise SettingError(f"--output {output!r} {why}")
        if values["bigquery"] and not output.startswith("gs://"):
            raise SettingError(
                f"--bigquery {values['bigquery']} needs an --output in Cloud Storage, gs://…, not {output}"
            )


@dataclass(frozen=True)
class Plan:
    """What a job is to do, as its parameters say; run: tells the job from all others.

    A post is in the window if start < created_at ≤ end, in microseconds since 1970 (UTC). parts: in how many the posts
    are cut; shards: in how many the URLs and pairs of each part are.
    """

    run: str
    start: int
    end: int
    parts: int
    shards: int
    values: Mapping[str, str]

    def path(self, name: str) -> str:
        """Return where a table is written, or what is told of all of them, up to the file's ending."""
        output = self.values["output"]
        output = output.rstrip("/") if "://" in output else os.path.expanduser(output)
        return f"{files.folder_of(output, name)}/{name}"

    @property
    def partition(self) -> Partition:
        """The window as the functions of Count take it."""
        languages, rules = self.values["languages"], self.values["rules"]
        return Partition("", "", options={"rules": rules, "languages": languages, "shards": self.shards})


def end_of(timestamp: str) -> int:
    """Return microseconds since 1970 of YYYY-MM-DD HH:MM:SS[.ffffff], UTC. Raises SettingError for no such moment.

    The end is read as posts' own moments are, so that a post of the same text is in the window.
    """
    try:
        return parse.microseconds(timestamp)
    except parse.Rejected:
        raise SettingError(f"--timestamp {timestamp!r} is no moment, because there is no such day or time") from None


def day_of(micros: int) -> datetime.date:
    """Return the UTC day of a moment."""
    return datetime.date(1970, 1, 1) + datetime.timedelta(days=micros // parse.DAY)


def find(
    _: object, parameters: Mapping[str, ValueProvider], elsewhere: bool
) -> Iterator[tuple[Plan, Sequence[Unit], pa.Table]]:
    """Yield what the job is to do, the units that it is to read, and how many days the source has no file for.

    elsewhere: whether workers have another disk than who reads the tables. Raises SettingError, SourceError;
    NotThereYetError for a source that has nothing for the window's last day.
    """
    given = {name: each.get() for name, each in parameters.items()}
    WindowOptions.check(given)
    values = WindowOptions.texts(given)
    if elsewhere and "://" not in values["output"]:
        raise SettingError(f"--output {values['output']} would be on the disks of workers, which go; write gs://…")
    if elsewhere and named.is_local(values["input"]):
        raise SettingError(f"--input {values['input']} is not on the disks of workers; write gs://…")
    source, end = values["input"], end_of(values["timestamp"])
    start = end - int(values["days"]) * parse.DAY
    found, missing = [], 0
    if named.is_archive(source):
        found = named.stored(source, None)
        if not found:
            raise NotThereYetError(f"--input {source} has no file")
    else:
        # A window that ends with a day, to the microsecond, has one moment of the next: that file may be missing.
        last = day_of(end - 1)
        for number in range((day_of(end) - day_of(start + 1)).days + 1):
            day = day_of(start + 1) + datetime.timedelta(days=number)
            there = named.stored(source, day)
            if not there and day == last:
                raise NotThereYetError(f"--input {source} has nothing for {day} yet, the last day of the window")
            missing += int(not there and day < last)
            found += there
    found = list(dict.fromkeys(found))  # a file of a month is each day's
    units = [
        # Lines may be as many as they like, because no range is larger than others.
        unit
        for n, file in enumerate(found)
        for unit in ranges.units(n, file, ranges.LENGTH, max(_MAX_BYTES, file.size))
    ]
    needed = shards.number(sum(map(_in_memory, found)), count.SHARD_BYTES)
    wanted = int(values["shards"]) or needed
    plan = Plan(uuid.uuid4().hex, start, end, min(wanted, _MORE_PARTS * needed), wanted, values)
    yield plan, units, told(files=len(found), missing_days=missing)


def _in_memory(file: Stored) -> int:
    """Return how many bytes a file's posts may have in memory."""
    if named.is_generated(f"{file.uri.partition('://')[0]}://"):
        return _GENERATED_DAY
    # A file of no bytes that is known to be so has a version.
    return file.size * _UNPACKED if file.size or file.version else count.SHARD_BYTES


def told(**numbers: int) -> pa.Table:
    """Return numbers as a table that adds up with others."""
    return pa.table({"name": list(numbers), "count": list(numbers.values())}, schema=_TOLD)


def posts_of(numbered: tuple[int, Unit], plan: Plan) -> Iterator[_Named]:
    """Yield the window's posts of a file or a range, by part of their ids, and what became of its records."""
    number, unit = numbered
    row = 0
    for block in _blocks(unit):
        parsed = columns.parse_block(pa.chunked_array([block.record]))
        created_at = parsed.posts["created_at"].to_numpy()
        inside = np.flatnonzero((created_at > plan.start) & (created_at <= plan.end))
        reasons = Counter(reason for _, reason in parsed.rejects)
        yield (
            "told",
            told(
                read=len(block.line),
                outside=len(created_at) - len(inside),
                notices=parsed.notices,
                rejected=len(parsed.rejects),
                **{f"rejected, {reason}": n for reason, n in reasons.items()},
            ),
        )
        place = pa.array((np.int64(number) << 40) + row + inside)
        posts = parsed.posts.take(pa.array(inside)).append_column("place", place).combine_chunks()
        row += len(created_at)
        for part, ids in enumerate(etl.split(etl.ids_of(posts["id"], 0), plan.parts)):
            if ids.num_rows:
                yield f"posts/{part}", posts.take(ids["row"])


def _blocks(unit: Unit) -> Iterator[records.Block]:
    if unit.part is not None:
        yield from ranges.read(unit.file, unit.part, 1)
        return
    with named.open_uri(unit.file.uri, _MAX_BYTES, _MAX_SECONDS, (), _GENERATED) as stream:
        yield from records.read(stream)


def count_shard(named_: tuple[str, Iterable[pa.Table]], plan: Plan) -> Iterator[_Named]:
    """Yield the partial counts of a part's posts, each of which counts once a day as Etl has it; pass on numbers."""
    name, tables = named_
    if name == "told":
        yield name, count.add(list(tables))
        return
    posts = pa.concat_tables(tables).sort_by("place")
    whole = once(posts)
    yield "told", told(posts=whole.num_rows, duplicates=posts.num_rows - whole.num_rows)
    created_at = whole["created_at"].cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    table = whole.set_column(whole.schema.get_field_index("created_at"), "created_at", created_at)
    for item in count.count_block(plan.partition, Block(0, Input(""), 0, table)):
        assert not isinstance(item, Written)
        if item[1].num_rows:
            yield item


def once(posts: pa.Table) -> pa.Table:
    """Return posts without those whose id comes again further down on the same UTC day."""
    days, day = np.unique(posts["created_at"].to_numpy() // parse.DAY, return_inverse=True)
    stay = np.ones(posts.num_rows, np.bool_)
    for rows in shards.rows_of(day, len(days)):
        again = etl.come_again(etl.ids_of(posts["id"].take(pa.array(rows)), 0))["row"]
        stay[rows[again.to_numpy()]] = False
    return posts.filter(pa.array(stay))


def rank(named_: _Named, hours: Mapping[str, Iterable[pa.Table]]) -> Iterator[_Named]:
    """Yield the top words and URLs of a shard, and the totals of its words; hours: posts by hour, under "hours/0"."""
    name, table = named_
    kind, _, shard = name.partition("/")
    if kind == "urls":
        yield "urls", aggregate.rank_urls(table)
    elif kind == "words":
        posts = sum(pc.sum(each["posts"]).as_py() or 0 for each in hours["hours/0"])
        ranked, totals = aggregate.rank_words(table, posts, 0)
        yield "word_counts", ranked
        yield f"totals/{shard}", totals


def rank_pairs(named_: _Named, plan: Plan, totals: Mapping[str, Iterable[pa.Table]]) -> Iterator[_Named]:
    """Yield the top pairs of a shard; totals: of the words of each class of them, see rank()."""
    name, table = named_
    first, second = shards.members(int(name.partition("/")[2]), plan.shards)
    of_words = [each for number in sorted(first | second) for each in totals[f"totals/{number}"]]
    if of_words:
        yield "word_cooccur", aggregate.rank_pairs(pairs.of_table(table, 1, groups=2), of_words)[0]


def write(named_: tuple[str, Iterable[pa.Table]], plan: Plan) -> Iterator[tuple[str, _Named]]:
    """Write a table, given the top rows of each shard; yield how many rows it has. Pass on numbers."""
    name, tables = named_
    if name == "told":
        yield "", (name, count.add(list(tables)))
        return
    end = _EPOCH + plan.end * _MICROSECOND
    # A window that ends at midnight is of the day that ends there, as in the daily workflow.
    table = aggregate.whole(name, tables, end, day_of(plan.end - 1))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    path = plan.path(name)
    data = sink.getvalue().to_pybytes()
    files.replace(f"{path}.parquet", data)
    lines = (json.dumps(row, ensure_ascii=False, default=_plain) + "\n" for row in table.to_pylist())
    files.replace(f"{path}.jsonl", "".join(lines).encode())
    if dataset := plan.values["bigquery"]:
        job = f"millrace-{plan.run}-{name}"
        bigquery.replace_rows(f"{dataset}.{name}", TABLES[name], f"{path}.parquet", "ts", end, job)
    yield "", ("told", told(**{f"rows, {name}": table.num_rows}))


def _plain(value: Any) -> str:
    """Return a time as JSON and BigQuery have it."""
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime.datetime) else str(value)


def summarise(all_told: tuple[str, Iterable[_Named]], plan: Plan) -> None:
    """Write what the job was asked for and what it read, window.json, when all else is written."""
    numbers = count.add([table for _, table in all_told[1]])
    said = {name: plan.values[name] for name in plan.values}
    counts = dict(zip(*(numbers[name].to_pylist() for name in _TOLD.names), strict=True))
    text = json.dumps({**said, "counters": counts}, indent=2, ensure_ascii=False, sort_keys=True)
    files.replace(f"{plan.path('window')}.json", f"{text}\n".encode())


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Add the pipeline: posts by shard of their ids, counts by shard of their keys, tops, tables."""
    parameters = options.view_as(WindowOptions).values()
    elsewhere = engines.away(options.view_as(StandardOptions).runner or "", options.get_all_options(drop_default=True))
    # Shuffled, so that a step which is tried again gets the same plan.
    found = (
        pipeline | beam.Create([0]) | "Find" >> beam.FlatMap(find, parameters, elsewhere) | "Keep" >> beam.Reshuffle()
    )
    plan = AsSingleton(found | "Plan" >> beam.Map(lambda each: each[0]))
    units = found | "Units" >> beam.FlatMap(lambda each: enumerate(each[1])) | "Spread" >> beam.Reshuffle()
    days = found | "Days" >> beam.Map(lambda each: ("told", each[2])).with_output_types(_Named)
    posts = units | "Posts" >> beam.FlatMap(posts_of, plan).with_output_types(_Named)
    counts = (
        (days, posts)
        | "Read" >> beam.Flatten()
        | "By id" >> beam.GroupByKey()
        | "Count" >> beam.FlatMap(count_shard, plan).with_output_types(_Named)
        | "Add up" >> beam.CombinePerKey(Adding(count.add)).with_output_types(_Named)
    )
    hours = AsMultiMap(counts | "Hours" >> _only("hours"))
    ranked = counts | "Words and URLs" >> beam.FlatMap(rank, hours).with_output_types(_Named)
    totals = AsMultiMap(ranked | "Totals" >> _only("totals"))
    of_pairs = counts | "Only pairs" >> _only("pairs")
    ranked_pairs = of_pairs | "Pairs" >> beam.FlatMap(rank_pairs, plan, totals).with_output_types(_Named)
    empty = beam.Create([(name, aggregate.top(name, None)) for name in NAMES]).with_output_types(_Named)
    tops = ranked | "Tops" >> _only("word_counts", "urls")
    _ = (
        (pipeline | "Every table" >> empty, counts | "Told" >> _only("told"), tops, ranked_pairs)
        | "All" >> beam.Flatten()
        | "By table" >> beam.GroupByKey()
        | "Write" >> beam.FlatMap(write, plan).with_output_types(tuple[str, _Named])
        | "Together" >> beam.GroupByKey()
        | "Summarise" >> beam.Map(summarise, plan)
    )


def _only(*kinds: str) -> Any:
    """Return the step that passes on tables whose names are one of these, up to a /."""
    return beam.Filter(lambda each: each[0].partition("/")[0] in kinds).with_output_types(_Named)


if __name__ == "__main__":
    main(build, WindowOptions)

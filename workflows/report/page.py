"""Renders the page of one window of days, its data as JSON, its picture for mail, and the page that lists all days.

`report.json` is one object with sorted keys; what the page shows stands in it, in the page's order:

    schema      1: this description
    date        the window's last day, YYYY-MM-DD
    days        the window's length, in days
    window      {first, last: YYYY-MM-DD; end: the moment after the window, RFC 3339, UTC}
    made_at     when the page was made, RFC 3339, UTC
    sources     the posts' sources, as the settings name them
    rules       the name of the rules for words and URLs
    generated   whether the posts are the built-in sample's
    posts       posts in the window
    posts_by_hour  [{hour: RFC 3339, UTC; posts}], every hour of the window, also those of 0 posts
    words       [{word, percent: fraction of posts, 0 to 1}], the 30 of most posts
    urls        [{url, count}], the 25 most frequent, every occurrence counted
    pairs       [{w1, w2, count, log_weight}], the 40 of most weight
    posts_before  posts in the window before, against which pairs rise
    emerging    [{w1, w2, count, previous_count, z}], the 20 that rose most (z > 0); none where posts_before is 0
    emerging_state  "risen", "all new" (none of the ranked pairs occurs in the window before), "none" (nothing rose) or
                 "nothing before" (no posts in the window before, so nothing can rise)
    quality     {days: [{date, read, kept, other_days, duplicates, notices (if any), rejected: {reason: records}}],
                 total: the same without date, split_rejected: lines of archives that showed no day}
    stages      [{stage, date, rows, seconds, runner, code_version, job: string or null, code: "" where it is not
                 known, other_code: whether it is another code than the page's run had for the stage}]
    mixed_code  whether there is such a stage

Equal facts and rows give an equal page and equal JSON. The PNG has its letters drawn in, so it also depends on the
fonts that are installed: a letter that none of them has comes out as a box, and which of several is taken may vary.
"""

import datetime
import functools
import importlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from millrace import plain
from workflows.pages import HALF, NARROW, WIDE, Query, environment, json_bytes
from workflows.pages.stages import StageRun
from workflows.pages.texts import span_text
from workflows.report.data import Data, ask, first_day

if TYPE_CHECKING:
    import jinja2

__all__ = ["Facts", "IndexRow", "Quality", "index_row", "preload", "render", "render_index"]

SCHEMA = 1

_TEMPLATES = Path(__file__).parent / "templates"
_NETWORK_NARROW = 22


@dataclass(frozen=True)
class Quality:
    """What became of one day's records: read = kept + other_days + duplicates + notices + the sum of rejected.

    rejected: records by reason, a short name such as `bad_json`.
    """

    date: datetime.date
    read: int
    kept: int
    other_days: int
    duplicates: int
    rejected: Mapping[str, int]
    notices: int = 0


@dataclass(frozen=True)
class Facts:
    """What a page says beside its tables.

    date: the window's last day. days: the window's length, at least 1. sources: as the settings name them. rules: the
    name of the rules. generated: whether the posts are the built-in sample's. stages: what the page was made from.
    quality: one a day of the window. split_rejected: lines of archives that showed no day. posts_before: posts in the
    window before. made_at: with its time zone. Raises ValueError for days < 1 or a made_at without a time zone.
    """

    date: datetime.date
    days: int
    sources: Sequence[str]
    rules: str
    generated: bool
    stages: Sequence[StageRun]
    quality: Sequence[Quality]
    split_rejected: int
    posts_before: int
    made_at: datetime.datetime

    def __post_init__(self) -> None:
        """Raise ValueError for facts that no page can be made of."""
        if self.days < 1:
            raise ValueError(f"days is {self.days}: a window has at least 1 day")
        if self.made_at.utcoffset() is None:
            raise ValueError(f"made_at is {self.made_at.isoformat()}: it needs a time zone")


@dataclass(frozen=True)
class IndexRow:
    """One line of the list of days.

    link: the page, relative to the list. date: the window's last day. days: the window's length. posts: in the window.
    words: the top few. emerging: the pair that rose most, None when none did. generated: whether the posts are the
    built-in sample's.
    """

    link: str
    date: datetime.date
    days: int
    posts: int
    words: tuple[str, ...]
    emerging: tuple[str, str] | None
    generated: bool


def render(facts: Facts, query: Query) -> dict[str, bytes]:
    """Render a window's page.

    facts: what the tables do not say. query: runs BigQuery SQL with named parameters against the warehouse. Returns
    the files by name: `index.html` (self-contained), `report.json` (see this module) and `report.png` (1200 pixels
    wide). A window without posts gives a page that says so. Raises what `query` raises.
    """
    data = ask(query, facts.date, facts.days)
    if not facts.posts_before:
        data = replace(data, emerging=[])  # nothing rises where the window before had no posts
    report = _report(facts, data)
    charts, picture = _draw(facts, data)
    page = _templates().get_template("day.html.j2").render(_context(facts, data, report, charts))
    return {"index.html": page.encode(), "report.json": json_bytes(report), "report.png": picture}


def preload() -> None:
    """Import what draws and read the templates, for processes that come of this one. The converter of pictures is left
    out, because it may start threads, which no child has.
    """
    importlib.import_module("workflows.report.charts")
    for name in ("day.html.j2", "days.html.j2"):
        _templates().get_template(name)


def index_row(report_json: bytes, link: str) -> IndexRow:
    """Read a line of the list of days from the bytes of a `report.json`. link: its page, relative to the list.

    Raises ValueError, naming what is amiss, when the bytes are no JSON of this schema.
    """
    try:
        report = orjson.loads(report_json)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"report.json is not JSON: {error}") from error
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise ValueError(f"report.json is not of schema {SCHEMA}")
    try:
        risen = report["emerging"]
        return IndexRow(
            link=link,
            date=datetime.date.fromisoformat(report["date"]),
            days=int(report["days"]),
            posts=int(report["posts"]),
            words=tuple(str(row["word"]) for row in report["words"][:5]),
            emerging=(str(risen[0]["w1"]), str(risen[0]["w2"])) if risen else None,
            generated=bool(report["generated"]),
        )
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(f"report.json lacks what schema {SCHEMA} has: {error!r}") from error


def render_index(rows: Iterable[IndexRow]) -> bytes:
    """Render the page that lists all pages, newest first, of one day the longer windows first, each with its link.

    rows: one a page, in any order. Without rows the page says that there is no report yet.
    """
    ordered = sorted(rows, key=lambda row: (row.date, row.days), reverse=True)
    most = max((row.posts for row in ordered), default=0) or 1
    page: str = _templates().get_template("days.html.j2").render(rows=ordered, most=most)
    return page.encode()


def _draw(facts: Facts, data: Data) -> tuple[dict[str, str], bytes]:
    """Draw a page's pictures: SVG by name, only those that have something to show, and the PNG."""
    from workflows.pages import svg
    from workflows.report import charts

    span = span_text(first_day(facts.date, facts.days), facts.date)
    note = _posts(data.posts)
    if facts.generated:
        note += ", generated by the built-in sample"
    drawn: dict[str, str] = {}
    if data.posts:
        hourly = f"Posts per hour, {span}, UTC"
        drawn["hours"] = svg.inline(charts.hours(data.hours, WIDE, 228), hourly)
        drawn["hours_narrow"] = svg.inline(charts.hours(data.hours, NARROW, 188), hourly)
    if data.words:
        top = f"Top words by share of posts; first: {plain(data.words[0].word, 80)}"
        drawn["words"] = svg.inline(charts.words(data.words, HALF), top)
        drawn["words_narrow"] = svg.inline(charts.words(data.words, NARROW), top)
    if data.pairs:
        few = data.pairs[:_NETWORK_NARROW]
        joined = "Network of the {} heaviest pairs of words"
        drawn["network"] = svg.inline(charts.network(data.pairs, WIDE, 560), joined.format(len(data.pairs)))
        drawn["network_narrow"] = svg.inline(charts.network(few, NARROW, 440), joined.format(len(few)))
    if data.emerging:
        risen = "Pairs of words on the rise: posts in the window before, and now"
        drawn["emerging"] = svg.inline(charts.rising(data.emerging, HALF, 31), risen)
        drawn["emerging_narrow"] = svg.inline(charts.rising(data.emerging, NARROW), risen)
    return drawn, charts.png(charts.mail(span, note, data))


_COUNTS = ("read", "kept", "other_days", "duplicates", "notices")


def _report(facts: Facts, data: Data) -> dict[str, Any]:
    """Return a page's data as `report.json` has it."""
    quality = [_quality(day) for day in facts.quality]
    total: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    for day in facts.quality:
        total.update({name: getattr(day, name) for name in _COUNTS})
        rejected.update(day.rejected)
    end = datetime.datetime.combine(facts.date + datetime.timedelta(days=1), datetime.time(), datetime.UTC)
    return {
        "schema": SCHEMA,
        "date": facts.date,
        "days": facts.days,
        "window": {"first": first_day(facts.date, facts.days), "last": facts.date, "end": end},
        "made_at": facts.made_at.astimezone(datetime.UTC),
        "sources": list(facts.sources),
        "rules": facts.rules,
        "generated": facts.generated,
        "posts": data.posts,
        "posts_by_hour": [{"hour": row.start, "posts": row.posts} for row in data.hours],
        "words": [asdict(row) for row in data.words],
        "urls": [asdict(row) for row in data.urls],
        "pairs": [{"w1": row.w1, "w2": row.w2, "count": row.count, "log_weight": row.log_weight} for row in data.pairs],
        "emerging": [asdict(row) for row in data.emerging],
        "emerging_state": _emerging_state(facts, data),
        "posts_before": facts.posts_before,
        "quality": {
            "days": quality,
            "total": {
                **_counts(Quality(facts.date, rejected=rejected, **{name: total[name] for name in _COUNTS})),
                "rejected": dict(rejected),
            },
            "split_rejected": facts.split_rejected,
        },
        "stages": [asdict(run) for run in facts.stages],
        "mixed_code": any(run.other_code for run in facts.stages),
    }


def _emerging_state(facts: Facts, data: Data) -> str:
    if not facts.posts_before:
        return "nothing before"
    if not data.emerging:
        return "none"
    return "risen" if data.seen_before else "all new"


def _quality(day: Quality) -> dict[str, Any]:
    return {"date": day.date, **_counts(day), "rejected": dict(day.rejected)}


def _counts(day: Quality) -> dict[str, int]:
    """Return what became of a day's records; notices, which few sources have, only where there are any."""
    return {name: getattr(day, name) for name in _COUNTS if name != "notices" or day.notices}


def _context(facts: Facts, data: Data, report: dict[str, Any], charts: dict[str, str]) -> dict[str, Any]:
    """Return what the template needs; the charts, made here and of known elements, are its only markup."""
    import markupsafe

    first = first_day(facts.date, facts.days)
    busiest = max(data.hours, key=lambda hour: hour.posts)
    total = report["quality"]["total"]
    return {
        "facts": facts,
        "data": data,
        "report": report,
        "charts": {name: markupsafe.Markup(text) for name, text in charts.items()},
        "span": span_text(first, facts.date),
        "before": span_text(
            first - datetime.timedelta(days=facts.days),
            first - datetime.timedelta(days=1),
        ),
        "time_before": _time_before(facts.days),
        "busiest": busiest if busiest.posts else None,
        "total": total,
        "total_rejected": sum(total["rejected"].values()),
        "reasons": sorted(total["rejected"], key=lambda reason: (-total["rejected"][reason], reason)),
        "stages": _grouped(facts.stages),
        "made_at": facts.made_at.astimezone(datetime.UTC),
    }


def _grouped(runs: Sequence[StageRun]) -> list[dict[str, Any]]:
    """Sum up runs by stage, in the order in which the stages come first."""
    stages: dict[str, list[StageRun]] = {}
    for run in runs:
        stages.setdefault(run.stage, []).append(run)
    return [
        {
            "stage": stage,
            "count": len(same),
            "first": min(run.date for run in same if run.date),
            "last": max(run.date for run in same if run.date),
            "rows": sum(run.rows for run in same),
            "seconds": sum(run.seconds for run in same),
            "runners": sorted({run.runner for run in same}),
            "versions": sorted({run.code_version for run in same}),
            "codes": sorted({run.code for run in same if run.code}),
            "other": sum(run.other_code for run in same),
        }
        for stage, same in stages.items()
    ]


@functools.cache
def _templates() -> "jinja2.Environment":
    from workflows.report import links

    made = environment(_TEMPLATES)
    made.filters.update(posts=_posts, link=links.link)
    return made


def _time_before(days: int) -> str:
    return "on the day before" if days == 1 else f"in the {'week' if days == 7 else f'{days} days'} before"


def _posts(count: int) -> str:
    return "1 post" if count == 1 else f"{count:,} posts"

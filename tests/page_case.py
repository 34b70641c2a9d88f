"""What tests of the page share: tables with hostile rows, a warehouse that holds them, the facts of a window."""

import datetime
import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import duckdb
import pyarrow as pa
from sqlglot import exp

import bigquery_sql
from workflows.pages import Query
from workflows.pages.stages import StageRun
from workflows.report import page

DATE = datetime.date(2026, 11, 19)
DAYS = 7
END = datetime.datetime(2026, 11, 20, tzinfo=datetime.UTC)
HOSTILE = "<img src=x onerror=alert(1)>"
SCRIPT = "</text></svg><script>alert(2)</script>"

Rows = list[dict[str, Any]]
COLUMNS: dict[str, dict[str, pa.DataType]] = {
    "word_counts": {"word": pa.string(), "percent": pa.float64()},
    "urls": {"url": pa.string(), "count": pa.int64()},
    "word_cooccur": {"w1": pa.string(), "w2": pa.string(), "count": pa.int64(), "log_weight": pa.float64()},
    "emerging_pairs": {
        "w1": pa.string(),
        "w2": pa.string(),
        "count": pa.int64(),
        "previous_count": pa.int64(),
        "z": pa.float64(),
    },
    "posts_by_hour": {"hour": pa.timestamp("us", "UTC"), "posts": pa.int64()},
}
# Words that are something else to HTML, to SVG or to JavaScript, and words that are hard to set.
WORDS = [
    *(HOSTILE, SCRIPT, "null", "undefined", "NaN", "__proto__", "constructor", "a.b[0]", "datum.word", "$signal"),
    *("{{7*7}}", "&amp;", "]]>", "東京", "مرحبا", "שלום", "😀👩‍👩‍👧", "Donaudampfschifffahrtsgesellschaftskapitän" * 4),
    *("é", "'", '"', "\u202etxt", "\x01\ufffe", "-", "2026-11-19", "1e9", "true", "\\u0000", "a\nb", " "),
]


def warehouse(**tables: Rows) -> Query:
    """Give a warehouse of these tables' rows (each of DATE unless it says another), asked in BigQuery's dialect."""
    connection = duckdb.connect()
    for name, columns in COLUMNS.items():
        schema = pa.schema({**columns, "ts": pa.timestamp("us", "UTC"), "date": pa.date32()})
        rows = pa.Table.from_pylist([{"ts": END, "date": DATE, **row} for row in tables.get(name, [])], schema=schema)
        connection.register("rows", rows)
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM rows")
        connection.unregister("rows")

    def query(sql: str, parameters: Mapping[str, object]) -> pa.Table:
        given = {name: literal for name, value in parameters.items() if (literal := bigquery_sql.literal(value))}
        (statement,) = bigquery_sql.parse(sql)
        assert isinstance(statement, exp.Query)
        with connection.cursor() as asked:  # which has functions of its own
            asked.execute("SET TimeZone = 'America/New_York'")
            return bigquery_sql.fetch(asked, bigquery_sql.translate(asked, statement, given))[0]

    return query


def hours(*posts: tuple[int, int]) -> Rows:
    """Give rows of posts_by_hour: (hours after the window's start, posts)."""
    start = END - datetime.timedelta(days=DAYS)
    return [{"hour": start + datetime.timedelta(hours=hour), "posts": count} for hour, count in posts]


def full(**instead: Rows) -> dict[str, Rows]:
    """Give tables with more rows than the page shows, hostile ones on top, and another day's that it must not show."""
    other = {"date": DATE - datetime.timedelta(days=1)}
    words = [{"word": word, "percent": 0.5 - rank / 100} for rank, word in enumerate(WORDS)]
    pairs = [
        {"w1": one, "w2": two, "count": 90 - rank, "log_weight": 99.5 - rank}
        for rank, (one, two) in enumerate(zip(WORDS * 2, (WORDS * 2)[1:], strict=False))
    ]
    rises = [{**pair, "previous_count": rank % 5, "z": 9 - rank / 5} for rank, pair in enumerate(pairs)]
    for rise in rises:
        del rise["log_weight"]
    urls = ["javascript:alert(1)", " https://x.example/", HOSTILE, "data:text/html,<script>alert(3)</script>"]
    urls += ['https://a.example/"onmouseover="alert(4)', "HTTP://B.example/", "https://c.example/" + "long/" * 200]
    urls += [
        "https://ann:secret@d.example/x",
        "https://pаypal.example/",
        "https://e.example/\u202egpj.exe",
    ]  # a Cyrillic а
    urls += [f"https://{number:02}.example/" for number in range(30)]
    return {
        "word_counts": [*words, {"word": "rare", "percent": 0.001}, {"word": "yesterday", "percent": 1.0, **other}],
        "urls": [{"url": url, "count": 50 - rank} for rank, url in enumerate(urls)]
        + [{"url": "https://yesterday.example/", "count": 999, **other}],
        "word_cooccur": [*pairs, {"w1": "yesterday", "w2": "z", "count": 999, "log_weight": 999.0, **other}],
        "emerging_pairs": [
            *rises,
            {"w1": "yesterday", "w2": "z", "count": 999, "previous_count": 1, "z": 99.0, **other},
        ],
        "posts_by_hour": [*hours((0, 3), (5, 40), (167, 7)), {"hour": END, "posts": 999, **other}],
        **instead,
    }


def facts() -> page.Facts:
    """Give the facts of a window in which something happened to the records of every day."""
    days = [DATE - datetime.timedelta(days=back) for back in reversed(range(DAYS))]
    usual = ("FnApiRunner", "abc123", None, "9a11")
    stages = [StageRun(stage, day, 100, 1.5, *usual) for stage in ("Fetch", "Etl") for day in days]
    stages[-2:] = [replace(run, code="3f2c", other_code=True) for run in stages[-2:]]
    stages.append(StageRun("Aggregate", DATE, 1200, 75.0, "DataflowRunner", "def456", "job-7"))
    quality = [page.Quality(day, 100, 80, 3, 5, {"bad_json": 10, "no_\u200bid": 2}) for day in days]
    stages.append(StageRun("Co\x1b[31munt", DATE, 1, 1.0, "Runner\u202e", "<b>1</b>", "job\x9b2J"))
    made = datetime.datetime(2026, 11, 20, 1, 2, 3, tzinfo=datetime.UTC)
    return page.Facts(
        DATE, DAYS, ["sample://", "/data/\x1b]0;x\x07<i>"], "standard", True, stages, quality, 17, 900, made
    )


@functools.cache
def rendered() -> dict[str, bytes]:
    """Give the files of the page of full(), which takes seconds to draw; not to be changed."""
    return page.render(facts(), warehouse(**full()))

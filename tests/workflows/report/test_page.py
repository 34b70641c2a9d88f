"""The page of a window: what it says, that it asks for nothing, and that no post can make it do anything."""

import base64
import datetime
import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import sqlglot
from page_case import COLUMNS, DATE, DAYS, END, HOSTILE, SCRIPT, facts, full, hours, rendered, warehouse
from selenium import webdriver
from selenium.common.exceptions import NoAlertPresentException
from selenium.webdriver.common.by import By

from workflows.pages import letters
from workflows.pages.texts import percent_text, span_text
from workflows.report import layout, page

Show = Callable[[bytes], webdriver.Chrome]


@pytest.fixture
def show(browser: webdriver.Chrome, tmp_path: Path) -> Show:
    """Give a function that opens a page from a file; what the browser logged before is forgotten."""

    def opened(html: bytes) -> webdriver.Chrome:
        file = tmp_path / "index.html"
        file.write_bytes(html)
        for log in ("browser", "performance"):
            browser.get_log(log)  # type: ignore[no-untyped-call]
        browser.get(file.as_uri())
        return browser

    return opened


def requests(browser: webdriver.Chrome) -> list[str]:
    """Give the addresses that the browser asked for since the page was opened."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]  # type: ignore[no-untyped-call]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    return [request["request"]["url"] for request in sent]


def images(browser: webdriver.Chrome) -> list[str]:
    """Give the names of the pictures that the page shows at the window's width."""
    return [
        svg.get_attribute("aria-label") or ""
        for svg in browser.find_elements(By.CSS_SELECTOR, "svg[role=img]")
        if svg.is_displayed()
    ]


@pytest.mark.parametrize("width", [1280, 400])
def test_the_browser_shows_every_chart_and_asks_for_nothing(show: Show, width: int) -> None:
    """Each chart is drawn once at either width, nothing is wider than the window, no error, no request but the file."""
    html = rendered()["index.html"]
    shown = show(html)
    shown.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    names = images(shown)
    assert [name.split()[0] for name in names] == ["Posts", "Top", "Network", "Pairs"]
    for svg in shown.find_elements(By.CSS_SELECTOR, "svg[role=img]"):
        if svg.is_displayed():
            assert svg.size["width"] > 250
            assert svg.size["height"] > 100
            assert svg.find_elements(By.CSS_SELECTOR, "path, circle")
    assert shown.execute_script("return document.documentElement.scrollWidth") <= width
    assert shown.get_log("browser") == []  # type: ignore[no-untyped-call]
    asked = requests(shown)
    assert [url for url in asked if not url.startswith("data:")] == [shown.current_url]


def test_a_hostile_post_stays_text(show: Show) -> None:
    """Markup in words and URLs is shown as text: no element of it exists, no link runs it, no alert opens."""
    shown = show(rendered()["index.html"])
    with pytest.raises(NoAlertPresentException):
        _ = shown.switch_to.alert.text
    assert shown.find_elements(By.CSS_SELECTOR, "img, script, iframe, object, foreignObject, image, use") == []
    links = [link.get_dom_attribute("href") for link in shown.find_elements(By.TAG_NAME, "a")]
    outside = [href for href in links if href not in ("../index.html", "report.json", "report.png")]
    assert len(outside) == 19
    assert all(href.lower().startswith(("http://", "https://")) for href in outside)
    for link in shown.find_elements(By.CSS_SELECTOR, "ol.urls a"):
        assert link.get_dom_attribute("rel") == "noopener noreferrer nofollow"
    attributes = "[...document.querySelectorAll('*')].flatMap(e => [...e.attributes].map(a => a.name))"
    names: list[str] = shown.execute_script(f"return {attributes}")
    assert not [name for name in names if name.lower().startswith("on")]
    drawn = [text.get_attribute("textContent") or "" for text in shown.find_elements(By.CSS_SELECTOR, "svg text")]
    assert any(text.strip("\u2068\u2069").startswith("<img src=x") for text in drawn)
    assert HOSTILE in [cell.get_attribute("textContent") for cell in shown.find_elements(By.CSS_SELECTOR, "th bdi")]
    assert "javascript:alert(1)" in [text.text for text in shown.find_elements(By.CSS_SELECTOR, "ol.urls span.u")]


def test_words_are_only_ever_text_to_the_charts() -> None:
    """Words that mean something to a program (null, a.b, __proto__, dates) are drawn as they are, each in its row."""
    html = rendered()["index.html"].decode()
    for word in ("null", "undefined", "NaN", "__proto__", "constructor", "a.b[0]", "datum.word", "$signal", "{{7*7}}"):
        assert f">\u2068{word}\u2069</text>" in html
    drawn = re.findall(r"<svg .*?</svg>", html)
    assert len(drawn) == 8
    assert not any(sign in svg for svg in drawn for sign in ("\x01", "\ufffe", "\u202e", " id=", "url("))


def test_a_window_without_posts_is_a_page_that_says_so(show: Show) -> None:
    """With empty tables there is no picture and no error, and quality and stages still stand there."""
    files = page.render(facts(), warehouse())
    shown = show(files["index.html"])
    assert "No posts in this window" in shown.find_element(By.TAG_NAME, "body").text
    assert images(shown) == []
    assert "Data quality" in shown.find_element(By.TAG_NAME, "body").text
    assert shown.get_log("browser") == []  # type: ignore[no-untyped-call]
    report = json.loads(files["report.json"])
    assert report["posts"] == 0
    assert report["posts_by_hour"][0] == {"hour": "2026-11-13T00:00:00Z", "posts": 0}
    assert size(files["report.png"])[0] == 1200
    assert page.index_row(files["report.json"], "x.html") == page.IndexRow("x.html", DATE, DAYS, 0, (), None, True)


def test_posts_without_words_or_links_leave_those_charts_out(show: Show) -> None:
    """A window with posts, but no words, links, pairs or rises, shows its hours and says what there is not."""
    files = page.render(facts(), warehouse(posts_by_hour=hours((3, 1))))
    shown = show(files["index.html"])
    assert [name.split()[0] for name in images(shown)] == ["Posts"]
    text = shown.find_element(By.TAG_NAME, "body").text
    for said in ("No words", "No post of this window has a link", "No two words share a post", "Nothing rose"):
        assert said in text
    assert shown.get_log("browser") == []  # type: ignore[no-untyped-call]


def test_the_json_has_the_numbers_of_the_tables() -> None:
    """report.json repeats the tables' rows of the date: the top ones, in rank order, and sums that add up."""
    tables = full()
    report = json.loads(rendered()["report.json"])
    assert report["schema"] == 1
    assert report["window"] == {"first": "2026-11-13", "last": "2026-11-19", "end": "2026-11-20T00:00:00Z"}
    assert report["posts"] == 50
    by_hour = {row["hour"]: row["posts"] for row in report["posts_by_hour"]}
    assert len(by_hour) == 24 * DAYS
    assert {hour: posts for hour, posts in by_hour.items() if posts} == {
        "2026-11-13T00:00:00Z": 3,
        "2026-11-13T05:00:00Z": 40,
        "2026-11-19T23:00:00Z": 7,
    }
    assert report["words"] == tables["word_counts"][:30]
    assert report["urls"] == tables["urls"][:25]
    assert report["pairs"] == tables["word_cooccur"][:40]
    assert report["emerging"] == tables["emerging_pairs"][:20]
    assert report["emerging_state"] == "risen"
    total = report["quality"]["total"]
    assert total == {
        "read": 700,
        "kept": 560,
        "other_days": 21,
        "duplicates": 35,
        "rejected": {"bad_json": 70, "no_\u200bid": 14},
    }
    assert report["quality"]["split_rejected"] == 17
    assert len(report["stages"]) == 16
    assert [run["code"] for run in report["stages"] if run["other_code"]] == ["3f2c"] * 2
    assert report["mixed_code"]


def test_the_page_has_the_numbers_of_the_json(show: Show) -> None:
    """Quality totals, stages summed up by name, and the rising pairs stand on the page as in report.json."""
    shown = show(rendered()["index.html"])
    body = shown.find_element(By.TAG_NAME, "body").text
    assert "Total 700 560 21 35 84" in body
    assert "bad json 10 10 10 10 10 10 10 70" in body
    assert "17 lines of the archives showed no day" in body
    assert "Fetch 7, Fri 13 Nov to Thu 19 Nov 700 10.5 s FnApiRunner abc123 9a11\n" in body
    assert "Etl 7, Fri 13 Nov to Thu 19 Nov 700 10.5 s FnApiRunner abc123 3f2c, 9a11\n" in body
    assert "This page is of mixed code: Etl was made by other code than now on 2 of 7 days." in body
    assert "Aggregate Thu 19 Nov 1,200 75.0 s DataflowRunner def456" in body
    assert "These posts are generated" in body
    rises = shown.find_elements(By.CSS_SELECTOR, "[aria-labelledby=emerging] tbody tr")
    assert len(rises) == 20
    assert rises[2].text == "null + undefined 88 2 8.6"


def test_notices_are_a_column_where_there_are_some() -> None:
    """The sum that the table's caption states holds with them; without them nothing of them is on the page."""
    days = [replace(day, read=day.read + 7, notices=7) for day in facts().quality]
    made = page.render(replace(facts(), quality=days), warehouse(**full()))
    assert json.loads(made["report.json"])["quality"]["total"]["notices"] == 7 * len(days)
    assert "duplicates + notices + rejected." in made["index.html"].decode()
    assert '<th scope="col">Notices</th>' in made["index.html"].decode()
    assert "otices" not in page.render(facts(), warehouse(**full()))["index.html"].decode()


def test_only_generated_posts_carry_the_banner() -> None:
    """Posts of a real source are not called generated, nor a page of one code one of mixed code."""
    stages = [run for run in facts().stages if not run.other_code]
    html = page.render(replace(facts(), generated=False, stages=stages), warehouse())["index.html"].decode()
    assert "These posts are generated" not in html
    assert "mixed code" not in html


def test_pairs_that_did_not_rise_are_left_out_and_a_silent_past_is_told() -> None:
    """Only z > 0 rises; if no pair occurs in the window before, the page says so in words."""
    fell = {"w1": "a", "w2": "b", "count": 5, "previous_count": 50, "z": -3.0}
    same = {"w1": "a", "w2": "c", "count": 5, "previous_count": 5, "z": 0.0}
    odd = {"w1": "a", "w2": "d", "count": 5, "previous_count": 5, "z": float("nan")}
    files = page.render(facts(), warehouse(**full(emerging_pairs=[fell, same, odd])))
    assert json.loads(files["report.json"])["emerging"] == []
    assert json.loads(files["report.json"])["emerging_state"] == "none"
    assert "Nothing rose" in files["index.html"].decode()

    new = {"w1": "a", "w2": "b", "count": 5, "previous_count": 0, "z": 2.0}
    files = page.render(facts(), warehouse(**full(emerging_pairs=[new])))
    assert json.loads(files["report.json"])["emerging_state"] == "all new"
    assert "None of these pairs occurs in the window before" in files["index.html"].decode()

    few = warehouse(posts_by_hour=hours((3, 1)), emerging_pairs=[new])
    files = page.render(replace(facts(), posts_before=0), few)
    report = json.loads(files["report.json"])
    assert (report["emerging"], report["emerging_state"], report["posts_before"]) == ([], "nothing before", 0)
    assert "Nothing rose" not in files["index.html"].decode()
    assert page.index_row(files["report.json"], "x.html").emerging is None


def test_ties_are_broken_by_key() -> None:
    """Rows of equal rank come in the order of their keys, whatever order the warehouse holds them in."""
    tables = full(
        word_counts=[{"word": word, "percent": 0.1} for word in "cab"],
        urls=[{"url": f"https://{name}/", "count": 2} for name in "cab"],
        word_cooccur=[{"w1": a, "w2": b, "count": 2, "log_weight": 1.0} for a, b in ("bc", "ac", "ab")],
        emerging_pairs=[{"w1": a, "w2": b, "count": 2, "previous_count": 1, "z": 1.0} for a, b in ("bc", "ac", "ab")],
    )
    report = json.loads(page.render(facts(), warehouse(**tables))["report.json"])
    assert [row["word"] for row in report["words"]] == ["a", "b", "c"]
    assert [row["url"] for row in report["urls"]] == ["https://a/", "https://b/", "https://c/"]
    assert [row["w1"] + row["w2"] for row in report["pairs"]] == ["ab", "ac", "bc"]
    assert [row["w1"] + row["w2"] for row in report["emerging"]] == ["ab", "ac", "bc"]


def test_equal_input_gives_equal_bytes() -> None:
    """The page and its JSON follow from the facts and the rows alone."""
    one, other = rendered(), page.render(facts(), warehouse(**full()))
    assert one["index.html"] == other["index.html"]
    assert one["report.json"] == other["report.json"]


def test_pages_rendered_at_once_are_whole() -> None:
    """Threads that render side by side give the pages that one thread gives."""
    alone = rendered()["index.html"]
    with ThreadPoolExecutor(4) as pool:
        together = [pool.submit(page.render, facts(), warehouse(**full())) for _ in range(4)]
        assert all(future.result()["index.html"] == alone for future in together)


def test_a_page_is_the_same_whatever_the_zone_of_the_machine() -> None:
    """The page, its JSON and its picture are byte for byte those of UTC in zones far from it, east and west."""
    zones = ("UTC", "Asia/Kolkata", "America/New_York", "Pacific/Kiritimati")
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", _IN_ZONES, *zones],
        env={**os.environ, "PYTHONPATH": f"{root}:{root / 'tests'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    told = done.stdout.splitlines()
    assert [line.split()[0] for line in told] == list(zones)
    assert len({line.split()[1] for line in told}) == 4  # the machine's clock did show another hour
    assert len({tuple(line.split()[2:]) for line in told}) == 1


# A process of its own for each zone, since a clock that has been asked once keeps its zone; what they load, once.
_IN_ZONES = """
import datetime, hashlib, os, sys, time
import vl_convert
from page_case import facts, hours, warehouse
from workflows.report import charts, page

for zone in sys.argv[1:]:
    if (child := os.fork()) == 0:
        os.environ["TZ"] = zone
        time.tzset()
        words = [{"word": "calm", "percent": 0.5}]
        made = page.render(facts(), warehouse(word_counts=words, posts_by_hour=hours((0, 3), (5, 40), (167, 7))))
        digests = [hashlib.sha256(made[name]).hexdigest() for name in sorted(made)]
        print(zone, time.strftime("%d-%H:%M", time.localtime(0)), *digests, flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


def size(png: bytes) -> tuple[int, int]:
    """Read the width and height of a PNG, in pixels."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert png[-8:-4] == b"IEND"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_the_picture_for_mail_is_a_png_1200_pixels_wide(show: Show) -> None:
    """report.png is a whole PNG that a browser decodes, 1200 pixels wide."""
    png = rendered()["report.png"]
    width, height = size(png)
    assert width == 1200
    assert 1600 < height < 2200
    assert len(png) < 400_000
    shown = show(b"<img src='data:image/png;base64," + base64.b64encode(png) + b"'>")
    drawn = shown.execute_script("const i = document.images[0]; return [i.complete, i.naturalWidth, i.naturalHeight]")
    assert drawn == [True, width, height]


@pytest.mark.parametrize(
    ("days", "before"),
    [
        (1, "on the day before (18 November 2026)"),
        (7, "in the week before (6 – 12 November 2026)"),
        (31, "in the 31 days before (19 September – 19 October 2026)"),
    ],
)
def test_windows_of_other_lengths_have_their_hours(days: int, before: str) -> None:
    """A window of one day or of a month has 24 hours a day, and says so where nothing was posted before it."""
    one_post = [{"hour": END - datetime.timedelta(hours=9), "posts": 1}]
    files = page.render(replace(facts(), days=days, posts_before=0), warehouse(posts_by_hour=one_post))
    assert len(json.loads(files["report.json"])["posts_by_hour"]) == 24 * days
    assert f"No posts {before}, so nothing can rise." in files["index.html"].decode()


def test_the_list_of_days_links_each_page_newest_first(show: Show) -> None:
    """Each row links to its page, newest first, of one day the longer window first; its words are text."""
    row = page.index_row(rendered()["report.json"], "date=2026-11-19/index.html")
    assert row.posts == 50
    assert row.words[0] == HOSTILE
    assert row.emerging == (HOSTILE, SCRIPT)
    older = replace(row, link="date=2026-10-10/", date=DATE - datetime.timedelta(days=40), emerging=None)
    longer = replace(row, link="../reports_30d/date=2026-11-19/index.html", days=30)
    shown = show(page.render_index([older, row, longer]))
    links = [link.get_dom_attribute("href") for link in shown.find_elements(By.TAG_NAME, "a")]
    assert links == [longer.link, "date=2026-11-19/index.html", "date=2026-10-10/"]
    assert shown.find_elements(By.CSS_SELECTOR, "img, script") == []
    assert shown.get_log("browser") == []  # type: ignore[no-untyped-call]
    assert b"No report yet" in page.render_index([])


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"schema": 1, "date": "2026-11-19"}', b'{"schema": 1, "date": "x"}', b"\xff"]
)
def test_what_is_no_report_is_refused_by_name(content: bytes) -> None:
    """Bytes that are no report.json of this schema raise ValueError."""
    with pytest.raises(ValueError, match=r"report\.json"):
        page.index_row(content, "x.html")


def test_facts_that_make_no_page_are_refused() -> None:
    """A window of no days and a time without a zone raise ValueError."""
    with pytest.raises(ValueError, match="days is 0"):
        replace(facts(), days=0)
    with pytest.raises(ValueError, match="time zone"):
        replace(facts(), made_at=datetime.datetime(2026, 11, 20))


def test_a_failing_warehouse_fails_the_page() -> None:
    """What the query raises comes out of render."""

    def query(sql: str, parameters: Mapping[str, object]) -> pa.Table:
        raise LookupError("no such table")

    with pytest.raises(LookupError, match="no such table"):
        page.render(facts(), query)


def test_importing_the_package_loads_nothing_heavy() -> None:
    """The packages that draw are loaded by render, not by an import of the page's module."""
    code = (
        "import sys, workflows.report.page;"
        "heavy = {'vl_convert', 'jinja2', 'pyarrow', 'numpy'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=True)


def test_what_a_page_needs_can_be_had_before() -> None:
    """A process that has prepared itself loads nothing for a page but the converter of pictures and its tables."""
    code = (
        "import sys; sys.path.append('tests'); from workflows.report import page; import page_case; page.preload();"
        "before = {*sys.modules}; page_case.rendered();"
        "print(*sorted({name.partition('.')[0] for name in {*sys.modules} - before if not name.startswith('_')}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True
    )
    assert {"vl_convert"} <= {*ran.stdout.split()}
    assert not {"jinja2", "markupsafe", "numpy", "workflows"} & {*ran.stdout.split()}


def test_one_query_reads_only_the_partition_of_the_date() -> None:
    """A page is one query; each table it reads is filtered by @date in the same SELECT, so that BigQuery reads one
    partition.
    """
    asked: list[str] = []
    query = warehouse(**full())

    def counted(sql: str, parameters: Mapping[str, object]) -> pa.Table:
        asked.append(sql)
        return query(sql, parameters)

    page.render(facts(), counted)
    (sql,) = asked
    tables = list(sqlglot.parse_one(sql, read="bigquery").find_all(sqlglot.exp.Table))
    assert {table.name for table in tables} == {*COLUMNS}
    for table in tables:
        select = table.find_ancestor(sqlglot.exp.Select)
        assert select is not None
        where = select.args["where"].sql("bigquery")
        assert f"{table.alias}.date = @date".removeprefix(".") in where


def test_no_two_words_of_the_network_cover_each_other() -> None:
    """The layout leaves no two boxes overlapping, on the canvas, and is the same each time."""
    boxes = [(40.0 + 7 * (number % 9), 26.0) for number in range(45)]
    edges = [(number, number * number % 45, 1.0 + number) for number in range(1, 45) if number != number * number % 45]
    at = layout.place(boxes, edges, 1016, 560)
    assert at == layout.place(boxes, edges, 1016, 560)
    for one, ((x, y), (w, h)) in enumerate(zip(at, boxes, strict=True)):
        assert w / 2 - 0.1 <= x <= 1016 - w / 2 + 0.1
        assert h / 2 - 0.1 <= y <= 560 - h / 2 + 0.1
        for (x2, y2), (w2, h2) in zip(at[:one], boxes[:one], strict=True):
            assert abs(x - x2) >= (w + w2) / 2 - 0.2 or abs(y - y2) >= (h + h2) / 2 - 0.2
    assert layout.place([], [], 100, 100) == []


def test_names_are_cut_to_their_room() -> None:
    """A long name ends in an ellipsis; of a pair, the longer word is cut first."""
    assert letters.fit("short", 100, 13) == "\u2068short\u2069"
    assert letters.fit("x" * 99, 100, 13).endswith("…\u2069")
    assert letters.width(letters.fit("x" * 99, 100, 13)[1:-1], 13) <= 100
    assert letters.fit_pair(("ab", "y" * 99), 100, 13).startswith("\u2068ab\u2069 + \u2068yyy")


def test_spans_and_shares_read_well() -> None:
    """A span names no month or year twice; a share keeps the digits that say something."""
    date = datetime.date
    assert span_text(date(2026, 11, 19), date(2026, 11, 19)) == "19 November 2026"
    assert span_text(date(2026, 11, 13), date(2026, 11, 19)) == "13 – 19 November 2026"
    assert span_text(date(2026, 10, 28), date(2026, 11, 3)) == "28 October – 3 November 2026"
    assert span_text(date(2026, 12, 28), date(2027, 1, 3)) == "28 December 2026 – 3 January 2027"
    assert [percent_text(share) for share in (1.0, 0.1234, 0.0045, 0.00002)] == [
        "100.0 %",
        "12.3 %",
        "0.45 %",
        "0.002 %",
    ]

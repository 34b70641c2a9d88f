"""The pictures of a page, measured by a browser: what is drawn is as large as what it stands for, and can be read."""

import datetime
import functools
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import page_case
import pytest
import running
from hypothesis import given, settings
from hypothesis import strategies as st
from selenium import webdriver

from millrace.common.text import plain
from workflows.pages import letters, svg
from workflows.report import charts, page
from workflows.report.data import Data, Hour, Pair, Rising, Word

Box = dict[str, Any]
Measure = Callable[[bytes, int], dict[str, list[Box]]]

# The texts and shapes of each picture that is shown, in pixels of the picture, as the browser laid them out.
_MEASURE = """
const pictures = {};
const number = (e, name) => parseFloat(e.getAttribute(name));
for (const svg of document.querySelectorAll("svg[role=img]")) {
  if (!svg.getClientRects().length) continue;
  const box = svg.viewBox.baseVal;
  pictures[svg.getAttribute("aria-label").split(" ")[0]] = [
    {kind: "svg", x: 0, y: 0, width: box.width, height: box.height},
    ...[...svg.querySelectorAll("text, path, circle, line")].map(e => {
      const {x, y, width, height} = e.getBBox();
      const ends = ["x1", "y1", "x2", "y2", "cx", "cy", "r"].map(name => [name, number(e, name)]);
      return {kind: e.tagName, text: e.textContent, x, y, width, height, ...Object.fromEntries(ends),
              thick: number(e, "stroke-width"), colour: e.getAttribute("fill")};
    })];
}
return pictures;
"""
# For points of the plane, whether the area of the hours covers each.
_COVERED = """
const areas = [...document.querySelectorAll("svg[aria-label^='Posts per hour'] path[fill-opacity]")];
const area = areas.find(e => e.getClientRects().length);
return arguments[0].map(([x, y]) => area.isPointInFill(new DOMPoint(x, y)));
"""


@pytest.fixture
def measure(browser: webdriver.Chrome, tmp_path: Path) -> Measure:
    """Give a function that opens a page in a window of a width, and gives the shown pictures by their first word."""

    def measured(html: bytes, width: int) -> dict[str, list[Box]]:
        file = tmp_path / "index.html"
        file.write_bytes(html)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(file.as_uri())
        found: dict[str, list[Box]] = browser.execute_script(_MEASURE)
        return found

    return measured


@functools.cache
def busy() -> dict[str, bytes]:
    """Give a page of ordinary words in several scripts, and of numbers as large and as small as may be."""
    words = ["accelerators", "Überraschungsgast", "naïve", "погода", "πρόβλημα", "WWWWWWWWWWWWWWWWWWWWWWWW", "i" * 60]
    words += [f"word{number}" for number in range(23)]
    shares = [1.0, 0.5, 0.1, 0.02, 0.0004, 0.000001, 0.0]
    pairs = list(itertools.pairwise(words))
    rises = [(3_000_000, 0), (1_234_567, 1_000_000), (50, 2_000_000), (1, 0)]
    hours = page_case.hours(*((hour, hour * hour % 9_999_999) for hour in range(168)))
    tables: dict[str, page_case.Rows] = {
        "word_counts": [
            {"word": word, "percent": shares[number] if number < 7 else 0.0} for number, word in enumerate(words)
        ],
        "word_cooccur": [
            {"w1": one, "w2": two, "count": 9, "log_weight": 90.0 - number} for number, (one, two) in enumerate(pairs)
        ],
        "emerging_pairs": [
            {"w1": one, "w2": two, "count": count, "previous_count": before, "z": 9.0 - number}
            for number, ((one, two), (count, before)) in enumerate(zip(pairs, rises, strict=False))
        ],
        "posts_by_hour": hours,
    }
    return page.render(page_case.facts(), page_case.warehouse(**tables))


def bare(text: str) -> str:
    """Give a text without what shuts off its writing direction."""
    return text.replace("\u2068", "").replace("\u2069", "")


def of(kind: str, picture: list[Box]) -> list[Box]:
    return [each for each in picture if each["kind"] == kind]


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("made", [busy, page_case.rendered])
def test_every_name_and_number_can_be_read(measure: Measure, made: Callable[[], dict[str, bytes]], width: int) -> None:
    """No text covers another, and none leaves its picture, on a screen and on a phone."""
    pictures = measure(made()["index.html"], width)
    assert pictures.keys() == {"Posts", "Top", "Network", "Pairs"}
    for name, (whole, *shapes) in pictures.items():
        texts = [text for text in of("text", shapes) if text["width"]]
        assert len(texts) > 3
        for text in texts:
            where = f"{name}: {text}"
            assert -0.5 <= text["x"] <= text["x"] + text["width"] <= whole["width"] + 0.5, where
            assert -0.5 <= text["y"] <= text["y"] + text["height"] <= whole["height"] + 0.5, where
        for one, other in itertools.combinations(texts, 2):
            across = min(each["x"] + each["width"] for each in (one, other)) - max(one["x"], other["x"])
            down = min(each["y"] + each["height"] for each in (one, other)) - max(one["y"], other["y"])
            assert across < 1 or down < 1, f"{name}: {one} covers {other}"


@pytest.mark.parametrize("width", [1280, 400])
def test_bars_are_as_long_as_their_shares(measure: Measure, width: int) -> None:
    """Each word has its row, in order: its name, then a bar as long as its share, then the share."""
    made = busy()
    rows = json.loads(made["report.json"])["words"]
    picture = measure(made["index.html"], width)["Top"]
    texts, bars = of("text", picture), of("path", picture)
    names, shares = texts[::2], texts[1::2]
    assert len(names) == len(shares) == len(bars) == len(rows) == 30
    longest = bars[0]["width"]
    for row, name, bar, share in zip(rows, names, bars, shares, strict=True):
        assert row["word"].startswith(bare(name["text"]).removesuffix("…"))
        assert bar["width"] == pytest.approx(longest * row["percent"] / rows[0]["percent"], abs=0.05)
        assert bar["x"] == pytest.approx(bars[0]["x"], abs=0.02)
        assert name["x"] + name["width"] <= bar["x"] - 4
        assert bar["x"] + bar["width"] + 4 <= share["x"]
        assert name["y"] < bar["y"] + bar["height"] / 2 < name["y"] + name["height"]
    assert [share["text"] for share in shares[:7]] == [
        *("100.0 %", "50.0 %", "10.0 %", "2.0 %", "0.04 %", "0.0001 %", "0 %"),
    ]
    assert all(above["y"] + above["height"] < below["y"] for above, below in itertools.pairwise(bars))


@pytest.mark.parametrize("width", [1280, 400])
def test_the_hours_are_as_high_as_their_posts(measure: Measure, browser: webdriver.Chrome, width: int) -> None:
    """By the numbers and days that its axes name, the area ends at each hour's posts."""
    made = busy()
    hours = [row["posts"] for row in json.loads(made["report.json"])["posts_by_hour"]]
    picture = measure(made["index.html"], width)["Posts"]
    lines, texts = of("line", picture), of("text", picture)
    level = [line for line in lines if line["y1"] == line["y2"]]
    upright = [line for line in lines if line["x1"] == line["x2"]]
    numbers = [int(text["text"].replace(",", "")) for text in texts if text["text"].replace(",", "").isdigit()]
    days = [text for text in texts if text["text"][0].isalpha()]
    assert numbers == [10000, 20000]
    assert [text["text"].split()[:2] for text in days] == [
        [day, str(13 + number)] for number, day in enumerate(("Fri", "Sat", "Sun", "Mon", "Tue", "Wed", "Thu"))
    ]
    assert all(0 < day["x"] - line["x1"] < 5 for day, line in zip(days, upright, strict=True))
    (area, _) = of("path", picture)
    ground = area["y"] + area["height"]
    a_post = (ground - level[1]["y1"]) / 20000
    assert ground - level[0]["y1"] == pytest.approx(a_post * 10000, abs=1)
    an_hour = (upright[6]["x1"] - upright[0]["x1"]) / (6 * 24)
    for number, posts in enumerate(hours):
        x, y = upright[0]["x1"] + an_hour * (number + 0.5), ground - a_post * posts
        above, below = [x, y - 1], [x, y + 1]
        inside = browser.execute_script(_COVERED, [above, below])
        assert inside == [False, y + 1 < ground], (number, posts)


@pytest.mark.parametrize("width", [1280, 400])
def test_rises_lead_from_the_posts_before_to_those_now(measure: Measure, width: int) -> None:
    """Both dots of a pair stand where their posts are on one scale from 0 on, a line between them, the posts beside."""
    made = busy()
    rows = json.loads(made["report.json"])["emerging"]
    picture = measure(made["index.html"], width)["Pairs"]
    dots, lines, counts = of("circle", picture), of("line", picture), of("text", picture)[1::2]
    assert len(dots) == 2 * len(rows) == 8
    start, end = dots[0]["cx"], dots[1]["cx"]  # of 0 and of 3,000,000 posts, the most
    assert end - start > 50
    for row, before, now, line, count in zip(rows, dots[::2], dots[1::2], lines, counts, strict=True):
        for dot, posts in ((before, row["previous_count"]), (now, row["count"])):
            assert dot["cx"] == pytest.approx(start + (end - start) * posts / 3_000_000, abs=0.02)
            assert dot["cy"] == line["y1"] == line["y2"]
        assert (before["cx"], now["cx"]) == (line["x1"], line["x2"])
        assert count["text"] == f"{row['count']:,}"
        assert count["x"] > max(dot["x"] + dot["width"] for dot in (before, now))
    assert (dots[0]["colour"], dots[1]["colour"]) == ("#a9b6bf", "#c65d2e")  # those of the key above


@pytest.mark.parametrize("width", [1280, 400])
def test_the_network_joins_the_words_of_pairs(measure: Measure, width: int) -> None:
    """Each pair is a line between the dots of its words, heavier pairs thicker; each dot has its word above itself, and
    is as large as its share.
    """
    made = busy()
    report = json.loads(made["report.json"])
    picture = measure(made["index.html"], width)["Network"]
    dots, lines, names = of("circle", picture), of("line", picture), of("text", picture)
    at = {}
    for dot, name in zip(dots, names, strict=True):
        at[bare(name["text"])] = dot
        assert name["x"] + name["width"] / 2 == pytest.approx(dot["cx"], abs=0.6)
        assert 0 <= dot["y"] - name["y"] - name["height"] < 6
    pairs = [row for row in report["pairs"] if row["w1"] in at and row["w2"] in at]
    assert len(pairs) > 15
    joined = {(line["x1"], line["y1"], line["x2"], line["y2"]): line["thick"] for line in lines}
    thick = [
        joined[at[row["w1"]]["cx"], at[row["w1"]]["cy"], at[row["w2"]]["cx"], at[row["w2"]]["cy"]] for row in pairs
    ]
    assert thick == sorted(thick, reverse=True)
    assert len(lines) == (29 if width == 1280 else 22)
    shares = {row["word"]: row["percent"] for row in report["words"]}
    sizes = [at[word]["r"] for word in sorted(at.keys() & shares.keys(), key=lambda word: -shares[word])]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 2 * sizes[-1]


def test_a_day_and_a_year_have_axes(measure: Measure) -> None:
    """One day's axis names hours; that of 366 days as many days as there is room for."""
    one_post = page_case.warehouse(posts_by_hour=page_case.hours((167, 1)))
    for days, wide, narrow in (
        (
            1,
            ["00:00", "03:00", "06:00", "09:00", "12:00", "15:00", "18:00", "21:00"],
            ["00:00", "06:00", "12:00", "18:00"],
        ),
        (366, ["19 Nov", "17 Dec"], ["19 Nov", "8 Jan"]),
    ):
        made = page.render(replace(page_case.facts(), days=days), one_post)["index.html"]
        for width, expected in ((1280, wide), (400, narrow)):
            whole, *shapes = measure(made, width)["Posts"]
            texts = of("text", shapes)[1:]
            assert [text["text"] for text in texts][: len(expected)] == expected
            rooms = [(text["x"], text["x"] + text["width"]) for text in texts]
            assert all(end + 3 < start for (_, end), (start, _) in itertools.pairwise(rooms))
            assert rooms[-1][1] <= whole["width"] + 0.5


WORDS = [
    *(
        "accelerators",
        "WAVE",
        "illicit",
        "minimum",
        "The quick brown fox",
        "Größenwahn",
        "naïve café",
        "Łódź",
        "1,234.5 %",
    ),
    *("Надежда", "погода завтра", "Καλημέρα", "“so—called”…", "a_b[0]={x|y}", "@user #tag & more"),
]


def test_the_width_of_text_is_what_a_browser_takes(browser: webdriver.Chrome) -> None:
    """In a font like Helvetica, words of Latin letters are as wide as estimated, those of Greek and Cyrillic nearly."""
    browser.get("data:text/html,<svg xmlns='http://www.w3.org/2000/svg'><text font-size='100'></text></svg>")
    taken: list[float] = browser.execute_script(
        "const text = document.querySelector('text'); text.setAttribute('font-family', arguments[0]);"
        "text.style.fontKerning = 'none';"
        "return arguments[1].map(word => { text.textContent = word; return text.getComputedTextLength(); })",
        svg.FONT,
        ["iW@", *WORDS],
    )
    if taken.pop(0) != pytest.approx(100 * (0.222 + 0.944 + 1.015), rel=0.01):
        pytest.skip("this machine has no font like Helvetica")
    for word, width in zip(WORDS, taken, strict=True):
        latin = max(word) < "\u0180" or "“" in word
        assert letters.width(word, 100) == pytest.approx(width, rel=0.005 if latin else 0.08), word


def test_what_is_one_to_the_eye_is_not_cut_in_two() -> None:
    """A letter keeps its accents, and an emoji its parts, where a name is cut."""
    for one in ("e\u0301\u0327", "👩‍👩‍👧‍👦", "🇩🇪", "क्षि", "각"):
        cut = letters.fit(one * 40, 200, 13)
        assert cut.endswith("…\u2069")
        inside = cut[1:-2]
        assert inside
        assert inside == one * (len(inside) // len(one)), one
    assert letters.fit("x", 0, 13) == "\u2068…\u2069"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=90), min_size=2, max_size=4))
def test_any_word_is_text_of_a_picture(words: list[str]) -> None:
    """Whatever the words are, pictures are well-formed, of their own elements alone, and each word is a text."""
    start = datetime.datetime(2026, 11, 19, tzinfo=datetime.UTC)
    hours = [Hour(start + datetime.timedelta(hours=hour), hour) for hour in range(24)]
    shares = [Word(word, 0.5) for word in words]
    pairs = [Pair(one, two, 3, 2.5, 0.5, None) for one, two in itertools.pairwise(words)]
    rises = [Rising(one, two, 3, 1, 2.5) for one, two in itertools.pairwise(words)]
    mail = charts.mail(words[0], words[1], Data(hours, shares, [], pairs, rises, True))
    for picture in (mail, charts.network(pairs, 340, 440)):
        root = ElementTree.fromstring(svg.document(picture))
        kinds = {element.tag.rpartition("}")[2] for element in root.iter()}
        assert kinds <= {"svg", "g", "rect", "path", "line", "circle", "text"}
        drawn = [bare(text) for text in root.itertext()]
        for word in words:
            assert any(plain(word).startswith(text.removesuffix("…")) for text in drawn)
    named = ElementTree.fromstring(
        svg.inline(mail, words[0]).replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"')
    )
    assert len(named.attrib) == 7


_WITHOUT_FONTS = """
from workflows.pages import svg
from workflows.report import charts
words = [svg.text(word, 10, 20 * row) for row, word in enumerate(("", "calm", "storm"))]
blank, one, both = (charts.png(svg.Picture(200, 60, svg.together(*words[:count]))) for count in (1, 2, 3))
print(len({blank, one, both}))
"""


def test_letters_are_drawn_where_no_font_is_installed(tmp_path: Path) -> None:
    """In a container without fonts the picture for mail has its words all the same."""
    hidden = f'mount --bind {tmp_path} /usr/share/fonts && exec "$@"'
    apart = [running.need("unshare"), "--mount", "sh", "-c", hidden, "sh"]
    if subprocess.run([*apart, "true"], capture_output=True).returncode:
        running.absent("this system lets no process have mounts of its own (unshare -m)")
    ran = running.run([*apart, sys.executable, "-c", _WITHOUT_FONTS], running.ROOT, running.environment())
    assert ran.out == "3\n", ran


def test_the_style_sheet_knows_the_colours_of_the_pictures() -> None:
    """What it changes for a dark screen or for paper is drawn, so that no colour stays behind where one is changed."""
    html = busy()["index.html"].decode()
    named = re.findall(r'\[((?:fill|stroke)="#[0-9a-f]+")\]', html)
    assert len({*named}) == 9
    drawn = "".join(re.findall("<svg.*?</svg>", html + page_case.rendered()["index.html"].decode()))
    for colour in {*named} - {'fill="#7b5aa6"', 'stroke="#7b5aa6"'}:
        assert colour in drawn, colour
    assert charts.GROUPS[3] == "#7b5aa6"  # of the fourth group, which these pages do not have


def test_what_xml_can_not_hold_is_shown_as_such() -> None:
    """Control characters, lone surrogates and non-characters become U+FFFD, and markup is text, in attributes too."""
    odd = "\x00\x0b\ud800\ufffe<b>&amp;\"'\t\U0010ffff"
    drawn = ElementTree.fromstring(svg.text(odd, 1, 2, id=odd))
    shown = "\ufffd" * 4 + odd[4:]
    assert drawn.text == shown
    assert drawn.attrib == {"x": "1", "y": "2", "id": shown.replace("\t", " ")}


@pytest.mark.parametrize(
    ("value", "written"), [(0, "0"), (-0.001, "0"), (100, "100"), (0.1, "0.1"), (-3.456, "-3.46"), (1e6, "1000000")]
)
def test_numbers_are_short(value: float, written: str) -> None:
    """A number has two places at the most, no sign on 0 and no exponent."""
    assert svg.number(value) == written

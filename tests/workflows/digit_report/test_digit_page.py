"""The page of scored digits: its figures are those of plain numpy, and a browser shows them as large as they are."""

import base64
import datetime
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from selenium import webdriver
from selenium.webdriver.common.by import By
from sqlglot import exp

import bigquery_sql
from millrace.common.text import plain
from workflows.digit_report import charts, page
from workflows.digit_report.data import Share
from workflows.digit_report.pictures import picture
from workflows.pages import Query
from workflows.pages.stages import StageRun

HOSTILE = '"><img src=x onerror=alert(1)>\u202e</style><script>alert(2)</script>'
Show = Callable[[bytes, int], webdriver.Chrome]


def warehouse(digits: pa.Table, predictions: pa.Table) -> Query:
    """Give a warehouse of two tables, asked in BigQuery's dialect."""

    def query(sql: str, parameters: Mapping[str, object]) -> pa.Table:
        given = {name: literal for name, value in parameters.items() if (literal := bigquery_sql.literal(value))}
        (statement,) = bigquery_sql.parse(sql)
        assert isinstance(statement, exp.Query)
        with duckdb.connect() as asked:
            asked.register("digits", digits)
            asked.register("digit_predictions", predictions)
            return bigquery_sql.fetch(asked, bigquery_sql.translate(asked, statement, given))[0]

    return query


def facts(**instead: Any) -> page.Facts:
    """Give the facts of a page, of a hostile model, source, reasons and stages."""
    stage = StageRun("ScoreDigits", None, 400, 1.5, "Fn\x1bRunner", "<b>1</b>", "job\x9b2J", "3f2c", True)
    usual: dict[str, Any] = {
        "images": "digits",
        "predictions": "digit_predictions",
        "labelled": True,
        "source": f"/data/{HOSTILE}",
        "sample": False,
        "model": f"gs://models/{HOSTILE}.onnx",
        "digest": "6a40" * 16,
        "quality": [
            page.Quality("LoadDigits", 408, 407, {"null": 1}),
            page.Quality("ScoreDigits", 407, 400, {"length_": 2, "null": 4, HOSTILE: 1}),
        ],
        "stages": [stage],
        "made_at": datetime.datetime(2026, 11, 20, 1, 2, 3, tzinfo=datetime.UTC),
    }
    return page.Facts(**usual | instead)


def probabilities() -> NDArray[np.float64]:
    """Give what a model that is often wrong says of 400 images, as sure as may be of some and of one not at all."""
    made = np.random.default_rng(7).dirichlet(np.ones(10) * 0.4, 400)
    made[:, 3] *= 0.05  # hardly any is taken for a 3
    made[0] = 0.1
    made[350:360] = 10 + made[350:360]  # little certain, each in its way
    made[370:] = np.linspace(1, 2, 10)  # a little more certain, all alike, and more than are drawn
    made[1], made[2] = np.eye(10)[4], np.eye(10)[5]
    scaled: NDArray[np.float64] = made / made.sum(axis=1, keepdims=True)
    return scaled


def labels() -> NDArray[np.int64]:
    """Give labels that are right for about half of the images; none is an 8."""
    chance = np.random.default_rng(8)
    made = np.where(chance.random(400) < 0.5, probabilities().argmax(1), chance.integers(0, 10, 400))
    return np.where(made == 8, 9, made)


def ink(number: int) -> list[float]:
    """Give an image of its own for each number: a bar that begins in another place."""
    return [float(number % 28 <= pixel % 28 < number % 28 + 5) * 0.6 for pixel in range(784)]


def tables(
    known: NDArray[np.bool_] | None = None, image: Callable[[int], Any] | None = None
) -> tuple[pa.Table, pa.Table]:
    """Give both tables, their rows in different orders; known: which images have a label."""
    found = probabilities()
    given = [int(label) if known is None or known[at] else None for at, label in enumerate(labels())]
    drawn = [(image or (lambda number: ",".join(map(str, ink(number)))))(number) for number in range(400)]
    digits = pa.table({"id": range(400), "image": drawn, "label": pa.array(given, pa.int64())})
    columns = {f"p{digit}": found[:, digit] for digit in range(10)}
    made = pa.table({"id": range(400), **columns, "digit": found.argmax(1), "model": [HOSTILE] * 400})
    return digits, made.take(list(range(399, -1, -1)))


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    """The page of images that all have labels, the two first excepted."""
    return page.render(facts(), warehouse(*tables(np.arange(400) > 1)))


@pytest.fixture
def show(browser: webdriver.Chrome, tmp_path: Path) -> Show:
    """Give a function that opens a page in a window of a width; what the browser logged before is forgotten."""

    def opened(html: bytes, width: int) -> webdriver.Chrome:
        file = tmp_path / "index.html"
        file.write_bytes(html)
        for log in ("browser", "performance"):
            browser.get_log(log)  # type: ignore[no-untyped-call]
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(file.as_uri())
        return browser

    return opened


def test_the_figures_are_those_of_plain_numpy(made: dict[str, bytes]) -> None:
    """Accuracy, confusion, recall, precision and the calibration error are what numpy makes of the same rows; images
    without a label count in none of them.
    """
    report = json.loads(made["report.json"])
    found, label = probabilities()[2:], labels()[2:]
    digit, sure = found.argmax(1), found.max(1)
    matrix = np.zeros((10, 10), int)
    np.add.at(matrix, (label, digit), 1)
    assert report["confusion"] == matrix.tolist()
    assert report["predicted"] == np.bincount(probabilities().argmax(1), minlength=10).tolist()
    assert report["labelled"] == 398
    assert report["images"]["scored"] == 400
    right = (digit == label).mean()
    assert report["accuracy"]["value"] == pytest.approx(right, abs=1e-12)
    for each in report["digits"]:
        number = each["digit"]
        for name, mine, of in (("recall", digit, label), ("precision", label, digit)):
            if (of == number).any():
                assert each[name]["value"] == pytest.approx((mine[of == number] == number).mean(), abs=1e-12)
            else:
                assert each[name] is None
    assert report["digits"][8]["recall"] is None
    tenth = np.minimum((sure * 10).astype(int), 9)
    apart = [
        abs(sure[tenth == n].mean() - (digit == label)[tenth == n].mean()) * (tenth == n).sum() for n in set(tenth)
    ]
    assert report["calibration"]["error"] == pytest.approx(sum(apart) / 398, abs=1e-12)
    known = [row["labelled"] for row in report["calibration"]["tenths"]]
    assert known == np.bincount(tenth, minlength=10).tolist()
    order = np.lexsort((np.arange(400), probabilities().max(1)))[:24]
    assert [row["id"] for row in report["least_certain"]] == order.tolist()
    assert report["least_certain"][0]["label"] is None


def test_intervals_are_wilsons() -> None:
    """The interval of 9,907 of 10,000 is the known one, and those of none and of all end at 0 and at 1."""
    low, high = Share(9907, 10000).interval or (0, 0)
    assert (round(low, 5), round(high, 5)) == (0.98862, 0.99240)
    for part, ends in ((0, (0.0, 0.27753)), (10, (0.72247, 1.0))):
        assert Share(part, 10).interval == pytest.approx(ends, abs=1e-5)
    assert Share(0, 0).interval is None


@pytest.mark.parametrize("width", [1280, 390])
def test_the_browser_shows_the_page_and_asks_for_nothing(made: dict[str, bytes], show: Show, width: int) -> None:
    """Nothing is wider than the window, no error, no request but the file; the matrix fits, its cells are alike and its
    numbers have room; hostile names are text.
    """
    shown = show(made["index.html"], width)
    assert shown.execute_script("return document.documentElement.scrollWidth") <= width
    assert shown.get_log("browser") == []  # type: ignore[no-untyped-call]
    sent = [json.loads(entry["message"])["message"] for entry in shown.get_log("performance")]  # type: ignore[no-untyped-call]
    asked = [each["params"]["request"]["url"] for each in sent if each["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [shown.current_url]
    assert shown.find_elements(By.CSS_SELECTOR, "script, iframe, .least img[onerror], img[src=x]") == []
    assert HOSTILE.replace("\u202e", "\ufffd") in shown.find_element(By.CSS_SELECTOR, "#model + dl").text
    assert "LoadDigits 408 407 1\nScoreDigits 407 400 7" in shown.find_element(By.CSS_SELECTOR, "#quality ~ div").text
    reasons = shown.find_element(By.CSS_SELECTOR, "#quality ~ h3 ~ div tbody").text
    assert reasons.startswith("null 1 4\nlength 0 2\n")
    cells = shown.execute_script(
        "return [...document.querySelectorAll('.matrix tbody td')].map(e => {"
        "const range = document.createRange(); range.selectNodeContents(e);"
        "return [e.getBoundingClientRect().width, range.getBoundingClientRect().width]; })"
    )
    assert len(cells) == 100
    assert max(cell for cell, _ in cells) - min(cell for cell, _ in cells) < 1.5
    assert all(text < cell for cell, text in cells)
    matrix, region = (shown.find_element(By.CSS_SELECTOR, name).size["width"] for name in (".matrix", ".scroll"))
    assert matrix <= region


def test_the_page_has_the_figures_of_the_json(made: dict[str, bytes], show: Show) -> None:
    """The matrix, what was right in a colour of its own, more of a row in a stronger one; the figures of each digit;
    and under each picture the first and the second choice and the label, marked where it is another.
    """
    report = json.loads(made["report.json"])
    shown = show(made["index.html"], 1280)
    cells = shown.execute_script(
        "const cells = [...document.querySelectorAll('.matrix tbody td')];"
        "return cells.map(e => [parseInt(e.textContent), [...e.classList]]);"
    )
    assert [images for images, _ in cells] == [images for row in report["confusion"] for images in row]
    for at, (images, classes) in enumerate(cells):
        row = report["confusion"][at // 10]
        share = images / sum(row) if images else 0
        steps = (0.002, 0.01, 0.03, 0.1, 0.5)
        assert classes[0] == (f"h{1 + sum(share > step for step in steps)}" if images else "h0")
        assert ("right" in classes) == (at // 10 == at % 10)
    strengths = shown.execute_script(
        "const cell = document.querySelector('.matrix td.h0'); return [1, 2, 3, 4, 5, 6].map(step => {"
        "cell.className = `h${step}`; return parseFloat(getComputedStyle(cell).backgroundColor.split('/')[1]); })"
    )
    assert strengths == sorted(set(strengths))
    lines = shown.find_elements(By.CSS_SELECTOR, "#each ~ div tbody tr")
    for line, each in zip(lines, report["digits"], strict=True):
        shares = [each[name] or {"of": 0, "correct": 0} for name in ("recall", "precision")]
        percent = [100 * part for share in shares if share["of"] for part in (share["value"], *share["interval"])]
        expected = [each["digit"], shares[0]["of"], shares[1]["of"], shares[0]["correct"], *percent]
        assert [float(number) for number in re.findall(r"[\d.]+", line.text)] == pytest.approx(expected, abs=0.006)
    for row, item in zip(report["least_certain"], shown.find_elements(By.CSS_SELECTOR, ".least li"), strict=True):
        found = row["probabilities"]
        other = max((digit for digit in range(10) if digit != row["digit"]), key=found.__getitem__)
        first, second = (f"{digit} {100 * found[digit]:.1f} %" for digit in (row["digit"], other))
        label = {None: [], row["digit"]: [f"is {row['label']}"]}.get(row["label"], [f"but is {row['label']}"])
        assert item.text.splitlines() == [first, second, *label, f"id {row['id']}"]
        marked = [mark.text for mark in item.find_elements(By.CSS_SELECTOR, ".wrong")]
        assert marked == [text for text in label if text.startswith("but")]


@pytest.mark.parametrize("width", [1280, 390])
def test_the_curve_is_where_its_figures_are(made: dict[str, bytes], show: Show, width: int) -> None:
    """By the percentages that the axes name, each tenth with labels has its dot at its confidence and accuracy, and a
    line from end to end of its interval; columns are as high as their images.
    """
    tenths = json.loads(made["report.json"])["calibration"]["tenths"]
    shapes = show(made["index.html"], width).execute_script(
        "const svg = [...document.querySelectorAll('svg[role=img]')].find(e => e.getClientRects().length);"
        "const number = (e, n) => parseFloat(e.getAttribute(n));"
        "const whole = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / whole.width;"
        "return [...svg.querySelectorAll('circle, line, rect, text')].map(e => { const b = e.getBoundingClientRect();"
        "return {kind: e.tagName, text: e.textContent, cx: number(e, 'cx'), cy: number(e, 'cy'), x1: number(e, 'x1'),"
        "y1: number(e, 'y1'), x2: number(e, 'x2'), y2: number(e, 'y2'), thick: number(e, 'stroke-width'),"
        "x: (b.x - whole.x) * scale, y: (b.y - whole.y) * scale, width: b.width * scale, height: b.height * scale,"
        "room: whole.width * scale}; })"
    )
    lines = [each for each in shapes if each["kind"] == "line"]
    ideal = next(each for each in lines if each["x1"] != each["x2"] and each["y1"] != each["y2"])

    def place(sure: float, right: float) -> tuple[Any, Any]:
        x = ideal["x1"] + (ideal["x2"] - ideal["x1"]) * sure
        return pytest.approx(x, abs=0.02), pytest.approx(ideal["y1"] + (ideal["y2"] - ideal["y1"]) * right, abs=0.02)

    with_labels = [row for row in tenths if row["labelled"]]
    dots = [each for each in shapes if each["kind"] == "circle"]
    intervals = [each for each in lines if each["thick"] == 3]
    assert len(dots) == len(intervals) == len(with_labels) >= 8
    for row, dot, line in zip(with_labels, dots, intervals, strict=True):
        assert (dot["cx"], dot["cy"]) == place(row["confidence"], row["correct"] / row["labelled"])
        low, high = Share(row["correct"], row["labelled"]).interval or (0, 0)
        assert (line["x1"], line["y1"]) == place(row["confidence"], low)
        assert (line["x2"], line["y2"]) == place(row["confidence"], high)
    columns, counts = (
        [each for each in shapes if each["kind"] == "rect"],
        [row["images"] for row in tenths if row["images"]],
    )
    most = max(range(len(counts)), key=counts.__getitem__)
    for column, count in zip(columns, counts, strict=True):
        assert column["height"] == pytest.approx(columns[most]["height"] * count / counts[most], abs=0.02)
    texts = [each for each in shapes if each["kind"] == "text"]
    for name, y in (("0 %", ideal["y1"]), ("100 %", ideal["y2"])):
        left, below = (text for text in texts if text["text"] == name)
        assert left["y"] + left["height"] / 2 == pytest.approx(y, abs=2)
        assert below["x"] <= (ideal["x1"] if name == "0 %" else ideal["x2"]) + 1 <= below["x"] + below["width"] + 2
    assert [each["text"] for each in texts if each["text"].isdigit()] == [str(row["images"]) for row in tenths]
    for at, one in enumerate(texts):
        assert -0.5 <= one["x"] <= one["room"] + 0.5 - one["width"], one
        for other in texts[at + 1 :]:
            across = min(each["x"] + each["width"] for each in (one, other)) - max(one["x"], other["x"])
            down = min(each["y"] + each["height"] for each in (one, other)) - max(one["y"], other["y"])
            assert across < 1 or down < 1, (one, other)


@pytest.mark.parametrize("kind", ["text", "numbers", "bytes"])
def test_the_least_certain_are_drawn_as_they_are(show: Show, kind: str) -> None:
    """A browser decodes each picture to the image's pixels, dark ink on white, whatever the table holds images as."""
    shapes: dict[str, Callable[[int], Any]] = {
        "text": lambda number: ",".join(map(str, ink(number))),
        "numbers": ink,
        "bytes": lambda number: bytes(round(255 * pixel) for pixel in ink(number)),
    }
    made = page.render(facts(), warehouse(*tables(image=shapes[kind])))
    drawn = show(made["index.html"], 1280).execute_script(
        "return [...document.querySelectorAll('.least img')].map(image => { const c = document.createElement('canvas');"
        "c.width = image.naturalWidth; c.height = image.naturalHeight; const d = c.getContext('2d');"
        "d.drawImage(image, 0, 0); const all = [...d.getImageData(0, 0, c.width, c.height).data];"
        "return [image.alt, c.width, c.height, all.filter((_, at) => at % 4 == 0)]; })"
    )
    least = json.loads(made["report.json"])["least_certain"]
    assert len(drawn) == len(least) == 24
    for row, (alt, width, height, levels) in zip(least, drawn, strict=True):
        assert (alt, width, height) == (f"Image {row['id']}", 28, 28)
        assert levels == [102 if pixel else 255 for pixel in ink(row["id"])]


def test_without_labels_there_is_no_accuracy(show: Show) -> None:
    """The page says that no image has a label, and shows what was taken for what and how sure the model was."""
    made = page.render(facts(), warehouse(*tables(np.zeros(400, bool))))
    report = json.loads(made["report.json"])
    assert (report["accuracy"], report["confusion"], report["digits"], report["calibration"]["error"]) == (None,) * 4
    shown = show(made["index.html"], 390)
    said = shown.find_element(By.TAG_NAME, "body").text
    assert "no image has a label" in said
    assert "Images that were taken for each digit." in said
    assert shown.find_elements(By.CSS_SELECTOR, ".matrix, circle") == []
    assert len(shown.find_elements(By.CSS_SELECTOR, ".least img")) == 24
    assert shown.execute_script("return document.documentElement.scrollWidth") <= 390
    digits, predictions = tables()
    alone = warehouse(digits.drop_columns("label"), predictions)  # a table of somebody else's
    assert page.render(facts(labelled=False), alone) == made


def test_labels_of_another_type_are_read() -> None:
    """A table of somebody else's may hold labels as text."""
    digits, predictions = tables()
    text = digits.set_column(2, "label", digits["label"].cast(pa.string()))
    assert page.render(facts(), warehouse(text, predictions)) == page.render(facts(), warehouse(digits, predictions))


def test_importing_the_package_loads_nothing_heavy() -> None:
    """The packages that draw are loaded by render, not by an import of the page's module."""
    code = (
        "import sys, workflows.digit_report.page;"
        "heavy = {'apache_beam', 'jinja2', 'numpy', 'onnxruntime', 'pyarrow'} & {*sys.modules}; assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=True)


def test_an_empty_table_is_a_page_that_says_so() -> None:
    """Without predictions there is nothing to draw, and what was rejected still stands there."""
    digits, predictions = tables()
    made = page.render(facts(), warehouse(digits, predictions.slice(0, 0)))
    html = made["index.html"].decode()
    assert "No images were scored" in html
    assert "Whatever was read was rejected" in html
    assert "<svg" not in html
    assert json.loads(made["report.json"])["predicted"] == [0] * 10
    unasked = facts(quality=[page.Quality("ScoreDigits", 3, 0, {"null": 3})])

    def missing(sql: str, parameters: Mapping[str, object]) -> pa.Table:
        raise LookupError("no such table")

    assert b"No images were scored" in page.render(unasked, missing)["index.html"]
    with pytest.raises(LookupError):
        page.render(facts(), missing)
    none = page.render(facts(quality=[]), warehouse(digits, predictions.slice(0, 0)))["index.html"].decode()
    assert "The table has none" in none


def test_what_is_odd_in_the_tables_is_told_and_not_counted() -> None:
    """An image with two labels or one that is no digit has none; one that has gone has no picture; output that is no
    probability is in no tenth; all of them are images that were scored.
    """
    digits, predictions = tables()
    odd = pa.table({"id": [0, 5], "image": ["x", "x"], "label": pa.array([(labels()[0] + 1) % 10, None], pa.int64())})
    digits = pa.concat_tables([digits.filter([number not in (5, 6, 7) for number in range(400)]), odd])
    digits = pa.concat_tables([digits, pa.table({"id": [6], "image": ["x"], "label": [77]})])
    rows = predictions.to_pylist()
    for row in rows:
        if row["id"] in (10, 11, 12):
            row |= {"p0": {10: -3.0, 11: 17.5, 12: float("nan")}[row["id"]], "digit": 0}
            row |= {f"p{digit}": row["p0"] - 1 for digit in range(1, 10)}
        if row["id"] == 7:
            row |= {"digit": 2, "p2": 0.05} | {f"p{digit}": 0.01 for digit in range(10) if digit != 2}
    made = page.render(facts(), warehouse(digits, pa.Table.from_pylist(rows, schema=predictions.schema)))
    report = json.loads(made["report.json"])
    assert report["images"]["scored"] == 400
    assert report["labelled"] == 396
    assert report["calibration"]["no_probability"] == 3
    assert sum(row["images"] for row in report["calibration"]["tenths"]) == 397
    assert not {10, 11, 12} & {row["id"] for row in report["least_certain"]}
    html = made["index.html"].decode()
    assert "Of 3 images the model's highest output is no probability" in html
    assert html.count("not in the table") >= 1
    assert picture("1,2") is None


def test_nothing_hidden_stands_in_the_page_or_its_json(made: dict[str, bytes]) -> None:
    """No control or bidi character gets there, markup is text, and equal rows make equal bytes."""
    html, data = made["index.html"].decode(), made["report.json"].decode()
    assert plain(html, keep="\n") == html
    assert plain(data, keep="\n") == data
    assert "<script" not in html
    assert not re.search(r"<img (?!src=\"data:image/png;base64,[\w+/=]+\" width)", html)
    assert page.render(facts(), warehouse(*tables(np.arange(400) > 1))) == made
    report = json.loads(data)
    assert (report["model"]["digest"], report["model"]["in_table"]) == ("6a40" * 16, {HOSTILE: 400})
    assert "Fn" in report["stages"][0]["runner"]
    assert "This page is of mixed code: ScoreDigits was made by other code than now." in html


def test_the_page_says_no_more_than_is_measured(made: dict[str, bytes]) -> None:
    """A share is 100 % only of all, and 0 % only of none; large numbers are short in the chart alone."""
    shown = [page._exact(share) for share in (1.0, 0.9999999, 0.99071, 0.0000001, 0.0, None)]
    assert [text.replace("\u00a0", " ") for text in shown] == ["100 %", "99.99 %", "99.07 %", "0.01 %", "0 %", "–"]
    counts = (999, 1000, 9940, 9960, 12345, 999_400, 999_600, 5_000_000)
    assert [charts.short(count) for count in counts] == ["999", "1.0k", "9.9k", "10k", "12k", "999k", "1.0M", "5.0M"]
    assert "built-in sample" not in made["index.html"].decode()
    sample = page.render(facts(source="sample://", sample=True), warehouse(*tables()))["index.html"].decode()
    assert "These images are the built-in sample" in sample
    with pytest.raises(ValueError, match="time zone"):
        replace(facts(), made_at=datetime.datetime(2026, 11, 20))
    first = base64.b64decode((picture(ink(3)) or "").partition(",")[2])
    assert first.startswith(b"\x89PNG\r\n\x1a\n")

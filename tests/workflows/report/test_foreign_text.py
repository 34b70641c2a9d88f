"""What posts and servers say, on the page: as text, with nothing hidden, and never wider than its room."""

import base64
import datetime
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from page_case import DATE, rendered
from selenium import webdriver

from millrace.common.text import plain
from workflows.report import charts, page
from workflows.report.data import Data, Hour, Rising, Word
from workflows.report.links import Link, link

LONG = "donau" * 120
HOURS = [Hour(datetime.datetime(2026, 11, 19, hour, tzinfo=datetime.UTC), 1) for hour in range(24)]


class Elements(HTMLParser):
    """The elements of a page, each with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize(
    ("url", "shown", "title", "href"),
    [
        # Plain addresses, as they are, without what every one has.
        ("https://www.a.example/x?y=1", "a.example/x?y=1", "https://www.a.example/x?y=1", True),
        ("HTTP://B.example:8080/", "http://b.example:8080/", "http://b.example:8080/", True),
        # Names that look like others: a Cyrillic а; all of it Cyrillic; letters that are wide. By IDNA 2008 and UTS 46.
        ("https://pаypal.com/", "xn--pypal-4ve.com/", "https://xn--pypal-4ve.com/ (pаypal.com)", True),
        ("https://аррӏе.com/", "xn--80ak6aa92e.com/", "https://xn--80ak6aa92e.com/ (аррӏе.com)", True),
        ("https://ｇｏｏｇｌｅ.com/", "google.com/", "https://google.com/", True),
        ("https://xn--mnchen-3ya.de/", "xn--mnchen-3ya.de/", "https://xn--mnchen-3ya.de/ (münchen.de)", True),
        ("https://😀.example/", "xn--e28h.example/", "https://xn--e28h.example/", False),
        # A name and a password before the host.
        ("https://ann:pw@h.example/x", "https://…@h.example/x", "https://…@h.example/x", False),
        ("https://google.com@h.example/", "https://…@h.example/", "https://…@h.example/", False),
        ("ftp://ann:pw@h.example/x", "ftp://…@h.example/x", "ftp://…@h.example/x", False),
        # Where a browser and Python differ about the host, or it is none.
        (r"https://a.example\@b.example/", "https://…@b.example/", "https://…@b.example/", False),
        (r"https://a.example\.b.example/", r"a.example\.b.example/", r"https://a.example\.b.example/", False),
        ("https://[bad/", "https://[bad/", "https://[bad/", False),
        ("https://a.example:99999/", "https://a.example:99999/", "https://a.example:99999/", False),
        # What can't be seen, and what is no address of the web.
        ("https://a.example/\u202egpj", "a.example/\ufffdgpj", "https://a.example/\ufffdgpj", False),
        ("https://a.exam\tple/", "a.example/", "https://a.example/", True),  # browsers take it out, too
        ("javascript:alert(1)", "javascript:alert(1)", "javascript:alert(1)", False),
        ("", "", "", False),
    ],
)
def test_an_url_shows_where_it_leads(url: str, shown: str, title: str, href: bool) -> None:
    """Hosts are shown in ASCII, passwords not at all; what is doubtful is text and no link."""
    made = link(url)
    assert (made.shown, made.title, made.href is not None) == (shown, title, href)
    if made.href:
        assert made.href == title.split(" (")[0]


def test_an_overlong_url_is_cut() -> None:
    """What nobody types is no link, and neither the text nor its title is longer than is read."""
    made = link("https://a.example/" + "x" * 100_000)
    assert made == Link("a.example/" + "x" * 189 + "…", "https://a.example/" + "x" * 1981 + "…", None)


def test_nothing_hidden_stands_in_the_page_its_json_or_the_list_of_days() -> None:
    """No control, bidi or invisible character of posts, sources, reasons, stages or jobs gets there; markup is text."""
    html, data = rendered()["index.html"].decode(), rendered()["report.json"].decode()
    ours = "\n\u2068\u2069"  # lines, and what shuts off the writing direction of names in pictures
    assert plain(html, keep=ours) == html
    assert plain(data, keep="\n") == data
    assert json.loads(data)["stages"][-1]["runner"] == "Runner\u202e"
    row = page.IndexRow("x.html", DATE, 7, 1, ("\x1b[31m<b>red</b>", "\u202egpj"), ("\x9b", "a\nb"), False)
    index = page.render_index([row]).decode()
    assert plain(index, keep="\n") == index
    assert "<b>" not in html + index
    for tag, attributes in Elements(html).found + Elements(index).found:
        assert tag != "i"
        assert "secret" not in str(attributes)
        assert not (attributes.get("href") or "").startswith(("javascript", "data:text"))
    assert "secret" not in html
    assert "xn--pypal-4ve.example/" in html


def test_a_long_word_is_cut_and_told_as_a_whole() -> None:
    """In the list of days, 600 letters end in an ellipsis after 40, and the whole is the title."""
    index = page.render_index([page.IndexRow("x.html", DATE, 7, 1, (LONG,), (LONG, "x"), False)]).decode()
    words = [attributes.get("title") for tag, attributes in Elements(index).found if tag == "bdi"]
    assert words == [LONG, LONG, None]
    assert re.findall(r"<bdi[^>]*>([^<]*)</bdi>", index) == [LONG[:39] + "…", LONG[:39] + "…", "x"]


def test_the_picture_for_mail_has_whole_names() -> None:
    """Names of 35 letters, and pairs of two of 20, are not cut in report.png; a word of 600 letters is."""
    word, one, two = "x" * 35, "m" * 12 + "accelera", "benchmarkbenchmarkbe"
    rows = [Word(text, 0.5) for text in (word, LONG, "calm")]
    rises = [Rising(one, two, 9, 1, 5.0), Rising("accelerators", "shortage", 9, 1, 4.0)]
    drawn = charts.mail("t", "s", Data(HOURS, rows, [], [], rises, True)).body
    for whole in (word, f"{one}\u2069 + \u2068{two}", "accelerators\u2069 + \u2068shortage"):
        assert f"\u2068{whole}\u2069" in drawn
    assert drawn.count("…") == 1
    near = [Rising("accelerators", "shortage", 9, 1, 4.0)]  # the longest of all has room, too
    alone = charts.mail("t", "s", Data(HOURS, [], [], [], near, True))
    assert "…" not in alone.body


@pytest.mark.parametrize(
    ("most", "ticks"),
    [
        (1, [1]),
        (2, [1, 2]),
        (3, [1, 2, 3]),
        (4, [2, 4]),
        (9, [5]),
        (50, [20, 40]),
        (10**6, [500000, 10**6]),
    ],
)
def test_an_axis_of_posts_has_whole_numbers(most: int, ticks: list[int]) -> None:
    """There are no halves of posts: a window whose busiest hour has one names 1."""
    drawn = charts.hours([replace(hour, posts=most) for hour in HOURS], 1000, 200)
    numbers = re.findall(r'<text x="5"[^>]*>([\d,]+)</text>', drawn.body)
    assert [int(number.replace(",", "")) for number in numbers] == ticks


def test_a_printed_page_is_a_few_full_sheets(
    browser: webdriver.Chrome, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """On paper a page is A4, with the wide pictures, on three sheets or four."""
    file = tmp_path_factory.mktemp("printed") / "index.html"
    file.write_bytes(rendered()["index.html"])
    browser.get(file.as_uri())
    sheets = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"])
    assert len(re.findall(rb"/Type /Page\b", sheets)) in (3, 4)
    assert set(re.findall(rb"/MediaBox \[0 0 (\d+)[.\d]* (\d+)", sheets)) in ({(b"594", b"841")}, {(b"595", b"842")})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 703, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    )
    shown = browser.execute_script(
        "return [...document.querySelectorAll('figure')].filter(f => f.offsetHeight).map(f => f.className)"
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert len(shown) == 4
    assert not [name for name in shown if "narrow" in name]

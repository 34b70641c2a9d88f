"""The oracle itself, pinned by examples small enough to compute by hand, and by totals counted with other tools."""

import bz2
import gzip
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import oracle
import oracle_words
import pytest
from oracle import Post

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "posts"
DAY = date(2017, 8, 27)
CURLY = "\u2019"


def record(**changes: object) -> bytes:
    """A good record with some fields changed, or, where the value is Ellipsis, taken out."""
    fields: dict[str, object] = {"tid": 1, "created_at": "2017-08-27T04:05:34Z", "text": "hello"}
    fields |= changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


def good(record: bytes) -> Post:
    post = oracle.parse(record)
    assert isinstance(post, Post), post
    return post


def at(*parts: int) -> datetime:
    return datetime(*parts).replace(tzinfo=UTC)  # type: ignore[arg-type]


def near(value: float) -> Any:
    return pytest.approx(value, rel=1e-7)


def posts(*texts: str, **changes: Any) -> list[Post]:
    fields: dict[str, Any] = {"created_at": at(2017, 8, 27, 4), "user": None, "urls": [], "lang": None} | changes
    return [Post(id=str(number), text=text, **fields) for number, text in enumerate(texts)]


# ------------------------------------------------------------------------------------------------------ a record


def test_parse_whole() -> None:
    line = record(tid=7, user="ann", lang="en", urls=["http://a.example/X"], text=" hi\n")
    assert oracle.parse(line) == Post("7", at(2017, 8, 27, 4, 5, 34), "ann", " hi\n", ["http://a.example/X"], "en")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\xff" * (oracle.LONGEST + 1), "line too long"),
        (b"\xff", "bad UTF-8"),
        (b'{"text": "\xed\xa0\x80"}', "bad UTF-8"),
        (b"{", "bad JSON"),
        (b"{} {}", "bad JSON"),
        (b"{'tid': 1}", "bad JSON"),
        (b"[]", "bad JSON"),
        (b"null", "bad JSON"),
        (b'"a string"', "bad JSON"),
        (b'{"tid": NaN}', "bad JSON"),
        (b'{"tid": -Infinity}', "bad JSON"),
        (b'{"tid": 01}', "bad JSON"),
        (b'{"tid": "a\tb"}', "bad JSON"),
        (oracle.BOM + oracle.BOM + record(), "bad JSON"),
        (b"\xc2\xa0" + record(), "bad JSON"),
        (record(text="\ud800"), "bad JSON"),
        (record(text="\udc00\ud800"), "bad JSON"),
        (record(user="\udfff"), "bad JSON"),
        (record(other=[{"\udfff": 1}]), "bad JSON"),
        (b"[" * 100_000, "bad JSON"),
        (b"{}", "no id"),
        (record(tid=...), "no id"),
        (record(tid=None), "no id"),
        (record(tid=True, id=5), "no id"),
        (record(tid=1.0, id=5), "no id"),
        (record(tid=" \n", id=5), "no id"),
        (record(tid=[1]), "no id"),
        (record(created_at=...), "bad created_at"),
        (record(created_at=None), "bad created_at"),
        (record(created_at="", text=5), "bad created_at"),
        (record(text=...), "no text"),
        (record(text=None), "no text"),
        (record(text=5), "no text"),
        (record(text=5, full_text="hello"), "no text"),
    ],
)
def test_rejected(line: bytes, reason: str) -> None:
    assert oracle.parse(line) == reason
    assert reason in oracle.REASONS


def test_rejected_in_order() -> None:
    """Each next record has one fault less, the one that was named before."""
    lines = [
        b'\xff{"a": NaN' + b" " * oracle.LONGEST,
        b'\xff{"a": NaN',
        b'{"a": NaN',
        b'{"created_at": 5e300, "text": 5}',
        b'{"id": 1, "created_at": 5e300, "text": 5}',
        b'{"id": 1, "created_at": 5, "text": 5}',
    ]
    assert tuple(map(oracle.parse, lines)) == oracle.REASONS


def test_longest() -> None:
    line = record()
    assert good(line + b" " * (oracle.LONGEST - len(line))).id == "1"
    assert oracle.parse(line + b" " * (oracle.LONGEST - len(line) + 1)) == "line too long"


def test_around_the_json() -> None:
    assert good(oracle.BOM + b" \t\r\n" + record() + b"\r\n").id == "1"
    assert good(record(text="\U0001f600")).text == "\U0001f600"  # a pair of escapes is one character


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"tid": 901656910939770881}, "901656910939770881"),
        ({"tid": " 12 "}, "12"),
        ({"tid": "abc"}, "abc"),
        ({"tid": 0}, "0"),
        ({"tid": -5}, "-5"),
        ({"tid": 10**30}, "1" + "0" * 30),
        ({"tid": 1, "id": 2, "id_str": "3"}, "1"),
        ({"tid": None, "id": 2, "id_str": "3"}, "3"),
        ({"tid": None, "id": 1e18, "id_str": "1000000000000000001"}, "1000000000000000001"),
        ({"tid": ..., "id": None, "id_str": "3"}, "3"),
    ],
)
def test_id(fields: dict[str, object], expected: str) -> None:
    assert good(record(**fields)).id == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2017-08-27T04:05:34Z", at(2017, 8, 27, 4, 5, 34)),
        ("2017-08-27t04:05:34z", at(2017, 8, 27, 4, 5, 34)),
        ("2017-08-27 04:05:34", at(2017, 8, 27, 4, 5, 34)),
        ("2017-08-27T04:05", at(2017, 8, 27, 4, 5)),
        ("2017-08-27", at(2017, 8, 27)),
        ("20170827", at(2017, 8, 27)),
        ("20170827T040534Z", at(2017, 8, 27, 4, 5, 34)),
        ("2017-W34-7", at(2017, 8, 27)),
        ("2017-08-27T01:05:34+05:30", at(2017, 8, 26, 19, 35, 34)),
        ("2017-08-27T23:05:34-0300", at(2017, 8, 28, 2, 5, 34)),
        ("2017-08-27T04:05:34+00", at(2017, 8, 27, 4, 5, 34)),
        ("2017-08-27T04:05:34.5Z", at(2017, 8, 27, 4, 5, 34, 500_000)),
        ("2017-08-27T04:05:34.123456Z", at(2017, 8, 27, 4, 5, 34, 123_456)),
        ("2017-08-27T04:05:34.1234569999Z", at(2017, 8, 27, 4, 5, 34, 123_456)),
        ("2017-08-27T23:59:59.9999999Z", at(2017, 8, 27, 23, 59, 59, 999_999)),
        ("0001-01-01T00:00:00Z", at(1, 1, 1)),
        ("9999-12-31T23:59:59.999999Z", at(9999, 12, 31, 23, 59, 59, 999_999)),
        ("Wed Aug 27 13:08:45 +0000 2008", at(2008, 8, 27, 13, 8, 45)),
        ("Wed Aug 27 23:08:45 -0130 2008", at(2008, 8, 28, 0, 38, 45)),
        (0, at(1970, 1, 1)),
        (-1, at(1969, 12, 31, 23, 59, 59)),
        (1503806734, at(2017, 8, 27, 4, 5, 34)),
        (1503806734123, at(2017, 8, 27, 4, 5, 34, 123_000)),
        (99_999_999_999, at(5138, 11, 16, 9, 46, 39)),
        (100_000_000_000, at(1973, 3, 3, 9, 46, 40)),
        (-100_000_000_000, at(1966, 10, 31, 14, 13, 20)),
        (1503806734.25, at(2017, 8, 27, 4, 5, 34, 250_000)),
        (1503806734.123457, at(2017, 8, 27, 4, 5, 34, 123_457)),
        (1503806734123.456, at(2017, 8, 27, 4, 5, 34, 123_456)),
        (0.0000007, at(1970, 1, 1, 0, 0, 0, 1)),
        (1.5e9, at(2017, 7, 14, 2, 40)),
        ("1503806734", at(2017, 8, 27, 4, 5, 34)),
        ("1503806734123", at(2017, 8, 27, 4, 5, 34, 123_000)),
        ("100000000", at(1973, 3, 3, 9, 46, 40)),
    ],
)
def test_created_at(value: object, expected: datetime) -> None:
    assert good(record(created_at=value)).created_at == expected
    assert good(record(created_at=value)).created_at.utcoffset() == at(1, 1, 1).utcoffset()


@pytest.mark.parametrize(
    "value",
    [
        *(
            "yesterday",
            "2017",
            "12345678",
            "99999999",
            "2017-13-01",
            "2017-02-29",
            "2017-08-27T24:61",
            "2017-08-27x04:05",
        ),
        *(
            "2017-08-27T04:05:60Z",
            "2017-08-27T04:05:34+24:00",
            "2017-08-27T",
            "0000-01-01",
            "10000-01-01",
            "\u0662" * 9,
        ),
        *("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "Wed Aug 32 13:08:45 +0000 2008"),
        *("Wed Foo 27 13:08:45 +0000 2008", "Wed Aug 27 13:08:45 2008", "Wed Aug 27 13:08:45 +9900 2008"),
        *(
            "Sat Jan 01 00:00:00 +0100 0001",
            True,
            False,
            [],
            {},
            10**15 - 1,
            -(10**15) + 1,
            10**21,
            10**400,
            1e300,
            "9" * 5000,
        ),
    ],
)
def test_bad_created_at(value: object) -> None:
    assert oracle.parse(record(created_at=value)) == "bad created_at"


def test_infinite_created_at() -> None:
    assert oracle.parse(b'{"id": 1, "created_at": 1e999, "text": "a"}') == "bad created_at"


def test_text() -> None:
    assert good(record(text="a", full_text="b")).text == "a"
    assert good(record(text=..., full_text="b")).text == "b"
    assert good(record(text=None, full_text="b")).text == "b"


@pytest.mark.parametrize(
    ("value", "expected"),
    [("ann", "ann"), ({"screen_name": "ann", "id": 1}, "ann"), ({"screen_name": 5}, None), ({}, None), (5, None)],
)
def test_user(value: object, expected: str | None) -> None:
    assert good(record(user=value)).user == expected


def test_lang() -> None:
    assert good(record(lang="en-GB")).lang == "en-GB"
    assert good(record(lang=None)).lang is None
    assert good(record(lang=5)).lang is None
    assert good(record()).lang is None


TEXT_URL = "see http://text.example"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ["http://text.example"]),
        ({"urls": None}, ["http://text.example"]),
        ({"urls": "http://b"}, ["http://text.example"]),
        ({"urls": {}}, ["http://text.example"]),
        ({"entities": {}}, ["http://text.example"]),
        ({"entities": []}, ["http://text.example"]),
        ({"entities": {"urls": None}}, ["http://text.example"]),
        ({"urls": []}, []),
        ({"entities": {"urls": []}, "urls": ["b"]}, []),
        ({"entities": {"urls": "x"}, "urls": ["b"]}, ["b"]),
        ({"urls": ["b", 5, None, {"expanded_url": "c"}, {"url": "d"}, ["e"], "b"]}, ["b", "c", "d", "b"]),
        ({"entities": {"urls": [{"url": "t", "expanded_url": "e"}]}, "urls": ["b"]}, ["e"]),
        ({"entities": {"urls": [{"url": "t", "expanded_url": None}, {"url": "u"}, {}, 5]}}, ["t", "u"]),
    ],
)
def test_urls(fields: dict[str, object], expected: list[str]) -> None:
    assert good(record(text=TEXT_URL, **fields)).urls == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none here", []),
        ("HTTPS://A.example/b, http://c.example/d?e=(f).", ["HTTPS://A.example/b", "http://c.example/d?e=(f)"]),
        ("(http://a.example)\u2026 'http://b.example/!'", ["http://a.example", "http://b.example/"]),
        ("\u201chttp://a.example\u201d \u00abhttp://b.example\u00bb", ["http://a.example", "http://b.example"]),
        ("http://a.example\u3000http://a.example\nx", ["http://a.example", "http://a.example"]),
        ("ftp://a.example http:/b", []),
    ],
)
def test_urls_in_text(text: str, expected: list[str]) -> None:
    assert good(record(text=text)).urls == expected


# --------------------------------------------------------------------------------------------------------- a day


def test_day() -> None:
    result = oracle.day(
        [
            record(tid=1, text="first"),
            b"",
            record(tid=2, created_at="2017-08-27T23:30:00-01:00"),  # 00:30 on the 28th
            record(tid=3, created_at="2017-08-28T00:30:00+01:00"),  # 23:30 on the 27th
            b" \t\r",
            record(tid=1, created_at="2017-08-28T00:00:00Z", text="another day's"),
            record(tid="1", text="last"),
            record(tid=3, text=5),
            b'{"delete": {"status": {"id": 5}}}',
            b"{",
            b"}",
            record(tid=4),
        ],
        DAY,
    )
    assert [(post.id, post.text) for post in result.posts] == [("1", "last"), ("3", "hello"), ("4", "hello")]
    assert (result.read, result.kept, result.other_days, result.duplicates) == (10, 3, 2, 1)
    assert result.notices == 1
    assert result.rejected == Counter({"bad JSON": 2, "no text": 1})
    assert result.read == result.kept + result.other_days + result.duplicates + result.notices + result.rejected.total()


def test_window_deduplicates_within_a_day_only() -> None:
    lines = [record(created_at="2017-08-26T00:00:00Z"), record(), record()]
    results = oracle.window(iter(lines), DAY, 3)
    assert [result.date.day for result in results] == [25, 26, 27]
    assert [(result.kept, result.duplicates, result.other_days) for result in results] == [
        (0, 0, 3),
        (1, 0, 2),
        (1, 1, 1),
    ]


# ------------------------------------------------------------------------------------------------- words and URLs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat, the CAT and Don't", {"cat", "don't"}),
        ("a1b2cd x y z", {"cd"}),
        ("https://t.co/Ab http", {"ab", "http"}),
        ("'' 'tis caf\u00e9 na\u00efve", {"''", "'tis", "caf", "na", "ve"}),
        (f"it{CURLY}s don{CURLY}t", {"don"}),
        ("#Foo_Bar @baz", {"foo", "bar", "baz"}),
        ("\u212aelvin", {"elvin"}),
        ("rt via amp when", set()),
    ],
)
def test_classic_words(text: str, expected: set[str]) -> None:
    assert oracle_words.classic_words(text) == expected


def test_classic_url() -> None:
    assert oracle_words.classic_url("HTTPS://T.co/AbC?Utm_x=Y#Z") == "https://t.co/abc?utm_x=y#z"


@pytest.mark.parametrize(
    ("text", "lang", "expected"),
    [
        ("The cat, the CAT", "en", {"cat"}),
        ("Cat &amp; dog", "en", {"cat", "dog"}),
        ("AT&amp;T r&eacute;sum&eacute;", "en", {"r\u00e9sum\u00e9"}),
        ("see HTTPS://x.example/cats, @Someone #Hashtag", "en", {"hashtag"}),
        ("pre@someone-post", "en", {"pre", "post"}),
        ("cat&nbsp;dog http://x.example&#32;bird", "en", {"cat", "dog", "bird"}),
        ("cafe\u0301 CAF\u00c9", "en", {"caf\u00e9"}),
        ("Stra\u00dfe STRASSE", "en", {"strasse"}),
        (f"rock{CURLY}n{CURLY}roll rock'n'roll", "en", {"rock'n'roll"}),
        (f"{CURLY}tis 'quoted' dogs'", "eo", {"tis", "quoted", "dogs"}),
        ("2017 4k b2 x 9", "en", {"4k", "b2"}),
        ("snake_owl", "en", {"snake_owl"}),
        ("\u0939\u093f\u0928\u094d\u0926\u0940", "en", {"\u0939\u093f\u0928\u094d\u0926\u0940"}),
        ("\u732b", "en", {"\u732b"}),
        ("RT via amp", "eo", set()),
        ("der Hund the dog", "de", {"hund", "the", "dog"}),
        ("der Hund the dog", "de_AT", {"hund", "the", "dog"}),
        ("der Hund the dog", "DE-at", {"hund", "the", "dog"}),
        ("der Hund the dog", None, {"der", "hund", "dog"}),
        ("der Hund the dog", "und", {"der", "hund", "dog"}),
        ("der Hund the dog", "xx", {"der", "hund", "dog"}),
        ("der Hund the dog", "", {"der", "hund", "dog"}),
        ("yang kucing the", "in", {"kucing", "the"}),
        ("yang kucing the", "id", {"kucing", "the"}),
        ("\u05d0\u05ea", "iw", set()),
        (f"don{CURLY}t stop{CURLY}n", "en", {"stop'n"}),
    ],
)
def test_standard_words(text: str, lang: str | None, expected: set[str]) -> None:
    assert oracle_words.standard_words(text, lang) == expected


def test_standard_words_fallback() -> None:
    assert oracle_words.standard_words("der Hund the dog", None, ("en", "de")) == {"hund", "dog"}
    assert oracle_words.standard_words("der Hund the dog", "und", ()) == {"der", "hund", "the", "dog"}
    assert oracle_words.standard_words("der Hund the dog", "en", ("de",)) == {"der", "hund", "dog"}


def test_every_stop_word_that_is_a_word_is_dropped() -> None:
    """Greek with breathings among them: case folding takes those entries out of NFC, and they are put back."""
    assert oracle_words.standard_words("\u03bf\u1f50\u03ba \u03c4\u1fc6\u03c2", "el") == set()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTP://WWW.Example.COM/Path/A", "http://www.example.com/Path/A"),
        (" https://Example.com ", "https://example.com/"),
        ("https://example.com/#Top", "https://example.com/"),
        ("https://example.com/a?", "https://example.com/a"),
        ("http://example.com:80/a", "http://example.com/a"),
        ("https://example.com:443", "https://example.com/"),
        ("https://example.com:80/a", "https://example.com:80/a"),
        ("http://example.com:443/a", "http://example.com:443/a"),
        ("http://[2001:DB8::1]:80/A", "http://[2001:db8::1]/A"),
        ("http://[2001:DB8::1]/A", "http://[2001:db8::1]/A"),
        ("http://Me:Secret@Example.com:8080/", "http://Me:Secret@example.com:8080/"),
        ("https://e.com/a?utm_source=x&B=%41+c&UTM_Medium=y&a=1", "https://e.com/a?B=A+c&a=1"),
        ("https://e.com/a?utm_source=x&fbclid=y#f", "https://e.com/a"),
        ("https://e.com/?GCLID=x&a&b=&c=1=2", "https://e.com/?a&b=&c=1=2"),
        ("https://e.com/?gclid&utm_=1&utmost=2&my_ga=3&_ga=4&ref=5&ref_src=6", "https://e.com/?utmost=2&my_ga=3&ref=5"),
        (
            "https://e.com/?z=%5Butm_x%5D&a=http://b?utm_source=c",
            "https://e.com/?z=%5Butm_x%5D&a=http://b?utm_source=c",
        ),
        ("https://e.com/a;P?b=1;c=2", "https://e.com/a;P?b=1;c=2"),
        (" FTP://Example.com/A#b ", "FTP://Example.com/A#b"),
        ("JavaScript:alert(1)", "JavaScript:alert(1)"),
        ("Example.com/A#b", "Example.com/A#b"),
        ("HTTP://Example.com:99999/#a", "HTTP://Example.com:99999/#a"),
        ("HTTP://Example.com:x/#a", "HTTP://Example.com:x/#a"),
        ("HTTP://[Example/#a", "HTTP://[Example/#a"),
        ("HTTP:///A#b", "HTTP:///A#b"),
        ("", ""),
    ],
)
def test_standard_url(url: str, expected: str) -> None:
    assert oracle_words.standard_url(url) == expected


@pytest.mark.parametrize("name", oracle_words.TRACKING.split())
def test_tracking(name: str) -> None:
    assert oracle_words.standard_url(f"https://e.com/?a=1&{name.upper()}=2") == "https://e.com/?a=1"
    assert oracle_words.standard_url(f"https://e.com/?{name}=2") == "https://e.com/"


# ------------------------------------------------------------------------------------------------------ the tables


def test_percent_and_log_weight() -> None:
    """Four posts: cat is in 2 of them, dog in 4, fox and owl in 1; a word counts once in a post."""
    tables = oracle.tables(posts("cat dog dog", "dog cat", "dog fox owl", "dog"), [], DAY, "classic")
    assert tables["word_counts"] == [("dog", 1.0), ("cat", 0.5), ("fox", 0.25), ("owl", 0.25)]
    assert tables["word_cooccur"] == [
        ("fox", "owl", 1, near(math.log(4))),  # min(4, 4)
        ("cat", "dog", 2, 0.0),  # 2 ln min(2, 1)
        ("dog", "fox", 1, 0.0),
        ("dog", "owl", 1, 0.0),
    ]
    assert tables["emerging_pairs"] == []


def test_log_weight() -> None:
    assert oracle.log_weight(3, 0.5, 0.125) == near(2.0794415416798357)  # 3 ln 2
    assert oracle.log_weight(3, 0.125, 0.5) == near(2.0794415416798357)
    assert oracle.log_weight(7, 1.0, 0.125) == 0.0


def test_z_score() -> None:
    # 5 of 10 against 0 of 10: ln(5.5/5.5) - ln(0.5/10.5) = ln 21 = 3.0445224; 1/5.5 + 1/0.5 = 24/11
    assert oracle.z_score(5, 10, 0, 10) == near(3.0445224377 / 1.4770978918)
    # 5 of 5 against nothing at all: ln(5.5/0.5) - ln(0.5/0.5) = ln 11 = 2.3978953
    assert oracle.z_score(5, 5, 0, 0) == near(2.3978952728 / 1.4770978918)
    # 7 of 20 both times
    assert oracle.z_score(7, 20, 7, 20) == 0.0
    # the other way round it is as much less: -(ln 21) / the same
    assert oracle.z_score(0, 10, 5, 10) == near(-2.0611514)


def test_emerging_pairs() -> None:
    now = posts(*["cat dog"] * 5, *["ant bee"] * 5, *["elk fox"] * 4, *["gnu hen"] * 6)
    before = posts(*["gnu hen"] * 6, *["elk fox"] * 4)
    rows = oracle.tables(now, before, DAY, "classic")["emerging_pairs"]
    # n = 20, m = 10. 5 against 0: ln(5.5/15.5) - ln(0.5/10.5) = 2.0084304; over sqrt(24/11) = 1.3597139
    # 6 against 6: ln(6.5/14.5) - ln(6.5/4.5) = ln(4.5/14.5) = -1.1700713; over sqrt(2/6.5) = -2.1093759
    assert rows == [
        ("ant", "bee", 5, 0, near(1.3597139)),
        ("cat", "dog", 5, 0, near(1.3597139)),
        ("gnu", "hen", 6, 6, near(-2.1093759)),
    ]


def test_urls_count_every_occurrence() -> None:
    window = [
        *posts("one", urls=["http://B.example/x", "http://b.example/X", "http://c.example"]),
        *posts("two", urls=["http://b.example/x", "http://a.example"]),
    ]
    assert oracle.tables(window, [], DAY, "classic")["urls"] == [
        ("http://b.example/x", 3),
        ("http://a.example", 1),
        ("http://c.example", 1),
    ]
    assert oracle.tables(window, [], DAY, "standard")["urls"] == [
        ("http://b.example/x", 2),
        ("http://a.example/", 1),
        ("http://b.example/X", 1),
        ("http://c.example/", 1),
    ]


def test_hours() -> None:
    window = [
        *posts("one", "two", created_at=at(2017, 8, 27, 23, 59, 59, 999_999)),
        *posts("three", created_at=at(2017, 8, 26, 4)),
    ]
    hours = oracle.tables(window, [], DAY, "classic")["posts_by_hour"]
    assert hours == [(at(2017, 8, 26, 4), 1), (at(2017, 8, 27, 23), 2)]


def test_tops_and_ties() -> None:
    def name(number: int) -> str:
        return "".join(chr(ord("a") + int(digit)) for digit in f"{number:03}")

    words = [name(number) for number in reversed(range(600))]
    texts = [f"{word} mate" for word in words] * 5
    urls = [f"http://{word}.example" for word in words]
    tables = oracle.tables(posts(*texts) + posts("mate", urls=urls), [], DAY, oracle.CLASSIC)
    in_order = sorted(set(words) - oracle_words.CLASSIC_STOP)
    assert [row[0] for row in tables["word_counts"]] == ["mate", *in_order[:499]]
    assert [row[0] for row in tables["urls"]] == [f"http://{name(number)}.example" for number in range(300)]
    assert [row[:2] for row in tables["word_cooccur"]] == [tuple(sorted((word, "mate"))) for word in in_order[:300]]
    assert [row[:2] for row in tables["emerging_pairs"]] == [tuple(sorted((word, "mate"))) for word in in_order[:100]]


def test_pairs_are_ranked_by_log_weight() -> None:
    """cat dog is in more posts, fox owl weighs more: 3 ln(8/5) = 1.41 against 2 ln(8/2) = 2.77."""
    window = posts(*["cat dog"] * 3, *["cat"] * 2, *["dog"], *["fox owl"] * 2)
    rows = oracle.tables(window, [], DAY, "classic")["word_cooccur"]
    assert rows == [
        ("fox", "owl", 2, near(2.7725887)),
        ("cat", "dog", 3, near(1.4100109)),
    ]


def test_nothing() -> None:
    expected: dict[str, list[object]] = {
        "word_counts": [],
        "urls": [],
        "word_cooccur": [],
        "emerging_pairs": [],
        "posts_by_hour": [],
    }
    assert oracle.tables([], [], DAY, "standard") == expected
    assert oracle.tables([], posts("cat dog"), DAY, "standard") == expected


def test_a_post_after_the_window() -> None:
    with pytest.raises(ValueError, match="later than the window's end"):
        oracle.tables(posts("cat", created_at=at(2017, 8, 28)), [], DAY, "classic")


def test_the_posts_language_and_the_fallback_decide() -> None:
    window = posts("der Hund the dog", lang="de") + posts("der Hund the dog")
    assert oracle.tables(window, [], DAY, "standard")["word_counts"] == [
        ("dog", 1.0),
        ("hund", 1.0),
        ("der", 0.5),
        ("the", 0.5),
    ]
    assert [row[0] for row in oracle.tables(window, [], DAY, oracle.standard(["de"]))["word_counts"]] == [
        *("dog", "hund", "the"),
    ]


def test_chain() -> None:
    """Two days, each with a duplicate that is gone; the day before them is the earlier window's."""
    lines = [record(tid=number % 5, text="cat dog") for number in range(6)]
    lines += [record(tid=number % 2, text="cat", created_at="2017-08-26T10:00:00Z") for number in range(3)]
    lines += [record(tid=9, text="cat dog", created_at="2017-08-25T10:00:00Z")]
    lines += [record(tid=9, text="cat dog", created_at="2017-08-23T23:59:59Z"), b"?"]
    tables = oracle.chain(lines, DAY, 2, "classic")
    assert tables["word_counts"] == [("cat", 1.0), ("dog", 5 / 7)]
    assert tables["word_cooccur"] == [("cat", "dog", 5, 0.0)]
    assert tables["emerging_pairs"] == [("cat", "dog", 5, 1, near(oracle.z_score(5, 7, 1, 1)))]
    assert tables["posts_by_hour"] == [(at(2017, 8, 26, 10), 2), (at(2017, 8, 27, 4), 5)]


# --------------------------------------------------------------------------------------------------------- sources


def plain(data: bytes) -> bytes:
    return data


@pytest.mark.parametrize(("suffix", "pack"), [("", plain), (".gz", gzip.compress), (".bz2", bz2.compress)])
def test_read_source(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    def read(data: bytes) -> list[bytes]:
        path = tmp_path / f"posts.json{suffix}"
        path.write_bytes(pack(data))
        return list(oracle.read_source(path))

    assert read(b"") == []
    assert read(b'{"tid": 1}\n\xff\r\n\n{"tid": 2}') == [b'{"tid": 1}', b"\xff\r", b"", b'{"tid": 2}']
    assert read(b'{"tid": 1}\n') == [b'{"tid": 1}']
    assert read(b'[{"id":1},\n {"id":2}, null]\n') == [b'{"id": 1}', b'{"id": 2}', b"null"]
    assert read(oracle.BOM + b'{"meta": 1, "statuses": [{"id":1}]}') == [b'{"id": 1}']
    assert read(b'{"statuses": []}') == []


def real_data() -> Path:
    if not DATA.is_dir():
        message = "the real posts (shared/data/posts beside the project) are not there"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return DATA


def test_real_posts() -> None:
    """Every number here was also counted with jq, sort, uniq and awk."""
    folder = real_data()
    files = ["mayweather_2017.jsonl", "barackobama.jsonl", "realdonaldtrump.jsonl"]
    lines = [line for file in files for line in oracle.read_source(folder / file)]
    results = oracle.window(lines, DAY, 7)
    assert [result.kept for result in results] == [3, 8, 10, 10, 14, 11, 12_130]
    for result in results:
        assert (result.read, result.duplicates, result.rejected.total()) == (18_557, 0, 0)
        assert result.other_days == 18_557 - result.kept

    window = [post for result in results for post in result.posts]
    words = Counter(word for post in window for word in oracle_words.classic_words(post.text))
    assert (len(window), len(words), words.total()) == (12_186, 17_819, 81_998)
    assert sum(len(post.urls) for post in window) == 4_320 - 33  # so many end with an ellipsis
    assert len({oracle_words.classic_url(url) for post in window for url in post.urls}) == 4_148 - 28

    tables = oracle.chain(lines, DAY, 7, "classic")
    assert {name: len(rows) for name, rows in tables.items() if isinstance(rows, list)} == {
        "word_counts": 500,
        "urls": 300,
        "word_cooccur": 300,
        "emerging_pairs": 100,
        "posts_by_hour": 43,
    }
    assert tables["word_counts"][:4] == [
        ("mayweathervmcgregor", 4592 / 12_186),
        ("mcgregor", 3478 / 12_186),
        ("mayweather", 2758 / 12_186),
        ("mayweathermcgregor", 1437 / 12_186),
    ]
    assert tables["urls"][:4] == [
        ("https://t.co/hxphbyhoqg", 17),
        ("https://t.co/mj76kijt6a", 7),
        ("https://t.co/ablpxyx5yf", 4),
        ("https://t.co/tvrdpoj8wz", 4),
    ]
    assert [*tables["word_cooccur"][:4], tables["word_cooccur"][-1]] == [
        ("mayweather", "mcgregor", 1039, near(1302.729718994)),
        ("mayweathervmcgregor", "mcgregor", 883, near(861.783357950)),
        ("mayweather", "mayweathervmcgregor", 701, near(684.156437059)),
        ("de", "la", 216, near(654.397238986)),
        ("lovato", "pre", 19, near(100.033257784)),
    ]
    assert [*tables["emerging_pairs"][:3], tables["emerging_pairs"][-1]] == [
        ("mayweather", "mcgregor", 1039, 0, near(1.736122433)),
        ("mayweathervmcgregor", "mcgregor", 883, 0, near(1.611279016)),
        ("mayweather", "mayweathervmcgregor", 701, 0, near(1.436819741)),
        ("la", "se", 85, 0, near(-0.087605471)),
    ]
    assert tables["posts_by_hour"][-7:-5] == [(at(2017, 8, 27, 4), 9_558), (at(2017, 8, 27, 5), 2_560)]


def test_real_responses() -> None:
    files = sorted((real_data() / "twitter_api_v1").glob("*.json"))
    parsed = [good(line) for file in files for line in oracle.read_source(file)]
    assert len(files) == 8
    assert len(parsed) == 344
    assert len({post.id for post in parsed}) == 338
    assert all(re.fullmatch("[0-9]+", post.id) and post.user for post in parsed)

"""The shapes of real producers that were once read wrongly: each file of shared/cases/posts gives what its README says,
and what would take too long or too much costs little.
"""

import datetime
import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oracle
import posts_cases as cases
import posts_stages as stages
import pyarrow as pa
import pytest
import running

from millrace.common import results
from pipelines.posts import columns, count, pairs, parse, rules
from pipelines.posts.tokens import tokenize

CASES = Path(__file__).resolve().parents[4] / "shared" / "cases" / "posts"
DAY = datetime.date(2026, 3, 2)
WORDS = rules.get("standard")


def records_of(name: str) -> list[bytes]:
    """The records of a case file, which stands beside the project."""
    found = sorted(CASES.glob(f"{name}-*"))
    if not found:
        running.absent(f"needs the shared cases, {name} in {CASES}")
    return [record for record in oracle.read_source(found[0]) if record.strip()]


def posts_of(name: str) -> list[parse.Post]:
    """A case file's posts, by the column, one by one and as the oracle has them: all three agree."""
    records = records_of(name)
    parsed = columns.parse_block(pa.chunked_array([pa.array(records, pa.large_binary())]))
    assert parsed.rejects == []
    posts = [parse.Post(**post) for post in parsed.posts.to_pylist()]
    alone = [cases.of_product(parse.parse, record) for record in records]
    assert posts == [post for post in alone if isinstance(post, parse.Post)]
    assert alone == [cases.of_oracle(record) for record in records]
    return posts


def words_of(posts: list[parse.Post], name: str = "standard") -> list[set[str]]:
    tokens = tokenize(
        pa.chunked_array([pa.array([post.text for post in posts], pa.string())]),
        pa.chunked_array([pa.array([post.lang for post in posts], pa.string())]),
        rules.get(name),
    )
    found: list[set[str]] = [set() for _ in posts]
    for post, word in zip(tokens.post.tolist(), tokens.word.tolist(), strict=True):
        found[post].add(tokens.vocabulary[word].as_py())
    return found


# Each file's posts: id, words, links.
HARBOUR = {"harbour", "opens", "tomorrow", "bring", "boats", "lanterns"}
MILL = {"lantern", "evening"}
OPEN, COFFEE = ["https://harbour.example/open"], ["https://coffee.example/"]
BILLION = 10**18


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("01", [*((str(BILLION + n), HARBOUR, OPEN) for n in range(3)), (str(BILLION + 9), {"coffee"}, COFFEE)]),
        (
            "02",
            [
                (str(BILLION + n), MILL | {singer}, ["https://mill.example/lanterns"])
                for n, singer in enumerate(["singers", "bakers", "painters"])
            ],
        ),
        ("03", [("0", {"harbour", "news"}, []), ("1", {"news"}, []), ("2", {"boats"}, []), ("3", {"lanterns"}, [])]),
        (
            "04",
            [
                (
                    str(BILLION + 1),
                    {"council", "met", "hours", "exactly", "decided", "lighthouse"},
                    ["https://council.example/minutes"],
                )
            ],
        ),
        ("05", [(str(n), {"lantern"}, [f"https://mill.example/{n}"]) for n in range(3)]),
        ("15", [(str(BILLION + n), {"harbour"}, []) for n in range(3)]),
        ("16", [("366151943065833472", {"harbour", "lanterns"}, []), ("366151943065833475", {"boats"}, [])]),
        ("17", [("1", {"harbour", "lanterns"}, [])]),
        ("18", [("0", {"harbour"}, []), ("1", {"boats"}, []), ("2", {"lanterns"}, [])]),
        (
            "19",
            [
                ("1", {"کتاب\u200cهای", "نمی\u200cدانم"}, []),
                ("2", {"ශ්\u200dරී", "ලංකා"}, []),
                ("3", {"col·legi"}, []),
                ("4", {'צה"ל'}, []),
            ],
        ),
        ("20", [("1", {"كأس_المدينة"}, []), ("2", {"old_mill_lanterns"}, [])]),
        ("27", [("1", {"harbour", "lanterns"}, [])]),
    ],
)
def test_a_case_file_gives_the_ids_words_and_links_that_are_right(
    name: str, expected: list[tuple[str, set[str], list[str]]]
) -> None:
    posts = posts_of(name)
    found = [(post.id, words, list(post.urls)) for post, words in zip(posts, words_of(posts), strict=True)]
    assert found == [(id_, words - WORDS.stop_words("en"), urls) for id_, words, urls in expected]
    if name in ("17", "27"):
        moment = datetime.datetime(2026, 3, 2, 9, tzinfo=datetime.UTC)
        assert [post.created_at for post in posts] == [cases.microseconds(moment)]


def test_a_cut_text_is_the_whole_one_under_both_rules() -> None:
    """Text and links belong to the post, so that `classic` has them as well."""
    (first, *_) = posts_of("01")
    assert first.text == "the harbour opens again tomorrow, bring boats and lanterns https://t.co/aaaaaaaaaa"
    for name, junk in (("02", {"htt", "http", "https"}), ("05", {"p", "href", "rel", "nofollow", "span", "class"})):
        for words in words_of(posts_of(name), "classic"):
            assert not words & junk


def run_etl(folder: Path, name: str, date: datetime.date = DAY) -> results.Written:
    return stages.etl(folder, stages.raw(folder, b"\n".join(records_of(name))), date)


def test_a_post_without_words_is_a_post(tmp_path: Path) -> None:
    """A picture is kept and counted, and has no words; only what has no text at all is rejected."""
    written = run_etl(tmp_path, "06")
    assert {name: n for name, n in written.counters.items() if n} == {"read": 42, "kept": 2, "other_days": 40}
    assert [row["text"] for row in stages.rows(written, "posts")] == ["harbour", ""]
    counted = stages.count(tmp_path, written, DAY, "standard")
    assert counted.counters["posts"] == 2
    with pytest.raises(parse.Rejected, match=parse.NO_TEXT):
        parse.parse(cases.status(text=...))


def test_notices_of_the_streaming_api_are_counted_apart(tmp_path: Path) -> None:
    """Neither posts nor rejects, in a day's file and in an archive; all of the API's kinds."""
    written = run_etl(tmp_path, "07")
    assert {name: n for name, n in written.counters.items() if n} == {"read": 12, "kept": 10, "notices": 2}
    archive = tmp_path / "archive.jsonl"
    archive.write_bytes(b"\n".join(records_of("07")) + b"\n{}\n")
    split = stages.run("fetch", tmp_path, "split", source=str(archive), dataset="split")
    assert split.counters == {"read": 13, "kept": 10, "notices": 2, "rejected: bad created_at": 1}
    assert sorted({file.table for file in split.files}) == ["2026-03-02", "rejected"]


@pytest.mark.parametrize(
    ("record", "is_notice"),
    [
        *(({name: {}}, True) for name in ("scrub_geo", "status_withheld", "user_withheld", "disconnect", "warning")),
        ({"event": "follow", "created_at": "Mon Mar 02 09:00:00 +0000 2026"}, True),
        ({"friends": [1, 2]}, True),
        ({"delete": "x"}, False),
        ({"limit": {}, "text": "x"}, False),
        ({"warning": {}, "id": 1}, False),
        ({"other": {}}, False),
    ],
)
def test_what_a_notice_is(record: dict[str, Any], is_notice: bool) -> None:
    """Each of the API's kinds; an object with an id or text is a record like any other."""
    reason = cases.of_product(parse.parse, json.dumps(record).encode())
    assert (reason == parse.NOTICE) == is_notice == (cases.of_oracle(json.dumps(record).encode()) == oracle.NOTICE)


QUOTE = {"url": "https://t.co/q", "expanded": "https://twitter.com/ann/status/1"}
LISTED = {"urls": [{"url": "https://t.co/a", "expanded_url": "https://a.example/"}]}
SELF = {"urls": [{"url": "https://t.co/s", "expanded_url": "https://twitter.com/i/web/status/1"}]}


@pytest.mark.parametrize(
    ("fields", "text", "urls"),
    [
        ({"text": "a", "entities": LISTED, "quoted_status": {"text": "b"}}, "a", ["https://a.example/"]),
        (
            {"text": "a", "entities": LISTED, "quoted_status_permalink": QUOTE},
            "a",
            ["https://a.example/", "https://twitter.com/ann/status/1"],
        ),
        ({"text": "a… https://t.co/s", "truncated": True, "entities": SELF}, "a… https://t.co/s", []),
        ({"text": "a https://t.co/s", "entities": SELF}, "a https://t.co/s", ["https://twitter.com/i/web/status/1"]),
        ({"text": "RT @b: whole", "retweeted_status": {"text": "whole"}}, "RT @b: whole", []),
        (
            {
                "text": "RT @b: cut…",
                "retweeted_status": {"text": "c…", "extended_tweet": {"full_text": "cut no more", "entities": LISTED}},
            },
            "cut no more",
            ["https://a.example/"],
        ),
        ({"text": "RT @b: cut…", "retweeted_status": {"id": 5}}, "RT @b: cut…", []),
        ({"text": "a < b <p>", "urls": ["https://", "https://t.co/x…", "", "https://a.example/"]}, "a < b <p>", ["https://a.example/"]),
        (
            {"text": '<p>hi <a class="u-url mention" href="https://m.example/@d">@<span>d</span></a> &amp;<br>'
             '<a rel="tag" href="https://m.example/tags/x">#<span>x</span></a></p><p>https://b.example/</p>'},
            "hi @d &\n#x\n\nhttps://b.example/",
            ["https://b.example/"],
        ),
        ({"text": "<3 you </p>"}, "<3 you </p>", []),
    ],
)  # fmt: skip
def test_whose_text_and_links_a_post_has(fields: dict[str, Any], text: str, urls: list[str]) -> None:
    """Its own, whole: not a quoted post's, not a link to itself, nothing cut, no tags."""
    record = cases.status(**fields)
    post = parse.parse(record)
    assert (post.text, list(post.urls)) == (text, urls)
    assert cases.of_oracle(record) == post._replace(urls=list(post.urls))


# ---------------------------------------------------------------------------------------------------------- bounds

MEGABYTE = 1_000_000


def repeated(piece: str) -> str:
    return piece * (MEGABYTE // len(piece.encode()))


def hostile() -> Iterator[dict[str, Any]]:
    """Posts of a megabyte that would cost more than their length, were each step not bounded."""
    yield {"text": "&#" + "1" * 4301 + ";"}
    yield {"text": "<p>" + "&#" + "1" * 4301 + ";</p>"}
    yield {"text": repeated("&#1")}
    yield {"text": "a" + repeated("\u0345\u0334")}
    yield {"text": "https://" + repeated("\u0345\u0334")}
    yield {"text": repeated("ש'")}
    yield {"text": "é" + repeated("\u200d")}
    yield {"text": "é" + repeated("_")}
    yield {"text": repeated("1,") + "é"}
    yield {"text": repeated("https://a)")}
    yield {"text": "https://a" + repeated("(")}
    yield {"text": "@" + repeated("a-")}
    yield {"text": repeated("a.b") + "@"}
    yield {"text": "-".join(f"w{n:x}" for n in range(130_000))}
    yield {"text": " ".join(f"w{n:x}" for n in range(pairs.MAX_PAIRED_WORDS))}
    yield {"text": "<p>" + "<" * 99_000 + "</p>"}
    yield {"text": "<p>" + "<div>" * 19_000 + "</p>"}
    yield {"text": "x", "urls": [f"http://é{n}.example" for n in range(40_000)]}
    yield {"text": "x", "created_at": "9" * MEGABYTE}
    yield {"text": "x", "other": [int("9" * 4299)] * 200}


def test_a_hostile_post_costs_at_most_a_second() -> None:
    """From record to counts, under both rules; measured in CPU time, with room for slow machines."""
    each = [cases.status(**fields) for fields in hostile()] + [b'{"other": ' + b"[" * MEGABYTE, b"9" * MEGABYTE]
    before = resource.getrusage(resource.RUSAGE_SELF)
    for record in each:
        parsed = columns.parse_block(pa.chunked_array([pa.array([record], pa.large_binary())])).posts
        for name in rules.RULES:
            rule_set = rules.get(name)
            tokens = tokenize(parsed["text"], parsed["lang"], rule_set)
            count.count_words(tokens)
            count.count_urls(parsed["urls"], rule_set)
            list(pairs.split(pairs.of_posts(tokens), 4))
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < len(each)


def test_a_posts_links_are_bounded() -> None:
    post = parse.parse(cases.status(urls=[f"https://a.example/{n}" for n in range(1200)]))
    assert list(post.urls) == [f"https://a.example/{n}" for n in range(1000)]

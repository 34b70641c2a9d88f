"""A record becomes the post that the oracle makes of it, or is rejected for the same reason."""

import datetime
from typing import Any

import oracle
import posts_cases as cases
import pytest
from hypothesis import example, given, settings
from posts_cases import of_oracle, of_product, status
from running import SHARE

from pipelines.posts import parse


def check(record: bytes) -> None:
    """All ways to read a record agree with the oracle."""
    expected = of_oracle(record)
    assert of_product(parse.parse, record) == expected
    if expected not in (parse.TOO_LONG, parse.BAD_UTF8):
        assert of_product(parse.parse_text, record.decode()) == expected
    try:
        created_at: int | str = parse.created_at(record)
    except parse.Rejected as reason:
        created_at = str(reason)
    if isinstance(expected, parse.Post):
        assert created_at == expected.created_at
    elif expected in (parse.TOO_LONG, parse.BAD_UTF8, parse.BAD_JSON):
        # A split of an archive may find the day of a record that is bad elsewhere; the day then rejects it.
        assert created_at == expected or isinstance(created_at, int)
    elif expected == parse.BAD_CREATED_AT:
        assert created_at == parse.BAD_CREATED_AT


@settings(max_examples=2000 // SHARE, deadline=None)
@given(cases.records)
def test_any_bytes_give_the_oracles_post_or_reason(record: bytes) -> None:
    check(record)


@settings(max_examples=1500 // SHARE, deadline=None)
@given(cases.moments)
@example("20170827-040506")
@example("2017-08-27t04:05:06z")
def test_any_moment_is_the_oracles(moment: Any) -> None:
    check(status(created_at=moment))


@pytest.mark.parametrize("pattern", [*cases.ARCHIVES, "twitter_api_v1/*.json"])
def test_every_real_record_gives_the_oracles_post(pattern: str) -> None:
    for path in cases.real(pattern):
        for record in oracle.read_source(path):
            check(record)


@settings(max_examples=500, deadline=None)
@given(cases.records)
def test_the_fast_path_agrees_with_the_exact_one(record: bytes) -> None:
    """An `entities` of null changes nothing but that the record takes the exact path."""
    exact = record.rstrip()
    if not exact.endswith(b"}") or isinstance(of_oracle(record), str) or b'"entities"' in record:
        return
    exact = exact[:-1] + b', "entities": null}'
    assert of_product(parse.parse, exact) == of_product(parse.parse, record)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{} {}",
        b"\x00",
        b"{'tid': 1}",
        b"\xef\xbb\xbf" + status(),
        b"\xef\xbb\xbf\xef\xbb\xbf" + status(),
        b"\xc2\xa0" + status(),
        status() + b"\x00",
        status() + b"\x0b",
        status() + b"\r\n",
        status() + b" " * (parse.MAX_RECORD - len(status())),
        status() + b" " * (parse.MAX_RECORD - len(status())) + b"\r\n",
        status() + b" " * (parse.MAX_RECORD - len(status()) + 1),
        status() + b" " * parse.MAX_RECORD + b"\xff",
        *(
            b'{"tid": 1, "created_at": 5, "text": "x", ' + fault + b"}"
            for fault in [
                b'"u": NaN',
                b'"u": -Infinity',
                b'"u": 1e999',
                b'"u": 01',
                b'"u": 1.',
                b'"u": +1',
                b'"u": .5',
                b'"u": tru',
                b'"u": "\\ud800"',
                b'"u": ["\\udc00\\ud800"]',
                b'"u": "\\q"',
                b'"u": "\\u12"',
                b'"u": "a\tb"',
                b'"u": "\x00"',
                b'"u": [1,]',
                b'"u": {1: 1}',
                b'"u": {"a" 1}',
                b'"u": "\xed\xa0\x80"',
                b'"u": ' + b"9" * 5000,
                b'"tid": ' + b"9" * 5000,
                b'"tid": ' + b"9" * 400,
                b'"created_at": ' + b"9" * 400,
                b'"created_at": -' + b"9" * 5000,
                b'"u": ' + b"[" * 500 + b"]" * 500,
                b'"u": ' + b"[" * 100_000,
                b'"tid": 1.0',
                b'"tid": 1e3',
                b'"tid": -0',
                b'"tid": 18446744073709551616',
                b'"tid": true',
                b'"tid": ""',
                b'"tid": null, "id_str": " 9 "',
                b'"tid": null, "id": 0',
                b'"tid": null',
                b'"t\\u0069d": 7',
                b'"text": null, "full_text": "f"',
                b'"text": "", "full_text": "f"',
                b'"text": "\\ud83d\\ude00"',
                b'"text": "\\ud83d"',
                b'"text": "a\\u0000b"',
                b'"text": "\\u3000"',
                b'"text": "\\u001c"',
                b'"user": {"screen_name": 5}',
                b'"user": {"screen_name": "z"}',
                b'"user": {}',
                b'"user": 5',
                b'"lang": 5',
            ]
        ),
    ],
)
def test_hand_picked_records_too(line: bytes) -> None:
    check(line)


@pytest.mark.parametrize(
    ("fields", "urls"),
    [
        ({"text": "a HTTPS://x.example/A, (http://y.example/b). z"}, ["HTTPS://x.example/A", "http://y.example/b"]),
        ({"text": "http://x.example", "urls": []}, []),
        ({"text": "http://x.example", "urls": ["http://y.example"]}, ["http://y.example"]),
        ({"text": "http://x.example", "urls": None}, ["http://x.example"]),
        ({"text": "http://x.example", "urls": ["a", None, 5, {"url": "b"}]}, ["a", "b"]),
        ({"urls": ["a"], "entities": {"urls": []}}, []),
        ({"urls": ["a"], "entities": {}}, ["a"]),
        ({"urls": ["a"], "entities": None}, ["a"]),
        ({"urls": ["a"], "entities": {"urls": None}}, ["a"]),
        ({"entities": {"urls": [{"expanded_url": "e", "url": "u"}, {"expanded_url": None, "url": "u"}]}}, ["e", "u"]),
        ({"entities": {"urls": [{"url": "u"}, {"expanded_url": None}, {}, "s", None]}}, ["u"]),
    ],
)
def test_the_first_field_of_urls_that_is_there_decides(fields: dict[str, Any], urls: list[str]) -> None:
    line = status(**fields)
    assert parse.parse(line).urls == urls
    check(line)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2017-08-27T04:05:34Z", "2017-08-27T04:05:34"),
        ("2017-08-27 04:05:34.123456789", "2017-08-27T04:05:34.123456"),
        ("2017-08-27T01:00:00+05:30", "2017-08-26T19:30:00"),
        ("2017-08-27T01:00:00-0130", "2017-08-27T02:30:00"),
        ("20170827T040534Z", "2017-08-27T04:05:34"),
        ("2017-W34-7", "2017-08-27T00:00:00"),
        ("2017-08-27", "2017-08-27T00:00:00"),
        ("Wed Aug 27 13:08:45 +0000 2008", "2008-08-27T13:08:45"),
        ("Wed Aug 27 13:08:45 -0130 2008", "2008-08-27T14:38:45"),
        (1503806734, "2017-08-27T04:05:34"),
        (1503806734123, "2017-08-27T04:05:34.123"),
        (1503806734.5, "2017-08-27T04:05:34.5"),
        ("1503806734", "2017-08-27T04:05:34"),
        ("1503806734123", "2017-08-27T04:05:34.123"),
        (-1, "1969-12-31T23:59:59"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00"),
    ],
)
def test_a_moment_is_read_in_every_accepted_form(value: object, expected: str) -> None:
    moment = datetime.datetime.fromisoformat(expected).replace(tzinfo=datetime.UTC)
    assert parse.microseconds(value) == cases.microseconds(moment)


@pytest.mark.parametrize(
    "value",
    [None, True, "", "now", "2017-02-29", "2017-08-27T25:00Z", "2017-13-01", "0000-01-01", "10000-01-01", [2017], {}]
    + ["0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", 1e300, float("nan"), float("inf"), 10**400, "12345678"]
    + ["9" * 5000, "Wed Aug 27 13:08:45 +2400 2008", "Wed Aug 32 13:08:45 +0000 2008", " 2017-08-27", "2017-08-27\n"]
    + ["٢٠١٧-٠٨-٢٧", "20170827-040506", "2017-08-27T04:05:34 Europe/Paris"],
)
def test_what_is_no_moment_is_rejected(value: object) -> None:
    with pytest.raises(parse.Rejected, match=parse.BAD_CREATED_AT):
        parse.microseconds(value)


def test_reasons_are_looked_for_in_one_order() -> None:
    """Each next record has one fault less, the one that was named before."""
    lines = [
        b'\xff{"a": NaN' + b" " * parse.MAX_RECORD,
        b'\xff{"a": NaN',
        b'{"a": NaN',
        b'{"created_at": 5e300, "text": 5}',
        b'{"id": 1, "created_at": 5e300, "text": 5}',
        b'{"id": 1, "created_at": 5, "text": 5}',
    ]
    reasons = [parse.TOO_LONG, parse.BAD_UTF8, parse.BAD_JSON, parse.NO_ID, parse.BAD_CREATED_AT, parse.NO_TEXT]
    assert [of_product(parse.parse, line) for line in lines] == reasons

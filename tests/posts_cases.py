"""What the tests of the posts pipelines share: the real posts, hostile records, and how product and oracle compare."""

import datetime
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import oracle
import pytest
from hypothesis import strategies as st

from pipelines.posts import parse

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "posts"
ARCHIVES = ("barackobama.jsonl", "mayweather_2017.jsonl", "realdonaldtrump.jsonl")
DAY = datetime.date(2017, 8, 27)


def real(pattern: str) -> list[Path]:
    """Files of real posts. Without the shared data the test is skipped; in CI it fails."""
    found = sorted(DATA.glob(pattern))
    if not found:
        reason = f"needs the shared data, {pattern} in {DATA}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def is_lines(data: bytes) -> bool:
    """Whether a file is one of lines: neither compressed nor an API response, which their first bytes tell."""
    start = data.removeprefix(oracle.BOM).lstrip()
    return not data.startswith((b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd")) and not start.startswith((b"[", *_RESPONSES))


_RESPONSES = (b'{"statuses"', b'{"search_metadata"')

# ------------------------------------------------------------------------------------------- product against oracle


def of_product(read: Callable[[Any], parse.Post], record: bytes | str) -> parse.Post | str:
    """The post, or the reason why there is none."""
    try:
        post = read(record)
    except parse.Rejected as reason:
        return str(reason)
    return post._replace(urls=list(post.urls))


def of_oracle(record: bytes) -> parse.Post | str:
    """The same, as the oracle has it."""
    post = oracle.parse(record)
    return post if isinstance(post, str) else as_product(post)


def as_product(post: oracle.Post) -> parse.Post:
    return parse.Post(post.id, microseconds(post.created_at), post.user, post.text, post.urls, post.lang)


def microseconds(moment: datetime.datetime) -> int:
    return (moment - oracle.EPOCH) // datetime.timedelta(microseconds=1)


# ------------------------------------------------------------------------------------------------- hostile records

_words = st.sampled_from(
    ["", " ", "\u3000\n", "a", "hello", "Ünï", "\u0000", "\ufeff", "😀", "e\u0301", "\\u0041", '"']
)
_urls = st.sampled_from(
    ["http://a.example/X", "https://b.example/?q=1#f", "HTTP://C.example", "https://", "http://d.example/a).", "x"]
    + [
        "https://t.co/ab…",
        "htt",
        "[t](http://e.example/a_(b))",
        "<http://f.example>",
        "“http://g.example”x",
        "http://…",
    ]
)
texts = st.lists(_words | _urls | st.text(max_size=8), max_size=5).map(" ".join)
_html = st.lists(
    texts
    | st.sampled_from(["</p><p>", "<br>", "&amp;", "<!-- x -->", "<![x", "<script>a", "</script>", "&#" + "1" * 5000])
    | st.sampled_from(
        [f'<a {attribute}href="http://h.example/x">' for attribute in ("", 'class="mention" ', "rel=tag ")]
    )
    | st.sampled_from(["</a>", "<a href=''>", '<span class="invisible">', "</span>"]),
    max_size=6,
).map(lambda parts: "<p>" + "".join(parts) + "</p>")
anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.sampled_from(["\ud800", "\udfff\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)

_offsets = st.integers(-1500, 1500).map(
    lambda minutes: f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
)
_iso = st.builds(
    lambda moment, separator, offset, fraction: (
        f"{moment:%Y-%m-%d}{separator}{moment:%H:%M:%S}{fraction}{offset}".replace("-W", "W")
    ),
    st.datetimes(),
    st.sampled_from("TTt -_W"),
    st.sampled_from(["Z", "z", "", "+00:00", "-00:00", "+0530", "+01", "+23:59:59.5", "Europe/Paris"]) | _offsets,
    st.sampled_from(["", ".5", ",123", ".123456", ".1234567", ".", ":5"]),
)
_twitter = st.builds(
    lambda moment, weekday, zone: f"{weekday} {moment:%b %d %H:%M:%S} {zone} {moment:%Y}",
    st.datetimes(),
    st.sampled_from(["Wed", "wed", "Xyz"]),
    st.sampled_from(["+0000", "-0530", "+2359", "+2400", "+0060", "+00:00", "Z"]),
)
_digits = st.sampled_from("0123456789-:.,TtZzWw+ ") | st.sampled_from("٣²")
moments: st.SearchStrategy[Any] = (
    st.integers(1_503_792_000, 1_503_878_399)
    | st.integers(1_503_792_000_000, 1_503_878_399_999)
    | st.floats(0, 2e12)
    | st.integers(-(10**17), 10**17)
    | st.sampled_from([10**11, 10**11 - 1, 99_999_999_999.9, -62_135_596_800, 253_402_300_800, 1e300, 10**400])
    | _iso
    | _twitter
    | st.integers(0, 10**20).map(str)
    | st.text(_digits, max_size=24)
    | st.sampled_from(
        [
            "2017-08-27",
            "20170827",
            "20170827T040534Z",
            "2017-W34-7",
            "20170827040534",
            20170827040534,
            20171327040534,
            "2017-08-27 04:05:34 UTC",
            "2017-08-27T04:05:34.5utc",
            "2017-08-27 04:05:34 +0130",
            "2017-08-27 UTC",
            10**15,
            10**18 - 1,
            10**18 + 1,
            -(10**18) - 1,
            1503806734123456789,
            "2017W347",
            "2017-08-27T04:05:34Z",
        ]
    )
)
_listed = st.lists(_urls | texts | anything | st.fixed_dictionaries({}, optional={"expanded_url": _urls, "url": _urls}))
_fields: dict[str, st.SearchStrategy[Any]] = {
    "tid": st.integers(1, 9) | anything,
    "id": st.integers() | anything,
    "id_str": st.integers(1, 9).map(str) | anything,
    "created_at": moments | moments | moments | anything,
    "text": texts | texts | _html | anything,
    "full_text": texts | _html | anything,
    "user": texts | st.fixed_dictionaries({"screen_name": texts | anything}) | anything,
    "lang": st.sampled_from(["en", "de", "und"]) | anything,
    "urls": st.none() | _listed | anything,
    "entities": st.fixed_dictionaries({}, optional={"urls": _listed | anything}) | anything,
    "other": anything,
    "truncated": st.booleans() | anything,
    "delete": st.just({}) | anything,
    "event": st.just("follow"),
    "quoted_status_permalink": st.fixed_dictionaries({"expanded": _urls}) | anything,
}
_inner = st.fixed_dictionaries({}, optional=_fields)
_fields |= {"extended_tweet": _inner | anything, "retweeted_status": _inner | anything}
_good = {"tid": 1, "created_at": "2017-08-27T04:05:34Z", "text": "hello"}
objects = st.builds(
    lambda usual, fields: (_good if usual else {}) | fields, st.booleans(), st.fixed_dictionaries({}, optional=_fields)
)


def _dumped(fields: Any, ascii_only: bool, indent: int | None, around: str) -> bytes:
    text = json.dumps(fields, ensure_ascii=ascii_only, indent=indent).replace("\n", " ")
    return (around + text + around).encode("utf-8", "surrogatepass")


json_records = st.builds(
    _dumped,
    objects | objects | objects | anything,
    st.booleans(),
    st.sampled_from([None, 1]),
    st.sampled_from(["", "", " ", "\t \r", "\ufeff", "\x0b", "\x00"]),
)


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """A record with some of its bytes replaced by others."""
    record = draw(json_records)
    for _ in range(draw(st.integers(1, 3))):
        at, length = draw(st.integers(0, len(record))), draw(st.integers(0, 4))
        record = record[:at] + draw(_junk) + record[at + length :]
    return record.replace(b"\n", b" ")


_junk = st.binary(max_size=4) | st.sampled_from(
    [
        b'"',
        b"\\",
        b"\\u",
        b"\\ud83d",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"\xf4\x90\x80\x80",
        b"NaN",
        b",",
        b"}",
        b"]",
    ]
    + [b'"tid":2,', b'"created_at":1,', b'"t\\u0065xt":"x",', b"-", b"1e9", b"0", b"\x00", b"\x1f"]
)
records: st.SearchStrategy[bytes] = json_records | json_records | _mutated() | st.binary(max_size=40)
"""One line, without its end: good, bad, or nearly good."""


def encoded(fields: Any) -> bytes:
    return json.dumps(fields).encode()


def status(**changes: Any) -> bytes:
    """A good record with some fields changed, or, where the value is Ellipsis, taken out."""
    return encoded({name: value for name, value in (_good | changes).items() if value is not ...})


def near(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows to compare with: floats to 1e-12, all else exactly."""
    return [[pytest.approx(v, rel=1e-12, abs=1e-12) if isinstance(v, float) else v for v in row] for row in rows]

"""Records of one shape are read together, and give what the oracle makes of each; a doubtful one costs no other."""

import json
import resource
from collections.abc import Callable, Sequence
from typing import Any

import oracle
import posts_cases as cases
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import SHARE

from pipelines.posts import columns, parse, shapes


def as_read(records: Sequence[bytes], *, kind: pa.DataType | None = None) -> list[parse.Post | str]:
    """The post of each record, or why there is none, as a block of these records has them."""
    parsed = columns.parse_block(pa.chunked_array([pa.array(records, kind or pa.large_binary())]))
    found: list[parse.Post | str] = [oracle.NOTICE] * len(records)
    for row, reason in parsed.rejects:
        found[row] = reason
    for row, post in zip(parsed.rows.tolist(), parsed.posts.to_pylist(), strict=True):
        found[row] = parse.Post(**post)
    assert parsed.notices == found.count(oracle.NOTICE)
    assert parsed.rows.tolist() == sorted(parsed.rows.tolist())
    return found


def check(records: Sequence[bytes]) -> None:
    assert as_read(records) == [cases.of_oracle(record) for record in records]


def of_a_shape(records: Sequence[bytes]) -> list[int]:
    """The rows of the records that are read together."""
    found = shapes.read(pa.array(records, pa.large_binary()), lambda shape: range(len(shape.kinds)))
    return sorted(row for each in found for row in each.rows.tolist())


# -------------------------------------------------------------------------------------------------- records that differ

GOOD: dict[str, Any] = {
    "id": 7,
    "user": "ann",
    "text": "see http://t.example/hi",  # which is no link where `urls` is a list
    "created_at": "2026-11-01T00:00:00Z",
    "urls": [],
    "n": 1,
}
TIMES: list[Any] = [
    *("2026-11-01T00:00:00.123Z", "2026-02-30T00:00:00Z", "2024-02-29T00:00:00Z", "0000-01-01T00:00:00Z"),
    *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-11-01T24:00:00Z", "2026-11-01T23:59:60Z"),
    *("2026-11-01 00:00:00Z", "2026-11-01T00:00:00z", "2026-11-01T00:00:00+0", "2026-11-01T00:00:00,123Z"),
    *("+026-11-01T00:00:00Z", "2026-1-01T00:00:000Z", "2026-11-01T00:00:0١Z", "2026-11-01T01:00:00+01:00"),
    *(1793491200, 1793491200123, "1793491200", "99999999999", 100000000000, 9999999999999, 20261101000000, 12345678),
    *("20261101000000", -5, 0, 1.5, None, True, "Sun Nov 01 10:29:39 +0000 2026", "2026-11-01", ""),
]
TEXTS: list[Any] = [
    *(
        "",
        'a "quoted" one',
        "tab\there",
        "back\\slash",
        "ends\\",
        '\\"',
        "<p>x</p>",
        "<3",
        "é😀",
        "nul\x00",
        "\x7f",
        "\u2028",
    ),
    *("http://a.example/x y", "https://b.example/…", "://", "\ud800", None, 5, ["x"]),
]
IDS: list[Any] = [0, -1, -0.0, 10**17, 10**18, 2**64, 1.0, "1", " 2 ", "", "x y", "é", "\\", None, True, [1], [None]]
URL = "http://a.example/abc"
URLS: list[Any] = [
    *([URL], [URL, "htt"], [URL, "https://", URL], ["http" + " " * 20], [" " * 30 + "https://"], ["x…" * 10]),
    *(["\u3000" * 10 + "htt"], ["no link at all"], [f"{URL}{n}" for n in range(70)], [], None, "x", 5, [None], [5]),
    *([True, False], {}, [[]], [[URL]], [{"url": URL}], [URL, None], [URL, 5], [{}, URL]),
]
OTHER: list[Any] = [
    0,
    -0.0,
    1e300,
    -1,
    None,
    False,
    "s",
    "\\",
    "\ud800",
    {"a": 1},
    [1, 2],
    ["a", 1],
    [],
    {},
    {"id": 5, "text": []},
]
USERS: list[Any] = [
    "a\\b",
    None,
    5,
    True,
    {"screen_name": "z"},
    {"screen_name": 5},
    {"name": "q"},
    {"screen_name": {}},
    {},
    ["x"],
]
#: With so many values a record has no shape.
WIDE = GOOD | {f"f{number}": number for number in range(20)}
VALUES: dict[str, list[Any]] = {"id": IDS, "text": TEXTS, "created_at": TIMES, "urls": URLS, "user": USERS, "n": OTHER}
SEPARATORS = [(",", ":"), (", ", ": "), (" , ", " :")]


def record(fields: dict[str, Any], *, separators: tuple[str, str] = (",", ":"), ascii_only: bool = False) -> bytes:
    return json.dumps(fields, ensure_ascii=ascii_only, separators=separators).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("usual", [GOOD, WIDE], ids=["of a shape", "of none"])
def test_any_value_among_like_records_is_read_as_the_oracle_reads_it(
    name: str, ascii_only: bool, usual: dict[str, Any]
) -> None:
    """Each value in two records, first beside good ones, then in a block where every value has its like."""
    for separators in SEPARATORS if usual is GOOD else SEPARATORS[:1]:
        some = [record(usual | {name: value}, separators=separators, ascii_only=ascii_only) for value in VALUES[name]]
        good = record(usual, separators=separators)
        check([line + b"\n" for each in some for line in (good, each, each)])
        for each in some:
            check([each, each + b"\r\n", each + b"\n"])


@pytest.mark.parametrize(
    "fields",
    [
        {"tid": 1, "id_str": "2", "id": 3},
        {"tid": None, "id_str": "2", "id": 3},
        {"id": 3, "id_str": "2"},
        {"id_str": None, "id": 3},
        {"text": None, "full_text": "f"},
        {"text": "t", "full_text": "f"},
        {"full_text": "f", "text": ...},
        {"created_at": ...},
        {"urls": ..., "text": f"{URL} and ({URL}?b)."},
        {"user": ..., "lang": "en"},
        {"lang": {"code": "en"}},
        {"entities": None},
        {"entities": {"urls": [{"expanded_url": URL}]}},
        {"truncated": True},
        {"delete": {}},
        {"delete": {}, "id": ..., "text": ...},
        {"a": {"id": 9, "text": "inner", "created_at": 5}, "b": [{"id": 9}, [], [[1, "x"]]]},
        {"": "no name", "u\u00e9": 1},
    ],
)
def test_whichever_fields_a_shape_has_its_records_are_the_oracles(fields: dict[str, Any]) -> None:
    whole = {name: value for name, value in (GOOD | fields).items() if value is not ...}
    check([record(whole)] * 3 + [record(GOOD)] + [record(whole, separators=SEPARATORS[1])] * 2)


@st.composite
def _blocks(draw: st.DrawFn) -> list[bytes]:
    """Records of one shape or none, some with another value or with bytes that are wrong, with or without line ends."""
    separators, ascii_only = draw(st.sampled_from(SEPARATORS)), draw(st.booleans())
    ends = draw(st.sampled_from([[b"\n"], [b""], [b"\r\n"], [b"\n", b"", b" \n", b"\r\r\n"]]))
    records, usual = [], draw(st.sampled_from([GOOD, GOOD, WIDE]))
    for _ in range(draw(st.integers(1, 12))):
        fields = dict(usual)
        for name in draw(st.lists(st.sampled_from(list(VALUES)), max_size=2)):
            fields[name] = draw(st.sampled_from(VALUES[name]))
        line = record(fields, separators=separators, ascii_only=ascii_only)
        for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
            at, length = draw(st.integers(0, len(line))), draw(st.sampled_from([0, 0, 1, 2, 4]))
            line = line[:at] + draw(st.sampled_from(JUNK)) + line[at + length :]
        records.append(line + draw(st.sampled_from(ends)))
    return records


JUNK = [
    *(
        b'"',
        b"\\",
        b"\\\\",
        b'\\"',
        b"\\u",
        b"\\ud83d",
        b"\\q",
        b"\\/",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\t",
        b"\r",
    ),
    *(
        b"\x00",
        b"\x1f",
        b"\x7f",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b" ",
        b"-",
        b"0",
        b"1e9",
        b".",
        b"NaN",
        b"/*c*/",
        b"'",
    ),
    *(b'"n":1,', b'"text":"t",', b'"t\\u0065xt":"x",', b'"delete":{},', b"\xef\xbb\xbf", b"}{", b"} {", b"[[", b"null"),
]


@pytest.mark.parametrize("usual", [GOOD, WIDE], ids=["of a shape", "of none"])
@pytest.mark.parametrize("before", [b'i"', b":1", b'"n"', b"]"], ids=["string", "number", "name", "list"])
def test_any_bytes_within_a_record_are_what_the_oracle_takes_them_for(before: bytes, usual: dict[str, Any]) -> None:
    good = record(usual)
    junk = [*JUNK, *(bytes([byte]) for byte in (*range(10), *range(11, 32), *range(127, 256)))]
    check([line for piece in junk for line in (good, good.replace(before, piece + before))])
    check([good.replace(before, piece + before) for piece in junk])
    for piece in JUNK:  # in so few records each shape is learnt
        check([good.replace(before, piece + before)] * 2)


@settings(max_examples=800 // SHARE, deadline=None)
@given(_blocks())
def test_any_block_of_like_records_is_read_as_the_oracle_reads_each(records: list[bytes]) -> None:
    check(records)


@settings(max_examples=300 // SHARE, deadline=None)
@given(st.lists(st.text("0123456789-:TZ. ", min_size=20, max_size=20) | cases.moments, max_size=3), st.data())
def test_a_time_nearly_as_usual_is_the_oracles(moments: list[Any], data: st.DataObject) -> None:
    """Arrow reads times of the usual sizes; a block in which each time is of a usual size is read by Arrow alone."""
    for usual in ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00.123Z"):
        at, char = data.draw(st.integers(0, len(usual) - 1)), data.draw(st.sampled_from("0123456789-:TZ.+ t,"))
        moments.append(usual[:at] + char + usual[at + 1 :])
        check([record(GOOD | {"created_at": moments[-1]}), record(GOOD)])
    check([record(GOOD | {"created_at": moment}) for moment in moments])


# ---------------------------------------------------------------------------------------------- what a shape is and not


def test_what_stands_between_the_values_must_be_the_same() -> None:
    good = record(GOOD)
    others = [
        good.replace(b'"n"', b'"m"'),
        good.replace(b'"created_at"', b'"treated_at"'),
        good.replace(b'"created_at"', b'"created_by"'),
        good.replace(b'"n":1', b'"n": 1'),
        good.replace(b":1}", b":1 }"),
        good.replace(b":1}", b":1}}"),
        good.replace(b":1}", b":1,}"),
        good.replace(b":1}", b":01}"),
        good.replace(b":1}", b":}"),
        good.replace(b":1}", b":1,2}"),
        good.replace(b":1}", b":'1'}"),
        good.replace(b":1}", b":1]"),
        good.replace(b'{"id"', b'("id"'),
        good.replace(b'"user":', b'"us\\u0065r":'),
        b" " + good,
        good + b"x",
        good[:-1],
        good + good,
        b'"' + good[1:],
    ]
    for other in others:
        records = [good] * 9 + [other] + [good] * 90
        assert of_a_shape(records) == [row for row in range(100) if row != 9]
        check(records)


def test_nothing_may_follow_the_last_value_but_what_the_shape_has() -> None:
    """A scalar is found by the record's end; after a string or a list the end must be where it is in the shape."""
    values: list[Any] = ["s", [1, 2], ["a"], [], {}, {"a": "b"}]
    for value in values:
        good = record(GOOD | {"z": value})
        for other in (good + b"x", good + b"}", good + good, good + b" 1", good[:-1], good[:-1] + b',"z":2}'):
            records = [good] * 9 + [other] + [good] * 90
            assert of_a_shape(records) == [row for row in range(100) if row != 9]
            check(records)


def test_a_record_without_its_line_end_ends_where_the_next_one_begins() -> None:
    """A backslash or an open string at a record's end is nothing to the next record."""
    good = record(GOOD)
    for end in (b"\\", b'"', b'\\"', b'"\\', b"\xc3", b"\\\\\\", b'{"id":7,"user":"', good[:-1] + b'"\\'):
        records = [good, good[:-1] + end, good, end, good, b"", good]
        check(records)
        assert {0, 2, 4, 6} <= set(of_a_shape(records))


@pytest.mark.parametrize("pattern", cases.ARCHIVES)
def test_all_real_records_are_read_together(pattern: str) -> None:
    """Real posts of one producer have a few shapes: what makes parsing quick is not lost unseen."""
    for path in cases.real(pattern):
        records = [line + b"\n" for line in cases.lines_of(path)]
        assert len(of_a_shape(records)) > 0.97 * len(records)


def test_escapes_make_no_record_another_shape() -> None:
    """Quotation marks and backslashes within a string, one or many, and names that stand twice."""
    texts = [text for text in TEXTS if isinstance(text, str) and text != "\ud800"]
    texts += ["\\" * number + end for number in range(6) for end in ("", '"', '"x', 'x"')]
    records = [record(GOOD | {"text": text, "user": text}) for text in texts]
    assert of_a_shape(records) == list(range(len(records)))
    check(records)
    for twice in (
        b'"id":5,"id"',
        b'"text":"a","text"',
        b'"text":null,"text"',
        b'"urls":["b"],"urls"',
        b'"n":{"a":1},"n"',
    ):
        check([record(GOOD).replace(twice.split(b",")[-1], twice)] * 2)


def test_a_number_is_an_id_as_python_writes_it() -> None:
    for id_ in (b"-0", b"-7", b"07", b"7.0", b"0x7"):
        check([record(GOOD).replace(b'"id":7', b'"id":' + id_)] * 2)


def test_a_block_may_have_chunks_and_other_offsets() -> None:
    records = [record(GOOD | {"id": number, "text": "é" * (number % 7)}) for number in range(400)]
    expected = [cases.of_oracle(line) for line in records]
    assert as_read(records, kind=pa.binary()) == expected
    whole = pa.array([b"x", *records, b"y"], pa.large_binary())
    parsed = columns.parse_block(pa.chunked_array([whole.slice(1, 150), whole.slice(151, 0), whole.slice(151, 250)]))
    assert parsed.rows.tolist() == list(range(400))
    assert [parse.Post(**post) for post in parsed.posts.to_pylist()] == expected


# -------------------------------------------------------------------------------------------------------------- bounds


def cpu_seconds(act: Callable[[], object]) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF)
    act()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(
    "lines",
    [
        [record({f"f{n}": n} | GOOD) for n in range(20_000)],
        [record(GOOD | {f"f{n % 40}": n % 7 for n in range(number % 40)}) for number in range(20_000)],
        [b'"' * 100] * 10_000,
        [b"\\" * 100] * 10_000,
        [b'{"a":' + b'["",' * 50] * 20_000,
        [b"{" + b'"a":[[[[ ' * 20] * 20_000,
        [b'{"id":"' + b"\\u0020" * 2000 + b'\\u"}'] * 200,
        [b"[" + b"1 , " * 4000 + b"]"] * 200,
        [b'{"a":"' + b"x" * 15_000] * 200,
        [record(GOOD | {"n": "\\ud800"}).replace(b"\\\\", b"\\")] * 10_000,
        [record(GOOD | {"text": "\xe9"}).replace(b"\xc3", b"")] * 10_000,
    ],
    ids=range(11),
)
def test_no_records_make_a_block_slow(lines: list[bytes]) -> None:
    """Each record a shape of its own, or none: no more than one by one, and a second for what is learnt in vain."""
    block = pa.chunked_array([pa.array([line + b"\n" for line in lines], pa.large_binary())])

    def alone() -> None:
        for line in lines:
            cases.of_product(parse.parse, line)

    assert cpu_seconds(lambda: columns.parse_block(block)) < 2 * cpu_seconds(alone) + 1

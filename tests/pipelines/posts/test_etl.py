"""Raw records become a day's posts, each once; every record is accounted for."""

import datetime
import io
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import oracle
import posts_cases as cases
import posts_stages as stages
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from posts_cases import DAY, status

from millrace.beam import batch
from millrace.beam.sources import records
from millrace.common import results
from pipelines.posts import columns, etl, parse

# ------------------------------------------------------------------------------------------------- hostile files

#: Posts of the day and of its neighbours that meet each other's ids.
_plain = st.builds(
    lambda tid, moment, text, urls: status(tid=tid, created_at=moment, text=text, urls=urls),
    st.integers(1, 4) | st.sampled_from(["1", " 2 ", "x"]),
    st.sampled_from(["2017-08-27T04:05:34Z", "2017-08-27T23:59:59.999999Z", "2017-08-28", "2017-08-26T23:59:59Z"]),
    st.sampled_from(["one", "two", "\x00", "ü"]),
    st.sampled_from([[], ["http://a.example"], None, ...]),
)
_spoiled = st.builds(
    lambda line, junk: line[:-1] + b', "other": "' + junk + b'"}',
    _plain,
    st.sampled_from([b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\\ud800", b"\\q", b"\x00", b"ok", b"\xf0\x9f\x98\x80"]),
)
_blank = st.sampled_from([b"", b" ", b"\t\r", b"\x0b\x0c"])
_long = st.builds(
    lambda line, room: line + b" " * (parse.MAX_RECORD - len(line) + room), _plain, st.sampled_from([0, 1, 1 << 20])
)


def _file(lines: list[bytes], end: bytes, last: bool, bom: bool) -> bytes:
    data = end.join(lines) + (end if last else b"")
    return (b"\xef\xbb\xbf" if bom else b"") + data


def hostile_files(*, long: bool) -> st.SearchStrategy[bytes]:
    line = (
        _plain
        | _plain
        | _spoiled
        | _blank
        | cases.records.map(lambda record: record.replace(b"\n", b""))
        | (_long if long else _plain)
    )
    return st.builds(
        _file, st.lists(line, max_size=12), st.sampled_from([b"\n", b"\r\n"]), st.booleans(), st.booleans()
    )


def lines_of(data: bytes) -> list[tuple[int, bytes]]:
    """Line number and line without its end, of each line that is not blank."""
    lines = [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return [
        (number, line)
        for number, line in enumerate(lines, 1)
        if (line.removeprefix(oracle.BOM) if number == 1 else line).strip()
    ]


def expected_rejects(data: bytes, source: str, file: str) -> list[dict[str, Any]]:
    parsed = [(number, line, oracle.parse(line)) for number, line in lines_of(data)]
    return [
        {"reason": reason, "source": source, "file": file, "line": number, "record": line}
        for number, line, reason in parsed
        if isinstance(reason, str) and reason != oracle.NOTICE
    ]


def by_place(row: dict[str, Any]) -> tuple[str, int]:
    return row["file"], row["line"]


def as_oracle(row: dict[str, Any]) -> oracle.Post:
    return oracle.Post(*(row[name] for name in ("id", "created_at", "user", "text", "urls", "lang")))


def check_counters(written: results.Written, day: oracle.DayResult) -> None:
    counters = {name: count for name, count in written.counters.items() if count}
    rejected = {f"rejected: {reason}": count for reason, count in day.rejected.items()}
    numbers = {"read": day.read, "kept": day.kept, "other_days": day.other_days, "duplicates": day.duplicates}
    numbers["notices"] = day.notices
    assert counters == {name: count for name, count in (numbers | rejected).items() if count}
    assert counters.get("read", 0) == sum(count for name, count in counters.items() if name != "read")


def check(contents: list[bytes], pack: int) -> None:
    """Runs Etl on files with these contents and compares all that it writes with the oracle."""
    day = oracle.day([line for data in contents for _, line in lines_of(data)], DAY)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = stages.raw(folder, *contents)
        written = stages.etl(folder, inputs, DAY, pack)
        check_counters(written, day)
        posts = [as_oracle(row) for row in stages.rows(written, "posts")]
        by_id = {post.id: post for post in posts}
        assert len(by_id) == len(posts) == written.counters.get("kept", 0)
        assert by_id == {post.id: post for post in day.posts}
        rejects = stages.rows(written, "posts_rejected")
        expected = [
            reject
            for number, data in enumerate(contents)
            for reject in expected_rejects(data, f"source {number}", f"{folder}/source-{number}")
        ]
        assert sorted(rejects, key=by_place) == sorted(expected, key=by_place)


@settings(max_examples=25, deadline=None)
@given(st.lists(hostile_files(long=True), min_size=1, max_size=3), st.sampled_from([1, 600, batch.PACK]))
def test_every_record_of_hostile_files_is_kept_or_accounted_for(contents: list[bytes], pack: int) -> None:
    """read = kept + other days + duplicates + notices + rejected; posts and rejects are the oracle's, in whole."""
    assume(all(map(cases.is_lines, contents)))
    check(contents, pack)


def block_of(data: bytes) -> pa.Table:
    blocks = list(records.read(io.BytesIO(data)))
    file = pa.array(["a file"] * sum(len(block.line) for block in blocks), pa.string()).dictionary_encode()
    line = pa.concat_arrays([block.line for block in blocks]) if blocks else pa.array([], pa.int64())
    record = pa.concat_arrays([block.record for block in blocks]) if blocks else pa.array([], pa.large_binary())
    return pa.Table.from_arrays([file, line, record], schema=records.SCHEMA)


@settings(max_examples=400, deadline=None)
@given(hostile_files(long=False))
def test_a_block_of_hostile_bytes_is_read_as_the_oracle_reads_each_line(data: bytes) -> None:
    assume(cases.is_lines(data))
    lines = lines_of(data)
    block = block_of(data)
    assert block["line"].to_pylist() == [number for number, _ in lines]
    parsed = columns.parse_block(block["record"])
    expected = [(row, cases.of_oracle(line)) for row, (_, line) in enumerate(lines)]
    posts = [parse.Post(**post) for post in parsed.posts.to_pylist()]
    assert list(zip(parsed.rows.tolist(), posts, strict=True)) == [
        (row, post) for row, post in expected if isinstance(post, parse.Post)
    ]
    assert sorted(parsed.rejects) == [
        (row, reason) for row, reason in expected if isinstance(reason, str) and reason != oracle.NOTICE
    ]
    assert parsed.notices == sum(reason == oracle.NOTICE for _, reason in expected)


def numbered(text: str, *ids: int) -> bytes:
    return b"".join(status(tid=id_, text=text) + b"\n" for id_ in ids)


def test_the_last_duplicate_wins_across_files_in_their_order(tmp_path: Path) -> None:
    """The order is that of the input list, not of names, sources or packs."""
    second = numbered("second", 2) + numbered("second again", 2)
    files_ = stages.raw(tmp_path, second, numbered("third", 3), numbered("first", 1, 2, 3))
    inputs = [files_[2], files_[0], files_[1]]
    for pack in (1, batch.PACK):
        written = stages.etl(tmp_path / str(pack), inputs, DAY, pack, sources=["z", "a", "a"])
        rows = stages.rows(written, "posts")
        found = sorted((row["id"], row["text"], row["source"]) for row in rows)
        assert found == [("1", "first", "z"), ("2", "second again", "a"), ("3", "third", "a")]
        assert written.counters["duplicates"] == 3


def test_the_last_duplicate_wins_across_blocks_of_a_file(tmp_path: Path) -> None:
    (path,) = stages.raw(tmp_path, numbered("early", *range(50)) + numbered("late", *range(25)))
    small = str(tmp_path / "small.parquet")
    pa.parquet.write_table(pa.parquet.read_table(path), small, row_group_size=7)
    whole, parts = (stages.etl(tmp_path / str(n), [p], DAY, 1) for n, p in enumerate((path, small)))
    assert len(stages.paths(parts, "posts")) == 11
    texts = {row["id"]: row["text"] for row in stages.rows(parts, "posts")}
    assert texts == {str(n): "late" if n < 25 else "early" for n in range(50)}
    assert stages.table(whole, "posts") == stages.table(parts, "posts")
    assert whole.counters == parts.counters


@pytest.mark.parametrize("pattern", cases.ARCHIVES)
def test_packs_change_nothing_but_the_files(pattern: str, tmp_path: Path) -> None:
    """A post that comes again is found in another file, too; what is not the last leaves nothing, not even a file."""
    (path,) = cases.real(pattern)
    lines = path.read_bytes().splitlines(keepends=True)
    sources = stages.raw(tmp_path, b"".join(lines), b"".join(lines[::7]), b"".join(lines[::-5]))
    one, many = (stages.etl(tmp_path / str(n), sources, DAY, n) for n in (batch.PACK, 1))
    assert one.counters == many.counters
    assert one.counters["duplicates"] > 0
    assert (len(stages.paths(one, "posts")), len(stages.paths(many, "posts"))) == (1, 3)
    assert stages.table(one, "posts") == stages.table(many, "posts")
    assert one.schemas == many.schemas
    there = {str(path) for path in (tmp_path / "1").rglob("posts-*.parquet")}
    assert there == set(stages.paths(many, "posts"))


_ids = st.integers(0, 2**64).map(str) | st.sampled_from(["a", "07", "7", "-7", "é"]) | st.integers(0, 9).map(str)


@settings(deadline=None)
@given(st.lists(st.lists(_ids, max_size=12), min_size=1, max_size=4), st.sampled_from([1, 2, 16]))
def test_shards_of_ids_tell_what_all_ids_together_tell(of_files: list[list[str]], of: int) -> None:
    """Each id comes again in its own shard or not at all; what tells so is the last place of each."""
    tables = [etl.ids_of(pa.chunked_array([pa.array(ids, pa.string())]), n) for n, ids in enumerate(of_files)]
    split = [list(etl.split(table, of)) for table in tables]
    assert all(len(parts) == of for parts in split)
    found = [etl.come_again(pa.concat_tables(parts)) for parts in zip(*split, strict=True)]
    places = [(id_, (file, row)) for file, ids in enumerate(of_files) for row, id_ in enumerate(ids)]
    expected = {place for _, place in places} - set(dict(places).values())
    assert sorted(tuple(row.values()) for table in found for row in table.to_pylist()) == sorted(expected)


def test_ids_are_compared_as_they_are(tmp_path: Path) -> None:
    """Numbers by their digits, with what no number has: zeros before them, signs, more digits than a machine's."""
    ids = [7, "07", "7 ", "+7", "-7", "7.0", 2**63 - 1, 2**63, 2**64 + 7, "9" * 18, "9" * 19, "a7", "７", 0, "00", "-0"]
    data = [b"\n".join(cases.status(tid=id_, text=f"{n} {id_!r}") for id_ in ids) for n in range(2)]
    written = stages.etl(tmp_path, stages.raw(tmp_path, *data), DAY, 1)
    kept = [(row["id"], row["text"]) for row in stages.rows(written, "posts")]
    expected = {str(id_).strip(): f"1 {id_!r}" for id_ in ids}
    assert dict(kept) == expected
    assert len(kept) == len(expected) == len(ids) - 1


@pytest.mark.parametrize("pattern", cases.ARCHIVES)
def test_a_real_day_is_the_oracles(pattern: str, tmp_path: Path) -> None:
    """All of the day's posts, in the order in which they stand in the file."""
    (path,) = cases.real(pattern)
    written = stages.etl(tmp_path, stages.raw(tmp_path, path.read_bytes()), DAY)
    day = oracle.day(oracle.read_source(path), DAY)
    check_counters(written, day)
    assert sorted(map(as_oracle, stages.rows(written, "posts")), key=lambda post: post.id) == sorted(
        day.posts, key=lambda post: post.id
    )


def test_rejects_keep_reason_source_line_and_the_bytes_as_they_came(tmp_path: Path) -> None:
    bad = [b'{"tid": \xff}', b"\x00\x01", b"{", b' {"tid": 1} ', status(text=5), b"x" * (parse.MAX_RECORD + 1)]
    data = b"\r\n\n".join([status(), *bad]) + b"\r\n"
    written = stages.etl(tmp_path, stages.raw(tmp_path, data), DAY, sources=["here"])
    rejects = stages.rows(written, "posts_rejected")
    assert [reject["record"] for reject in rejects] == bad
    assert [reject["line"] for reject in rejects] == [3, 5, 7, 9, 11, 13]
    reasons = [parse.BAD_UTF8, parse.BAD_JSON, parse.BAD_JSON, parse.BAD_CREATED_AT, parse.NO_TEXT, parse.TOO_LONG]
    assert [reject["reason"] for reject in rejects] == reasons
    assert {(reject["source"], reject["file"]) for reject in rejects} == {("here", f"{tmp_path}/source-0")}
    assert Counter(written.counters) >= Counter({"read": 7, "kept": 1})


def test_a_byte_order_mark_costs_no_post(tmp_path: Path) -> None:
    """Nor does it matter whether another line of the block is bad UTF-8."""
    for number, more in enumerate([b"", b"\xff\n"]):
        data = b"\xef\xbb\xbf" + status(tid=1) + b"\n" + status(tid=2) + b"\n" + more
        written = stages.etl(tmp_path / str(number), stages.raw(tmp_path / str(number), data), DAY)
        assert [row["id"] for row in stages.rows(written, "posts")] == ["1", "2"]


@pytest.mark.parametrize("data", [b"", b"\n\n", status(created_at="2017-08-28")], ids=["empty", "blank", "other day"])
def test_a_day_without_posts_is_an_empty_table_with_its_schema(data: bytes, tmp_path: Path) -> None:
    written = stages.etl(tmp_path, stages.raw(tmp_path, data), DAY)
    assert not any(file.rows for file in written.files)
    if "posts" in written.schemas:
        assert written.schemas["posts"] == {field.name: str(field.type) for field in etl.POSTS}
    else:
        assert not stages.paths(written, "posts")


def test_the_posts_have_the_columns_that_they_should(tmp_path: Path) -> None:
    line = status(tid=7, user="ann", lang="en", urls=["http://a.example/X"], created_at="2017-08-27T04:05:34.5+01:00")
    written = stages.etl(tmp_path, stages.raw(tmp_path, line), DAY, sources=["s"])
    table = stages.table(written, "posts")
    assert table.schema.equals(etl.POSTS)
    moment = datetime.datetime(2017, 8, 27, 3, 5, 34, 500_000, datetime.UTC)
    assert table.to_pylist() == [
        {
            "id": "7",
            "created_at": moment,
            "user": "ann",
            "text": "hello",
            "urls": ["http://a.example/X"],
            "lang": "en",
            "source": "s",
        }
    ]
    assert pc.count(table["id"]).as_py() == 1

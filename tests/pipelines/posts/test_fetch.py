"""A source's files become raw records as they came: a day's, or an archive's by day."""

import bz2
import datetime
import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path

import oracle
import posts_cases as cases
import posts_stages as stages
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from posts_cases import DAY, status

from millrace.beam.sources import records, splits
from millrace.errors import NotThereYetError, SourceError
from pipelines.posts import parse, sample

Line = tuple[str, int, bytes]


def lines(path: Path | str, data: bytes) -> list[Line]:
    """File, number and bytes of each line that is not blank."""
    return [(str(path), number, line) for number, line in enumerate(data.splitlines(keepends=True), 1) if line.strip()]


def read(paths: list[str]) -> list[Line]:
    """The records of raw files, in the order of the files."""
    rows = [row for path in paths for row in pq.read_table(path, partitioning=None).to_pylist()]
    return [(row["file"], row["line"], row["record"]) for row in rows]


def day_of(line: bytes) -> str:
    """The day that a record shows; "" for none. A record that is bad elsewhere may show it all the same."""
    try:
        return str(datetime.date(1970, 1, 1) + datetime.timedelta(days=parse.created_at(line) // parse.DAY))
    except parse.Rejected:
        return ""


def test_a_day_keeps_its_records_and_their_lines(tmp_path: Path) -> None:
    """Bytes as they came, line ends too; good, bad, of other days; several files, in the order of their names."""
    contents = {
        "b.jsonl": b"\n" + status() + b"\r\n\xff\x00\n \nnot JSON",
        "a.jsonl": status(created_at="1999-01-01") + b"\n" + status() + b"\n",
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    written = stages.run("fetch", tmp_path, "raw", source=f"{tmp_path}/*.jsonl", date=DAY)
    expected = [line for name in sorted(contents) for line in lines(tmp_path / name, contents[name])]
    assert read(stages.paths(written, "raw")) == expected
    assert [number for _, number, _ in expected] == [1, 2, 2, 3, 5]
    assert written.counters == {"read": 5}
    for path in stages.paths(written, "raw"):
        assert pq.read_schema(path).equals(records.SCHEMA)


def test_the_samples_day_is_the_generators(tmp_path: Path) -> None:
    written = stages.run("fetch", tmp_path, "raw", source="sample://", date=DAY)
    assert [record for _, _, record in read(stages.paths(written, "raw"))] == [
        line + b"\n" for line in sample.lines(DAY)
    ]


def test_a_day_without_a_file_is_not_there_yet(tmp_path: Path) -> None:
    source = f"{tmp_path}/posts-{{date:%Y-%m-%d}}.jsonl"
    with pytest.raises(NotThereYetError, match=r"posts-.* has no file for 2017-08-27"):
        stages.run("fetch", tmp_path, "raw", source=source, date=DAY)
    with pytest.raises(NotThereYetError, match=r"none\.jsonl has no file$"):
        stages.run("fetch", tmp_path, "raw", source=f"{tmp_path}/none.jsonl")
    assert not (tmp_path / "raw").exists()


def test_a_file_without_records_is_an_empty_file_of_records(tmp_path: Path) -> None:
    (path,) = stages.raw(tmp_path, b"\n \n")
    assert read([path]) == []
    assert pq.read_schema(path).equals(records.SCHEMA)


def test_a_broken_file_fails_the_stage_and_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "posts.gz").write_bytes(gzip.compress(status() * 1000)[:-9])
    for flags in ({"date": DAY}, {}):
        with pytest.raises(SourceError, match=r"posts\.gz is broken"):
            stages.run("fetch", tmp_path, "raw", source=f"{tmp_path}/posts.gz", **flags)


def test_a_source_larger_than_its_bound_fails_the_stage(tmp_path: Path) -> None:
    (tmp_path / "posts.jsonl").write_bytes(status() * 1000)
    with pytest.raises(SourceError, match="holds more than 1,000 bytes"):
        stages.run("fetch", tmp_path, "raw", source=f"{tmp_path}/posts.jsonl", max_source_bytes=1000)


# -------------------------------------------------------------------------------------------------------- archives


def check_split(folder: Path, contents: dict[str, bytes]) -> None:
    """Splits the files and compares every file that comes of it with their lines."""
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    written = stages.run("fetch", folder, "raw", source=f"{folder}/source*")
    expected = [
        (str(folder / name), number, text + end)
        for name, data in sorted(contents.items())
        for number, (text, end) in enumerate(zip(*_ends(data), strict=True), 1)
        if (text + end).strip()
    ]
    notices = [line for line in expected if oracle.parse(line[2]) == oracle.NOTICE]
    by_day: dict[str, list[Line]] = {}
    for line in [line for line in expected if line not in notices]:
        by_day.setdefault(day_of(line[2]), []).append(line)
    bad = by_day.pop("", [])
    found = stages.days_of(folder / "days", written)
    assert found.keys() == by_day.keys()
    assert any(file.table == "rejected" for file in written.files) == bool(bad)
    for day, of_day in by_day.items():
        assert read(found[day]) == of_day
    rejects = stages.rows(written, "rejected")
    assert [(row["file"], row["line"], row["record"]) for row in rejects] == bad
    counters = {"read": len(expected), "kept": len(expected) - len(notices) - len(bad)}
    if notices:
        counters["notices"] = len(notices)
    for row in rejects:
        with pytest.raises(parse.Rejected, match=f"^{row['reason']}$"):
            parse.created_at(row["record"])
        key = f"rejected: {row['reason']}"
        counters[key] = counters.get(key, 0) + 1
    assert dict(written.counters) == counters


def _ends(data: bytes) -> tuple[list[bytes], list[bytes]]:
    """Lines, and their ends: a line feed, or for the last one perhaps nothing."""
    parts = data.split(b"\n")
    return parts, [b"\n"] * (len(parts) - 1) + [b""]


_lines = st.builds(
    lambda moment, text: status(created_at=moment, text=text),
    st.sampled_from(
        ["2017-08-27T23:59:59.9999999Z", "2017-08-28T00:30:00+01:00", "0001-01-01", "9999-12-31", 0, -1, "no"]
    ),
    st.sampled_from(["", "a"]),
)


@settings(max_examples=20, deadline=None)
@example([b'\x00\n{"event": "follow"}'])
@example([b"\t"])
@given(st.lists(st.lists(_lines | _lines | cases.records, max_size=9).map(b"\n".join), min_size=1, max_size=3))
def test_every_record_of_an_archive_is_in_its_days_file_or_a_reject(contents: list[bytes]) -> None:
    """With its line and bytes as they came; read = kept + rejected, by reason."""
    assume(all(map(cases.is_lines, contents)))
    with tempfile.TemporaryDirectory() as folder:
        check_split(Path(folder), {f"source-{n}": data for n, data in enumerate(contents)})


@pytest.mark.parametrize("name", cases.ARCHIVES)
def test_a_real_archive_is_split_by_day(name: str, tmp_path: Path) -> None:
    (path,) = cases.real(name)
    check_split(tmp_path, {"source": path.read_bytes()})


def test_an_archive_of_very_many_days_makes_few_files(tmp_path: Path) -> None:
    """20,000 days of a record or two, in no order; a day is taken from the file that it shares, and only that day."""
    first = datetime.date(1970, 1, 1)
    days = [first + datetime.timedelta(days=n * 7919 % 20_000) for n in range(20_000)]
    data = [status(tid=n, created_at=f"{day}T12:00:00Z") for n, day in enumerate([*days, *days[:50]])]
    (tmp_path / "source").write_bytes(b"\n".join(data))
    written = stages.run("fetch", tmp_path, "raw", source=f"{tmp_path}/source")
    assert len(written.files) <= 402
    assert sum(file.rows for file in written.files) == written.counters["kept"] == 20_050
    for day, places in [(days[3], [3, 20_003]), (days[77], [77])]:
        shared = [file.path for file in written.files if splits.shared_with(file.table, day)]
        taken = [splits.take_day(path, day, f"{tmp_path}/{{dataset}}", "day") for path in shared]
        assert [line[1:] for line in read([file.path for one in taken for file in one.files])] == [
            (place + 1, data[place] + b"\n" * (place + 1 < len(data))) for place in places
        ]
    assert not any(splits.shared_with(file.table, first - datetime.timedelta(days=1)) for file in written.files)


def test_rejects_of_a_split_name_reason_and_line(tmp_path: Path) -> None:
    data = [status(), b"\xff", status(created_at=None), b"{", b"x" * (parse.MAX_RECORD + 1), b"[]", status(tid=None)]
    (tmp_path / "source").write_bytes(b"\n".join(data))
    written = stages.run("fetch", tmp_path, "raw", source=f"{tmp_path}/source")
    found = [(row["line"], row["reason"]) for row in stages.rows(written, "rejected")]
    assert found == [
        (2, parse.BAD_UTF8),
        (3, parse.BAD_CREATED_AT),
        (4, parse.BAD_JSON),
        (5, parse.TOO_LONG),
        (6, parse.BAD_JSON),
    ]
    assert written.counters["kept"] == 2


def test_every_post_of_a_response_is_in_its_days_file(tmp_path: Path) -> None:
    """Statuses of all API responses, by day; a status's line is its place in the response."""
    paths = cases.real("twitter_api_v1/*.json")
    days = stages.split(tmp_path, str(cases.DATA / "twitter_api_v1" / "*.json"), "raw")
    found = {(Path(file).name, line): (day, record) for day, raw in days.items() for file, line, record in read(raw)}
    expected = {}
    for path in paths:
        for place, record in enumerate(oracle.read_source(path), 1):
            post = oracle.parse(record)
            assert isinstance(post, oracle.Post)
            expected[path.name, place] = str(post.created_at.date()), post
    assert {place: (day, oracle.parse(record)) for place, (day, record) in found.items()} == expected


def test_compression_does_not_show(tmp_path: Path) -> None:
    data = b"\n".join(status(tid=n, created_at=f"2017-08-{1 + n % 28:02}") for n in range(100))
    found = []
    ways: dict[str, Callable[[bytes], bytes]] = {"plain": bytes, "gz": gzip.compress, "bz2": bz2.compress}
    for name, compress in ways.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "archive").write_bytes(compress(data))
        days = stages.split(folder, f"{folder}/archive", "raw")
        found.append({day: [line[1:] for line in read(raw)] for day, raw in days.items()})
    assert len(found[0]) == 28
    assert found[0] == found[1] == found[2]

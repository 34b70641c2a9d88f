"""A large file of lines that is read in ranges has the records of the whole file, line for line."""

import bz2
import gzip
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import posts_stages as stages
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from running import SHARE

from localcloud.storage import Storage
from millrace.beam import files, gcs
from millrace.beam.sources import named, ranges, records
from millrace.beam.sources.ranges import Unit
from millrace.beam.sources.unpacking import is_packed
from millrace.errors import SourceBusyError, SourceError

MAX = 1 << 30
LINES = b'{"a": 1}\r\n\n  \nnot JSON\n{"b": 2}' + b"x" * 50 + b"\n\n\n\xff\x00\nlast"

Line = tuple[int, bytes]


def rows(blocks: Iterable[records.Block]) -> list[Line]:
    return [row for each in blocks for row in zip(each.line.to_pylist(), each.record.to_pylist(), strict=True)]


def whole(data: bytes, max_kept: int = records.MAX_KEPT) -> list[Line]:
    return rows(records.read(io.BytesIO(data), max_kept=max_kept))


def found(path: str, length: int) -> list[Unit]:
    (file,) = named.stored(path, None)
    return ranges.units(0, file, length, MAX)


def in_ranges(units: list[Unit], block: int = records.BLOCK, max_kept: int = records.MAX_KEPT) -> list[list[Line]]:
    """The records of each range, and so which lines begin in it."""
    number, each = 1, []
    for unit in units:
        assert unit.part is not None
        each.append(rows(ranges.read(unit.file, unit.part, number, block=block, max_kept=max_kept)))
        number += ranges.count(unit.file, unit.part)
    return each


_pieces = st.sampled_from(
    [b"\n", b"\r\n", b"\n\n", b" ", b"\t\x0b", b"\x00", b"\xff", b"{}", b"x", b"y" * 25, b"\xc2\x85", b"\xef\xbb\xbf"]
)
_texts = st.lists(_pieces | st.binary(max_size=6), min_size=2, max_size=30).map(b"".join)


@settings(max_examples=400 // SHARE, deadline=None)
@given(_texts, st.integers(1, 60), st.integers(1, 20), st.integers(1, 30))
@example(LINES, 1, 1, 1 << 20)
@example(b"\xef\xbb\xbf \nx", 1, 9, 9)
@example(b"\xef\xbb\xbfx\n ", 2, 9, 9)
@example(b"\xef\xbb\xbf" + b" " * 5000 + b"x\ny", 4096, 9, 9)
@example(b"x\n" * 5, 2, 9, 9)
@example(b"\n\n\n\n", 1, 9, 9)
@example(b"one line without an end", 3, 5, 9)
@example(b"a\n[{\n", 2, 5, 9)
def test_ranges_of_any_length_have_the_records_of_the_whole(data: bytes, length: int, block: int, kept: int) -> None:
    """Bytes, order and numbers: blank lines, other line ends, byte order marks, lines that are longer than a range or
    than what is kept of a line, a last line without an end; whatever is read at a time.
    """
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        units = found(file.name, length)
        if units[0].part is None:
            assert len(data) <= length or not records.are_lines(data) or is_packed(data)
            return
        expected = whole(data, kept)
        each = in_ranges(units, block, kept)
    assert [line for part in each for line in part] == expected
    starts = [0, *(at + 1 for at, byte in enumerate(data) if byte == 10)]
    for unit, part in zip(units, each, strict=True):
        assert unit.part is not None
        assert {number for number, _ in part} <= {
            number for number, at in enumerate(starts, 1) if unit.part.start <= at < unit.part.end
        }


def test_more_is_read_at_a_time_than_a_range_has(tmp_path: Path) -> None:
    """Lines of megabytes among short ones, with the sizes of a real run but for the range's."""
    data = b"".join(b"%d %s\n" % (n, b"x" * (n % 7 == 0) * 700_000) for n in range(60))
    (tmp_path / "lines").write_bytes(data)
    units = found(f"{tmp_path}/lines", 1 << 20)
    assert len(units) == 7
    assert [line for part in in_ranges(units) for line in part] == whole(data)


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(LINES),
        bz2.compress(LINES),
        zstandard.compress(LINES),
        b"\xff\xfe" + LINES.decode("latin-1").encode("utf-16-le"),
        b"\xfe\xff" + LINES.decode("latin-1").encode("utf-16-be"),
        b' [{"id": 1}, {"id": 2}]',
        b'\xef\xbb\xbf{"statuses": [{"id": 1}]}',
    ],
    ids=["gzip", "bzip2", "zstd", "utf-16-le", "utf-16-be", "array", "object"],
)
def test_what_cannot_be_read_from_any_place_stays_whole(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    (unit,) = found(f"{tmp_path}/file", 1)
    assert unit.part is None


def test_a_file_is_cut_only_where_it_is_larger_than_a_range(tmp_path: Path) -> None:
    """And stays whole where it is larger than allowed, which is told where it is read."""
    (tmp_path / "lines").write_bytes(LINES)
    (file,) = named.stored(f"{tmp_path}/lines", None)
    parts = {length: len(ranges.units(0, file, length, MAX)) for length in (1, len(LINES) - 1, len(LINES))}
    assert parts == {1: len(LINES), len(LINES) - 1: 2, len(LINES): 1}
    assert ranges.units(0, file, 1, len(LINES) - 1) == [Unit(0, file)]


def rewritten(path: Path) -> None:
    path.write_bytes(LINES.upper())


def replaced(path: Path) -> None:
    there = path.stat()
    path.with_name("other").write_bytes(LINES.upper())
    os.utime(path.with_name("other"), ns=(there.st_atime_ns, there.st_mtime_ns))
    path.with_name("other").rename(path)


def grown(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"more")


@pytest.mark.parametrize("change", [rewritten, replaced, grown])
def test_a_file_that_changes_is_no_mixture(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """Before a range is read, or while it is: also one of the same size, or of the same time."""
    path = tmp_path / "a %41 {x}"
    path.write_bytes(LINES)
    first, second, *_ = found(str(path), 9)
    assert first.part
    assert second.part
    reading = ranges.read(first.file, first.part, 1, block=1)
    next(reading)
    change(path)
    said = r"source .*/a %41 \{x\} was written to while it was read; run again"
    if change is not replaced:  # who has opened the file goes on with that one
        with pytest.raises(SourceBusyError, match=said):
            list(reading)
    with pytest.raises(SourceBusyError, match=said):
        rows(ranges.read(second.file, second.part, 2))
    with pytest.raises(SourceBusyError, match=said):
        ranges.count(second.file, second.part)
    path.unlink()
    with pytest.raises(SourceError, match="can't be read: No such file"):
        ranges.count(second.file, second.part)


# ------------------------------------------------------------------------------------------------------ pipelines


def fetched(folder: Path, source: str, **flags: object) -> tuple[dict[str, list[Any]], Mapping[str, int]]:
    """What a fetch of a source writes: by label its records, in the order of the files; and the counters."""
    written = stages.run("fetch", folder, "raw", source=source, **flags)
    labels = {file.table for file in written.files}
    return {label: stages.rows(written, label) for label in labels}, written.counters


def posts(first: int, number: int) -> bytes:
    days = ("2017-08-27T12:00:00Z", "2017-08-28T12:00:00Z", "no day")
    return b"".join(
        b'{"id": %d, "text": "x", "created_at": "%s"}\n' % (n, days[n % 3].encode())
        for n in range(first, first + number)
    )


@pytest.mark.parametrize("flags", [{"date": "2017-08-27"}, {}], ids=["day", "archive"])
def test_a_fetch_in_ranges_makes_what_one_without_makes(tmp_path: Path, flags: dict[str, str]) -> None:
    """Several files, one of them packed: records, places and counters, in the order that later stages go by."""
    (tmp_path / "a.jsonl").write_bytes(posts(0, 40))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(posts(10, 40)))
    (tmp_path / "c.jsonl").write_bytes(posts(20, 40) + b"\n\nlast")
    source = f"{tmp_path}/*.jsonl*"
    expected = fetched(tmp_path / "whole", source, **flags)
    assert fetched(tmp_path / "ranges", source, range_bytes=500, **flags) == expected
    assert len(list((tmp_path / "ranges").rglob("*.parquet"))) > len(list((tmp_path / "whole").rglob("*.parquet"))) + 6


def test_on_cloud_storage_a_range_is_read_by_ranges(cloud_storage: Storage) -> None:
    """Of the generation that was found; another one is an error of the source."""
    with files.open_output("gs://bucket/lines") as stream:
        stream.write(posts(0, 60))
    units = found("gs://bucket/lines", 700)
    assert [line for part in in_ranges(units) for line in part] == whole(posts(0, 60))
    gcs.delete("gs://bucket/lines")
    with files.open_output("gs://bucket/lines") as stream:
        stream.write(posts(0, 60))
    assert units[1].part
    with pytest.raises(SourceBusyError, match="source gs://bucket/lines was written to while it was read; run again"):
        ranges.count(units[1].file, units[1].part)


@pytest.mark.parametrize("value", ["0", "-1", "1.5"])
def test_a_range_has_a_byte_at_least(tmp_path: Path, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lines").write_bytes(LINES)
    with pytest.raises(SystemExit):
        stages.run("fetch", tmp_path, "raw", source=f"{tmp_path}/lines", date="2017-08-27", range_bytes=value)
    assert f"argument --range_bytes: '{value}' is no whole number of bytes from 1 on" in capsys.readouterr().err

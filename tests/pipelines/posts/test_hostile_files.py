"""One hostile file takes memory within a bound, and time that goes by its bytes; what can be read of it is."""

import ast
import bz2
import codecs
import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import running
import zstandard

from millrace.beam.sources import named as sources
from millrace.beam.sources import records
from millrace.errors import SourceError

CASES = running.ROOT.parent / "shared" / "cases" / "posts"
MIB = 1 << 20
#: What a hostile file may take beyond what Python and its libraries take.
MOST = 512 * MIB


class Endless(io.RawIOBase):
    """A stream that says a start, then a piece over and over up to so many bytes, and then an end."""

    def __init__(self, start: bytes, piece: bytes, size: int, end: bytes = b"") -> None:
        self._parts = self._all(start, piece * max(1, MIB // len(piece)), size, end)
        self._ready = b""

    @staticmethod
    def _all(start: bytes, pieces: bytes, size: int, end: bytes) -> Iterator[bytes]:
        yield start
        for _ in range(size // len(pieces)):
            yield pieces
        yield end

    def read(self, size: int | None = -1, /) -> bytes:
        while len(self._ready) < (size or 0) and (part := next(self._parts, None)) is not None:
            self._ready += part
        data, self._ready = self._ready[:size], self._ready[size:]
        return data


#: Start, piece, end, and how many records come of it: None for one a piece.
HOSTILE: dict[str, tuple[bytes, bytes, bytes, int | None]] = {
    "blank lines": (b"", b"\n", b"{}", 1),
    "lines of spaces": (b"", b"   \t\n", b"{}", 1),
    "one line": (b"", b"x", b"\n{}", 2),
    "one line of spaces": (b"", b" ", b"\n{}", 1),
    "lines of a letter": (b"", b"x\n", b"", None),
    "an array of spaces": (b"[", b" ", b'{"id":1}]', 1),
    "an array of brackets": (b'[{"id":1},', b"[", b"", 2),
    "an array of arrays": (b'[{"id":1},[', b"[],", b'0],{"id":2}]', 3),
    "an array of objects": (b'[{"id":1},[', b"{},", b'0],{"id":2}]', 3),
    "an array of a string": (b'[{"id":1},"', b'a\\"', b'",{"id":2}]', 3),
    "an array of strings": (b'[{"id":1},[', b'"",', b'0],{"id":2}]', 3),
    "an object of names": (b'[{"id":1},{"":0', b',"":0', b'},{"id":2}]', 3),
    "a number": (b'[{"id":1},', b"9", b',{"id":2}]', 2),
    "another field": (b'{"statuses":[{"id":1}],"x":[', b"[],", b"0]}", 1),
}
_CHILD = """
import resource, sys, time
sys.path[:0] = {path!r}
from millrace.beam.sources import records
from pipelines.posts import fetch
from test_hostile_files import Endless, HOSTILE
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, (start, piece, end, _) in HOSTILE.items():
    begun = time.process_time()
    found = [(len(b.line), [r[:20] for r in b.record.slice(max(0, len(b.record) - 3)).to_pylist()])
             for b in records.read(Endless(start, piece, {size}, end))]
    took = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print([name, sum(n for n, _ in found), [r for _, last in found for r in last][-3:], took, peak << 10], flush=True)
"""


def test_hostile_bytes_are_read_within_bounds() -> None:
    """Whatever their shape: memory is bounded, time goes by the bytes, and what stands after them is read."""
    size = (400 if running.WHOLE else 12) * MIB
    path = [str(Path(__file__).parent), str(running.ROOT / "tests"), str(running.ROOT)]
    child = _CHILD.format(path=path, size=size)
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    measured = {name: found for name, *found in map(ast.literal_eval, done.stdout.splitlines())}
    assert measured.keys() == HOSTILE.keys()
    for name, (_, piece, end, expected) in HOSTILE.items():
        count, last, seconds, peak = measured[name]
        assert count == (expected or size // len(piece)), name
        after = next((each for each in (b'{"id":2}', b"{}") if each in end), None)
        assert after is None or last[-1] == after or name == "a number", name
        assert peak < MOST, name
        assert seconds < 0.2 * size / MIB, name


_UNPACKS = """
import resource, sys
from millrace.beam.sources import records
from millrace.beam.sources import named as sources
from pipelines.posts import fetch
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    with sources.open_uri(path, 1 << 30) as stream:
        print(sum(len(block.line) for block in records.read(stream)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_bomb_is_unpacked_piece_by_piece(tmp_path: Path) -> None:
    """80 MiB of one long line, in files of some kilobytes, and then a record."""
    ways: list[Callable[[bytes], bytes]] = [gzip.compress, bz2.compress, zstandard.ZstdCompressor().compress]
    for number, compress in enumerate(ways):
        data = compress(b" " * (40 * MIB)) * 2 + compress(b"\n{}")
        (tmp_path / str(number)).write_bytes(data)
    paths = [str(path) for path in tmp_path.iterdir()]
    done = subprocess.run(
        [sys.executable, "-c", _UNPACKS, *paths], capture_output=True, text=True, check=True, cwd=running.ROOT
    )
    *counts, kilobytes = map(int, done.stdout.split())
    assert counts == [1] * len(paths)
    assert kilobytes << 10 < MOST


def test_a_window_of_zstandard_that_would_take_gigabytes_is_refused_with_the_reason() -> None:
    """Case 23: zstd --long=31."""
    path = CASES / "23-long-window.jsonl.zst"
    if not path.exists():
        running.absent(f"{path} is not there")
    reason = r"window of more than 128 MiB \(zstd --long\).*--long=27 at most"
    with pytest.raises(SourceError, match=reason), sources.open_uri(str(path), MIB) as stream:
        stream.read(1)


def lines(data: bytes) -> list[bytes]:
    return [record for block in records.read(io.BytesIO(data)) for record in block.record.to_pylist()]


def test_utf_16_is_read_as_its_byte_order_mark_says() -> None:
    """Case 10d, statuses of API v1.1 a line, in both orders; an array of them; what is cut or no text is a reject."""
    path = CASES / "10d-v1-utf16.jsonl"
    if not path.exists():
        running.absent(f"{path} is not there")
    text = path.read_bytes().decode("utf-16")
    expected = [json.loads(line) for line in text.splitlines()]
    assert [post["id"] for post in expected]
    for order, mark in [("utf-16-le", codecs.BOM_UTF16_LE), ("utf-16-be", codecs.BOM_UTF16_BE)]:
        long = text * (3 * MIB // len(text))
        assert [json.loads(line) for line in lines(mark + text.encode(order))] == expected
        assert len(lines(mark + long.encode(order))) == len(long.splitlines())
        assert [json.loads(each) for each in lines(mark + json.dumps(expected).encode(order))] == expected
        found = lines(mark + "{}\n\ud800\n{}".encode(order, "surrogatepass") + b"x")
        assert found == [b"{}\n", b"\xed\xa0\x80\n", b"{}\xff"]
        assert lines(mark) == []


def test_the_byte_order_mark_of_utf_8_is_no_record() -> None:
    assert lines(codecs.BOM_UTF8) == lines(codecs.BOM_UTF8 + b" \r\n\n") == []
    assert lines(codecs.BOM_UTF8 + b"\n{}") == [b"{}"]


# ----------------------------------------------------------------------------------------------------------- folders


def test_two_stars_enter_every_folder_once(tmp_path: Path) -> None:
    """Whatever links lead around in circles, or to another disk; a folder's own place counts before a link to it."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "z").mkdir()
    for folder in ("", "a", "a/b", "z"):
        (tmp_path / folder / "x.jsonl").write_bytes(b"{}")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "y.jsonl").write_bytes(b"{}")
    (tmp_path / "a" / "b" / "linked").symlink_to(elsewhere)
    for number in range(9):
        (tmp_path / "a" / f"loop-{number}").symlink_to(tmp_path / "a")
        (tmp_path / "a" / "b" / f"up-{number}").symlink_to(tmp_path)
    (tmp_path / "itself").symlink_to("itself")

    def found(pattern: str) -> list[str]:
        return [os.path.relpath(path, tmp_path) for path in sources.resolve(f"{tmp_path}/{pattern}", None)]

    assert found("**/*.jsonl") == ["a/b/x.jsonl", "a/x.jsonl", "elsewhere/y.jsonl", "x.jsonl", "z/x.jsonl"]
    assert found("**") == found("**/*.jsonl")
    assert found("a/**/y.jsonl") == ["a/b/linked/y.jsonl"]
    assert found("**/**/x.jsonl") == ["a/b/x.jsonl", "a/x.jsonl", "x.jsonl", "z/x.jsonl"]


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Never fewer files. Of a name that is too long even root gets no listing."""
    with pytest.raises(SourceError, match="of a source can't be read: File name too long"):
        sources.resolve(f"{tmp_path}/{'x' * 300}/*", None)


def test_a_name_that_is_not_utf_8_is_one_that_can_be_written(tmp_path: Path) -> None:
    """As a URI; what is read of such a file says which it was, and an archive of such files has a version."""
    with open(os.fsencode(tmp_path) + b"/posts-\xff\x1b.jsonl", "wb") as file:
        file.write(b"{}\n")
    (uri,) = sources.resolve(f"{tmp_path}/posts-*", None)
    assert uri == f"file://{tmp_path}/posts-%FF%1B.jsonl"
    assert sources.version(f"{tmp_path}/posts-*")
    assert sources.resolve(uri, None) == [uri]
    with sources.open_uri(uri, MIB) as stream:
        assert stream.read(9) == b"{}\n"
    with pytest.raises(SourceError, match="is not UTF-8; write it as file:///"):
        sources.check(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))


def test_two_slashes_in_a_bucket_are_refused() -> None:
    """As BigQuery does."""
    for source in ("gs://bucket//x", "gs://bucket/a//b-{date:%Y-%m-%d}.jsonl"):
        with pytest.raises(SourceError, match="has a folder without a name"):
            sources.check(source)

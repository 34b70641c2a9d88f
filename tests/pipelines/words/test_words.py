"""Words of texts are counted as Beam's own example counts them, and by first letter."""

import bz2
import gzip
import io
import re
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import http_source
import pyarrow.parquet as pq
import pytest
import running
import zstandard
from apache_beam.testing.test_utils import compute_hash
from http_source import Reply
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.storage import Storage
from millrace.beam import files
from millrace.beam.options import run
from millrace.beam.sources import texts
from millrace.common.results import Written, read_result
from millrace.errors import NotThereYetError, SourceError
from pipelines.words import count, letters, tokens

LEAR = running.ROOT.parent / "shared/data/text/kinglear.txt"
#: As in Beam's wordcount_it_test.py.
BEAMS_CHECKSUM = "33535a832b7db6d78389759577d4ff495980b9c0"


def made(tmp_path: Path, build: object, source: Path | str, dataset: str) -> Written:
    """The result of a pipeline over the files of a pattern."""
    run(build, [f"--source={source}", "--name=lear", f"--output={tmp_path}/out/{{dataset}}"])  # type: ignore[arg-type]
    (result,) = (tmp_path / "out" / dataset).glob("_*")
    return read_result(result.read_bytes())


def counts(tmp_path: Path, dataset: str) -> dict[str, int]:
    """Key and count of each row."""
    table = pq.read_table(tmp_path / "out" / dataset / f"{dataset}.parquet", partitioning=None)
    assert set(table["source"].to_pylist()) <= {"lear"}
    return dict(zip(table[0].to_pylist(), table["count"].to_pylist(), strict=True))


def test_king_lear_has_the_words_and_the_checksum_of_beams_own_test(tmp_path: Path) -> None:
    """28,001 words, 4,784 distinct, and the lines of text that Beam's example writes."""
    if not LEAR.exists():
        running.absent(f"the shared data, {LEAR}")
    written = made(tmp_path, count.build, LEAR, "word_totals")
    assert written.counters == {"distinct": 4784, "invalid_bytes": 0, "words": 28001}
    assert sum(counts(tmp_path, "word_totals").values()) == 28001
    # Beam's test takes lines with their ends.
    lines = (tmp_path / "out/word_texts/words.txt").read_bytes().splitlines(keepends=True)
    assert compute_hash(lines) == BEAMS_CHECKSUM


def test_packed_files_and_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    """Files of a glob, however packed, are counted together; a byte that is no UTF-8 ends a word and is counted."""
    text = "Ärger's no\r\n".encode()
    (tmp_path / "a b=1.txt.gz").write_bytes(gzip.compress(text) + gzip.compress(b"again"))
    (tmp_path / "b.txt.bz2").write_bytes(bz2.compress(text))
    (tmp_path / "{c}.txt.zst").write_bytes(zstandard.compress(text))
    (tmp_path / "d.txt").write_bytes(b"no\xffyes \xc3\n\n")
    (tmp_path / "e.txt").write_bytes(b"")
    written = made(tmp_path, count.build, f"{tmp_path}/*.txt*", "word_totals")
    assert counts(tmp_path, "word_totals") == {"Ärger's": 3, "again": 1, "no": 4, "yes": 1}
    assert written.counters == {"distinct": 4, "invalid_bytes": 2, "words": 9}


def test_a_text_of_a_web_server(tmp_path: Path) -> None:
    """By HTTP, packed by the file and by the server; what the server does not have is not there yet."""
    with http_source.serving() as server:
        packed = gzip.compress(gzip.compress(b"one two one"))
        url = server.reply("/t.gz", Reply(body=packed, headers={"Content-Encoding": "gzip"}))
        made(tmp_path, count.build, url, "word_totals")
        assert counts(tmp_path, "word_totals") == {"one": 2, "two": 1}
        with pytest.raises(NotThereYetError, match="/none.txt has no file"):
            made(tmp_path / "none", count.build, f"{server.url}/none.txt", "word_totals")


def test_texts_of_a_bucket(tmp_path: Path, cloud_storage: Storage) -> None:
    """A large one in ranges, each read by requests for its bytes alone, and a packed one beside it."""
    text = b"Poor Tom's a-cold. " * 300
    for name, data in {"texts/a.txt": text, "texts/b.gz": gzip.compress(b"Poor b")}.items():
        with files.open_output(f"gs://bucket/{name}") as stream:
            stream.write(data)
    options = ["--source=gs://bucket/texts/*", "--name=lear", f"--output={tmp_path}/out/{{dataset}}"]
    run(count.build, [*options, "--range_bytes=1000"])
    assert counts(tmp_path, "word_totals") == {"Poor": 301, "Tom's": 300, "a": 300, "cold": 300, "b": 1}


def test_a_text_without_words(tmp_path: Path) -> None:
    """A text without words makes a table without rows, and a text without lines."""
    (tmp_path / "none.txt").write_bytes(b" - \n")
    assert made(tmp_path, count.build, tmp_path / "none.txt", "word_totals").counters["words"] == 0
    assert counts(tmp_path, "word_totals") == {}
    assert made(tmp_path, letters.build, tmp_path / "none.txt", "letter_totals").counters["words"] == 0
    assert counts(tmp_path, "words_a_to_f") == counts(tmp_path, "letter_totals") == {}


def test_letters_of_one_read(tmp_path: Path) -> None:
    """Lower-cased words from a to f, and all words by their first letter, from one pipeline."""
    text = "Apple apple Fig fog 'tis Zoo été _x 7up\n"
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    written = made(tmp_path, letters.build, tmp_path / "text.txt", "letter_totals")
    words = re.findall(r"[\w']+", text.lower())
    assert counts(tmp_path, "words_a_to_f") == {"apple": 2, "fig": 1, "fog": 1}
    assert counts(tmp_path, "letter_totals") == Counter(word[0] for word in words)
    assert {file.table for file in written.files} == {"words_a_to_f", "letter_totals"}


def counted(pieces: Iterable[bytes]) -> tuple[Counter[str], int]:
    """Words of pieces and how often each comes, and the bytes that are no UTF-8."""
    table, invalid = tokens.count_words(pieces)
    return Counter(dict(zip(table["key"].to_pylist(), table["count"].to_pylist(), strict=True))), invalid


def by_hand(data: bytes) -> tuple[Counter[str], int]:
    """The same, by decoding all and one regular expression."""
    text, invalid = re.subn("[\udc80-\udcff]", " ", data.decode(errors="surrogateescape"))
    return Counter(re.findall(r"[\w']+", text)), invalid


def test_characters_that_stand_for_others_are_no_invalid_bytes() -> None:
    """U+FFFD in a text is a character like others, and no byte of it is invalid."""
    assert counted(["a\ufffdb".encode()]) == (Counter("ab"), 0)


_PARTS = [b"\n", b"\r\n", b" ", b"  ", b"\t", b"\0", b"it's", b"_", b"-", b"A", b"a", b"\xff", b"\xc3", b"\xed\xa0\x80"]
_FURTHER = ["\u2014", "\u2019", "\u00c4", "\u65e5\u672c", "\u0130", "\U00010400", "\u00a0", "\u0661", "e\u0301"]
_texts = st.lists(
    st.sampled_from([*_PARTS, *map(str.encode, _FURTHER)])
    | st.binary(max_size=6)
    | st.text(max_size=5).map(str.encode),
    max_size=40,
).map(b"".join)


@settings(max_examples=300 // running.SHARE, deadline=None)
@given(_texts, st.integers(1, 60), st.integers(1, 30))
def test_pieces_and_ranges_of_any_size_have_the_words_of_the_whole(data: bytes, length: int, size: int) -> None:
    """Whatever bytes, read whole or in ranges, a few at a time, each word and each invalid byte is counted once."""
    data = b" " + data  # else it may begin as what is packed or is UTF-16
    whole = by_hand(data)
    pieces = list(texts.pieces(io.BytesIO(data), size=size))
    assert b"".join(pieces) == data
    assert counted(pieces) == whole
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        units = texts.units(file.name, length, 1 << 30)
        assert len(units) == max(1, -(-len(data) // length))
        found = [counted(texts.read(unit, 1 << 30)) for unit in units]
    assert (sum((each for each, _ in found), Counter[str]()), sum(wrong for _, wrong in found)) == whole


def test_text_in_utf16_is_read_as_what_it_is(tmp_path: Path) -> None:
    """A byte order mark of UTF-16 says so, and no word is cut into letters; nor is such a file read in ranges."""
    (tmp_path / "text.txt").write_text("Ärger's 日本 Ärger's", encoding="utf-16")
    (unit,) = texts.units(str(tmp_path / "text.txt"), 5, 1 << 30)
    assert counted(texts.read(unit, 1 << 30)) == (Counter({"Ärger's": 2, "日本": 1}), 0)


@pytest.mark.parametrize("length", [1 << 20, 30])
def test_what_has_no_space_is_no_text(tmp_path: Path, length: int) -> None:
    """Bytes that go on without a space, read whole or in ranges, end in an error, before they fill the memory."""
    (tmp_path / "text.txt").write_bytes(b"some words " + b"x" * (1 << 19) + b" more")
    units = texts.units(str(tmp_path / "text.txt"), length, 1 << 30)[:1]
    with pytest.raises(SourceError, match=r"text\.txt has 1,000 bytes without a space or the end of a line"):
        list(texts.read(units[0], 1 << 30, longest=1000))


def test_a_large_text_is_shared_by_ranges(tmp_path: Path) -> None:
    """A pipeline that reads one file in ranges writes the counts of the file read whole."""
    if not LEAR.exists():
        running.absent(f"the shared data, {LEAR}")
    options = [f"--source={LEAR}", "--name=lear", f"--output={tmp_path}/out/{{dataset}}", "--range_bytes=50000"]
    run(count.build, options)
    lines = (tmp_path / "out/word_texts/words.txt").read_bytes().splitlines(keepends=True)
    assert compute_hash(lines) == BEAMS_CHECKSUM

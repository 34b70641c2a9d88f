"""Words of texts are counted as Beam's own example counts them, and by first letter."""

import gzip
import io
import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import running
from apache_beam.testing.test_utils import compute_hash

from millrace.beam.options import run
from millrace.common.results import Written, read_result
from pipelines.words import count, letters, texts, tokens

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
    """Files of a glob are counted together; a byte that is no UTF-8 ends a word and is counted."""
    (tmp_path / "a b=1.txt.gz").write_bytes(gzip.compress("Ärger's Ärger's\r\nno".encode()))
    (tmp_path / "c.txt").write_bytes(b"no\xffyes \xc3\n\n")
    written = made(tmp_path, count.build, f"{tmp_path}/*.txt*", "word_totals")
    assert counts(tmp_path, "word_totals") == {"Ärger's": 2, "no": 2, "yes": 1}
    assert written.counters == {"distinct": 3, "invalid_bytes": 2, "words": 5}


def test_a_text_without_words(tmp_path: Path) -> None:
    """A text without words makes a table without rows, and a text without lines."""
    (tmp_path / "none.txt").write_bytes(b" - \n")
    assert made(tmp_path, count.build, tmp_path / "none.txt", "word_totals").counters["words"] == 0
    assert counts(tmp_path, "word_totals") == {}


def test_letters_of_one_read(tmp_path: Path) -> None:
    """Lower-cased words from a to f, and all words by their first letter, from one pipeline."""
    text = "Apple apple Fig fog 'tis Zoo été _x 7up\n"
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    written = made(tmp_path, letters.build, tmp_path / "text.txt", "letter_totals")
    words = re.findall(r"[\w']+", text.lower())
    assert counts(tmp_path, "words_a_to_f") == {"apple": 2, "fig": 1, "fog": 1}
    assert counts(tmp_path, "letter_totals") == Counter(word[0] for word in words)
    assert {file.table for file in written.files} == {"words_a_to_f", "letter_totals"}


def test_characters_that_stand_for_others_are_no_invalid_bytes() -> None:
    """U+FFFD in a text is a character like others, and no byte of it is invalid."""
    assert tokens.count_words(["a\ufffdb".encode()]) == (Counter("ab"), 0)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_no_piece_cuts_a_word_or_a_character(size: int) -> None:
    """Pieces of any size hold the same words; a line may have no end, and a word may be longer than a piece."""
    data = '\u00c4rger\'s {"a": 1}\n\nlongest-of-words \u65e5\u672c'.encode()
    pieces = list(texts.pieces(io.BytesIO(data), size))
    assert b"".join(pieces) == data
    assert tokens.count_words(pieces) == (Counter(re.findall(r"[\w']+", data.decode())), 0)

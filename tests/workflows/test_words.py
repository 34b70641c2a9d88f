"""WordCount and LetterCount run end to end, from a file to complete datasets."""

from pathlib import Path

import pyarrow.parquet as pq
import running


def test_both_tasks_complete_their_outputs_together(tmp_path: Path) -> None:
    """Each task's two outputs are complete after one run, also of a path with spaces and =."""
    text, storage = tmp_path / "a b=c.txt", tmp_path / "data"
    text.write_bytes(b"Poor Tom's a-cold. Poor\xff\n")
    for task, outputs in (
        ("WordCount", ("word_totals", "word_texts")),
        ("LetterCount", ("letter_totals", "words_a_to_f")),
    ):
        ran = running.succeed(task, "--input", text, "--name", "tom", storage=storage)
        assert "1 bytes are no UTF-8; each ended a word" in ran.err
        assert all((storage / name / "source=tom/_MANIFEST.json").exists() for name in outputs)
    (made,) = storage.glob("word_totals/source=tom/*/*.parquet")
    rows = pq.read_table(made, partitioning=None).to_pylist()
    assert {row["word"]: row["count"] for row in rows} == {"Poor": 2, "Tom's": 1, "a": 1, "cold": 1}


def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    """A name becomes a folder's, so that one with a slash is an error that says what is allowed."""
    ran = running.luigi("WordCount", "--input", "x.txt", "--name", "../x", storage=tmp_path / "data")
    assert ran.code != 0
    assert "allowed" in str(ran)
    assert "Traceback" not in str(ran)

"""WordCount and LetterCount in the local cloud: from Cloud Storage, on Dataflow, to a table of BigQuery."""

import gzip
import re
from collections import Counter
from pathlib import Path

import cloud_running
import running
from cloud_running import Place

from localcloud import BUCKET, LocalCloud
from millrace.core.manifests import Manifest


def rows(manifest: Manifest) -> dict[str, int]:
    """Rows of each of a manifest's tables."""
    return {file.table: file.rows for file in manifest.files}


def test_tables_are_those_of_the_text(tmp_path: Path) -> None:
    """Of two texts, one packed: the words that one regular expression finds, in BigQuery as on one machine. A text of
    this machine's disk is read here, wherever pipelines run, and its rows leave those of another name as they are.
    """
    texts = {"one.txt": "Poor Tom's a-cold. Poor\n\u00c4rger " * 1000, "two.txt": "Poor again; 'tis Foul\n"}
    (tmp_path / "one.txt").write_text(texts["one.txt"], encoding="utf-8")
    (tmp_path / "two.txt.gz").write_bytes(gzip.compress(texts["two.txt"].encode()))
    expected = Counter(re.findall(r"[\w']+", " ".join(texts.values())))
    letters = {word.lower()[0] for word in expected}
    with LocalCloud() as cloud:
        cloud_running.upload(cloud, sorted(tmp_path.glob("*.txt*")), "texts")
        place = Place(cloud, tmp_path / "cloud")
        both = "--input", f"gs://{BUCKET}/texts/*.txt*", "--name", "both"
        for task in ("WordCount", "LetterCount"):
            place.succeed(task, *both)
        place.succeed("WordCount", "--input", tmp_path / "one.txt", "--name", "here")
        assert "1 complete ones were encountered" in str(place.succeed("WordCount", *both))
        assert place.stages() == {"wordcount": 1, "lettercount": 1}
        found = place.query("SELECT word, count, source FROM word_totals")
        there = place.manifests()
    assert {row["word"]: row["count"] for row in found if row["source"] == "both"} == expected
    assert {row["word"]: row["count"] for row in found if row["source"] == "here"} == Counter(
        re.findall(r"[\w']+", texts["one.txt"])
    )
    assert rows(there["word_texts/source=both"]) == {"word_texts": len(expected)}
    assert rows(there["letter_totals/source=both"])["letter_totals"] == len(letters)
    few = {word.lower() for word in expected if "a" <= word.lower()[0] <= "f"}
    assert rows(there["words_a_to_f/source=both"]) == {"words_a_to_f": len(few)}
    storage = tmp_path / "data"
    running.succeed("WordCount", "--input", tmp_path / "*.txt*", "--name", "both", storage=storage)
    local = running.select(storage, "SELECT word, count, source FROM word_totals")
    by_word = [sorted(side, key=lambda row: str(row["word"])) for side in (found, local)]
    assert [row for row in by_word[0] if row["source"] == "both"] == by_word[1]

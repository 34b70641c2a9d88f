"""Words of texts: how often each comes, and by first letter."""

import re
from collections.abc import Mapping
from typing import Any

import luigi

from millrace import BeamTask, Key, Setting


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
        raise ValueError
    return value


class TextTask(BeamTask):
    """What both tasks share: a source of texts, and what its results are called."""

    input: str = luigi.Parameter(description="texts: a path or glob, file://, gs:// or http(s):// URI")  # type: ignore[assignment]
    name: str = Setting(
        convert=_name,
        allowed="up to 100 letters, digits, dots, dashes and underscores",
        description="what the source is called in the results",
    )
    empty_from_empty = False

    @property
    def key(self) -> Key:
        return Key("", f"source={self.name}")

    def options(self) -> Mapping[str, Any]:
        return {"source": self.input, "name": self.name}


class WordCount(TextTask):
    """How often each word of a source comes, as a table and as lines of text."""

    writes = ("word_totals", "word_texts")
    pipeline = "pipelines.words.count"


class LetterCount(TextTask):
    """How often each lower-cased word from a to f comes, and how many words begin with each letter."""

    writes = ("letter_totals", "words_a_to_f")
    pipeline = "pipelines.words.letters"

"""Words of texts: how often each comes, and by first letter."""

import logging
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from millrace import Key, Manifest, Setting, Settings, Source, SourceBounds, SourceTask, Table

log = logging.getLogger("millrace")


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
        raise ValueError
    return value


class words(SourceBounds, Settings):
    """How texts are read."""


class TextTask(SourceTask):
    """What both tasks share: a source of texts, and what its results are called."""

    section = words
    tells = ("words", "distinct")
    input: str = Source(description="texts: a path or glob, file://, gs:// or http(s):// URI", dated=False)  # type: ignore[assignment]
    name: str = Setting(
        convert=_name,
        allowed="up to 100 letters, digits, dots, dashes and underscores",
        description="what the source is called in the results",
    )

    @property
    def key(self) -> Key:
        return Key("", f"source={self.name}")

    def reading(self) -> str:
        return self.input

    def options(self) -> Mapping[str, Any]:
        return {**super().options(), "name": self.name}

    def check(self, manifest: Manifest) -> None:
        """Say how many bytes were no text; they make no result wrong, because each ends a word as a space does."""
        if invalid := manifest.counters.get("invalid_bytes"):
            log.warning("%-34s bytes that are no UTF-8, and ended a word each: %s", self, f"{invalid:,}")


class WordCount(TextTask):
    """How often each word of a source comes, as a table and as lines of text."""

    writes = ("word_totals", "word_texts")
    tables = MappingProxyType(
        {"word_totals": Table({"word": "STRING", "count": "INT64", "source": "STRING"}, by="source")}
    )
    pipeline = "pipelines.words.count"


class LetterCount(TextTask):
    """How often each lower-cased word from a to f comes, and how many words begin with each letter."""

    writes = ("letter_totals", "words_a_to_f")
    pipeline = "pipelines.words.letters"

"""A template's one list of parameters says the same to the command line, to jobs and to Dataflow."""

import re

import pytest

from millrace.beam.templates import Parameter, TemplateOptions, metadata
from millrace.errors import SettingError


class Options(TemplateOptions):
    title = "Copies"
    parameters = (
        Parameter("kind", "Kind", "what is copied", pattern="text|avro", default="text"),
        Parameter("rows", "Rows", "how many", pattern="[0-9]+"),
        Parameter("where", "Where", "where to"),
    )


@pytest.mark.parametrize(
    ("kind", "is_one"), [("text", True), ("avro", True), ("texts", False), ("an avro", False), ("text|avro", False)]
)
def test_a_pattern_of_alternatives_means_the_whole_text_in_metadata_too(kind: str, is_one: bool) -> None:
    """Also where a pattern is looked for within a text, as egrep does."""
    (pattern,) = metadata(Options, "")["parameters"][0]["regexes"]
    assert bool(re.search(pattern, kind)) == is_one
    given = {"kind": kind, "rows": "1", "where": "there"}
    if is_one:
        Options.check(given)
    else:
        with pytest.raises(SettingError, match="does not match"):
            Options.check(given)


def test_empty_texts_are_defaults_or_missing() -> None:
    assert Options.texts({"kind": "", "rows": "2", "where": None}) == {"kind": "text", "rows": "2", "where": ""}
    with pytest.raises(SettingError, match=r"^--rows is missing \(how many\); --where is missing \(where to\)$"):
        Options.check({"kind": "", "rows": "", "where": None})

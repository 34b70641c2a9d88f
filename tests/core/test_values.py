"""Values: what JSON has comes back as it was handed on; everything else is refused, with its place and its name."""

import json
import math
import re
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.core import values
from millrace.core.manifests import Manifest
from millrace.errors import DamagedError, ManifestError, TerminalError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


def manifest(value: Any = None, **more: Any) -> Manifest:
    return Manifest("a/b=1", "attempt-1", [], {}, [], "p", "1", {}, {}, "r", None, "", "", value=value, **more)


@given(JSON)
def test_what_is_handed_on_comes_back(value: Any) -> None:
    """A manifest returns every value of JSON as it was, with its types; texts of lone surrogates too."""
    found = Manifest.from_json(manifest(values.of(value)).to_json(), "a/b=1/_MANIFEST.json").value
    assert found is not None
    assert repr(_sorted(found.json)) == repr(_sorted(value))


def _sorted(value: Any) -> Any:
    """The same value, its objects in the order of their keys: JSON's have none."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [*map(_sorted, value)] if isinstance(value, list) else value


def test_null_is_a_value_and_no_value_is_none() -> None:
    """None handed on is a value; a manifest without one says nothing of values, as earlier versions wrote it."""
    assert Manifest.from_json(manifest(values.of(None)).to_json(), "a/b=1/_MANIFEST.json").value == values.of(None)
    written = manifest().to_json()
    assert "value" not in json.loads(written)
    assert Manifest.from_json(written, "a/b=1/_MANIFEST.json").value is None


class Pair(NamedTuple):
    """A tuple that looks like more."""

    one: int
    two: int


class Number(int):
    """A number that is more than one."""


@pytest.mark.parametrize(
    ("value", "where", "what"),
    [
        ((1, 2), "value ", "type tuple"),
        ({"a": [0, {1}]}, "value['a'][1] ", "type set"),
        ([b"x"], "value[0] ", "type bytes"),
        ({"x": Pair(1, 2)}, "value['x'] ", "type Pair"),
        (Number(3), "value ", "type Number"),
        (1 + 2j, "value ", "type complex"),
        (object, "value ", "type type"),
        (math.nan, "value ", "is nan"),
        ([math.inf], "value[0] ", "is inf"),
        ({"a": {"b": -math.inf}}, "value['a']['b'] ", "is -inf"),
        ({1: 2}, "value ", "key 1, which is no text but of type int"),
        ({"a": {None: 2}}, "value['a'] ", "key None, which is no text but of type NoneType"),
        ({True: 2}, "value ", "key True, which is no text but of type bool"),
        ((each for each in "ab"), "value ", "type generator"),
        pytest.param(10**5000, "", "4300 digits", id="digits"),
    ],
)
def test_what_json_has_not_is_refused(value: object, where: str, what: str) -> None:
    """The sentence names the place in the value, and what is there."""
    with pytest.raises(TerminalError) as raised:
        values.of(value)
    assert str(raised.value).startswith(f"the value can't be handed on: {where}")
    assert what in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_value_of_a_mebibyte_is_the_largest() -> None:
    """1,048,576 bytes of JSON are a value, one byte more is refused with both numbers, in characters of any size."""
    most = 1 << 20
    assert values.of("x" * (most - 2)).json == "x" * (most - 2)  # and two quotes
    with pytest.raises(TerminalError, match=r"as JSON it has 1,048,577 bytes, and 1,048,576 are allowed"):
        values.of("x" * (most - 1))
    assert values.of(["é" * ((most - 4) // 6)])  # \u00e9
    with pytest.raises(TerminalError, match="and 1,048,576 are allowed"):
        values.of(["é" * ((most - 4) // 6 + 1)])
    assert values.of([0] * (most // 2 - 1))  # with brackets and commas: 1,048,575
    with pytest.raises(TerminalError, match="and 1,048,576 are allowed"):
        values.of([0] * (most // 2))


def test_what_would_take_for_ever_is_refused_at_once() -> None:
    """Nesting has an end: what contains itself, or doubles at each level, is refused."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(TerminalError, match="nested more than 64 deep"):
        values.of(endless)
    doubled: list[Any] = []
    for _ in range(60):
        doubled = [doubled, doubled]
    with pytest.raises(TerminalError, match="more than 1,048,576 bytes"):
        values.of(doubled)
    deep: Any = 0
    for _ in range(64):
        deep = [deep]
    assert values.of(deep).json == deep


def test_a_value_that_is_not_as_it_was_written_is_damaged() -> None:
    """A bit that is another is found by the manifest's checksum; where somebody took that out, by the value's own."""
    data = manifest(values.of({"sum": 21})).to_json()
    other = data.replace(b'"sum": 21', b'"sum": 22')
    assert other != data
    with pytest.raises(DamagedError, match="is damaged: its checksum is"):
        Manifest.from_json(other, "a/b=1/_MANIFEST.json")
    bare = re.sub(rb' "checksum": "\w+",\n', b"", other)
    assert bare != other
    with pytest.raises(DamagedError, match="the value in a/b=1/_MANIFEST.json is damaged"):
        Manifest.from_json(bare, "a/b=1/_MANIFEST.json")
    for broken in (b'"json": 1', b"null", b"[]"):
        with pytest.raises(ManifestError, match="is no manifest"):
            Manifest.from_json(
                re.sub(rb'"value": \{.*?\n \}', b'"value": ' + broken, bare, flags=re.DOTALL), "a/b=1/_MANIFEST.json"
            )


def test_people_see_the_beginning_of_a_value() -> None:
    """A value is shown as JSON on one line of plain text, cut."""
    assert values.shown(values.of({"ä": [1, None]})) == '{"ä": [1, null]}'
    assert "hush" not in values.shown(values.of({"from": ["https://ann:hush@h.example/a?token=hush&n=1"]}), 200)
    assert values.shown(values.of("\x1b[31m" + "x" * 100)) == '"\\u001b[31m' + "x" * 48 + "…"

"""TOML and YAML files whose values know their lines: those that an editor shows, whatever the file looks like."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.core import documents
from millrace.errors import SettingError

TOML = '''# a comment with = [ and "
name = "x" # "
[jobs.a]
after = [
  "b", # , ]
  'c'
]
text = """
x ] = "" \\""" } """
literal = \'\'\'
[no.table]\'\'\'
parameters = { a = 1.5, "q.r" = [1, {z = 07:32:00}], \'s\' = "}" }
[jobs."b c".d]
x.y = 1979-05-27 07:32:00

[[list]]
a = 1
[list.m]
q = 1
[[list]]
a = 2
[[list.n]]
[[list.n]]
z = 1
'''


def read(folder: Path, text: str, kind: str = "toml") -> documents.Document:
    path = folder / f"file.{kind}"
    path.write_bytes(text.encode())
    return documents.read(str(path))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_value_of_toml_has_the_line_of_its_name(tmp_path: Path, end: str) -> None:
    """Comments, texts of several lines, dotted and quoted names, tables within lists: all as tomllib reads them."""
    found = read(tmp_path, TOML.replace("\n", end))
    assert found.value == tomllib.loads(TOML)
    expected = {
        ("name",): 2,
        ("jobs", "a"): 3,
        ("jobs", "a", "after"): 4,
        ("jobs", "a", "after", 0): 5,
        ("jobs", "a", "after", 1): 6,
        ("jobs", "a", "text"): 8,
        ("jobs", "a", "literal"): 10,
        ("jobs", "a", "parameters"): 12,
        ("jobs", "a", "parameters", "a"): 12,
        ("jobs", "a", "parameters", "q.r"): 12,
        ("jobs", "a", "parameters", "q.r", 0): 12,
        ("jobs", "a", "parameters", "q.r", 1): 12,
        ("jobs", "a", "parameters", "q.r", 1, "z"): 12,
        ("jobs", "a", "parameters", "s"): 12,
        ("jobs", "b c", "d"): 13,
        ("jobs", "b c", "d", "x", "y"): 14,
        ("list", 0): 16,
        ("list", 0, "a"): 17,
        ("list", 0, "m"): 18,
        ("list", 0, "m", "q"): 19,
        ("list", 1): 20,
        ("list", 1, "a"): 21,
        ("list", 1, "n", 0): 22,
        ("list", 1, "n", 1): 23,
        ("list", 1, "n", 1, "z"): 24,
    }
    assert dict(found.lines) == expected
    assert (found.line("jobs", "a", "after", 7), found.line("nothing")) == (4, 0)


_NAMES = st.text("abc.'\"\\ü#=[]", min_size=1, max_size=4)
_TEXTS = st.text("ab\"'\\\n#=[]{},.é ", max_size=8)
_VALUES = st.recursive(
    st.one_of(_TEXTS, st.integers(), st.floats(allow_nan=False), st.booleans()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_NAMES, inner, max_size=3)),
    max_leaves=8,
)


def _quoted(text: str) -> str:
    signs = {'"': '\\"', "\\": "\\\\", "\n": "\\n"}
    return '"' + "".join(signs.get(sign, sign) for sign in text) + '"'


def _written(value: Any) -> str:
    if isinstance(value, str):
        literal = "'" not in value and "\n" not in value
        if "\n" in value and "'" not in value:
            return f"'''\n{value}'''"
        return f"'{value}'" if literal else _quoted(value)
    if isinstance(value, list):
        return "[\n" + "".join(f'  {_written(each)}, # ] "\n' for each in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(name)} = {_written(each)}" for name, each in value.items()) + "}"
    return str(value).lower()


def _ways(value: Any, way: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in entries:
        yield (*way, name)
        yield from _ways(each, (*way, name))


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(_NAMES, st.dictionaries(_NAMES, _VALUES, max_size=3), max_size=3))
def test_no_value_of_toml_is_missed(tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any]) -> None:
    """Whatever is written, the values that have a line are those that tomllib finds."""
    text = "".join(
        f"[{_quoted(table)}]\n" + "".join(f"{_quoted(name)} = {_written(each)}\n" for name, each in entries.items())
        for table, entries in value.items()
    )
    found = read(tmp_path_factory.getbasetemp(), text)
    assert found.value == value
    assert sorted(map(str, found.lines)) == sorted(map(str, _ways(value)))


def test_every_value_of_yaml_has_the_line_of_its_name(tmp_path: Path) -> None:
    """What an alias repeats has the alias's own line."""
    text = "a: &a\n  x: 1\nb:\n  <<: *a\n  y: |\n    p\n    q\nl:\n- p\n- q: 1\n  r: [1,\n    {z: 2}]\nm: *a\n"
    found = read(tmp_path, text, "yaml")
    assert found.value["b"] == {"x": 1, "y": "p\nq\n"}
    expected = {
        ("a",): 1,
        ("a", "x"): 2,
        ("b",): 3,
        ("b", "y"): 5,
        ("l",): 8,
        ("l", 0): 9,
        ("l", 1): 10,
        ("l", 1, "q"): 10,
        ("l", 1, "r"): 11,
        ("l", 1, "r", 0): 11,
        ("l", 1, "r", 1): 12,
        ("l", 1, "r", 1, "z"): 12,
        ("m",): 13,
    }
    assert dict(found.lines) == expected
    assert (found.line("b", "x"), found.line("m", "x")) == (3, 13)


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("toml", "[a]\nx = 1\n\n[a]\nx.y = 2\n", "line 4: a is there already, in line 1"),
        (
            "toml",
            "[a]\nx = 1\nx = 2\n[a]\nx = 3\n",
            "has 2 mistakes: line 4: a is there already, in line 1; line 5: a.x is there already, in lines 2, 3",
        ),
        ("toml", "[a]\n\nx = \n", "has a mistake: line 3: this is not TOML: invalid value"),
        ("toml", 'a = "', "line 1: this is not TOML: "),
        ("toml", "a = [1,\n2", "line 2: this is not TOML: unclosed array"),
        ("toml", f"a = {'[' * 3000}", "this is not TOML: "),
        ("yaml", "a: 1\nb:\n  c: 1\n  c: 2\n", "has a mistake: line 4: b.c is there already, in line 3"),
        ("yaml", "a: [1\nb: 2", "line 2: this is not YAML: expected ',' or ']'"),
        ("yml", "a: !!python/name:os.system\n", "line 1: this is not YAML: could not determine a constructor"),
        ("yaml", "x: 1\na: \x07", "line 2: this is not YAML: special characters are not allowed"),
        ("yaml", "a: 2026-13-40", "line 1: this is not YAML: month must be in 1..12"),
        ("yaml", "b: 1\na: &a [1, *a]", "line 2: a.1 lies in itself"),
        ("yaml", "[" * 600, "this is not YAML: "),
        ("txt", "a = 1", "is called neither .toml nor .yaml"),
    ],
)
def test_a_file_that_can_not_be_read_is_told_with_its_lines(tmp_path: Path, kind: str, text: str, said: str) -> None:
    """A name that is there twice with both lines, by YAML too, which would take the last one."""
    with pytest.raises(SettingError) as raised:
        read(tmp_path, text, kind)
    assert said in str(raised.value)
    assert str(raised.value).startswith(f"{tmp_path}/file.{kind} ")


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"/none.toml can't be read: No such file or directory"):
        documents.read(f"{tmp_path}/none.toml")
    with pytest.raises(SettingError, match=r"can't be read: Is a directory"):
        documents.read(str(tmp_path))
    (tmp_path / "latin.toml").write_bytes(b'a = "\xe9"')
    with pytest.raises(SettingError, match=r"latin.toml is not UTF-8"):
        documents.read(f"{tmp_path}/latin.toml")
    (tmp_path / "marked.toml").write_bytes(b'\xef\xbb\xbfa = "\xc3\xa9"')
    assert documents.read(f"{tmp_path}/marked.toml").value == {"a": "é"}

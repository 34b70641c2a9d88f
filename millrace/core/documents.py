"""TOML and YAML files whose values know the lines that they stand in, so that an error can name the line.

Python's own tomllib tells no lines, so that the keys are found a second time here; PyYAML, which Beam needs anyway,
tells them with its nodes. A name that is there twice in one table is a mistake in both, with both its lines.
"""

import os
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from millrace.errors import SettingError

#: The names, and places in lists, that lead to a value.
Way: TypeAlias = tuple[str | int, ...]

_TOKEN = re.compile(
    r"""
    (?P<text>\"{3}(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}|'{3}(?:[^']|'{1,2}(?!'))*'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')
    |(?P<gap>[ \t\r]+|\#[^\n]*)
    |(?P<mark>[]\[{}=,.\n])
    |(?P<bare>[^]\[{}=,.\s\#"']+)
    """,
    re.VERBOSE | re.DOTALL,
)


class Mistakes:
    """What is wrong with a file, each with the line that it is in, told all at once."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._found: list[tuple[int, str]] = []

    def add(self, line: int, what: str) -> None:
        """Note what is wrong in a line, 0 where that is the whole file."""
        if (line, what) not in self._found:
            self._found.append((line, what))

    def __bool__(self) -> bool:
        return bool(self._found)

    def check(self) -> None:
        """Raise SettingError that says all that was noted, in the order of lines; return if there is nothing."""
        if not self._found:
            return
        said = [f"line {line}: {what}" if line else what for line, what in sorted(self._found)]
        many = f"has {len(said)} mistakes" if len(said) > 1 else "has a mistake"
        raise SettingError(f"{self._path} {many}: {'; '.join(said)}")


@dataclass(frozen=True)
class Document:
    """What a file says. lines: where each value, or its name, stands, by the way to the value."""

    path: str
    value: Any
    lines: Mapping[Way, int]

    def line(self, *way: str | int) -> int:
        """Return the line of a value, or of the nearest around it; 0 where nothing around it has a line."""
        while way and way not in self.lines:
            way = way[:-1]
        return self.lines.get(way, 0)


def read(path: str) -> Document:
    """Return what a file says: TOML, or YAML where its name ends so. Raises SettingError."""
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8-sig")
    except OSError as error:
        raise SettingError(f"{os.path.abspath(path)} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingError(f"{path} is not UTF-8, and so neither TOML nor YAML") from None
    mistakes = Mistakes(path)
    if path.endswith((".yaml", ".yml")):
        value, places = _yaml(text, mistakes)
    elif path.endswith(".toml"):
        value, places = _toml(text, mistakes)
    else:
        raise SettingError(f"{path} is called neither .toml nor .yaml, so that nobody can tell how it is to be read")
    lines: dict[Way, list[int]] = defaultdict(list)
    for way, line in places:
        lines[way].append(line)
    for way, there in lines.items():
        if len(there) > 1:
            before = f"line{'s' * (len(there) > 2)} {', '.join(map(str, there[:-1]))}"
            mistakes.add(there[-1], f"{_named(way)} is there already, in {before}")
    mistakes.check()
    return Document(path, value, {way: there[0] for way, there in lines.items()})


def _named(way: Way) -> str:
    return ".".join(map(str, way))


def _toml(text: str, mistakes: Mistakes) -> tuple[Any, list[tuple[Way, int]]]:
    """Return what TOML says, and where. Of a text that is not TOML both are as far as they were understood."""
    places = list(_toml_places(text))
    try:
        return tomllib.loads(text), places
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        ways = [way for way, _ in places]
        if len(ways) == len(set(ways)):  # else the names that are there twice are told, each with both its lines
            where = re.search(r" \(at line (\d+), column \d+\)$| \(at end of document\)$", str(error))
            line = int(where[1] or text.count("\n") + 1) if where else 1
            what = str(error)[: where.start()] if where else str(error)
            mistakes.add(line, f"this is not TOML: {what[:1].lower()}{what[1:]}")
        return None, places


def _toml_places(text: str) -> Iterator[tuple[Way, int]]:
    """Yield the way to each value of a TOML text, and the line of its name; stop at what is not understood."""
    tables: dict[Way, int] = {}  # of lists of tables, [[so]]: the way → the last one's number
    table: Way = ()
    try:
        tokens = _Tokens(text)
        while tokens.next:
            if tokens.take("\n"):
                continue
            line = tokens.line
            if tokens.take("["):
                several = tokens.take("[")
                *above, name = tokens.key("]")
                table = ()
                for each in above:
                    table = (*table, each)
                    table = (*table, tables[table]) if table in tables else table
                table = (*table, name)
                if several and tokens.take("]"):
                    tables[table] = tables.get(table, -1) + 1
                    table = (*table, tables[table])
                yield table, line
            else:
                yield from _toml_pair(tokens, table)
    except (ValueError, RecursionError):
        return


def _toml_pair(tokens: "_Tokens", table: Way) -> Iterator[tuple[Way, int]]:
    line = tokens.line
    way = (*table, *tokens.key("="))
    yield way, line
    yield from _toml_value(tokens, way)


def _toml_value(tokens: "_Tokens", way: Way) -> Iterator[tuple[Way, int]]:
    """Yield the places within a value, whose own is told by then."""
    if tokens.take("["):
        number = 0
        while not tokens.take("]"):
            if tokens.take("\n") or tokens.take(","):
                continue
            yield (*way, number), tokens.line
            yield from _toml_value(tokens, (*way, number))
            number += 1
    elif tokens.take("{"):
        while not tokens.take("}"):
            if tokens.take("\n") or tokens.take(","):
                continue
            yield from _toml_pair(tokens, way)
    else:
        tokens.take()
        while tokens.next not in ("", "\n", ",", "]", "}"):
            tokens.take()


class _Tokens:
    """The tokens of a TOML text, one after the other. Raises ValueError at what is none, and at the text's end."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self.line, self._seen, self.next, self._kind = 1, 0, "", ""
        self._read()

    def _read(self) -> None:
        """Go to the next token; its line is that where it begins."""
        while found := _TOKEN.match(self._text, self._at):
            self.line += self._text.count("\n", self._seen, self._at)
            self._seen, self._at, self._kind = self._at, found.end(), str(found.lastgroup)
            if self._kind != "gap":
                self.next = found[0]
                return
        if self._at < len(self._text):
            raise ValueError("no token of TOML")
        self.next = self._kind = ""

    def take(self, wanted: str = "") -> bool:
        """Go on if the next token is a mark that is wanted, or if any is; return whether it was so."""
        if not self.next and not wanted:
            raise ValueError("the text ends too early")
        if wanted and (self._kind != "mark" or self.next != wanted):
            if not self.next:
                raise ValueError("the text ends too early")
            return False
        self._read()
        return True

    def key(self, end: str) -> Way:
        """Return a name, which may be several with dots between, up to a mark, and go on behind that."""
        names: list[str] = []
        while True:
            if self._kind not in ("bare", "text"):
                raise ValueError("no name")
            names.append(str(tomllib.loads(f"k={self.next}")["k"]) if self._kind == "text" else self.next)
            self.take()
            if self.take(end):
                return tuple(names)
            if not self.take("."):
                raise ValueError("no name")


def _yaml(text: str, mistakes: Mistakes) -> tuple[Any, list[tuple[Way, int]]]:
    """Return what YAML says, and where."""
    import yaml

    places: list[tuple[Way, int]] = []
    try:
        loader = yaml.SafeLoader(text)
        try:
            if (node := loader.get_single_node()) is not None:
                places = list(_yaml_places(node, (), [], mistakes))
                return loader.construct_document(node), places
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        mistakes.add(mark.line + 1 if mark else 1, f"this is not YAML: {error.problem or error.context}")
    except yaml.reader.ReaderError as error:
        mistakes.add(text.count("\n", 0, error.position) + 1, f"this is not YAML: {error.reason}")
    except (ValueError, RecursionError) as error:  # as of a date that no calendar has
        mistakes.add(1, f"this is not YAML: {error}")
    return None, places


def _yaml_places(node: Any, way: Way, above: Sequence[Any], mistakes: Mistakes) -> Iterator[tuple[Way, int]]:
    """Yield the way to each value below a node, and its line. What an alias repeats has the alias's own line.

    above: the nodes that the node lies in, which must not be in it again.
    """
    import yaml

    entries: list[tuple[str | int, Any, Any]] = []
    if isinstance(node, yaml.MappingNode):
        merge = "tag:yaml.org,2002:merge"
        entries = [(str(name.value), name, value) for name, value in node.value if name.tag != merge]
    elif isinstance(node, yaml.SequenceNode):
        entries = [(number, value, value) for number, value in enumerate(node.value)]
    for name, begins, value in entries:
        line = max(begins.start_mark.line, node.start_mark.line) + 1
        yield (*way, name), line
        if value is node or value in above:
            mistakes.add(line, f"{_named((*way, name))} lies in itself")
        elif value.start_mark.index > (node if begins is value else begins).start_mark.index:
            yield from _yaml_places(value, (*way, name), [*above, node], mistakes)

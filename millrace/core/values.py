"""Values: small results that a task hands to others, kept in its manifest as JSON.

What is handed on is what comes back: only what JSON has is a value, so that nothing becomes something else on the way
(a tuple would come back as a list, the key 1 as "1", NaN not at all).
"""

import hashlib
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from millrace.common.secrets import redacted
from millrace.common.text import one_line
from millrace.errors import DamagedError, TerminalError

#: The most bytes that a value may take as JSON, in ASCII and without blanks; how deep lists and objects may be nested.
MOST, DEEPEST = 1 << 20, 64


@dataclass(frozen=True)
class Value:
    """A value, and the SHA-256 (hex) of its JSON."""

    json: Any
    sha256: str


def of(value: Any) -> Value:
    """Return what a manifest keeps of a value. Raises TerminalError for what is none, and says where in it that is."""
    _check(value, "value", 0, itertools.count(1))
    try:
        text = _text(value)
    except ValueError as error:  # a whole number of more digits than Python writes
        raise TerminalError(f"the value can't be handed on: {error}") from None
    if len(text) > MOST:
        raise _too_large(f"{len(text):,}")
    return Value(value, hashlib.sha256(text).hexdigest())


def read(found: Any, path: str) -> Value:
    """Return the value of the manifest at a path. Raises DamagedError if it is not as it was written."""
    value = Value(**found)
    if hashlib.sha256(_text(value.json)).hexdigest() != value.sha256:
        raise DamagedError(f"the value in {path} is damaged: its checksum is not the one that it was written with")
    return value


def shown(value: Value, longest: int = 60) -> str:
    """Return a value for people, cut short, without the secrets of a URL in it."""
    return one_line(redacted(json.dumps(value.json, ensure_ascii=False)), longest)


def _text(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _check(value: Any, where: str, depth: int, parts: Iterator[int]) -> None:
    """Raise TerminalError for what JSON has not, and say where it is; parts: counts what the value consists of."""
    kind = type(value)
    if next(parts) > MOST:  # each takes a byte at least
        raise _too_large(f"more than {MOST:,}")
    if depth > DEEPEST:
        raise TerminalError(f"the value can't be handed on: it is nested more than {DEEPEST} deep")
    if kind is dict:
        for key, each in value.items():
            if type(key) is not str:
                raise TerminalError(
                    f"the value can't be handed on: {_at(where)} has the key {one_line(repr(key), 60)}, which is no "
                    f"text but of type {type(key).__name__}; an object of JSON has texts as keys"
                )
            _check(each, f"{where}[{key!r}]", depth + 1, parts)
    elif kind is list:
        for number, each in enumerate(value):
            _check(each, f"{where}[{number}]", depth + 1, parts)
    elif kind is float and not math.isfinite(value):
        raise TerminalError(f"the value can't be handed on: {_at(where)} is {value}, which JSON does not have")
    elif kind not in (str, int, float, bool, type(None)):
        raise TerminalError(
            f"the value can't be handed on: {_at(where)} is of type {kind.__name__}, which JSON does not have; "
            "it has None, bool, int, float, str, list and dict"
        )


def _too_large(size: str) -> TerminalError:
    return TerminalError(
        f"the value can't be handed on: as JSON it has {size} bytes, and {MOST:,} are allowed; write it to the files "
        "of a stage, and hand on what they are of"
    )


def _at(where: str) -> str:
    return one_line(where, 200)

"""Twitter API v1.1 responses → the statuses in them, read as they come: no more is held than one status takes.

A response is an array of statuses, or an object that has them as `statuses`; several may follow each other.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO

import numpy as np

#: How an API response begins; a line of JSON lines is an object of other fields.
_BEGINS = re.compile(r"\s*(?:\[\s*(?:[{\]]|$)|\{\s*\"(?:statuses|search_metadata)\"\s*:)", re.ASCII)
_SPACE = re.compile(r"[ \t\r\n]*")
_QUOTE = ord('"')
#: Byte → how it changes the depth.
_NESTS = np.zeros(256, np.int8)
_NESTS[list(b"[{")], _NESTS[list(b"]}")] = 1, -1
#: Characters looked at to tell how a response begins, and those read at a time.
_PEEK, _CHUNK = 4096, 1 << 20
#: A longer value (in characters) is passed over, not built; building one of this length takes some 80 MiB.
_LONGEST = 2 << 20
#: Reads a JSON value only to find its end, because `parse` judges what the value is.
_scan = json.JSONDecoder(strict=False, parse_int=str, parse_float=str).raw_decode


def begins(text: str) -> bool:
    """Return whether a text is the beginning of an API response."""
    return _BEGINS.match(text) is not None


class Responses:
    """The responses in a stream of bytes. max_kept: of a longer record, only so many characters are kept."""

    def __init__(self, first: bytes, stream: IO[bytes], max_kept: int) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._stream, self._max_kept, self._ended = stream, max_kept, False
        self._text, self._at = self._decoder.decode(first), 0

    def records(self) -> Iterator[str]:
        """Yield each status as it stands there; then the rest, where the text breaks off or is something else."""
        try:
            while self._response_follows():
                yield from self._array() if self._next() == "[" else self._object()
        except (ValueError, IndexError):
            pass
        rest = ""
        while len(rest) <= self._max_kept:
            rest, self._at = (rest + self._text[self._at :]).lstrip(), len(self._text)
            if not self._more():
                break
        if rest := rest[: self._max_kept].strip():
            yield rest
        while self._more():  # a file is read to its end, because only its end shows whether it is whole
            self._at = len(self._text)

    def _more(self) -> bool:
        """Read on, and forget what came before the present place; return False at the end."""
        if self._ended:
            return False
        data = self._stream.read(_CHUNK)
        self._ended = not data
        self._text, self._at = self._text[self._at :] + self._decoder.decode(data, final=self._ended), 0
        return True

    def _response_follows(self) -> bool:
        self._next_or_end()
        while len(self._text) - self._at < _PEEK and self._more():
            pass
        return _BEGINS.match(self._text, self._at) is not None

    def _array(self) -> Iterator[str]:
        self._take("[")
        if self._next() != "]":
            while True:
                yield self._value()
                if self._next() == "]":
                    break
                self._take(",")
        self._take("]")

    def _object(self) -> Iterator[str]:
        """Yield the statuses, at whatever place of the object they are."""
        self._take("{")
        if self._next() != "}":
            while True:
                name = self._value()
                self._take(":")
                if self._next() == "[" and len(name) < _PEEK and _scan(name, 0)[0] == "statuses":
                    yield from self._array()
                else:
                    self._value()
                if self._next() == "}":
                    break
                self._take(",")
        self._take("}")

    def _next_or_end(self) -> str:
        """Return the next character that is no white space; "" at the end."""
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _next(self) -> str:
        """Return the next character that is no white space. Raises IndexError at the end."""
        if not (character := self._next_or_end()):
            raise IndexError
        return character

    def _take(self, expected: str) -> None:
        if self._next() != expected:
            raise ValueError(expected)
        self._at += 1

    def _value(self) -> str:
        """Return the next value as it stands there. Raises ValueError for one that is broken, and stays before it."""
        self._next()
        while True:
            length = len(self._text) - self._at
            try:
                _, end = _scan(self._text, self._at)
                # A number at the end of what was read may go on: of 1.5e-7, 1.5e- looks like 1.5 and something else.
                if end + 2 < len(self._text) or self._ended:
                    value, self._at = self._text[self._at : end], end
                    return value
            except RecursionError:
                return self._passed_over()
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos + _PEEK > len(self._text)
                if self._ended or not cut:
                    raise
            if length >= _LONGEST:
                return self._passed_over()
            # Twice as much each time, so that a long value is not looked at again for each piece of it.
            wanted = min(2 * length + _CHUNK, _LONGEST)
            while len(self._text) - self._at < wanted and self._more():
                pass

    def _passed_over(self) -> str:
        """Return the beginning of a value that is too long or nested too deep, read to its end by its brackets
        alone.
        """
        if self._text[self._at] not in '"[{':
            raise ValueError
        kept, depth, quoted = "", 0, 0
        while True:
            text = self._text[self._at : self._at + _CHUNK]
            bare = text.replace("\\\\", "  ").replace('\\"', "  ")
            if bare.endswith("\\"):  # what the backslash escapes comes with the next piece
                text, bare = text[:-1], bare[:-1]
            codes = np.frombuffer(bare.encode("latin-1", "replace"), np.uint8)  # a byte for each character
            inside = (np.cumsum(codes == _QUOTE, dtype=np.int32) + quoted) & 1
            depths = np.cumsum(np.where(inside, 0, _NESTS[codes]), dtype=np.int32) + depth
            ends = np.flatnonzero((depths <= 0) & (inside == 0))
            end = int(ends[0]) + 1 if len(ends) else len(text)
            if len(kept) <= self._max_kept:
                kept += text[:end]
            self._at += end
            if len(ends):
                return kept[: self._max_kept]
            if end:
                depth, quoted = int(depths[-1]), int(inside[-1])
            if len(self._text) - self._at < 2 and not self._more():
                self._text, self._at = kept, 0
                raise ValueError

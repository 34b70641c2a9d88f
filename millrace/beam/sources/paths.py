"""Patterns of paths → files, as `glob` finds them, but without what `glob` hides or never ends.

A folder that may not be read is an error, never fewer files. `**` enters every folder once, whatever links lead there.
"""

import fnmatch
import glob
import os
import re
from collections.abc import Iterator
from urllib.parse import quote

from millrace.errors import SourceError


def files(pattern: str) -> list[str]:
    """Return the files that a path or pattern means, in ascending order; one whose name is not UTF-8 as a file:// URI.

    Raises SourceError where a folder can't be read.
    """
    found = {pattern} if os.path.isfile(pattern) else {path for path in _matching(pattern) if os.path.isfile(path)}
    return sorted(map(_as_text, found))


def _as_text(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        return "file://" + quote(os.fsencode(os.path.abspath(path)))
    return path


def _matching(pattern: str) -> Iterator[str]:
    parts = re.split("(/+)", pattern)
    magic = next((at for at in range(0, len(parts), 2) if glob.has_magic(parts[at])), None)
    if magic is not None:
        yield from _below("".join(parts[:magic]), parts[magic::2])


def _below(folder: str, parts: list[str]) -> Iterator[str]:
    """Yield what a pattern's parts mean in a folder; the folder is text that the name of a file may follow."""
    part, rest = parts[0], parts[1:]
    if part == "**":
        while rest[:1] == ["**"]:
            rest = rest[1:]
        for each in _folders(folder):
            yield from _below(each, rest or ["*"])
    elif not glob.has_magic(part):
        path = folder + part
        if not rest:
            yield path
        elif os.path.isdir(path):
            yield from _below(f"{path}/", rest)
    else:
        for name in fnmatch.filter(_names(folder), part):
            if part.startswith(".") or not name.startswith("."):
                if not rest:
                    yield folder + name
                elif os.path.isdir(folder + name):
                    yield from _below(f"{folder}{name}/", rest)


def _folders(folder: str) -> Iterator[str]:
    """Yield a folder and all below it, each once; links are followed, but a folder's own place comes before links to
    it.
    """
    waiting, links, seen = [folder], list[str](), set[tuple[int, int]]()
    while waiting or links:
        here = waiting.pop() if waiting else links.pop(0)
        try:
            place = os.stat(here or ".")
        except OSError:  # gone meanwhile, or a link that leads nowhere
            continue
        if (place.st_dev, place.st_ino) in seen:
            continue
        seen.add((place.st_dev, place.st_ino))
        yield here
        inner = [
            here + name for name in sorted(_names(here)) if not name.startswith(".") and os.path.isdir(here + name)
        ]
        links += [f"{path}/" for path in inner if os.path.islink(path)]
        waiting += [f"{path}/" for path in reversed(inner) if not os.path.islink(path)]


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder or ".")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SourceError(f"folder {folder or '.'} of a source can't be read: {error.strerror}") from None

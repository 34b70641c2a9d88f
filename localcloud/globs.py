r"""Patterns of names, as objects.list takes them as matchGlob.

    *  any characters but /        [abc] [a-z]    one of these characters
    ** any characters              [!abc] [^abc]  one other character but /
    ?  one character but /         {a*,b}         one of these patterns, which may be nested
    \* the character itself        **/            any folders, also none

https://cloud.google.com/storage/docs/json_api/v1/objects/list#list-object-glob says most of that. What it leaves open
(`**/` without a folder, the escapes, the texts of errors) is as people found Cloud Storage itself to do it:
https://github.com/fsouza/fake-gcs-server/pull/2328 and /2344, https://github.com/floci-io/floci-gcp/pull/188.
"""

import functools
import re


class GlobError(ValueError):
    """A pattern that Cloud Storage refuses; the text is Cloud Storage's."""


@functools.lru_cache(256)
def compiled(glob: str) -> "re.Pattern[str]":
    """Return the regular expression of a pattern, for whole names. Raises GlobError."""
    parts: list[str] = []
    braces: list[int] = []
    at = 0
    while at < len(glob):
        char = glob[at]
        if found := re.compile(r"\*\*+(/?)").match(glob, at):
            whole = at == 0 or glob[at - 1] in "/{,"
            parts.append("(?:.*/)?" if whole and found[1] else ".*" + found[1])
            at = found.end()
            continue
        if char == "[":
            part, at = _class(glob, at, bool(braces))
            parts.append(part)
            continue
        if char == "\\" and at + 1 < len(glob):
            at += 1
            parts.append(re.escape(glob[at]))
        elif char == "*":
            parts.append("[^/]*")
        elif char == "?":
            parts.append("[^/]")
        elif char == "{":
            braces.append(at)
            parts.append("(?:")
        elif char == "," and braces:
            parts.append("|")
        elif char == "}":
            if not braces:
                raise _unopened(glob, at)
            braces.pop()
            parts.append(")")
        elif char == "]":
            raise GlobError(
                f"Glob pattern had closing character class ']' at index {_index(glob, at)} without any previous "
                "opening '['. Either add an opening '[' or use '\\]' to match ']'."
            )
        else:
            parts.append(re.escape(char))
        at += 1
    if braces:
        raise GlobError(
            f"Glob pattern brace expansion opening '{{' at index {_index(glob, braces[-1])} has no closing '}}'. "
            "Use '\\{' to match a literal '{'."
        )
    return re.compile("".join(parts), re.DOTALL)


def folder(glob: str) -> str:
    """Return the folder that all names which a pattern matches lie in, with its / at the end; "" for none."""
    found = re.match(r"(?:[^\\*?\[{]|\\.)*/", glob, re.DOTALL)
    return re.sub(r"\\(.)", r"\1", found[0], flags=re.DOTALL) if found else ""


def _class(glob: str, start: int, in_braces: bool) -> tuple[str, int]:
    """Return the class of characters that begins with a [, as a regular expression, and where it ends."""
    unclosed = GlobError(
        f"Glob pattern character class has no closing ']' for opening '[' at index {_index(glob, start)}. Either add "
        "a closing ']' or use '\\[' to match a literal '['."
    )
    at = start + 1
    other = glob[at : at + 1] in ("!", "^")
    at += other
    members: list[tuple[str, bool]] = []  # each character, and whether it was escaped
    while at < len(glob) and glob[at] != "]":
        char = glob[at]
        if char == "[":
            raise GlobError(
                f"Glob pattern character class does not support the unescaped '[' at index {_index(glob, at)}. "
                "Use '\\[' to match '['."
            )
        if char == "}" and not in_braces:
            raise _unopened(glob, at)
        if char == "{" or (char in "}," and in_braces):
            raise unclosed
        escaped = char == "\\"
        at += escaped
        members += [(each, escaped) for each in glob[at : at + 1]]
        at += 1
    if at >= len(glob):
        raise unclosed
    if not members:
        raise GlobError(
            f"Glob pattern character class at index {_index(glob, start)} must have at least one character in it."
        )
    found, number = "/" if other else "", 0
    while number < len(members):
        first = members[number][0]
        if members[number + 1 : number + 2] == [("-", False)] and number + 2 < len(members):
            last = members[number + 2][0]
            if first > last:
                raise GlobError(f"Invalid range '{first}-{last}' in glob pattern character class.")
            found += f"{re.escape(first)}-{re.escape(last)}"
            number += 3
        else:
            found += re.escape(first)
            number += 1
    return f"[{'^' if other else ''}{found}]", at + 1


def _unopened(glob: str, at: int) -> GlobError:
    return GlobError(
        f"Glob pattern brace expansion closing '}}' at index {_index(glob, at)} has no previous opening '{{'. "
        "Use '\\}' to match a literal '}'."
    )


def _index(glob: str, at: int) -> int:
    """Return a place in a pattern as Cloud Storage counts, in bytes."""
    return len(glob[:at].encode())

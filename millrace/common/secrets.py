"""Secrets of a source's URL: they come from the environment, and no name of a source shows them.

A URL says `${NAME}` where a user, a password or a token goes. So the URL can be a setting, a task's parameter, part of
a folder's name and of a page; the variable is read only when the server is asked. A literal secret is refused.
"""

import base64
import os
import re
from collections.abc import Iterator
from urllib.parse import quote, unquote, unquote_plus, urlsplit

from millrace.errors import SourceError

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
#: Names of parameters whose values are secrets: token, X-Amz-Signature, apiKey, …
_SECRET = re.compile(
    r"(?:.*(?:token|secret|password|passwd|signature|credentials?|accesskeyid)"
    r"|(?:.*[-_.])?(?:pass|pwd|auth|authorization|sig|jwt|session|session[-_]?id|sas)"
    r"|(?:.*(?:api|access|auth|secret|private|subscription|account|app|client|shared)[-_.]?)?key)",
    re.IGNORECASE,
)
_PARAMETER = re.compile(r"([?&;#])([^=?&;#]*)=([^&#]*)")
# In a broken URL a password may hold a slash: what follows `user:` and is no port goes up to the last @.
_USER = re.compile(r"(?<=://)(?:[^\s/?#]*@|[^\s/:@]+:(?!\d*(?:[/?#\s]|$))\S*@)")


def refuse(source: str) -> None:
    """Raise SourceError for a URL that holds a literal secret, with how to write it instead."""
    user, at, _ = _parts(source.partition("://")[2])[0].rpartition("@")
    if at and _is_literal(user):
        raise SourceError(
            f"source {redacted(source)!r} holds a user or password, which would show in names, logs and pages; write "
            "https://${NAME}:${PASSWORD}@… with the names of environment variables, or leave them to ~/.netrc"
        )
    for parameter in _secrets(source):
        variable = re.sub("[^A-Z0-9]", "_", parameter.upper())
        raise SourceError(
            f"source {redacted(source)!r} holds a secret, {parameter}, which would show in names, logs and pages; "
            f"write {parameter}=${{{variable}}} with the name of an environment variable"
        )


def _is_literal(user: str) -> bool:
    """Return whether `user:password`, or a user alone, holds a word that is no variable."""
    name, colon, password = user.partition(":")
    return not VARIABLE.search(password if colon else name)


def _secrets(source: str) -> Iterator[str]:
    for _, name, value in _PARAMETER.findall(source) if "://" in source else ():
        if _SECRET.fullmatch(unquote_plus(name)) and value and not VARIABLE.search(value):
            yield unquote_plus(name)


def redacted(text: str) -> str:
    """Return a text in which URLs stand, without the users, passwords and secret parameters that are literal there."""
    text = _USER.sub(lambda found: "…@" if _is_literal(found[0]) else found[0], text)
    return _PARAMETER.sub(
        lambda found: f"{found[1]}{found[2]}=…" if any(_secrets(f"://{found[0]}")) else found[0], text
    )


def from_here(uri: str) -> bool:
    """Return whether only this machine can ask for a URL, because the URL takes a variable or an entry of its netrc
    file.
    """
    from requests.utils import get_netrc_auth

    return bool(VARIABLE.search(uri) or get_netrc_auth(re.sub(r"\{[^}]*\}", "x", uri)))


def filled(uri: str) -> str:
    """Return a URL with its variables' values, as the server is asked. Raises SourceError for one that is not set."""
    head, there, rest = uri.partition("://")
    authority, path, query = _parts(rest if there else uri)
    user, at, host = authority.rpartition("@")

    def parameter(part: str) -> str:
        return expanded(part, uri, quoted="=" in part)  # a variable alone may hold several parameters

    shown = "&".join(map(parameter, query.split("&")))
    return f"{head}{there}{expanded(user, uri, quoted=True)}{at}{expanded(host + path, uri)}{shown}"


def _parts(rest: str) -> tuple[str, str, str]:
    """Return authority, path, and query with its question mark."""
    end = min((at for mark in "/?#" if (at := rest.find(mark)) >= 0), default=len(rest))
    path, mark, query = rest[end:].partition("?")
    return rest[:end], path, mark + query


def expanded(text: str, named: str = "", *, quoted: bool = False) -> str:
    """Return a text with the values of its variables.

    Raises SourceError, naming the variable, for one that is not set.
    """

    def value(found: re.Match[str]) -> str:
        if not (value := os.environ.get(found[1])):
            raise SourceError(
                f"source {redacted(named or text)} needs the environment variable {found[1]}, which is not set"
            )
        return quote(value, safe="") if quoted else value

    return VARIABLE.sub(value, text)


def hidden(text: str, uri: str) -> str:
    """Return what was said of a URL, with the names of its variables for their values, however these are written."""
    values = {name: os.environ.get(name, "") for name in VARIABLE.findall(uri)}
    if any(values.values()) and (user := urlsplit(filled(uri)).netloc.rpartition("@")[0]):
        text = text.replace(base64.b64encode(unquote(user).encode()).decode(), "…")
    for name, value in sorted(values.items(), key=lambda item: -len(item[1])):
        if value:
            text = re.sub("".join(map(_written, value)), f"${{{name}}}", text, flags=re.IGNORECASE)
    return text


def _written(character: str) -> str:
    """Return a pattern of the ways in which a character is written: as it is, encoded for a URL, taken for Latin-1."""
    code = character.encode("utf-8", "surrogateescape")
    percent, latin = "".join(f"%{byte:02x}" for byte in code), code.decode("latin-1")
    return f"(?:{re.escape(character)}|{percent}|{re.escape(latin)}|{'[+]' if character == ' ' else '(?!)'})"

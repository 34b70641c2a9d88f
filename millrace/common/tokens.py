"""Secrets in what a service or a traceback says: tokens, keys, passwords, whatever they are called there."""

import functools
import re

#: What takes a secret's place, by the pattern and its flags; compiled when the first text comes, which is mostly never.
_PATTERNS = (
    (r"-----BEGIN [A-Z ]+-----.*?(-----END [A-Z ]+-----|$)", re.DOTALL, "…"),
    # What follows names like these, as in name=…, name: … and "name": "…", also within a string of JSON.
    (
        r"""((?:token|secret|password|signature|authorization|assertion|(?<![A-Za-z])(?:\w+_)?key|\bsig)
         [\\"']*\s*[=:]\s*(?:bearer\s+)?)
        (?: (?P<quote>\\?["']).*?(?P=quote) | [^\s"'\\&,;)}\]]{8,} )""",
        re.IGNORECASE | re.VERBOSE | re.DOTALL,
        r"\1…",
    ),
    # Access and refresh tokens, JSON web tokens, API keys, and what follows "Bearer".
    (
        r"\bya29\.[\w.~+/-]+|\b1//[\w-]{8,}|\beyJ[\w-]+\.[\w-]+\.[\w-]*|\bAIza[\w-]{8,}|(?<=Bearer )[\w.~+/-]{8,}=*",
        re.IGNORECASE,
        "…",
    ),
)


def redacted(text: str) -> str:
    """Return a text without anything in it that might be a secret."""
    for pattern, instead in _compiled():
        text = pattern.sub(instead, text)
    return text


@functools.cache
def _compiled() -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(pattern, flags), instead) for pattern, flags, instead in _PATTERNS]

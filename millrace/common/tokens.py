"""Secrets in what a service or a traceback says: tokens, keys, passwords, whatever they are called there."""

import re

_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.*?(-----END [A-Z ]+-----|$)", re.DOTALL)
#: What follows names like these, as in name=…, name: … and "name": "…", also within a string of JSON.
_NAMED = re.compile(
    r"""((?:token|secret|password|signature|authorization|assertion|(?<![A-Za-z])(?:\w+_)?key|\bsig)
         [\\"']*\s*[=:]\s*(?:bearer\s+)?)
        (?: (?P<quote>\\?["']).*?(?P=quote) | [^\s"'\\&,;)}\]]{8,} )""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
#: Access and refresh tokens, JSON web tokens, API keys, and what follows "Bearer".
_BARE = re.compile(
    r"\bya29\.[\w.~+/-]+|\b1//[\w-]{8,}|\beyJ[\w-]+\.[\w-]+\.[\w-]*|\bAIza[\w-]{8,}|(?<=Bearer )[\w.~+/-]{8,}=*",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """Return a text without anything in it that might be a secret."""
    return _BARE.sub("…", _NAMED.sub(r"\1…", _PEM.sub("…", text)))

"""The system parameters that every one of Google's JSON APIs takes with any call, and partial responses.

Source: https://cloud.google.com/apis/docs/system-parameters, and for `fields`
https://cloud.google.com/storage/docs/json_api#partial-response.
"""

import re
from collections.abc import Mapping
from typing import Any

#: Names as older and newer clients send them; what they mean is the second. Who pays for a call, and whose quota it
#: uses, changes nothing on this machine. `alt` says in which form the answer is wanted.
_NAMES = {
    "$.xgafv": "xgafv",
    "$alt": "alt",
    "$callback": "callback",
    "$fields": "fields",
    "$key": "key",
    "$prettyPrint": "prettyPrint",
    "$quotaUser": "quotaUser",
    "$userProject": "quotaProject",
    "access_token": "access_token",
    "alt": "alt",
    "callback": "callback",
    "fields": "fields",
    "key": "key",
    "oauth_token": "oauth_token",
    "prettyPrint": "prettyPrint",
    "quotaUser": "quotaUser",
    "upload_protocol": "upload_protocol",
    "userIp": "userIp",
}
#: Field masks are nested by parentheses and slashes.
_TOKEN = re.compile(r"[^,/()\s]+|[,/()]")
Mask = dict[str, "Mask"]


class ParameterError(ValueError):
    """A system parameter that can't be followed."""


def split(query: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return a query's own parameters, and the system's by their plain names."""
    own = {key: value for key, value in query.items() if key not in _NAMES}
    return own, {_NAMES[key]: value for key, value in query.items() if key in _NAMES}


def check(system: Mapping[str, str]) -> None:
    """Raise ParameterError for what is not served: answers that are no JSON, scripts that call back, other errors."""
    form = system.get("alt", "json").partition(";")[0]
    if form not in ("json", "media"):
        raise ParameterError(f'Invalid value "{form}" for alt: the local cloud answers with json or media.')
    if "callback" in system:
        raise ParameterError("The local cloud answers no callback (JSONP).")
    mask(system.get("fields", ""))


def mask(fields: str) -> Mask:
    """Return a field mask, as in "kind,items(id,owner/name)", by name. Raises ParameterError for one that has an end
    missing.
    """
    tokens = _TOKEN.findall(fields)
    found, rest = _list(tokens)
    if rest:
        raise ParameterError(f"Invalid field selection {fields}")
    return found


def partial(value: Any, wanted: Mask) -> Any:
    """Return of a JSON value what a mask names; of an array, of each element. What is not there is left out."""
    if not wanted:
        return value
    if isinstance(value, list):
        return [partial(each, wanted) for each in value]
    if not isinstance(value, dict):
        return value
    every = wanted.get("*")
    return {
        key: partial(each, wanted.get(key, every or {}))
        for key, each in value.items()
        if key in wanted or every is not None
    }


def _list(tokens: list[str]) -> tuple[Mask, list[str]]:
    """Read names that commas part, each with what is below it; return them and the tokens that are left."""
    found: Mask = {}
    while tokens and tokens[0] not in (",", "/", "(", ")"):
        name, *tokens = tokens
        below = found.setdefault(name, {})
        while tokens[:1] == ["/"]:
            if len(tokens) < 2 or tokens[1] in (",", "/", "(", ")"):
                return found, tokens
            below = below.setdefault(tokens[1], {})
            tokens = tokens[2:]
        if tokens[:1] == ["("]:
            inner, left = _list(tokens[1:])
            if not inner or left[:1] != [")"]:
                return found, tokens
            below.update(inner)
            tokens = left[1:]
        if tokens[:1] != [","]:
            break
        tokens = tokens[1:]
        if not tokens:
            return found, [","]
    return found, tokens

"""Listings of objects: pages, folders, offsets and patterns."""

import base64
import bisect
import itertools
from collections.abc import Callable
from typing import Any

from localcloud import globs
from localcloud.serving import Request, Response, json_response
from localcloud.storage.state import RefusedError, Store, linked

#: What the documentation promises as the largest page.
PAGE = 1000


def list_objects(store: Store, request: Request, named: dict[str, str]) -> Response:
    """List objects."""
    bucket = store.bucket(named["bucket"])
    store.permit("storage.objects.list")
    query = request.query
    prefix, delimiter, glob = query.get("prefix", ""), query.get("delimiter", ""), query.get("matchGlob", "")
    after = base64.urlsafe_b64decode(query.get("pageToken", "")).decode()
    room = min(int(query.get("maxResults") or PAGE), PAGE)
    items: list[dict[str, Any]] = []
    prefixes: list[str] = []
    more = ""
    matching = _matcher(glob, delimiter)
    # Folders are told of below the one that a pattern names, though no prefix does.
    below = len(max(prefix, globs.folder(glob), key=len))
    first = max(prefix, query.get("startOffset", ""), after)
    for name in itertools.islice(bucket.names, bisect.bisect_left(bucket.names, first), None):
        if not name.startswith(prefix) or ("endOffset" in query and name >= query["endOffset"]):
            break
        if after and (name == after or _below(name, after, delimiter)):
            continue
        cut = name.find(delimiter, below) if delimiter else -1
        folder = name[: cut + len(delimiter)] if cut >= 0 else ""
        if not matching(folder or name):
            continue
        if folder and prefixes and prefixes[-1] == folder:
            continue
        if len(items) + len(prefixes) == room:
            last = max(items[-1]["name"] if items else "", prefixes[-1] if prefixes else "")
            more = base64.urlsafe_b64encode(last.encode()).decode()
            break
        if folder:
            prefixes.append(folder)
        else:
            items.append(linked(request, bucket.objects[name].resource))
    answer = {"kind": "storage#objects", "nextPageToken": more, "prefixes": prefixes, "items": items}
    return json_response({key: value for key, value in answer.items() if value})


def _matcher(glob: str, delimiter: str) -> Callable[[str], object]:
    """Return what tells whether a name or a folder is one of a pattern's."""
    if not glob:
        return lambda name: True
    if delimiter not in ("", "/"):
        raise RefusedError(400, "When listing with a glob pattern, the only supported delimiter is '/'.")
    try:
        return globs.compiled(glob).fullmatch
    except globs.GlobError as error:
        raise RefusedError(400, str(error)) from None


def _below(name: str, token: str, delimiter: str) -> bool:
    """Return whether the page before, which ended with `token`, has shown the folder that a name lies in."""
    return bool(delimiter) and token.endswith(delimiter) and name.startswith(token)

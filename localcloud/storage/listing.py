"""Listings of objects: pages, folders, offsets, patterns and generations."""

import base64
import binascii
import bisect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from localcloud import globs
from localcloud.serving import Request, Response, json_response
from localcloud.storage.resources import describer
from localcloud.storage.state import Bucket, Object, RefusedError, Store, flag, number

#: What the documentation promises as the largest page.
PAGE = 1000
#: Between a name and a generation in a page's token; no name holds one.
_BETWEEN = "\n"


def list_objects(store: Store, request: Request, named: dict[str, str]) -> Response:
    """List objects."""
    bucket = store.bucket(named["bucket"])
    store.permit("storage.objects.list")
    items, prefixes, more = page(bucket, request.query)
    answer = {
        "kind": "storage#objects",
        "nextPageToken": more,
        "prefixes": prefixes,
        "items": list(map(describer(request, bucket), items)),
    }
    return json_response({key: value for key, value in answer.items() if value})


def page(bucket: Bucket, query: Mapping[str, str]) -> tuple[list[Object], list[str], str]:
    """Return a page of a listing: objects, folders, and the next page's token."""
    prefix, delimiter, glob = query.get("prefix", ""), query.get("delimiter", ""), query.get("matchGlob", "")
    after, _, generation = _token(query.get("pageToken", "")).partition(_BETWEEN)
    room = min(number(query, "maxResults", PAGE), PAGE)
    items: list[Object] = []
    prefixes: list[str] = []
    last = ""
    matching, passing = _matcher(glob, delimiter), _filter(query.get("filter", ""))
    # Folders are told of below the one that a pattern names, though no prefix does.
    below = len(max(prefix, globs.folder(glob), key=len))
    first = max(prefix, query.get("startOffset", ""), after)
    for name, found in _entries(bucket, query, first):
        if not name.startswith(prefix) or ("endOffset" in query and name >= query["endOffset"]):
            break
        if after and (_shown(name, found, after, generation) or _below(name, after, delimiter)):
            continue
        cut = name.find(delimiter, below) if delimiter else -1
        folder = name[: cut + len(delimiter)] if cut >= 0 else ""
        if not matching(folder or name) or (found and not passing(found)):
            continue
        whole = bool(folder == name and flag(query, "includeTrailingDelimiter") and found)
        fresh = bool(folder) and folder not in prefixes[-1:]
        if folder and not fresh and not whole:
            continue
        if len(items) + len(prefixes) >= room:
            return items, prefixes, base64.urlsafe_b64encode(last.encode()).decode()
        if fresh:
            prefixes.append(folder)
            last = folder
        if found and (whole or not folder):
            items.append(found)
            last = name + (_BETWEEN + found.generation if flag(query, "versions") else "")
    return items, prefixes, ""


def _entries(bucket: Bucket, query: Mapping[str, str], first: str) -> Iterator[tuple[str, Object | None]]:
    """Return what is to be listed from a name on, in order; a folder that is managed is a name without an object."""
    if flag(query, "softDeleted"):
        for name in sorted(name for name in bucket.deleted if name >= first):
            for each in sorted(bucket.deleted[name], key=lambda each: int(each.generation)):
                yield name, each
        return
    versions = flag(query, "versions")
    folders = bucket.folders if flag(query, "includeFoldersAsPrefixes") else {}
    if not versions and not folders:
        for name in itertools.islice(bucket.names, bisect.bisect_left(bucket.names, first), None):
            yield name, bucket.objects[name]
        return
    for name in sorted({*bucket.names, *folders, *(bucket.replaced if versions else ())}):
        if name < first:
            continue
        if name in folders and name not in bucket.objects:
            yield name, None
        for each in bucket.versions(name) if versions else [bucket.objects[name]] if name in bucket.objects else []:
            yield name, each


def _token(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise RefusedError(400, f"Invalid page token {token!r}.") from None


def _shown(name: str, found: Object | None, after: str, generation: str) -> bool:
    """Return whether the page before has shown an object."""
    return name == after and (not generation or found is None or int(found.generation) <= int(generation))


def _below(name: str, token: str, delimiter: str) -> bool:
    """Return whether the page before, which ended with `token`, has shown the folder that a name lies in."""
    return bool(delimiter) and token.endswith(delimiter) and name.startswith(token)


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


def _filter(text: str) -> Callable[[Object], bool]:
    """Return what tells whether an object has the context that a filter asks for."""
    if not text:
        return lambda there: True
    found = re.fullmatch(r'\s*(-?)\s*contexts\."([^"]+)"\s*(?:=\s*"([^"]*)"|(:\s*\*))\s*', text)
    if not found:
        raise RefusedError(501, f'local storage has filters of one context, contexts."KEY"="VALUE", but not {text!r}')
    unwanted, key, value, _present = found.groups()

    def passes(there: Object) -> bool:
        custom: dict[str, Any] = there.resource.get("contexts", {}).get("custom", {})
        has = key in custom and (value is None or custom[key]["value"] == value)
        return has != bool(unwanted)

    return passes

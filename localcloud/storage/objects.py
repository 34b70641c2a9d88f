"""Calls that read, change, copy and compose objects."""

import bisect
import gzip
import re

from localcloud.serving import Request, Response, json_response
from localcloud.storage.state import WRITABLE, Object, RefusedError, Store, changed, check, linked, now, tagged, told

#: What the documentation promises as the most parts of a composition.
COMPONENTS = 32


def get(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Tell of an object, or return its bytes."""
    store.permit("storage.objects.get")
    there = store.live(named["bucket"], named["name"], request.query)
    check(request.query, there, reading=True)
    if request.system.get("alt") == "media":
        return _media(request, there)
    return told(request, there.resource)


def patch(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Change the fields that are given (objects.patch); drop also those that are not (objects.update)."""
    store.permit("storage.objects.update")
    there = store.live(named["bucket"], named["name"], request.query)
    check(request.query, there)
    resource = dict(there.resource)
    if request.call == "objects.update":
        resource = {key: value for key, value in resource.items() if key not in WRITABLE or key == "storageClass"}
    updated = changed(resource, request.json())
    updated.update(metageneration=str(int(there.metageneration) + 1), updated=now())
    there.resource = tagged(updated)
    return told(request, there.resource)


def delete(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Delete an object."""
    store.permit("storage.objects.delete")
    there = store.live(named["bucket"], named["name"], request.query)
    check(request.query, there)
    bucket = store.buckets[named["bucket"]]
    del bucket.objects[named["name"]]
    del bucket.names[bisect.bisect_left(bucket.names, named["name"])]
    return Response(204)


def copy(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Copy an object; the copy has the source's fields, unless the request brings its own."""
    store.permit("storage.objects.get")
    query = request.query
    of_source = {"generation": query["sourceGeneration"]} if "sourceGeneration" in query else {}
    source = store.live(named["bucket"], named["name"], of_source)
    check({_of_target(key): value for key, value in query.items() if key.startswith("ifSource")}, source)
    own = {key: value for key, value in request.json().items() if key in WRITABLE}
    fields = own or {key: source.resource[key] for key in WRITABLE if key in source.resource}
    fields.setdefault("contentType", source.resource.get("contentType"))
    query = {**query, "kmsKeyName": query.get("destinationKmsKeyName", "")}
    written = store.written(named["to_bucket"], named["to_name"], source.data, fields, query)
    if request.call == "objects.copy":
        return told(request, written)
    size = written["size"]
    answer = {"kind": "storage#rewriteResponse", "totalBytesRewritten": size, "objectSize": size, "done": True}
    return json_response({**answer, "resource": linked(request, written)})


def compose(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Write an object that is others, one after the other."""
    store.permit("storage.objects.get")
    asked = request.json()
    sources = asked.get("sourceObjects", [])
    if not 1 <= len(sources) <= COMPONENTS:
        raise RefusedError(400, f"{len(sources)} source objects; 1 to {COMPONENTS} are allowed")
    data = b""
    for each in sources:
        source = store.live(named["bucket"], each["name"], each)
        check(each.get("objectPreconditions", {}), source)
        data += source.data
    written = store.written(named["bucket"], named["name"], data, asked.get("destination", {}), request.query)
    written["componentCount"] = len(sources)
    del written["md5Hash"]  # composite objects have none
    return told(request, written)


def _of_target(key: str) -> str:
    """Return a precondition on a copy's source, as one on an object."""
    return "if" + key.removeprefix("ifSource")


def _media(request: Request, there: Object) -> Response:
    """Return an object's bytes, or the range of them that is asked for."""
    resource, data = there.resource, there.data
    headers = {
        "Content-Type": resource.get("contentType", "application/octet-stream"),
        "Accept-Ranges": "bytes",
        "ETag": resource["etag"],
        "X-Goog-Generation": there.generation,
        "X-Goog-Metageneration": there.metageneration,
        "X-Goog-Storage-Class": resource["storageClass"],
        "X-Goog-Stored-Content-Encoding": resource.get("contentEncoding", "identity"),
        "X-Goog-Stored-Content-Length": resource["size"],
        "X-Goog-Hash": f"crc32c={resource['crc32c']}"
        + (f",md5={resource['md5Hash']}" if "md5Hash" in resource else ""),
    }
    if resource.get("contentEncoding") == "gzip" and "gzip" not in request.headers.get("Accept-Encoding", ""):
        # Decompressive transcoding: the whole object, whatever the range.
        return Response(200, gzip.decompress(data), headers)
    if "contentEncoding" in resource:
        headers["Content-Encoding"] = resource["contentEncoding"]
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", "").replace(" ", ""))
    if not found or not any(found.groups()):
        return Response(200, data, headers)
    size = len(data)
    if found[1]:
        start, end = int(found[1]), min(int(found[2] or size), size - 1)
    else:
        start, end = max(size - int(found[2]), 0), size - 1
    if start >= size or start > end:
        raise RefusedError(416, "Request range not satisfiable", {"Content-Range": f"bytes */{size}"})
    return Response(206, data[start : end + 1], {**headers, "Content-Range": f"bytes {start}-{end}/{size}"})

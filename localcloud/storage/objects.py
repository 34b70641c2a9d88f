"""Calls that read, change, copy, move, compose and delete objects."""

from collections.abc import Mapping
from typing import Any

from localcloud.serving import Request, Response, json_response
from localcloud.storage import keys, retention
from localcloud.storage.checks import check, check_etag, check_source
from localcloud.storage.media import media
from localcloud.storage.resources import WRITABLE, change, described, told, write
from localcloud.storage.state import Object, RefusedError, Store, flag

#: What the documentation promises as the most parts of a composition.
COMPONENTS = 32


def get(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Tell of an object, or return its bytes."""
    store.permit("storage.objects.get")
    there = _named(store, request, named)
    check(request.query, there, reading=True)
    check_etag(request, there.resource["etag"], reading=True)
    if request.system.get("alt") == "media":
        return media(request, there)
    return told(store, request, there)


def patch(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Change the fields that are given (objects.patch); drop also those that are not (objects.update)."""
    store.permit("storage.objects.update")
    there = _named(store, request, named)
    check(request.query, there)
    check_etag(request, there.resource["etag"])
    resource = dict(there.resource)
    if request.call == "objects.update":
        kept = ("storageClass", "temporaryHold", "eventBasedHold", "retention")
        resource = {key: value for key, value in resource.items() if key not in WRITABLE or key in kept}
    override = flag(request.query, "overrideUnlockedRetention")
    change(store.bucket(named["bucket"]), there, resource, request.json(), override=override)
    return told(store, request, there)


def delete(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Delete an object; one of its generations for good, if it is named."""
    store.permit("storage.objects.delete")
    there = store.object(named["bucket"], named["object"], request.query.get("generation"))
    check(request.query, there)
    check_etag(request, there.resource["etag"])
    bucket = store.bucket(named["bucket"])
    retention.protect(bucket, there)
    bucket.drop(there, for_good="generation" in request.query)
    return Response(204)


def copy(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Copy an object; the copy has the source's fields, unless the request brings its own."""
    store.permit("storage.objects.get")
    query = request.query
    source = store.object(named["sourceBucket"], named["sourceObject"], query.get("sourceGeneration"))
    check_source(query, source)
    keys.unlock(source, keys.given(request.headers, keys.SOURCE))
    asked = request.json()
    own = {key: value for key, value in asked.items() if key in (*WRITABLE, "acl")}
    if set(own) <= {"contexts"}:  # these replace the source's, and leave the rest as it is
        own = {**_copied(source), **own}
    own.setdefault("contentType", source.resource.get("contentType"))
    place = (named["destinationBucket"], named["destinationObject"])
    query = {**query, "kmsKeyName": query.get("destinationKmsKeyName", "")}
    new = write(store, place, source.data, own, query, keys.given(request.headers))
    if "componentCount" in source.resource:
        _composite(new, source.resource["componentCount"])
    if request.call == "objects.copy":
        return told(store, request, new)
    size = new.resource["size"]
    answer = {"kind": "storage#rewriteResponse", "totalBytesRewritten": size, "objectSize": size, "done": True}
    return json_response({**answer, "resource": described(request, store.bucket(place[0]), new)})


def move(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Give an object another name in its bucket."""
    store.permit("storage.objects.get")
    store.permit("storage.objects.delete")
    bucket = store.bucket(named["bucket"])
    source = store.object(named["bucket"], named["sourceObject"])
    check_source(request.query, source)
    if named["sourceObject"] == named["destinationObject"]:
        raise RefusedError(400, "Source and destination object names must be different.")
    retention.protect(bucket, source)
    place = (named["bucket"], named["destinationObject"])
    new = write(store, place, source.data, _copied(source), request.query, source.resource.get("customerEncryption"))
    bucket.drop(source, for_good=False)
    return told(store, request, new)


def restore(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Make what soft delete keeps a live object again."""
    store.permit("storage.objects.restore")
    bucket = store.bucket(named["bucket"])
    there = _soft_deleted(store, named, request.query.get("generation"))
    fields = _copied(there)
    new = write(
        store,
        (named["bucket"], named["object"]),
        there.data,
        fields,
        request.query,
        there.resource.get("customerEncryption"),
    )
    bucket.forget(there)
    return told(store, request, new)


def compose(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Write an object that is others, one after the other."""
    store.permit("storage.objects.get")
    asked = request.json()
    sources = asked.get("sourceObjects", [])
    if not 1 <= len(sources) <= COMPONENTS:
        raise RefusedError(400, f"{len(sources)} source objects; 1 to {COMPONENTS} are allowed")
    key = keys.given(request.headers)
    found = []
    for each in sources:
        source = store.object(named["destinationBucket"], each.get("name", ""), each.get("generation"))
        check(each.get("objectPreconditions", {}), source)
        if key or "customerEncryption" in source.resource:
            keys.unlock(source, key)
        found.append(source)
    data = b"".join(each.data for each in found)
    place = (named["destinationBucket"], named["destinationObject"])
    # Clients send what they know of the destination or the first source, whose checksums are no claim about the whole.
    fields = {name: value for name, value in asked.get("destination", {}).items() if name not in ("crc32c", "md5Hash")}
    new = write(store, place, data, fields, request.query, key)
    _composite(new, sum(int(each.resource.get("componentCount", 1)) for each in found))
    if asked.get("deleteSourceObjects"):
        bucket = store.bucket(place[0])
        for each in found:
            retention.protect(bucket, each)
        for each in {each.generation: each for each in found}.values():
            if bucket.objects.get(each.name) is each:
                bucket.drop(each, for_good=True)
    return told(store, request, new)


def _composite(there: Object, components: int) -> None:
    """Make an object a composite one: these have no MD5."""
    there.resource["componentCount"] = components
    del there.resource["md5Hash"]


def _copied(source: Object) -> dict[str, Any]:
    """Return the fields that a copy has of its source: all but what the source is retained by."""
    kept = ("eventBasedHold", "temporaryHold", "retention")
    return {key: source.resource[key] for key in WRITABLE if key in source.resource and key not in kept}


def _named(store: Store, request: Request, named: Mapping[str, str]) -> Object:
    """Return the object that a request names; what soft delete keeps, if it asks for that."""
    if flag(request.query, "softDeleted"):
        return _soft_deleted(store, named, request.query.get("generation"))
    return store.object(named["bucket"], named["object"], request.query.get("generation"))


def _soft_deleted(store: Store, named: Mapping[str, str], generation: str | None) -> Object:
    if not generation:
        raise RefusedError(400, "You must specify a generation of an object that is deleted.", "required")
    for each in store.bucket(named["bucket"]).deleted.get(named["object"], ()):
        if each.generation == generation:
            return each
    raise RefusedError(404, f"No such object: {named['bucket']}/{named['object']}#{generation}")

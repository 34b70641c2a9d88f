"""Objects as the API tells them, and how they come to be and change."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from localcloud.serving import Request, Response, json_response
from localcloud.storage import access, keys, retention
from localcloud.storage.checks import check
from localcloud.storage.state import Bucket, Object, RefusedError, Store, checksums, etag, now

#: What the documentation promises as the largest custom metadata.
METADATA_BYTES = 8192
#: The fields of an object that callers may write.
WRITABLE = (
    "cacheControl contentDisposition contentEncoding contentLanguage contentType contexts customTime eventBasedHold "
    "metadata retention storageClass temporaryHold"
).split()
#: What is told only when it is asked for, or not at all.
_UNTOLD = ("acl", "owner", "_released")


def told(store: Store, request: Request, there: Object) -> Response:
    """Answer with an object's resource."""
    found = described(request, store.bucket(there.resource["bucket"]), there)
    return json_response(found, headers={"ETag": there.resource["etag"]})


def described(request: Request, bucket: Bucket, there: Object) -> dict[str, Any]:
    """Return an object's resource with its links and what the bucket makes of it; the lists if they are asked for."""
    return describer(request, bucket)(there)


def describer(request: Request, bucket: Bucket) -> Callable[[Object], dict[str, Any]]:
    """Return what describes the objects of a bucket to a caller."""
    key, root = keys.given(request.headers), f"{base(request)}/"
    full = request.query.get("projection") == "full" and not access.uniform(bucket)

    def describe(there: Object) -> dict[str, Any]:
        known = keys.shown(there.resource, key)
        resource = {field: value for field, value in known.items() if field not in _UNTOLD}
        if full:
            resource |= {"owner": known.get("owner"), **access.entries(known)}
        path = f"storage/v1/b/{known['bucket']}/o/{quote(known['name'], safe='')}"
        resource["selfLink"] = root + path
        resource["mediaLink"] = f"{root}download/{path}?generation={known['generation']}&alt=media"
        if end := retention.expiration(bucket, known):
            resource["retentionExpirationTime"] = end
        return resource

    return describe


def base(request: Request) -> str:
    """Return the service's address as the caller has it: an answer's links lead back to the port that was asked."""
    return f"http://{request.headers['Host']}"


def write(
    store: Store,
    place: tuple[str, str],
    data: bytes,
    fields: Mapping[str, Any],
    query: Mapping[str, Any],
    key: dict[str, str] | None = None,
) -> Object:
    """Write an object, if the preconditions hold. place: bucket and name; key: the customer's, as keys.given tells."""
    bucket, name = store.bucket(place[0]), place[1]
    if not name or len(name.encode()) > 1024 or name in (".", "..") or "\n" in name or "\r" in name:
        raise RefusedError(400, f"{name!r} is no name of an object")
    there = bucket.objects.get(name)
    store.permit("storage.objects.create")
    if there:
        store.permit("storage.objects.delete")
    check(query, there)
    found = checksums(data)
    for field, value in found.items():
        if fields.get(field) not in (None, "", value):
            raise RefusedError(400, f"Provided {field} {fields[field]!r} doesn't match calculated {field} {value!r}.")
    if there:
        retention.protect(bucket, there)
    at, generation = now(), store.next_generation()
    resource: dict[str, Any] = {
        "kind": "storage#object",
        "id": f"{place[0]}/{name}/{generation}",
        "name": name,
        "bucket": place[0],
        "generation": generation,
        "metageneration": "1",
        "size": str(len(data)),
        **found,
        "storageClass": bucket.resource["storageClass"],
        "timeCreated": at,
        "updated": at,
        "timeStorageClassUpdated": at,
        "timeFinalized": at,
        **({"eventBasedHold": True} if bucket.resource.get("defaultEventBasedHold") else {}),
        **({"customerEncryption": key} if key else {}),
        **access.of_new_object(bucket, fields, query),
    }
    default_key = "" if key else bucket.resource.get("encryption", {}).get("defaultKmsKeyName", "")
    if kms_key := query.get("kmsKeyName") or fields.get("kmsKeyName") or default_key:
        if key:
            raise RefusedError(400, "An object has a customer-supplied key or one of Cloud KMS, not both.")
        resource["kmsKeyName"] = kms_key if "/cryptoKeyVersions/" in kms_key else f"{kms_key}/cryptoKeyVersions/1"
    resource = changed(resource, fields)
    retention.changed(bucket, {}, resource, override=False)
    if there:
        bucket.drop(there, for_good=False)
    new = Object(data, tagged(resource))
    bucket.put(new)
    return new


def change(
    bucket: Bucket, there: Object, resource: dict[str, Any], fields: Mapping[str, Any], *, override: bool
) -> None:
    """Change an object's fields: a new metageneration. override: whether an unlocked retention may become shorter."""
    result = changed(resource, fields)
    if "acl" in fields:
        result["acl"] = access.allow(bucket, fields["acl"])
    retention.changed(bucket, there.resource, result, override=override)
    result.update(metageneration=str(int(there.metageneration) + 1), updated=now())
    there.resource = tagged(result)
    bucket.touch(there.name)


def changed(resource: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resource with the fields that may be written changed: null drops one, and a key of the custom
    metadata.
    """
    result = {**resource, **{key: fields[key] for key in WRITABLE if key in fields}}
    if isinstance(fields.get("metadata"), Mapping):
        merged = {**resource.get("metadata", {}), **fields["metadata"]}
        result["metadata"] = {key: str(value) for key, value in merged.items() if value is not None}
    if isinstance(fields.get("contexts"), Mapping):
        result["contexts"] = _contexts(resource.get("contexts", {}), fields["contexts"])
    if isinstance(fields.get("retention"), Mapping) and not any(fields["retention"].values()):
        del result["retention"]
    size = sum(len(key.encode()) + len(value.encode()) for key, value in (result.get("metadata") or {}).items())
    if size > METADATA_BYTES:
        raise RefusedError(400, f"custom metadata of {size} bytes; at most {METADATA_BYTES} are allowed")
    return {key: value for key, value in result.items() if value not in (None, {})}


def _contexts(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object's contexts with some changed: each knows when it was made and changed; null drops one."""
    if after.get("custom") is None:
        return {}
    custom = dict(before.get("custom", {}))
    for key, payload in after["custom"].items():
        if payload is None or payload.get("value") is None:
            custom.pop(key, None)
            continue
        created = custom.get(key, {}).get("createTime", now())
        custom[key] = {"value": payload["value"], "createTime": created, "updateTime": now()}
    return {"custom": custom} if custom else {}


def tagged(resource: dict[str, Any]) -> dict[str, Any]:
    """Return a resource with the ETag of its generation and metageneration."""
    return {**resource, "etag": etag(resource["generation"], resource["metageneration"])}

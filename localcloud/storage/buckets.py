"""Calls about buckets."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from localcloud.serving import Request, Response, json_response
from localcloud.storage import access, retention
from localcloud.storage.checks import check_etag, check_metageneration
from localcloud.storage.resources import base
from localcloud.storage.state import PROJECT_NUMBER, Bucket, RefusedError, Store, etag, flag, now, number

#: What the service alone writes.
_OWN = (
    "kind id name location locationType projectNumber metageneration generation etag timeCreated updated selfLink "
    "owner objectRetention softDeleteTime hardDeleteTime"
).split()
#: What stays where an update names it not.
_KEPT = (
    "storageClass",
    "acl",
    "defaultObjectAcl",
    "iamConfiguration",
    "retentionPolicy",
    "rpo",
    "hierarchicalNamespace",
)
_CLASSES = ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE", "MULTI_REGIONAL", "REGIONAL", "DURABLE_REDUCED_AVAILABILITY")


def create(store: Store, name: str, location: str = "US", asked: Mapping[str, Any] | None = None) -> Bucket:
    """Make an empty bucket."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", name) or ("." not in name and len(name) > 63):
        raise RefusedError(400, f"Invalid bucket name: '{name}'")
    location = location.upper()
    kind = _location_type(location, asked or {})
    at = now()
    resource = {
        "kind": "storage#bucket",
        "id": name,
        "name": name,
        "location": location,
        "locationType": kind,
        "storageClass": "STANDARD",
        "projectNumber": PROJECT_NUMBER,
        "metageneration": "0",
        "generation": store.next_generation(),
        "timeCreated": at,
        "updated": at,
        "iamConfiguration": {
            "bucketPolicyOnly": {"enabled": False},
            "uniformBucketLevelAccess": {"enabled": False},
            "publicAccessPrevention": "inherited",
        },
        **({} if kind == "region" else {"rpo": "DEFAULT"}),
        "acl": access.predefined("projectPrivate", of_bucket=True),
        "defaultObjectAcl": access.predefined("projectPrivate", of_bucket=False)[:-1],
        "owner": {"entity": f"project-owners-{PROJECT_NUMBER}"},
    }
    bucket = Bucket(resource, touched=store.touched)
    _change(bucket, dict(asked or {}))
    store.buckets[name] = bucket
    return bucket


def list_buckets(store: Store, request: Request, named: dict[str, str]) -> Response:
    """List buckets."""
    store.permit("storage.buckets.list")
    query = request.query
    prefix, after, room = query.get("prefix", ""), query.get("pageToken", ""), number(query, "maxResults", 1000)
    there = store.buckets
    if flag(query, "softDeleted"):
        there = {each.resource["name"]: each for each in store.deleted}
    names = [name for name in sorted(there) if name.startswith(prefix) and name > after]
    items = [_described(request, there[name]) for name in names[:room]]
    more = {"nextPageToken": names[room - 1]} if len(names) > room else {}
    return json_response({"kind": "storage#buckets", "items": items, **more})


def insert_bucket(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Make a bucket."""
    store.permit("storage.buckets.create")
    asked, query = request.json(), request.query
    name = str(asked.get("name", ""))
    if name in store.buckets:
        raise RefusedError(409, "Your previous request to create the named bucket succeeded and you already own it.")
    bucket = create(store, name, asked.get("location", "US"), asked)
    if flag(query, "enableObjectRetention"):
        bucket.resource["objectRetention"] = {"mode": "Enabled"}
    if "predefinedAcl" in query:
        bucket.resource["acl"] = access.allow(bucket, access.predefined(query["predefinedAcl"], of_bucket=True))
    if "predefinedDefaultObjectAcl" in query:
        entries = access.predefined(query["predefinedDefaultObjectAcl"], of_bucket=False)[:-1]
        bucket.resource["defaultObjectAcl"] = access.allow(bucket, entries)
    return _told(request, bucket)


def get_bucket(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Tell of a bucket."""
    deleted = flag(request.query, "softDeleted")
    bucket = _soft_deleted(store, request, named["bucket"]) if deleted else store.bucket(named["bucket"])
    store.permit("storage.buckets.get")
    _check(request, bucket, reading=True)
    return _told(request, bucket)


def patch_bucket(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Change the fields of a bucket that are given (buckets.patch); drop also those that are not (buckets.update)."""
    bucket = store.bucket(named["bucket"])
    store.permit("storage.buckets.update")
    _check(request, bucket)
    asked = dict(request.json())
    if request.call == "buckets.update":
        gone = [key for key in bucket.resource if key not in (*_OWN, *_KEPT) and key not in asked]
        asked |= dict.fromkeys(gone)
    for parameter, field in (("predefinedAcl", "acl"), ("predefinedDefaultObjectAcl", "defaultObjectAcl")):
        if parameter in request.query:
            found = access.predefined(request.query[parameter], of_bucket=field == "acl")
            asked[field] = found if field == "acl" else found[:-1]
    _change(bucket, asked, whole=request.call == "buckets.update")
    return _told(request, bucket)


def delete_bucket(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Delete a bucket that is empty."""
    bucket = store.bucket(named["bucket"])
    store.permit("storage.buckets.delete")
    _check(request, bucket)
    if bucket.objects or bucket.replaced:
        raise RefusedError(409, "The bucket you tried to delete is not empty.")
    del store.buckets[named["bucket"]]
    if seconds := int(bucket.resource.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0)):
        bucket.resource |= {"softDeleteTime": now(), "hardDeleteTime": now(seconds)}
        store.deleted.append(bucket)
    else:
        for name in bucket.deleted:
            bucket.touch(name)
    return Response(204)


def restore(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Make a bucket that soft delete keeps a bucket again."""
    store.permit("storage.buckets.restore")
    bucket = _soft_deleted(store, request, named["bucket"])
    if named["bucket"] in store.buckets:
        raise RefusedError(409, f"There is a bucket {named['bucket']}.")
    store.deleted.remove(bucket)
    del bucket.resource["softDeleteTime"], bucket.resource["hardDeleteTime"]
    store.buckets[named["bucket"]] = bucket
    return _told(request, bucket)


def lock(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Lock a bucket's retention policy: from now on it may only become longer."""
    bucket = store.bucket(named["bucket"])
    store.permit("storage.buckets.update")
    if "ifMetagenerationMatch" not in request.query:
        raise RefusedError(400, "Required parameter: ifMetagenerationMatch", "required")
    _check(request, bucket)
    if "retentionPolicy" not in bucket.resource:
        raise RefusedError(400, "The bucket has no retention policy that could be locked.")
    bucket.resource["retentionPolicy"]["isLocked"] = True
    _advance(bucket)
    return _told(request, bucket)


def layout(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Tell where a bucket is and whether it has folders."""
    resource = store.bucket(named["bucket"]).resource
    kept = ("location", "locationType", "hierarchicalNamespace", "customPlacementConfig")
    found = {key: resource[key] for key in kept if key in resource}
    return json_response({"kind": "storage#storageLayout", "bucket": named["bucket"], **found})


def _change(bucket: Bucket, asked: Mapping[str, Any], *, whole: bool = False) -> None:
    """Change fields of a bucket; null drops one. whole: a field that is an object is replaced, not merged."""
    before = bucket.resource
    asked = {key: value for key, value in asked.items() if key not in _OWN}
    after = {key: value for key, value in before.items() if asked.get(key, "") is not None}
    for key, value in asked.items():
        if isinstance(value, Mapping) and not (whole and key == "labels"):
            merged = {**before.get(key, {}), **value}
            after[key] = {name: each for name, each in merged.items() if each is not None}
        elif value is not None:
            after[key] = value
    if after["storageClass"] not in _CLASSES:
        raise RefusedError(400, f"Invalid storage class {after['storageClass']!r}.")
    if "retentionPolicy" in asked:
        policy = retention.policy(before.get("retentionPolicy"), asked["retentionPolicy"])
        after |= {"retentionPolicy": policy} if policy else {}
    if "iamConfiguration" in asked:
        after["iamConfiguration"] = _access(before["iamConfiguration"], asked["iamConfiguration"] or {})
    if after.get("hierarchicalNamespace", {}).get("enabled") and not access.uniform(Bucket(after)):
        raise RefusedError(400, "Hierarchical namespace needs uniform bucket-level access.")
    for field in ("acl", "defaultObjectAcl"):
        if field in asked:
            after[field] = access.allow(Bucket(after), asked[field] or [])
    _timed(before, after)
    bucket.resource = {key: value for key, value in after.items() if value not in ({}, None)}
    _advance(bucket)


def _access(before: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what says how access is controlled, after a change of it."""
    public = asked.get("publicAccessPrevention", before["publicAccessPrevention"])
    public = {"unspecified": "inherited"}.get(public, public)
    if public not in ("inherited", "enforced"):
        raise RefusedError(400, f"Invalid value for public access prevention: {public!r}.")
    wanted = asked.get("uniformBucketLevelAccess") or asked.get("bucketPolicyOnly") or {}
    uniform = before["uniformBucketLevelAccess"]
    if "enabled" in wanted and bool(wanted["enabled"]) != uniform["enabled"]:
        uniform = {"enabled": bool(wanted["enabled"])}
        if uniform["enabled"]:
            uniform["lockedTime"] = now(timedelta(days=90).total_seconds())
    return {"bucketPolicyOnly": uniform, "uniformBucketLevelAccess": uniform, "publicAccessPrevention": public}


def _timed(before: Mapping[str, Any], after: dict[str, Any]) -> None:
    """Note since when settings are as they are."""
    if "softDeletePolicy" in after and after["softDeletePolicy"] != before.get("softDeletePolicy"):
        seconds = str(after["softDeletePolicy"].get("retentionDurationSeconds", 0))
        after["softDeletePolicy"] = {"retentionDurationSeconds": seconds, "effectiveTime": now()}
    if "autoclass" in after and after["autoclass"] != before.get("autoclass"):
        old, new = before.get("autoclass", {}), dict(after["autoclass"])
        if new.get("enabled") != old.get("enabled"):
            new["toggleTime"] = now()
        if new.get("enabled"):
            new.setdefault("terminalStorageClass", "NEARLINE")
        if new.get("terminalStorageClass") != old.get("terminalStorageClass"):
            new["terminalStorageClassUpdateTime"] = now()
        after["autoclass"] = new
    old_keys, encryption = before.get("encryption", {}), after.get("encryption", {})
    for field, config in encryption.items():
        restricted = field.endswith("EnforcementConfig") and config and config.get("restrictionMode") != "NotRestricted"
        if restricted and config != old_keys.get(field):
            encryption[field] = {**config, "effectiveTime": now()}


def _soft_deleted(store: Store, request: Request, name: str) -> Bucket:
    generation = request.query.get("generation")
    if not generation:
        raise RefusedError(400, "You must specify a generation of a bucket that is deleted.", "required")
    for each in store.deleted:
        if (each.resource["name"], each.resource["generation"]) == (name, generation):
            return each
    raise RefusedError(404, "The specified bucket does not exist.")


def _advance(bucket: Bucket) -> None:
    metageneration = str(int(bucket.resource["metageneration"]) + 1)
    bucket.resource.update(metageneration=metageneration, etag=etag(metageneration), updated=now())


def _check(request: Request, bucket: Bucket, *, reading: bool = False) -> None:
    check_metageneration(request.query, bucket.resource["metageneration"], reading=reading)
    check_etag(request, bucket.resource["etag"], reading=reading)


def _told(request: Request, bucket: Bucket) -> Response:
    return json_response(_described(request, bucket), headers={"ETag": bucket.resource["etag"]})


def _described(request: Request, bucket: Bucket) -> dict[str, Any]:
    resource = {**bucket.resource, "selfLink": f"{base(request)}/storage/v1/b/{bucket.resource['name']}"}
    if request.query.get("projection") == "full" and not access.uniform(bucket):
        return resource | access.entries(resource)
    return {key: value for key, value in resource.items() if key not in ("acl", "defaultObjectAcl", "owner")}


def _location_type(location: str, asked: Mapping[str, Any]) -> str:
    if "customPlacementConfig" in asked:
        return "dual-region"
    if location in ("ASIA", "EU", "US"):
        return "multi-region"
    return "dual-region" if location in ("ASIA1", "EUR4", "EUR5", "EUR7", "EUR8", "NAM4") else "region"

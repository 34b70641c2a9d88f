"""Who may do what: access control lists of buckets and objects, and the policies of IAM."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from localcloud.serving import Request, Response, json_response
from localcloud.storage.state import CALLER, PROJECT_NUMBER, Bucket, RefusedError, Store, etag, now

_OWNERS, _EDITORS, _VIEWERS = (f"project-{each}-{PROJECT_NUMBER}" for each in ("owners", "editors", "viewers"))
_PROJECT = {_OWNERS: "OWNER", _EDITORS: "OWNER", _VIEWERS: "READER"}
#: Predefined lists, but for what the owner of an object may do.
_PREDEFINED = {
    "authenticatedRead": {"allAuthenticatedUsers": "READER"},
    "bucketOwnerFullControl": {_OWNERS: "OWNER"},
    "bucketOwnerRead": {_OWNERS: "READER"},
    "private": {},
    "projectPrivate": _PROJECT,
    "publicRead": {"allUsers": "READER"},
    "publicReadWrite": {"allUsers": "WRITER"},
}
_PUBLIC = ("allUsers", "allAuthenticatedUsers")


def predefined(name: str, *, of_bucket: bool) -> list[dict[str, Any]]:
    """Return the entries of a predefined list."""
    allowed = set(_PREDEFINED) - ({"bucketOwnerFullControl", "bucketOwnerRead"} if of_bucket else {"publicReadWrite"})
    if name not in allowed:
        raise RefusedError(400, f"Invalid predefined ACL {name!r}; it is one of {', '.join(sorted(allowed))}.")
    entries = dict(_PREDEFINED[name])
    if of_bucket:
        entries.setdefault(_OWNERS, "OWNER")
    else:
        entries[f"user-{CALLER}"] = "OWNER"
    return [{"entity": entity, "role": role} for entity, role in entries.items()]


def uniform(bucket: Bucket) -> bool:
    """Return whether a bucket has no lists, because IAM alone says who may do what."""
    return bool(bucket.resource["iamConfiguration"]["uniformBucketLevelAccess"].get("enabled"))


def allow(bucket: Bucket, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries that a list is to have, if the bucket may have such."""
    if uniform(bucket):
        raise RefusedError(
            400,
            "Cannot use ACL API to update policy when uniform bucket-level access is enabled. "
            "Read more at https://cloud.google.com/storage/docs/uniform-bucket-level-access",
        )
    for each in entries:
        if each.get("role") not in ("OWNER", "READER", "WRITER") or not each.get("entity"):
            raise RefusedError(400, f"An access control needs an entity and a role: {dict(each)}")
        if each["entity"] in _PUBLIC and _prevented(bucket):
            raise RefusedError(
                412,
                "The member bindings allUsers and allAuthenticatedUsers are not allowed since public access "
                "prevention is enforced.",
            )
    return [{"entity": each["entity"], "role": each["role"]} for each in entries]


def _prevented(bucket: Bucket) -> bool:
    return bool(bucket.resource["iamConfiguration"].get("publicAccessPrevention") == "enforced")


def of_new_object(bucket: Bucket, fields: Mapping[str, Any], query: Mapping[str, Any]) -> dict[str, Any]:
    """Return the list and the owner that an object begins with; nothing where the bucket has no lists."""
    asked = query.get("predefinedAcl") or query.get("destinationPredefinedAcl")
    if uniform(bucket):
        if asked or fields.get("acl"):
            allow(bucket, [])
        return {}
    owner = {"entity": f"user-{CALLER}", "role": "OWNER"}
    if asked:
        entries = allow(bucket, predefined(asked, of_bucket=False))
    elif fields.get("acl"):
        entries = allow(bucket, fields["acl"])
    else:
        entries = [*bucket.resource["defaultObjectAcl"], owner]
    return {"acl": entries, "owner": {"entity": owner["entity"]}}


def entry(entry: Mapping[str, Any], kind: str, place: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry as the API tells it. place: the bucket and object, which it belongs to."""
    project = entry["entity"].split("-")
    team = {"projectTeam": {"team": project[1], "projectNumber": project[2]}} if project[0] == "project" else {}
    email = {"email": entry["entity"].partition("-")[2]} if project[0] in ("user", "group") else {}
    return {"kind": f"storage#{kind}AccessControl", **entry, **place, **team, **email, "etag": etag(1)}


def entries(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Return the lists in the resource of a bucket or object, as the API tells them."""
    found: dict[str, Any] = {}
    if "acl" in resource:
        own = "object" if "bucket" in resource else "bucket"
        place = {"bucket": resource.get("bucket", resource["name"])}
        if own == "object":
            place |= {"object": resource["name"], "generation": resource["generation"]}
        found["acl"] = [entry(each, own, place) for each in resource["acl"]]
    if "defaultObjectAcl" in resource:
        found["defaultObjectAcl"] = [entry(each, "object", {}) for each in resource["defaultObjectAcl"]]
    return found


def control(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Answer a call about a list: of a bucket, of its new objects, or of an object."""
    bucket = store.bucket(named["bucket"])
    kind, _, verb = request.call.partition("AccessControls.")
    where = "objects" if kind == "object" else "buckets"
    store.permit(f"storage.{where}.{'getIamPolicy' if verb in ('get', 'list') else 'setIamPolicy'}")
    resource = bucket.resource
    field, place = "acl", {"bucket": named["bucket"]}
    if kind == "object":
        there = store.object(named["bucket"], named["object"], request.query.get("generation"))
        resource = there.resource
        place |= {"object": there.name, "generation": there.generation}
        bucket.touch(there.name)
    elif kind == "defaultObject":
        field, place = "defaultObjectAcl", {}
    if uniform(bucket):
        raise RefusedError(
            400,
            f"Cannot get legacy ACL for {kind} when uniform bucket-level access is enabled. "
            "Read more at https://cloud.google.com/storage/docs/uniform-bucket-level-access",
        )
    told = "bucket" if kind == "bucket" else "object"
    # What was written while the bucket had no lists has the bucket's for new objects.
    present = {each["entity"]: each for each in resource.get(field, bucket.resource["defaultObjectAcl"])}
    if verb == "list":
        items = [entry(each, told, place) for each in present.values()]
        return json_response({"kind": f"storage#{told}AccessControls", "items": items})
    asked = request.json() if request.method != "DELETE" else {}
    entity = named.get("entity") or str(asked.get("entity", ""))
    if verb != "insert" and entity not in present:
        raise RefusedError(404, f"The specified ACL entry {entity!r} does not exist.")
    if verb == "get":
        return json_response(entry(present[entity], told, place))
    if verb == "delete":
        del present[entity]
    else:
        (present[entity],) = allow(bucket, [{**present.get(entity, {}), **asked, "entity": entity}])
    resource[field] = list(present.values())
    resource["metageneration"] = number = str(int(resource["metageneration"]) + 1)
    resource["etag"] = etag(resource["generation"], number) if kind == "object" else etag(number)
    resource["updated"] = now()
    return Response(204) if verb == "delete" else json_response(entry(present[entity], told, place))


def get_policy(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Tell of the policy of a bucket or an object."""
    bucket = _of_policy(store, request, named, "getIamPolicy")
    return json_response(_policy(request, bucket, named))


def set_policy(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Change the policy of a bucket."""
    bucket = _of_policy(store, request, named, "setIamPolicy")
    asked, before = request.json(), _policy(request, bucket, named)
    if asked.get("etag") not in (None, "", before["etag"]):
        raise RefusedError(412, "The policy has been changed since it was read.")
    conditional = [each for each in asked.get("bindings", []) if "condition" in each]
    if conditional and not uniform(bucket):
        raise RefusedError(412, "To use IAM Conditions, you must enable uniform bucket-level access on the bucket.")
    if conditional and int(asked.get("version", 1)) < 3:
        raise RefusedError(400, "Policies with conditions need a policy version of at least 3.")
    members = {member for each in asked.get("bindings", []) for member in each.get("members", [])}
    if members & set(_PUBLIC) and _prevented(bucket):
        allow(bucket, [{"entity": "allUsers", "role": "READER"}])
    number = int(bucket.policy.get("_number", 1)) + 1
    bucket.policy = {"bindings": asked.get("bindings", []), "version": asked.get("version", 1), "_number": number}
    return json_response(_policy(request, bucket, named))


def test_permissions(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Tell which of the permissions that are asked for the caller has."""
    store.bucket(named["bucket"])
    asked = parse_qs(urlsplit(request.target).query).get("permissions", [])
    granted = [each for each in asked if each not in store.denied]
    answer = {"kind": "storage#testIamPermissionsResponse"}
    return json_response({**answer, "permissions": granted} if granted else answer)


def _of_policy(store: Store, request: Request, named: dict[str, str], verb: str) -> Bucket:
    bucket = store.bucket(named["bucket"])
    store.permit(f"storage.buckets.{verb}")
    return bucket


def _policy(request: Request, bucket: Bucket, named: dict[str, str]) -> dict[str, Any]:
    project = "millrace-test"
    default = [
        {
            "role": "roles/storage.legacyBucketOwner",
            "members": [f"projectEditor:{project}", f"projectOwner:{project}"],
        },
        {"role": "roles/storage.legacyBucketReader", "members": [f"projectViewer:{project}"]},
    ]
    return {
        "kind": "storage#policy",
        "resourceId": f"projects/_/buckets/{named['bucket']}",
        "version": bucket.policy.get("version", 1),
        "etag": etag(bucket.policy.get("_number", 1)),
        "bindings": bucket.policy.get("bindings", default),
    }

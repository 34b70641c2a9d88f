"""Calls about buckets."""

from urllib.parse import parse_qs, urlsplit

from localcloud.serving import Request, Response, json_response
from localcloud.storage.state import RefusedError, Store, now


def list_buckets(store: Store, request: Request, named: dict[str, str]) -> Response:
    """List buckets."""
    store.permit("storage.buckets.list")
    found = [each.resource for name, each in sorted(store.buckets.items())]
    prefix = request.query.get("prefix", "")
    return json_response(
        {"kind": "storage#buckets", "items": [each for each in found if each["name"].startswith(prefix)]}
    )


def insert_bucket(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Make a bucket."""
    store.permit("storage.buckets.create")
    asked = request.json()
    if asked["name"] in store.buckets:
        raise RefusedError(409, f"You already own the bucket {asked['name']}.")
    store.create_bucket(asked["name"], asked.get("location", "US"))
    bucket = store.buckets[asked["name"]]
    bucket.resource.update({key: value for key, value in asked.items() if key != "location"})
    if "customPlacementConfig" in asked:
        bucket.resource["locationType"] = "dual-region"
    return json_response(bucket.resource)


def get_bucket(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Tell of a bucket."""
    bucket = store.bucket(named["bucket"])
    store.permit("storage.buckets.get")
    return json_response(bucket.resource)


def patch_bucket(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Change the fields of a bucket that are given."""
    bucket = store.bucket(named["bucket"])
    store.permit("storage.buckets.update")
    metageneration = str(int(bucket.resource["metageneration"]) + 1)
    bucket.resource.update(request.json(), metageneration=metageneration, updated=now())
    return json_response(bucket.resource)


def delete_bucket(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Delete a bucket that is empty."""
    bucket = store.bucket(named["bucket"])
    store.permit("storage.buckets.delete")
    if bucket.objects:
        raise RefusedError(409, "The bucket you tried to delete is not empty.")
    del store.buckets[named["bucket"]]
    return Response(204)


def test_permissions(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Tell which of the permissions that are asked for the caller has."""
    store.bucket(named["bucket"])
    asked = parse_qs(urlsplit(request.target).query).get("permissions", [])
    granted = [each for each in asked if each not in store.denied]
    answer = {"kind": "storage#testIamPermissionsResponse"}
    return json_response({**answer, "permissions": granted} if granted else answer)

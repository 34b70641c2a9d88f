"""What buckets and projects have besides objects: managed folders, notifications, HMAC keys, a service agent."""

import secrets
from typing import Any

from localcloud.serving import Request, Response, json_response
from localcloud.storage.resources import base
from localcloud.storage.state import PROJECT_NUMBER, RefusedError, Store, etag, flag, now

_STATES = ("ACTIVE", "INACTIVE")


def folder(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Answer a call about managed folders."""
    bucket, verb = store.bucket(named["bucket"]), request.call.partition(".")[2]
    store.permit(f"storage.managedFolders.{'create' if verb == 'insert' else verb}")
    if verb == "list":
        prefix = request.query.get("prefix", "")
        items = [each for name, each in sorted(bucket.folders.items()) if name.startswith(prefix)]
        return json_response({"kind": "storage#managedFolders", "items": items})
    name = named.get("managedFolder") or str(request.json().get("name", ""))
    name = name if name.endswith("/") else name + "/"
    if verb == "insert":
        if name in bucket.folders:
            raise RefusedError(409, f"The managed folder {name} exists already.")
        at = now()
        bucket.folders[name] = {
            "kind": "storage#managedFolder",
            "id": f"{named['bucket']}/{name}",
            "bucket": named["bucket"],
            "name": name,
            "metageneration": "1",
            "createTime": at,
            "updateTime": at,
        }
    if name not in bucket.folders:
        raise RefusedError(404, "The specified managed folder does not exist.")
    if verb == "delete":
        del bucket.folders[name]
        return Response(204)
    return json_response(bucket.folders[name])


def notification(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Answer a call about what a bucket would tell Pub/Sub. It is kept; nothing is published."""
    bucket, verb = store.bucket(named["bucket"]), request.call.partition(".")[2]
    store.permit("storage.buckets.get" if verb in ("get", "list") else "storage.buckets.update")
    if verb == "list":
        return json_response({"kind": "storage#notifications", "items": list(bucket.notifications.values())})
    if verb == "insert":
        asked = request.json()
        for field in ("topic", "payload_format"):
            if field not in asked:
                raise RefusedError(400, f"Required field: {field}", "required")
        number = str(max(map(int, bucket.notifications), default=0) + 1)
        link = f"{base(request)}/storage/v1/b/{named['bucket']}/notificationConfigs/{number}"
        about = {"kind": "storage#notification", "id": number, "etag": number, "selfLink": link}
        bucket.notifications[number] = {**asked, **about}
        return json_response(bucket.notifications[number])
    number = named["notification"]
    if number not in bucket.notifications:
        raise RefusedError(404, "The specified notification does not exist.")
    if verb == "delete":
        del bucket.notifications[number]
        return Response(204)
    return json_response(bucket.notifications[number])


def service_account(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Tell of the service agent of a project."""
    email = f"service-{PROJECT_NUMBER}@gs-project-accounts.iam.gserviceaccount.com"
    return json_response({"kind": "storage#serviceAccount", "email_address": email})


def hmac_key(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Answer a call about HMAC keys."""
    verb, query = request.call.rpartition(".")[2], request.query
    store.permit(f"storage.hmacKeys.{verb}")
    if verb == "list":
        found = [
            each
            for each in store.hmac_keys.values()
            if query.get("serviceAccountEmail", each["serviceAccountEmail"]) == each["serviceAccountEmail"]
            and (each["state"] != "DELETED" or flag(query, "showDeletedKeys"))
        ]
        return json_response({"kind": "storage#hmacKeysMetadata", "items": found})
    if verb == "create":
        if "serviceAccountEmail" not in query:
            raise RefusedError(400, "Required parameter: serviceAccountEmail", "required")
        return json_response(_new_key(store, request, named["projectId"], query["serviceAccountEmail"]))
    if named["accessId"] not in store.hmac_keys:
        raise RefusedError(404, "Access ID not found in project.")
    key = store.hmac_keys[named["accessId"]]
    if verb == "delete":
        if key["state"] != "INACTIVE":
            raise RefusedError(400, "Cannot delete an HMAC key that is not INACTIVE.")
        key.update(state="DELETED", updated=now())
        return Response(204)
    if verb == "update":
        asked = request.json()
        if asked.get("state") not in _STATES or key["state"] == "DELETED":
            raise RefusedError(400, f"An HMAC key is made {' or '.join(_STATES)}, not {asked.get('state')!r}.")
        if asked.get("etag") not in (None, key["etag"]):
            raise RefusedError(412, "The HMAC key has been changed since it was read.")
        number = len(key["etag"]) + 1
        key.update(state=asked["state"], updated=now(), etag=etag(number))
    return json_response(key)


def _new_key(store: Store, request: Request, project: str, email: str) -> dict[str, Any]:
    access_id = "GOOG1E" + secrets.token_hex(28).upper()[:55]
    at = now()
    store.hmac_keys[access_id] = {
        "kind": "storage#hmacKeyMetadata",
        "id": f"{project}/{access_id}",
        "selfLink": f"{base(request)}/storage/v1/projects/{project}/hmacKeys/{access_id}",
        "accessId": access_id,
        "projectId": project,
        "serviceAccountEmail": email,
        "state": "ACTIVE",
        "timeCreated": at,
        "updated": at,
        "etag": etag(1),
    }
    secret = secrets.token_urlsafe(30)
    return {"kind": "storage#hmacKey", "metadata": store.hmac_keys[access_id], "secret": secret}

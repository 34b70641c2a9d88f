"""The service: which call a request is, and batches of calls."""

import http
import json
import re
import threading
from collections.abc import Callable
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from localcloud.faults import FaultPlan
from localcloud.serving import Request, Response, Service
from localcloud.storage import access, buckets, extras, listing, objects, uploads, xml
from localcloud.storage.mime import headers_and_body, mime
from localcloud.storage.state import RefusedError, Store

#: What the documentation promises as the largest batch.
BATCH = 100

_Call = Callable[[Store, Request, dict[str, str]], Response]
_COPY = "b/{sourceBucket}/o/{sourceObject}/%s/b/{destinationBucket}/o/{destinationObject}"
#: Every method by its name in the API's discovery document, its verb and path there, and what answers it.
METHODS: tuple[tuple[str, str, str, _Call], ...] = (
    ("buckets.delete", "DELETE", "b/{bucket}", buckets.delete_bucket),
    ("buckets.get", "GET", "b/{bucket}", buckets.get_bucket),
    ("buckets.getIamPolicy", "GET", "b/{bucket}/iam", access.get_policy),
    ("buckets.getStorageLayout", "GET", "b/{bucket}/storageLayout", buckets.layout),
    ("buckets.insert", "POST", "b", buckets.insert_bucket),
    ("buckets.list", "GET", "b", buckets.list_buckets),
    ("buckets.lockRetentionPolicy", "POST", "b/{bucket}/lockRetentionPolicy", buckets.lock),
    ("buckets.patch", "PATCH", "b/{bucket}", buckets.patch_bucket),
    ("buckets.restore", "POST", "b/{bucket}/restore", buckets.restore),
    ("buckets.setIamPolicy", "PUT", "b/{bucket}/iam", access.set_policy),
    ("buckets.testIamPermissions", "GET", "b/{bucket}/iam/testPermissions", access.test_permissions),
    ("buckets.update", "PUT", "b/{bucket}", buckets.patch_bucket),
    *(
        (
            f"{kind}AccessControls.{verb}",
            method,
            path + ("" if verb in ("insert", "list") else "/{entity}"),
            access.control,
        )
        for kind, path in (
            ("bucket", "b/{bucket}/acl"),
            ("defaultObject", "b/{bucket}/defaultObjectAcl"),
            ("object", "b/{bucket}/o/{object}/acl"),
        )
        for verb, method in (
            ("delete", "DELETE"),
            ("get", "GET"),
            ("insert", "POST"),
            ("list", "GET"),
            ("patch", "PATCH"),
            ("update", "PUT"),
        )
    ),
    ("managedFolders.delete", "DELETE", "b/{bucket}/managedFolders/{managedFolder}", extras.folder),
    ("managedFolders.get", "GET", "b/{bucket}/managedFolders/{managedFolder}", extras.folder),
    ("managedFolders.insert", "POST", "b/{bucket}/managedFolders", extras.folder),
    ("managedFolders.list", "GET", "b/{bucket}/managedFolders", extras.folder),
    ("notifications.delete", "DELETE", "b/{bucket}/notificationConfigs/{notification}", extras.notification),
    ("notifications.get", "GET", "b/{bucket}/notificationConfigs/{notification}", extras.notification),
    ("notifications.insert", "POST", "b/{bucket}/notificationConfigs", extras.notification),
    ("notifications.list", "GET", "b/{bucket}/notificationConfigs", extras.notification),
    ("objects.compose", "POST", "b/{destinationBucket}/o/{destinationObject}/compose", objects.compose),
    ("objects.copy", "POST", _COPY % "copyTo", objects.copy),
    ("objects.delete", "DELETE", "b/{bucket}/o/{object}", objects.delete),
    ("objects.get", "GET", "b/{bucket}/o/{object}", objects.get),
    ("objects.insert", "POST", "b/{bucket}/o", uploads.insert),
    ("objects.list", "GET", "b/{bucket}/o", listing.list_objects),
    ("objects.move", "POST", "b/{bucket}/o/{sourceObject}/moveTo/o/{destinationObject}", objects.move),
    ("objects.patch", "PATCH", "b/{bucket}/o/{object}", objects.patch),
    ("objects.restore", "POST", "b/{bucket}/o/{object}/restore", objects.restore),
    ("objects.rewrite", "POST", _COPY % "rewriteTo", objects.copy),
    ("objects.update", "PUT", "b/{bucket}/o/{object}", objects.patch),
    ("hmacKeys.create", "POST", "projects/{projectId}/hmacKeys", extras.hmac_key),
    ("hmacKeys.delete", "DELETE", "projects/{projectId}/hmacKeys/{accessId}", extras.hmac_key),
    ("hmacKeys.get", "GET", "projects/{projectId}/hmacKeys/{accessId}", extras.hmac_key),
    ("hmacKeys.list", "GET", "projects/{projectId}/hmacKeys", extras.hmac_key),
    ("hmacKeys.update", "PUT", "projects/{projectId}/hmacKeys/{accessId}", extras.hmac_key),
    ("serviceAccount.get", "GET", "projects/{projectId}/serviceAccount", extras.service_account),
)
#: What methods answer only in part.
PARTLY = {
    "notifications.insert": "A notification is kept, but nothing is published.",
    "buckets.setIamPolicy": "Policies are kept, checked and told; what a caller may not do is `Storage.denied`.",
    "objects.list": 'filter is one context: contexts."KEY"="VALUE" or contexts."KEY":*, with or without -.',
    "objects.rewrite": "Every rewrite is done in one call, whatever maxBytesRewrittenPerCall.",
    "buckets.insert": "Without softDeletePolicy nothing is kept; Cloud Storage keeps deleted objects for 7 days. "
    "Lifecycle rules are kept, and not acted on.",
}
#: What is refused by name: the call or what its name begins with, what it is about, and the paths.
REFUSED = (
    ("anywhereCaches.", "caches (Anywhere Cache)", "b/{bucket}/anywhereCaches.*"),
    ("rapidCaches.", "caches (Rapid Cache)", "b/{bucket}/rapidCaches.*"),
    ("folders.", "folders of a hierarchical namespace, which it takes for names", "b/{bucket}/folders.*"),
    ("buckets.operations.", "long-running operations", "b/{bucket}/operations.*"),
    ("buckets.relocate", "relocation of buckets", "b/{bucket}/relocate"),
    (
        "managedFolders.iam",
        "policies and updates of managed folders",
        "b/{bucket}/managedFolders/{managedFolder}(?:/iam.*)?",
    ),
    ("objects.bulkRestore", "restoring many objects at once", "b/{bucket}/o/bulkRestore"),
    ("objects.viewFullContext", "full contexts", "b/{bucket}/o/{object}/viewFullContext"),
    ("objects.iam", "policies of objects", "b/{bucket}/o/{object}/iam.*"),
)


def _pattern(path: str, prefix: str = "/storage/v1/") -> re.Pattern[str]:
    return re.compile(prefix + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))


_OBJECTS = "b/{bucket}/o"
_ROUTES: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("GET", _pattern(_OBJECTS + "/{object}", "(?:/download)?/storage/v1/"), "objects.get"),
    *(
        ("POST" if call == "objects.insert" else verb, _pattern(path), call)
        for call, verb, path, _ in METHODS
        if call != "objects.insert"
    ),
    ("POST", _pattern(_OBJECTS, "/(?:resumable/)?upload/storage/v1/"), "objects.insert"),
    ("PUT", _pattern(_OBJECTS, "/(?:resumable/)?upload/storage/v1/"), "objects.insert.piece"),
    ("DELETE", _pattern(_OBJECTS, "/(?:resumable/)?upload/storage/v1/"), "objects.insert.cancel"),
    ("POST", re.compile("/batch/storage/v1"), "batch"),
)
_REFUSED_ROUTES = tuple((call, _pattern(path)) for call, _, path in REFUSED)
_CALLS: dict[str, _Call] = {
    **{call: answer for call, _, _, answer in METHODS},
    "objects.insert.piece": uploads.piece,
    "objects.insert.cancel": uploads.piece,
}
#: How paths of the JSON API begin; another path names a bucket of the XML API.
_JSON = ("storage", "download", "upload", "resumable", "batch", "discovery", "$discovery", "")


class Storage(Service):
    """Cloud Storage. Every call is checked and done under one lock, so that of racing writers one is the first."""

    name = "storage"
    api = "storage", "v1"
    partly = PARTLY
    refused = MappingProxyType({call: what for call, what, _ in REFUSED})
    api = "storage", "v1"

    def __init__(self, faults: FaultPlan | None = None) -> None:
        super().__init__(faults)
        #: What is stored.
        self.store = Store()
        #: Permissions that the caller does not have; tests add to them.
        self.denied = self.store.denied
        self.lock = threading.Lock()

    def create_bucket(self, name: str, location: str = "US") -> None:
        """Make an empty bucket."""
        buckets.create(self.store, name, location)

    def call_of(self, request: Request) -> str:
        return xml.call_of(request) if _is_xml(request) else _routed(request)[0]

    def has_effect(self, request: Request) -> bool:
        """Return whether a request may change things; the question how far an upload has come changes nothing."""
        return super().has_effect(request) and request.headers.get("Content-Range") != "bytes */*"

    def handle(self, request: Request) -> Response:
        of_xml = _is_xml(request)
        try:
            if request.call == "batch":
                return self._batch(request)
            if request.call == "unknown" or request.call in self.refused:
                what = self.refused.get(request.call, f"{request.method} {request.path}")
                raise RefusedError(501, f"local storage has no {what}")
            with self.lock:
                if of_xml:
                    return xml.answer(self.store, request)
                call, named = _routed(request)
                for key in ("bucket", "destinationBucket", "sourceBucket"):
                    self.store.bill(named.get(key, ""), request.query)
                return _CALLS[call](self.store, request, named)
        except json.JSONDecodeError as problem:
            return RefusedError(400, f"Parse Error: {problem}", "parseError").answer
        except RefusedError as refused:
            return xml.error(refused) if of_xml and refused.status >= 400 else refused.answer

    def _batch(self, request: Request) -> Response:
        """Answer many calls in one request, each with an answer of its own; none is an upload or a download."""
        parts = mime(request).get_payload()
        if len(parts) > BATCH:
            raise RefusedError(400, f"{len(parts)} calls in a batch; at most {BATCH} are allowed")
        answers = []
        for part in parts:
            line, _, rest = part.get_payload().lstrip().partition("\n")
            method, target, _version = line.split()
            headers, body = headers_and_body(rest)
            inner = Request.of(method, target, headers, body)
            if "Host" not in inner.headers:
                inner.headers["Host"] = request.headers["Host"]
            inner.call = self.call_of(inner)
            answer = self.respond(inner)
            lines = [f"HTTP/1.1 {answer.status} {http.HTTPStatus(answer.status).phrase}"]
            lines += [f"{name}: {value}" for name, value in answer.headers.items()]
            content_id = part.get("Content-ID", "").strip("<>")
            answers.append(
                f"Content-Type: application/http\r\nContent-ID: <response-{content_id}>\r\n\r\n"
                + "\r\n".join(lines)
                + f"\r\n\r\n{answer.body.decode()}\r\n"
            )
        text = "".join(f"--batch_answer\r\n{each}" for each in answers) + "--batch_answer--\r\n"
        return Response(200, text.encode(), {"Content-Type": "multipart/mixed; boundary=batch_answer"})


def _is_xml(request: Request) -> bool:
    return urlsplit(request.target).path.split("/")[1] not in _JSON


def _routed(request: Request) -> tuple[str, dict[str, str]]:
    """Return the call that a request is, and what its path names."""
    path = urlsplit(request.target).path
    for method, pattern, call in _ROUTES:
        if request.method == method and (found := pattern.fullmatch(path)):
            return call, {key: unquote(value) for key, value in found.groupdict().items()}
    return next((call for call, pattern in _REFUSED_ROUTES if pattern.fullmatch(path)), "unknown"), {}

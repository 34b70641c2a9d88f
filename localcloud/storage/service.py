"""The service: which call a request is, and batches of calls."""

import http
import re
import threading
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from localcloud.faults import FaultPlan
from localcloud.serving import Request, Response, Service
from localcloud.storage import buckets, listing, objects, uploads
from localcloud.storage.mime import headers_and_body, mime
from localcloud.storage.state import RefusedError, Store

#: What the documentation promises as the largest batch.
BATCH = 100

_BUCKET = r"/storage/v1/b/(?P<bucket>[^/]+)"
_OBJECT = r"(?:/storage|/download/storage)/v1/b/(?P<bucket>[^/]+)/o/(?P<name>[^/]+)"
_TARGET = r"/b/(?P<to_bucket>[^/]+)/o/(?P<to_name>[^/]+)"
_UPLOAD = r"/upload/storage/v1/b/(?P<bucket>[^/]+)/o"
#: Methods and path → the call, by its name in the API's reference.
_ROUTES = tuple(
    (methods.split(), re.compile(path), call)
    for methods, path, call in (
        ("GET", _OBJECT, "objects.get"),
        ("POST", _UPLOAD, "objects.insert"),
        ("PUT", _UPLOAD, "objects.insert.piece"),
        ("GET", _BUCKET + "/o", "objects.list"),
        ("PATCH", _OBJECT, "objects.patch"),
        ("PUT", _OBJECT, "objects.update"),
        ("DELETE", _OBJECT, "objects.delete"),
        ("POST", _OBJECT + "/copyTo" + _TARGET, "objects.copy"),
        ("POST", _OBJECT + "/rewriteTo" + _TARGET, "objects.rewrite"),
        ("POST", _OBJECT + "/compose", "objects.compose"),
        ("POST", "/batch/storage/v1", "batch"),
        ("GET", "/storage/v1/b", "buckets.list"),
        ("POST", "/storage/v1/b", "buckets.insert"),
        ("GET", _BUCKET, "buckets.get"),
        ("PATCH", _BUCKET, "buckets.patch"),
        ("DELETE", _BUCKET, "buckets.delete"),
        ("GET", _BUCKET + "/iam/testPermissions", "buckets.testIamPermissions"),
    )
)
#: The call → what answers it.
_CALLS: dict[str, Callable[[Store, Request, dict[str, str]], Response]] = {
    "objects.get": objects.get,
    "objects.insert": uploads.insert,
    "objects.insert.piece": uploads.piece,
    "objects.list": listing.list_objects,
    "objects.patch": objects.patch,
    "objects.update": objects.patch,
    "objects.delete": objects.delete,
    "objects.copy": objects.copy,
    "objects.rewrite": objects.copy,
    "objects.compose": objects.compose,
    "buckets.list": buckets.list_buckets,
    "buckets.insert": buckets.insert_bucket,
    "buckets.get": buckets.get_bucket,
    "buckets.patch": buckets.patch_bucket,
    "buckets.delete": buckets.delete_bucket,
    "buckets.testIamPermissions": buckets.test_permissions,
}


class Storage(Service):
    """Cloud Storage. Every call is checked and done under one lock, so that of racing writers one is the first."""

    name = "storage"
    api = "storage", "v1"

    def __init__(self, faults: FaultPlan | None = None) -> None:
        super().__init__(faults)
        #: What is stored.
        self.store = Store()
        #: Permissions that the caller does not have; tests add to them.
        self.denied = self.store.denied
        self._lock = threading.Lock()

    def create_bucket(self, name: str, location: str = "US") -> None:
        """Make an empty bucket."""
        self.store.create_bucket(name, location)

    def call_of(self, request: Request) -> str:
        return _routed(request)[0]

    def has_effect(self, request: Request) -> bool:
        """Return whether a request may change things; the question how far an upload has come changes nothing."""
        return super().has_effect(request) and request.headers.get("Content-Range") != "bytes */*"

    def handle(self, request: Request) -> Response:
        try:
            if request.call == "batch":
                return self._batch(request)
            call, named = _routed(request)
            if call not in _CALLS:
                raise RefusedError(501, f"local storage has no {request.method} {request.path}")
            with self._lock:
                return _CALLS[call](self.store, request, named)
        except RefusedError as refused:
            return refused.answer

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


def _routed(request: Request) -> tuple[str, dict[str, str]]:
    """Return the call that a request is, and the buckets and objects it names."""
    path = urlsplit(request.target).path
    for methods, pattern, call in _ROUTES:
        if request.method in methods and (found := pattern.fullmatch(path)):
            return call, {key: unquote(value) for key, value in found.groupdict().items()}
    return "unknown", {}

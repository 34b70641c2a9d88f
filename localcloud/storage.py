"""Cloud Storage on this machine: the parts of its JSON API that Google's client and Beam use, with state in memory."""

import base64
import bisect
import email.parser
import email.policy
import gzip
import hashlib
import http
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import google_crc32c

from localcloud import globs
from localcloud.faults import FaultPlan
from localcloud.serving import Request, Response, Service, error_response, json_response

#: What the documentation promises as the largest page, batch, composition and custom metadata.
PAGE, BATCH, COMPONENTS, METADATA_BYTES = 1000, 100, 32, 8192
#: Pieces of a resumable upload but the last are multiples of this many bytes.
PIECE = 256 * 1024

_WRITABLE = (
    "cacheControl contentDisposition contentEncoding contentLanguage contentType customTime metadata storageClass"
).split()
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


class _RefusedError(Exception):
    """A call that is answered with an error."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.answer = error_response(status, message) if status >= 400 else Response(status)
        self.answer.headers.update(headers or {})


@dataclass
class _Object:
    """A live object. resource: what the API tells of it, but for its links."""

    data: bytes
    resource: dict[str, Any]

    @property
    def generation(self) -> str:
        return str(self.resource["generation"])

    @property
    def metageneration(self) -> str:
        return str(self.resource["metageneration"])


@dataclass
class _Bucket:
    """A bucket and its live objects. names: theirs, in the order of listings."""

    resource: dict[str, Any]
    objects: dict[str, _Object] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)


@dataclass
class _Session:
    """A resumable upload. done: the answer to its last piece, in case that piece is sent again."""

    bucket: str
    name: str
    query: dict[str, str]
    fields: dict[str, Any]
    received: bytearray = field(default_factory=bytearray)
    done: dict[str, Any] | None = None

    def take(self, start: int, piece: bytes, *, last: bool) -> None:
        """Keep what is new of a piece; keep nothing of one that leaves a gap, and let the answer say where to go on."""
        if piece and not last and len(piece) % PIECE:
            raise _RefusedError(400, f"a piece of {len(piece)} bytes that is not the last is no multiple of {PIECE}")
        have = len(self.received)
        if start <= have:
            self.received += piece[have - start :]


class Storage(Service):
    """Cloud Storage. Every call is checked and done under one lock, so that of racing writers one is the first."""

    name = "storage"

    def __init__(self, faults: FaultPlan | None = None) -> None:
        super().__init__(faults)
        #: Permissions that the caller does not have; tests add to them.
        self.denied: set[str] = set()
        self._lock = threading.Lock()
        self._buckets: dict[str, _Bucket] = {}
        self._sessions: dict[str, _Session] = {}
        self._session_ids = itertools.count(1)
        self._last_generation = 0
        self._calls: dict[str, Callable[[Request, dict[str, str]], Response]] = {
            "objects.get": self._get,
            "objects.insert": self._insert,
            "objects.insert.piece": self._piece,
            "objects.list": self._list,
            "objects.patch": self._patch,
            "objects.update": self._patch,
            "objects.delete": self._delete,
            "objects.copy": self._copy,
            "objects.rewrite": self._copy,
            "objects.compose": self._compose,
            "buckets.list": self._list_buckets,
            "buckets.insert": self._insert_bucket,
            "buckets.get": self._get_bucket,
            "buckets.patch": self._patch_bucket,
            "buckets.delete": self._delete_bucket,
            "buckets.testIamPermissions": self._test_permissions,
        }

    def create_bucket(self, name: str, location: str = "US") -> None:
        """Make an empty bucket."""
        now = _now()
        self._buckets[name] = _Bucket(
            {
                "kind": "storage#bucket",
                "id": name,
                "name": name,
                "location": location.upper(),
                "locationType": _location_type(location.upper()),
                "storageClass": "STANDARD",
                "projectNumber": "123456789012",
                "metageneration": "1",
                "etag": "CAE=",
                "timeCreated": now,
                "updated": now,
            }
        )

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
            if call not in self._calls:
                raise _RefusedError(501, f"local storage has no {request.method} {request.path}")
            with self._lock:
                return self._calls[call](request, named)
        except _RefusedError as refused:
            return refused.answer

    # Objects

    def _get(self, request: Request, named: dict[str, str]) -> Response:
        self._permitted("storage.objects.get")
        there = self._live(named["bucket"], named["name"], request.query)
        _check(request.query, there, reading=True)
        if request.query.get("alt") == "media":
            return _media(request, there)
        return self._told(request, there.resource)

    def _insert(self, request: Request, named: dict[str, str]) -> Response:
        kind = request.query.get("uploadType", "")
        if "upload_id" in request.query:
            return self._piece(request, named)
        bucket = named["bucket"]
        if kind == "media":
            fields = {"contentType": request.headers.get("Content-Type")}
            data = request.body
        elif kind == "multipart":
            fields, data = _parts(request)
        elif kind == "resumable":
            fields = {"contentType": request.headers.get("X-Upload-Content-Type"), **request.json()}
            data = b""
        else:
            raise _RefusedError(400, f"uploadType {kind!r} is unknown")
        name = request.query.get("name") or str(fields.get("name") or "")
        if not name or len(name.encode()) > 1024:
            raise _RefusedError(400, f"{name!r} is no name of an object")
        if kind != "resumable":
            return self._told(request, self._written(bucket, name, data, fields, request.query))
        self._permitted("storage.objects.create")
        _check(request.query, self._bucket(bucket).objects.get(name))
        upload_id = f"upload-{next(self._session_ids)}"
        self._sessions[upload_id] = _Session(bucket, name, request.query, fields)
        location = f"{_base(request)}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={upload_id}"
        return Response(200, headers={"Location": location, "X-GUploader-UploadID": upload_id})

    def _piece(self, request: Request, named: dict[str, str]) -> Response:
        """Answer a piece of a resumable upload, or the question how far the upload has come."""
        session = self._sessions.get(request.query.get("upload_id", ""))
        if session is None:
            raise _RefusedError(404, "the upload does not exist")
        if session.done is None:
            length = len(request.body)
            whole = f"bytes 0-{length - 1}/{length}" if length else "bytes */0"
            said = str(request.headers.get("Content-Range", whole))
            found = re.fullmatch(r"bytes (?:(\d+)-(?:\d+|\*)|\*)/(\d+|\*)", said)
            if found is None:
                raise _RefusedError(400, f"Content-Range {said!r} can't be read")
            session.take(int(found[1] or 0), request.body, last=found[2] != "*")
            if found[2] != str(len(session.received)):
                end = len(session.received) - 1
                return Response(308, headers={"Range": f"bytes=0-{end}"} if end >= 0 else {})
            fields = {**session.fields, **_hashes(request.headers.get("X-Goog-Hash", ""))}
            session.done = self._written(session.bucket, session.name, bytes(session.received), fields, session.query)
        return self._told(request, session.done)

    def _list(self, request: Request, named: dict[str, str]) -> Response:
        bucket = self._bucket(named["bucket"])
        self._permitted("storage.objects.list")
        query = request.query
        prefix, delimiter, glob = query.get("prefix", ""), query.get("delimiter", ""), query.get("matchGlob", "")
        after = base64.urlsafe_b64decode(query.get("pageToken", "")).decode()
        room = min(int(query.get("maxResults") or PAGE), PAGE)
        items: list[dict[str, Any]] = []
        prefixes: list[str] = []
        more = ""
        matching = _matcher(glob, delimiter)
        # Folders are told of below the one that a pattern names, though no prefix does.
        below = len(max(prefix, globs.folder(glob), key=len))
        first = max(prefix, query.get("startOffset", ""), after)
        for name in itertools.islice(bucket.names, bisect.bisect_left(bucket.names, first), None):
            if not name.startswith(prefix) or ("endOffset" in query and name >= query["endOffset"]):
                break
            if after and (name == after or _below(name, after, delimiter)):
                continue
            cut = name.find(delimiter, below) if delimiter else -1
            folder = name[: cut + len(delimiter)] if cut >= 0 else ""
            if not matching(folder or name):
                continue
            if folder and prefixes and prefixes[-1] == folder:
                continue
            if len(items) + len(prefixes) == room:
                last = max(items[-1]["name"] if items else "", prefixes[-1] if prefixes else "")
                more = base64.urlsafe_b64encode(last.encode()).decode()
                break
            if folder:
                prefixes.append(folder)
            else:
                items.append(_linked(request, bucket.objects[name].resource))
        answer = {"kind": "storage#objects", "nextPageToken": more, "prefixes": prefixes, "items": items}
        return json_response({key: value for key, value in answer.items() if value})

    def _patch(self, request: Request, named: dict[str, str]) -> Response:
        """Change the fields that are given (objects.patch); drop also those that are not (objects.update)."""
        self._permitted("storage.objects.update")
        there = self._live(named["bucket"], named["name"], request.query)
        _check(request.query, there)
        resource = dict(there.resource)
        if request.call == "objects.update":
            resource = {key: value for key, value in resource.items() if key not in _WRITABLE or key == "storageClass"}
        changed = _changed(resource, request.json())
        changed.update(metageneration=str(int(there.metageneration) + 1), updated=_now())
        there.resource = _tagged(changed)
        return self._told(request, there.resource)

    def _delete(self, request: Request, named: dict[str, str]) -> Response:
        self._permitted("storage.objects.delete")
        there = self._live(named["bucket"], named["name"], request.query)
        _check(request.query, there)
        bucket = self._buckets[named["bucket"]]
        del bucket.objects[named["name"]]
        del bucket.names[bisect.bisect_left(bucket.names, named["name"])]
        return Response(204)

    def _copy(self, request: Request, named: dict[str, str]) -> Response:
        """Copy an object; the copy has the source's fields, unless the request brings its own."""
        self._permitted("storage.objects.get")
        query = request.query
        of_source = {"generation": query["sourceGeneration"]} if "sourceGeneration" in query else {}
        source = self._live(named["bucket"], named["name"], of_source)
        _check({_of_target(key): value for key, value in query.items() if key.startswith("ifSource")}, source)
        own = {key: value for key, value in request.json().items() if key in _WRITABLE}
        fields = own or {key: source.resource[key] for key in _WRITABLE if key in source.resource}
        fields.setdefault("contentType", source.resource.get("contentType"))
        query = {**query, "kmsKeyName": query.get("destinationKmsKeyName", "")}
        written = self._written(named["to_bucket"], named["to_name"], source.data, fields, query)
        if request.call == "objects.copy":
            return self._told(request, written)
        size = written["size"]
        answer = {"kind": "storage#rewriteResponse", "totalBytesRewritten": size, "objectSize": size, "done": True}
        return json_response({**answer, "resource": _linked(request, written)})

    def _compose(self, request: Request, named: dict[str, str]) -> Response:
        self._permitted("storage.objects.get")
        asked = request.json()
        sources = asked.get("sourceObjects", [])
        if not 1 <= len(sources) <= COMPONENTS:
            raise _RefusedError(400, f"{len(sources)} source objects; 1 to {COMPONENTS} are allowed")
        data = b""
        for each in sources:
            source = self._live(named["bucket"], each["name"], each)
            _check(each.get("objectPreconditions", {}), source)
            data += source.data
        written = self._written(named["bucket"], named["name"], data, asked.get("destination", {}), request.query)
        written["componentCount"] = len(sources)
        del written["md5Hash"]  # composite objects have none
        return self._told(request, written)

    def _written(
        self, bucket: str, name: str, data: bytes, fields: Mapping[str, Any], query: Mapping[str, str]
    ) -> dict[str, Any]:
        """Write an object, if the preconditions hold; return its resource."""
        place = self._bucket(bucket)
        there = place.objects.get(name)
        self._permitted("storage.objects.create")
        if there:
            self._permitted("storage.objects.delete")
        _check(query, there)
        checksum = base64.b64encode(google_crc32c.Checksum(data).digest()).decode()
        md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
        for key, found in (("crc32c", checksum), ("md5Hash", md5)):
            if fields.get(key) not in (None, "", found):
                raise _RefusedError(400, f"Provided {key} {fields[key]!r} doesn't match calculated {key} {found!r}.")
        self._last_generation = max(self._last_generation + 1, time.time_ns() // 1000)
        now = _now()
        resource: dict[str, Any] = {
            "kind": "storage#object",
            "id": f"{bucket}/{name}/{self._last_generation}",
            "name": name,
            "bucket": bucket,
            "generation": str(self._last_generation),
            "metageneration": "1",
            "size": str(len(data)),
            "crc32c": checksum,
            "md5Hash": md5,
            "storageClass": place.resource["storageClass"],
            "timeCreated": now,
            "updated": now,
            "timeStorageClassUpdated": now,
        }
        if kms_key := query.get("kmsKeyName") or fields.get("kmsKeyName"):
            resource["kmsKeyName"] = kms_key if "/cryptoKeyVersions/" in kms_key else f"{kms_key}/cryptoKeyVersions/1"
        resource = _tagged(_changed(resource, fields))
        if there is None:
            bisect.insort(place.names, name)
        place.objects[name] = _Object(data, resource)
        return resource

    def _live(self, bucket: str, name: str, query: Mapping[str, Any]) -> _Object:
        """Return the object that is there, of the generation that is asked for if one is."""
        there = self._bucket(bucket).objects.get(name)
        if there is None or str(query.get("generation") or there.generation) != there.generation:
            self._permitted("storage.objects.list")  # a caller that may not list is not told what is missing
            raise _RefusedError(404, f"No such object: {bucket}/{name}")
        return there

    def _told(self, request: Request, resource: Mapping[str, Any]) -> Response:
        return json_response(_linked(request, resource), headers={"ETag": resource["etag"]})

    def _batch(self, request: Request) -> Response:
        """Answer many calls in one request, each with an answer of its own; none is an upload or a download."""
        parts = _mime(request).get_payload()
        if len(parts) > BATCH:
            raise _RefusedError(400, f"{len(parts)} calls in a batch; at most {BATCH} are allowed")
        answers = []
        for part in parts:
            line, _, rest = part.get_payload().lstrip().partition("\n")
            method, target, _version = line.split()
            headers, body = _headers_and_body(rest)
            inner = Request.of(method, target, headers, body)
            if "Host" not in inner.headers:
                inner.headers["Host"] = request.headers["Host"]
            inner.call = self.call_of(inner)
            answer = self.handle(inner)
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

    # Buckets

    def _list_buckets(self, request: Request, named: dict[str, str]) -> Response:
        self._permitted("storage.buckets.list")
        found = [each.resource for name, each in sorted(self._buckets.items())]
        prefix = request.query.get("prefix", "")
        return json_response(
            {"kind": "storage#buckets", "items": [each for each in found if each["name"].startswith(prefix)]}
        )

    def _insert_bucket(self, request: Request, named: dict[str, str]) -> Response:
        self._permitted("storage.buckets.create")
        asked = request.json()
        if asked["name"] in self._buckets:
            raise _RefusedError(409, f"You already own the bucket {asked['name']}.")
        self.create_bucket(asked["name"], asked.get("location", "US"))
        bucket = self._buckets[asked["name"]]
        bucket.resource.update({key: value for key, value in asked.items() if key != "location"})
        if "customPlacementConfig" in asked:
            bucket.resource["locationType"] = "dual-region"
        return json_response(bucket.resource)

    def _get_bucket(self, request: Request, named: dict[str, str]) -> Response:
        bucket = self._bucket(named["bucket"])
        self._permitted("storage.buckets.get")
        return json_response(bucket.resource)

    def _patch_bucket(self, request: Request, named: dict[str, str]) -> Response:
        bucket = self._bucket(named["bucket"])
        self._permitted("storage.buckets.update")
        metageneration = str(int(bucket.resource["metageneration"]) + 1)
        bucket.resource.update(request.json(), metageneration=metageneration, updated=_now())
        return json_response(bucket.resource)

    def _delete_bucket(self, request: Request, named: dict[str, str]) -> Response:
        bucket = self._bucket(named["bucket"])
        self._permitted("storage.buckets.delete")
        if bucket.objects:
            raise _RefusedError(409, "The bucket you tried to delete is not empty.")
        del self._buckets[named["bucket"]]
        return Response(204)

    def _test_permissions(self, request: Request, named: dict[str, str]) -> Response:
        self._bucket(named["bucket"])
        asked = parse_qs(urlsplit(request.target).query).get("permissions", [])
        granted = [each for each in asked if each not in self.denied]
        answer = {"kind": "storage#testIamPermissionsResponse"}
        return json_response({**answer, "permissions": granted} if granted else answer)

    def _bucket(self, name: str) -> _Bucket:
        if name not in self._buckets:
            raise _RefusedError(404, "The specified bucket does not exist.")
        return self._buckets[name]

    def _permitted(self, permission: str) -> None:
        if permission in self.denied:
            raise _RefusedError(
                403,
                f"tester@example.com does not have {permission} access. "
                f"Permission '{permission}' denied on resource (or it may not exist).",
            )


def _routed(request: Request) -> tuple[str, dict[str, str]]:
    """Return the call that a request is, and the buckets and objects it names."""
    path = urlsplit(request.target).path
    for methods, pattern, call in _ROUTES:
        if request.method in methods and (found := pattern.fullmatch(path)):
            return call, {key: unquote(value) for key, value in found.groupdict().items()}
    return "unknown", {}


def _location_type(location: str) -> str:
    if location in ("ASIA", "EU", "US"):
        return "multi-region"
    return "dual-region" if location in ("ASIA1", "EUR4", "EUR5", "EUR7", "EUR8", "NAM4") else "region"


def _matcher(glob: str, delimiter: str) -> Callable[[str], object]:
    """Return what tells whether a name or a folder is one of a pattern's."""
    if not glob:
        return lambda name: True
    if delimiter not in ("", "/"):
        raise _RefusedError(400, "When listing with a glob pattern, the only supported delimiter is '/'.")
    try:
        return globs.compiled(glob).fullmatch
    except globs.GlobError as error:
        raise _RefusedError(400, str(error)) from None


def _check(query: Mapping[str, Any], there: _Object | None, *, reading: bool = False) -> None:
    """Refuse a call whose preconditions don't hold. "0" is the generation of what is not there."""
    generation = there.generation if there else "0"
    metageneration = there.metageneration if there else ""
    same = [
        str(query.get("ifGenerationMatch", generation)) == generation,
        str(query.get("ifMetagenerationMatch", metageneration)) == metageneration,
    ]
    # "If no live object exists, the precondition fails", whatever the generation that must not be there.
    other = [
        "ifGenerationNotMatch" not in query or (there and str(query["ifGenerationNotMatch"]) != generation),
        "ifMetagenerationNotMatch" not in query or (there and str(query["ifMetagenerationNotMatch"]) != metageneration),
    ]
    if not all(same):
        raise _RefusedError(412, "At least one of the pre-conditions you specified did not hold.")
    if not all(other):
        raise _RefusedError(304 if reading else 412, "At least one of the pre-conditions you specified did not hold.")


def _of_target(key: str) -> str:
    """Return a precondition on a copy's source, as one on an object."""
    return "if" + key.removeprefix("ifSource")


def _changed(resource: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resource with the fields that may be written changed: null drops one, and a key of the custom
    metadata.
    """
    changed = {**resource, **{key: fields[key] for key in _WRITABLE if key in fields}}
    if isinstance(fields.get("metadata"), Mapping):
        merged = {**resource.get("metadata", {}), **fields["metadata"]}
        changed["metadata"] = {key: str(value) for key, value in merged.items() if value is not None}
    size = sum(len(key.encode()) + len(value.encode()) for key, value in (changed.get("metadata") or {}).items())
    if size > METADATA_BYTES:
        raise _RefusedError(400, f"custom metadata of {size} bytes; at most {METADATA_BYTES} are allowed")
    return {key: value for key, value in changed.items() if value not in (None, {})}


def _tagged(resource: dict[str, Any]) -> dict[str, Any]:
    """Return a resource with the ETag of its generation and metageneration."""
    tag = f"{resource['generation']}/{resource['metageneration']}"
    return {**resource, "etag": base64.b64encode(tag.encode()).decode()}


def _base(request: Request) -> str:
    """Return the service's address as the caller has it: an answer's links lead back to the port that was asked."""
    return f"http://{request.headers['Host']}"


def _linked(request: Request, resource: Mapping[str, Any]) -> dict[str, Any]:
    path = f"storage/v1/b/{resource['bucket']}/o/{quote(resource['name'], safe='')}"
    base = _base(request)
    media = f"{base}/download/{path}?generation={resource['generation']}&alt=media"
    return {**resource, "selfLink": f"{base}/{path}", "mediaLink": media}


def _media(request: Request, there: _Object) -> Response:
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
        raise _RefusedError(416, "Request range not satisfiable", {"Content-Range": f"bytes */{size}"})
    return Response(206, data[start : end + 1], {**headers, "Content-Range": f"bytes {start}-{end}/{size}"})


def _below(name: str, token: str, delimiter: str) -> bool:
    """Return whether the page before, which ended with `token`, has shown the folder that a name lies in."""
    return bool(delimiter) and token.endswith(delimiter) and name.startswith(token)


def _parts(request: Request) -> tuple[dict[str, Any], bytes]:
    """Return a multipart upload's fields and data. By hand, because a parser of mail would read the data as text."""
    boundary = _headers_and_body(f"Content-Type: {request.headers['Content-Type']}\n\n")[0].get_boundary()
    _, first, second, _ = request.body.split(f"--{boundary}".encode(), 3)
    about, data = re.split(rb"\r?\n\r?\n", second.lstrip(b"\r\n"), maxsplit=1)
    content_type = _headers_and_body(about.decode() + "\n\n")[0].get("Content-Type")
    fields = json.loads(re.split(rb"\r?\n\r?\n", first.lstrip(b"\r\n"), maxsplit=1)[1])
    return {"contentType": content_type, **fields}, data.removesuffix(b"\n").removesuffix(b"\r")


def _mime(request: Request) -> Any:
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    return email.parser.BytesParser(policy=email.policy.compat32).parsebytes(head + request.body)


def _headers_and_body(text: str) -> tuple[Any, bytes]:
    message = email.parser.Parser(policy=email.policy.compat32).parsestr(text)
    return message, str(message.get_payload()).encode()


def _hashes(header: str) -> dict[str, str]:
    """Return what an X-Goog-Hash header says of the whole object, as fields."""
    names = {"crc32c": "crc32c", "md5": "md5Hash"}
    pairs = (each.strip().partition("=") for each in header.split(",") if each)
    return {names[kind]: value for kind, _, value in pairs if kind in names}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

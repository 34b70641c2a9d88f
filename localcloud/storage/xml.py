"""The XML API, as far as Google's clients use it: objects by path, signed links, uploads in numbered parts, forms.

A signature is not verified, because nobody here has the key; that a link has expired is.
"""

import base64
import binascii
import hashlib
import json
import re
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from email.message import Message
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from localcloud.serving import Request, Response
from localcloud.storage import keys, listing, retention, uploads
from localcloud.storage.checks import check, check_etag
from localcloud.storage.media import media
from localcloud.storage.mime import mime
from localcloud.storage.resources import base, write
from localcloud.storage.state import Object, RefusedError, Session, Store, checksums, number

_CODES = {
    304: "NotModified",
    400: "InvalidArgument",
    403: "AccessDenied",
    404: "NoSuchKey",
    409: "Conflict",
    412: "PreconditionFailed",
    416: "InvalidRange",
    501: "NotImplemented",
}
_HEADERS = {
    "Cache-Control": "cacheControl",
    "Content-Disposition": "contentDisposition",
    "Content-Encoding": "contentEncoding",
    "Content-Language": "contentLanguage",
    "Content-Type": "contentType",
    "X-Goog-Custom-Time": "customTime",
    "X-Goog-Storage-Class": "storageClass",
}
_META = "x-goog-meta-"
#: The fields of a form that are Google's own.
_FORM = r"x-goog-(meta-.+|acl|algorithm|credential|date|hash|if-(meta)?generation-match|signature|storage-class)"
#: How clients know that an answer is S3's.
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def call_of(request: Request) -> str:
    """Return the name of the call that a request is."""
    _, name = _place(request)
    query = request.query
    if not name:
        return {"GET": "xml.objects.list", "POST": "xml.objects.post"}.get(request.method, "unknown")
    if "upload_id" in query:
        return "xml.objects.put.piece"
    if request.method == "POST" and "uploads" in query:
        return "xml.uploads.create"
    if request.method == "POST" and request.headers.get("X-Goog-Resumable") == "start":
        return "xml.objects.post.resumable"
    if "uploadId" in query:
        calls = {"PUT": "xml.uploads.put", "POST": "xml.uploads.complete", "DELETE": "xml.uploads.abort"}
        return calls.get(request.method, "unknown")
    calls = {"GET": "get", "HEAD": "get", "PUT": "put", "DELETE": "delete"}
    return "xml.objects." + calls[request.method] if request.method in calls else "unknown"


def answer(store: Store, request: Request) -> Response:
    """Answer a call of the XML API."""
    _check_expiry(request.query)
    bucket, name = _place(request)
    store.bill(bucket, {"userProject": request.headers["X-Goog-User-Project"]} if _payer(request) else {})
    return _CALLS[request.call](store, request, bucket, name)


def error(refused: RefusedError) -> Response:
    """Return an error in the shape of the XML API."""
    code = "NoSuchBucket" if "bucket does not exist" in str(refused) else _CODES.get(refused.status, "InvalidArgument")
    response = _xml("Error", [("Code", code), ("Message", str(refused))], refused.status)
    response.headers.update({name: text for name, text in refused.answer.headers.items() if name != "Content-Type"})
    return response


def _get(store: Store, request: Request, bucket: str, name: str) -> Response:
    store.permit("storage.objects.get")
    there = store.object(bucket, name, request.query.get("generation"))
    check(_preconditions(request.headers), there, reading=True)
    tag = _tag(there)
    check_etag(request, tag.strip('"'), reading=True)
    response = media(request, there)
    response.headers |= {"ETag": tag, "Last-Modified": _http_time(there.resource["updated"])}
    response.headers |= {_META + key: value for key, value in there.resource.get("metadata", {}).items()}
    for key, header in (
        ("response-content-type", "Content-Type"),
        ("response-content-disposition", "Content-Disposition"),
    ):
        if key in request.query:
            response.headers[header] = request.query[key]
    return response


def _put(store: Store, request: Request, bucket: str, name: str) -> Response:
    key, data, fields = keys.given(request.headers), request.body, _fields(request.headers)
    if source := request.headers.get("X-Goog-Copy-Source"):
        from_bucket, _, from_name = unquote(source).lstrip("/").partition("/")
        there = store.object(from_bucket, from_name, request.headers.get("X-Goog-Copy-Source-Generation"))
        keys.unlock(there, keys.given(request.headers, keys.SOURCE))
        data = there.data
        if request.headers.get("X-Goog-Metadata-Directive", "COPY") == "COPY":
            kept = [*_HEADERS.values(), "metadata"]
            fields = {field: there.resource[field] for field in kept if field in there.resource}
    new = write(store, (bucket, name), data, fields, _preconditions(request.headers), key)
    headers = _written(new) | keys.answered(key)
    if source:
        return _xml("CopyObjectResult", [("ETag", _tag(new)), ("LastModified", new.resource["updated"])], 200, headers)
    return Response(200, headers=headers)


def _delete(store: Store, request: Request, bucket: str, name: str) -> Response:
    store.permit("storage.objects.delete")
    there = store.object(bucket, name, request.query.get("generation"))
    check(_preconditions(request.headers), there)
    retention.protect(store.bucket(bucket), there)
    store.bucket(bucket).drop(there, for_good="generation" in request.query)
    return Response(204)


def _list(store: Store, request: Request, bucket: str, name: str) -> Response:
    there, query = store.bucket(bucket), request.query
    if unknown := set(query) & {"acl", "cors", "lifecycle", "location", "logging", "uploads", "versioning", "website"}:
        raise RefusedError(501, f"local storage's XML API has no ?{min(unknown)} of buckets")
    store.permit("storage.objects.list")
    second = query.get("list-type") == "2"
    asked = {key: query[key] for key in ("prefix", "delimiter") if query.get(key)}
    if "max-keys" in query:
        asked["maxResults"] = query["max-keys"]
    token = query.get("continuation-token", "") if second else query.get("marker", "")
    if token:
        asked["pageToken"] = token if second else base64.urlsafe_b64encode(token.encode()).decode()
    items, prefixes, more = listing.page(there, asked)
    about: list[tuple[str, Any]] = [("Name", bucket), ("Prefix", query.get("prefix", ""))]
    if more:
        last = base64.urlsafe_b64decode(more).decode()
        about.append(("NextContinuationToken", more) if second else ("NextMarker", last))
    about.append(("IsTruncated", "true" if more else "false"))
    for each in items:
        fields = [("Key", each.name), ("Generation", each.generation), ("MetaGeneration", each.metageneration)]
        fields += [("LastModified", each.resource["updated"]), ("ETag", _tag(each)), ("Size", each.resource["size"])]
        about.append(("Contents", fields))
    about += [("CommonPrefixes", [("Prefix", each)]) for each in prefixes]
    return _xml("ListBucketResult", about)


def _post(store: Store, request: Request, bucket: str, name: str) -> Response:
    """Write an object from a form, if its policy allows what it says."""
    fields: dict[str, str] = {}
    data, filename = b"", ""
    for part in mime(request).get_payload():
        field = str(part.get_param("name", "", "Content-Disposition"))
        if field == "file":
            data, filename = part.get_payload(decode=True), str(part.get_filename() or "")
            break
        fields[field] = part.get_payload(decode=True).decode()
    asked = {field.lower(): text for field, text in fields.items()}
    if "policy" in asked:
        _check_policy(asked, bucket, len(data))
    if "key" not in asked:
        raise RefusedError(400, "Bucket POST must contain a field named 'key'.")
    headers = Message()
    for field, text in asked.items():
        headers[field] = text
    name = asked["key"].replace("${filename}", filename)
    new = write(store, (bucket, name), data, _fields(headers), _preconditions(headers))
    status = int(asked.get("success_action_status", 204))
    if redirect := asked.get("success_action_redirect"):
        return Response(303, headers={"Location": redirect, **_written(new)})
    if status == 201:
        place = f"{base(request)}/{bucket}/{name}"
        return _xml("PostResponse", [("Location", place), ("Bucket", bucket), ("Key", name), ("ETag", _tag(new))], 201)
    return Response(status if status in (200, 204) else 204, headers=_written(new))


def _check_policy(fields: Mapping[str, str], bucket: str, size: int) -> None:
    try:
        policy = json.loads(base64.b64decode(fields["policy"]))
        conditions = policy["conditions"]
        end = datetime.fromisoformat(policy["expiration"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise RefusedError(400, "The policy document can't be read.") from None
    if end <= datetime.now(UTC):
        raise RefusedError(403, "Invalid according to Policy: Policy expired.")
    known = {**fields, "bucket": bucket}
    told = {"policy", "x-goog-signature"}
    for each in conditions:
        if isinstance(each, Mapping):
            each = ["eq", *next((f"${key}", value) for key, value in each.items())]
        try:
            kind, field, value = each
        except ValueError:
            raise RefusedError(400, f"The policy's condition {json.dumps(each)} can't be read.") from None
        if kind == "content-length-range":
            if not int(field) <= size <= int(value):
                raise RefusedError(400, f"Your proposed upload of {size} bytes is not between {field} and {value}.")
            continue
        field = str(field).lstrip("$").lower()
        told.add(field)
        have = known.get(field, "")
        if have != value if kind == "eq" else not have.startswith(value):
            raise RefusedError(403, f"Invalid according to Policy: Policy Condition failed: {json.dumps(each)}")
    for field in fields:
        if field.startswith("x-goog-") and not re.fullmatch(_FORM, field):
            raise RefusedError(400, f"Invalid argument: the field {field}.")
        if field not in told and not field.startswith("x-ignore-"):
            raise RefusedError(403, f"Invalid according to Policy: Extra input fields: {field}")


def _begin(store: Store, request: Request, bucket: str, name: str) -> Response:
    """Begin an upload in pieces, or in numbered parts."""
    store.permit("storage.objects.create")
    store.bucket(bucket)
    fields = {**_fields(request.headers), "_key": keys.given(request.headers)}
    upload_id = store.begin(Session(bucket, name, _preconditions(request.headers), fields))
    if request.call == "xml.uploads.create":
        return _xml("InitiateMultipartUploadResult", [("Bucket", bucket), ("Key", name), ("UploadId", upload_id)])
    place = request.target.partition("?")[0]
    location = f"{base(request)}{place}?upload_id={upload_id}"
    return Response(201, headers={"Location": location, "X-GUploader-UploadID": upload_id})


def _piece(store: Store, request: Request, bucket: str, name: str) -> Response:
    response = uploads.piece(store, request, {})
    return Response(200, headers=dict(response.headers)) if response.status == 200 else response


def _part(store: Store, request: Request, bucket: str, name: str) -> Response:
    session, part = _upload(store, request), number(request.query, "partNumber", 1)
    if part > 10_000:
        raise RefusedError(400, f"Part number {part} is not between 1 and 10000.")
    if keys.given(request.headers) != session.fields["_key"]:
        raise RefusedError(400, "The provided encryption key is incorrect.")
    _check_hashes(request)
    session.parts[part] = request.body
    found = checksums(request.body)
    hashes = f"crc32c={found['crc32c']},md5={found['md5Hash']}"
    return Response(200, headers={"ETag": f'"{hashlib.md5(request.body).hexdigest()}"', "X-Goog-Hash": hashes})


def _complete(store: Store, request: Request, bucket: str, name: str) -> Response:
    session = _upload(store, request)
    try:
        root = ElementTree.fromstring(request.body)
        numbers = [int(each.text or 0) for each in root.iter() if each.tag.rpartition("}")[2] == "PartNumber"]
    except (ElementTree.ParseError, ValueError):
        raise RefusedError(400, "The list of parts can't be read.") from None
    tags = [(each.text or "").strip('"') for each in root.iter() if each.tag.rpartition("}")[2] == "ETag"]
    if len(numbers) != len(tags) or numbers != sorted(set(numbers)) or not numbers:
        raise RefusedError(400, "The list of parts was not in ascending order.")
    for part, tag in zip(numbers, tags, strict=True):
        if part not in session.parts or hashlib.md5(session.parts[part]).hexdigest() != tag:
            raise RefusedError(400, f"Part {part} could not be found, or its ETag is not the one that it has.")
    data = b"".join(session.parts[part] for part in numbers)
    new = write(store, (bucket, name), data, session.fields, session.query, session.fields["_key"])
    new.resource["componentCount"] = len(numbers)
    del new.resource["md5Hash"]
    del store.sessions[request.query["uploadId"]]
    about = [("Location", f"{base(request)}/{bucket}/{name}"), ("Bucket", bucket), ("Key", name), ("ETag", _tag(new))]
    return _xml("CompleteMultipartUploadResult", about, 200, _written(new))


def _abort(store: Store, request: Request, bucket: str, name: str) -> Response:
    _upload(store, request)
    del store.sessions[request.query["uploadId"]]
    return Response(204)


_CALLS = {
    "xml.objects.get": _get,
    "xml.objects.put": _put,
    "xml.objects.delete": _delete,
    "xml.objects.list": _list,
    "xml.objects.post": _post,
    "xml.objects.post.resumable": _begin,
    "xml.objects.put.piece": _piece,
    "xml.uploads.create": _begin,
    "xml.uploads.put": _part,
    "xml.uploads.complete": _complete,
    "xml.uploads.abort": _abort,
}


def _place(request: Request) -> tuple[str, str]:
    """Return the bucket and the object that a path names."""
    bucket, _, name = request.target.partition("?")[0].lstrip("/").partition("/")
    return unquote(bucket), unquote(name)


def _payer(request: Request) -> bool:
    return "X-Goog-User-Project" in request.headers


def _upload(store: Store, request: Request) -> Session:
    session = store.sessions.get(request.query["uploadId"])
    if session is None:
        raise RefusedError(404, "The upload ID may be invalid, or the upload may have been aborted or completed.")
    return session


def _fields(headers: Message) -> dict[str, Any]:
    """Return what headers say of an object, as the fields of the JSON API."""
    fields: dict[str, Any] = {field: headers[name] for name, field in _HEADERS.items() if name in headers}
    metadata = {key.lower().removeprefix(_META): text for key, text in headers.items() if key.lower().startswith(_META)}
    if metadata:
        fields["metadata"] = metadata
    if kms_key := headers.get("X-Goog-Encryption-Kms-Key-Name"):
        fields["kmsKeyName"] = kms_key
    names = {"crc32c": "crc32c", "md5": "md5Hash"}
    for each in ",".join(headers.get_all("X-Goog-Hash", [])).split(","):
        kind, _, value = each.strip().partition("=")
        if kind in names:
            fields[names[kind]] = value
    if "Content-MD5" in headers:
        fields["md5Hash"] = headers["Content-MD5"]
    return fields


def _check_hashes(request: Request) -> None:
    found = checksums(request.body)
    for field, value in _fields(request.headers).items():
        if field in found and found[field] != value:
            raise RefusedError(400, f"The {field} you specified, {value}, did not match what we computed.")


def _preconditions(headers: Message) -> dict[str, str]:
    """Return the preconditions in headers, as the parameters of the JSON API; and the list that the object gets."""
    names = {
        "X-Goog-If-Generation-Match": "ifGenerationMatch",
        "X-Goog-If-Metageneration-Match": "ifMetagenerationMatch",
    }
    found = {parameter: headers[name] for name, parameter in names.items() if name in headers}
    if acl := headers.get("X-Goog-Acl", headers.get("acl")):
        first, *others = acl.split("-")
        found["predefinedAcl"] = first + "".join(each.capitalize() for each in others)
    return found


def _check_expiry(query: Mapping[str, str]) -> None:
    """Refuse a signed link whose time is over."""
    end = 0.0
    try:
        if "X-Goog-Expires" in query:
            begin = datetime.strptime(query["X-Goog-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            end = (begin + timedelta(seconds=int(query["X-Goog-Expires"]))).timestamp()
        elif "Expires" in query:
            end = float(query["Expires"])
    except (KeyError, ValueError):
        raise RefusedError(400, "The dates of the signed link can't be read.") from None
    if end and end < time.time():
        raise RefusedError(400, "Invalid argument. The signed link has expired.")


def _tag(there: Object) -> str:
    md5 = there.resource.get("md5Hash")
    return f'"{base64.b64decode(md5).hex()}"' if md5 else f'"{there.resource["etag"]}"'


def _written(new: Object) -> dict[str, str]:
    resource = new.resource
    hashes = f"crc32c={resource['crc32c']}" + (f",md5={resource['md5Hash']}" if "md5Hash" in resource else "")
    return {
        "ETag": _tag(new),
        "X-Goog-Generation": new.generation,
        "X-Goog-Metageneration": new.metageneration,
        "X-Goog-Hash": hashes,
    }


def _http_time(written: str) -> str:
    return datetime.fromisoformat(written).strftime("%a, %d %b %Y %H:%M:%S GMT")


def _xml(
    tag: str, content: Iterable[tuple[str, Any]], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    text = _element(tag, content)
    if tag != "Error":
        text = text.replace(f"<{tag}>", f"<{tag} xmlns='{_NAMESPACE}'>", 1)
    text = f"<?xml version='1.0' encoding='UTF-8'?>{text}"
    return Response(status, text.encode(), {"Content-Type": "application/xml; charset=UTF-8", **(headers or {})})


def _element(tag: str, content: Any) -> str:
    inner = escape(str(content)) if isinstance(content, str) else "".join(_element(*each) for each in content)
    return f"<{tag}>{inner}</{tag}>"

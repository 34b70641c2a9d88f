"""Uploads: in one request, and in pieces."""

import gzip
import json
import re
import zlib
from typing import Any

from localcloud.serving import Request, Response
from localcloud.storage import keys
from localcloud.storage.checks import check
from localcloud.storage.mime import headers_and_body
from localcloud.storage.resources import base, told, write
from localcloud.storage.state import Object, RefusedError, Session, Store


def insert(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Write an object, or begin to in pieces."""
    kind = request.query.get("uploadType", "")
    if "upload_id" in request.query:
        return piece(store, request, named)
    bucket, data = named["bucket"], b""
    if kind == "media":
        fields = {"contentType": request.headers.get("Content-Type")}
        data = _unpacked(request)
    elif kind == "multipart":
        fields, data = _parts(request)
    elif kind == "resumable":
        fields = {"contentType": request.headers.get("X-Upload-Content-Type"), **request.json()}
    else:
        raise RefusedError(400, f"uploadType {kind!r} is unknown")
    if "contentEncoding" in request.query:
        fields["contentEncoding"] = request.query["contentEncoding"]
    fields |= hashes(request)
    key = keys.given(request.headers)
    name = request.query.get("name") or str(fields.get("name") or "")
    if kind != "resumable":
        return told(store, request, write(store, (bucket, name), data, fields, request.query, key))
    store.permit("storage.objects.create")
    check(request.query, store.bucket(bucket).objects.get(name))
    upload_id = store.begin(Session(bucket, name, request.query, {**fields, "_key": key}))
    location = f"{base(request)}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={upload_id}"
    return Response(200, headers={"Location": location, "X-GUploader-UploadID": upload_id})


def piece(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Answer a piece of a resumable upload, or the question how far the upload has come."""
    upload_id = request.query.get("upload_id", "")
    session = store.sessions.get(upload_id)
    if session is None:
        raise RefusedError(404, "the upload does not exist")
    if request.method == "DELETE":
        del store.sessions[upload_id]
        return Response(499)
    if session.done is None:
        body = _unpacked(request)
        length = len(body)
        whole = f"bytes 0-{length - 1}/{length}" if length else "bytes */0"
        said = str(request.headers.get("Content-Range", whole))
        found = re.fullmatch(r"bytes (?:(\d+)-(?:\d+|\*)|\*)/(\d+|\*)", said)
        if found is None:
            raise RefusedError(400, f"Content-Range {said!r} can't be read")
        session.take(int(found[1] or 0), body, last=found[2] != "*")
        if found[2] != str(len(session.received)):
            end = len(session.received) - 1
            return Response(308, headers={"Range": f"bytes=0-{end}"} if end >= 0 else {})
        key = session.fields["_key"]
        fields = {**session.fields, **hashes(request)}
        for field in ("crc32c", "md5Hash"):  # what was said when the upload began holds too
            if session.fields.get(field) not in (None, "", fields.get(field)):
                raise RefusedError(400, f"Provided {field} {session.fields[field]!r} doesn't match {fields[field]!r}.")
        place = (session.bucket, session.name)
        new = write(store, place, bytes(session.received), fields, session.query, key)
        session.done = Object(b"", new.resource)  # the data goes when the object does
        session.received.clear()
    return told(store, request, session.done)


def hashes(request: Request) -> dict[str, str]:
    """Return what a request's X-Goog-Hash headers say of the whole object, as fields."""
    names = {"crc32c": "crc32c", "md5": "md5Hash"}
    headers = ",".join(request.headers.get_all("X-Goog-Hash", []))
    pairs = (each.strip().partition("=") for each in headers.split(",") if each)
    return {names[kind]: value for kind, _, value in pairs if kind in names}


def _unpacked(request: Request) -> bytes:
    """Return a request's body, which may be packed for its way only."""
    if request.headers.get("Content-Encoding") != "gzip":
        return request.body
    try:
        return gzip.decompress(request.body)
    except (OSError, EOFError, zlib.error):
        raise RefusedError(400, "The request's Content-Encoding is gzip, and its body is not.") from None


def _parts(request: Request) -> tuple[dict[str, Any], bytes]:
    """Return a multipart upload's fields and data. By hand, because a parser of mail would read the data as text."""
    boundary = headers_and_body(f"Content-Type: {request.headers['Content-Type']}\n\n")[0].get_boundary("")
    body = _unpacked(request)
    if f"--{boundary}".encode() not in body:
        boundary = boundary.strip("'")  # gcloud's client puts it in such quotes, which are none in a header
    parts = body.split(f"--{boundary}".encode(), 2)
    if not boundary or len(parts) < 3:
        raise RefusedError(400, "The upload has no two parts, one of fields and one of data.")
    # What closes the data is the last boundary there is: data may hold what looks like one.
    first, (second, closing, _) = parts[1], parts[2].rpartition(f"--{boundary}--".encode())
    if not closing:
        raise RefusedError(400, "The upload has no two parts, one of fields and one of data.")
    about, data = re.split(rb"\r?\n\r?\n", second.lstrip(b"\r\n"), maxsplit=1)
    content_type = headers_and_body(about.decode() + "\n\n")[0].get("Content-Type")
    fields = json.loads(re.split(rb"\r?\n\r?\n", first.lstrip(b"\r\n"), maxsplit=1)[1] or b"{}")
    return {"contentType": content_type, **fields}, data.removesuffix(b"\n").removesuffix(b"\r")

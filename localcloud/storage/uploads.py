"""Uploads: in one request, and in pieces."""

import json
import re
from typing import Any

from localcloud.serving import Request, Response
from localcloud.storage.mime import headers_and_body
from localcloud.storage.state import RefusedError, Session, Store, base, check, told


def insert(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Write an object, or begin to in pieces."""
    kind = request.query.get("uploadType", "")
    if "upload_id" in request.query:
        return piece(store, request, named)
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
        raise RefusedError(400, f"uploadType {kind!r} is unknown")
    name = request.query.get("name") or str(fields.get("name") or "")
    if not name or len(name.encode()) > 1024:
        raise RefusedError(400, f"{name!r} is no name of an object")
    if kind != "resumable":
        return told(request, store.written(bucket, name, data, fields, request.query))
    store.permit("storage.objects.create")
    check(request.query, store.bucket(bucket).objects.get(name))
    upload_id = f"upload-{len(store.sessions) + 1}"
    store.sessions[upload_id] = Session(bucket, name, request.query, fields)
    location = f"{base(request)}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={upload_id}"
    return Response(200, headers={"Location": location, "X-GUploader-UploadID": upload_id})


def piece(store: Store, request: Request, named: dict[str, str]) -> Response:
    """Answer a piece of a resumable upload, or the question how far the upload has come."""
    session = store.sessions.get(request.query.get("upload_id", ""))
    if session is None:
        raise RefusedError(404, "the upload does not exist")
    if session.done is None:
        length = len(request.body)
        whole = f"bytes 0-{length - 1}/{length}" if length else "bytes */0"
        said = str(request.headers.get("Content-Range", whole))
        found = re.fullmatch(r"bytes (?:(\d+)-(?:\d+|\*)|\*)/(\d+|\*)", said)
        if found is None:
            raise RefusedError(400, f"Content-Range {said!r} can't be read")
        session.take(int(found[1] or 0), request.body, last=found[2] != "*")
        if found[2] != str(len(session.received)):
            end = len(session.received) - 1
            return Response(308, headers={"Range": f"bytes=0-{end}"} if end >= 0 else {})
        fields = {**session.fields, **_hashes(request.headers.get("X-Goog-Hash", ""))}
        session.done = store.written(session.bucket, session.name, bytes(session.received), fields, session.query)
    return told(request, session.done)


def _parts(request: Request) -> tuple[dict[str, Any], bytes]:
    """Return a multipart upload's fields and data. By hand, because a parser of mail would read the data as text."""
    boundary = headers_and_body(f"Content-Type: {request.headers['Content-Type']}\n\n")[0].get_boundary() or ""
    if f"--{boundary}".encode() not in request.body:
        boundary = boundary.strip("'")  # gcloud's client puts it in such quotes, which are none in a header
    _, first, second, _ = request.body.split(f"--{boundary}".encode(), 3)
    about, data = re.split(rb"\r?\n\r?\n", second.lstrip(b"\r\n"), maxsplit=1)
    content_type = headers_and_body(about.decode() + "\n\n")[0].get("Content-Type")
    fields = json.loads(re.split(rb"\r?\n\r?\n", first.lstrip(b"\r\n"), maxsplit=1)[1])
    return {"contentType": content_type, **fields}, data.removesuffix(b"\n").removesuffix(b"\r")


def _hashes(header: str) -> dict[str, str]:
    """Return what an X-Goog-Hash header says of the whole object, as fields."""
    names = {"crc32c": "crc32c", "md5": "md5Hash"}
    pairs = (each.strip().partition("=") for each in header.split(",") if each)
    return {names[kind]: value for kind, _, value in pairs if kind in names}

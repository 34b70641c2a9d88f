"""What Cloud Storage knows: buckets, their objects, and what every call checks and changes in them."""

import base64
import bisect
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import google_crc32c

from localcloud.serving import Request, Response, error_response, json_response

#: Pieces of a resumable upload but the last are multiples of this many bytes.
PIECE = 256 * 1024
#: What the documentation promises as the largest custom metadata.
METADATA_BYTES = 8192
#: The fields of an object that callers may write.
WRITABLE = (
    "cacheControl contentDisposition contentEncoding contentLanguage contentType customTime metadata storageClass"
).split()


class RefusedError(Exception):
    """A call that is answered with an error."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.answer = error_response(status, message) if status >= 400 else Response(status)
        self.answer.headers.update(headers or {})


@dataclass
class Object:
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
class Bucket:
    """A bucket and its live objects. names: theirs, in the order of listings."""

    resource: dict[str, Any]
    objects: dict[str, Object] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)


@dataclass
class Session:
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
            raise RefusedError(400, f"a piece of {len(piece)} bytes that is not the last is no multiple of {PIECE}")
        have = len(self.received)
        if start <= have:
            self.received += piece[have - start :]


@dataclass
class Store:
    """All buckets. denied: the permissions that the caller does not have."""

    denied: set[str] = field(default_factory=set)
    buckets: dict[str, Bucket] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    last_generation: int = 0

    def create_bucket(self, name: str, location: str = "US") -> None:
        """Make an empty bucket."""
        at = now()
        self.buckets[name] = Bucket(
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
                "timeCreated": at,
                "updated": at,
            }
        )

    def bucket(self, name: str) -> Bucket:
        """Return a bucket."""
        if name not in self.buckets:
            raise RefusedError(404, "The specified bucket does not exist.")
        return self.buckets[name]

    def live(self, bucket: str, name: str, query: Mapping[str, Any]) -> Object:
        """Return the object that is there, of the generation that is asked for if one is."""
        there = self.bucket(bucket).objects.get(name)
        if there is None or str(query.get("generation") or there.generation) != there.generation:
            self.permit("storage.objects.list")  # a caller that may not list is not told what is missing
            raise RefusedError(404, f"No such object: {bucket}/{name}")
        return there

    def written(
        self, bucket: str, name: str, data: bytes, fields: Mapping[str, Any], query: Mapping[str, str]
    ) -> dict[str, Any]:
        """Write an object, if the preconditions hold; return its resource."""
        place = self.bucket(bucket)
        there = place.objects.get(name)
        self.permit("storage.objects.create")
        if there:
            self.permit("storage.objects.delete")
        check(query, there)
        checksum = base64.b64encode(google_crc32c.Checksum(data).digest()).decode()
        md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
        for key, found in (("crc32c", checksum), ("md5Hash", md5)):
            if fields.get(key) not in (None, "", found):
                raise RefusedError(400, f"Provided {key} {fields[key]!r} doesn't match calculated {key} {found!r}.")
        self.last_generation = max(self.last_generation + 1, time.time_ns() // 1000)
        at = now()
        resource: dict[str, Any] = {
            "kind": "storage#object",
            "id": f"{bucket}/{name}/{self.last_generation}",
            "name": name,
            "bucket": bucket,
            "generation": str(self.last_generation),
            "metageneration": "1",
            "size": str(len(data)),
            "crc32c": checksum,
            "md5Hash": md5,
            "storageClass": place.resource["storageClass"],
            "timeCreated": at,
            "updated": at,
            "timeStorageClassUpdated": at,
        }
        if kms_key := query.get("kmsKeyName") or fields.get("kmsKeyName"):
            resource["kmsKeyName"] = kms_key if "/cryptoKeyVersions/" in kms_key else f"{kms_key}/cryptoKeyVersions/1"
        resource = tagged(changed(resource, fields))
        if there is None:
            bisect.insort(place.names, name)
        place.objects[name] = Object(data, resource)
        return resource

    def permit(self, permission: str) -> None:
        """Refuse a call that needs a permission which the caller does not have."""
        if permission in self.denied:
            raise RefusedError(
                403,
                f"tester@example.com does not have {permission} access. "
                f"Permission '{permission}' denied on resource (or it may not exist).",
            )


def _location_type(location: str) -> str:
    if location in ("ASIA", "EU", "US"):
        return "multi-region"
    return "dual-region" if location in ("ASIA1", "EUR4", "EUR5", "EUR7", "EUR8", "NAM4") else "region"


def check(query: Mapping[str, Any], there: Object | None, *, reading: bool = False) -> None:
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
        raise RefusedError(412, "At least one of the pre-conditions you specified did not hold.")
    if not all(other):
        raise RefusedError(304 if reading else 412, "At least one of the pre-conditions you specified did not hold.")


def changed(resource: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resource with the fields that may be written changed: null drops one, and a key of the custom
    metadata.
    """
    result = {**resource, **{key: fields[key] for key in WRITABLE if key in fields}}
    if isinstance(fields.get("metadata"), Mapping):
        merged = {**resource.get("metadata", {}), **fields["metadata"]}
        result["metadata"] = {key: str(value) for key, value in merged.items() if value is not None}
    size = sum(len(key.encode()) + len(value.encode()) for key, value in (result.get("metadata") or {}).items())
    if size > METADATA_BYTES:
        raise RefusedError(400, f"custom metadata of {size} bytes; at most {METADATA_BYTES} are allowed")
    return {key: value for key, value in result.items() if value not in (None, {})}


def tagged(resource: dict[str, Any]) -> dict[str, Any]:
    """Return a resource with the ETag of its generation and metageneration."""
    tag = f"{resource['generation']}/{resource['metageneration']}"
    return {**resource, "etag": base64.b64encode(tag.encode()).decode()}


def base(request: Request) -> str:
    """Return the service's address as the caller has it: an answer's links lead back to the port that was asked."""
    return f"http://{request.headers['Host']}"


def linked(request: Request, resource: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object's resource with its links."""
    path = f"storage/v1/b/{resource['bucket']}/o/{quote(resource['name'], safe='')}"
    root = base(request)
    media = f"{root}/download/{path}?generation={resource['generation']}&alt=media"
    return {**resource, "selfLink": f"{root}/{path}", "mediaLink": media}


def told(request: Request, resource: Mapping[str, Any]) -> Response:
    """Answer with an object's resource."""
    return json_response(linked(request, resource), headers={"ETag": resource["etag"]})


def now() -> str:
    """Return the time, as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

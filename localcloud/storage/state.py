"""What Cloud Storage knows: buckets and their objects, live, replaced and deleted ones."""

import base64
import bisect
import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import google_crc32c

from localcloud.serving import Response, error_response

#: Pieces of a resumable upload but the last are multiples of this many bytes.
PIECE = 256 * 1024
#: Whom all calls are made by, and what the project's number is.
CALLER = "tester@example.com"
PROJECT_NUMBER = "123456789012"


class RefusedError(Exception):
    """A call that is answered with an error."""

    def __init__(self, status: int, message: str, reason: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.answer = error_response(status, message, reason) if status >= 400 else Response(status)
        self.answer.headers.update(headers or {})


@dataclass
class Object:
    """One generation of an object. resource: what the API tells of it, but for its links."""

    data: bytes
    resource: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.resource["name"])

    @property
    def generation(self) -> str:
        return str(self.resource["generation"])

    @property
    def metageneration(self) -> str:
        return str(self.resource["metageneration"])


@dataclass
class Bucket:
    """A bucket. names: those of the live objects, in the order of listings; replaced, and what soft delete keeps: by
    name, oldest first.
    """

    resource: dict[str, Any]
    objects: dict[str, Object] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    replaced: dict[str, list[Object]] = field(default_factory=dict)
    deleted: dict[str, list[Object]] = field(default_factory=dict)
    #: Managed folders, notifications by id, and the policy that was set last.
    folders: dict[str, dict[str, Any]] = field(default_factory=dict)
    notifications: dict[str, dict[str, Any]] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)
    #: The store's.
    touched: set[tuple[str, str]] = field(default_factory=set, compare=False)

    @property
    def generation(self) -> str:
        return str(self.resource["generation"])

    def touch(self, name: str) -> None:
        """Note that an object of this name came, changed or went."""
        self.touched.add((self.generation, name))

    def versions(self, name: str) -> list[Object]:
        """Return all generations of an object, oldest first."""
        live = self.objects.get(name)
        return self.replaced.get(name, []) + ([live] if live else [])

    def put(self, new: Object) -> None:
        """Make an object the live one of its name."""
        if new.name not in self.objects:
            bisect.insort(self.names, new.name)
        self.objects[new.name] = new
        self.touch(new.name)

    def drop(self, old: Object, *, for_good: bool) -> None:
        """Delete an object: for good, or so that an earlier generation of it stays where the bucket keeps them."""
        name = old.name
        self.touch(name)
        if self.objects.get(name) is old:
            del self.objects[name]
            del self.names[bisect.bisect_left(self.names, name)]
            if not for_good and self.resource.get("versioning", {}).get("enabled"):
                old.resource["timeDeleted"] = now()
                self.replaced.setdefault(name, []).append(old)
                return
        else:
            _take(self.replaced, old)
        seconds = int(self.resource.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0))
        if seconds:
            old.resource["softDeleteTime"] = now()
            old.resource["hardDeleteTime"] = now(seconds)
            self.deleted.setdefault(name, []).append(old)

    def forget(self, old: Object) -> None:
        """Drop an object that soft delete keeps."""
        self.touch(old.name)
        _take(self.deleted, old)


def _take(kept: dict[str, list[Object]], old: Object) -> None:
    """Take an object out of those that are kept by name."""
    kept[old.name].remove(old)
    if not kept[old.name]:
        del kept[old.name]


@dataclass
class Session:
    """An upload in pieces. done: what it wrote, in case that the last piece is sent again."""

    bucket: str
    name: str
    query: dict[str, str]
    fields: dict[str, Any]
    received: bytearray = field(default_factory=bytearray)
    done: Object | None = None
    #: The numbered parts of a multipart upload of the XML API.
    parts: dict[int, bytes] = field(default_factory=dict)

    def take(self, start: int, piece: bytes, *, last: bool) -> None:
        """Keep what is new of a piece; keep nothing of one that leaves a gap, and let the answer say where to go on."""
        if piece and not last and len(piece) % PIECE:
            raise RefusedError(400, f"a piece of {len(piece)} bytes that is not the last is no multiple of {PIECE}")
        have = len(self.received)
        if start <= have:
            self.received += piece[have - start :]


@dataclass
class Store:
    """All that is stored. denied: the permissions that the caller does not have."""

    denied: set[str] = field(default_factory=set)
    buckets: dict[str, Bucket] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    #: HMAC keys by their access id.
    hmac_keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: What soft delete keeps.
    deleted: list[Bucket] = field(default_factory=list)
    last_generation: int = 0
    sessions_begun: int = 0
    #: The objects, by their bucket's generation and their name, that localcloud.keeping has yet to look at.
    touched: set[tuple[str, str]] = field(default_factory=set)

    def next_generation(self) -> str:
        """Return a generation that is greater than every one before."""
        self.last_generation = max(self.last_generation + 1, time.time_ns() // 1000)
        return str(self.last_generation)

    def begin(self, session: Session) -> str:
        """Keep a new upload in pieces, and return its id."""
        self.sessions_begun += 1
        upload_id = f"upload-{self.sessions_begun}"
        self.sessions[upload_id] = session
        return upload_id

    def bucket(self, name: str) -> Bucket:
        """Return a bucket."""
        if name not in self.buckets:
            raise RefusedError(404, "The specified bucket does not exist.")
        return self.buckets[name]

    def object(self, bucket: str, name: str, generation: object = None) -> Object:
        """Return the live object of a name, or its generation that is asked for."""
        there = self.bucket(bucket)
        found = there.objects.get(name)
        if generation not in (None, ""):
            found = next((each for each in there.versions(name) if each.generation == str(generation)), None)
        if found is None:
            self.permit("storage.objects.list")  # a caller that may not list is not told what is missing
            raise RefusedError(404, f"No such object: {bucket}/{name}")
        return found

    def permit(self, permission: str) -> None:
        """Refuse a call that needs a permission which the caller does not have."""
        if permission in self.denied:
            raise RefusedError(
                403,
                f"{CALLER} does not have {permission} access. "
                f"Permission '{permission}' denied on resource (or it may not exist).",
            )

    def bill(self, bucket: str, query: Mapping[str, str]) -> None:
        """Refuse a call that nobody pays for: whoever may not bill the bucket's project has to name another one."""
        there = self.buckets.get(bucket)
        if "userProject" in query:
            self.permit("serviceusage.services.use")
        elif (
            there
            and there.resource.get("billing", {}).get("requesterPays")
            and "resourcemanager.projects.createBillingAssignment" in self.denied
        ):
            raise RefusedError(400, "Bucket is a requester pays bucket but no user project provided.", "required")


def flag(query: Mapping[str, str], name: str) -> bool:
    """Return whether a parameter says true."""
    return query.get(name, "").lower() == "true"


def number(query: Mapping[str, str], name: str, default: int) -> int:
    """Return a parameter that is a number from 1 on."""
    text = query.get(name) or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise RefusedError(400, f"Invalid value for {name}: {text!r}. It is a number from 1 on.")
    return int(text)


def checksums(data: bytes) -> dict[str, str]:
    """Return the checksums of an object's bytes, as the API writes them."""
    return {
        "crc32c": base64.b64encode(google_crc32c.Checksum(data).digest()).decode(),
        "md5Hash": base64.b64encode(hashlib.md5(data).digest()).decode(),
    }


def etag(*numbers: object) -> str:
    """Return the ETag of a generation and metageneration, or of a metageneration alone, in the form of Google's."""
    return base64.b64encode(bytes(_message(int(str(each)) for each in numbers))).decode()


def _message(numbers: Iterator[int]) -> Iterator[int]:
    """Return the bytes of a protocol buffer that has these numbers as its first fields."""
    for index, number in enumerate(numbers, 1):
        yield index << 3
        while number > 127:
            yield number & 127 | 128
            number >>= 7
        yield number


def now(later: float = 0) -> str:
    """Return the time, or the one that comes so many seconds later, as the API writes it."""
    return written_time(datetime.now(UTC) + timedelta(seconds=later))


def written_time(time: datetime) -> str:
    """Return a time as the API writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

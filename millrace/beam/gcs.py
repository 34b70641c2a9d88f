"""Cloud Storage as pipelines use it: whole files in one request, ranges of large ones, one listing for many.

Nothing else that ships to workers builds a client. Beam's own file system asks three times for a small file (a
client, its metadata, its bytes), tells no generations, and gives its errors as text; here one client serves a process.
"""

import base64
import contextlib
import functools
import io
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from millrace.beam.google_errors import retry, told
from millrace.common.results import late
from millrace.errors import ServiceError, SourceError

if TYPE_CHECKING:
    import google.cloud.storage as storage_api

#: Seconds for which a call is tried again, where nothing else is said.
PATIENCE = 120.0
#: Bytes of a file being written that stay in memory; more go to a temporary file.
_IN_MEMORY = 32 << 20
_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class Access:
    """How objects are written and read: their key, their storage class, and the project that pays.

    "" leaves the choice to the bucket. A stage has these as options, under the same names after gcs_.
    """

    kms_key: str = ""
    storage_class: str = ""
    user_project: str = ""

    def bucket(self, client: "storage_api.Client", name: str) -> "storage_api.Bucket":
        """Return the handle of a bucket."""
        return client.bucket(name, user_project=self.user_project or None)

    def blob(self, client: "storage_api.Client", bucket: str, name: str) -> "storage_api.Blob":
        """Return the handle of an object, with all that is to be said when the object is written."""
        blob = self.bucket(client, bucket).blob(name, kms_key_name=self.kms_key or None)
        if self.storage_class:
            blob.storage_class = self.storage_class
        return blob

    def options(self) -> Mapping[str, str]:
        """Return these settings as options of a stage: name → value, without those that are as the bucket has them."""
        return {f"gcs_{name}": value for name, value in asdict(self).items() if value}

    @classmethod
    def given(cls, option: Callable[[str], str]) -> "Access":
        """Return what options say. option: returns an option's value by its name, "" for none."""
        return cls(**{field.name: option(f"gcs_{field.name}") for field in fields(cls)})


#: What buckets are called.
_BUCKET = "[a-z0-9][a-z0-9._-]+"
_Build: TypeAlias = "Callable[[], storage_api.Client] | None"
_Find: TypeAlias = Callable[[], Access] | None
_build: _Build = None
_find: _Find = None


def use(build: _Build, find: _Find) -> tuple[_Build, _Find]:
    """Have this process ask through the client that `build` returns, in the way that `find` returns; return what was
    used before.

    Without them (None): a client with the default credentials, and what the options of the running pipeline say.
    """
    global _build, _find
    before = _build, _find
    _build, _find = build, find
    return before


@dataclass(frozen=True)
class Found:
    """An object: its URI, its size in bytes, and its generation, which is another for every content."""

    uri: str
    size: int
    generation: int


def split(uri: str) -> tuple[str, str]:
    """Return the bucket and the name of a gs://bucket/name. Raises SourceError for anything else."""
    found = re.fullmatch(rf"gs://({_BUCKET})/(.+)", uri, re.DOTALL)
    if not found:
        raise SourceError(f"{uri!r} names no object of Cloud Storage; write gs://bucket/object")
    return found[1], found[2]


def is_bucket(name: str) -> bool:
    """Return whether a bucket may have a name."""
    return bool(re.fullmatch(_BUCKET, name))


def match(pattern: str, seconds: float = PATIENCE) -> list[Found]:
    """Return the objects that a name or pattern means, by name: * and ? stay within a /, ** goes through them.

    One listing. Raises AccessError, ServiceError, and SourceError for a bucket that does not exist.
    """
    bucket, name = split(pattern)
    magic = re.search(r"[*?[]", name)
    how: dict[str, Any] = {"prefix": name, "max_results": 1}  # a name comes before all that begin with it
    if magic:
        how = {"prefix": name[: magic.start()], "match_glob": _glob(name)}
        if "/" not in name[magic.start() :] and "**" not in name:
            how["delimiter"] = "/"  # spares the service a look at what lies deeper
    with told(f"list {pattern}"):
        listed = _client().list_blobs(_access().bucket(_client(), bucket), retry=retry(seconds), **how)
        # A name that ends with / stands for a folder.
        found = {b.name: Found(f"gs://{bucket}/{b.name}", b.size, b.generation) for b in listed if b.name[-1] != "/"}
    if name in found or not magic:
        return [found[name]] if name in found else []
    return [found[other] for other in sorted(found)]


def literal(text: str) -> str:
    """Return the pattern of Cloud Storage that matches a text and nothing else."""
    return re.sub(r"([\\*?\[\]{},!^])", r"\\\1", text)


def _glob(name: str) -> str:
    """Return a name or pattern of ours as a pattern of Cloud Storage.

    Ours has no { } and no escapes; ** stands for folders only, and a name that looks like a pattern is still a name.
    """

    def translated(part: "re.Match[str]") -> str:
        if part["stars"]:
            return "**" if part["folders"] is not None else "*"
        if part["members"]:
            members = literal(part["members"])
            wrong = any(first > last for first, last in re.findall("(.)-(.)", part["members"], re.DOTALL))
            other = f"!/{members}" if part["other"] else members
            return literal(part[0]) if wrong else f"{{[{other}],{literal(part[0])}}}"
        return "?" if part[0] == "?" else literal(part[0])

    tokens = r"(?P<stars>(?P<folders>(?<![^/])\*\*(?![^/]))|\*+)|\[(?P<other>!?)(?P<members>\]?[^]/]*)\]|."
    return re.sub(tokens, translated, name, flags=re.DOTALL)


def read(uri: str, seconds: float = PATIENCE) -> bytes:
    """Return all bytes of an object, as they are stored, in one request.

    Raises AccessError, ServiceError, SourceError.
    """
    with told(f"read {uri}"):
        return bytes(_blob(uri).download_as_bytes(raw_download=True, retry=retry(seconds)))


def open_object(uri: str, seconds: float = PATIENCE) -> "Reader":
    """Open an object as it is now, for reading parts of it. Raises AccessError, ServiceError, SourceError."""
    with told(f"read {uri}"):
        blob = _blob(uri)
        blob.reload(retry=retry(seconds))
        return Reader(blob, seconds)


def replace(uri: str, data: bytes, seconds: float = PATIENCE) -> None:
    """Write an object, over what has its name. Raises AccessError, ServiceError, SourceError."""
    with told(f"write {uri}"):
        _blob(uri).upload_from_string(data, _TYPE, retry=retry(seconds))


def delete(uri: str, seconds: float = PATIENCE) -> None:
    """Delete an object; none is fine. Raises AccessError, ServiceError."""
    from google.api_core.exceptions import NotFound

    with told(f"delete {uri}"), contextlib.suppress(NotFound):
        _blob(uri).delete(retry=retry(seconds))


class Reader(io.RawIOBase):
    """An object of Cloud Storage as it was when opened; each read is a request for just these bytes.

    size, generation, crc32c: what Cloud Storage says of the object, the checksum in hex, None where there is none. A
    read raises AccessError, or ServiceError: also where the object has been replaced since.
    """

    def __init__(self, blob: Any, seconds: float) -> None:
        self._blob, self._seconds, self._at = blob, seconds, 0
        self.size: int = blob.size
        self.generation: int = blob.generation
        self.crc32c = base64.b64decode(blob.crc32c).hex() if blob.crc32c else None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        end = self.size if size is None or size < 0 else min(self.size, self._at + size)
        if end <= self._at:
            return b""
        try:
            with told(f"read {self._uri}"):
                data = bytes(
                    self._blob.download_as_bytes(
                        start=self._at, end=end - 1, raw_download=True, retry=retry(self._seconds)
                    )
                )
        except SourceError:  # the generation that was opened
            raise ServiceError(f"{self._uri} was replaced or deleted while it was read; run again") from None
        self._at += len(data)
        return data

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    @property
    def _uri(self) -> str:
        return f"gs://{self._blob.bucket.name}/{self._blob.name}"


class Writer:
    """An object being written: it is there, whole, once the `with` is closed, and not at all if an exception ends the
    `with`.

    The object is uploaded at its end, so that an upload that breaks off can start again. An object that has the name
    stays as it is; then this one's is another: `path`.
    """

    def __init__(self, uri: str, seconds: float = PATIENCE) -> None:
        self.path, self._seconds = uri, seconds
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def flush(self) -> None:
        """Do nothing, because an object that is not closed is not there."""

    def close(self) -> None:
        """Upload the object. Raises AccessError, ServiceError, SourceError."""
        if self._file.closed:
            return
        try:
            with told(f"write {self.path}"):
                self._upload()
        finally:
            self._file.close()

    def _upload(self) -> None:
        from google.api_core.exceptions import PreconditionFailed

        try:
            _blob(self.path).upload_from_file(
                self._file,
                rewind=True,
                size=self._file.seek(0, io.SEEK_END),
                content_type=_TYPE,
                if_generation_match=0,  # none: what has the name is not written over
                retry=retry(self._seconds),
            )
        except PreconditionFailed:
            # The object may be this one, put there by a try whose answer was lost.
            if not self._is_there():
                self.path = late(self.path)
                self._upload()

    def _is_there(self) -> bool:
        """Return whether the object that has the name holds the same bytes."""
        import google_crc32c

        there, found = open_object(self.path, self._seconds), google_crc32c.Checksum()
        size = self._file.seek(0, io.SEEK_END)
        self._file.seek(0)
        while piece := self._file.read(1 << 20):
            found.update(piece)
        return (there.size, there.crc32c) == (size, str(found.hexdigest(), "ascii"))

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        self._file.close()


def _blob(uri: str) -> Any:
    return _access().blob(_client(), *split(uri))


def _access() -> Access:
    return _find() if _find else _options_of_worker()


def _options_of_worker() -> Access:
    """Return what the pipeline's options say, on the machine of a runner that has others than this one."""
    from apache_beam.options.value_provider import RuntimeValueProvider

    return Access.given(lambda name: RuntimeValueProvider.get_value(name, str, ""))


def _client() -> "storage_api.Client":
    return _build() if _build else _default_client(os.getpid())


# By process, because connections that a fork shares mix up their answers.
@functools.cache
def _default_client(process: int) -> "storage_api.Client":
    import google.cloud.storage as storage_api

    with told("find credentials of Google Cloud"):
        return storage_api.Client(project=None)  # objects need none

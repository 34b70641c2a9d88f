"""Storage in a bucket of Cloud Storage.

A version is an object's generation, and every write that matters says which one it expects: none (`create`), or the one
that was read (`replace`). Every call is tried again for as long as its failure passes (Google.retry).

A conditional write whose answer was lost has changed the generation that its repetition expects, and so the repetition
fails with 412 though the write was done. Therefore, after a 412 to a repetition, what is there is compared with what
was to be written: if both are the same, the write was ours. This takes for granted that no two writers write the same
bytes, which manifests, ledger entries and locks see to by the attempt's or process's random name. A 412 to a first try
is a conflict without a look.

Locks are leases (leases.py): a file that its holder writes anew three times in [gcp] lease seconds, and that others
take over once it stands still. A process that dies lets go at once for those on its host, and after the lease for
others. A process that was merely silent is fenced off, by the conditions on the manifest and the ledger, and by a look
at its leases before every change that it makes here.
"""

import base64
import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, MutableSequence, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from millrace.beam.gcs import literal
from millrace.core.leases import Lease
from millrace.core.ledger import FOLDER as LEDGER
from millrace.core.storage import Versioned
from millrace.errors import ConflictError, ManifestError, SettingError
from millrace.gcloud.clients import Google

T = TypeVar("T")

#: Seconds to connect, and to wait for the next bytes of an answer.
_TIMEOUT = (10, 60)
_BATCH = 100
#: Objects that are asked for with one request. The reference promises a thousand, and that more may be asked for;
#: Google's own gcsfuse counts on five thousand where nobody asks for access lists.
_PAGE = 5000
#: What a storage needs in its bucket.
PERMISSIONS = [f"storage.objects.{each}" for each in ("create", "get", "list", "update", "delete")]
_PROBE = f"{LEDGER}/probe"
_TYPES = {".html": "text/html; charset=utf-8", ".json": "application/json", ".png": "image/png"}
#: What people open again and again, to see the latest.
_FRESH = ("index.html", "report.json")


class GcsStorage:
    """Storage below gs://BUCKET/PREFIX."""

    def __init__(self, root: str, google: Google) -> None:
        self._root, self._google = root.rstrip("/"), google
        self._bucket, _, folder = self._root.removeprefix("gs://").partition("/")
        self._folder = f"{folder}/" if folder else ""
        self._bucket_seen = False
        self._leases: list[Lease] = []

    def uri(self, path: str) -> str:
        return f"{self._root}/{path}"

    def read(self, path: str) -> Versioned | None:
        from google.api_core.exceptions import NotFound

        def download() -> Versioned:
            blob = self._blob(path)
            data = blob.download_as_bytes(checksum="crc32c", timeout=_TIMEOUT, retry=None)
            return Versioned(data, str(blob.generation))

        with self._told("read", path):
            try:
                # From the start each time, because the client would go on within a generation that may be gone by then.
                return self._again(download)
            except NotFound:
                self._see_bucket()
                return None

    def sizes(self, prefix: str) -> Mapping[str, int]:
        return {path: blob.size for path, blob in self._blobs(prefix, "size")}

    def checksums(self, prefix: str) -> Iterator[tuple[str, int, str]]:
        for path, blob in self._blobs(prefix, "size,crc32c"):
            yield path, blob.size, base64.b64decode(blob.crc32c).hex()

    def create(self, path: str, data: bytes, note: Mapping[str, str] | None = None) -> None:
        self._confirm()
        self._write(path, data, "", note)

    def replace(self, path: str, data: bytes, version: str | None = None) -> str:
        self._confirm()
        return self._write(path, data, version)

    def note(self, path: str, note: Mapping[str, str]) -> None:
        from google.api_core.exceptions import NotFound, PreconditionFailed

        self._confirm()
        with self._told("note on", path):
            blob = self._blob(path)
            try:
                blob.reload(timeout=_TIMEOUT, retry=self._google.retry())
                # A patch merges, so that what is to go has to be said.
                blob.metadata = {**dict.fromkeys(blob.metadata or {}), **note}
                blob.patch(if_generation_match=blob.generation, timeout=_TIMEOUT, retry=self._google.retry())
            except PreconditionFailed:
                raise ConflictError(f"{self.uri(path)} was written by somebody else") from None
            except NotFound:
                self._see_bucket()
                raise ConflictError(f"{self.uri(path)} was deleted by somebody else") from None

    def notes(self, name: str, folders: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        # One listing for all folders; a pattern's alternatives can't hold a /, so that it may show more than was asked
        # for.
        tops = ",".join(sorted({literal(folder.partition("/")[0]) for folder in folders}))
        place, pattern = (folders[0], "") if len(folders) == 1 else ("", f"{{{tops}}}/")
        asked = {*folders}
        return {
            path: blob.metadata or {}
            for path, blob in (self._blobs(place, "metadata", f"{pattern}**/{literal(name)}") if folders else ())
            if any(folder in asked for folder in _above(path))
        }

    def list(self, prefix: str, name: str = "") -> Iterator[str]:
        paths = [path for path, _ in self._blobs(prefix, "", f"**/{literal(name)}" if name else "")]
        described = {os.path.dirname(path) for path in paths} if name else set()
        for path in paths:
            # What a manifest describes lies beside it or below, so that no other manifest lies there.
            if not any(folder in described for folder in _above(os.path.dirname(path))):
                yield path

    def names(self, prefix: str) -> set[str]:
        from google.api_core.exceptions import NotFound

        folder = self._folder + (f"{prefix}/" if prefix else "")
        with self._told("list", prefix):
            found = self._google.storage.list_blobs(
                self._handle(),
                prefix=folder or None,
                delimiter="/",  # of a folder in it the name alone is told, however many objects it has
                fields="items(name),prefixes,nextPageToken",
                page_size=_PAGE,
                timeout=_TIMEOUT,
                retry=self._google.retry(),
            )
            try:
                objects = [blob.name for blob in found]
            except NotFound:
                raise self._no_bucket() from None
        return {name.removeprefix(folder).rstrip("/") for name in {*objects, *found.prefixes} - {folder}}

    def copy(self, source: str, target: str) -> None:
        from google.api_core.exceptions import NotFound

        self._confirm()
        with self._told("copy", source):
            origin, made, token = self._blob(source), self._blob(target), None
            try:
                while True:
                    token, _, _ = made.rewrite(origin, token=token, timeout=_TIMEOUT, retry=self._google.retry())
                    if token is None:
                        return
            except NotFound:
                raise self._gone(source) from None

    def delete(self, prefix: str) -> None:
        with self._told("delete", prefix):
            paths = [path for path, _ in self._blobs(prefix, "", placeholders=True)]
            if prefix and not paths:
                paths = [prefix]
            for start in range(0, len(paths), _BATCH):
                self._confirm()
                self._delete(paths[start : start + _BATCH])

    def fetch(self, path: str, folder: str) -> str:
        from google.api_core.exceptions import NotFound

        target = os.path.join(folder, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)

        def download() -> None:
            self._blob(path).download_to_filename(target, checksum="crc32c", timeout=_TIMEOUT, retry=None)

        with self._told("read", path):
            try:
                self._again(download)
            except NotFound:
                raise self._gone(path) from None
        return target

    @contextlib.contextmanager
    def lock(self, path: str, *, wait: bool = True) -> Iterator[None]:
        lease = Lease(_LockFile(self, path), self.uri(path), self._google.config.gcp.lease)
        with lease.held(wait=wait):
            self._leases.append(lease)
            try:
                yield
            finally:
                self._leases.remove(lease)

    def check(self) -> None:
        """Raise AccessError if files can't be written, read, written over and deleted here. Changes nothing.

        Whether an account has a role in a managed folder alone, which the bucket does not tell of, is found out by
        trying.
        """
        with self._told("ask what may be done in", ""):
            granted = self._handle().test_iam_permissions(PERMISSIONS, timeout=_TIMEOUT, retry=self._google.retry())
        if {*PERMISSIONS} - {*granted}:
            try:
                for _ in range(2):
                    self._write(_PROBE, b"Can this be written, read, written over and deleted?", None)
                self.read(_PROBE)
            finally:
                self.delete(_PROBE)

    # --- what the above is made of

    def _write(
        self,
        path: str,
        data: bytes,
        version: str | None,
        note: Mapping[str, str] | None = None,
        patience: float | None = None,
    ) -> str:
        """Write an object and return its generation. patience: seconds, [gcp] patience unless given. Raises
        ConflictError.
        """
        from google.api_core.exceptions import NotFound, PreconditionFailed

        failures: list[Exception] = []

        def upload() -> str:
            blob = self._blob(path)
            if note:
                blob.metadata = dict(note)
            blob.upload_from_string(
                data,
                content_type=blob.content_type,
                if_generation_match=None if version is None else int(version or 0),
                checksum="crc32c",
                timeout=_TIMEOUT,
                retry=None,
            )
            return str(blob.generation)

        with self._told("write", path, patience):
            try:
                return self._again(upload, patience, failures)
            except PreconditionFailed:
                there = self.read(path) if failures else None
                if there is None or there.data != data:
                    raise ConflictError(f"{self.uri(path)} was written by somebody else") from None
                return there.version
            except NotFound:
                self._see_bucket()
                raise

    def _handle(self) -> Any:
        """Return the handle of the bucket."""
        return self._google.access.bucket(self._google.storage, self._bucket)

    def _blob(self, path: str) -> Any:
        """Return the handle of an object, with all that is to be said when the object is written."""
        access = self._google.access
        if path.startswith(f"{LEDGER}/"):  # the ledger is written again and again, which the cheaper classes charge for
            access = replace(access, storage_class="")
        blob = access.blob(self._google.storage, self._bucket, self._folder + path)
        blob.content_type = _TYPES.get(os.path.splitext(path)[1], "application/octet-stream")
        if os.path.basename(path) in _FRESH:
            blob.cache_control = "no-cache"
        return blob

    def _blobs(
        self, prefix: str, field: str, pattern: str = "", *, placeholders: bool = False
    ) -> Iterator[tuple[str, Any]]:
        """Yield the objects below a folder, by path, in ascending order, with one field, in as few requests as can be.

        pattern: of what comes after the folder. placeholders: whether to show those that Google's console makes for a
        folder.
        """
        from google.api_core.exceptions import NotFound

        folder = self._folder + (f"{prefix}/" if prefix else "")
        with self._told("list", prefix):
            found = self._google.storage.list_blobs(
                self._handle(),
                prefix=folder or None,
                match_glob=literal(folder) + pattern if pattern else None,
                fields=f"items(name{field and ','}{field}),nextPageToken",
                page_size=_PAGE,
                timeout=_TIMEOUT,
                retry=self._google.retry(),
            )
            try:
                for blob in found:
                    path = blob.name.removeprefix(self._folder)
                    if placeholders or not path.endswith("/"):
                        yield path, blob
            except NotFound:
                raise self._no_bucket() from None

    def _delete(self, paths: Sequence[str]) -> None:
        """Delete at most 100 objects in one request; those that are not there are fine."""
        from google.api_core.exceptions import from_http_response

        left = paths

        def attempt() -> None:
            nonlocal left
            if len(left) == 1:
                return self._delete_one(left[0])
            with self._google.storage.batch(raise_exception=False) as batch:
                for path in left:
                    self._blob(path).delete(timeout=_TIMEOUT, retry=None)
            # Where one part fails, an exception would hide how the others ended.
            failed = {p: answer for p, answer in zip(left, batch._responses, strict=True) if not answer.ok}
            left = [path for path, answer in failed.items() if answer.status_code != 404]
            if left:
                raise from_http_response(failed[left[0]])  # type: ignore[no-untyped-call]

        self._again(attempt)

    def _delete_one(self, path: str, version: str | None = None) -> None:
        from google.api_core.exceptions import NotFound

        with contextlib.suppress(NotFound):
            self._blob(path).delete(
                if_generation_match=None if version is None else int(version), timeout=_TIMEOUT, retry=None
            )

    def _remove(self, path: str, version: str, patience: float) -> None:
        """Delete a version of an object; another, or none, is fine."""
        from google.api_core.exceptions import PreconditionFailed

        with self._told("delete", path, patience), contextlib.suppress(PreconditionFailed):
            self._again(lambda: self._delete_one(path, version), patience)

    def _confirm(self) -> None:
        """Raise ConflictError if a lock that this process holds was taken over."""
        for lease in list(self._leases):
            lease.confirm()

    @contextlib.contextmanager
    def _told(self, doing: str, path: str, patience: float | None = None) -> Iterator[None]:
        with self._google.told(f"{doing} {self.uri(path)}", patience):
            yield

    def _again(
        self, call: Callable[[], T], patience: float | None = None, failures: "MutableSequence[Exception] | None" = None
    ) -> T:
        """Call until the call succeeds or fails for good; failures: takes up what passed."""
        note = failures.append if failures is not None else None
        found: T = self._google.retry(patience)(call, on_error=note)()
        return found

    def _see_bucket(self) -> None:
        """Raise SettingError, after a 404, if it is the bucket that is not there."""
        from google.api_core.exceptions import NotFound

        # For the first 404 only, because the 404s of an object and of its bucket differ in nothing but their wording.
        if not self._bucket_seen:
            look = self._google.storage.list_blobs(
                self._handle(), max_results=1, timeout=_TIMEOUT, retry=self._google.retry()
            )
            try:
                next(iter(look), None)
            except NotFound:
                raise self._no_bucket() from None
            self._bucket_seen = True

    def _no_bucket(self) -> SettingError:
        return SettingError(
            f"the bucket {self._bucket!r} of storage {self._root!r} does not exist; create it, or set storage in "
            f"[millrace] to one that does ({self._google.config.origin('millrace', 'storage')})"
        )

    def _gone(self, path: str) -> Exception:
        """Return the error for an object that should be there."""
        self._see_bucket()
        return ManifestError(f"{self.uri(path)} is not there any more; run its task again")


class _LockFile:
    """The object of a lock."""

    def __init__(self, storage: GcsStorage, path: str) -> None:
        self._storage, self._path = storage, path

    def read(self) -> Versioned | None:
        return self._storage.read(self._path)

    def write(self, data: bytes, version: str, patience: float | None = None) -> str:
        return self._storage._write(self._path, data, version, patience=patience)

    def remove(self, version: str, patience: float) -> None:
        self._storage._remove(self._path, version, patience)


def _above(folder: str) -> Iterator[str]:
    """Yield the folders that a folder lies in."""
    while folder:
        folder = os.path.dirname(folder)
        yield folder

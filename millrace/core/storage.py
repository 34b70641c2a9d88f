"""Where datasets, manifests and the ledger lie. Paths are relative to the storage's root, with "/" between parts.

`Storage` is the contract; `LocalStorage` keeps it on a local file system, `gcs.GcsStorage` on Cloud Storage. What
matters is written conditionally: `create` succeeds for one of any number of racing writers, `replace` only if nobody
wrote since one read.

On a local file system a dataset or a partition may be a link to another disk. What can't be looked at (a folder that
may not be read, a link to a disk that is not mounted) is an error, because what lies there would else be missing
without a word.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, Protocol

from millrace.common import checksums, links
from millrace.core import resources
from millrace.core.waiting import Waiting
from millrace.errors import AccessError, ConflictError, ManifestError, SettingError

if TYPE_CHECKING:
    import tenacity


#: Folders that a file system keeps for itself, which only root may read.
_FOREIGN = {"lost+found"}


class Versioned(NamedTuple):
    """A file's bytes and the version they are."""

    data: bytes
    version: str


class Storage(Protocol):
    """A place for files with conditional writes."""

    def uri(self, path: str) -> str:
        """Return what pipelines open: an absolute path or a URI."""

    def read(self, path: str) -> Versioned | None:
        """Return a file, or None where there is none."""

    def sizes(self, prefix: str) -> Mapping[str, int]:
        """Return the bytes of every file below a folder, by path."""

    def checksums(self, prefix: str) -> Iterator[tuple[str, int, str]]:
        """Yield path, bytes and CRC-32C (hex) of every file below a folder, in order of path, as they are found."""

    def create(self, path: str, data: bytes, note: Mapping[str, str] | None = None) -> None:
        """Write a file that is not there yet, whole or not at all. Raises ConflictError if it is there.

        note: what `notes` tells of the file, at most 8 KiB.
        """

    def replace(self, path: str, data: bytes, version: str | None = None) -> str:
        """Write a file, whole or not at all, and return its new version; with a version, write only over that version.

        The version "" means over none. Raises ConflictError if the file is another by now.
        """

    def note(self, path: str, note: Mapping[str, str]) -> None:
        """Replace the note on a file that is there, without changing the file."""

    def notes(self, name: str, folders: Sequence[str]) -> Mapping[str, Mapping[str, str]] | None:
        """Return the notes of all files called `name` in or below some folders, by path, in as few requests as can be.

        None for a storage without notes, which only a storage has where asking for many files one by one would be slow.
        """

    def list(self, prefix: str, name: str = "") -> Iterator[str]:
        """Return the paths of the files below a folder, in ascending order; with a name, only files called so."""

    def names(self, prefix: str) -> set[str]:
        """Return the names of the files and folders directly in a folder; where folders can be empty, of those too."""

    def copy(self, source: str, target: str) -> None:
        """Make a file available under another path too; neither is ever changed in place.

        Raises ManifestError if it is not there.
        """

    def delete(self, prefix: str) -> None:
        """Delete a folder with all in it, or a file; nothing there is fine. Of a link only the link is deleted."""

    def fetch(self, path: str, folder: str) -> str:
        """Return a file of this machine with the same bytes, under the file's path in a folder: a copy, or a link to
        the file.
        """

    def lock(self, path: str, *, wait: bool = True) -> contextlib.AbstractContextManager[None]:
        """Wait until no other process, on any host, holds this lock, then holds it; a process that dies lets go.

        wait: whether a living process is waited for. Otherwise this raises Waiting as soon as one is seen to live.
        """

    def check(self) -> None:
        """Raise AccessError if files can't be written, read, written over and deleted here."""


class LocalStorage:
    """Storage in a folder of a local file system."""

    def __init__(self, root: str) -> None:
        self._root = os.path.abspath(os.path.expanduser(root))

    def uri(self, path: str) -> str:
        return os.path.join(self._root, path)

    def read(self, path: str) -> Versioned | None:
        with readable(self.uri(path)):
            try:
                with open(self.uri(path), "rb") as file:
                    data = file.read()
            except (FileNotFoundError, NotADirectoryError):
                links.check(self.uri(path), self._root)
                return None
        return Versioned(data, _version(data))

    def sizes(self, prefix: str) -> Mapping[str, int]:
        with readable(self.uri(prefix)):
            return {path: os.stat(self.uri(path)).st_size for path in self.list(prefix)}

    def checksums(self, prefix: str) -> Iterator[tuple[str, int, str]]:
        for path in self.list(prefix):
            with readable(self.uri(path)):
                yield path, os.stat(self.uri(path)).st_size, checksums.of_file(self.uri(path))

    def create(self, path: str, data: bytes, note: Mapping[str, str] | None = None) -> None:
        with self._alone(path) as target:
            if os.path.lexists(target):
                raise ConflictError(f"{target} was written by somebody else")
            self._write(target, data, durable=True)

    def replace(self, path: str, data: bytes, version: str | None = None) -> str:
        with self._alone(path) as target:
            if version is not None:
                there = self.read(path)
                if (there.version if there else "") != version:
                    raise ConflictError(f"{target} was written by somebody else")
            self._write(target, data)
        return _version(data)

    def note(self, path: str, note: Mapping[str, str]) -> None:
        pass

    def notes(self, name: str, folders: Sequence[str]) -> None:
        return None

    def list(self, prefix: str, name: str = "") -> Iterator[str]:
        links.check(self.uri(prefix), self._root)
        for path in _walk(self.uri(prefix), name):
            yield os.path.relpath(path, self._root)

    def names(self, prefix: str) -> set[str]:
        with readable(self.uri(prefix)):
            try:
                return {each for each in os.listdir(self.uri(prefix)) if not _is_temporary(each)}
            except (FileNotFoundError, NotADirectoryError):
                links.check(self.uri(prefix), self._root)
                return set()

    def copy(self, source: str, target: str) -> None:
        path = self.uri(target)
        # A second name of a link would be another link, and a relative link would lead elsewhere.
        origin = os.path.realpath(self.uri(source))
        with self._writable(os.path.dirname(path)):
            # Written over, a second name would change the file that it is a name of.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            try:
                os.link(origin, path)
            except FileNotFoundError:
                raise ManifestError(f"{self.uri(source)} is not there any more; run its task again") from None
            except OSError:  # a file system without links, or another one
                shutil.copyfile(origin, path)

    def delete(self, prefix: str) -> None:
        path = self.uri(prefix)
        with self._told(path), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)

    def fetch(self, path: str, folder: str) -> str:
        target = os.path.join(folder, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.symlink(self.uri(path), target)
        return target

    @contextlib.contextmanager
    def lock(self, path: str, *, wait: bool = True) -> Iterator[None]:
        target = self.uri(path)
        with self._writable(os.path.dirname(target)):
            handle = os.open(target, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o666)
        with _locked(handle, "" if wait else target):
            yield

    def check(self) -> None:
        pass  # the setting was refused if nothing could be written

    @contextlib.contextmanager
    def _alone(self, path: str) -> Iterator[str]:
        """Yield where a file's place is, as the only one that writes in the file's folder."""
        target = self.uri(path)
        folder = os.path.dirname(target)
        with self._writable(folder):
            handle = os.open(folder, os.O_RDONLY)
        with _locked(handle):
            yield target

    def _write(self, target: str, data: bytes, *, durable: bool = False) -> None:
        """Put a file in its place, whole or not at all; its folder is locked. durable: a power cut can't undo it."""
        folder, name = os.path.split(target)
        # A process that dies leaves at most this one file, which no list shows and the next writer here takes over.
        prepared = os.path.join(folder, f".{name}.tmp")
        with self._writable(folder):
            # The file itself, so that no link of that name is followed.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(prepared)
            with open(os.open(prepared, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666), "wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.rename(prepared, target)
            if durable:
                _sync_folder(folder)

    @contextlib.contextmanager
    def _writable(self, folder: str) -> Iterator[None]:
        with self._told(folder):
            os.makedirs(folder, exist_ok=True)
            yield

    @contextlib.contextmanager
    def _told(self, path: str) -> Iterator[None]:
        """Raise the system's error as one that says what keeps this storage from being changed."""
        try:
            yield
        except OSError as error:
            raise resources.exhausted(error) or SettingError(
                f"storage {self._root!r} can't be written: {error.strerror} ({error.filename or path}); "
                "set storage in [millrace] or --millrace-storage to a folder that can"
            ) from None


@contextlib.contextmanager
def readable(path: str) -> Iterator[None]:
    """Raise the system's error as an AccessError that says what can't be read."""
    try:
        yield
    except OSError as error:
        raise AccessError(
            f"{error.filename or path} can't be read: {error.strerror}; let this user read it, or run as one that may"
        ) from None


def _walk(folder: str, name: str, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[str]:
    """Yield the files below a folder, through links; with a name, those called so that lie below no other.

    above: the folders on the way, by device and number; a link back to one of them is not followed. Raises AccessError.
    """
    with readable(folder):
        try:
            here = os.stat(folder)
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
    if (here.st_dev, here.st_ino) in above:
        return
    if any(entry.name == name and entry.is_file() for entry in entries):
        # What a manifest describes lies beside it or below, so that no other manifest lies there.
        yield os.path.join(folder, name)
        return
    above |= {(here.st_dev, here.st_ino)}
    for entry in entries:
        with readable(entry.path):
            is_folder = entry.is_dir()
            if entry.is_symlink() and not os.path.exists(entry.path):
                raise links.leads_nowhere(entry.path)
        if is_folder and entry.name not in _FOREIGN:
            yield from _walk(entry.path, name, above)
        elif not is_folder and not name and not _is_temporary(entry.name):
            yield entry.path


def read_all(storage: Storage, paths: Sequence[str]) -> list[Versioned | None]:
    """Return many files, several at a time where each is a request; in the order of their paths."""
    if os.path.isabs(storage.uri("")):  # a thread takes longer than a small file of this machine
        return [storage.read(path) for path in paths]
    # Google's clients keep ten connections; any more would be made for one call each, with a warning.
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(storage.read, paths))


def conflict_retries() -> "Iterator[tenacity.AttemptManager]":
    """Return attempts at a read-then-conditional-write, with a growing pause, until nobody else writes in between."""
    import tenacity

    return iter(
        tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(ConflictError),
            stop=tenacity.stop_after_delay(60),
            wait=tenacity.wait_random_exponential(multiplier=0.01, max=2),
            reraise=True,
        )
    )


def crc32c(data: bytes) -> str:
    """Return the CRC-32C of some bytes, as Cloud Storage computes it, in hex."""
    import google_crc32c

    return f"{google_crc32c.value(data):08x}"


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


@contextlib.contextmanager
def _locked(handle: int, unless_held: str = "") -> Iterator[None]:
    """Hold the lock of an open file or folder, and close the file or folder.

    unless_held: what the lock is called that is not waited for: Waiting is raised while another process holds the lock.
    """
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if unless_held else 0))
        except BlockingIOError:
            raise Waiting("another run is at work on it", on=f"another run ({unless_held})") from None
        yield
    finally:
        os.close(handle)


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

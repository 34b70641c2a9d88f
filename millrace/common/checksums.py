"""Whether files are as they were written: bytes and CRC-32C, as manifests say them and Cloud Storage computes them."""

import functools
import os
from typing import NamedTuple

from millrace.common import links
from millrace.errors import AccessError, DamagedError

#: Bytes read at a time.
_PIECE = 1 << 20


class Input(NamedTuple):
    """A file to read: its path, the CRC-32C (hex) of what was written, "" where nobody says, and how many bytes."""

    path: str
    crc32c: str = ""
    size: int = 0

    def check(self, size: int, crc32c: str | None) -> None:
        """Raise DamagedError unless what is there is what was written.

        size, crc32c: of what is there, None where they are not known.
        """
        if not self.crc32c:
            return
        found = "" if crc32c is None else f" with the checksum {crc32c}"
        if size != self.size or crc32c not in (None, self.crc32c):
            written = f"{self.size:,} with {self.crc32c} were written"
            raise DamagedError(f"{self.path} is damaged: it has {size:,} bytes{found}, but {written}")

    def check_bytes(self, data: bytes) -> None:
        """Raise DamagedError unless all the bytes that are there are those that were written."""
        if self.crc32c:
            import google_crc32c

            self.check(len(data), f"{google_crc32c.value(data):08x}")

    def check_here(self, at: str = "") -> None:
        """Raise DamagedError unless a file of this machine is as it was written; read once until somebody writes to it.

        at: where a copy of the file lies, if the copy is to be looked at. Raises AccessError for what can't be reached.
        """
        if not self.crc32c:
            return
        place = at or self.path
        try:
            size = os.stat(place).st_size
            # A file of another size is another file, so that nothing more has to be read.
            self.check(size, of_file(place) if size == self.size else None)
        except FileNotFoundError:
            links.check(place)
            raise DamagedError(f"{self.path} was written, but is not there any more") from None
        except PermissionError as error:
            raise AccessError(f"{self.path} can't be read: {error.strerror}; let this user read it") from None
        except OSError as error:
            raise DamagedError(f"{self.path} is damaged: {error.strerror}") from None


def of_file(path: str) -> str:
    """Return the CRC-32C of a file of this machine, in hex, computed once a process until somebody writes to it."""
    there = os.stat(path)
    return _computed(path, there.st_size, there.st_mtime_ns, there.st_ino)


@functools.lru_cache(maxsize=100_000)
def _computed(path: str, size: int, changed: int, number: int) -> str:
    import google_crc32c

    found = google_crc32c.Checksum()
    with open(path, "rb", buffering=0) as stream:
        while piece := stream.read(_PIECE):
            found.update(piece)
    return str(found.hexdigest(), "ascii")

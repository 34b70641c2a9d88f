"""Bytes as they are stored → bytes as they are meant: gzip, bzip2 and Zstandard, told by content, bounded in memory."""

import contextlib
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import IO, TYPE_CHECKING, Any

from millrace.errors import SourceError

if TYPE_CHECKING:
    import zstandard

_CHUNK = 1 << 20


@contextlib.contextmanager
def told(uri: str) -> Iterator[None]:
    """Raise SourceError for what reading a broken file raises."""
    import zstandard

    try:
        yield
    except zstandard.ZstdError as error:
        if "too much memory" not in str(error):
            raise SourceError(f"source {uri} is broken: {error}") from None
        raise SourceError(
            f"source {uri} was compressed with a window of more than 128 MiB (zstd --long), which is as much memory as "
            "reading it would take; compress it with --long=27 at most"
        ) from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise SourceError(f"source {uri} is broken: {error}") from None


class Bounded(io.RawIOBase):
    """A stream that ends in a SourceError where it is broken or goes on for too long.

    our_errors: turns what reading raises into errors of the source.
    """

    def __init__(
        self, stream: IO[bytes], uri: str, max_bytes: int, our_errors: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._stream, self._uri, self._max, self._left = stream, uri, max_bytes, max_bytes
        self._our_errors = our_errors

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0 or size > self._left + 1:
            size = self._left + 1
        with told(self._uri), self._our_errors():
            data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise SourceError(
                f"source {self._uri} holds more than {self._max:,} bytes; "
                "raise the setting max_source_bytes if it should"
            )
        return data

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


_GZIP, _BZIP2, _ZSTANDARD = b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd"


def is_packed(first: bytes) -> bool:
    """Return whether a file that begins so is compressed."""
    return first.startswith((_GZIP, _BZIP2, _ZSTANDARD))


def unpacked(raw: IO[bytes]) -> IO[bytes]:
    """Return a stream that can be sought, without its compression; the same bytes where it has none."""
    head = raw.read(4)
    raw.seek(0)
    if head.startswith(_GZIP):
        import gzip

        return io.BufferedReader(gzip.GzipFile(fileobj=raw, mode="rb"), _CHUNK)
    if head.startswith(_BZIP2):
        import bz2

        return bz2.BZ2File(raw)
    if head == _ZSTANDARD:
        return io.BufferedReader(_Zstd(raw), _CHUNK)
    return raw


class _Zstd(io.RawIOBase):
    """Frames of Zstandard, decompressed; unlike zstandard's own reader it does not take a broken end for the end."""

    #: Compressed bytes taken at a time; they become 32 MiB at most.
    _PIECE = 1024

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw, self._ready = raw, memoryview(b"")
        self._frame: zstandard.ZstdDecompressionObj | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._ready and (piece := self._raw.read(self._PIECE)):
            self._ready = memoryview(b"".join(self._decompressed(piece)))
        if not self._ready and self._frame is not None:
            raise EOFError("it ends within a frame")
        length = min(len(buffer), len(self._ready))
        buffer[:length], self._ready = self._ready[:length], self._ready[length:]
        return length

    def _decompressed(self, piece: bytes) -> Iterator[bytes]:
        import zstandard

        while piece:
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            yield self._frame.decompress(piece)
            piece = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None

"""Where records come from: a source's name → the URIs that hold its records → streams of bytes.

A source is `sample://` (generated), a path or glob, or a file://, gs:// or http(s):// URI. A strftime field, as in
`posts-{date:%Y-%m-%d}.jsonl.gz`, selects a day's files; a source without one is an archive of many days.
"""

import contextlib
import datetime
import glob
import hashlib
import io
import os
import re
import string
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TypeVar, cast
from urllib.parse import unquote, urlsplit

from pipelines import gcs
from pipelines.errors import AccessError, ServiceError, SourceBusyError, SourceError

if TYPE_CHECKING:
    import requests
    import zstandard

T = TypeVar("T")

SAMPLE = "sample://"
_BUSY = {408, 425, 429, 500, 502, 503, 504}
_GONE = {404, 410}
_CHUNK = 1 << 20
#: Bytes taken of an object of Cloud Storage at a time: each is a request.
_RANGE = 16 << 20
_LONGEST_PAUSE = 30.0


@dataclass(frozen=True)
class Patience:
    """How servers are asked: how often, with what pause (seconds, each twice the last), and how long they may be mute.

    Cloud Storage's client counts no attempts: it is given the time that the pauses take.
    """

    attempts: int = 7
    pause: float = 0.5
    connect_timeout: float = 10
    read_timeout: float = 60

    @property
    def timeout(self) -> tuple[float, float]:
        """Seconds to connect, and seconds without a byte, before a request counts as failed."""
        return self.connect_timeout, self.read_timeout

    @property
    def seconds(self) -> float:
        """All pauses together."""
        return sum(min(_LONGEST_PAUSE, self.pause * float(2**n)) for n in range(self.attempts - 1))


_patience = Patience()


def set_patience(patience: Patience) -> Patience:
    """From now on servers are asked like this, by this process; returns how it was asked before."""
    global _patience
    before, _patience = _patience, patience
    return before


def check(source: str) -> None:
    """Raises SourceError, with the reason, for a name that can't be a source."""
    scheme = _scheme(source)
    if scheme not in ("", "file", "gs", "http", "https", "sample"):
        raise SourceError(
            f"source {source!r} has the scheme {scheme}://; "
            "allowed are sample://, a path or glob, file://, gs://, http(s)://"
        )
    if scheme == "sample" and source != SAMPLE:
        raise SourceError(f"source {source!r}: the built-in sample is called {SAMPLE}")
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(source) if field is not None]
        first, second = (_at(source, day) for day in (datetime.date(2001, 2, 3), datetime.date(2002, 3, 4)))
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise SourceError(f"source {source!r}: a field is written {{date:%Y-%m-%d}} ({error})") from None
    if fields and first == second:
        raise SourceError(f"source {source!r}: its field gives every day the same name; write {{date:%Y-%m-%d}}")
    if scheme == "gs":
        gcs.split(first)


def is_archive(source: str) -> bool:
    """Whether a source holds many days at once: it has no field for the date."""
    return source != SAMPLE and all(field is None for _, field, _, _ in string.Formatter().parse(source))


def is_local(source: str) -> bool:
    """Whether a source lies on this machine's disk, where other machines can't read it."""
    return source.startswith("file://") or (source != SAMPLE and "://" not in source)


def key(source: str) -> str:
    """A short name for a source, safe in a path: what people recognise, then eight hex digits that tell it apart."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", os.path.basename(source.rstrip("/")) or source).strip("-")[:40]
    return f"{stem or 'source'}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"


def resolve(source: str, date: datetime.date | None) -> list[str]:
    """The URIs of a source's files: those of a day, or an archive's (date None), sorted. [] if there are none.

    Raises SourceError where the source refuses, SourceBusyError where it does not answer.
    """
    if source == SAMPLE:
        return [f"{SAMPLE}{date}"]
    name = source if date is None else _at(source, date)
    if _scheme(name) in ("http", "https"):
        return [name] if _head(name) is not None else []
    if _scheme(name) == "gs":
        return [found.uri for found in _listed(name)]
    path = _path(name)
    found = [path] if os.path.isfile(path) else [p for p in glob.glob(path, recursive=True) if os.path.isfile(p)]
    return sorted(found)


def version(source: str) -> str:
    """What an archive's files are like now: changes when the archive does. "" if there is no such archive."""
    if _scheme(source) == "gs":
        return _digest(f"{found.uri}|{found.size}|{found.generation}" for found in _listed(source))
    marks: list[str] = []
    for uri in resolve(source, None):
        if _scheme(uri) in ("http", "https"):
            headers = _head(uri) or {}
            told = [headers[h] for h in ("etag", "last-modified", "content-length") if h in headers]
            # A server that tells nothing of the kind is believed for a day.
            marks.append("|".join([uri, *(told or [str(datetime.datetime.now(datetime.UTC).date())])]))
        else:
            stat = os.stat(uri)
            marks.append(f"{uri}|{stat.st_size}|{stat.st_mtime_ns}")
    return _digest(marks)


def _digest(marks: Iterable[str]) -> str:
    text = "\n".join(marks)
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""


@contextlib.contextmanager
def open_uri(uri: str, max_bytes: int) -> Iterator[IO[bytes]]:
    """Opens a URI for reading, decompressed by what its first bytes say (.gz, .bz2, .zst, or plain).

    Raises SourceError for what can't be read or is larger than max_bytes (as stored or decompressed), SourceBusyError
    for a server that fails as often as it is asked.
    """
    scheme = _scheme(uri)
    if scheme == "sample":
        from pipelines.posts import sample

        day = datetime.date.fromisoformat(uri.removeprefix(SAMPLE))
        yield io.BytesIO(b"".join(line + b"\n" for line in sample.lines(day)))
        return
    with contextlib.ExitStack() as stack:
        if scheme in ("http", "https"):
            import tempfile

            raw: BinaryIO = stack.enter_context(tempfile.TemporaryFile())
            _download(uri, raw, max_bytes)
            raw.seek(0)
        elif scheme == "gs":
            raw = cast(BinaryIO, io.BufferedReader(_object(uri, max_bytes), _RANGE))
        else:
            try:
                raw = stack.enter_context(open(_path(uri), "rb"))
            except OSError as error:
                raise SourceError(f"source {uri} can't be read: {error.strerror}") from None
        bounded = stack.enter_context(_Bounded(_decompressed(raw), uri, max_bytes))
        yield cast("IO[bytes]", bounded)


class _Bounded(io.RawIOBase):
    """A stream that ends in a SourceError where it is broken or goes on for too long."""

    def __init__(self, stream: IO[bytes], uri: str, max_bytes: int) -> None:
        self._stream, self._uri, self._max, self._left = stream, uri, max_bytes, max_bytes

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        import zstandard

        if size is None or size < 0 or size > self._left + 1:
            size = self._left + 1
        try:
            with _our_errors(self._uri):
                data = self._stream.read(size)
        except (OSError, EOFError, ValueError, zlib.error, zstandard.ZstdError) as error:
            raise SourceError(f"source {self._uri} is broken: {error}") from None
        self._left -= len(data)
        if self._left < 0:
            raise SourceError(
                f"source {self._uri} holds more than {self._max:,} bytes; "
                "raise max_source_bytes in [posts] if it should"
            )
        return data


def _decompressed(raw: BinaryIO) -> IO[bytes]:
    head = raw.read(4)
    raw.seek(0)
    if head.startswith(b"\x1f\x8b"):
        import gzip

        return io.BufferedReader(gzip.GzipFile(fileobj=raw), _CHUNK)
    if head.startswith(b"BZh"):
        import bz2

        return bz2.BZ2File(raw)
    if head == b"\x28\xb5\x2f\xfd":
        return io.BufferedReader(_Zstd(raw), 1 << 20)
    return raw


class _Zstd(io.RawIOBase):
    """Frames of Zstandard, decompressed; unlike zstandard's own reader it does not take a broken end for the end."""

    #: Compressed bytes taken at a time; they become at most some 100 MiB.
    _PIECE = 4096

    def __init__(self, raw: BinaryIO) -> None:
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


def _scheme(source: str) -> str:
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", source)
    return found.group(1).lower() if found else ""


def _path(name: str) -> str:
    return unquote(urlsplit(name).path) if _scheme(name) == "file" else os.path.expanduser(name)


def _at(source: str, date: datetime.date) -> str:
    return source.format(date=date)


@contextlib.contextmanager
def _our_errors(uri: str) -> Iterator[None]:
    """Calls what Cloud Storage answers what it is for a source."""
    try:
        yield
    except AccessError as error:
        raise SourceError(f"source {uri} can't be read: {error}") from None
    except ServiceError as error:
        raise SourceBusyError(f"source {uri} does not answer: {error}") from None


def _listed(uri: str) -> list[gcs.Found]:
    with _our_errors(uri):
        return gcs.match(uri, _patience.seconds)


def _object(uri: str, max_bytes: int) -> gcs.Reader:
    with _our_errors(uri):
        found = gcs.open_object(uri, _patience.seconds)
    if found.size > max_bytes:
        raise SourceError(f"source {uri} is larger than {max_bytes:,} bytes; raise max_source_bytes in [posts]")
    return found


def _head(uri: str) -> dict[str, str] | None:
    """The headers of an HTTP resource, names in lower case; None where there is none."""
    import requests

    def ask() -> dict[str, str] | None:
        with requests.head(uri, timeout=_patience.timeout, allow_redirects=True) as answer:
            if answer.status_code not in (403, 405, 501):
                return _checked(uri, answer)
        # Some servers answer only GET; the body is not read.
        with requests.get(uri, timeout=_patience.timeout, stream=True) as answer:
            return _checked(uri, answer)

    return _patiently(uri, ask)


def _checked(uri: str, answer: "requests.Response") -> dict[str, str] | None:
    if answer.status_code in _GONE:
        return None
    if answer.status_code in _BUSY:
        raise SourceBusyError(f"source {uri} answers {answer.status_code} {answer.reason}")
    if not answer.ok:
        raise SourceError(f"source {uri} answers {answer.status_code} {answer.reason}; may this machine read it?")
    return {name.lower(): value for name, value in answer.headers.items()}


def _download(uri: str, target: BinaryIO, max_bytes: int) -> None:
    """Streams an HTTP resource to a file; starts again where the connection breaks."""
    import requests

    def fetch() -> None:
        target.seek(0)
        target.truncate()
        with requests.get(uri, timeout=_patience.timeout, stream=True) as answer:
            headers = _checked(uri, answer)
            if headers is None:
                raise SourceError(f"source {uri} has gone since it was looked up")
            for chunk in answer.iter_content(_CHUNK):
                target.write(chunk)
                if target.tell() > max_bytes:
                    raise SourceError(
                        f"source {uri} is larger than {max_bytes:,} bytes; raise max_source_bytes in [posts]"
                    )
            expected = headers.get("content-length")
            if expected and "content-encoding" not in headers and int(expected) != target.tell():
                raise SourceBusyError(f"source {uri} broke off after {target.tell():,} of {int(expected):,} bytes")

    _patiently(uri, fetch)


def _patiently(uri: str, action: Callable[[], T]) -> T:
    """Asks again, with a growing pause, while the server is busy or the connection breaks."""
    import requests
    import tenacity

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(SourceBusyError),
        stop=tenacity.stop_after_attempt(_patience.attempts),
        wait=tenacity.wait_exponential_jitter(initial=_patience.pause, max=_LONGEST_PAUSE, jitter=_patience.pause),
        reraise=True,
    )
    def attempt() -> T:
        try:
            return action()
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise SourceBusyError(f"source {uri} does not answer: {error}") from None
        except requests.RequestException as error:
            raise SourceError(f"source {uri} can't be read: {error}") from None

    return attempt()

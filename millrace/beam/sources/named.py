"""Where records come from: a source's name → the URIs that hold its records → streams of bytes.

A source is a path or glob, or a file://, gs:// or http(s):// URI. A strftime field, as in
`posts-{date:%Y-%m-%d}.jsonl.gz`, selects a day's files; a source without one is an archive of many days. A workflow may
generate sources of its own, of every day; each is named by its scheme alone, such as sample://.
"""

import contextlib
import datetime
import hashlib
import io
import os
import re
import string
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import IO, BinaryIO, NamedTuple, TypeAlias, cast
from urllib.parse import unquote, urlsplit

from millrace.beam import gcs
from millrace.beam.sources import downloads, paths
from millrace.beam.sources.unpacking import Bounded, told, unpacked
from millrace.common import secrets
from millrace.common.text import plain
from millrace.errors import AccessError, ServiceError, SourceBusyError, SourceError

#: Sources that a workflow generates: name → the lines of a day, without their ends.
Generated: TypeAlias = Mapping[str, Callable[[datetime.date], Iterable[bytes]]]
NOTHING: Generated = {}
#: Bytes that one request takes of an object of Cloud Storage.
_RANGE = 16 << 20
_HTTP = ("http", "https")
_READ = ("", "file", "gs", *_HTTP)


def named(text: str) -> str:
    """Return sources as a setting says them, with the variables of paths filled in: ${DATA}/{date:%Y-%m-%d}.jsonl.

    Variables of http(s):// URLs, where secrets stand, stay as they are; they are filled in when a server is asked.
    Raises SourceError for a variable that is not set.
    """
    url = re.compile(r"[\"']?https?://", re.IGNORECASE)
    return re.sub(r"\S+", lambda word: word[0] if url.match(word[0]) else secrets.expanded(word[0]), text)


def check(source: str, generated: Collection[str] = ()) -> None:
    """Raise SourceError, with the reason, for a name that can't be a source. generated: names of those that can be."""
    scheme = _scheme(source)
    secrets.refuse(source)
    shown = secrets.redacted(source)
    try:
        source.encode()
    except UnicodeEncodeError:
        raise SourceError(f"source {shown!r} is not UTF-8; write it as file:///… with %XX for such bytes") from None
    if scheme not in _READ and f"{scheme}://" not in generated:
        allowed = ", ".join([*generated, "a path or glob", "file://", "gs://", "http(s)://"])
        raise SourceError(f"source {shown!r} has the scheme {scheme}://; allowed are {allowed}")
    if scheme not in _READ and not is_generated(source):
        raise SourceError(f"source {shown!r}: the built-in {scheme} is called {scheme}://")
    try:
        fields = _fields(source)
        first, second = (_at(source, day) for day in (datetime.date(2001, 2, 3), datetime.date(2002, 3, 4)))
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise SourceError(
            f"source {shown!r}: a field is written {{date:%Y-%m-%d}}, any other brace twice ({error})"
        ) from None
    if fields and first == second:
        raise SourceError(f"source {shown!r}: its field gives every day the same name; write {{date:%Y-%m-%d}}")
    if scheme == "gs" and "//" in "/" + gcs.split(first)[1]:
        raise SourceError(f"source {shown!r} has a folder without a name (//), which BigQuery can't read; write one /")
    if scheme in _HTTP and not _is_url(first):
        raise SourceError(f"source {shown!r} is no URL: it names no host, or a port that is no number")


def _fields(source: str) -> list[str]:
    return [field for _, field, _, _ in string.Formatter().parse(_template(source)) if field is not None]


def _template(source: str) -> str:
    """Return a source for str.format, which must not take a variable for a field."""
    return secrets.VARIABLE.sub(r"${{\1}}", source)


def _is_url(source: str) -> bool:
    try:
        parts = urlsplit(secrets.VARIABLE.sub("1", source))
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def is_generated(source: str) -> bool:
    """Return whether a workflow generates a source, which is a scheme of the workflow's own and nothing else."""
    scheme = _scheme(source)
    return scheme not in _READ and source == f"{scheme}://"


def is_archive(source: str) -> bool:
    """Return whether a source holds many days at once, because no field of the date stands in its name."""
    return not is_generated(source) and not _fields(source)


def is_local(source: str) -> bool:
    """Return whether only this machine can read a source: it is on the machine's disk, or its secrets are."""
    if _scheme(source) in _HTTP:
        return secrets.from_here(source)
    return _scheme(source) in ("", "file")


def key(source: str) -> str:
    """Return a short name for a source, safe in a path: what people recognise, then eight hex digits that tell it
    apart.
    """
    stem = re.sub(r"[^A-Za-z0-9]+", "-", os.path.basename(source.rstrip("/")) or source).strip("-")[:40]
    return f"{stem or 'source'}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"


class Stored(NamedTuple):
    """A file of a source: its URI, its bytes (0 where they are not known before it is read), and what is another text
    once somebody has written to the file.
    """

    uri: str
    size: int = 0
    version: str = ""


def resolve(source: str, date: datetime.date | None, redirect_hosts: Sequence[str] = ()) -> list[str]:
    """Return the URIs of a source's files, sorted: those of a day, or an archive's (date None). [] if there are none.

    Raises SourceError where the source refuses, SourceBusyError where it does not answer.
    """
    return [file.uri for file in stored(source, date, redirect_hosts)]


def stored(source: str, date: datetime.date | None, redirect_hosts: Sequence[str] = ()) -> list[Stored]:
    """Return the files that `resolve` tells the URIs of."""
    if is_generated(source):
        return [Stored(f"{source}{date}")]
    name = _literal(source) if date is None else _at(source, date)
    if _scheme(name) in _HTTP:
        return [Stored(name)] if downloads.head(name, redirect_hosts) is not None else []
    if _scheme(name) == "gs":
        return [Stored(found.uri, found.size, str(found.generation)) for found in _listed(name)]
    return [_stored(uri) for uri in paths.files(_path(name))]


def _stored(uri: str) -> Stored:
    try:
        there = os.stat(_path(uri))
    except OSError:  # gone meanwhile, which is told where the file is read
        return Stored(uri)
    return Stored(uri, there.st_size, _written(there))


def _written(there: os.stat_result) -> str:
    return f"{there.st_ino}-{there.st_size}-{there.st_mtime_ns}"


def version(source: str, redirect_hosts: Sequence[str] = ()) -> str:
    """Return what an archive's files are like, which changes when the archive does. "" if there is no such archive."""
    source = _literal(source)
    if _scheme(source) == "gs":
        return _digest(f"{found.uri}|{found.size}|{found.generation}" for found in _listed(source))
    if _scheme(source) in _HTTP:
        if (headers := downloads.head(source, redirect_hosts)) is None:
            return ""
        told = [headers[h] for h in ("etag", "last-modified", "content-length") if h in headers]
        # A server that does not say when a file changed is taken to change it once a day.
        return _digest(["|".join([source, *(told or [str(datetime.datetime.now(datetime.UTC).date())])])])
    stats = ((uri, os.stat(_path(uri))) for uri in paths.files(_path(source)))
    return _digest(f"{uri}|{stat.st_size}|{stat.st_mtime_ns}" for uri, stat in stats)


def _digest(marks: Iterable[str]) -> str:
    text = "\n".join(marks)
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""


@contextlib.contextmanager
def open_uri(
    uri: str,
    max_bytes: int,
    max_seconds: float = 3600,
    redirect_hosts: Sequence[str] = (),
    generated: Generated = NOTHING,
) -> Iterator[IO[bytes]]:
    """Open a URI for reading, decompressed by what its first bytes say (.gz, .bz2, .zst, or plain).

    Raises SourceError for what can't be read or is larger than max_bytes (as stored or decompressed), SourceBusyError
    for a server that fails as often as it is asked, or does not send all within max_seconds.
    """
    scheme = _scheme(uri)
    if lines := generated.get(f"{scheme}://"):
        day = datetime.date.fromisoformat(uri.partition("://")[2])
        yield io.BytesIO(b"".join(line + b"\n" for line in lines(day)))
        return
    with contextlib.ExitStack() as stack:
        packed = False
        if scheme in _HTTP:
            import tempfile

            raw: BinaryIO = stack.enter_context(tempfile.TemporaryFile())
            packed = downloads.download(uri, raw, max_bytes, max_seconds, redirect_hosts)
            raw.seek(0)
        elif scheme == "gs":
            raw = cast(BinaryIO, io.BufferedReader(_object(uri, max_bytes), _RANGE))
        else:
            raw = stack.enter_context(_open_path(uri))
        with told(plain(uri)), _our_errors(uri):
            stream = unpacked(unpacked(raw) if packed else raw)
        bounded = stack.enter_context(Bounded(stream, plain(uri), max_bytes, lambda: _our_errors(uri)))
        yield cast("IO[bytes]", bounded)


@contextlib.contextmanager
def open_stored(file: Stored) -> Iterator[IO[bytes]]:
    """Open a file on a disk or Cloud Storage, its bytes as they are, for reading from any place.

    Raises SourceError for what can't be read, SourceBusyError for a file that is another than was found, also when it
    has been read.
    """

    def check(version: str) -> None:
        if version != file.version:
            raise SourceBusyError(f"source {plain(file.uri)} was written to while it was read; run again")

    with told(plain(file.uri)), _our_errors(file.uri):
        if _scheme(file.uri) == "gs":
            found = gcs.open_object(file.uri, downloads.patience().seconds)
            check(str(found.generation))
            yield cast("IO[bytes]", found)  # which reads that generation
            return
        with _open_path(file.uri) as stream:
            check(_written(os.fstat(stream.fileno())))
            yield stream
            check(_written(os.fstat(stream.fileno())))


def _open_path(uri: str) -> BinaryIO:
    try:
        return open(_path(uri), "rb")
    except OSError as error:
        raise SourceError(f"source {plain(uri)} can't be read: {error.strerror}") from None


def _scheme(source: str) -> str:
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", source)
    return found.group(1).lower() if found else ""


def _path(name: str) -> str:
    return (
        unquote(urlsplit(name).path, errors="surrogateescape") if _scheme(name) == "file" else os.path.expanduser(name)
    )


def _literal(source: str) -> str:
    """Return a source without fields as it is, its doubled braces single."""
    return _template(source).format() if not _fields(source) else source


def _at(source: str, date: datetime.date) -> str:
    return _template(source).format(date=date)


@contextlib.contextmanager
def _our_errors(uri: str) -> Iterator[None]:
    """Raise an error of Cloud Storage as an error of the source that is read there."""
    try:
        yield
    except AccessError as error:
        raise SourceError(f"source {plain(uri)} can't be read: {error}") from None
    except ServiceError as error:
        raise SourceBusyError(f"source {plain(uri)} does not answer: {error}") from None


def _listed(uri: str) -> list[gcs.Found]:
    with _our_errors(uri):
        return gcs.match(uri, downloads.patience().seconds)


def _object(uri: str, max_bytes: int) -> gcs.Reader:
    with _our_errors(uri):
        found = gcs.open_object(uri, downloads.patience().seconds)
    if found.size > max_bytes:
        raise SourceError(f"source {plain(uri)} is larger than {max_bytes:,} bytes; raise the setting max_source_bytes")
    return found

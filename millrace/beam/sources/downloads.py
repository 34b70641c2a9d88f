"""A source's file over HTTP: asked for patiently, redirected only where that is allowed, and bounded in bytes and time.

Proxies are those of the environment (https_proxy, no_proxy), and a user and password that the URL does not have come
from ~/.netrc, or the file that NETRC names: both as `requests` has them.
"""

import contextlib
import datetime
import email.utils
import fnmatch
import http.client
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import urljoin, urlsplit

from millrace.common import secrets
from millrace.common.text import one_line
from millrace.errors import MillraceError, SourceBusyError, SourceError

if TYPE_CHECKING:
    import requests

T = TypeVar("T")

_BUSY = {408, 425, 429, 500, 502, 503, 504}
_GONE = {404, 410}
_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_REDIRECTS = 10
_CHUNK = 1 << 20
_LONGEST_PAUSE = 30.0


@dataclass(frozen=True)
class Patience:
    """How servers are asked: how often, with what pause (seconds, each twice the last), and how long they may be mute.

    longest_wait: the longest time for which a server that asks to be left alone is waited for. look_up: a bound on the
    whole of a look whether a file is there. Cloud Storage's client counts no attempts; it is given the time that the
    pauses take.
    """

    attempts: int = 7
    pause: float = 0.5
    connect_timeout: float = 10
    read_timeout: float = 60
    longest_wait: float = 600
    look_up: float = 300

    @property
    def timeout(self) -> tuple[float, float]:
        """Seconds to connect, and seconds without a byte, before a request counts as failed."""
        return self.connect_timeout, self.read_timeout

    @property
    def seconds(self) -> float:
        """All pauses together."""
        return sum(min(_LONGEST_PAUSE, self.pause * float(2**n)) for n in range(self.attempts - 1))


_patience = Patience()


def patience() -> Patience:
    """Return how servers are asked now."""
    return _patience


def set_patience(patience: Patience) -> Patience:
    """Have this process ask servers like this from now on; return how it asked them before."""
    global _patience
    before, _patience = _patience, patience
    return before


def head(uri: str, redirect_hosts: Sequence[str] = ()) -> dict[str, str] | None:
    """Return the headers of an HTTP resource, names in lower case; None where there is none."""

    def ask(seconds: float) -> dict[str, str] | None:
        with _asked("HEAD", uri, redirect_hosts, seconds) as (answer, _):
            # Some servers answer only GET; the body is not read.
            if answer.status_code not in (204, 403, 405, 501):
                return _checked(uri, answer)
        with _asked("GET", uri, redirect_hosts, seconds) as (answer, _):
            return _checked(uri, answer)

    return _patiently(uri, ask, _patience.look_up, f"did not answer within {_patience.look_up:,.0f} seconds")


def download(uri: str, target: BinaryIO, max_bytes: int, max_seconds: float, redirect_hosts: Sequence[str]) -> bool:
    """Stream an HTTP resource to a file, from the beginning again where the connection breaks.

    Returns whether the server packed it (Content-Encoding: gzip) for the way.
    """
    ends: list[int] = []

    def fetch(seconds: float) -> bool:
        target.seek(0)
        target.truncate()
        try:
            with _asked("GET", uri, redirect_hosts, seconds) as (answer, watch):
                return _receive(uri, answer, watch, target, max_bytes)
        except SourceBusyError:
            if (end := target.tell()) and end in ends:
                raise SourceError(
                    f"source {uri} broke off twice after the same {end:,} bytes: the server has it cut, or tells a "
                    "wrong length"
                ) from None
            ends.append(end)
            raise

    late = f"did not arrive within {max_seconds:,.0f} seconds (the setting max_transfer_seconds)"
    return _patiently(uri, fetch, max_seconds, late)


def _receive(uri: str, answer: "requests.Response", watch: "_Watch", target: BinaryIO, max_bytes: int) -> bool:
    headers = _checked(uri, answer)
    if headers is None:
        raise SourceError(f"source {uri} has gone since it was looked up")
    packed = {each.strip().lower() for each in headers.get("content-encoding", "").split(",")} - {"", "identity"}
    if packed - {"gzip", "x-gzip"}:
        raise SourceError(f"source {uri} comes in an encoding that was not asked for, {_said(uri, ', '.join(packed))}")
    length = None if "transfer-encoding" in headers else _length(uri, headers.get("content-length"))
    larger = SourceError(f"source {uri} is larger than {max_bytes:,} bytes; raise the setting max_source_bytes")
    if length is not None and length > max_bytes:
        raise larger
    while data := answer.raw.read(_CHUNK, decode_content=False):
        target.write(data)
        if target.tell() > max_bytes:
            raise larger
    if watch.expired or (length is not None and length != target.tell()):
        raise SourceBusyError(f"source {uri} broke off after {target.tell():,} bytes")
    return bool(packed)


def _length(uri: str, told: str | None) -> int | None:
    """Return the Content-Length, which a server may have said more than once.

    Raises SourceError for a length that is none.
    """
    if told is None:
        return None
    lengths = {each.strip() for each in told.split(",")}
    if len(lengths) > 1 or not re.fullmatch(r"[0-9]{1,18}", one := lengths.pop()):
        raise SourceError(f"source {uri} tells a length that is none, Content-Length: {_said(uri, told)}")
    return int(one)


def _checked(uri: str, answer: "requests.Response") -> dict[str, str] | None:
    """Return the headers of an answer; None for one that says that there is nothing."""
    status = f"{answer.status_code} {_said(uri, answer.reason or '')}".strip()
    if answer.status_code in _GONE:
        return None
    if answer.status_code in _BUSY:
        wait = _seconds(answer.headers.get("Retry-After", ""))
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=wait)
        asks = f" and asks to be left alone until {until:%Y-%m-%d %H:%M:%S} UTC; run again then" if wait else ""
        busy = SourceBusyError(f"source {uri} answers {status}{asks}")
        busy.wait = wait
        raise busy
    if answer.status_code == 206:
        raise SourceError(f"source {uri} answers {status}: a part, where the whole was asked for")
    if answer.status_code >= 400:
        raise SourceError(f"source {uri} answers {status}; may this machine read it?")
    if answer.status_code not in (200, 203):
        raise SourceError(f"source {uri} answers {status} instead of 200 OK")
    return {name.lower(): value for name, value in answer.headers.items()}


#: Longer waits are all the same: a year.
_AGES = 365 * 86_400.0


def _seconds(retry_after: str) -> float:
    """Return what a Retry-After asks for: seconds, or a date; 0 for anything else."""
    if re.fullmatch(r"\s*[0-9]+\s*", retry_after, re.ASCII):
        return min(_AGES, float(retry_after))
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        moment = email.utils.parsedate_to_datetime(retry_after)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
        return min(_AGES, max(0.0, (moment - datetime.datetime.now(datetime.UTC)).total_seconds()))
    return 0.0


def _said(uri: str, text: str) -> str:
    """Return what a server, or a library that quotes it, said: one line without the URL's secrets."""
    return one_line(secrets.hidden(text, uri), 200)


# ---------------------------------------------------------------------------------------------- requests, redirects


@contextlib.contextmanager
def _asked(
    method: str, uri: str, redirect_hosts: Sequence[str], seconds: float
) -> Iterator[tuple["requests.Response", "_Watch"]]:
    """Yield the answer to a request, its body not read yet, redirects followed where they may be; for so many seconds.

    Raises SourceError and SourceBusyError, also for what goes wrong while the body is read.
    """
    import requests
    from urllib3.exceptions import HTTPError

    try:
        with (
            _Watch(seconds) as watch,
            watch.session() as session,
            _followed(session, method, uri, redirect_hosts) as answer,
        ):
            if watch.expired:  # and so the headers may be cut
                raise SourceBusyError(f"source {uri} took too long")
            yield answer, watch
    except (requests.RequestException, HTTPError) as error:
        raise _our_error(uri, error) from None


def _followed(session: "requests.Session", method: str, uri: str, redirect_hosts: Sequence[str]) -> "requests.Response":
    """Return the answer at the end of all redirects."""
    from requests.utils import get_auth_from_url

    first = url = secrets.filled(uri)
    # As bytes, because requests takes text for Latin-1.
    auth = tuple(part.encode() for part in get_auth_from_url(url))
    for _ in range(_MOST_REDIRECTS):
        answer = session.request(
            method,
            url,
            headers={"Accept-Encoding": "gzip", "Connection": "close"},
            auth=auth if any(auth) else None,  # type: ignore[arg-type]
            timeout=_patience.timeout,
            stream=True,
        )
        where = answer.headers.get("Location") if answer.status_code in _REDIRECTS else None
        if where is None:
            return answer
        answer.close()
        # Servers write what is not ASCII as UTF-8, which http.client takes for Latin-1.
        where = where.encode("latin-1", "replace").decode("utf-8", "replace")
        target = _redirected(uri, first, url, where, redirect_hosts)
        if session.should_strip_auth(url, target):  # type: ignore[no-untyped-call]
            auth = ()
        url = target
    raise SourceError(f"source {uri} redirects more than {_MOST_REDIRECTS - 1} times")


def _redirected(uri: str, first: str, url: str, where: str, redirect_hosts: Sequence[str]) -> str:
    """Return the URL to which an answer redirects.

    Raises SourceError for one that leaves https, or that is on another host that the settings don't name.
    """
    try:
        target = urljoin(url, where)
        old, new = urlsplit(url), urlsplit(target)
        host, _ = new.hostname, new.port
    except ValueError:
        host = None
    if not host or new.scheme not in ("http", "https"):
        raise SourceError(f"source {uri} redirects to what is no http(s):// URL")
    if old.scheme == "https" and new.scheme != "https":
        raise SourceError(f"source {uri} redirects from https:// to http://{_said(uri, host)}, which is not followed")
    if host != urlsplit(first).hostname and not any(fnmatch.fnmatchcase(host, name) for name in redirect_hosts):
        raise SourceError(
            f"source {uri} redirects to another host, {_said(uri, host)}; name it in the setting redirect_hosts if "
            "that is right"
        )
    return target


class _Answer(http.client.HTTPResponse):
    """An answer whose headers are whole: a broken one hides those after it, such as the length."""

    def begin(self) -> None:
        super().begin()
        if unread := self.msg.get_payload():
            raise http.client.HTTPException(f"with the header {str(unread).splitlines()[0]!r}")


class _Watch:
    """Ends the connections of a request after some seconds, whatever they are at, even reads of a slow server."""

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(max(0.0, seconds), self._expire)
        self._timer.daemon = True

    def __enter__(self) -> "_Watch":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            for each in self._sockets:
                each.close()
            self._sockets.clear()

    def _add(self, connection: socket.socket) -> None:
        with self._lock:
            # A duplicate, because TLS takes the first one's place, and a shutdown of either socket shuts down both.
            self._sockets.append(connection.dup())
        if self.expired:
            self._expire()

    def _expire(self) -> None:
        with self._lock:
            self.expired = True
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def session(self) -> "requests.Session":
        """Return a session whose connections are watched, and that follows no redirect by itself."""
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
        from urllib3.connection import HTTPConnection, HTTPSConnection

        # What urllib3 logs below an error shows URLs as they are asked for, secrets included.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        watch = self

        class Plain(HTTPConnection):
            response_class = _Answer

            def _new_conn(self) -> socket.socket:
                connection = super()._new_conn()
                watch._add(connection)
                return connection

        class Secure(HTTPSConnection):
            response_class = _Answer

            def _new_conn(self) -> socket.socket:
                connection = super()._new_conn()
                watch._add(connection)
                return connection

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        class Adapter(HTTPAdapter):
            def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
                super().init_poolmanager(*args, **kwargs)
                self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}

            def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
                manager = super().proxy_manager_for(proxy, **kwargs)
                if not str(proxy).lower().startswith("socks"):
                    manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
                return manager

        class Session(requests.Session):
            def get_redirect_target(self, resp: requests.Response) -> None:
                """Return None, because requests would else read the whole of an answer that redirects."""

        session = Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, Adapter())
        return session


# ------------------------------------------------------------------------------------------------ errors and retries


def _patiently(uri: str, action: Callable[[float], T], seconds: float, late: str) -> T:
    """Ask again, with a growing pause, while the server is busy or the connection breaks; for so many seconds in all.

    action: is called with the seconds that are left.
    """
    import tenacity

    end = time.monotonic() + seconds
    growing = tenacity.wait_exponential_jitter(initial=_patience.pause, max=_LONGEST_PAUSE, jitter=_patience.pause)

    def asked_to_wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return error.wait if isinstance(error, SourceBusyError) else 0.0

    def may_pass(error: BaseException) -> bool:
        return isinstance(error, SourceBusyError) and error.wait <= _patience.longest_wait

    @tenacity.retry(
        retry=tenacity.retry_if_exception(may_pass),
        stop=tenacity.stop_after_attempt(_patience.attempts) | tenacity.stop_before_delay(seconds),
        wait=lambda state: max(growing(state), asked_to_wait(state)),
        reraise=True,
    )
    def attempt() -> T:
        try:
            return action(end - time.monotonic())
        except MillraceError:
            if time.monotonic() >= end:
                raise SourceBusyError(f"source {uri} {late}") from None
            raise

    return attempt()


def _our_error(uri: str, error: Exception) -> MillraceError:
    """Return what went wrong with a connection or an answer, as a sentence; SourceBusyError for what may pass."""
    import requests
    from urllib3.exceptions import ProtocolError, TimeoutError

    root = _root(error)
    why = _said(
        uri, str(getattr(root, "verify_message", "") or getattr(root, "strerror", "") or root or type(root).__name__)
    )
    if isinstance(root, ssl.SSLCertVerificationError):
        return SourceError(
            f"source {uri} shows a certificate that is not to be trusted: {why}; if it is right, name the file of its "
            "authority in the environment variable REQUESTS_CA_BUNDLE"
        )
    if isinstance(root, ssl.SSLError) and not isinstance(root, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return SourceError(f"source {uri} speaks no TLS that this machine does: {why}")
    if isinstance(root, http.client.HTTPException) and not isinstance(
        root, http.client.RemoteDisconnected | http.client.IncompleteRead
    ):
        return SourceError(f"source {uri} answers what is no HTTP: {type(root).__name__} {why}")
    cut = requests.exceptions.ChunkedEncodingError
    if isinstance(error, requests.ConnectionError | requests.Timeout | cut | ProtocolError | TimeoutError):
        return SourceBusyError(f"source {uri} does not answer: {why}")
    return SourceError(f"source {uri} can't be read: {why}")


def _root(error: BaseException) -> BaseException:
    """Return the error at the root of an error, because libraries wrap errors in each other."""
    for _ in range(20):
        inner = (getattr(error, "reason", None), *error.args, error.__cause__)
        found = next((each for each in inner if isinstance(each, BaseException)), None)
        if found is None:
            break
        error = found
    return error

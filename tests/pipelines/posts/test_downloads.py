"""A server that is slow, endless, broken or hostile holds nothing for ever, and is spoken of in one sentence."""

import contextlib
import datetime
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from email.utils import format_datetime
from pathlib import Path

import pytest
from http_source import Reply, Server, serving
from raw_server import RawServer, Script, raw_server, says

from millrace.beam.sources import downloads
from millrace.beam.sources import named as sources
from millrace.errors import MillraceError, SourceBusyError, SourceError

TEXT = b"one\ntwo\n" * 1000
MAX = 1 << 20
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(autouse=True)
def _asked_often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Servers are asked at most five times, without pauses."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    before = downloads.set_patience(downloads.Patience(attempts=5, pause=0, look_up=0.5))
    yield
    downloads.set_patience(before)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def read(uri: str, seconds: float = 10, hosts: tuple[str, ...] = (), max_bytes: int = MAX) -> bytes:
    with sources.open_uri(uri, max_bytes, seconds, hosts) as stream:
        return b"".join(iter(lambda: stream.read(9999), b""))


def failure(uri: str, seconds: float = 10, hosts: tuple[str, ...] = ()) -> MillraceError:
    with pytest.raises(MillraceError) as caught:
        read(uri, seconds, hosts)
    assert "\n" not in str(caught.value)
    return caught.value


# ------------------------------------------------------------------------------------------------------------- time


def endless(start: bytes, piece: bytes, pause: float) -> Script:
    """Says the start, then a piece again and again, until nobody listens."""

    def script(connection: socket.socket) -> None:
        connection.sendall(start)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            connection.sendall(piece)
            time.sleep(pause)

    return script


ENDLESS = {
    "drip": endless(OK + b"Content-Length: 1000000\r\n\r\n", b"x", 0.02),
    "drip without a length": endless(OK + b"\r\n", b"x", 0.02),
    "chunks": endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.02),
    "the size of a chunk": endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0", 0.02),
    "a header": endless(OK + b"X: ", b"x", 0.02),
    "continue": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.02),
    "nothing": endless(b"", b"", 0.02),
}


@pytest.mark.parametrize("script", ENDLESS.values(), ids=ENDLESS.keys())
def test_a_slow_or_endless_server_holds_nothing_for_ever(script: Script) -> None:
    """However regularly it says something: a transfer is bounded as a whole, and a look whether a file is there."""
    with raw_server(script) as server:
        begun = time.monotonic()
        error = failure(server.url + "/x", 0.3)
        assert isinstance(error, SourceBusyError)
        assert "did not arrive within 0 seconds (the setting max_transfer_seconds)" in str(error)
        if script in (ENDLESS["a header"], ENDLESS["nothing"]):
            with pytest.raises(SourceBusyError, match="did not answer within"):
                sources.resolve(server.url + "/x", None)
        assert time.monotonic() - begun < 3


def test_an_endless_body_ends_at_its_bytes() -> None:
    with raw_server(endless(OK + b"\r\n", b"x" * 65536, 0)) as server:
        assert "is larger than 1,048,576 bytes" in str(failure(server.url + "/x"))
        assert len(server.asked) == 1


def test_a_redirects_endless_body_is_not_read() -> None:
    start = b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n"
    with raw_server(endless(start, b"x" * 65536, 0)) as server:
        assert "redirects more than 9 times" in str(failure(server.url + "/x"))
        assert len(server.asked) == 10


# ------------------------------------------------------------------------------------------------------ Retry-After


def test_retry_after_is_honoured(server: Server) -> None:
    """Seconds, or a date; what is neither is none."""
    for after, least in [("1", 1.0), ("date", 0.9), ("soon", 0.0)]:
        after = format_datetime(soon(2), usegmt=True) if after == "date" else after
        url = server.reply("/busy", Reply(429, headers={"Retry-After": after}), Reply(body=TEXT))
        begun = time.monotonic()
        assert read(url) == TEXT
        assert least <= time.monotonic() - begun < least + 2


def soon(seconds: float) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)


@pytest.mark.parametrize("after", ["86400", "9" * 400, format_datetime(soon(86400), usegmt=True)], ids=range(3))
def test_a_server_that_asks_for_long_is_an_error_at_once_that_says_until_when(after: str, server: Server) -> None:
    url = server.reply("/busy", Reply(503, headers={"Retry-After": after}))
    error = failure(url, seconds=10**6)
    assert isinstance(error, SourceBusyError)
    assert re.search(r"asks to be left alone until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC; run again then", str(error))
    assert server.count("GET /busy") == 1


def test_no_pause_goes_beyond_the_time_of_the_transfer(server: Server) -> None:
    url = server.reply("/busy", Reply(503, headers={"Retry-After": "60"}))
    begun = time.monotonic()
    assert "asks to be left alone until" in str(failure(url, seconds=5))
    assert time.monotonic() - begun < 2


# -------------------------------------------------------------------------------------------------- broken answers

BROKEN: dict[str, tuple[bytes, str]] = {
    "no number": (OK + b"Content-Length: many\r\n\r\nx", "tells a length that is none, Content-Length: many"),
    "two lengths": (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "Content-Length"),
    "negative": (OK + b"Content-Length: -1\r\n\r\nx", "tells a length that is none, Content-Length: -1"),
    "huge": (OK + b"Content-Length: " + b"9" * 400 + b"\r\n\r\nx", "tells a length that is none"),
    "too large": (OK + b"Content-Length: 1048577\r\n\r\nx", "is larger than 1,048,576 bytes"),
    "a part": (
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-0/9\r\nContent-Length: 1\r\n\r\nx",
        "answers 206 Partial Content: a part, where the whole was asked for",
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", "answers 204 No Content instead of 200 OK"),
    "no redirect": (b"HTTP/1.1 302 Found\r\nContent-Length: 1\r\n\r\nx", "answers 302 Found instead of 200 OK"),
    "another encoding": (
        OK + b"Content-Encoding: br\r\nContent-Length: 1\r\n\r\nx",
        "comes in an encoding that was not asked for, br",
    ),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n", "answers what is no HTTP"),
    "headers without end": (OK + b"X: 1\r\n" * 200 + b"\r\n", "answers what is no HTTP"),
    "a broken header": (
        OK + b"X: 1\r\nno colon\r\nContent-Length: 9\r\n\r\nx",
        "answers what is no HTTP: HTTPException",
    ),
    "a long header": (OK + b"X: " + b"x" * 100_000 + b"\r\n\r\n", "answers what is no HTTP"),
    "escapes": (
        b"HTTP/1.1 403 \x1b]0;me\x07\x9bm no\r\nContent-Length: 0\r\n\r\n",
        "answers 403 \ufffd]0;me\ufffd\ufffdm",
    ),
}


@pytest.mark.parametrize(("answer", "sentence"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_answer_is_one_sentence_and_asked_for_once(answer: bytes, sentence: str) -> None:
    """Without anything in it that a terminal would act on."""
    with raw_server(says(answer)) as server:
        error = failure(server.url + "/x")
        assert isinstance(error, SourceError)
        assert f"source {server.url}/x " in str(error)
        assert sentence in str(error)
        assert str(error).isprintable()
        assert len(server.asked) == 1


GOOD: dict[str, bytes] = {
    "the same length twice": OK + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\none",
    "a length beside chunks": OK + b"Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n",
    "no length": OK + b"\r\none",
    "less than comes": OK + b"Content-Length: 3\r\n\r\none and more",
    "repeated headers": OK + b"ETag: 1\r\nETag: 2\r\nContent-Length: 3\r\n\r\none",
    "identity": OK + b"Content-Encoding: identity\r\nContent-Length: 3\r\n\r\none",
}


@pytest.mark.parametrize("answer", GOOD.values(), ids=GOOD.keys())
def test_what_http_gives_a_meaning_is_read_so(answer: bytes) -> None:
    """RFC 9112, 6.3: chunks go before a length, and what follows a length's bytes is another answer."""
    with raw_server(says(answer)) as server:
        assert read(server.url + "/x") == b"one"
        assert len(server.asked) == 1


def test_what_libraries_log_shows_no_secret(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """urllib3 warns of broken headers, and tells of each request, with the URL that was asked for."""
    monkeypatch.setenv("TOKEN", "t0ken")
    with caplog.at_level("DEBUG"), raw_server(says(OK + b"no colon\r\n\r\none")) as server:
        failure(server.url + "/x?token=${TOKEN}")
        assert "t0ken" in server.asked[0]
        server.script = says(OK + b"\r\none")
        assert read(server.url + "/x?token=${TOKEN}") == b"one"
    assert "t0ken" not in caplog.text


def test_what_breaks_off_at_the_same_byte_again_is_not_asked_for_a_third_time() -> None:
    with raw_server(says(OK + b"Content-Length: 9\r\n\r\none")) as server:
        error = failure(server.url + "/x")
        assert isinstance(error, SourceError)
        assert "broke off twice after the same 3 bytes" in str(error)
        assert len(server.asked) == 2


# ------------------------------------------------------------------------------------------------------- redirects


def test_redirects_stay_with_the_host_unless_settings_name_another(server: Server) -> None:
    """localhost is another host than 127.0.0.1, wherever both lead."""
    server.reply("/there", Reply(body=TEXT))
    other = server.url.replace("127.0.0.1", "localhost")
    near = server.reply("/near", Reply(301, headers={"Location": "/there"}))
    far = server.reply("/far", Reply(302, headers={"Location": f"{other}/there"}))
    assert read(near) == TEXT
    assert sources.resolve(near, None) == [near]
    sentence = f"source {far} redirects to another host, localhost; name it in the setting redirect_hosts"
    assert sentence in str(failure(far))
    with pytest.raises(SourceError, match=re.escape(sentence)):
        sources.version(far)
    assert server.count("GET /far") == 1
    for hosts in (("localhost",), ("*.example", "local*")):
        assert read(far, hosts=hosts) == TEXT
        assert sources.resolve(far, None, hosts) == [far]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[", "http://127.0.0.1:x/"])
def test_a_redirect_to_no_url_is_an_error(target: str, server: Server) -> None:
    url = server.reply("/away", Reply(307, headers={"Location": target}))
    assert "redirects to what is no http(s):// URL" in str(failure(url))
    assert server.count("GET /away") == 1


def test_a_loop_of_redirects_is_left() -> None:
    with serving() as server:
        one = server.reply("/one", Reply(301, headers={"Location": "/two"}))
        server.reply("/two", Reply(301, headers={"Location": "/one"}))
        assert "redirects more than 9 times" in str(failure(one))
        assert len(server.asked) == 10


def test_proxies_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """And bounded as servers are."""
    monkeypatch.delenv("NO_PROXY")
    with raw_server(says(OK + b"Content-Length: 3\r\n\r\none")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert read("http://a.example/x") == b"one"
        assert proxy.asked[0].startswith("GET http://a.example/x HTTP/1.1\r\n")
    with raw_server(ENDLESS["drip"]) as slow:
        monkeypatch.setenv("http_proxy", slow.url)
        assert "did not arrive within" in str(failure("http://a.example/x", 0.3))


# ------------------------------------------------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that nobody but itself vouches for, with its key in the same file."""
    folder = tmp_path_factory.mktemp("tls")
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        + [*subject, "-keyout", folder / "key", "-out", folder / "certificate"],
        check=True,
        capture_output=True,
    )
    both = folder / "both"
    both.write_bytes((folder / "certificate").read_bytes() + (folder / "key").read_bytes())
    return both


@contextlib.contextmanager
def secure(script: Script, certificate: Path) -> Iterator[RawServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with raw_server(script, context) as server:
        yield server


def test_a_bad_certificate_is_an_error_at_once(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which says what is wrong with it, and where a right one's authority goes; the name has to fit, too."""
    connections: list[object] = []

    def script(connection: socket.socket) -> None:
        connections.append(connection)
        connection.sendall(OK + b"Content-Length: 3\r\n\r\none")

    with secure(script, certificate) as server:
        error = failure(server.url + "/x")
        assert isinstance(error, SourceError)
        assert "shows a certificate that is not to be trusted: self-signed certificate; " in str(error)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert read(server.url + "/x") == b"one"
        assert "not valid for 'localhost'" in str(failure(server.url.replace("127.0.0.1", "localhost")))
        assert len(connections) == 1


def test_a_server_without_tls_is_an_error_at_once(server: Server) -> None:
    assert "speaks no TLS that this machine does" in str(failure(server.url.replace("http:", "https:") + "/x"))


def test_redirects_do_not_leave_https(certificate: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    plain = server.reply("/there", Reply(body=TEXT))
    answer = f"HTTP/1.1 302 Found\r\nLocation: {plain}\r\nContent-Length: 0\r\n\r\n".encode()
    with secure(says(answer), certificate) as https:
        error = failure(https.url + "/x", hosts=("127.0.0.1",))
        assert "redirects from https:// to http://127.0.0.1, which is not followed" in str(error)
    assert server.asked == []

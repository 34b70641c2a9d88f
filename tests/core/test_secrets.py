"""Secrets of a source's URL come from the environment, and what names the source never shows them."""

import base64
from collections.abc import Iterator

import pytest
from http_source import serving
from raw_server import raw_server, says

from millrace.beam.sources import downloads
from millrace.beam.sources import named as sources
from millrace.common import secrets
from millrace.errors import MillraceError, SourceError

PASSWORD = "pä ss/w@rd:%1"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {"NO_PROXY": "127.0.0.1", "ANN": "ann", "PASSWORD": PASSWORD, "TOKEN": "t0k&n=x"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NONE", raising=False)
    before = downloads.set_patience(downloads.Patience(attempts=2, pause=0))
    yield
    downloads.set_patience(before)


@pytest.mark.parametrize(
    "source",
    [
        "https://ann:s3cret@a.example/x",
        "https://s3cret@a.example/x",
        "https://ann:s3cret@a.example",
        "https://${ANN}:s3cret@a.example/x",
        "https://ann:s3/cret@a.example/x",
        "HTTPS://:s3cret@a.example/posts-{date:%Y-%m-%d}.jsonl",
        "ftp://ann:s3cret@a.example/x",
        "gs://ann:s3cret@bucket/x",
        *(
            f"https://a.example/x?page=1&{name}=s3cret&z=1"
            for name in "token key api_key apikey access_token sig signature X-Amz-Signature X-Goog-Signature "
            "X-Amz-Security-Token client_secret password pwd auth apiKey AWSAccessKeyId app-key t%6Fken".split()
        ),
        "https://a.example/x#access_token=s3cret",
    ],
)
def test_a_literal_secret_is_refused_without_being_shown(source: str) -> None:
    """In one sentence that says how to write it."""
    with pytest.raises(SourceError) as caught:
        sources.check(source)
    assert "s3" not in str(caught.value).replace("$", "").replace("s3 ", "")
    assert "${" in str(caught.value) or "port" in str(caught.value)
    assert "s3cret" not in secrets.redacted(f"posts.source = {source}, and more")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "https://${ANN}:${PASSWORD}@a.example/x",
        "https://ann:${PASSWORD}@a.example:8080/posts-{date:%Y-%m-%d}.jsonl?token=${TOKEN}",
        "https://${TOKEN}@a.example",
        "https://a.example/x?${SAS}",
        "https://a.example/x?sig=${SIG}&monkey=1&token=",
        "https://social.example/@ann/outbox.json",
        "https://a.example/x?mail=a@b.example",
    ],
)
def test_what_holds_no_literal_secret_is_let_through_as_it_stands(source: str) -> None:
    """Its name, and so the folders of what was fetched from it, does not depend on the values."""
    sources.check(source)
    assert secrets.redacted(source) == source
    assert sources.is_archive(source) == ("{date" not in source)


def test_a_sources_key_is_what_it_always_was() -> None:
    """Of sources without secrets: storages that are there stay valid."""
    assert sources.key("https://a.example/posts-{date:%Y-%m-%d}.jsonl.gz") == "posts-date-Y-m-d-jsonl-gz-be75f9dd"
    assert sources.key("/data/posts.jsonl") == "posts-jsonl-89d81e31"


def test_variables_are_filled_in_where_they_stand() -> None:
    """Encoded as a user, a password or a parameter has to be; one that is a whole query stays as it is."""
    assert secrets.filled("https://${ANN}:${PASSWORD}@a.example/p?q=1&token=${TOKEN}") == (
        "https://ann:p%C3%A4%20ss%2Fw%40rd%3A%251@a.example/p?q=1&token=t0k%26n%3Dx"
    )
    assert secrets.filled("https://${ANN}.example/${ANN}/x?${TOKEN}") == "https://ann.example/ann/x?t0k&n=x"
    with pytest.raises(SourceError, match=r"^source https://a\.example/\?key=\$\{NONE\} needs the environment "
                       "variable NONE, which is not set$"):  # fmt: skip
        sources.resolve("https://a.example/?key=${NONE}", None)


def test_paths_variables_are_filled_in_at_once_and_urls_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", "/data/mine")
    text = "${DATA}/x-{date:%Y}.jsonl 'https://a.example/?t=${TOKEN}' gs://${ANN}/x"
    assert sources.named(text) == "/data/mine/x-{date:%Y}.jsonl 'https://a.example/?t=${TOKEN}' gs://ann/x"
    with pytest.raises(SourceError, match="needs the environment variable NONE, which is not set"):
        sources.named("${NONE}/x")


def test_the_server_gets_what_the_environment_says() -> None:
    """User and password as Basic authentication in UTF-8, and the parameter; a redirect on the same host too."""
    answers = [b"HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\none"]
    with raw_server(lambda connection: connection.sendall(answers[min(1, len(server.asked) - 1)])) as server:
        url = server.url.replace("//", "//${ANN}:${PASSWORD}@") + "/x?token=${TOKEN}"
        with sources.open_uri(url, 1000) as stream:
            assert stream.read(9) == b"one"
    assert server.asked[0].startswith("GET /x?token=t0k%26n%3Dx HTTP/1.1\r\n")
    basic = base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
    assert all(f"Authorization: Basic {basic}\r\n" in head for head in server.asked)


def test_netrc_is_honoured_and_ties_a_source_to_this_machine(
    tmp_path: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine has neither the file nor the environment: there the source can't be read."""
    netrc = f"{tmp_path}/netrc"
    with open(netrc, "w", encoding="utf-8") as file:
        file.write("machine 127.0.0.1 login ann password fromfile\n")
    monkeypatch.setenv("NETRC", netrc)
    with raw_server(says(b"HTTP/1.1 200 OK\r\n\r\none")) as server:
        assert sources.resolve(server.url + "/x", None) == [server.url + "/x"]
        assert f"Basic {base64.b64encode(b'ann:fromfile').decode()}" in server.asked[0]
        assert sources.is_local(server.url + "/x-{date:%Y-%m-%d}")
    assert sources.is_local("https://a.example/?token=${TOKEN}")
    assert not sources.is_local("https://a.example/x-{date:%Y-%m-%d}")


def test_credentials_do_not_follow_a_redirect_to_another_host() -> None:
    with serving() as other:
        target = other.url.replace("127.0.0.1", "localhost") + "/there"
        answer = f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()
        with raw_server(says(answer)) as server, raw_server(says(b"HTTP/1.1 200 OK\r\n\r\none")) as last:
            server.script = says(answer.replace(target.encode(), last.url.replace("127.0.0.1", "localhost").encode()))
            url = server.url.replace("//", "//${ANN}:${PASSWORD}@") + "/x"
            with sources.open_uri(url, 1000, redirect_hosts=["localhost"]) as stream:
                assert stream.read(9) == b"one"
    assert "Authorization" in server.asked[0]
    assert "Authorization" not in last.asked[0]


ECHOES = [
    b"HTTP/1.1 403 no %s\r\n\r\n",
    b"HTTP/1.1 503 %s\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://%s.example/\r\n\r\n",
    b"%s\r\n\r\n",
]


@pytest.mark.parametrize("echo", ECHOES)
def test_what_a_server_says_back_is_not_shown(echo: bytes) -> None:
    """In whatever form it repeats a secret."""
    forms = [b"t0k&n=x", b"t0k%26n%3Dx", b"t0k%26n=x", base64.b64encode(f"ann:{PASSWORD}".encode())]
    for form in forms:
        with raw_server(says(echo % form)) as server:
            url = server.url.replace("//", "//${ANN}:${PASSWORD}@") + "/x?token=${TOKEN}"
            with pytest.raises(MillraceError) as caught, sources.open_uri(url, 1000):
                pass
            assert url in str(caught.value)
            for secret in ("t0k", PASSWORD, forms[-1].decode()):
                assert secret not in str(caught.value)


def test_what_libraries_say_of_a_url_is_not_shown() -> None:
    """requests quotes the URL, with all that is in it, in most of its errors."""
    for url in ("http://127.0.0.1:9/x?token=${TOKEN}", "http://${ANN}:${PASSWORD}@127.0.0.1:9/x"):
        with pytest.raises(MillraceError, match="Connection refused") as caught:
            sources.resolve(url, None)
        assert url in str(caught.value)
        assert "t0k" not in str(caught.value)
        assert "rd" not in str(caught.value)

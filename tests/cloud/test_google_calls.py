"""What Google's clients raise, and what a person hears of it."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google.api_core.exceptions as api
import google.auth
import google.auth.exceptions as auth
import pytest
import requests
from google.auth import impersonated_credentials
from google.auth.transport.requests import Request
from google.oauth2.credentials import Credentials
from google.resumable_media import DataCorruption, InvalidResponse

from localcloud.faults import Fault
from localcloud.projects import Projects
from millrace.beam.google_errors import location, passes, reason, said
from millrace.errors import AccessError, MillraceError, ServiceError, SettingError, TerminalError
from millrace.tasks import session


def refusal(kind: type[api.GoogleAPICallError], reason: str, message: str = "No.") -> api.GoogleAPICallError:
    """An error as the JSON APIs answer it."""
    return kind(f"POST http://host/x: {message}", errors=[{"reason": reason, "message": message}])


def answer(status: int, body: bytes = b"") -> requests.Response:
    """An answer as it arrives."""
    made = requests.Response()
    made.status_code, made.raw = status, io.BytesIO(body)
    return made


def caused(error: Exception, cause: Exception) -> Exception:
    """An error that was raised from another."""
    error.__cause__ = cause
    return error


#: What impersonation raises, less the answer's body.
UNABLE = "Unable to acquire impersonated credentials"
CASES: list[tuple[Exception, bool, type[MillraceError]]] = [
    (refusal(api.TooManyRequests, "rateLimitExceeded"), True, ServiceError),
    (refusal(api.Forbidden, "rateLimitExceeded"), True, ServiceError),
    (refusal(api.ServiceUnavailable, "backendError"), True, ServiceError),
    (requests.exceptions.ConnectionError("broken"), True, ServiceError),
    (requests.exceptions.ChunkedEncodingError("torn"), True, ServiceError),
    (api.RetryError("given up", cause=refusal(api.InternalServerError, "internalError")), False, ServiceError),  # type: ignore[no-untyped-call]
    (refusal(api.Forbidden, "quotaExceeded"), False, ServiceError),
    (refusal(api.Forbidden, "accessDenied"), False, AccessError),
    (refusal(api.Forbidden, "retentionPolicyNotMet"), False, TerminalError),
    (refusal(api.Forbidden, "objectUnderActiveHold"), False, TerminalError),
    (refusal(api.Unauthorized, "authError"), False, AccessError),
    (auth.RefreshError("invalid_grant"), False, AccessError),  # type: ignore[no-untyped-call]
    (auth.RefreshError("busy", {}, retryable=True), True, ServiceError),  # type: ignore[no-untyped-call]
    (caused(auth.RefreshError("no answer"), auth.TransportError("cut")), True, ServiceError),  # type: ignore[no-untyped-call]
    (auth.RefreshError(UNABLE, '{"error": {"code": 503, "message": "Busy."}}'), True, ServiceError),  # type: ignore[no-untyped-call]
    (auth.RefreshError(UNABLE, "<html>502 Bad Gateway</html>"), True, ServiceError),  # type: ignore[no-untyped-call]
    (auth.RefreshError(UNABLE, '{"error": {"code": 403, "message": "No."}}'), False, AccessError),  # type: ignore[no-untyped-call]
    (auth.DefaultCredentialsError("none"), False, AccessError),  # type: ignore[no-untyped-call]
    (refusal(api.NotFound, "notFound"), False, SettingError),
    (refusal(api.BadRequest, "invalid"), False, TerminalError),
    (DataCorruption(answer(200), "Checksum mismatch while downloading"), False, ServiceError),  # type: ignore[no-untyped-call]
]


@pytest.mark.parametrize(("error", "passing", "told_as"), CASES, ids=lambda value: getattr(value, "__name__", None))
def test_every_failure_is_one_of_ours(error: Exception, passing: bool, told_as: type[MillraceError]) -> None:
    """One line that says what was attempted, without the address of the service."""
    assert passes(error) == passing
    with pytest.raises(MillraceError) as found, session.current().google.told("read gs://b/x"):
        raise error
    assert type(found.value) is told_as
    assert str(found.value).startswith("could not read gs://b/x")
    assert "\n" not in str(found.value)
    assert "http://host" not in str(found.value)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 412, 429, 500, 501, 502, 503, 504])
def test_statuses_that_pass(status: int) -> None:
    """408, 429 and what servers say of themselves, whether the client or its uploads and downloads tell of it."""
    for error in (api.from_http_status(status, "No."), InvalidResponse(answer(status), "No.")):  # type: ignore[no-untyped-call]
        assert passes(error) == (status in (408, 429, 500, 502, 503, 504))


def test_what_passes_is_tried_again_and_nothing_else() -> None:
    raised: list[Any] = [refusal(api.Forbidden, "rateLimitExceeded"), ConnectionError(), refusal(api.NotFound, "x")]

    def call() -> None:
        raise raised.pop(0)

    with pytest.raises(api.NotFound):
        session.current().google.retry(10)(call)()
    assert raised == []


@pytest.fixture
def projects() -> Iterator[Projects]:
    """A local token service."""
    with Projects() as service:
        yield service


Refresh = Callable[[Projects], Any]


def users_token(projects: Projects) -> Any:
    return Credentials(None, "1//refresh", None, f"{projects.url}/token", "id", "secret")  # type: ignore[no-untyped-call]


def impersonated_token(projects: Projects) -> Any:
    where = f"{projects.url}/v1/projects/-/serviceAccounts/a@b.c:generateAccessToken"
    source = Credentials("fake")  # type: ignore[no-untyped-call]
    return impersonated_credentials.Credentials(source, "a@b.c", [], iam_endpoint_override=where)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("kind", ["status", "cut"])
@pytest.mark.parametrize("refresh", [users_token, impersonated_token])
def test_a_token_service_that_fails_in_passing_is_asked_again(projects: Projects, refresh: Refresh, kind: Any) -> None:
    """More often than Google's library does, and told as what passes if it fails for too long."""
    for number in range(1, 5):
        projects.faults.at(number, Fault(kind))
    with requests.Session() as asking:
        credentials, request = refresh(projects), Request(asking)
        with session.current().google.told("read gs://b/x"):
            session.current().google.retry(30)(credentials.refresh)(request)
        assert credentials.token == "fake"
        projects.faults.randomly(1.0, 1, (kind,))
        tried = "could not read gs://b/x, tried for .*; run again"
        with pytest.raises(ServiceError, match=tried) as found, session.current().google.told("read gs://b/x"):
            session.current().google.retry(0.1)(credentials.refresh)(request)
    assert "login" not in str(found.value)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("bad header Bearer ya29.a0AfH6SMBxyz given", "a0AfH6SMBxyz"),
        ("bad header Bearer 0123456789abc given", "0123456789abc"),
        ("refresh_token=1//0abcdefghij", "0abcdefghij"),
        ("key: AIzaSyAbcdefgh", "AIzaSyAbcdefgh"),
        ('{"access_token": "ya29.abc", "expires_in": 3599}', "ya29"),
        ('{"access_token": "short", "expires_in": 3599}', "short"),
        (r"{\"refresh_token\": \"abcdefgh\"}", "abcdefgh"),
        (r'"private_key": "-----BEGIN PRIVATE KEY-----\nMIIE=\n-----END PRIVATE KEY-----\n"', "MIIE"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEabc", "MIIE"),
        ("https://host/x?X-Goog-Date=1&X-Goog-Signature=0123456789abcdef&a=b", "0123456789abcdef"),
        ("https://host/x?sig=ab%2Fcdefghij&a=b", "cdefghij"),
        ("client_secret='GOCSPX-abc'", "GOCSPX"),
    ],
)
def test_no_secret_is_told(text: str, secret: str) -> None:
    with pytest.raises(MillraceError) as found, session.current().google.told("read"):
        raise refusal(api.Unauthorized, "authError", text)
    assert secret not in str(found.value)
    assert "…" in str(found.value)


def test_what_only_looks_like_a_secret_is_told() -> None:
    for text in ("no access to key projects/p/locations/us/keyRings/r/cryptoKeys/k", "Unexpected token: ; at [1:2]"):
        assert said(refusal(api.BadRequest, "invalid", text)) == text


def test_a_refused_upload_is_told_in_the_words_of_its_answer() -> None:
    """Which has them as Cloud Storage writes errors; an answer of another shape says nothing."""
    first = {"domain": "global", "reason": "forbidden", "location": "b/x", "message": "a@b.c may not create x."}
    body = {"error": {"code": 403, "message": "No.", "errors": [first, {"reason": "second"}]}}
    refused = InvalidResponse(answer(403, json.dumps(body).encode()), "Request failed with status code", 403)  # type: ignore[no-untyped-call]
    assert (reason(refused), location(refused), said(refused)) == ("forbidden", "b/x", "a@b.c may not create x.")
    for other in ("<html>", "[]", '"x"', '{"error": "x"}', '{"error": {"errors": {}}}', '{"error": {"errors": ["x"]}}'):
        unsaid = InvalidResponse(answer(403, other.encode()), "Request failed with status code", 403)  # type: ignore[no-untyped-call]
        assert (reason(unsaid), location(unsaid), said(unsaid)) == ("", "", "Request failed with status code")


def test_what_is_not_there_is_said_to_be_missing_and_no_more() -> None:
    """A job, say, is nothing that bin/doctor could make."""
    said_so = r"^could not look at job x: it does not exist \(None such.\)$"
    with pytest.raises(SettingError, match=said_so), session.current().google.told("look at job x"):
        raise refusal(api.NotFound, "notFound", "None such.")


def test_a_bucket_that_lets_go_of_nothing_is_no_matter_of_roles() -> None:
    """What a retention policy keeps can't be deleted by anybody: no role is to be granted."""
    said_so = r"could not delete gs://b/x: a retention policy .* \(Not yet.\); lift"
    with pytest.raises(TerminalError, match=said_so) as found, session.current().google.told("delete gs://b/x"):
        raise refusal(api.Forbidden, "retentionPolicyNotMet", "Not yet.")
    assert "role" not in str(found.value)


def test_a_bucket_whose_reader_pays_says_which_setting_names_them() -> None:
    what = "Bucket is a requester pays bucket but no user project provided."
    said_so = r"read gs://b/x: Bucket is .* provided; .* user_project in \[gcp\]$"
    with pytest.raises(SettingError, match=said_so), session.current().google.told("read gs://b/x"):
        raise refusal(api.BadRequest, "required", what)


def test_an_error_of_our_own_code_is_left_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), session.current().google.told("read"):
        raise ZeroDivisionError


def test_what_python_wraps_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that does not answer, and a file that is no JSON: the words, and not what Python prints of them."""
    with pytest.raises(requests.exceptions.ConnectionError) as dead:
        requests.get("http://127.0.0.1:9/x", timeout=1)
    assert (
        said(dead.value)
        == "127.0.0.1 does not answer (Failed to establish a new connection: [Errno 111] Connection refused)"
    )
    assert said(auth.TransportError(dead.value)) == said(dead.value)  # type: ignore[no-untyped-call]
    path = tmp_path / "key.json"
    path.write_text("{x")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(auth.DefaultCredentialsError) as unreadable:
        google.auth.default()
    assert said(unreadable.value) == f"File {path} is not a valid json file."

"""What Google's clients raise, and what a person hears of it."""

from typing import Any

import google.api_core.exceptions as api
import google.auth.exceptions as auth
import pytest
import requests.exceptions

from pipelines.errors import AccessError, MillraceError, ServiceError, SettingError, TerminalError
from workflows.engine.google_calls import passes, retry, told


def refusal(kind: type[api.GoogleAPICallError], reason: str, message: str = "No.") -> api.GoogleAPICallError:
    """An error as the JSON APIs answer it."""
    return kind(f"POST http://host/x: {message}", errors=[{"reason": reason, "message": message}])


CASES: list[tuple[Exception, bool, type[MillraceError]]] = [
    (refusal(api.TooManyRequests, "rateLimitExceeded"), True, ServiceError),
    (refusal(api.Forbidden, "rateLimitExceeded"), True, ServiceError),
    (refusal(api.ServiceUnavailable, "backendError"), True, ServiceError),
    (requests.exceptions.ConnectionError("broken"), True, ServiceError),
    (requests.exceptions.ChunkedEncodingError("torn"), True, ServiceError),
    (api.RetryError("given up", cause=refusal(api.InternalServerError, "internalError")), False, ServiceError),  # type: ignore[no-untyped-call]
    (refusal(api.Forbidden, "quotaExceeded"), False, ServiceError),
    (refusal(api.Forbidden, "accessDenied"), False, AccessError),
    (refusal(api.Unauthorized, "authError"), False, AccessError),
    (auth.RefreshError("invalid_grant"), False, AccessError),  # type: ignore[no-untyped-call]
    (auth.DefaultCredentialsError("none"), False, AccessError),  # type: ignore[no-untyped-call]
    (refusal(api.NotFound, "notFound"), False, SettingError),
    (refusal(api.BadRequest, "invalid"), False, TerminalError),
]


@pytest.mark.parametrize(("error", "passing", "told_as"), CASES, ids=lambda value: getattr(value, "__name__", None))
def test_every_failure_is_one_of_ours(error: Exception, passing: bool, told_as: type[MillraceError]) -> None:
    """One line that says what was attempted, without the address of the service."""
    assert passes(error) == passing
    with pytest.raises(MillraceError) as found, told("read gs://b/x"):
        raise error
    assert type(found.value) is told_as
    assert str(found.value).startswith("could not read gs://b/x")
    assert "\n" not in str(found.value)
    assert "http://host" not in str(found.value)


def test_what_passes_is_tried_again_and_nothing_else() -> None:
    raised: list[Any] = [refusal(api.Forbidden, "rateLimitExceeded"), ConnectionError(), refusal(api.NotFound, "x")]

    def call() -> None:
        raise raised.pop(0)

    with pytest.raises(api.NotFound):
        retry(10)(call)()
    assert raised == []


@pytest.mark.parametrize("secret", ["Bearer ya29.a0AfH6SMBxyz", "refresh_token=1//0abcdefghij", "key: AIzaSyAbcdefgh"])
def test_no_secret_is_told(secret: str) -> None:
    with pytest.raises(MillraceError) as found, told("read"):
        raise refusal(api.Unauthorized, "authError", f"bad header {secret} given")
    assert secret.split()[-1].split("=")[-1] not in str(found.value)
    assert "…" in str(found.value)


def test_an_error_of_our_own_code_is_left_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), told("read"):
        raise ZeroDivisionError

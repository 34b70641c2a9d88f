"""How Google Cloud is called: which failures pass and are tried again, and what the others are called.

    with told("read gs://bucket/x"):                     # whatever is raised in here becomes one of our errors
        blob.download_as_bytes(retry=retry())

A call that is tried again may have had its effect the first time, its answer lost. Who calls makes that harmless: by a
precondition and a look at what is there, or by an id of their own that makes a repetition the same call.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipelines.errors import AccessError, MillraceError, ServiceError, SettingError, TerminalError
from workflows.engine.sections import gcp
from workflows.engine.settings import origin

if TYPE_CHECKING:
    from google.api_core.retry import Retry

#: HTTP statuses that pass: request time-out, too many requests, and what servers say of themselves.
PASSING = (408, 429, 500, 502, 503, 504)
#: What BigQuery says of a request that it refuses for now, with status 403.
_PASSING_REASONS = ("rateLimitExceeded", "userRateLimitExceeded")


def passes(error: BaseException) -> bool:
    """Whether the same call may succeed in a moment."""
    import google.api_core.exceptions
    import google.auth.exceptions
    import google.resumable_media
    import requests.exceptions
    import urllib3.exceptions

    if isinstance(error, google.resumable_media.InvalidResponse):  # what an upload or download raises between its tries
        return error.response.status_code in PASSING
    if isinstance(error, google.api_core.exceptions.GoogleAPICallError):
        return error.code in PASSING or reason(error) in _PASSING_REASONS
    if isinstance(error, google.auth.exceptions.TransportError):
        return True
    broken = (ConnectionError, TimeoutError, requests.exceptions.ConnectionError, requests.exceptions.Timeout)
    torn = (requests.exceptions.ChunkedEncodingError, urllib3.exceptions.HTTPError)
    return isinstance(error, broken + torn)


def retry(seconds: float | None = None) -> "Retry":
    """What clients take as `retry`: a pause from 0.2 s, doubled up to 16 s, with jitter, for [gcp] patience seconds."""
    from google.api_core.retry import Retry

    return Retry(
        predicate=passes,
        initial=0.2,
        maximum=16.0,
        multiplier=2.0,
        timeout=gcp().patience if seconds is None else seconds,
    )


@contextlib.contextmanager
def told(doing: str) -> Iterator[None]:
    """Turns what Google's clients raise into one of our errors; doing: what was attempted, as in "read gs://b/x"."""
    try:
        yield
    except MillraceError:
        raise
    except Exception as error:
        if ours := translated(error, doing):
            raise ours from error
        raise


def translated(error: BaseException, doing: str) -> MillraceError | None:
    """The error for a person; None for what is none of Google's."""
    import google.api_core.exceptions as api
    import google.auth.exceptions as auth
    from google.resumable_media import DataCorruption

    if isinstance(error, api.RetryError) and error.cause is not None:
        error = error.cause
    if isinstance(error, DataCorruption):
        return ServiceError(f"could not {doing}: what arrived has another checksum than what was sent; run again")
    if isinstance(error, auth.DefaultCredentialsError):
        if file := os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
            return AccessError(
                f"could not {doing}: GOOGLE_APPLICATION_CREDENTIALS names {file}, which holds no Google Cloud "
                f"credentials ({said(error)}); make it name a credentials file, or unset it and run "
                "`gcloud auth application-default login`"
            )
        return AccessError(
            f"could not {doing}: there are no Google Cloud credentials; run `gcloud auth application-default login`, "
            "or set GOOGLE_APPLICATION_CREDENTIALS to a credentials file"
        )
    if isinstance(error, auth.RefreshError):
        if "impersonated" in str(error):
            return AccessError(
                f"could not {doing}: nobody here may act as {gcp().impersonate}, {origin('gcp', 'impersonate')} "
                f"({said(error)}); bin/doctor names the role"
            )
        return AccessError(
            f"could not {doing}: the Google Cloud credentials are no longer good ({said(error)}); run "
            "`gcloud auth application-default login` again, or, for a service account's key, make another"
        )
    if reason(error) == "quotaExceeded":
        return ServiceError(f"could not {doing}: a quota is used up ({said(error)}); run again when it has come back")
    if isinstance(error, api.Unauthorized):
        return AccessError(f"could not {doing}: Google Cloud does not accept the credentials ({said(error)})")
    if isinstance(error, api.Forbidden) and not passes(error):
        return AccessError(f"could not {doing}: permission is missing ({said(error)}); bin/doctor names the role")
    if isinstance(error, api.NotFound):
        return SettingError(f"could not {doing}: it does not exist ({said(error)}); bin/doctor says how to make it")
    if passes(error):
        return ServiceError(
            f"could not {doing}, tried for {gcp().patience:g} s ([gcp] patience): {said(error)}; run again"
        )
    if isinstance(error, api.GoogleAPICallError | auth.GoogleAuthError):
        return TerminalError(f"could not {doing}: {said(error)}")
    return None


def reason(error: BaseException) -> str:
    """Google's word for an error, finer than its status: "notFound", "invalid", "quotaExceeded"; "" for none."""
    return str(_detail(error).get("reason", ""))


def _detail(error: BaseException) -> Mapping[str, Any]:
    """The first of an error's details, as Google's JSON has them."""
    from google.auth.exceptions import RefreshError

    if isinstance(error, RefreshError) and error.args:
        sentence, *answers = error.args
        with contextlib.suppress(ValueError, KeyError, TypeError, IndexError):
            return {"message": json.loads(answers[0])["error"]["message"]}
        return {"message": sentence}
    details = getattr(error, "errors", None)
    response = getattr(error, "response", None)
    if not details and response is not None:
        # An upload or download has it only in its answer, and in its text all that it knows of the request.
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            details = response.json()["error"]["errors"]
    return details[0] if isinstance(details, list) and details and isinstance(details[0], Mapping) else {}


def said(error: BaseException) -> str:
    """What the error says, in one line, without anything that might be a secret."""
    text = _detail(error).get("message") or getattr(error, "message", None) or str(error) or type(error).__name__
    text = " ".join(str(text).split())
    text = re.sub(
        r"(?i)\b(bearer|token|access_token|refresh_token|client_secret|key)([=: ]+)[-\w.~+/]{8,}=*", r"\1\2…", text
    )
    return text if len(text) <= 300 else text[:299] + "…"

"""What Google's clients raise: which failures pass, and what is said of the others.

    with told("read gs://bucket/x"):                     # whatever is raised in here becomes one of our errors
        blob.download_as_bytes(retry=retry(120))

What is said holds no secret: tokens, keys and signatures are left out, wherever Google's answer repeats them.
"""

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from millrace.common.tokens import redacted
from millrace.errors import AccessError, Command, MillraceError, ServiceError, SettingError, SourceError, TerminalError

if TYPE_CHECKING:
    from google.api_core.retry import Retry
    from google.auth.exceptions import RefreshError

#: HTTP statuses that pass: request time-out, too many requests, and what servers say of themselves.
PASSING = (408, 429, 500, 502, 503, 504)
#: What BigQuery says of a request that it refuses for now, with status 403.
_PASSING_REASONS = ("rateLimitExceeded", "userRateLimitExceeded", "jobRateLimitExceeded")
#: What Cloud Storage says, with status 403, of an object that may neither be written over nor deleted by anybody.
_HELD = ("retentionPolicyNotMet", "objectUnderActiveHold")


def passes(error: BaseException) -> bool:
    """Return whether the same call may succeed in a moment."""
    import google.api_core.exceptions
    import google.auth.exceptions
    import google.resumable_media
    import requests.exceptions
    import urllib3.exceptions

    if isinstance(error, google.resumable_media.InvalidResponse):  # what an upload or download raises between its tries
        return error.response.status_code in PASSING
    if isinstance(error, google.api_core.exceptions.GoogleAPICallError):
        return error.code in PASSING or reason(error) in _PASSING_REASONS
    if isinstance(error, google.auth.exceptions.RefreshError):
        return _token_passes(error)
    if isinstance(error, google.auth.exceptions.TransportError):
        return True
    broken = (ConnectionError, TimeoutError, requests.exceptions.ConnectionError, requests.exceptions.Timeout)
    torn = (requests.exceptions.ChunkedEncodingError, urllib3.exceptions.HTTPError)
    return isinstance(error, broken + torn)


def _token_passes(error: "RefreshError") -> bool:
    """Return whether a token may be had in a moment."""
    from google.auth.exceptions import TransportError

    if error.retryable or isinstance(error.__cause__, TransportError):
        return True
    if not impersonating(error) or len(error.args) < 2:
        return False
    # The error has the answer's body, but not the status; a body that is no JSON comes from something in between.
    try:
        answer = json.loads(error.args[1])
    except ValueError:
        return True
    told = answer.get("error") if isinstance(answer, dict) else None
    return isinstance(told, dict) and told.get("code") in PASSING


def impersonating(error: BaseException) -> bool:
    """Return whether an error says that no token could be had for the account to act as."""
    return "impersonated" in str(error.args[0] if error.args else "")


def retry(seconds: float) -> "Retry":
    """Return what clients take as `retry`: a pause from 0.2 s, doubled up to 16 s, with jitter, for so many seconds."""
    from google.api_core.retry import Retry

    return Retry(predicate=passes, initial=0.2, maximum=16.0, multiplier=2.0, timeout=seconds)


def translated(
    error: BaseException,
    doing: str,
    *,
    missing: type[MillraceError] = SourceError,
    tried: str = "however often it was tried",
    granting: Command | None = None,
) -> MillraceError | None:
    """Return the error for a person; None for an error that is none of Google's.

    missing: what a 404 becomes; tried: for how long what passes was tried again; granting: the
    command that names the role with a missing permission.
    """
    import google.api_core.exceptions as api
    import google.auth.exceptions as auth
    from google.resumable_media import DataCorruption

    if isinstance(error, api.RetryError) and error.cause is not None:
        error = error.cause
    if isinstance(error, DataCorruption):
        return ServiceError(f"could not {doing}: what arrived has another checksum than what was sent; run again")
    what = said(error)
    if isinstance(error, auth.DefaultCredentialsError):
        if file := os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
            return AccessError(
                f"could not {doing}: GOOGLE_APPLICATION_CREDENTIALS names {file}, which holds no Google Cloud "
                f"credentials ({what}); make it name a credentials file, or unset it and run "
                "`gcloud auth application-default login`"
            )
        return AccessError(
            f"could not {doing}: there are no Google Cloud credentials; run `gcloud auth application-default login`, "
            "or set GOOGLE_APPLICATION_CREDENTIALS to a credentials file"
        )
    if reason(error) == "quotaExceeded":
        return ServiceError(f"could not {doing}: a quota is used up ({what}); run again when it has come back")
    if passes(error):
        return ServiceError(f"could not {doing}, {tried}: {what}; run again")
    if isinstance(error, auth.RefreshError):
        return AccessError(
            f"could not {doing}: the Google Cloud credentials are no longer good ({what}); run "
            "`gcloud auth application-default login` again, or, for a service account's key, make another"
        )
    if isinstance(error, api.Unauthorized):
        return AccessError(f"could not {doing}: Google Cloud does not accept the credentials ({what})")
    if reason(error) in _HELD:
        return TerminalError(
            f"could not {doing}: a retention policy or hold of the bucket keeps what is there ({what}); lift it, or "
            "use another bucket"
        )
    if isinstance(error, api.BadRequest) and "requester pays" in what:
        return SettingError(f"could not {doing}: {what.rstrip('.')}; say which project pays, as user_project in [gcp]")
    if isinstance(error, api.Forbidden):
        what = f"could not {doing}: permission is missing ({what})"
        return AccessError(what, granting, mend="{0} names the role") if granting else AccessError(what)
    if isinstance(error, api.NotFound):
        return missing(f"could not {doing}: it does not exist ({what})")
    if isinstance(error, api.GoogleAPICallError | auth.GoogleAuthError):
        return TerminalError(f"could not {doing}: {what}")
    return None


@contextlib.contextmanager
def told(doing: str, translate: Callable[[BaseException, str], MillraceError | None] = translated) -> Iterator[None]:
    """Turn what Google's clients raise into one of our errors; doing: what was attempted, as in "read gs://b/x"."""
    try:
        yield
    except MillraceError:
        raise
    except Exception as error:
        if ours := translate(error, doing):
            raise ours from error
        raise


def reason(error: BaseException) -> str:
    """Return Google's word for an error, finer than its status: "notFound", "invalid", "quotaExceeded"; "" for none."""
    return str(_detail(error).get("reason", ""))


def location(error: BaseException) -> str:
    """Return what Google says that an error is about, such as a file's URI; "" for nothing."""
    return str(_detail(error).get("location", ""))


def _detail(error: BaseException) -> Mapping[str, Any]:
    """Return the first of an error's details, as Google's JSON has them."""
    from google.auth.exceptions import RefreshError

    if isinstance(error, RefreshError) and error.args:
        sentence, *answers = error.args
        with contextlib.suppress(ValueError, KeyError, TypeError, IndexError):
            return {"message": json.loads(answers[0])["error"]["message"]}
        return {"message": sentence}
    details = getattr(error, "errors", None)
    response = getattr(error, "response", None)
    if not details and response is not None:
        # An upload or download has its details only in its answer, and its text tells all that it knows of the request.
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            details = response.json()["error"]["errors"]
    return details[0] if isinstance(details, list) and details and isinstance(details[0], Mapping) else {}


def said(error: BaseException) -> str:
    """Return what the error says, in one line, without the service's address and without what might be a secret."""
    text = _detail(error).get("message") or getattr(error, "message", None) or _plain(error) or type(error).__name__
    text = redacted(re.sub(r"^[A-Z]+ https?://\S+: ", "", " ".join(str(text).split())))
    return text if len(text) <= 300 else text[:299] + "…"


def _plain(error: BaseException) -> str:
    """Return the words of an error that may be wrapped in others, as requests and google-auth do with urllib3's."""
    import urllib3.exceptions

    while len(error.args) == 1 and isinstance(error.args[0], BaseException):
        error = error.args[0]
    if isinstance(error, urllib3.exceptions.MaxRetryError):
        why = str(error.reason)
        return f"{getattr(error.pool, 'host', 'the host')} does not answer ({why.partition('): ')[2] or why})"
    first = error.args[0] if len(error.args) > 1 else None  # the other arguments are what Python alone would show
    return first if isinstance(first, str) else str(error)

"""How Google Cloud is called by the settings: for how long again, and what of them is named when it fails for good.

    with told("read gs://bucket/x"):                     # whatever is raised in here becomes one of our errors
        blob.download_as_bytes(retry=retry())

What passes, and what is said of the rest, stands in millrace/beam/google_errors.py.

A call that is tried again may have had its effect the first time, its answer lost. The caller makes a repetition
harmless: by a precondition and a look at what is there, or by an id of its own that makes the repetition the same call.
"""

import functools
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from millrace.beam import google_errors
from millrace.beam.google_errors import impersonating, location, passes, reason, redacted, said
from millrace.errors import AccessError, MillraceError, SettingError
from millrace.tasks import advice
from millrace.tasks.sections import gcp
from millrace.tasks.settings import origin

if TYPE_CHECKING:
    from google.api_core.retry import Retry

__all__ = ["location", "passes", "reason", "redacted", "retry", "said", "told"]


def retry(seconds: float | None = None) -> "Retry":
    """Return what clients take as `retry`: what passes is tried again for so many seconds, or for [gcp] patience."""
    return google_errors.retry(gcp().patience if seconds is None else seconds)


def told(doing: str, seconds: float | None = None) -> AbstractContextManager[None]:
    """Turn what Google's clients raise into one of our errors.

    doing: what was attempted, as in "read gs://b/x"; seconds: what its `retry` was given.
    """
    return google_errors.told(doing, functools.partial(_translated, seconds=seconds))


def _translated(error: BaseException, doing: str, seconds: float | None) -> MillraceError | None:
    """Return the error for a person; None for an error that is none of Google's."""
    from google.auth.exceptions import RefreshError

    if isinstance(error, RefreshError) and impersonating(error) and not passes(error):
        return AccessError(
            f"could not {doing}: nobody here may act as {gcp().impersonate}, {origin('gcp', 'impersonate')} "
            f"({said(error)}); {advice.command('doctor')} names the role"
        )
    return google_errors.translated(
        error,
        doing,
        missing=SettingError,
        tried=f"tried for {gcp().patience:g} s ([gcp] patience)" if seconds is None else f"tried for {seconds:g} s",
        granting=f"; {advice.command('doctor')} names the role",
    )

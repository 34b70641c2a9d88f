"""What the local BigQuery answers instead of a result."""

from collections.abc import Mapping
from typing import Any

_STATUS = {"accessDenied": 403, "notFound": 404, "duplicate": 409, "conditionNotMet": 412, "notImplemented": 501}


class ApiError(Exception):
    """What BigQuery answers instead: a reason of its list, such as "notFound", a sentence, and the URI that it is
    about.
    """

    def __init__(self, reason: str, message: str, location: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.location = location

    @property
    def status(self) -> int:
        """The HTTP status that goes with the reason."""
        return _STATUS.get(self.reason, 400)


def unsupported(what: str) -> ApiError:
    """Return the error for what the real service can do and this one can't."""
    return ApiError("notImplemented", f"the local BigQuery does not support {what}")


def only(given: Mapping[str, Any], known: str, where: str) -> None:
    """Raise ApiError if anything is asked for besides what is known (names in one string)."""
    asked = {key for key, value in given.items() if value not in (None, False, "", [], {})} - set(known.split())
    if asked:
        raise unsupported(f"{', '.join(sorted(asked))} in {where}")

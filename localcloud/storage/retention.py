"""What keeps objects from being deleted or replaced: retention policies of buckets, retentions and holds of objects."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from localcloud.storage.state import Bucket, Object, RefusedError, now, written_time

#: The longest retention that the documentation allows: a hundred years.
LONGEST = 3_155_760_000


def expiration(bucket: Bucket, resource: Mapping[str, Any]) -> str:
    """Return until when an object is retained; nothing where no retention has a known end."""
    ends = [resource["retention"]["retainUntilTime"]] if "retention" in resource else []
    period = int(bucket.resource.get("retentionPolicy", {}).get("retentionPeriod", 0))
    if period and not resource.get("eventBasedHold"):
        begin = _read(resource.get("_released") or resource["timeCreated"])
        ends.append(written_time(begin + timedelta(seconds=period)))
    return max(ends, key=_read) if ends else ""


def protect(bucket: Bucket, there: Object) -> None:
    """Refuse to delete or replace an object that is held or retained."""
    what = f"Object '{there.resource['bucket']}/{there.name}'"
    for field, hold in (("temporaryHold", "Temporary"), ("eventBasedHold", "Event-Based")):
        if there.resource.get(field):
            raise RefusedError(
                403,
                f"{what} is under active {hold} hold and cannot be deleted, overwritten or archived until hold is "
                "removed.",
                "objectUnderActiveHold",
            )
    end = expiration(bucket, there.resource)
    if end and _read(end) > datetime.now(UTC):
        raise RefusedError(
            403,
            f"{what} is subject to bucket's retention policy or object retention and cannot be deleted or overwritten "
            f"until {end}",
            "retentionPolicyNotMet",
        )


def changed(bucket: Bucket, before: Mapping[str, Any], after: dict[str, Any], *, override: bool) -> None:
    """Check and complete a change of what an object is retained by."""
    if before.get("eventBasedHold") and not after.get("eventBasedHold"):
        after["_released"] = now()
    old, new = before.get("retention"), after.get("retention")
    if old == new:
        return
    if new:
        if bucket.resource.get("objectRetention", {}).get("mode") != "Enabled":
            raise RefusedError(400, "Object retention is not enabled on the bucket.", "invalid")
        if new.get("mode") not in ("Locked", "Unlocked") or "retainUntilTime" not in new:
            raise RefusedError(400, f"Object retention {new} needs a mode, Locked or Unlocked, and a retainUntilTime.")
    if old:
        shorter = not new or _read(new["retainUntilTime"]) < _read(old["retainUntilTime"])
        looser = old["mode"] == "Locked" and (new or {}).get("mode") != "Locked"
        if (shorter or looser) and (old["mode"] == "Locked" or not override):
            raise RefusedError(
                403,
                f"Object '{before['bucket']}/{before['name']}' is subject to object retention, which can't be removed "
                "or shortened" + ("." if old["mode"] == "Locked" else " without overrideUnlockedRetention."),
                "retentionPolicyNotMet",
            )


def policy(before: Mapping[str, Any] | None, after: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a bucket's policy after a change of it; a locked one may only become longer."""
    period = int((after or {}).get("retentionPeriod", 0))
    if after is not None and not 0 < period < LONGEST:
        raise RefusedError(400, f"The retention period of {period} seconds is not between 1 and {LONGEST - 1}.")
    if before and before.get("isLocked") and period < int(before["retentionPeriod"]):
        raise RefusedError(
            403, "Cannot reduce retention duration of a locked Retention Policy for bucket.", "retentionPolicyLocked"
        )
    if after is None:
        return None
    same = before and before["retentionPeriod"] == str(period)
    kept = {"isLocked": True} if before and before.get("isLocked") else {}
    effective = before["effectiveTime"] if before and same else now()
    return {"retentionPeriod": str(period), "effectiveTime": effective, **kept}


def _read(time: str) -> datetime:
    read = datetime.fromisoformat(time)
    return read if read.tzinfo else read.replace(tzinfo=UTC)

"""Records that can't be used: how a manifest accounts for them, and the share of them that stops a stage.

A pipeline counts its records as read, kept, other_days, duplicates and notices, and its rejects as "rejected: REASON".
"""

from collections.abc import Callable
from typing import Any

from millrace.core.manifests import Manifest
from millrace.errors import DeadLetterError
from millrace.tasks import settings


def accounting(manifest: Manifest) -> dict[str, Any]:
    """Return a manifest's counters of records; rejected: reason → records."""
    counters = manifest.counters
    rejected = {k.removeprefix("rejected: "): n for k, n in counters.items() if k.startswith("rejected: ")}
    return {name: counters.get(name, 0) for name in ("read", "kept", "other_days", "duplicates", "notices")} | {
        "rejected": rejected
    }


def check_rejects(manifest: Manifest, section: Any, lie: str, mend: Callable[[], str]) -> None:
    """Raise DeadLetterError if more records were rejected than the section's max_dead_letter_share allows.

    section: of SourceSettings. lie: the dataset in which the rejects are, and where. mend: what helps, asked for when
    it is to be said.
    """
    counts, name = accounting(manifest), type(section).__name__
    reasons, limit = counts["rejected"], float(section.max_dead_letter_share)
    read = counts["read"] - counts["notices"]  # so that a stream of notices does not hide the rejects
    rejected = sum(reasons.values())
    if rejected > limit * read:
        worst = ", ".join(f"{n:,} {reason}" for reason, n in sorted(reasons.items(), key=lambda r: -r[1]))
        raise DeadLetterError(
            f"{manifest.partition}: {rejected:,} of {read:,} records were rejected ({worst}), more than "
            f"{name}.max_dead_letter_share = {limit} ({settings.origin(name, 'max_dead_letter_share')}) allows; "
            f"they lie in the dataset {lie}; raise the limit, or {mend()}, then run again"
        )

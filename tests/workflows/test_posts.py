"""What the posts workflow expects of a stage's counters."""

import pytest

from millrace import accounting, check_rejects
from millrace.core.manifests import Manifest
from millrace.errors import DeadLetterError
from workflows import posts


def manifest(**counters: int) -> Manifest:
    named = {name.replace("rejected_", "rejected: "): n for name, n in counters.items()}
    return Manifest("posts/date=2026-03-02", "0001", [], {}, [], "", "", {}, {}, "", None, "", "", named)


def test_notices_are_no_reason_to_stop_and_hide_no_rejects() -> None:
    """The share of rejects is that of what is no notice, 5 % of it at most."""
    few = manifest(read=1000, kept=96, notices=900, rejected_x=4)
    assert accounting(few)["notices"] == 900
    check_rejects(few, posts.posts(), "posts_rejected", str)
    check_rejects(manifest(read=1000, notices=1000), posts.posts(), "posts_rejected", str)
    with pytest.raises(DeadLetterError, match="10 of 100 records were rejected"):
        check_rejects(manifest(read=1000, kept=90, notices=900, rejected_x=10), posts.posts(), "posts_rejected", str)

"""What a batch does: several partitions of one stage, each with a fate of its own.

Luigi's worker forms batches (workers.py) and hands their members here, in the process that does them. Each member has
luigi's `set_tracking_url`, `set_status_message` and `set_progress_percentage` for its own line in luigid; all share one
queue of `scheduler_messages`, so that what is sent to any of them arrives.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from millrace.tasks.stage import Stage


def run(members: "Sequence[Stage]") -> Mapping[str, Exception | None]:
    """Do what is left to do of some partitions of one stage; return what went wrong with each, by its task_id.

    members: in the order of their keys. One that is not named in what is returned went well.
    """
    fates: dict[str, Exception | None] = {}
    for member in members:
        try:
            member.run()
        except Exception as error:
            fates[member.task_id] = error
    return fates

"""Work: one partition of a run, with its claim and its fate, which is its own."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from millrace.core import resources
from millrace.core.ledger import Claim
from millrace.core.manifests import Manifest
from millrace.core.waiting import Waiting
from millrace.errors import AccessError, TransientError
from millrace.tasks import finishing
from millrace.tasks.finishing import Look
from millrace.tasks.protocols import Outcome, StageLike


@dataclass(eq=False)
class Work:
    """One partition of a run: its stage, its claim, and what became of it.

    since: when its attempt began, by this process's clock. stale: what is there but is to be made anew, with the
    version of its file; it stays until the new is there.
    """

    stage: StageLike
    claim: Claim
    over: bool = False
    error: Exception | None = None
    since: float = field(default_factory=time.monotonic)
    stale: tuple[Manifest, str] | None = None

    def end(self, error: Exception | None = None) -> None:
        """Say how the work ended: well, unless there is an error."""
        self.over, self.error = True, error

    def clear(self) -> None:
        """Delete what earlier attempts left."""
        finishing.clear(self.stage, self.claim.attempt, self.stale and self.stale[0])

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep what goes wrong from the others of the batch."""
        try:
            with resources.told():
                yield
        except Exception as error:
            self.end(error)

    @contextlib.contextmanager
    def attempted(self) -> Iterator[None]:
        """Keep what goes wrong from the others of the batch, and close an attempt that is over by what went wrong."""
        with self.alone():
            try:
                with resources.told():
                    yield
            except Waiting as waiting:  # what was begun is begun anew when the wait is over
                if self.claim.attempt.state == "running" and not self.claim.alive:
                    self.claim.close(str(waiting), "stopped")
                raise
            except Exception as error:
                # Nothing is known of a job that may be at work, or has done it, that a later look might not mend.
                job = self.claim.attempt.job_id is not None
                later = self.claim.alive or (job and isinstance(error, TransientError | AccessError))
                if self.claim.attempt.state == "running" and not later:
                    self.claim.close(str(error) or type(error).__name__, counts=job)
                raise

    def make(self, outcome: Outcome, look: Look) -> None:
        """Make the partition of what its attempt wrote; look: at the inputs as they are by now."""
        accepted = None
        with self.attempted():
            accepted = finishing.accepted(self.stage, self.claim, outcome, look.of(self.stage))
        if accepted:
            with self.alone():
                finishing.make(self.stage, self.claim, accepted, self.since, self.stale)
                self.end()


def left(works: Sequence[Work]) -> list[Work]:
    """Return the works that have not come to their end."""
    return [work for work in works if not work.over]


def prefix(stages: Sequence[StageLike]) -> str:
    """Return how the name of a job for some stages begins: the kind of task, the first day and the last."""
    days = [str(day) for stage in (stages[0], stages[-1]) if (day := stage.key.date)]
    return "-".join(["millrace", stages[0].task_family, *dict.fromkeys(days)])

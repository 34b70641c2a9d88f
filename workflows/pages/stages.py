"""What a page says of the stages that it was made from."""

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from millrace import Manifest, Stage


@dataclass(frozen=True)
class StageRun:
    """One finished stage of one day, or of none.

    rows: what it wrote. seconds: from start to end. runner: Beam's name of it. code_version: of Millrace and its
    checkout. job: the id of the job at the runner's service, None for a run in process. code: a short digest of what
    made it, "" where that is not known. other_code: whether this run would have made it by another.
    """

    stage: str
    date: datetime.date | None
    rows: int
    seconds: float
    runner: str
    code_version: str
    job: str | None
    code: str = ""
    other_code: bool = False


def stage_run(stage: "Stage", date: datetime.date | None, manifest: "Manifest") -> StageRun:
    """Return what the page says of a finished stage."""
    code, other = stage.code_of(manifest)
    return StageRun(
        stage=stage.task_family,
        date=date,
        rows=sum(file.rows for file in manifest.files),
        seconds=manifest.seconds,
        runner=manifest.runner,
        code_version=manifest.code_version,
        job=manifest.job_id,
        code=code,
        other_code=other,
    )

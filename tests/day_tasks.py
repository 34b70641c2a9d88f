"""Daily stages without a pipeline, in batches: they go by files in the folder that AT names, and note that they ran.

`Made-2026-11-03.broken` makes that day fail, `.once` once only, `.held` wait, `.killed` end its process, `.slow` take
two seconds; `Made-2026-11-03.runs` has a line for each time that it ran: its process.
"""

import datetime
import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import luigi

from millrace import Stage
from millrace.core.ledger import Claim
from millrace.core.manifests import FileEntry
from millrace.core.storage import crc32c
from millrace.errors import SourceError
from millrace.tasks import session
from millrace.tasks.settings import Day, Setting, day
from millrace.tasks.stage import Outcome


def control(task: luigi.Task, ending: str) -> Path:
    """One of the files that a task goes by."""
    return Path(os.environ["AT"]) / f"{task.task_family}-{task.date}.{ending}"  # type: ignore[attr-defined]


class Daily(Stage):
    """A file of a line for each day."""

    #: So that each test has tasks of its own at a luigid that several share.
    place: str = luigi.Parameter(default=Path(os.environ["AT"]).name, positional=False)
    batchable = True
    accepts_messages = True
    #: Where luigi puts messages of luigid while the task runs.
    scheduler_messages: Any = None

    def __str__(self) -> str:
        return f"{self.task_family} {self.date}"  # type: ignore[attr-defined]

    def execute(self, claim: Claim) -> Outcome:
        with control(self, "runs").open("a") as runs:
            runs.write(f"{os.getpid()}\n")
        self._tell()
        if control(self, "broken").exists():
            raise SourceError(f"{self} is broken")
        if control(self, "once").exists():
            control(self, "once").unlink()
            raise SourceError(f"{self} is broken once")
        if control(self, "killed").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        while control(self, "held").exists():
            self._listen()
            time.sleep(0.02)
        time.sleep(2 * control(self, "slow").exists())
        data = f"{self}\n".encode()
        name = self.datasets()[0].name
        path = f"{self.datasets()[0].partition}/{claim.attempt.attempt}/day"
        session.current().storage.create(path, data)
        return Outcome([FileEntry(path, name, 1, len(data), crc32c(data))], {}, {})

    def _tell(self) -> None:
        """Show luigid a link, a message and how far it is, if it asks."""
        if self.set_tracking_url is not None:
            reporter = self.set_tracking_url.__self__
            worker = {"worker": reporter._worker_id, "status": "RUNNING", "accepts_messages": True}
            reporter._scheduler.add_task(task_id=self.task_id, tracking_url=f"http://jobs.example/{self}", **worker)
            self.set_status_message(f"{self} is at work")  # type: ignore[misc]
            self.set_progress_percentage(self.date.day)  # type: ignore[misc, attr-defined]

    def _listen(self) -> None:
        if self.scheduler_messages is not None and not self.scheduler_messages.empty():
            message = self.scheduler_messages.get()
            control(self, "message").write_text(json.dumps([message.content, message._task_id]))
            message.respond(f"{message.content} it is")


class Made(Daily):
    """Needs nothing; what a day is wanted for does not tell days apart."""

    writes = ("made",)
    priority = 2
    date: datetime.date = Day()
    wanted_for: datetime.date = Setting(
        convert=day, allowed="a day", significant=False, batched=True, default="2026-11-01"
    )
    resources: Mapping[str, int] = {"api": 1} if os.environ.get("API") else {}  # type: ignore[assignment]


class Read(Daily):
    """Needs the day's Made."""

    writes = ("read",)
    date: datetime.date = Day()

    def requires(self) -> Made:
        return Made(date=self.date, wanted_for=self.date)

    def preload(self) -> None:
        with control(self, "preloads").open("a") as preloads:
            preloads.write(f"{os.getpid()}\n")
        raise ImportError("nothing to import")


class Alone(Read):
    """Is done by itself."""

    writes = ("alone",)
    batchable = False

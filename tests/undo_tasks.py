"""A saga of daily stages that act outside of their partitions and can undo that: luigi --module undo_tasks Send.

In the folder that AT names, `outside` has a line for each effect and each undo. `Send-2026-11-03.broken` makes that
day's stage fail, `.held` wait, `Charge-2026-11-03.stuck` makes its undo() fail, `.slow` has it wait, and
`.dies` kills its process after it.
"""

import datetime
import os
import signal
import time
from pathlib import Path
from typing import Any

import crashing  # noqa: F401  where the process can die at a moment of a test's choice
import luigi

from millrace import BigQueryTarget, Day, Flow, SourceError, Stage
from millrace.common.tables import Table
from millrace.core.ledger import Claim
from millrace.core.manifests import FileEntry
from millrace.core.storage import crc32c
from millrace.tasks import session
from millrace.tasks.stage import Outcome


def control(task: luigi.Task, ending: str) -> Path:
    """One of the files that a task goes by."""
    return Path(os.environ["AT"]) / f"{task.task_family}-{task.date}.{ending}"  # type: ignore[attr-defined]


def note(did: str, task: luigi.Task, more: str = "") -> None:
    """Notes an effect outside."""
    line = f"{did} {task.task_family} {task.date}{more}\n"  # type: ignore[attr-defined]
    with (Path(os.environ["AT"]) / "outside").open("a") as outside:
        outside.write(line)


class Daily(Stage):
    """Writes a file a day."""

    batchable = False
    more = ""

    def execute(self, claim: Claim) -> Outcome:
        while control(self, "held").exists():
            time.sleep(0.02)
        if control(self, "broken").exists():
            raise SourceError(f"{self} is broken")
        note("do", self, self.more)
        files = []
        for dataset in self.datasets():
            path = f"{dataset.partition}/{claim.attempt.attempt}/file"
            session.current().storage.create(path, b"x")
            files.append(FileEntry(path, dataset.name, 1, 1, crc32c(b"x")))
        return Outcome(files, {}, {})


class Undoing(Daily):
    """Undoes what it did."""

    def undo(self) -> None:
        assert self.manifest() is not None  # which says what was done
        if control(self, "stuck").exists():
            raise OSError("the other side does not answer")
        note("undo", self, self.more)
        control(self, "undoing").touch()
        while control(self, "slow").exists():
            time.sleep(0.02)
        if control(self, "dies").exists():
            control(self, "dies").unlink()
            os.kill(os.getpid(), signal.SIGKILL)


class Read(Daily):
    """Has no effect outside."""

    writes = ("orders",)
    date: datetime.date = Day()


class Reserve(Undoing):
    """The first step."""

    writes = ("reserved",)
    date: datetime.date = Day()

    def requires(self) -> Any:
        return Read(date=self.date)


class Rush(Reserve):
    """Another kind of the first step, which makes partitions of the same dataset."""


class Count(Daily):
    """Has no effect outside, but is made from what the first step made."""

    writes = ("counted",)
    date: datetime.date = Day()

    def requires(self) -> Any:
        return Reserve(date=self.date)


class Charge(Undoing):
    """The second step, which writes two datasets; luigi has others done between."""

    writes = ("charged", "charged_notes")
    date: datetime.date = Day()

    def requires(self) -> Any:
        return Read(date=self.date) if control(self, "moved").exists() else Between(date=self.date)


class Between(luigi.WrapperTask):
    """Stands for what it needs."""

    date: datetime.date = Day()

    def requires(self) -> Any:
        return Reserve(date=self.date)


class Send(Undoing):
    """The third step."""

    writes = ("sent",)
    date: datetime.date = Day()

    def requires(self) -> Any:
        return [Charge(date=self.date), Count(date=self.date)]


class Page(Daily):
    """Shows what was sent on two days, in a page that is a result like any other."""

    writes = ("pages",)
    date: datetime.date = Day()

    def requires(self) -> Any:
        return [Send(date=self.date), Send(date=self.date - datetime.timedelta(days=1))]


class Etl(Undoing):
    """Has a name that another module's task has."""

    writes = ("twins",)
    date: datetime.date = Day()

    def requires(self) -> Any:
        return Reserve(date=self.date)


class After(Undoing):
    """Needs that one."""

    writes = ("after",)
    date: datetime.date = Day()

    def requires(self) -> Any:
        return Etl(date=self.date)


class Order(Flow):
    """The same steps as a flow, which asks for them while it runs: two side by side, then one."""

    date: datetime.date = Day()

    def steps(self) -> Any:
        yield Reserve(date=self.date)
        yield [Charge(date=self.date), Tell(date=self.date, channel="b")]
        if control(self, "broken").exists():
            raise SourceError(f"{self} is broken")
        yield Send(date=self.date)
        return 1

    def undo(self) -> None:
        note("undo", self)


class Tell(Undoing):
    """Tells a channel, of a name with spaces or not, once or more often."""

    writes = ("told",)
    date: datetime.date = Day()
    channel: str = luigi.Parameter(default="all", positional=False)
    often: int = luigi.IntParameter(default=1, positional=False)
    loud: bool = luigi.BoolParameter(default=False, positional=False)
    lists: tuple[int, ...] = luigi.ListParameter(default=(), positional=False)

    @property
    def more(self) -> str:  # type: ignore[override]
        return f" {self.channel!r} {self.often!r} {self.loud!r}"


class Fill(luigi.Task):
    """A plain task, which fills a table."""

    date = luigi.DateParameter()

    def requires(self) -> Any:
        return Reserve(date=self.date)

    def output(self) -> BigQueryTarget:
        return BigQueryTarget("plain_table", self.date)

    def run(self) -> None:
        import pyarrow as pa

        note("do", self)
        self.output().write(pa.table({"n": [1], "date": [self.date]}), Table({"n": "INT64", "date": "DATE"}))

    def undo(self) -> None:
        note("undo", self)

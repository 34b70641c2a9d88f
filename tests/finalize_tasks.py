"""Tasks that declare finalize(): luigi --module finalize_tasks All --folder F --of '["Works"]'.

Each call is a line of F/ended: which task, how the run ended, what failed, what waits, and in which process.
"""

import os
import time
from pathlib import Path
from typing import Any

import luigi

from millrace import Ending, SourceError, Stage
from millrace.core.ledger import Claim
from millrace.core.waiting import Waiting
from millrace.tasks.stage import Outcome


def note(task: luigi.Task, ending: Ending) -> None:
    """Notes that a task's finalize() was called."""
    failed, waiting = (",".join(sorted(each.task_family for each in some)) for some in (ending.failed, ending.waiting))
    line = f"{task.task_family} {ending.how} failed={failed} waiting={waiting} {os.getpid()}\n"
    with (Path(task.folder) / "ended").open("a") as ended:  # type: ignore[attr-defined]
        ended.write(line)


class _InFolder(luigi.Task):
    folder = luigi.Parameter()

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(Path(self.folder) / self.task_family))

    def run(self) -> Any:
        Path(self.output().path).touch()

    def finalize(self, ending: Ending) -> None:
        note(self, ending)


class Works(_InFolder):
    """Is done."""


class Silent(luigi.Task):
    """Declares nothing."""

    folder = luigi.Parameter()
    output, run = _InFolder.output, _InFolder.run


class Yields(_InFolder):
    """Turns out to need another."""

    def run(self) -> Any:
        yield Works(folder=self.folder)  # type: ignore[no-untyped-call]
        super().run()


class Fails(_InFolder):
    """Fails until there is a file `mended`."""

    def run(self) -> None:
        if not (Path(self.folder) / "mended").exists():
            raise SourceError("it is broken")
        super().run()


class After(_InFolder):
    """Needs what fails."""

    def requires(self) -> Any:
        return Fails(folder=self.folder)  # type: ignore[no-untyped-call]


class Waits(_InFolder):
    """Waits until there is a file `come`."""

    def run(self) -> None:
        if not (Path(self.folder) / "come").exists():
            raise Waiting("job x is RUNNING", on="job x")
        super().run()


class Held(_InFolder):
    """Is at work until the process is stopped; takes its time to end then."""

    def run(self) -> None:
        (Path(self.folder) / "held").touch()
        try:
            while True:
                time.sleep(0.02)
        finally:
            time.sleep(1)
            with (Path(self.folder) / "ended").open("a") as ended:
                ended.write("Held is over\n")


class Slowly(_InFolder):
    """Is at work until there is a file `gone`."""

    def run(self) -> None:
        (Path(self.folder) / "held").touch()
        while not (Path(self.folder) / "gone").exists():
            time.sleep(0.02)
        super().run()


class Missing(luigi.ExternalTask):
    """Comes from outside, and has not."""

    folder = luigi.Parameter()
    output = _InFolder.output

    def finalize(self, ending: Ending) -> None:
        note(self, ending)


class Unknown(_InFolder):
    """Can't be scheduled."""

    def complete(self) -> bool:
        raise SourceError("nobody knows")


class Wrong(_InFolder):
    """Is done; its finalize() fails."""

    def finalize(self, ending: Ending) -> None:
        super().finalize(ending)
        raise KeyError("https://ann:hush@h.example/")


class Exits(_InFolder):
    """Is done; its finalize() ends the process, as it thinks."""

    def finalize(self, ending: Ending) -> None:
        super().finalize(ending)
        raise SystemExit(0)


class Slow(_InFolder):
    """Is done; its finalize() takes until the process is stopped."""

    def finalize(self, ending: Ending) -> None:
        super().finalize(ending)
        (Path(self.folder) / "held").touch()
        time.sleep(60)


class Made(Stage):
    """A stage, which needs what works."""

    writes = ("made",)
    folder: str = luigi.Parameter()

    def requires(self) -> Any:
        return Works(folder=self.folder)  # type: ignore[no-untyped-call]

    def execute(self, claim: Claim) -> Outcome:
        return self.empty("nothing")

    def finalize(self, ending: Ending) -> None:
        note(self, ending)


class Plain(Made):
    """A stage that declares nothing."""

    writes = ("plain",)
    finalize = Stage.finalize


class All(luigi.Task):
    """Needs the tasks that are named, and is done as soon as they are."""

    folder = luigi.Parameter()
    of = luigi.ListParameter()

    def requires(self) -> Any:
        return [globals()[name](folder=self.folder) for name in self.of]

    def complete(self) -> bool:
        try:
            return all(need.complete() for need in self.requires())
        except SourceError:
            return False

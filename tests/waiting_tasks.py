"""Plain luigi tasks that wait: luigi --module waiting_tasks Both --folder F. A file in F named as a wait ends that."""

from pathlib import Path
from typing import Any

import luigi

import workflows  # noqa: F401  which sets up what a person sees of a run
from millrace.core.waiting import APPROVAL, AT_WORK, Waiting

SINCE = "2026-11-27T20:00:00.123+00:00"


class _InFolder(luigi.Task):
    folder = luigi.Parameter()

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(Path(self.folder) / self.task_family))

    def run(self) -> Any:
        Path(self.output().path).touch()


class Wait(_InFolder):
    """Waits, for a job or for a person, until there is a file of its name."""

    name = luigi.Parameter()
    asks = luigi.BoolParameter()

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(Path(self.folder) / self.name))

    def run(self) -> None:
        kind = APPROVAL if self.asks else AT_WORK
        raise Waiting(
            f"{self.name} is RUNNING", on=f"job {self.name}", kind=kind, since=SINCE, url="https://x.example/j"
        )


class After(_InFolder):
    """Needs what waits."""

    def requires(self) -> Any:
        return Wait(folder=self.folder, name="static", asks=True)  # type: ignore[no-untyped-call]


class Late(_InFolder):
    """Turns out to need what waits while it runs."""

    def run(self) -> Any:
        yield Wait(folder=self.folder, name="dynamic")  # type: ignore[no-untyped-call]
        super().run()


class Fails(_InFolder):
    """Fails."""

    def run(self) -> None:
        raise ValueError("broken")


class Both(luigi.WrapperTask):
    """What needs a person, and what needs a job."""

    folder = luigi.Parameter()

    def requires(self) -> Any:
        return [After(folder=self.folder), Late(folder=self.folder)]  # type: ignore[no-untyped-call]


class WithFailure(luigi.WrapperTask):
    """What waits beside what fails."""

    folder = luigi.Parameter()

    def requires(self) -> Any:
        return [Late(folder=self.folder), Fails(folder=self.folder)]  # type: ignore[no-untyped-call]


class Missing(luigi.ExternalTask):
    """Comes from outside, and has not."""

    folder = luigi.Parameter()

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(Path(self.folder) / "missing"))


class WithMissing(luigi.WrapperTask):
    """What waits beside what is missing."""

    folder = luigi.Parameter()

    def requires(self) -> Any:
        return [After(folder=self.folder), Missing(folder=self.folder)]  # type: ignore[no-untyped-call]

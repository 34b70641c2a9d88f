"""Small tasks for luigid: they fail, wait or lack a file, as files in the folder `at` say, and note that they ran."""

import os
import time
from pathlib import Path
from typing import Any

import luigi

import workflows  # noqa: F401  what a run sees and how it talks to luigid


def cloned(task: luigi.Task, kind: Any) -> Any:
    """A task of another kind with the same parameters."""
    return task.clone(kind)


class Noting(luigi.Task):
    """Makes a file of its name; a file `<name>.runs` has a line for each time that it ran."""

    at = luigi.Parameter()

    def file(self, ending: str) -> Path:
        """One of the files that this task goes by."""
        return Path(self.at) / f"{self.task_family}.{ending}"

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(self.file("done")))

    def run(self) -> None:
        note, new = f"{os.getpid()}\n", self.file(f"{os.getpid()}.new")
        new.write_text(note)
        try:
            os.link(new, self.file("runs"))  # with its line, so that who kills when it is there finds it noted
        except FileExistsError:
            with self.file("runs").open("a") as runs:
                runs.write(note)
        new.unlink()
        if self.file("broken").exists():
            raise RuntimeError("it is broken")
        while self.file("held").exists():
            time.sleep(0.02)
        self.file("done").touch()


class File(luigi.ExternalTask):
    """A file that others deliver."""

    at = luigi.Parameter()

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(Path(self.at) / "file"))


class First(Noting):
    """Needs nothing."""


class Other(Noting):
    """Needs nothing."""


class Second(Noting):
    """Needs the first."""

    def requires(self) -> Any:
        return cloned(self, First)


class Reader(Noting):
    """Needs the file and the first."""

    def requires(self) -> Any:
        return [cloned(self, File), cloned(self, First)]


class Both(luigi.WrapperTask):
    """Second and Other."""

    at = luigi.Parameter()

    def requires(self) -> Any:
        return [cloned(self, Second), cloned(self, Other)]

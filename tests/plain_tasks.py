"""Plain luigi tasks that say and do what the tests of a run's words need: luigi --module plain_tasks All --folder F."""

import os
from pathlib import Path

import luigi

import workflows  # noqa: F401  which sets up what a person sees of a run
from millrace.errors import SourceError

HOSTILE = "the server said \x1b[31mred\x9b2J \u202egpj\r\nERROR: forged <b>bold</b>"


class One(luigi.Task):
    """Writes a file named by its number; says something first, or fails, where its number is told to."""

    folder = luigi.Parameter()
    number = luigi.IntParameter()
    says = luigi.IntParameter(default=-1, significant=False)
    fails = luigi.IntParameter(default=-1, significant=False)
    breaks = luigi.IntParameter(default=-1, significant=False)

    #: As a task with a page has them.
    page, list_of_pages = "one.html", "gs://bucket/reports/index.html"

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(Path(self.folder) / str(self.number)))

    def run(self) -> None:
        if self.number == self.says:
            os.write(2, b"a library speaks on standard error\n")
        if self.number == self.fails:
            raise SourceError(HOSTILE)
        if self.number == self.breaks:
            raise KeyError("nobody thought of https://ann:hush@h.example/?token=hush")
        Path(self.output().path).touch()


class All(luigi.WrapperTask):
    """Eight of them."""

    folder = luigi.Parameter()
    says = luigi.IntParameter(default=-1)
    fails = luigi.IntParameter(default=-1)
    breaks = luigi.IntParameter(default=-1)

    def requires(self) -> list[One]:
        return [One(self.folder, number, self.says, self.fails, self.breaks) for number in range(8)]  # type: ignore[no-untyped-call]

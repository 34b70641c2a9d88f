"""Tasks for graphs of tests: luigi --module graph_tasks JobGraph --spec FILE."""

import datetime
import enum
from pathlib import Path
from typing import Any

import luigi

from millrace import Claim, Day, Flow, JobGraph, Outcome, Stage  # noqa: F401  JobGraph is run by its name


class Write(luigi.Task):
    """Writes a text, in its day's folder, unless there is a file that says not to."""

    date: datetime.date = Day()
    folder = luigi.Parameter(positional=False)
    name = luigi.Parameter(positional=False)
    text = luigi.Parameter(default="", positional=False)

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(f"{self.folder}/{self.date}/{self.name}")

    def run(self) -> None:
        if Path(f"{self.folder}/{self.name}.fails").exists():
            raise RuntimeError(f"{self.name} was told to fail")
        with self.output().open("w") as file:
            file.write(self.text)


class Needs(Write):
    """Writes when what it needs is written."""

    def requires(self) -> Write:
        return Write(date=self.date, folder=self.folder, name=f"{self.name}-before")  # type: ignore[call-arg]


class Colour(enum.Enum):
    RED = 1


class Values(luigi.Task):
    """Takes all kinds of values, and keeps them in a file."""

    whole = luigi.IntParameter()
    share = luigi.FloatParameter()
    flag = luigi.BoolParameter()
    many = luigi.ListParameter()
    table = luigi.DictParameter()
    colour = luigi.EnumParameter(enum=Colour)
    moment = luigi.DateMinuteParameter()
    file = luigi.Parameter()

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(self.file)

    def run(self) -> None:
        values: list[Any] = [self.whole, self.share, self.flag, self.many, dict(self.table), self.colour, self.moment]
        with self.output().open("w") as file:
            file.write(repr(values))


class Numbers(Stage):
    """A stage whose partition is a file of a number."""

    writes = ("numbers",)
    date: datetime.date = Day()

    def execute(self, claim: Claim) -> Outcome:
        return self.empty("nothing")


class Plus(Flow):
    """A number, and one."""

    number: int = luigi.IntParameter()

    def steps(self) -> int:
        return self.number + 1


class Pair(luigi.Task):
    """Makes two files."""

    def output(self) -> list[luigi.LocalTarget]:
        return [luigi.LocalTarget("one"), luigi.LocalTarget("two")]

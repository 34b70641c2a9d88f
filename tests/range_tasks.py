"""Daily tasks of a user's own, for RangeDaily: a file, and a table."""

import datetime

import luigi
import pyarrow as pa

from millrace import BigQueryTarget
from millrace.common.tables import Table

NUMBERS = Table({"n": "INT64", "date": "DATE"})


class Export(luigi.Task):
    """A file whose name says nothing of its day."""

    date = luigi.DateParameter()

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(f"export{(self.date - datetime.date(2026, 1, 1)).days}")

    def run(self) -> None:
        with self.output().open("w") as file:
            file.write("done")


class Numbers(luigi.Task):
    """A table's partition."""

    date = luigi.DateParameter()

    def output(self) -> BigQueryTarget:
        return BigQueryTarget("numbers", self.date)

    def run(self) -> None:
        self.output().write(pa.table({"n": [1], "date": [self.date]}), NUMBERS)

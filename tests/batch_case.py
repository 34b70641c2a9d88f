"""A pipeline and its task for tests of batches: each day has one file, unless its fate is another."""

import argparse
import datetime
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import apache_beam as beam
import luigi
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions

from millrace import BeamTask
from millrace.beam import files
from millrace.beam.batch import Batch, Item
from millrace.beam.options import StageOptions
from millrace.common.partitions import Partition
from millrace.errors import SourceError
from millrace.tasks.settings import Settings


class CaseOptions(StageOptions):
    """Options of the pipeline."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--date")
        parser.add_argument("--fate", default="well")


def make(day: Partition, unit: str) -> Iterator[Item]:
    """Write the day's file, or fail as its fate says: "broken" is the day's own error, "poison" the pipeline's."""
    if unit == "broken":
        raise SourceError(f"the source of {day.options['date']} is broken", where="a test's", mend="mend it")
    if unit == "poison":
        raise ValueError("poison")
    yield files.write_parquet(day.output, "case", "rows", pa.table({"day": [day.options["date"]]}))


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Add the pipeline."""
    batch = Batch(pipeline, options, CaseOptions)
    batch.units(lambda day: [day.options["fate"]]).each(make)
    batch.results("case")


class case(Settings):  # noqa: N801 (named like its section)
    """No settings."""


class Case(BeamTask):
    """A day of the pipeline."""

    section = case
    writes = ("case",)
    pipeline = "batch_case"
    date: datetime.date = luigi.DateParameter()
    #: What becomes of days, but for those that go well.
    fates: ClassVar[dict[datetime.date, str]] = {}

    def options(self) -> Mapping[str, Any]:
        return {"fate": self.fates.get(self.date, "well")}

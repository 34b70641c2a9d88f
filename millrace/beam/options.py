"""What every pipeline module shares: its input and output options, and how it runs from a command line."""

import argparse
import importlib
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from millrace.beam import gcs

Build = Callable[[beam.Pipeline, PipelineOptions], None]

# Beam knows only the options that derive from PipelineOptions itself, and says of all others that it can't parse them.
logging.getLogger("apache_beam.options.pipeline_options").setLevel(logging.ERROR)


class StageOptions(PipelineOptions):
    """Options of every stage; a stage's own class derives from this one."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--input", default="[]", help="files to read: a pattern, a JSON list, or @FILE with one")
        parser.add_argument("--output", help="folder to write to, with {dataset} where a dataset's name goes")
        parser.add_argument("--gcs_kms_key", default="", help="key that encrypts what is written to gs://")
        parser.add_argument("--gcs_storage_class", default="", help="storage class of what is written to gs://")
        parser.add_argument("--gcs_user_project", default="", help="project that pays for reading and writing gs://")


class Options(PipelineOptions):
    """Options whose views are made once, because Beam asks for them a hundred times a run, a quarter of a small run's
    time.
    """

    def view_as(self, cls: type[PipelineOptions]) -> Any:
        """Return the options as those of another class; views share their values, so one of each is as good as many."""
        views = self.__dict__.setdefault("_views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]


def run(build: Build, argv: Sequence[str]) -> Any:
    """Build a pipeline from command-line arguments and run it to its end. Raises whatever a stage raised."""
    named = any(argument.startswith("--runner") for argument in argv)
    options = Options([*argv, *([] if named else ["--runner=FnApiRunner"])])
    with beam.Pipeline(options=options) as pipeline:
        build(pipeline, options)
    return pipeline.result


def run_module(module: str, argv: Sequence[str]) -> Any:
    """Run the pipeline of a module by its name."""
    return run(importlib.import_module(module).build, argv)


def main(build: Build, options: type[StageOptions]) -> None:
    """Run the command line of `python -m pipelines.…`: help and checks first, then the pipeline."""
    parser = argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="All other options go to Apache Beam; the default runner is FnApiRunner.",
    )
    StageOptions._add_argparse_args(parser)
    options._add_argparse_args(parser)
    known, _ = parser.parse_known_args()
    if not known.output:
        parser.error("the following arguments are required: --output")
    gcs.use(None, lambda: gcs.Access.given(lambda name: str(getattr(known, name))))
    run(build, sys.argv[1:])

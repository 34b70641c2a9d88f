"""What every pipeline module shares: its options, the partitions that it is to compute, and how it runs by itself."""

import argparse
import importlib
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from millrace.beam import engines, files, gcs
from millrace.common.partitions import Partition, from_json
from millrace.errors import MillraceError, SettingError

Build = Callable[[beam.Pipeline, PipelineOptions], None]

# Beam knows only the options that derive from PipelineOptions itself, and says of all others that it can't parse them.
logging.getLogger("apache_beam.options.pipeline_options").setLevel(logging.ERROR)


class StageOptions(PipelineOptions):
    """Options of every stage; a stage's own class derives from this one."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--input", default="[]", help="files to read: a pattern, a JSON list, or @FILE with one")
        parser.add_argument("--output", help="folder to write to, with {dataset} where a dataset's name goes")
        parser.add_argument(
            "--partitions",
            help="instead of --input and --output, many: JSON, a list of {key, input, output, options}, or @FILE",
        )
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


def partitions(options: PipelineOptions, of: type[StageOptions]) -> list[Partition]:
    """Return the partitions that a pipeline is to compute, each with the stage's own options, typed as `of` says.

    Without `--partitions` there is one, whose key is "", as `--input`, `--output` and the other flags say.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    _add_options(parser, of, StageOptions)

    def typed(partition: Partition) -> Partition:
        known, _ = parser.parse_known_args([*(options._flags or ()), *_flags(partition)])
        return replace(partition, options=vars(known))

    given = options.view_as(StageOptions)
    if not given.partitions:
        return [typed(Partition("", given.output or "", files.expand(given.input)))]
    return [typed(partition) for partition in from_json(files.text_of(given.partitions))]


def _add_options(parser: argparse.ArgumentParser, of: type[PipelineOptions], above: type[PipelineOptions]) -> None:
    """Add the options of a class and of those between it and the one above."""
    between: Sequence[Any] = of.__mro__[: of.__mro__.index(above)]
    for each in between:
        if "_add_argparse_args" in vars(each):
            each._add_argparse_args(parser)


def _flags(partition: Partition) -> Iterator[str]:
    for name, value in partition.options.items():
        if value is not False:
            text = value if isinstance(value, str) else json.dumps(value)
            yield f"--{name}" if value is True else f"--{name}={text}"


def run(build: Build, argv: Sequence[str]) -> Any:
    """Build a pipeline from command-line arguments and run it to its end.

    Raises SettingError for a runner that would not run it, and whatever a stage raised.
    """
    named = any(argument.startswith("--runner") for argument in argv)
    options = Options([*argv, *([] if named else ["--runner=FnApiRunner"])])
    standard = options.view_as(StandardOptions)
    if why := engines.refusal(standard.runner, options.get_all_options(drop_default=True)):
        raise SettingError(f"--runner={standard.runner}: {why}")
    standard.runner = engines.in_full(standard.runner)
    with beam.Pipeline(options=options) as pipeline:
        build(pipeline, options)
    return pipeline.result


def run_module(module: str, argv: Sequence[str]) -> Any:
    """Run the pipeline of a module by its name."""
    return run(importlib.import_module(module).build, argv)


def main(build: Build, options: type[StageOptions] = StageOptions) -> None:
    """Run the command line of `python -m pipelines.…`: help and checks first, then the pipeline."""
    parser = argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="All other options go to Apache Beam; the default runner is FnApiRunner.",
    )
    _add_options(parser, options, PipelineOptions)
    known, _ = parser.parse_known_args()
    if not known.output and not known.partitions:
        parser.error("the following arguments are required: --output")
    gcs.use(None, lambda: gcs.Access.given(lambda name: str(getattr(known, name))))
    try:
        run(build, sys.argv[1:])
    except MillraceError as error:
        sys.exit(str(error))

"""A pipeline whose input and output are run-time parameters: for a classic template, and for a flex template."""

import sys

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions


class TemplateOptions(PipelineOptions):
    """What is known only when a job starts."""

    @classmethod
    def _add_argparse_args(cls, parser):  # type: ignore[no-untyped-def]
        parser.add_value_provider_argument("--input")
        parser.add_value_provider_argument("--output")


if __name__ == "__main__":
    options = PipelineOptions(sys.argv[1:])
    given = options.view_as(TemplateOptions)
    with beam.Pipeline(options=options) as pipeline:
        (
            pipeline
            | beam.io.ReadFromText(given.input)
            | beam.Map(str.upper)
            | beam.io.WriteToText(given.output, shard_name_template="")
        )

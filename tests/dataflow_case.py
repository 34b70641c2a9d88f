"""A pipeline for tests of Dataflow jobs, in words that its workers know: they have `pipelines`, but no tests.

`--input` is a JSON list of what to do and with what: ["sleep", seconds], or ["expand", a pattern], which fails where no
file matches.
"""

import json
import time
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from millrace.beam import files
from millrace.beam.options import StageOptions


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Adds the pipeline."""
    what, value = json.loads(options.view_as(StageOptions).input)
    function: Any = {"sleep": time.sleep, "expand": files.expand}[what]
    _ = pipeline | beam.Create([value]) | "Work" >> beam.Map(function)

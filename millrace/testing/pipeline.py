"""The pipeline of the contract of `Runner`: it does what `--input` says, with parts that every worker has.

`--input` is JSON, [what, values]: "count" adds each value to the counter rows_read and writes it to `--output`;
"expand" fails where a pattern matches no file; "sleep" takes so many seconds for each value.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from millrace.beam import files
from millrace.beam.options import StageOptions

# This module imports pytest, as its package does, and workers have none: what runs there is none of its functions.
_WORK: dict[str, Callable[[Any], object]] = {"count": files.rows_read, "expand": files.expand, "sleep": time.sleep}


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Add the pipeline."""
    own = options.view_as(StageOptions)
    what, values = json.loads(own.input)
    given = pipeline | beam.Create(values)
    _ = given | "Work" >> beam.Map(_WORK[what])
    if what == "count":
        _ = given | beam.Map(str) | beam.io.WriteToText(own.output)

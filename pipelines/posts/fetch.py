"""A source's files → its raw records as Parquet (file, line, record), kept as they came; an archive's by day.

Run alone:

    python -m pipelines.posts.fetch --source 'posts-{date:%Y-%m-%d}.jsonl.gz' --date 2026-11-19 --output 'out/{dataset}'
"""

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from millrace.beam.fetching import FetchOptions, fetch
from millrace.beam.options import main
from pipelines.posts import parse, sample
from pipelines.posts.sources import SAMPLE


def day_of(record: bytes) -> int | None:
    """Return the day of a post, days since 1970-01-01; None for a notice. Raises Rejected for what shows no day."""
    try:
        return parse.created_at(record) // parse.DAY
    except parse.Rejected as reason:
        if str(reason) == parse.NOTICE:
            return None
        raise


def build(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Add the pipeline."""
    fetch(pipeline, options, day_of=day_of, generated={SAMPLE: sample.lines})


if __name__ == "__main__":
    main(build, FetchOptions)

"""The templates that the graphs of graphs/ launch, in the local cloud: what each does is one line of Python."""

import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import cloud_running
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from local_dataflow import options

from localcloud import LocalCloud

NEEDED = ("input", "output")
BULK = ("inputFilePattern", "outputDirectory", "outputFailureFile")
GOOGLE = "dataflow-templates-europe-west1"
FORMATS = ("inputFileFormat", "outputFileFormat", "inputFileSpec", "outputBucket", "schema")
_PROGRAM = """
    import sys

    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    WORK = {
        "clean": lambda lines: lines | beam.Map(str.lower),
        "count": lambda lines: lines | beam.FlatMap(str.split) | beam.combiners.Count.PerElement()
        | beam.MapTuple(lambda word, count: f"{count} {word}"),
        "rank": lambda lines: lines | beam.combiners.ToList()
        | beam.FlatMap(lambda all: sorted(all, key=lambda line: (-int(line.split()[0]), line))),
        "convert": lambda lines: lines,
    }


    class Options(PipelineOptions):
        @classmethod
        def _add_argparse_args(cls, parser):
            for name in ("input", "output", "language", "since", "title", "inputFileFormat", "outputFileFormat",
                         "inputFileSpec", "outputBucket", "schema"):
                parser.add_argument(f"--{name}")


    work = WORK[sys.argv.pop(1)]
    options = PipelineOptions()
    said = options.view_as(Options)
    with beam.Pipeline(options=options) as pipeline:
        if said.inputFileSpec:
            files = pipeline | beam.io.ReadFromParquet(said.inputFileSpec)
            files | beam.Map(str) | beam.io.WriteToText(said.outputBucket + "rows")
        else:
            lines = pipeline | beam.io.ReadFromText(said.input)
            work(lines) | beam.io.WriteToText(said.output)
"""


def flex(cloud: LocalCloud, folder: Path, uri: str, work: str, needed: Sequence[str], others: Sequence[str]) -> None:
    """Writes a flex template's spec, and has the local Dataflow know its image."""
    program = folder / "graph_work.py"
    program.write_text(textwrap.dedent(_PROGRAM))
    cloud.dataflow.images[f"gcr.io/p/{work}"] = [sys.executable, str(program), work]
    parameters: list[dict[str, Any]] = [{"name": name, "label": name} for name in needed]
    parameters += [{"name": name, "label": name, "isOptional": True} for name in others]
    spec: dict[str, Any] = {"image": f"gcr.io/p/{work}", "sdkInfo": {"language": "PYTHON"}}
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    described = {**spec, "metadata": {"name": work, "parameters": parameters}}
    cloud_running.bucket(cloud, bucket).blob(name).upload_from_string(json.dumps(described))


def classic(url: str, uri: str) -> None:
    """Stages a classic template, which copies its lines, and those of `more`; one of Google's has their parameters.

    Called in a process of its own, because Beam takes the options of all classes that it knows for one command line.
    """

    class Options(PipelineOptions):
        @classmethod
        def _add_argparse_args(cls, parser: Any) -> None:
            for name in (*NEEDED, "more", *BULK):
                parser.add_value_provider_argument(f"--{name}")

    bulk = "/Bulk_" in uri
    pipeline = beam.Pipeline(options=PipelineOptions([*options(url, "stage"), f"--template_location={uri}"]))
    said = pipeline.options.view_as(Options)
    lines = pipeline | beam.io.ReadFromText(said.inputFilePattern if bulk else said.input)
    if uri.endswith("/join"):
        lines = (lines, pipeline | "more" >> beam.io.ReadFromText(said.more)) | beam.Flatten()
    _ = lines | beam.io.WriteToText(said.outputDirectory if bulk else said.output)
    pipeline.run()
    names = BULK if bulk else (*NEEDED, "more") if uri.endswith("/join") else NEEDED
    metadata = {"name": "copy", "parameters": [{"name": name, "label": name} for name in names]}
    with FileSystems.create(f"{uri}_metadata") as stream:
        stream.write(json.dumps(metadata).encode())


if __name__ == "__main__":
    for each in sys.argv[2:]:
        classic(sys.argv[1], each)

"""Templates for tests: a classic one that Beam stages and a flex one, both write a text, and tasks that launch them."""

import datetime
import json
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import apache_beam as beam
import luigi
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from localcloud import BUCKET
from localcloud.dataflow import Dataflow
from millrace import Day, TemplateJob

CLASSIC = f"gs://{BUCKET}/templates/say"
FLEX = f"gs://{BUCKET}/templates/say.json"
IMAGE = "gcr.io/p/say"
PARAMETERS = [
    {"name": "say_what", "label": "Said", "helpText": "What to say", "regexes": ["[a-z ]+", ".{1,20}"]},
    {"name": "say_where", "label": "Output", "helpText": "Where to write it", "regexes": ["gs://.+"]},
    {"name": "loud", "label": "Loud", "helpText": "How", "isOptional": True, "enumOptions": [{"value": "true"}]},
]
METADATA = {"name": "Say", "parameters": PARAMETERS}

_PROGRAM = """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions


    class Options(PipelineOptions):
        @classmethod
        def _add_argparse_args(cls, parser):
            parser.add_argument("--say_what", required=True)
            parser.add_argument("--say_where", required=True)


    options = PipelineOptions()
    wanted = options.view_as(Options)
    with beam.Pipeline(options=options) as pipeline:
        pipeline | beam.Create([wanted.say_what]) | beam.io.WriteToText(wanted.say_where)
"""


class _Options(PipelineOptions):
    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        parser.add_value_provider_argument("--say_what")
        parser.add_value_provider_argument("--say_where")


def stage_classic(options: list[str]) -> None:
    """Stages the classic template, with its metadata."""
    pipeline = beam.Pipeline(options=PipelineOptions([*options, f"--template_location={CLASSIC}"]))
    wanted = pipeline.options.view_as(_Options)
    said = wanted.say_what
    text = pipeline | beam.Create([0]) | beam.Map(lambda _: said.get())
    _ = text | beam.io.WriteToText(wanted.say_where)
    pipeline.run()
    write(f"{CLASSIC}_metadata", METADATA)


def stage_flex(dataflow: Dataflow, folder: Path) -> None:
    """Writes the flex template's spec, and has the local Dataflow know its image."""
    program = folder / "say.py"
    program.write_text(textwrap.dedent(_PROGRAM))
    dataflow.images[IMAGE] = [sys.executable, str(program)]
    write(FLEX, {"image": IMAGE, "sdkInfo": {"language": "PYTHON"}, "metadata": METADATA})


def write(path: str, value: object) -> None:
    """Writes JSON."""
    with FileSystems.create(path) as stream:
        stream.write(json.dumps(value).encode())


class Say(TemplateJob):
    """A task of one's own: a template with parameters of its own."""

    template = CLASSIC
    text: str = luigi.Parameter(default="hello", positional=False)

    def arguments(self) -> Mapping[str, Any]:
        return {"say_what": self.text, "say_where": f"gs://{BUCKET}/said/{self.text.replace(' ', '-')}", "loud": None}


class SayDaily(TemplateJob):
    """A task of a day, which needs another one."""

    template = CLASSIC
    date: datetime.date = Day()

    def requires(self) -> Say:
        return Say(text="before")

    def arguments(self) -> Mapping[str, Any]:
        return {"say_what": "daily", "say_where": f"gs://{BUCKET}/said/{self.date}"}

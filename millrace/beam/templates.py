"""Pipelines that are templates: built once, launched many times, each time with parameters of its own.

    class WindowOptions(TemplateOptions):
        title = "Trends of posts"
        parameters = (
            Parameter("input", "Posts", "where the posts come from"),
            Parameter("days", "Days", "how long the window is", default="4", pattern="[1-9][0-9]{0,3}"),
        )

The one list of parameters makes the pipeline's options, which are ValueProviders and so known only while a job runs,
the help of its command line, and what a template's file says of it to Dataflow's page, to gcloud and to TemplateJob:
https://cloud.google.com/dataflow/docs/guides/templates/configuring-flex-templates#metadata-parameters
"""

import argparse
import importlib
import logging
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.options.value_provider import ValueProvider

from millrace.beam.options import Build, run
from millrace.errors import MillraceError, SettingError

#: What Beam adds to an error that a step raises.
_WHERE = re.compile(r" \[while running .*\]$")


@dataclass(frozen=True)
class Parameter:
    """A parameter of a template. pattern: what its whole text is like, a regular expression of RE2; "" for any text.

    default: its text where a launch does not say it, or says nothing (""); None where a launch has to.
    """

    name: str
    label: str
    help: str
    pattern: str = ""
    default: str | None = None


class TemplateOptions(PipelineOptions):
    """Options of a template; the pipeline's own class derives from this one."""

    #: What the template is called.
    title: ClassVar[str] = ""
    parameters: ClassVar[tuple[Parameter, ...]] = ()

    def __init_subclass__(cls) -> None:
        # Beam asks only classes that have this method themselves.
        setattr(cls, "_add_argparse_args", classmethod(_add_parameters))  # noqa: B010

    def values(self) -> Mapping[str, ValueProvider]:
        """Return the parameters by name; their values are known while the job runs, and not before."""
        return {each.name: getattr(self, each.name) for each in self.parameters}

    @classmethod
    def texts(cls, given: Mapping[str, str | None]) -> dict[str, str]:
        """Return the text of each parameter, where none or an empty one is given its default, as Beam has it."""
        return {each.name: given.get(each.name) or each.default or "" for each in cls.parameters}

    @classmethod
    def check(cls, given: Mapping[str, str | None]) -> None:
        """Raise SettingError, with all that is wrong, for texts that are none of the parameters', None or "" for one
        that is not given.
        """
        wrong = []
        for each in cls.parameters:
            text = given.get(each.name)
            if not text:
                wrong += [f"--{each.name} is missing ({each.help})"] if each.default is None else []
            elif each.pattern and not re.fullmatch(each.pattern, text):
                wrong.append(f"--{each.name} {text!r} does not match {each.pattern} ({each.help})")
        if wrong:
            raise SettingError("; ".join(wrong))


def _add_parameters(of: type[TemplateOptions], parser: Any) -> None:
    for each in of.parameters:
        parser.add_value_provider_argument(f"--{each.name}", default=each.default, help=each.help)


def metadata(of: type[TemplateOptions], description: str) -> dict[str, Any]:
    """Return what a template's file says of its parameters, as Dataflow's TemplateMetadata has it."""
    return {
        "name": of.title,
        "description": description,
        "parameters": [
            {
                "name": each.name,
                "label": each.label,
                "helpText": f"{each.help} (default: {each.default})" if each.default else each.help,
                **({"regexes": [_anchored(each.pattern)]} if each.pattern else {}),
                **({"isOptional": True} if each.default is not None else {}),
            }
            for each in of.parameters
        ],
    }


def _anchored(pattern: str) -> str:
    """Return a pattern for a whole text: ^ and $ belong to all of its alternatives, not to the first and the last."""
    return f"^({pattern})$" if "|" in pattern else f"^{pattern}$"


def main(build: Build, of: type[TemplateOptions]) -> None:
    """Run the command line of `python -m pipelines.…`: help and checks first, then the pipeline.

    With --template_location it is the template that is built, which needs no parameters.
    """
    program = sys.modules["__main__"]
    if program.__spec__:
        # Workers find what the pipeline is made of by the module's name; there is no such program as this one there.
        module = importlib.import_module(program.__spec__.name)
        build, of = getattr(module, build.__name__), getattr(module, of.__name__)
    parser = argparse.ArgumentParser(
        description=program.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog="All other options go to Apache Beam; the default runner is FnApiRunner.",
    )
    for each in of.parameters:
        default = f" (default: {each.default})" if each.default else ""
        parser.add_argument(f"--{each.name}", help=f"{each.help}{default}".replace("%", "%%"))
    parser.add_argument("--template_location", help=argparse.SUPPRESS)
    given, _ = parser.parse_known_args()
    try:
        if not given.template_location or any(getattr(given, each.name) for each in of.parameters):
            of.check(vars(given))
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # which writes the traceback of what a step raises
        run(build, sys.argv[1:])
    except MillraceError as error:
        sys.exit(f"error: {_WHERE.sub('', str(error))}")

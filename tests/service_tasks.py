"""A service and what ends it, for tests: its job is the pipeline for tests, and does nothing while jobs are held."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import luigi

from millrace import Service, StopService


class Stream(Service):
    """A streaming job; rate: an option of it, which tells it from no other."""

    pipeline: ClassVar[str] = "dataflow_case"
    label: str = luigi.Parameter(default="stream", positional=False)
    rate: int = luigi.IntParameter(default=1, positional=False)
    version: Any = "1"

    @property
    def service(self) -> str:
        return f"Stream_{self.label}"

    def options(self) -> Mapping[str, Any]:
        return {"input": json.dumps(["sleep", self.rate]), "output": "gs://nowhere/out"}


class Newer(Stream):
    """The same service, with other code."""

    version: Any = "2"


class EndStream(StopService):
    """Its end."""

    label: str = luigi.Parameter(default="stream", positional=False)

    def service(self) -> Stream:
        return Stream(label=self.label)

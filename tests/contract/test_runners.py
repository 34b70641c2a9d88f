"""Beam's runner in this process, and Dataflow, keep the contract of Runner."""

from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.metrics.metric import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from dataflow_running import Set

from localcloud import BUCKET
from localcloud.dataflow import Dataflow as Service
from millrace import runners
from millrace.beam import options
from millrace.core.config import Config
from millrace.core.storage import LocalStorage, Storage
from millrace.gcloud.clients import Google
from millrace.runners import in_process
from millrace.runners.runner import Runner
from millrace.tasks import session
from millrace.testing import RunnerContract


class TestInProcess(RunnerContract):
    @pytest.fixture
    def runner(self) -> Runner:
        return runners.of("FnApiRunner", Google(Config()))

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        (tmp_path / "out").mkdir()
        return LocalStorage(str(tmp_path))


def test_a_counter_of_several_steps_is_their_sum() -> None:
    counter = Metrics.counter("case", "n")

    def count(number: int) -> int:
        counter.inc(number)
        return number

    def build(pipeline: beam.Pipeline, given: PipelineOptions) -> None:
        _ = pipeline | beam.Create([1, 2]) | "A" >> beam.Map(count) | "B" >> beam.Map(count)

    assert in_process._counters(options.run(build, [])) == {"n": (1 + 2) * 2}


class TestDataflow(RunnerContract):
    @pytest.fixture
    def runner(self, storage: Storage) -> Runner:
        return runners.of("DataflowRunner", session.current().google)

    @pytest.fixture
    def storage(self, local: Service, setting: Set, tmp_path: Path) -> Storage:
        setting("millrace", "storage", f"gs://{BUCKET}/{tmp_path.name}")
        return session.current().storage

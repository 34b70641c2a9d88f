"""The machinery, which knows no workflow: settings, clients, storage, manifests, ledger, stages, warehouse."""

from workflows.engine import surroundings

surroundings.settle()  # before luigi is imported, which reads its settings then

from workflows.engine.beam_task import BeamTask
from workflows.engine.datasets import Dataset
from workflows.engine.ranges import RangeDaily
from workflows.engine.stage import Stage
from workflows.engine.targets import BigQueryTarget, GCSTarget

__all__ = ["BeamTask", "BigQueryTarget", "Dataset", "GCSTarget", "RangeDaily", "Stage"]

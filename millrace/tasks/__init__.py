"""The machinery, which knows no workflow: settings, clients, storage, manifests, ledger, stages, warehouse."""

from millrace.tasks import surroundings

surroundings.settle()  # before luigi is imported, which reads its settings then

from millrace.tasks.beam_task import BeamTask
from millrace.tasks.datasets import Dataset
from millrace.tasks.ranges import RangeDaily
from millrace.tasks.stage import Stage
from millrace.tasks.targets import BigQueryTarget, GCSTarget

__all__ = ["BeamTask", "BigQueryTarget", "Dataset", "GCSTarget", "RangeDaily", "Stage"]

"""The machinery, which knows no workflow: settings, clients, storage, manifests, ledger, stages, warehouse."""

from workflows.engine.beam_task import BeamTask
from workflows.engine.datasets import Dataset
from workflows.engine.stage import Stage

__all__ = ["BeamTask", "Dataset", "Stage"]

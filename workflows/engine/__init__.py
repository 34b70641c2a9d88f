"""The machinery, which knows no workflow: settings, clients, storage, manifests, ledger, stages, warehouse."""

import configparser
import sys

try:
    import luigi  # noqa: F401  luigi.cfg is read when it is imported, before anything of ours could
except configparser.Error as error:
    sys.exit(f"error: luigi.cfg can't be read: {' '.join(str(error).split())}")

from workflows.engine.beam_task import BeamTask
from workflows.engine.datasets import Dataset
from workflows.engine.ranges import RangeDaily
from workflows.engine.stage import Stage
from workflows.engine.targets import BigQueryTarget, GCSTarget

__all__ = ["BeamTask", "BigQueryTarget", "Dataset", "GCSTarget", "RangeDaily", "Stage"]

"""Where pipelines run: one contract (runner.py), in process and on Dataflow."""

from millrace.gcloud.clients import Google
from millrace.runners.runner import Runner


def of(name: str, google: Google) -> Runner:
    """Return the runner that settings and ledger call by a name of Beam's.

    google: through which a runner in Google Cloud is asked; its settings hold for all runners.
    """
    if name == "DataflowRunner":
        from millrace.runners.dataflow.runner import Dataflow

        return Dataflow(google)
    from millrace.runners.in_process import InProcess

    return InProcess(name or "FnApiRunner", google.config)

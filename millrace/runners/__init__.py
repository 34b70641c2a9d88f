"""Where pipelines run: one contract (runner.py), in process and on Dataflow."""

from millrace.runners.runner import Runner


def of(name: str) -> Runner:
    """Return the runner that settings and ledger call by a name of Beam's."""
    if name == "DataflowRunner":
        from millrace.runners.dataflow.runner import Dataflow

        return Dataflow()
    from millrace.runners.in_process import InProcess

    return InProcess(name or "FnApiRunner")

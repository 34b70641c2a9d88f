"""`luigi --module crashing_flows Paused`: the flows of tests, in a process that dies as crashing.py says."""

import crashing
import flow_tasks

__all__ = ["crashing", "flow_tasks"]

"""The public tasks: what `luigi --module workflows` offers."""

from pipelines import gcs
from workflows.engine import clients, console, tasks
from workflows.posts import Aggregate, Count, Etl, Fetch, Report, SplitArchive

__all__ = ["Aggregate", "Count", "Etl", "Fetch", "Report", "SplitArchive"]

# Pipelines that run in this process, and sources, ask Cloud Storage as the settings say.
gcs.use(clients.storage_client, clients.access)
console.install()
tasks.install()

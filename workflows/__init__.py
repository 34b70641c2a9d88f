"""The public tasks: what `luigi --module workflows` offers."""

from millrace.beam import gcs
from millrace.gcloud import clients
from millrace.tasks import console, tasks
from workflows.posts import Aggregate, Count, Etl, Fetch, Report, SplitArchive

__all__ = ["Aggregate", "Count", "Etl", "Fetch", "Report", "SplitArchive"]

# Pipelines that run in this process, and sources, ask Cloud Storage as the settings say.
gcs.use(clients.storage_client, clients.access)
console.install()
tasks.install()

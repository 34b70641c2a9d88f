"""The public tasks: what `luigi --module workflows` offers."""

from millrace.tasks import console, tasks
from workflows.posts import Aggregate, Count, Etl, Fetch, Report, SplitArchive

__all__ = ["Aggregate", "Count", "Etl", "Fetch", "Report", "SplitArchive"]

console.install()
tasks.install()

"""The public tasks: what `luigi --module workflows` offers."""

from workflows.posts import Aggregate, Count, Etl, Fetch, Report, SplitArchive

__all__ = ["Aggregate", "Count", "Etl", "Fetch", "Report", "SplitArchive"]

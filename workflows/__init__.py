"""The public tasks: what `luigi --module workflows` offers."""

from workflows.posts import Aggregate, Count, Etl, Fetch, Report, SplitArchive
from workflows.words import LetterCount, WordCount

__all__ = ["Aggregate", "Count", "Etl", "Fetch", "LetterCount", "Report", "SplitArchive", "WordCount"]

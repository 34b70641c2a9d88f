"""The public tasks: what `luigi --module workflows` offers."""

from workflows.digits import DigitReport, LoadDigits, ScoreDigits
from workflows.posts import Aggregate, Count, Etl, Fetch, Report, SplitArchive
from workflows.words import LetterCount, WordCount

__all__ = [
    "Aggregate",
    "Count",
    "DigitReport",
    "Etl",
    "Fetch",
    "LetterCount",
    "LoadDigits",
    "Report",
    "ScoreDigits",
    "SplitArchive",
    "WordCount",
]

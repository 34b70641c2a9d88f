"""The public tasks: what `luigi --module workflows` offers."""

from workflows.digit_stream import DigitStream, StopStream
from workflows.digits import DigitReport, LoadDigits, ScoreDigits
from workflows.posts import Aggregate, Count, Etl, Fetch, Report, SplitArchive
from workflows.words import LetterCount, WordCount

__all__ = [
    "Aggregate",
    "Count",
    "DigitReport",
    "DigitStream",
    "Etl",
    "Fetch",
    "LetterCount",
    "LoadDigits",
    "Report",
    "ScoreDigits",
    "SplitArchive",
    "StopStream",
    "WordCount",
]

"""What a page says, as plain values: asked of the warehouse once, used by the page, the charts and the JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflows.pages import Query

#: How many of the least certain images a page draws, and how many models it names.
LEAST, MODELS = 24, 5
DIGITS = range(10)

_QUERY = Path(__file__).parent / "page.sql"
#: The standard normal's quantile of an interval that holds 95 of 100 times.
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Share:
    """A part of some images: how many, of how many."""

    part: int
    whole: int

    @property
    def value(self) -> float | None:
        """The part as a fraction; None of no images."""
        return self.part / self.whole if self.whole else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's interval of 95 %: where the fraction may lie that many such images would have."""
        if not self.whole:
            return None
        n, share = self.whole, self.part / self.whole
        middle = share + _Z * _Z / (2 * n)
        wide = _Z * math.sqrt(share * (1 - share) / n + _Z * _Z / (4 * n * n))
        low, high = ((middle + sign * wide) / (1 + _Z * _Z / n) for sign in (-1, 1))
        # With none or all of them the interval ends there exactly, whatever rounding makes of it.
        return 0.0 if self.part == 0 else max(low, 0.0), 1.0 if self.part == n else min(high, 1.0)


@dataclass(frozen=True, slots=True)
class Tenth:
    """The images whose highest probability lies in one tenth, from `number` / 10 on.

    confidence: the mean of those that have a label, None where none has.
    """

    number: int
    images: int
    correct: Share
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Uncertain:
    """An image of which the model is little certain; image: as the table has it, None where it has gone."""

    id: int
    digit: int
    label: int | None
    confidence: float
    probabilities: Sequence[float]
    image: Any

    @property
    def second(self) -> tuple[int, float]:
        """The digit of the highest probability but the predicted one, and that probability."""
        other = max((digit for digit in DIGITS if digit != self.digit), key=lambda digit: self.probabilities[digit])
        return other, self.probabilities[other]


@dataclass(frozen=True)
class Data:
    """The rows of one page.

    matrix: images by label and by predicted digit. predicted: images by predicted digit, with label or without. tenths:
    ten. no_probability: images whose highest output is none, as a model's that gives something else. models: as the
    predictions name them, with their images.
    """

    matrix: Sequence[Sequence[int]]
    predicted: Sequence[int]
    tenths: Sequence[Tenth]
    no_probability: int
    models: Mapping[str, int]
    least: Sequence[Uncertain]

    @property
    def images(self) -> int:
        """Images that were scored."""
        return sum(self.predicted)

    @property
    def correct(self) -> Share:
        """The images that were taken for what their label says."""
        return Share(sum(self.matrix[digit][digit] for digit in DIGITS), sum(map(sum, self.matrix)))

    def recall(self, digit: int) -> Share:
        """Of the images of a digit, those that were taken for it."""
        return Share(self.matrix[digit][digit], sum(self.matrix[digit]))

    def precision(self, digit: int) -> Share:
        """Of the images that were taken for a digit and have a label, those that are it."""
        return Share(self.matrix[digit][digit], sum(row[digit] for row in self.matrix))

    @property
    def calibration_error(self) -> float | None:
        """The expected calibration error: how far confidence and accuracy lie apart, the mean over all images."""
        known = [(tenth, tenth.confidence, tenth.correct.value) for tenth in self.tenths]
        apart = [
            tenth.correct.whole * abs(confidence - accuracy)
            for tenth, confidence, accuracy in known
            if confidence is not None and accuracy is not None
        ]
        labelled = sum(tenth.correct.whole for tenth in self.tenths)
        return sum(apart) / labelled if labelled else None


#: What a page says of no images.
NOTHING = Data(
    matrix=[[0] * 10 for _ in DIGITS],
    predicted=[0] * 10,
    tenths=[Tenth(number, 0, Share(0, 0), None) for number in DIGITS],
    no_probability=0,
    models={},
    least=[],
)


def ask(query: Query, images: str, predictions: str, labelled: bool) -> Data:
    """Read a page's rows from the warehouse.

    images, predictions: the tables of the images and of what was made of them. labelled: whether images have a column
    label. Raises what `query` raises.
    """
    sql = _QUERY.read_text(encoding="utf-8")
    label = "SAFE_CAST(label AS INT64)" if labelled else "CAST(NULL AS INT64)"
    for name, meant in (
        ("images_table", f"`{images}`"),
        ("predictions_table", f"`{predictions}`"),
        ("given_label", label),
    ):
        sql = sql.replace(name, meant)
    (found,) = query(sql, {"least": LEAST, "models": MODELS}).to_pylist()
    matrix, predicted = [[0] * 10 for _ in DIGITS], [0] * 10
    for row in found["taken"]:
        predicted[row["digit"]] += row["images"]
        if row["label"] is not None:
            matrix[row["label"]][row["digit"]] += row["images"]
    tenths = {row["tenth"]: row for row in found["tenths"]}
    odd = tenths.pop(None, None)
    return Data(
        matrix=matrix,
        predicted=predicted,
        tenths=[_tenth(number, tenths.get(number)) for number in DIGITS],
        no_probability=odd["images"] if odd else 0,
        models={str(row["model"]): row["images"] for row in found["models"]},
        least=[Uncertain(**row) for row in found["least"]],
    )


def _tenth(number: int, row: Mapping[str, Any] | None) -> Tenth:
    if row is None:
        return Tenth(number, 0, Share(0, 0), None)
    labelled = row["labelled"]
    return Tenth(
        number, row["images"], Share(row["correct"], labelled), row["confidence"] / labelled if labelled else None
    )

"""Renders the page of scored digits, and its data as JSON.

`report.json` is one object with sorted keys; what the page shows stands in it:

    schema      1: this description
    made_at     when the page was made, RFC 3339, UTC
    images      {table, source: where they came from, or ""; sample: whether they are the built-in ones; scored}
    quality     [{stage, read, kept, rejected: {reason: images}}], a stage that read images each
    model       {uri, digest: SHA-256 of the model's file; in_table: {name in the predictions: images}}
    predicted   ten numbers: images taken for each digit
    labelled    scored images that have a label; without any, what follows up to calibration is null
    accuracy    {correct, of, value: fraction, interval: [low, high], Wilson's of 95 %}
    confusion   ten rows, a label each, of ten numbers: images taken for each digit
    digits      [{digit, recall, precision: as accuracy; null where there are no such images}]
    calibration {error: the expected calibration error, or null; no_probability: images whose highest output is none;
                tenths: [{from, to, images, labelled, correct, confidence: mean of those with labels, or null}]}
    least_certain  [{id, digit, label: number or null, confidence, probabilities: ten}], the 24 of least confidence
    stages      [{stage, date: null, rows, seconds, runner, code_version, job: string or null, code: "" where it is not
                known, other_code: whether it is another code than the page's run had for the stage}]

Equal facts and rows give an equal page and equal JSON.
"""

import datetime
import functools
import importlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflows.digit_report.data import DIGITS, NOTHING, Data, Share, ask
from workflows.pages import HALF, NARROW, Query, environment, json_bytes
from workflows.pages.stages import StageRun

if TYPE_CHECKING:
    import jinja2

__all__ = ["Facts", "Quality", "preload", "render"]

SCHEMA = 1

_TEMPLATES = Path(__file__).parent / "templates"
#: After a number, with a space at which no line ends.
_PERCENT = "\u00a0%"
#: Reasons that the page names; what has more is summed up.
_REASONS = 20


@dataclass(frozen=True)
class Quality:
    """What became of the images that a stage read: read = kept + the sum of rejected, which are by reason."""

    stage: str
    read: int
    kept: int
    rejected: Mapping[str, int]


@dataclass(frozen=True)
class Facts:
    """What a page says beside its tables.

    images, predictions: the names of the tables. labelled: whether images have a column label. source: where the images
    came from, "" where that is not known. sample: whether they are the built-in ones. model: its URI. digest: of its
    file. quality: of the stages that read images, the one that scored last. stages: what the page was made from.
    made_at: with its time zone. Raises ValueError for a made_at without one.
    """

    images: str
    predictions: str
    labelled: bool
    source: str
    sample: bool
    model: str
    digest: str
    quality: Sequence[Quality]
    stages: Sequence[StageRun]
    made_at: datetime.datetime

    def __post_init__(self) -> None:
        """Raise ValueError for facts that no page can be made of."""
        if self.made_at.utcoffset() is None:
            raise ValueError(f"made_at is {self.made_at.isoformat()}: it needs a time zone")


def render(facts: Facts, query: Query) -> dict[str, bytes]:
    """Render a page.

    facts: what the tables do not say. query: runs BigQuery SQL with named parameters against the warehouse. Returns the
    files by name: `index.html` (self-contained) and `report.json` (see this module). Without images, or without labels,
    the page says so. Raises what `query` raises.
    """
    none = bool(facts.quality) and not facts.quality[-1].kept  # there may be no table then
    data = NOTHING if none else ask(query, facts.images, facts.predictions, facts.labelled)
    report = _report(facts, data)
    page = _templates().get_template("digits.html.j2").render(_context(facts, data, report))
    return {"index.html": page.encode(), "report.json": json_bytes(report)}


def preload() -> None:
    """Import what draws and read the template, for processes that come of this one."""
    importlib.import_module("workflows.digit_report.charts")
    importlib.import_module("pipelines.digits.images")
    _templates().get_template("digits.html.j2")


def _report(facts: Facts, data: Data) -> dict[str, Any]:
    """Return a page's data as `report.json` has it."""
    labelled = data.correct.whole
    tenths = [
        {
            "from": tenth.number / 10,
            "to": (tenth.number + 1) / 10,
            "images": tenth.images,
            "labelled": tenth.correct.whole,
            "correct": tenth.correct.part,
            "confidence": tenth.confidence,
        }
        for tenth in data.tenths
    ]
    return {
        "schema": SCHEMA,
        "made_at": facts.made_at.astimezone(datetime.UTC),
        "images": {
            "table": facts.images,
            "source": facts.source,
            "sample": facts.sample,
            "scored": data.images,
        },
        "quality": [asdict(each) for each in facts.quality],
        "model": {"uri": facts.model, "digest": facts.digest, "in_table": dict(data.models)},
        "predicted": list(data.predicted),
        "labelled": labelled,
        "accuracy": _share(data.correct),
        "confusion": [list(row) for row in data.matrix] if labelled else None,
        "digits": [
            {"digit": digit, "recall": _share(data.recall(digit)), "precision": _share(data.precision(digit))}
            for digit in DIGITS
        ]
        if labelled
        else None,
        "calibration": {
            "error": data.calibration_error,
            "no_probability": data.no_probability,
            "tenths": tenths,
        },
        "least_certain": [
            {
                "id": each.id,
                "digit": each.digit,
                "label": each.label,
                "confidence": each.confidence,
                "probabilities": list(each.probabilities),
            }
            for each in data.least
        ],
        "stages": [asdict(run) for run in facts.stages],
    }


def _share(share: Share) -> dict[str, Any] | None:
    if not share.whole:
        return None
    return {"correct": share.part, "of": share.whole, "value": share.value, "interval": share.interval}


def _context(facts: Facts, data: Data, report: dict[str, Any]) -> dict[str, Any]:
    """Return what the template needs; the charts, made here and of known elements, are its only markup."""
    import markupsafe

    from workflows.digit_report.pictures import picture

    rejected: Counter[str] = Counter()
    for each in facts.quality:
        rejected.update(each.rejected)
    reasons = sorted(rejected, key=lambda reason: (-rejected[reason], reason))
    return {
        "facts": facts,
        "data": data,
        "report": report,
        "charts": {name: markupsafe.Markup(text) for name, text in _draw(data).items()},
        "digits": DIGITS,
        "longest": max(map(max, data.matrix)),
        "least": [(each, picture(each.image)) for each in data.least],
        "rejected": rejected,
        "reasons": reasons[:_REASONS],
        "other_reasons": reasons[_REASONS:],
        "mixed_code": [run.stage for run in facts.stages if run.other_code],
        "made_at": facts.made_at.astimezone(datetime.UTC),
    }


def _draw(data: Data) -> dict[str, str]:
    """Draw a page's charts: SVG by name, only those that have something to show."""
    from workflows.digit_report import charts
    from workflows.pages import svg

    if data.images == data.no_probability:
        return {}
    if data.correct.whole:
        draw, label = charts.calibration, "Calibration: how often images of each tenth of probability were right"
    else:
        draw, label = charts.confidence, "Confidence: images by their highest probability"
    return {
        "calibration": svg.inline(draw(data.tenths, HALF), label),
        "calibration_narrow": svg.inline(draw(data.tenths, NARROW), label),
    }


@functools.cache
def _templates() -> "jinja2.Environment":
    made = environment(_TEMPLATES)
    made.filters.update(images=_images, exact=_exact, between=_between, heat=_heat)
    return made


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _exact(fraction: float | None) -> str:
    """Write a fraction as a percentage of two decimals, `100 %` and `0 %` only for all and none; – for None."""
    if fraction is None:
        return "–"
    percent = f"{100 * fraction:.0f}" if fraction in (0, 1) else f"{min(max(100 * fraction, 0.01), 99.99):.2f}"
    return percent + _PERCENT


def _between(interval: tuple[float, float]) -> str:
    """Write an interval of fractions in percent: `98.86 to 99.24 %`."""
    low, high = map(_exact, interval)
    return f"{low.removesuffix(_PERCENT)} to {high}".replace(" ", "\u00a0")


def _heat(images: int, row: int) -> str:
    """Return the class of a cell of the confusion matrix: from h0 for none to h6 for more than half of its row."""
    if not images or not row:
        return "h0"
    return f"h{1 + sum(images / row > limit for limit in (0.002, 0.01, 0.03, 0.1, 0.5))}"

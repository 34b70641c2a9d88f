"""Which digits images show: LoadDigits fills a table with images, ScoreDigits one with what a model says of them, and
DigitReport makes a page of that.
"""

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from millrace import (
    BeamTask,
    Dataset,
    Manifest,
    PageTask,
    Setting,
    SettingError,
    Settings,
    SourceBounds,
    SourceTask,
    Stage,
    TableStage,
    accounting,
    check_rejects,
    share,
)
from pipelines.digits import models, sources
from pipelines.digits.tables import TABLES
from workflows.pages.stages import stage_run

if TYPE_CHECKING:
    from workflows.digit_report.page import Facts, Quality


class digits(SourceBounds, Settings):
    """Which rows are too many to be wrong, and how sources are read."""

    max_dead_letter_share: float = Setting(
        convert=share, default=0.5, description="share of rows that may be no images"
    )


class DigitsTask(BeamTask):
    """What both tasks share."""

    section = digits
    batchable = False
    progress = "rows_read"

    def check(self, manifest: Manifest) -> None:
        rejected = f"{self.writes[-1]}, in {self.datasets()[-1].uri}"
        check_rejects(manifest, digits(), rejected, lambda: "mend what is read")


class LoadDigits(DigitsTask, SourceTask):
    """The images of a source, and their labels, as the table digits, which is replaced whole."""

    writes = ("digits", "digits_rejected")
    tables = {"digits": TABLES["digits"]}
    pipeline = "pipelines.digits.load"
    empty_from_empty = False
    source: str = Setting(
        convert=sources.check,
        allowed=f"{sources.SAMPLE}, a path or glob, or a file://, gs:// or http(s):// URI",
        default=sources.SAMPLE,
        description="images: key:784 numbers a line, IDX or CSV, packed or not",
    )
    labels: str = Setting(
        convert=lambda value: value and sources.check(value),
        allowed="a path or glob, or a file://, gs:// or http(s):// URI",
        default="",
        description="their labels: IDX, or lines of id,label",
    )

    def reading(self) -> str:
        return self.source

    def options(self) -> Mapping[str, Any]:
        return {**super().options(), "labels": self.labels}

    def versions(self) -> Mapping[str, str]:
        return {f"source {name}": sources.version(name, self.redirect_hosts) for name in self._read()}

    def runs_here(self) -> bool:
        return any(map(sources.is_local, self._read()))

    def _read(self) -> list[str]:
        return [name for name in (self.source, self.labels) if name]


class ScoreDigits(DigitsTask):
    """What a model says of the images of a table, as the table digit_predictions, which is replaced whole."""

    writes = ("digit_predictions", "digit_predictions_rejected")
    tables = {"digit_predictions": TABLES["digit_predictions"]}
    pipeline = "pipelines.digits.score"
    images: str = Setting(convert=str, default="digits", description="a table of the warehouse with id and image")
    model: str = Setting(
        convert=models.check,
        allowed=f"{models.BUNDLED}, a path, or a file://, gs:// or http(s):// URI",
        default=models.BUNDLED,
        description="an ONNX model: n × 784 floats in, n × 10 out",
    )

    @classmethod
    def memory_here(cls, largest: int, together: int) -> int:
        # As measured of 100,000 and 400,000 rows: some blocks of images, and 400 bytes a row for its prediction.
        return (384 << 20) + 2 * together

    def requires(self) -> TableStage:
        return TableStage(table=self.images)

    def options(self) -> Mapping[str, Any]:
        return {"model": self.model, "digest": self._digest()}

    def versions(self) -> Mapping[str, str]:
        return {f"model {self.model}": self._digest()}

    def preflight(self) -> None:
        super().preflight()
        try:
            from pipelines.digits import scoring
        except ModuleNotFoundError as error:
            mend = "pip install 'millrace[digits]'"
            raise SettingError(f"ScoreDigits needs {error.name}, which is not installed", mend=mend) from None
        scoring.load_model(models.read_model(self.model), self.model)

    def runs_here(self) -> bool:
        return models.is_local(self.model)

    def _digest(self) -> str:
        return models.digest_of(models.read_model(self.model))


class DigitReport(PageTask):
    """The page of a table's images as a model scored them, and its data as JSON."""

    writes = ("digit_reports",)
    section = digits
    made_by = "workflows.digit_report"
    images: str = ScoreDigits.images
    model: str = ScoreDigits.model

    def requires(self) -> ScoreDigits:
        return ScoreDigits(images=self.images, model=self.model)

    def preload(self) -> None:
        from workflows.digit_report.page import preload

        preload()
        super().preload()

    def render(self) -> Mapping[str, bytes]:
        from workflows.digit_report.page import render

        return render(self._facts(), self.requires().query)

    def _facts(self) -> "Facts":
        from workflows.digit_report.page import Facts

        scored = self.requires()
        rows, made = scored.requires(), scored.lineage()
        stages: list[tuple[Stage, Manifest]] = [(rows, made[rows]), (scored, made[scored])]
        source = ""
        loaded = Dataset(self.images).read()
        if loaded and loaded[0].pipeline == LoadDigits.pipeline:
            source = str(loaded[0].settings.get("source", ""))
            stages.insert(0, (LoadDigits(), loaded[0]))
        return Facts(
            images=self.images,
            predictions=scored.named("digit_predictions"),
            labelled="label" in made[rows].schemas.get("table_files", {}),
            source=source,
            sample=source == sources.SAMPLE,
            model=self.model,
            digest=made[scored].versions.get(f"model {self.model}", ""),
            quality=[_quality(stage.task_family, manifest) for stage, manifest in stages if stage is not rows],
            stages=[stage_run(stage, None, manifest) for stage, manifest in stages],
            made_at=datetime.datetime.now(datetime.UTC),
        )


def _quality(stage: str, manifest: Manifest) -> "Quality":
    from workflows.digit_report.page import Quality

    counted = accounting(manifest)
    return Quality(stage, counted["read"], counted["kept"], counted["rejected"])

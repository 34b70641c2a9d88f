"""DigitReport runs end to end: from images to tables to a page."""

import json
import random
from pathlib import Path
from typing import Any

import cloud_running
import numpy as np
import pytest
import running
from cloud_running import Place

from localcloud import BUCKET, LocalCloud

FILES = {"source": "images.txt", "labels": "labels.csv"}
NAMES = ("index.html", "report.json")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with a table of 41 images, one of which is none, made of 42 lines, one of which is none; every other
    image has a label.
    """
    folder = tmp_path_factory.mktemp("digits")
    chance = random.Random(5)
    lines = [f"{number}:" + ",".join(f"{chance.random():.3f}" for _ in range(784)) for number in range(40)]
    (folder / "images.txt").write_text("\n".join([*lines, "40:1,2,3", "nonsense"]) + "\n")
    (folder / "labels.csv").write_text("ID,Label\n" + "".join(f"{n},{n % 10}\n" for n in range(0, 40, 2)))
    flags = ("--source", folder / "images.txt", "--labels", folder / "labels.csv")
    running.succeed("LoadDigits", *flags, storage=folder / "data")
    return folder / "data"


@pytest.fixture(scope="module")
def told(loaded: Path) -> str:
    """What the run that makes the page of that table says."""
    return str(running.succeed("DigitReport", storage=loaded))


def report(storage: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((storage / "digit_reports/report.json").read_text(encoding="utf-8"))
    return found


@running.long
def test_the_page_in_the_cloud_is_that_of_one_machine(loaded: Path, told: str, tmp_path: Path) -> None:
    """From Cloud Storage by way of Dataflow and BigQuery, the page says the same of the same images."""
    with LocalCloud() as cloud:
        place = Place(cloud, tmp_path)
        cloud_running.upload(cloud, [loaded.parent / "images.txt", loaded.parent / "labels.csv"], "in")
        place.succeed("LoadDigits", *(f"--{name}=gs://{BUCKET}/in/{file}" for name, file in FILES.items()))
        place.succeed("DigitReport")
        assert place.stages() == {"loaddigits": 1, "scoredigits": 1}
        blobs = [cloud_running.bucket(cloud).blob(f"{place.name}/digit_reports/{name}") for name in NAMES]
        page, data = (blob.download_as_text() for blob in blobs)
        assert blobs[0].content_type == "text/html; charset=utf-8"
    assert "DataflowRunner" in page
    there, here = json.loads(data), report(loaded)
    for each in (there, here):
        for name in ("made_at", "stages", "images"):
            del each[name]
    assert there == here


def test_the_page_says_what_the_tables_have(loaded: Path, told: str) -> None:
    """One command scores the table and makes the page, whose figures are those of the tables' rows; it lies alone.
    When the table has changed it is made anew where that is asked for, and refused where not.
    """
    assert f"The page is {loaded}/digit_reports/index.html" in told
    rows = running.select(loaded, "SELECT * FROM digit_predictions JOIN digits USING (id) ORDER BY id")
    assert len(rows) == 40
    made = report(loaded)
    known = [row for row in rows if row["label"] is not None]
    right = sum(row["label"] == row["digit"] for row in known)
    assert (made["accuracy"]["correct"], made["accuracy"]["of"]) == (right, len(known)) == (right, 20)
    assert made["predicted"] == [sum(row["digit"] == digit for row in rows) for digit in range(10)]
    sure = np.array([max(float(str(row[f"p{digit}"])) for digit in range(10)) for row in rows])
    assert [row["id"] for row in made["least_certain"]] == np.argsort(sure, kind="stable")[:24].tolist()
    quality = [(each["stage"], each["read"], each["kept"], len(each["rejected"])) for each in made["quality"]]
    assert quality == [("LoadDigits", 42, 41, 1), ("ScoreDigits", 41, 40, 1)]
    assert len(made["model"]["digest"]) == 64
    (name,) = made["model"]["in_table"]
    assert name.endswith(made["model"]["digest"][:12])
    assert made["images"]["source"].endswith("/images.txt")
    assert [run["stage"] for run in made["stages"]] == ["LoadDigits", "TableStage", "ScoreDigits"]
    assert sorted(path.name for path in (loaded / "digit_reports").iterdir()) == ["_MANIFEST.json", *NAMES]

    labels = loaded.parent / "labels.csv"
    labels.write_text(labels.read_text(encoding="utf-8").replace("0,0\n", "0,9\n", 1), encoding="utf-8")
    flags = ("--source", loaded.parent / "images.txt", "--labels", labels)
    running.succeed("LoadDigits", *flags, "--refresh", storage=loaded)
    refused = running.luigi("DigitReport", storage=loaded)
    assert refused.code != 0
    assert "table digits" in str(refused)
    running.succeed("DigitReport", "--refresh", storage=loaded)
    assert report(loaded)["made_at"] != made["made_at"]

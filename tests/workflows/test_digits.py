"""LoadDigits and ScoreDigits from end to end: real images, odd paths, another model under the same name, the cloud."""

import csv
import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path

import cloud_running
import google.cloud.bigquery as bigquery_api
import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import running
from cloud_running import Place

from localcloud import BUCKET, PROJECT, LocalCloud
from pipelines.digits.model import MODEL

DATA = running.ROOT.parent / "shared/data/digits"
RIGHT = "SELECT COUNT(*) AS n, COUNTIF(label = digit) AS found FROM digits JOIN digit_predictions USING (id)"


def other_model() -> bytes:
    """A model that takes 0 for 1 and so on, and scores alike otherwise."""
    model = onnx.load(MODEL)
    for name in ("output", "output_bias"):
        (weights,) = (each for each in model.graph.initializer if each.name == name)
        turned = onnx.numpy_helper.to_array(weights)[..., ::-1].copy()
        weights.CopyFrom(onnx.numpy_helper.from_array(turned, name))
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 300 of the real images, in a folder with an odd name, and a line that is no image."""
    if not DATA.exists():
        running.absent(f"{DATA} is not there")
    folder = tmp_path_factory.mktemp("images") / "a b=c"
    folder.mkdir()
    with gzip.open(DATA / "images.txt.gz", "rt") as lines, gzip.open(folder / "images.txt.gz", "wt") as images:
        images.writelines(line for line, _ in zip(lines, range(300), strict=False))
        images.write("300:0.5,nan\n")
    shutil.copy(DATA / "labels.csv", folder / "labels.csv")
    return folder


@pytest.fixture(scope="module")
def single(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage of a machine that has loaded and scored those."""
    storage = tmp_path_factory.mktemp("single") / "data {x}"
    source, labels = few / "images.txt.gz", few / "labels.csv"
    running.succeed("LoadDigits", "--source", source, "--labels", labels, storage=storage)
    running.succeed("ScoreDigits", "--images", "digits", storage=storage)
    return storage


def test_images_are_scored_and_what_is_none_is_a_dead_letter(single: Path) -> None:
    with gzip.open(DATA / "images.txt.gz", "rt") as lines:
        images = [line.split(":")[1].split(",") for line, _ in zip(lines, range(300), strict=False)]
    (alone,) = onnxruntime.InferenceSession(str(MODEL)).run(None, {"images": np.array(images, np.float32)})
    found = running.select(single, "SELECT id, digit FROM digit_predictions ORDER BY id")
    assert [row["digit"] for row in found] == alone.argmax(1).tolist()
    assert running.select(single, RIGHT) == [{"n": 300, "found": 298}]
    with (DATA / "labels.csv").open() as lines:
        labels = [int(row["Label"]) for row in csv.DictReader(lines)]
    assert running.select(single, "SELECT id, label FROM digits ORDER BY id") == [
        {"id": number, "label": labels[number]} for number in range(301)
    ]
    dead = running.select(single, "SELECT id, reason FROM digit_predictions_rejected")
    assert dead == [{"id": 300, "reason": "2 values, not 784"}]
    manifest = running.partition(single, "digit_predictions")
    assert manifest
    assert (manifest.counters["read"], manifest.counters["kept"]) == (301, 300)


def test_another_model_under_the_same_name_is_another_result(few: Path, single: Path, tmp_path: Path) -> None:
    """It is told, and a run that refreshes scores anew and replaces the table whole; the digest is beside each row."""
    storage, model = tmp_path / "data", tmp_path / "model.onnx"
    shutil.copytree(single, storage)
    model.write_bytes(MODEL.read_bytes())
    running.run(["rm", "-r", *storage.glob("digit_predictions*")], tmp_path)
    running.run(["rm", "-r", *storage.glob("_jobs/ScoreDigits*")], tmp_path)
    running.succeed("ScoreDigits", "--model", model, storage=storage)
    (first,) = running.select(storage, "SELECT DISTINCT model FROM digit_predictions")
    model.write_bytes(other_model())
    ran = running.luigi("ScoreDigits", "--model", model, storage=storage)
    assert ran.code != 0
    assert f"was made of model {model} when that was {first['model'].split('@')[1][:8]}" in str(ran)
    assert "Traceback" not in str(ran)
    running.succeed("ScoreDigits", "--model", model, "--refresh", storage=storage)
    (second,) = running.select(storage, "SELECT DISTINCT model FROM digit_predictions")
    assert second != first
    assert running.select(storage, "SELECT digit FROM digit_predictions WHERE id = 0") == [{"digit": 2}]  # 9 less 7


def test_labels_that_are_none_stop_the_run_in_one_sentence(few: Path, tmp_path: Path) -> None:
    ran = running.luigi(
        "LoadDigits", "--source", few / "images.txt.gz", "--labels", few / "images.txt.gz", storage=tmp_path / "data"
    )
    assert ran.code != 0
    assert "images.txt.gz is no file of labels" in str(ran)
    assert "Traceback" not in str(ran)


def test_a_model_that_does_not_fit_stops_the_run_before_the_table_is_read(single: Path, tmp_path: Path) -> None:
    """One sentence, exit code not 0, and nothing of the table was handed on; as it is for a table that is not there."""
    storage, model = tmp_path / "data", tmp_path / "model.onnx"
    shutil.copytree(single / "digits", storage / "digits")
    model.write_bytes(b"no model")
    for flags, said in (
        (["--model", model], f"the model {model} is not one that onnxruntime loads"),
        (["--images", "nothing"], "there is no table nothing; there are: digits"),
    ):
        ran = running.luigi("ScoreDigits", *flags, storage=storage)
        assert ran.code != 0
        assert said in str(ran)
        assert "Traceback" not in str(ran)
        assert running.complete(storage) == ["digits"]


@pytest.fixture(scope="module")
def place(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The same images in the local cloud."""
    with LocalCloud() as cloud:
        cloud_running.upload(cloud, [*few.iterdir()])
        place = Place(cloud, tmp_path_factory.mktemp("cloud"))
        at = f"gs://{BUCKET}/source"
        place.succeed("LoadDigits", "--source", f"{at}/images.txt.gz", "--labels", f"{at}/labels.csv")
        place.succeed("ScoreDigits")
        yield place


def test_tables_of_the_cloud_equal_those_of_one_machine(place: Place, single: Path) -> None:
    """Loading and scoring are a Dataflow job each, whose workers have the model with the code, or from a bucket."""
    assert place.stages() == {"loaddigits": 1, "scoredigits": 1}
    for table in ("digits", "digit_predictions"):
        sql = f"SELECT * FROM {table} ORDER BY id"
        there, here = place.query(sql), running.select(single, sql)
        assert len(here) == (301 if table == "digits" else 300)
        assert running.same(there, here), table
    dead = running.partition(single, "digit_predictions_rejected")
    assert dead
    assert place.manifests()["digit_predictions_rejected"].counters == dead.counters


@pytest.mark.skipif(not running.WHOLE, reason="a table of text is scored there by default")
@pytest.mark.parametrize("form", ["lists", "bytes"])
def test_a_table_of_bigquerys_own_is_scored_with_a_model_in_a_bucket(
    form: str, few: Path, single: Path, place: Place, tmp_path: Path
) -> None:
    """ARRAY<FLOAT64> or BYTES that somebody else has loaded give what the text of the same images gives."""
    with gzip.open(few / "images.txt.gz", "rt") as lines:
        images = [[float(text) for text in line.split(":")[1].split(",")] for line in lines][:-1]
    levels = [bytes(round(pixel * 255) for pixel in image) for image in images]
    column = pa.array(images, pa.list_(pa.float64())) if form == "lists" else pa.array(levels)
    pq.write_table(pa.table({"id": pa.array(range(len(images)), pa.int64()), "image": column}), tmp_path / "images")
    cloud_running.upload(place.cloud, [tmp_path / "images"], form)
    cloud_running.upload(place.cloud, [MODEL], form)
    config = bigquery_api.LoadJobConfig(source_format="PARQUET")
    config.parquet_options = bigquery_api.ParquetOptions.from_api_repr({"enableListInference": True})
    with place.bigquery() as client:
        client.load_table_from_uri(
            f"gs://{BUCKET}/{form}/images", f"{PROJECT}.{place.dataset}.{form}", job_config=config
        ).result()
    place.run("millrace", "clear", "digit_predictions/")
    place.succeed("ScoreDigits", "--images", form, "--model", f"gs://{BUCKET}/{form}/{MODEL.name}")
    sql = "SELECT * EXCEPT (model) FROM digit_predictions ORDER BY id"
    there, here = place.query(sql), running.select(single, sql)
    assert [(row["id"], row["digit"]) for row in there] == [(row["id"], row["digit"]) for row in here]
    # The levels of these images were divided in float32, so that their bytes are the same numbers but for a last bit.
    close = 0.0 if form == "lists" else 1e-5
    for one, other in zip(there, here, strict=True):
        assert [one[f"p{n}"] for n in range(10)] == pytest.approx(
            [other[f"p{n}"] for n in range(10)], abs=close, rel=0 if form == "lists" else None
        )

"""Loading and scoring as pipelines: what goes in comes out, or lies in the dead letters with its id and reason."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import running
from numpy.typing import NDArray

from millrace.beam.options import run
from millrace.errors import NotThereYetError, SourceError
from pipelines.digits import load, score
from pipelines.digits.images import PIXELS
from pipelines.digits.model import MODEL

DATA = Path(__file__).parents[4] / "shared/data/digits"


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.ParquetFile(path).read().to_pylist()]


def counted(folder: Path) -> dict[str, int]:
    counters: dict[str, int] = json.loads((folder / "_result.json").read_bytes())["counters"]
    return counters


def scored(table: pa.Table, folder: Path, *flags: str, group: int = 1 << 20) -> None:
    """Score a table, of a file whose row groups have so many rows."""
    pq.write_table(table, folder / "images.parquet", row_group_size=group)
    run(score.build, [f"--input={folder}/images.parquet", f"--output={folder}/{{dataset}}", *flags])


def alone(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What onnxruntime says by itself."""
    found: list[NDArray[np.float32]] = onnxruntime.InferenceSession(str(MODEL)).run(None, {"images": images})
    return found[0]


def test_10_000_images_go_in_and_10_000_predictions_come_out_99_percent_right(tmp_path: Path) -> None:
    flags = [f"--source={DATA}/images.txt.gz", f"--labels={DATA}/labels.csv", f"--output={tmp_path}/{{dataset}}"]
    run(load.build, flags)
    run(score.build, [f"--input={tmp_path}/digits/*.parquet", flags[-1]])
    digits = {row["id"]: row["label"] for row in rows(tmp_path / "digits")}
    found = {row["id"]: row["digit"] for row in rows(tmp_path / "digit_predictions")}
    expected = np.loadtxt(DATA / "labels.csv", delimiter=",", skiprows=1, dtype=int).tolist()
    assert digits == dict(expected)
    assert sorted(found) == list(range(10_000))
    assert sum(digits[number] == digit for number, digit in found.items()) == 9_907
    assert counted(tmp_path / "digit_predictions") == {"read": 10_000, "kept": 10_000}
    assert not (tmp_path / "digit_predictions_rejected").exists()


def test_what_is_no_image_is_a_dead_letter_and_the_rest_is_scored(tmp_path: Path) -> None:
    """In each form of a column, across row groups and slices, with the ids that the table has."""
    good = np.random.default_rng(3).random((3, PIXELS), np.float32)
    texts = [",".join(map(repr, map(float, image))) for image in good]
    wrong = {
        "too short": ("0,0.5", "2 values, not 784"),
        "no number": (",".join(["0"] * 783 + ["x"]), "pixel 783 is not a number: 'x'"),
        "NaN": (",".join(["nan"] + ["0"] * 783), "pixel 0 is NaN"),
        "bright": (",".join(["0"] * 4 + ["1.5"] + ["0"] * 779), "pixel 4 is outside [0, 1]: 1.5"),
        "null": (None, "null"),
    }
    images = [texts[0], *(value for value, _ in wrong.values()), texts[1], texts[2], texts[0]]
    ids = [10, 20, 21, 22, 23, 24, 11, None, 12]
    scored(pa.table({"id": pa.array(ids, pa.int64()), "image": images}), tmp_path, group=4)
    dead = {row["id"]: (row["reason"], row["image"].decode()) for row in rows(tmp_path / "digit_predictions_rejected")}
    expected: dict[int | None, tuple[str, str]] = {
        **{n: (why, value or "") for n, (value, why) in zip(range(20, 25), wrong.values(), strict=True)},
        None: ("no id", texts[2]),
    }
    assert dead == expected
    found = rows(tmp_path / "digit_predictions")
    assert [row["id"] for row in found] == [10, 11, 12]
    right = alone(np.stack([good[0], good[1], good[0]]))
    np.testing.assert_allclose([[row[f"p{n}"] for n in range(10)] for row in found], right, atol=1e-6)
    assert [row["digit"] for row in found] == right.argmax(1).tolist()
    assert {row["model"] for row in found} == {f"digits@{row['model'][-12:]}" for row in found}
    assert counted(tmp_path / "digit_predictions") == {
        "read": 9,
        "kept": 3,
        "rejected: no id": 1,
        **{f"rejected: {kind}": 1 for kind in ("NaN", "not a number", "null", "outside [0, 1]", "wrong length")},
    }


@pytest.mark.parametrize("form", ["bytes", "lists"])
def test_images_may_be_bytes_or_lists(form: str, tmp_path: Path) -> None:
    """Of whatever whole numbers the ids are; what is wrong with a list is in the dead letters as JSON."""
    levels = np.random.default_rng(4).integers(0, 256, (3, PIXELS), np.uint8)
    expected = alone(levels.astype(np.float32) / np.float32(255)).argmax(1).tolist()
    if form == "bytes":
        column = pa.array([*(row.tobytes() for row in levels), b"12"])
    else:
        column = pa.array([*(levels / 255).tolist(), [0.5]], pa.list_(pa.float64()))
    scored(pa.table({"id": pa.array([1, 2, 3, 4], pa.int32()), "image": column}), tmp_path)
    assert [row["digit"] for row in rows(tmp_path / "digit_predictions")] == expected
    (dead,) = rows(tmp_path / "digit_predictions_rejected")
    assert (dead["id"], dead["image"]) == (4, b"12" if form == "bytes" else b"[0.5]")


def test_a_model_that_does_not_fit_is_an_error_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "other.onnx").write_bytes(b"no model")
    with pytest.raises(SourceError, match="other.onnx is not one that onnxruntime loads"):
        scored(pa.table({"id": [1], "image": ["0"]}), tmp_path, f"--model={tmp_path}/other.onnx")
    with pytest.raises(SourceError, match="is another than when the run began"):
        scored(pa.table({"id": [1], "image": ["0"]}), tmp_path, f"--digest={'0' * 64}")
    assert not (tmp_path / "digit_predictions").exists()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pa.table({"key": [1], "image": ["0"]}), "the table has no column id, but key, image"),
        (pa.table({"id": ["1"], "image": ["0"]}), "the table's column id is STRING, not INT64"),
        (pa.table({"id": [1], "image": [[["0"]]]}), "column image is ARRAY<ARRAY<STRING>>, not STRING, BYTES or ARRAY"),
        (pa.table({"id": [1], "image": [0.5]}), "the table's column image is FLOAT64, not STRING"),
    ],
)
def test_a_table_of_something_else_is_one_sentence(table: pa.Table, said: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=said) as raised:
        scored(table, tmp_path)
    assert "\n" not in str(raised.value)


def test_a_table_without_rows_has_no_predictions(tmp_path: Path) -> None:
    scored(pa.table({"id": pa.array([], pa.int64()), "image": pa.array([], pa.string())}), tmp_path)
    assert rows(tmp_path / "digit_predictions") == []


def test_files_whose_images_would_have_the_same_ids_are_refused(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(",".join(["0"] * PIXELS) + "\n")
    with pytest.raises(SourceError, match=r"has 2 files, and .*\.csv has no ids"):
        run(load.build, [f"--source={tmp_path}/*.csv", f"--output={tmp_path}/{{dataset}}"])
    with pytest.raises(NotThereYetError, match="has no file"):
        run(load.build, [f"--source={tmp_path}/*.gz", f"--output={tmp_path}/{{dataset}}"])


def test_a_label_goes_by_its_id_and_lines_without_one_are_dead_letters(tmp_path: Path) -> None:
    image = ",".join(["0"] * PIXELS)
    (tmp_path / "a b={}.txt").write_text(f"3:{image}\nx:{image}\n9:{image}\n")
    (tmp_path / "labels").write_text("9,8\n3,12\n4,1\n")
    flags = [f"--source={tmp_path}/a b={{{{}}}}.txt", f"--labels={tmp_path}/labels", f"--output={tmp_path}/{{dataset}}"]
    run(load.build, flags)
    assert [(row["id"], row["label"]) for row in rows(tmp_path / "digits")] == [(3, None), (9, 8)]
    (dead,) = rows(tmp_path / "digits_rejected")
    assert (dead["line"], dead["reason"], dead["record"]) == (2, "an id that is no whole number", f"x:{image}".encode())
    assert counted(tmp_path / "digits") == {
        "read": 3,
        "kept": 2,
        "labelled": 1,
        "labels": 2,
        "labels that are no digit": 1,
        "rejected: an id that is no whole number": 1,
    }


@pytest.mark.skipif(not running.WHOLE, reason="the README's make digits goes the same way")
def test_the_sample_is_scikit_learns_and_the_model_knows_most_of_it(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    run(load.build, ["--source=sample://", f"--output={tmp_path}/{{dataset}}"])
    run(score.build, [f"--input={tmp_path}/digits/*.parquet", f"--output={tmp_path}/{{dataset}}"])
    labels = {row["id"]: row["label"] for row in rows(tmp_path / "digits")}
    found = {row["id"]: row["digit"] for row in rows(tmp_path / "digit_predictions")}
    assert len(found) == len(labels) == 1_797
    right = sum(labels[number] == digit for number, digit in found.items())
    assert 1_520 <= right <= 1_535  # 85 %: they were drawn by other people than MNIST's, and have 8 × 8 pixels

"""The project's model against plain numpy and the real images, alone and through Beam's RunInference."""

import gzip
import pickle
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import onnx
import onnxruntime
import pytest
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.transforms.combiners import ToList
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import TensorProto, helper

from millrace.errors import SourceError
from pipelines.digits import models, scoring
from pipelines.digits.images import NotAnImageError, pixels_of
from pipelines.digits.model import MODEL
from pipelines.digits.model.build import build

Weights = dict[str, NDArray[np.float32]]
Images = NDArray[np.float32]

DATA = Path(__file__).parents[4] / "shared/data/digits"


@pytest.fixture(scope="module")
def weights() -> Weights:
    with np.load(DATA / "cnn_small.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def images() -> Images:
    with gzip.open(DATA / "images.txt.gz", "rt") as lines:
        return np.array([line.split(":")[1].split(",") for line in lines], np.float32)


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    return scoring.load_model(MODEL.read_bytes(), str(MODEL))


def plain(weights: Weights, images: Images) -> NDArray[np.float64]:
    """The network as ../shared/data/README.md describes it, in float64."""
    w = [value.astype(np.float64) for value in weights.values()]
    x = images.reshape(-1, 28, 28, 1).astype(np.float64)
    for kernel, bias in [(w[0], w[1]), (w[2], w[3])]:
        padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
        windows = sliding_window_view(padded, (5, 5), axis=(1, 2))
        x = np.maximum(np.einsum("nhwcij,ijco->nhwo", windows, kernel, optimize=True) + bias, 0)
        n, h, wide, c = x.shape
        x = x.reshape(n, h // 2, 2, wide // 2, 2, c).max((2, 4))
    x = np.maximum(x.reshape(len(x), -1) @ w[4] + w[5], 0) @ w[6] + w[7]
    e = np.exp(x - x.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


def test_the_model_scores_as_plain_numpy_to_1e_5(
    weights: Weights, images: Images, session: onnxruntime.InferenceSession
) -> None:
    np.testing.assert_allclose(scoring.score(session, images[:500]), plain(weights, images[:500]), rtol=0, atol=1e-5)


def test_the_model_in_the_project_is_what_the_script_builds(weights: Weights) -> None:
    assert MODEL.stat().st_size <= 300_000
    assert onnx.load(MODEL) == build(weights)


def test_accuracy_on_the_10_000_images_is_99_07_percent(images: Images, session: onnxruntime.InferenceSession) -> None:
    labels = np.loadtxt(DATA / "labels.csv", delimiter=",", skiprows=1, dtype=int)[:, 1]
    digits = scoring.score(session, images).argmax(1)
    assert len(digits) == 10_000
    assert (digits == labels).sum() == 9_907


def test_run_inference_gives_each_block_its_own_rows_whatever_the_batch(
    images: Images, session: onnxruntime.InferenceSession, tmp_path: Path
) -> None:
    uri = str(MODEL)
    model = scoring.DigitModel(uri, models.digest_of(MODEL.read_bytes()), min_batch_size=1, max_batch_size=3)
    pickle.loads(pickle.dumps(model))
    blocks = [("a", images[:7]), ("b", images[7:8]), ("c", images[8:8]), ("d", images[8:60])]

    alone = {key: scoring.score(session, block) for key, block in blocks}

    def check(results: list[Any]) -> None:
        found = {key: result.inference for key, result in results}
        assert sorted(found) == ["a", "b", "c", "d"]
        for key, rows in alone.items():
            np.testing.assert_allclose(found[key], rows, atol=1e-6)

    with beam.Pipeline() as pipeline:
        scored = pipeline | beam.Create(blocks) | RunInference(KeyedModelHandler(model))
        scored | ToList() | beam.Map(check)


def test_another_model_under_the_same_name_is_an_error() -> None:
    with pytest.raises(SourceError, match="is another than when the run began"):
        scoring.DigitModel(str(MODEL), "0" * 64).load_model()


def identity(width_in: int, width_out: int, kind: int = TensorProto.FLOAT, rows: int | str = "n") -> bytes:
    ends = [helper.make_tensor_value_info(n, kind, [rows, w]) for n, w in [("x", width_in), ("y", width_out)]]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (identity(783, 783), "has the input x"),
        (identity(784, 784), "has the output y"),
        (identity(784, 784, TensorProto.DOUBLE), r"has the input x, tensor\(double\)"),
        (identity(784, 784, rows=1), "has the input x"),
        (b"", "is not one that onnxruntime loads"),
        (b"no model", "is not one that onnxruntime loads"),
    ],
)
def test_a_model_that_does_not_fit_is_one_sentence(model: bytes, said: str) -> None:
    with pytest.raises(SourceError, match=f"the model some.onnx {said}") as raised:
        scoring.load_model(model, "some.onnx")
    assert "\n" not in str(raised.value)


def test_a_name_that_is_no_models_is_one_sentence() -> None:
    with pytest.raises(SourceError, match=r"has the scheme ftp://; allowed are model://digits, a path or glob"):
        models.check("ftp://x/y")
    assert models.check("gs://models/m.onnx") == "gs://models/m.onnx"
    assert not models.is_local(models.BUNDLED)
    assert models.is_local("m.onnx")


def test_a_model_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no.onnx can't be read") as raised:
        models.read_model(str(tmp_path / "no.onnx"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null"),
        ("0,1", "2 values, not 784"),
        (b"\0" * 783, "783 values, not 784"),
        (",".join(["0"] * 783 + ["x"]), "pixel 783 is not a number: 'x'"),
        ([0.0] * 783 + [None], "pixel 783 is not a number: 'None'"),
        ([True] * 784, "pixel 0 is not a number: 'True'"),
        ([float("nan")] * 784, "pixel 0 is NaN"),
        ([0.5, 1.5] + [0] * 782, "pixel 1 is outside [0, 1]: 1.5"),
        ([-1e-9] + [0] * 783, "pixel 0 is outside [0, 1]: -1e-09"),
        (",".join(["inf"] + ["0"] * 783), "pixel 0 is outside [0, 1]: inf"),
        ([10**400] + [0] * 783, "pixel 0 is not a number: '10000000000000000000'"),
    ],
)
def test_what_is_not_an_image_says_why(value: Any, reason: str) -> None:
    with pytest.raises(NotAnImageError) as raised:
        pixels_of(value)
    assert str(raised.value) == reason


def test_the_three_forms_of_an_image_are_the_same_pixels() -> None:
    levels = bytes(range(256)) * 3 + bytes(16)
    numbers = [level / 255 for level in levels]
    forms: list[Any] = [numbers, ",".join(map(repr, numbers)), np.array(numbers)]
    for value in forms:
        np.testing.assert_array_equal(pixels_of(value), pixels_of(levels))

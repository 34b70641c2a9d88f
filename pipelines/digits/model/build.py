"""Build the project's ONNX model from the weights of a small convolutional network.

python -m pipelines.digits.model.build WEIGHTS.npz [MODEL.onnx]
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pipelines.digits.model import MODEL


def build(weights: dict[str, NDArray[np.float32]]) -> onnx.ModelProto:
    """Return the network: two convolutions with ReLU and pooling, a dense layer of 32, softmax over ten digits."""
    constants = {
        # TensorFlow keeps kernels as height, width, in, out; ONNX as out, in, height, width.
        "kernel1": weights["cnn.convolution1.Variable"].transpose(3, 2, 0, 1),
        "bias1": weights["cnn.convolution1.Variable_1"],
        "kernel2": weights["cnn.convolution2.Variable"].transpose(3, 2, 0, 1),
        "bias2": weights["cnn.convolution2.Variable_1"],
        "dense": weights["cnn.fully-connected.Variable"],
        "dense_bias": weights["cnn.fully-connected.Variable_1"],
        "output": weights["cnn.output.Variable"],
        "output_bias": weights["cnn.output.Variable_1"],
        "image_shape": np.array([-1, 1, 28, 28], np.int64),
        "flat_shape": np.array([-1, 784], np.int64),
    }
    convolution: dict[str, Any] = {"kernel_shape": [5, 5], "pads": [2, 2, 2, 2]}
    pool: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("Reshape", ["images", "image_shape"], ["image"]),
        helper.make_node("Conv", ["image", "kernel1", "bias1"], ["c1"], **convolution),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], **pool),
        helper.make_node("Conv", ["p1", "kernel2", "bias2"], ["c2"], **convolution),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["p2"], **pool),
        # The dense layer was trained on height, width, channel in this order.
        helper.make_node("Transpose", ["p2"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["t", "flat_shape"], ["flat"]),
        helper.make_node("Gemm", ["flat", "dense", "dense_bias"], ["d"]),
        helper.make_node("Relu", ["d"], ["r3"]),
        helper.make_node("Gemm", ["r3", "output", "output_bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 784])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    # An old opset and format, so that any onnxruntime of the last years loads the model.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def main(weights: str, model: str = str(MODEL)) -> None:
    """Build the model from a file of weights."""
    with np.load(weights) as arrays:
        Path(model).write_bytes(build(dict(arrays)).SerializeToString(deterministic=True))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Scoring blocks of images with an ONNX model, the same way in batch and in a stream."""

import resource
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from apache_beam.ml.inference import base
from apache_beam.ml.inference.base import PredictionResult
from apache_beam.ml.inference.onnx_inference import OnnxModelHandlerNumpy

from millrace.errors import SourceError
from pipelines.digits.images import PIXELS, Pixels
from pipelines.digits.models import digest_of, read_model

DIGITS = 10

# Beam imports this in one go with what needs torch, has neither where that is missing, and warns of it in every run.
if vars(base).get("resource") is None:
    vars(base)["resource"] = resource


def load_model(model: bytes, uri: str) -> onnxruntime.InferenceSession:
    """Return a session that scores with a model, once what goes in and comes out is known to fit."""
    options = onnxruntime.SessionOptions()
    # One thread each, because a worker has as many processes as cores.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    # onnxruntime's errors have no base of their own.
    except Exception as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceError(f"the model {uri} is not one that onnxruntime loads ({said})", mend=_MEND) from error
    _check(session, uri)
    return session


def score(session: onnxruntime.InferenceSession, images: Pixels) -> Pixels:
    """Return the probability of each digit, a row of ten for each row of 784 pixels."""
    if not len(images):
        return np.empty((0, DIGITS), np.float32)
    (probabilities,) = session.run(None, {session.get_inputs()[0].name: images})
    return np.asarray(probabilities, np.float32)


class DigitModel(OnnxModelHandlerNumpy):
    """Scores blocks: an element is an array of n × 784 pixels, its inference an array of n × 10 probabilities.

    digest: that of the model as the launcher saw it; another model under the same name is an error, not a result.
    """

    def __init__(self, uri: str, digest: str, **batching: Any) -> None:
        super().__init__(uri, **batching)
        self.uri, self.digest = uri, digest

    def load_model(self) -> onnxruntime.InferenceSession:
        model = read_model(self.uri)
        if digest_of(model) != self.digest:
            what = f"the model {self.uri} is another than when the run began ({digest_of(model)[:12]}"
            raise SourceError(f"{what}, not {self.digest[:12]})", mend="run again")
        return load_model(model, self.uri)

    def run_inference(
        self,
        batch: Sequence[Pixels],
        inference_session: onnxruntime.InferenceSession,
        inference_args: dict[str, Any] | None = None,
    ) -> list[PredictionResult]:
        # All blocks are scored in one call, and each is handed its own rows, but not its images, which nobody asks for.
        ends = np.cumsum([len(block) for block in batch])
        scored = score(inference_session, batch[0] if len(batch) == 1 else np.concatenate(batch))
        return [PredictionResult(None, rows, self.digest) for rows in np.split(scored, ends[:-1])]

    def get_num_bytes(self, batch: Sequence[Pixels]) -> int:
        return sum(block.nbytes for block in batch)


_MEND = f"--model takes one input of n × {PIXELS} floats and one output of n × {DIGITS} floats"


def _check(session: onnxruntime.InferenceSession, uri: str) -> None:
    """Raise SourceError unless a model takes images and returns probabilities of digits."""
    for kind, nodes, width in [("input", session.get_inputs(), PIXELS), ("output", session.get_outputs(), DIGITS)]:
        if len(nodes) != 1:
            raise SourceError(f"the model {uri} has {len(nodes)} {kind}s", mend=_MEND)
        (node,) = nodes
        # The first dimension has a name, or none, where a model takes any number of images.
        fits = len(node.shape) == 2 and not isinstance(node.shape[0], int) and node.shape[1] == width
        if node.type != "tensor(float)" or not fits:
            raise SourceError(f"the model {uri} has the {kind} {node.name}, {node.type} of {node.shape}", mend=_MEND)

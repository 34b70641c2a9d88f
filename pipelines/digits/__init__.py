"""Scoring images of handwritten digits with an ONNX model, in batch and in a stream."""

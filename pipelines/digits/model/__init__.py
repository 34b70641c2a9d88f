"""The project's own model of digits, and the script that builds it."""

from pathlib import Path

MODEL = Path(__file__).with_name("digits.onnx")

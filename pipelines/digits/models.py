"""Models: which one a name means, its bytes and the digest that tells it from another of the name. Loads no library."""

import hashlib

from millrace.beam.sources import named
from millrace.errors import SourceError
from pipelines.digits.model import MODEL

#: The project's own model, which comes with the code, wherever that runs.
BUNDLED = "model://digits"
#: A larger file is no model that a worker should hold.
_MOST = 2 << 30


def check(uri: str) -> str:
    """Return the name of a model. Raises SourceError for what can't be one."""
    if uri != BUNDLED:
        named.check(uri, [BUNDLED])
    return uri


def is_local(uri: str) -> bool:
    """Return whether only this machine can read a model."""
    return uri != BUNDLED and named.is_local(uri)


def read_model(uri: str) -> bytes:
    """Return the bytes of a model: the project's own, or one at a path, file://, gs:// or http(s):// URI.

    Raises SourceError.
    """
    if uri == BUNDLED:
        return MODEL.read_bytes()
    try:
        with named.open_uri(uri, _MOST) as file:
            return file.read()
    except SourceError as error:
        raise SourceError(
            f"the model can't be read: {error}", mend=f"--model takes an ONNX file, or {BUNDLED}"
        ) from None


def digest_of(model: bytes) -> str:
    """Return the digest that tells a model from another of the same name."""
    return hashlib.sha256(model).hexdigest()


def called(uri: str, digest: str) -> str:
    """Return what a model is called where its predictions are: the name of its file, and which one of that name."""
    return f"{uri.rpartition('/')[2]}@{digest[:12]}"

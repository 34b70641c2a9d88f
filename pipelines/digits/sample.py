"""The source of digits that is built in: scikit-learn's load_digits, which comes with that package, at MNIST's size."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from millrace.errors import SettingError
from pipelines.digits import readers
from pipelines.digits.images import PIXELS, SIDE
from pipelines.digits.sources import SAMPLE


def images() -> readers.Images:
    """Return the 1,797 images and their labels. Raises SettingError where scikit-learn is not installed."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise SettingError(
            f"the source {SAMPLE} is scikit-learn's, which is not installed",
            mend="pip install 'millrace[digits-sample]'",
        ) from None
    found = load_digits()
    levels = np.rint(enlarged(found.images / 16) * 255).astype(np.uint8)
    text = readers.text_of(levels.reshape(-1, PIXELS).tobytes())
    ids, labels = (pa.array(each, pa.int64()) for each in (np.arange(len(levels)), found.target))
    return readers.Images(pa.table([ids, text, labels], schema=readers.DIGITS))


def enlarged(small: NDArray[np.float64], inner: int = 20) -> NDArray[np.float64]:
    """Return square images as MNIST's were made: 20 × 20 pixels, their centre of mass in the middle of 28 × 28.

    A pixel is the mean of the four around its place, weighted by how near they are.
    """
    side = small.shape[1]
    place = np.clip((np.arange(inner) + 0.5) * side / inner - 0.5, 0, side - 1)
    low = np.minimum(place.astype(int), side - 2)
    weights = np.zeros((inner, side))
    weights[np.arange(inner), low] = 1 - (place - low)
    weights[np.arange(inner), low + 1] = place - low
    large = np.zeros((len(small), SIDE, SIDE))
    edge = (SIDE - inner) // 2
    large[:, edge : edge + inner, edge : edge + inner] = weights @ small @ weights.T
    return np.stack([_centred(image) for image in large])


def _centred(image: NDArray[np.float64]) -> NDArray[np.float64]:
    at = np.arange(SIDE)
    down, right = (round((SIDE - 1) / 2 - float(image.sum(axis) @ at / image.sum())) for axis in (1, 0))
    return np.roll(image, (down, right), (0, 1))

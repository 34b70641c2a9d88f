"""The tables of digits: images with their labels, and what a model says of each. Add columns, never rename."""

import pyarrow as pa

P = [f"p{digit}" for digit in range(10)]

#: An image is 784 numbers from 0 to 1 with commas between; a label is null where none is known.
DIGITS = pa.schema([("id", pa.int64()), ("image", pa.string()), ("label", pa.int64())])
DIGIT_PREDICTIONS = pa.schema(
    [("id", pa.int64()), *((p, pa.float64()) for p in P), ("digit", pa.int64()), ("model", pa.string())]
)

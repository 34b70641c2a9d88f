"""The tables of digits: images with their labels, and what a model says of each. Add columns, never rename."""

from millrace.common.tables import Table

P = [f"p{digit}" for digit in range(10)]

#: An image is 784 numbers from 0 to 1 with commas between; a label is null where none is known.
DIGITS = {"id": "INT64", "image": "STRING", "label": "INT64"}
DIGIT_PREDICTIONS = {"id": "INT64", **dict.fromkeys(P, "FLOAT64"), "digit": "INT64", "model": "STRING"}

TABLES = {"digits": Table(DIGITS, by=""), "digit_predictions": Table(DIGIT_PREDICTIONS, by="")}

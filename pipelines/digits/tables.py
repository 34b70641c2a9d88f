"""The tables of digits: images with their labels, and what a model says of each. Add columns, never rename."""

from millrace.common.tables import Table

P = [f"p{digit}" for digit in range(10)]

#: By dataset; both are replaced whole. An image is 784 numbers from 0 to 1 with commas between; a label is null where
#: none is known.
TABLES = {
    "digits": Table({"id": "INT64", "image": "STRING", "label": "INT64"}, by=""),
    "digit_predictions": Table(
        {"id": "INT64", **dict.fromkeys(P, "FLOAT64"), "digit": "INT64", "model": "STRING"}, by=""
    ),
}

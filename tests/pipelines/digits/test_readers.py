"""Files of images as other producers write them, against numpy's own reading of the same numbers."""

import csv
import io
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from millrace.errors import SourceError
from pipelines.digits import readers
from pipelines.digits.images import PIXELS, NotAnImageError, pixels_of, read_column

LEVELS = np.random.default_rng(7).integers(0, 256, (5, PIXELS), np.uint8)
#: What the levels are, as MNIST's users divide them.
EXPECTED = LEVELS.astype(np.float32) / np.float32(255)


def idx(levels: NDArray[np.uint8], side: int = 28) -> bytes:
    return struct.pack(">4sIII", b"\0\0\x08\x03", len(levels), side, side) + levels.tobytes()


def lines(rows: Sequence[Sequence[object]], header: Sequence[str] = ()) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows] if header else rows)
    return text.getvalue().encode()


def read(data: bytes) -> pa.Table:
    found = list(readers.read(io.BytesIO(data), "some"))
    assert not [each.rejects for each in found if each.rejects]
    return pa.concat_tables([readers.DIGITS.empty_table(), *(each.table for each in found)])


def pixels(table: pa.Table) -> NDArray[np.float32]:
    return np.stack([pixels_of(text) for text in table["image"].to_pylist()])


NAMES = [f"pixel{n}" for n in range(PIXELS)]
FORMS = {
    "idx": (idx(LEVELS), [0, 1, 2, 3, 4], None),
    "keyed": (
        b"".join(b"%d:%s\n" % (7 - n, ",".join(map(repr, row.tolist())).encode()) for n, row in enumerate(EXPECTED)),
        [7, 6, 5, 4, 3],
        None,
    ),
    "levels alone": (lines(LEVELS.tolist()), [0, 1, 2, 3, 4], None),
    "label first, as MNIST's CSV": (
        lines([[n, *row] for n, row in enumerate(LEVELS.tolist())]),
        [0, 1, 2, 3, 4],
        [0, 1, 2, 3, 4],
    ),
    "label first, with names": (
        lines([[n + 1, *row] for n, row in enumerate(LEVELS.tolist())], ["label", *NAMES]),
        [0, 1, 2, 3, 4],
        [1, 2, 3, 4, 5],
    ),
    "label last, as OpenML's CSV": (
        lines([[*row, n + 2] for n, row in enumerate(LEVELS.tolist())], [*NAMES, "class"]),
        [0, 1, 2, 3, 4],
        [2, 3, 4, 5, 6],
    ),
    "id and label": (
        lines([[9 - n, n, *row] for n, row in enumerate(EXPECTED.tolist())], ["Id", "Label", *NAMES]),
        [9, 8, 7, 6, 5],
        [0, 1, 2, 3, 4],
    ),
    "id, label and no names": (
        lines([[9 - n, n, *row] for n, row in enumerate(LEVELS.tolist())]),
        [9, 8, 7, 6, 5],
        [0, 1, 2, 3, 4],
    ),
    "a table's CSV": (
        lines(
            [[",".join(map(str, row)), n, "" if n == 2 else n] for n, row in enumerate(EXPECTED.tolist())],
            ["image", "id", "label"],
        ),
        [0, 1, 2, 3, 4],
        [0, 1, None, 3, 4],
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ends", ["as it is", "Windows"])
def test_every_form_gives_the_same_pixels_its_ids_and_its_labels(form: str, ends: str) -> None:
    data, ids, labels = FORMS[form]
    if ends == "Windows" and form != "idx":
        data = b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n").removesuffix(b"\r\n")
    table = read(data)
    np.testing.assert_array_equal(pixels(table), EXPECTED)
    assert table["id"].to_pylist() == ids
    assert table["label"].to_pylist() == (labels or [None] * 5)
    assert table.schema == readers.DIGITS


def test_black_and_white_is_as_bright_as_it_says() -> None:
    """Whole numbers up to 1 are no levels of 255."""
    np.testing.assert_array_equal(pixels(read(lines((LEVELS > 127).astype(int).tolist()))), LEVELS > 127)


def test_lines_that_are_none_are_told_and_the_others_stay() -> None:
    good = ",".join(["0"] * PIXELS)
    data = f"1:{good}\nno key\nx:{good}\n99999999999999999999:{good}\n\n2:0,1\n".encode() + b"\xff:1\n"
    (found,) = readers.read(io.BytesIO(data), "some")
    assert found.table["id"].to_pylist() == [1, 2]  # whether 2 is an image is said where images are scored
    assert found.table["image"].to_pylist() == [good, "0,1"]
    assert [why for _, why in found.rejects] == [
        "no key before a colon",
        "an id that is no whole number",
        "an id of more than 64 bits",
        "not UTF-8",
    ]


def test_a_line_of_levels_that_is_no_image_keeps_its_text_and_its_place() -> None:
    rows = [list(map(str, row)) for row in LEVELS.tolist()]
    rows[1][3] = "x"
    rows[2] = rows[2][:5]
    table = read("\n".join(map(",".join, rows)).encode())
    assert table["id"].to_pylist() == [0, 1, 2, 3, 4]
    assert table["image"][1].as_py() == ",".join(rows[1])
    good = read_column(table["image"].combine_chunks())[1]
    assert good.tolist() == [True, False, False, True, True]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (idx(LEVELS)[:-1], "it says that it has 5 images, but has 4"),
        (idx(LEVELS) + b"\0" * PIXELS, "it says that it has 5 images, but has 6"),
        (idx(LEVELS)[:9], "ends within its first 16 bytes"),
        (idx(LEVELS, 20), "has images of 20 × 20 pixels, not 28 × 28"),
        (b"\0\0\x08\x01\0\0\0\1\7", "no IDX file of images: it begins with 00 00 08 01"),
        (b"1,2,3\n", "is no file of images: its first line has neither .* but '1,2,3'"),
        (b"PNG\r\n", "is no file of images"),
    ],
)
def test_a_file_of_another_kind_is_one_sentence(data: bytes, said: str) -> None:
    with pytest.raises(SourceError, match=said) as raised:
        list(readers.read(io.BytesIO(data), "some"))
    assert "\n" not in str(raised.value)


def test_nothing_is_no_image() -> None:
    assert read(b"").num_rows == 0
    assert read(idx(LEVELS[:0])).num_rows == 0


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        (struct.pack(">4sI", b"\0\0\x08\x01", 3) + b"\7\2\1", {0: 7, 1: 2, 2: 1}),
        (b"ID,Label\r\n5,7\r\n3,2\r\n", {5: 7, 3: 2}),
        (b"7\n2\n", {0: 7, 1: 2}),
        (b'"id","label"\n"5","12"\n', {5: 12}),
        (b"", {}),
    ],
)
def test_labels_are_by_id_or_by_place(data: bytes, labels: dict[int, int]) -> None:
    assert readers.read_labels(io.BytesIO(data), "some") == labels


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (struct.pack(">4sI", b"\0\0\x08\x01", 3) + b"\7", "it says that it has 3 labels, but has 1"),
        (b"1,2\n1,3\n", "two labels for one id"),
        (b"1,x\n", "is no file of labels"),
        (b"1,\xff\n", "is no file of labels"),
        (b"1,2,3\n", "is no file of labels"),
    ],
)
def test_labels_of_another_kind_are_one_sentence(data: bytes, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        readers.read_labels(io.BytesIO(data), "some")


def column(values: Sequence[Any]) -> pa.Array:
    if any(isinstance(value, list | tuple) for value in values):
        return pa.array(values, pa.list_(pa.float64()))
    return pa.array(values)


GOOD = EXPECTED.tolist()
TEXTS = [",".join(map(repr, row)) for row in GOOD]


@pytest.mark.parametrize(
    "values",
    [
        TEXTS,
        [None, TEXTS[0], "", "0", ",".join(["0"] * 785), TEXTS[1][:-4] + "nan"],
        [",".join([number, *["0"] * 783]) for number in ("1.1", "-1e-9", "inf", "", " 0.5 ", "1_0", "x", "1e-3", "é")],
        [LEVELS[0].tobytes(), None, b"", LEVELS[1].tobytes(), bytes(783)],
        [GOOD[0], None, [], GOOD[1], [float("nan")] * 784, [None] * 784, [2.0] * 784],
        [None, None],
        [],
        [",".join(map(str, np.random.default_rng(n).random(784))) for n in range(70)],  # no two numbers alike
    ],
    ids=["texts", "wrong texts", "numbers", "bytes", "lists", "null", "none", "many numbers"],
)
def test_a_column_is_read_as_its_rows_are(values: Sequence[Any]) -> None:
    """What is read at once is what is read row by row; a row that is an image all the same is left to that."""
    found, good = read_column(column(values))
    expected = []
    for value, there in zip(values, good, strict=True):
        try:
            alone = pixels_of(value)
        except NotAnImageError:
            assert not there
            continue
        if there:
            expected.append(alone)
    np.testing.assert_array_equal(found, np.array(expected, np.float32).reshape(-1, PIXELS))
    assert good.sum() >= len([v for v in values if v in TEXTS])

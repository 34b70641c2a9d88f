"""Bytes become records: every line that is not blank, or every status of an API response, as it came."""

import io
import json
from typing import Any

import oracle
import posts_cases as cases
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from running import SHARE

from millrace.beam.sources import records

Record = tuple[int, bytes]


class Dribble(io.RawIOBase):
    """A stream that gives what it has in pieces of these lengths, over and over."""

    def __init__(self, data: bytes, lengths: list[int]) -> None:
        self._data, self._at, self._lengths, self._reads = data, 0, lengths, 0

    def read(self, size: int | None = -1, /) -> bytes:
        length = self._lengths[self._reads % len(self._lengths)]
        self._reads += 1
        if size is not None and size >= 0:
            length = min(length, size)
        piece = self._data[self._at : self._at + length]
        self._at += len(piece)
        return piece


def read(stream: Any, **limits: int) -> list[Record]:
    blocks = list(records.read(stream, **limits))
    return [pair for b in blocks for pair in zip(b.line.to_pylist(), b.record.to_pylist(), strict=True)]


def lines(data: bytes) -> list[Record]:
    """The lines that are not blank, with their ends; a file's byte order mark is no text of its first line."""
    ends = data.split(b"\n")
    whole = [line + b"\n" for line in ends[:-1]] + ends[-1:]
    return [(n, line) for n, line in enumerate(whole, 1) if (line.removeprefix(oracle.BOM) if n == 1 else line).strip()]


_bytes = st.lists(
    st.sampled_from(
        [
            b"\n",
            b"\r\n",
            b"\n\n",
            b" ",
            b"\t",
            b"\x0b\x0c",
            b"\x00",
            b"\xff",
            b"{}",
            b"x",
            b"\xc2\xa0",
            b"\x85",
            b"\x1c",
        ]
    )
    | st.binary(max_size=6),
    max_size=30,
).map(b"".join)


def is_lines(data: bytes) -> bool:
    responses_or_utf16 = (b"[", b"{", b"\xff\xfe", b"\xfe\xff")
    return not data.removeprefix(oracle.BOM).lstrip().startswith(responses_or_utf16)


@settings(max_examples=500 // SHARE, deadline=None)
@given(_bytes, st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 20))
@example(b"", [1], 1)
@example(b"\xef\xbb\xbf", [1], 1)
@example(b"\xef\xbb\xbf \nx", [1], 1)
@example(b"\xef\xbb\xbfx", [1], 1)
@example(b"\xef\xbb\xbfx\n ", [1], 1)
@example(b"\n", [1], 1)
@example(b"x\n", [1], 1)
@example(b"\n \nx", [1], 1)
def test_any_bytes_in_any_pieces_are_split_at_line_feeds_only(data: bytes, lengths: list[int], block: int) -> None:
    """Line numbers count blank lines, which are no records; what is read ahead to tell the format does not matter."""
    assume(is_lines(data))
    for before in (b"", b"a line\n" * 700):
        whole = before + data
        assert read(Dribble(whole, lengths if not before else [len(before), *lengths]), block=block) == lines(whole)
        assert read(io.BytesIO(whole)) == lines(whole)


@settings(max_examples=300 // SHARE, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"", b"x" * 9, b"x" * 10, b"x" * 11, b"y" * 40, b"z" * 99 + b"\r", b" " * 30]), max_size=9
    ),
    st.booleans(),
    st.integers(1, 60),
    st.lists(st.integers(1, 50), min_size=1, max_size=3),
)
def test_giant_lines_are_cut_and_the_next_line_is_whole(
    texts: list[bytes], last: bool, block: int, lengths: list[int]
) -> None:
    """However the bytes come: the first so many bytes of a longer line are kept, its end too."""
    data = b"a line\n" * 700 + b"\n".join(texts) + (b"\n" if last else b"")
    expected = [
        (n, line[:10] + line[len(line.removesuffix(b"\n")) :] if len(line.removesuffix(b"\n")) > 10 else line)
        for n, line in lines(data)
    ]
    expected = [(n, line) for n, line in expected if line.strip()]
    assert read(Dribble(data, lengths), block=block, max_kept=10) == expected


def test_a_line_that_never_ends_takes_no_more_memory_than_it_may() -> None:
    """Of 64 MiB without a line feed only the kept bytes come out."""
    ((number, record), (next_number, next_record)) = read(
        io.BytesIO(b"x" * (64 << 20) + b"\nnext"), block=1 << 20, max_kept=1 << 20
    )
    assert (number, len(record), next_number, next_record) == (1, (1 << 20) + 1, 2, b"next")


# --------------------------------------------------------------------------------------------------- API responses

STATUSES = [{"id": 1, "text": 'a "[{,"}\u2028'}, {"id": 2, "n": [1.0, 1e400, {}]}, {}, {"id": 3, "text": "é😀"}]
META = {"count": 2, "next": ["]", {"statuses": []}]}


def dumped(value: object, **how: Any) -> bytes:
    return json.dumps(value, **how).encode()


@pytest.mark.parametrize(
    "how", [{}, {"indent": 2}, {"indent": "\t", "ensure_ascii": False}, {"separators": (",", ":")}]
)
@pytest.mark.parametrize(
    "response",
    [
        STATUSES,
        {"statuses": STATUSES},
        {"statuses": STATUSES, "search_metadata": META},
        {"search_metadata": META, "statuses": STATUSES},
        {"search_metadata": META, "other": 1, "statuses": STATUSES},
    ],
)
@pytest.mark.parametrize("around", [b"", b"\r\n ", b"\xef\xbb\xbf"])
def test_the_statuses_of_a_response_are_its_records(response: object, how: dict[str, Any], around: bytes) -> None:
    """An array or an object, its keys in any order, on one line or many; each record has its place, from 1."""
    data = around + dumped(response, **how) + around.strip(b"\xef\xbb\xbf")
    for stream in (io.BytesIO(data), Dribble(data, [7, 1])):
        found = read(stream)
        assert [number for number, _ in found] == [1, 2, 3, 4]
        assert [json.loads(record) for _, record in found] == STATUSES
        assert all(record in data for _, record in found)


@pytest.mark.parametrize("number", [b"1.5e-7", b"-12", b"1234567890"])
def test_a_number_may_go_on_in_the_next_piece(number: bytes) -> None:
    """Wherever the pieces meet: of 1.5e-7, 1.5e- looks like 1.5 and something else."""
    for there in range(len(number) + 2):
        status = {"id": 1, "text": ""}
        begin = b'{"statuses": [%s], "count": '
        # As many bytes are read to tell the format.
        status["text"] = "x" * (4096 - there - len(begin % dumped(status)))
        data = begin % dumped(status) + number + b', "statuses": [{"id": 2}]}'
        found = read(Dribble(data, [4096, 1]))
        assert [json.loads(record) for _, record in found] == [status, {"id": 2}]


@pytest.mark.parametrize(
    "data", [b"[]", b"[ ]\n", b'{"statuses": []}', b'{"search_metadata": {}}', b'{"statuses":[],"x":[1]}', b"[] []"]
)
def test_an_empty_response_has_no_records(data: bytes) -> None:
    assert read(io.BytesIO(data)) == []


@settings(max_examples=300 // SHARE, deadline=None)
@given(
    st.sampled_from([STATUSES, {"search_metadata": META, "statuses": STATUSES}]), st.sampled_from([None, 1]), st.data()
)
def test_of_a_truncated_response_what_came_before_the_break_survives(
    response: object, indent: int | None, data: st.DataObject
) -> None:
    """Every whole status is a record; what is left of the broken one is one more."""
    whole = dumped(response, indent=indent)
    complete = [record for _, record in read(io.BytesIO(whole))]
    cut = data.draw(st.integers(60, len(whole) - 1))
    found = [record for _, record in read(io.BytesIO(whole[:cut]))]
    survivors = sum(whole.index(record, 0) + len(record) <= cut for record in complete if record != b"{}")
    kept = [record for record in found if record in complete]
    assert kept == complete[: len(kept)]
    assert len([record for record in kept if record != b"{}"]) == survivors
    assert len(found) <= len(kept) + 1
    assert all(whole[:cut].rstrip().endswith(record) for record in found[len(kept) :])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'[{"a":1}, {"a":', [b'{"a":1}', b'{"a":']),
        (b'[{"a":1}, {"b":2} {"c":3}]', [b'{"a":1}', b'{"b":2}', b'{"c":3}]']),
        (b'[{"a":1},]', [b'{"a":1}', b"]"]),
        (b'[{"a":1}] junk', [b'{"a":1}', b"junk"]),
        (b'[{"a":1}]\n[{"b":2}]\n', [b'{"a":1}', b'{"b":2}']),
        (b'{"statuses":[{"a":1}]}\n{"statuses":[{"b":2}]}', [b'{"a":1}', b'{"b":2}']),
        (b'{"statuses":[{"a":1}],"search_metadata":{"c', [b'{"a":1}', b'{"c']),
        (b'[{"a":"\xff"},{"b":"\x01"},{"c":3}]', [b'{"a":"\xff"}', b'{"b":"\x01"}', b'{"c":3}']),
        (
            b'[{"a":NaN}, null, 5, {"c":' + b"9" * 5000 + b"}]",
            [b'{"a":NaN}', b"null", b"5", b'{"c":' + b"9" * 5000 + b"}"],
        ),
        (b'[{"a":1}, ' + b"[" * 100_000, [b'{"a":1}', b"[" * 100_000]),
        (b'{"statuses": null, "x": 1}', []),
        (b"[", []),
    ],
)
def test_a_broken_response_loses_nothing_that_can_be_read(data: bytes, expected: list[bytes]) -> None:
    assert [record for _, record in read(io.BytesIO(data))] == expected


@pytest.mark.parametrize("first", [b"[1, 2]", b'["a"]', b'{"status": []}', b'{"a": 1, "statuses": []}', b"{"])
def test_a_bad_first_line_does_not_make_lines_a_response(first: bytes) -> None:
    """An array of anything but objects is a bad line of JSON lines."""
    data = first + b"\n" + cases.status() + b"\n"
    assert read(io.BytesIO(data)) == lines(data)


@pytest.mark.parametrize("pattern", [*cases.ARCHIVES, "twitter_api_v1/*.json"])
def test_real_files_have_the_oracles_records(pattern: str) -> None:
    for path in cases.real(pattern):
        found = read(io.BytesIO(path.read_bytes()))
        expected = list(oracle.read_source(path))
        assert [json.loads(record) for _, record in found] == [json.loads(record) for record in expected]
        if path.suffix == ".jsonl":
            assert [record.removesuffix(b"\n") for _, record in found] == expected

"""The partitions that one pipeline computes, as its launcher says them: the option `--partitions`, in JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from millrace.common.checksums import Input


@dataclass(frozen=True)
class Partition:
    """One partition of a pipeline: its key, such as date=2026-11-19, which tells it apart from the others.

    input: the files to read. output: the folder to write to, with {dataset} where a dataset's name goes. options: name
    → value of the pipeline's options; those that are the same for all partitions may be flags of the command line.
    """

    key: str
    output: str
    input: Sequence[Input] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def to_json(partitions: Iterable[Partition]) -> str:
    """Return partitions as `--partitions` takes them."""
    return json.dumps([asdict(each) | {"input": list(map(list, each.input))} for each in partitions])


def from_json(text: str) -> list[Partition]:
    """Return the partitions that `--partitions` names. Raises ValueError for a key that is there twice."""
    found = [Partition(**(each | {"input": inputs(each.get("input", ()))})) for each in json.loads(text)]
    # A file that many partitions read is one object, so that it is sent to workers once.
    known: dict[Input, Input] = {}
    found = [replace(each, input=[known.setdefault(file, file) for file in each.input]) for each in found]
    keys = [each.key for each in found]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise ValueError(f"--partitions names {twice} twice")
    return found


def inputs(given: Iterable[Any]) -> list[Input]:
    """Return files as JSON has them: each a path, or [path, CRC-32C, bytes]."""
    return [Input(*each) if isinstance(each, list) else Input(str(each)) for each in given]

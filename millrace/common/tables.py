"""What a table of the warehouse looks like: plain data, which tasks and pipelines share without importing Arrow."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


#: BigQuery's types: what makes Arrow's, and of what.
_ARROW = {
    "STRING": ("string",),
    "INT64": ("int64",),
    "FLOAT64": ("float64",),
    "BOOL": ("bool_",),
    "BYTES": ("binary",),
    "DATE": ("date32",),
    "TIMESTAMP": ("timestamp", "us", "UTC"),
}


#: Arrow's types, as Arrow writes them → BigQuery's.
_TYPES = {"bool": "BOOL", "double": "FLOAT64", "float": "FLOAT64", "halffloat": "FLOAT64", "date32[day]": "DATE"}


def type_of(arrow: str) -> str:
    """Return BigQuery's name of a type that Arrow writes so: int64 → INT64, list<item: string> → ARRAY<STRING>."""
    if found := re.fullmatch(r"(?:large_)?list<\w+: (.*?)(?: not null)?>", arrow):
        return f"ARRAY<{type_of(found[1])}>"
    if found := re.match(r"dictionary<values=(.*), indices=", arrow):
        return type_of(found[1])
    if arrow.startswith("timestamp["):
        return "TIMESTAMP" if "tz=" in arrow else "DATETIME"
    if re.fullmatch(r"u?int\d+", arrow):
        return "INT64"
    for ours, (maker, *_) in _ARROW.items():
        if arrow.removeprefix("large_").removesuffix("_view") == maker:
            return ours
    return _TYPES.get(arrow, arrow.partition("<")[0].partition("(")[0].upper())


@dataclass(frozen=True)
class Table:
    """A table: its columns (name → type of BigQuery), in order, and the columns that its partitions are clustered by.

    Types: STRING, INT64, FLOAT64, BOOL, BYTES, DATE, TIMESTAMP. by: the column whose value all rows of a partition have
    in common: `date DATE`, the partition's day; a STRING column, the partition's name; or "" where the whole table is
    one partition. Raises ValueError for another type, for names that differ only in case, or without that column.
    """

    columns: Mapping[str, str]
    cluster_by: Sequence[str] = ()
    by: str = "date"

    def __post_init__(self) -> None:
        for name, kind in self.columns.items():
            if kind not in _ARROW:
                raise ValueError(f"column {name} is {kind!r}, which is none of {', '.join(_ARROW)}")
        names = [name.lower() for name in self.columns]
        for name in self.columns:
            if names.count(name.lower()) > 1:
                raise ValueError(f"column {name} is there twice, in other case, which BigQuery refuses")
        kind = "DATE" if self.by == "date" else "STRING"
        if self.by and self.columns.get(self.by) != kind:
            what = "day" if self.by == "date" else "name"
            raise ValueError(f"no column is `{self.by} {kind}`, the partition's {what}: {', '.join(self.columns)}")

    def schema(self) -> "pa.Schema":
        """Return the columns as Arrow's types. Timestamps are UTC, in microseconds."""
        import pyarrow as pa

        types = {kind: getattr(pa, maker)(*of) for kind, (maker, *of) in _ARROW.items()}
        return pa.schema([pa.field(name, types[kind]) for name, kind in self.columns.items()])

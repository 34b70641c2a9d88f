"""What a table of the warehouse looks like: plain data, which tasks and pipelines share without importing Arrow."""

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


@dataclass(frozen=True)
class Table:
    """A table: its columns (name → type of BigQuery), in order, and the columns that its partitions are clustered by.

    Types: STRING, INT64, FLOAT64, BOOL, BYTES, DATE, TIMESTAMP. One column is `date DATE`, the partition's day. Raises
    ValueError for another type, for names that differ only in case, or without that column.
    """

    columns: Mapping[str, str]
    cluster_by: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, kind in self.columns.items():
            if kind not in _ARROW:
                raise ValueError(f"column {name} is {kind!r}, which is none of {', '.join(_ARROW)}")
        names = [name.lower() for name in self.columns]
        for name in self.columns:
            if names.count(name.lower()) > 1:
                raise ValueError(f"column {name} is there twice, in other case, which BigQuery refuses")
        if self.columns.get("date") != "DATE":
            raise ValueError(f"no column is `date DATE`, the partition's day: {', '.join(self.columns)}")

    def schema(self) -> "pa.Schema":
        """The columns as Arrow's types. Timestamps are UTC, in microseconds."""
        import pyarrow as pa

        types = {kind: getattr(pa, maker)(*of) for kind, (maker, *of) in _ARROW.items()}
        return pa.schema([pa.field(name, types[kind]) for name, kind in self.columns.items()])

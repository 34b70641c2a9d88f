"""What a table of the warehouse looks like: plain data, which tasks and pipelines share without importing Arrow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Table:
    """A table: its columns (name → type of BigQuery), in order, and the columns that its partitions are clustered by.

    One column is `date DATE`, the partition's day.
    """

    columns: Mapping[str, str]
    cluster_by: Sequence[str] = ()

    def schema(self) -> "pa.Schema":
        """The columns as Arrow's types. Timestamps are UTC, in microseconds."""
        import pyarrow as pa

        types = {
            "STRING": pa.string(),
            "INT64": pa.int64(),
            "FLOAT64": pa.float64(),
            "BOOL": pa.bool_(),
            "BYTES": pa.binary(),
            "DATE": pa.date32(),
            "TIMESTAMP": pa.timestamp("us", tz="UTC"),
        }
        return pa.schema([pa.field(name, types[kind]) for name, kind in self.columns.items()])

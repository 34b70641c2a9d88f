"""DuckDB inside a worker: bounded memory, spilling to disk, its own threads."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

#: What one query may hold in memory before it spills.
MEMORY_LIMIT = "768MB"


@contextmanager
def connect() -> Iterator[duckdb.DuckDBPyConnection]:
    """A private database in memory, closed at the end."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY_LIMIT,
        "temp_directory": os.path.join(tempfile.gettempdir(), f"millrace-duckdb-{os.getpid()}"),
        "preserve_insertion_order": False,
    }
    connection = duckdb.connect(":memory:", config=config)
    try:
        yield connection
    finally:
        connection.close()

"""Files of a split archive that several days share: which hold records of a day, and taking a day's part of one.

Such a file is labelled by its first and its last day, FIRST_LAST, and has a column `day`.
"""

import datetime

import pyarrow as pa
import pyarrow.compute as pc

from millrace.beam import files
from millrace.beam.sources import records
from millrace.common import results


def shared_with(label: str, date: datetime.date) -> bool:
    """Return whether a split's file that several days share may hold records of a day."""
    first, shared, last = label.partition("_")
    return bool(shared) and first <= str(date) <= last


def take_day(path: str, date: datetime.date, output: str, dataset: str) -> results.Written:
    """Write a day's records of a file that it shares with others, if any, to a file of its own with the same name."""
    table = files.read_parquet(path, dictionaries=["file"])
    mine = table.filter(pc.equal(table["day"], pa.scalar(date))).select(records.SCHEMA.names)
    if not mine.num_rows:
        return results.Written()
    name = path.rpartition("/")[2].removesuffix(".parquet")
    return files.write_parquet(output, dataset, name, mine.cast(records.SCHEMA), label="raw")

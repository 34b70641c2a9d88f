"""A table of the warehouse as the input of a stage, whoever has made the table.

    requires():  TableStage(table=self.images)

In BigQuery the table is exported, by one job, into the stage's own files; on one machine its files are given second
names. What the table was like is part of what the result is made of (`versions`), so that a result of an earlier state
is never taken for one of now.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from millrace.core import keys
from millrace.core.keys import Key
from millrace.core.ledger import Claim
from millrace.core.manifests import FileEntry
from millrace.tasks import session
from millrace.tasks.settings import Setting
from millrace.tasks.stage import Outcome, Stage

if TYPE_CHECKING:
    import pyarrow.parquet as pq


def _name(value: str) -> str:
    if not re.fullmatch(r"[^\W_][\w-]*", value):
        raise ValueError
    return value


class TableStage(Stage):
    """All rows of a table of the warehouse, as Parquet files that pipelines read."""

    writes = ("table_files",)
    table: str = Setting(convert=_name, allowed="letters, digits, _ and -", description="a table of the warehouse")

    @property
    def key(self) -> Key:
        return keys.name(f"table={self.table}/rows=all")  # a name of two parts, which is no table's

    def versions(self) -> Mapping[str, str]:
        return {f"table {self.table}": session.current().warehouse.version(self.table)}

    def execute(self, claim: Claim) -> Outcome:
        storage, folder = session.current().storage, f"{self.datasets()[0].partition}/{claim.attempt.attempt}"
        exported = session.current().warehouse.export(self.table, keys.NONE, storage.uri(folder))
        for number, uri in enumerate(exported):
            path = uri.removeprefix(storage.uri(""))
            if not path.startswith(f"{folder}/"):
                storage.copy(path, f"{folder}/part-{number:05d}.parquet")
        written = sorted(storage.checksums(folder))
        read = {path: _metadata(storage.uri(path)) for path, _, _ in written}
        made = [FileEntry(path, self.writes[0], read[path].num_rows, size, crc) for path, size, crc in written]
        columns = {field.name: str(field.type) for each in read.values() for field in each.schema.to_arrow_schema()}
        rows = sum(file.rows for file in made)
        return Outcome(made, {"rows": rows}, {self.writes[0]: columns}, self.maker()[0])


def _metadata(uri: str) -> "pq.FileMetaData":
    """Return what a Parquet file says of itself, of which the end alone is read."""
    import pyarrow.parquet as pq

    from millrace.beam import files  # here, because it loads Beam

    with files.open_input(uri) as file:
        return pq.read_metadata(file)

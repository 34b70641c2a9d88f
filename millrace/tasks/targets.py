"""Luigi targets for tasks of one's own: a file in Cloud Storage, a day's rows of a table of the warehouse.

    def output(self):
        return GCSTarget("exports/words.csv")           # below [millrace] storage; or gs://BUCKET/PATH
        return BigQueryTarget("my_table", self.date)    # filled by self.output().write(rows, table)

Where storage and warehouse are on one machine, so is what they stand for.
"""

import contextlib
import datetime
import io
import os
import re
import stat
import tempfile
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import luigi
import luigi.format

from millrace.beam.gcs import split
from millrace.common import links
from millrace.common.tables import Table
from millrace.core import keys, manifests
from millrace.core.ledger import FOLDER, now
from millrace.core.manifests import FileEntry, Manifest
from millrace.core.storage import crc32c, readable
from millrace.core.version import code_version
from millrace.errors import ConflictError, ManifestError, SchemaError, SourceError, TerminalError
from millrace.tasks import completeness, session
from millrace.tasks.datasets import Dataset

if TYPE_CHECKING:
    import pyarrow as pa


class GCSTarget(luigi.Target):
    """A file: gs://BUCKET/PATH, or a path relative to the storage.

    format: luigi's; text in UTF-8 unless given, luigi.format.Nop for bytes.
    """

    def __init__(self, path: str, format: luigi.format.Format | None = None) -> None:
        self.path = path
        self._format = format or luigi.format.UTF8  # luigi's own default is the locale's encoding

    @property
    def uri(self) -> str:
        """The URI, or the path of a local file."""
        return self.path if self.path.startswith("gs://") else session.current().storage.uri(self.path)

    def exists(self) -> bool:
        return self.size() is not None

    def size(self) -> int | None:
        """Bytes; None where there is no file."""
        if not self.uri.startswith("gs://"):
            with readable(self.uri):
                try:
                    found = os.stat(self.uri)
                except (FileNotFoundError, NotADirectoryError):
                    links.check(self.uri)
                    return None
            return found.st_size if stat.S_ISREG(found.st_mode) else None
        blob = self._there()
        return blob.size if blob else None

    def generation(self) -> int | None:
        """Cloud Storage's number of this version; None where there is no file, or it is a local one."""
        blob = self._there() if self.uri.startswith("gs://") else None
        return blob.generation if blob else None

    def open(self, mode: str = "r") -> IO[Any]:
        """Open the file to read ("r") or to write it anew ("w"). Raises SourceError if there is none to read.

        What is written is there, whole, once the file is closed; if its `with` ends by an exception, nothing is.
        """
        if mode not in ("r", "w"):
            raise ValueError(f"mode {mode!r} is neither 'r' nor 'w'; bytes are a matter of format")
        opened: IO[Any]
        if not self.uri.startswith("gs://"):
            with readable(self.uri) if mode == "r" else contextlib.nullcontext():
                try:
                    opened = luigi.LocalTarget(self.uri, format=self._format).open(mode)
                except FileNotFoundError:
                    raise self._missing() from None
        elif mode == "r":
            opened = self._format.pipe_reader(self._download())
        else:
            opened = self._format.pipe_writer(_Upload(self._upload))
        return opened

    def _download(self) -> IO[bytes]:
        from google.api_core.exceptions import NotFound

        with contextlib.ExitStack() as undone:
            file = undone.enter_context(tempfile.TemporaryFile())
            with session.current().google.told(f"read {self.uri}"):
                try:
                    self._blob().download_to_file(file, checksum="crc32c", retry=session.current().google.retry())
                except NotFound:
                    raise self._missing() from None
            undone.pop_all()
        file.seek(0)
        return file

    def _missing(self) -> SourceError:
        return SourceError(f"{self.uri} is not there; run the task that makes it")

    def _upload(self, path: str) -> None:
        with session.current().google.told(f"write {self.uri}"):
            self._blob().upload_from_filename(path, checksum="crc32c", retry=session.current().google.retry())

    def _there(self) -> Any:
        blob = self._blob()
        with session.current().google.told(f"look for {self.uri}"):
            return blob.bucket.get_blob(blob.name, retry=session.current().google.retry())

    def _blob(self) -> Any:
        return session.current().google.access.blob(session.current().google.storage, *split(self.uri))

    def __repr__(self) -> str:
        return f"GCSTarget({self.path})"


class _Upload(io.BufferedWriter):
    """A file that is handed on when it is closed, and given up when its `with` ends by an exception."""

    def __init__(self, finish: Callable[[str], None]) -> None:
        handle, self._path = tempfile.mkstemp()
        self._finish, self._given_up = finish, False
        super().__init__(io.FileIO(handle, "w"))

    def close(self) -> None:
        if self.closed:
            return
        try:
            super().close()
            if not self._given_up:
                self._finish(self._path)
        finally:
            os.unlink(self._path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._given_up = kind is not None
        self.close()

    def __del__(self) -> None:
        # Whoever has not closed the file has not finished writing.
        self._given_up = True
        self.close()


#: What a record names as the pipeline.
WRITER = "BigQueryTarget"
#: What a record says of how far it is.
_LOADING, _PUBLISHED = "loading", "published"


class BigQueryTarget(luigi.Target):
    """A table's partition of a day, to be written by a task of one's own, or to be read.

    A partition that is written here exists once its record in the storage says that all is done and the table has as
    many rows, 0 included. A partition that somebody else fills, or that was written for another warehouse, exists when
    it has rows. With `rows` it exists when it has so many. The record is a manifest, as of a stage; on one machine its
    files are the table.
    """

    def __init__(self, name: str, date: datetime.date, rows: int | None = None) -> None:
        self.name, self.date = name, date
        self._expected = rows
        self._dataset = Dataset(name, date)

    @property
    def partition(self) -> str:
        """The partition's path in the storage."""
        return self._dataset.partition

    def exists(self) -> bool:
        record = self._record()
        if record and record.settings["state"] == _LOADING:
            return False
        expected = record.rows(self.name) if record and self._expected is None else self._expected
        found = self.rows()
        return found > 0 if expected is None else found == expected

    def rows(self) -> int:
        """Return the rows of the partition; 0 where there is none."""
        return session.current().warehouse.count(self.name, self._dataset.key)

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> "pa.Table":
        """Run one SELECT in BigQuery's dialect, in which @date is the day. Raises QueryError, CostError."""
        return session.current().warehouse.query(sql, {"date": self.date, **(parameters or {})})

    def write(self, rows: "pa.Table", table: Table) -> None:
        """Make some rows, and no others, the partition, loaded from a file below the storage.

        rows: they have the columns of `table`, in any order and of types that can be cast without loss; `date` is the
        day in each. table: what the table is like; it is made if need be, a column that it lacks is added. A process
        that dies at any moment writes again; the same rows are the same load job. A process that writes the same
        partition meanwhile is waited for. Raises SchemaError for rows or a table that don't fit, ManifestError for a
        table that is a stage's.
        """
        if keys.suffix_of(self.name, {*completeness.folders(), *completeness.tables()}) is not None:
            raise self._of_a_stage()
        if not re.fullmatch(r"[^\W_][\w-]*", self.name):  # it also names a folder, and those with _ are the library's
            raise SchemaError(f"{self.name!r} can't be written: name the table by letters, digits, _ and -")
        rows = self._fitting(rows, table)
        data = _parquet(rows)
        digest = manifests.digest(data)
        storage, warehouse = session.current().storage, session.current().warehouse
        partition, path = self._dataset.partition, self._dataset.manifest_path
        folder = f"{partition}/{digest}"  # of this content alone: a load under the same id finds the same file
        file = FileEntry(f"{folder}/rows.parquet", self.name, rows.num_rows, len(data), crc32c(data))
        with storage.lock(f"{FOLDER}/{WRITER}_{partition.replace('/', '.')}.lock"):
            there = storage.read(path)
            found = self._dataset.parsed(there)
            if found and not _written_here(found[0]):
                raise self._of_a_stage()
            warehouse.check({self.name: table})
            with contextlib.suppress(ConflictError):  # what is there is the same
                storage.create(file.path, data)
            begun = _for_this_warehouse(found)
            if begun and begun.settings["state"] == _LOADING and begun.attempt != digest:
                # A load of its own may still be at work, and would put its rows over ours, so that it has to end first.
                (old,) = begun.files
                with contextlib.suppress(TerminalError):
                    warehouse.publish(
                        self.name, table, self._dataset.key, begun.attempt, [storage.uri(old.path)], old.rows
                    )
            record = self._record_of(file, rows.schema)
            # From here on until the end no earlier record may speak for what is in the table.
            version = storage.replace(path, record(_LOADING), there.version if there else "")
            warehouse.publish(self.name, table, self._dataset.key, digest, [storage.uri(file.path)], rows.num_rows)
            storage.replace(path, record(_PUBLISHED), version)
            for name in sorted(storage.names(partition) - {digest, manifests.NAME}):  # earlier contents
                storage.delete(f"{partition}/{name}")

    def export(self, folder: str) -> list[str]:
        """Return the partition as Parquet files, for what reads files: their URIs, [] where there is no partition.

        folder: below it BigQuery writes them, gs://BUCKET/PATH or relative to the storage; those that it wrote before
        are taken if the table has not changed. Where the warehouse is the storage's own files, the files are those,
        good until the partition is made anew, and nothing is written. Raises QueryError if there is no table.
        """
        where = folder if folder.startswith("gs://") else session.current().storage.uri(folder)
        # BigQuery numbers files alike, so that those of several partitions can't lie in one folder.
        return session.current().warehouse.export(
            self.name, self._dataset.key, f"{where.rstrip('/')}/{self._dataset.partition}"
        )

    def _of_a_stage(self) -> ManifestError:
        return ManifestError(f"{self._dataset.partition} is what a stage makes; give your table another name")

    def _record(self) -> Manifest | None:
        """Return the manifest of what was written here for this warehouse."""
        return _for_this_warehouse(self._dataset.read())

    def _record_of(self, file: FileEntry, schema: "pa.Schema") -> Callable[[str], bytes]:
        """Return what makes the record's bytes for a state."""
        started, uri = now(), session.current().warehouse.uri

        def record(state: str) -> bytes:
            return Manifest(
                partition=self._dataset.partition,
                attempt=file.path.split("/")[-2],
                files=[file],
                schemas={self.name: {field.name: str(field.type) for field in schema}},
                inputs=[],
                pipeline=WRITER,
                code_version=code_version(),
                settings={"warehouse": uri, "state": state},
                options={},
                runner="in process",
                job_id=None,
                started=started,
                ended=now(),
            ).to_json()

        return record

    def _fitting(self, rows: "pa.Table", table: Table) -> "pa.Table":
        """Return the rows as the table has them. Raises SchemaError."""
        import pyarrow as pa

        schema = table.schema()
        if sorted(rows.column_names) != sorted(schema.names):
            raise SchemaError(
                f"the rows for {self.name} have the columns {', '.join(rows.column_names)}, but its Table says "
                f"{', '.join(schema.names)}; give them the same"
            )
        try:
            fitting = rows.select(schema.names).cast(schema).combine_chunks()
        except pa.ArrowException as error:
            why = str(error).splitlines()[0]
            raise SchemaError(f"the rows for {self.name} can't be made what its Table says: {why}") from None
        if others := [day for day in fitting["date"].unique().to_pylist() if day != self.date]:
            raise SchemaError(
                f"among the rows for {self.name} of {self.date} is one with the date {others[0]}; write each day's "
                "rows to a target of that day"
            )
        return fitting

    def __repr__(self) -> str:
        return f"BigQueryTarget({self.name}, {self.date})"


def _written_here(manifest: Manifest) -> bool:
    return manifest.pipeline == WRITER


def _for_this_warehouse(found: tuple[Manifest, str] | None) -> Manifest | None:
    """Return a manifest if it is the record of what was written for this warehouse."""
    if found is None or not _written_here(found[0]):
        return None
    return found[0] if found[0].settings["warehouse"] == session.current().warehouse.uri else None


def _parquet(rows: "pa.Table") -> bytes:
    """Return a Parquet file of some rows, the same bytes for the same rows."""
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(rows, file, compression="snappy")
    return file.getvalue()

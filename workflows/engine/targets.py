"""Luigi targets for tasks of one's own: a file in Cloud Storage, a day's rows of a table of the warehouse.

    def output(self):
        return GCSTarget("exports/words.csv")           # below [millrace] storage; or gs://BUCKET/PATH
        return BigQueryTarget("my_table", self.date)

Where storage and warehouse are on one machine, so is what they stand for.
"""

import contextlib
import datetime
import io
import os
import tempfile
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import luigi
import luigi.format

from pipelines.errors import SourceError
from pipelines.gcs import split
from workflows.engine import clients
from workflows.engine.gcloud.google_calls import retry, told

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
        return self.path if self.path.startswith("gs://") else clients.storage().uri(self.path)

    def exists(self) -> bool:
        return self.size() is not None

    def size(self) -> int | None:
        """Bytes; None where there is no file."""
        if not self.uri.startswith("gs://"):
            return os.path.getsize(self.uri) if os.path.isfile(self.uri) else None
        blob = self._there()
        return blob.size if blob else None

    def generation(self) -> int | None:
        """Cloud Storage's number of this version; None where there is no file, or it is a local one."""
        blob = self._there() if self.uri.startswith("gs://") else None
        return blob.generation if blob else None

    def open(self, mode: str = "r") -> IO[Any]:
        """Opens the file to read ("r") or to write it anew ("w"). Raises SourceError if there is none to read.

        What is written is there, whole, once the file is closed; if its `with` ends by an exception, nothing is.
        """
        if mode not in ("r", "w"):
            raise ValueError(f"mode {mode!r} is neither 'r' nor 'w'; bytes are a matter of format")
        opened: IO[Any]
        if not self.uri.startswith("gs://"):
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
            with told(f"read {self.uri}"):
                try:
                    self._blob().download_to_file(file, checksum="crc32c", retry=retry())
                except NotFound:
                    raise self._missing() from None
            undone.pop_all()
        file.seek(0)
        return file

    def _missing(self) -> SourceError:
        return SourceError(f"{self.uri} is not there; run the task that makes it")

    def _upload(self, path: str) -> None:
        with told(f"write {self.uri}"):
            self._blob().upload_from_filename(path, checksum="crc32c", retry=retry())

    def _there(self) -> Any:
        blob = self._blob()
        with told(f"look for {self.uri}"):
            return blob.bucket.get_blob(blob.name, retry=retry())

    def _blob(self) -> Any:
        return clients.access().blob(clients.storage_client(), *split(self.uri))

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
        # Who has not closed it has not finished writing.
        self._given_up = True
        self.close()


class BigQueryTarget(luigi.Target):
    """A table's partition of a day.

    It exists when it has rows; with `rows`, when it has so many, 0 included.
    """

    def __init__(self, name: str, date: datetime.date, rows: int | None = None) -> None:
        self.name, self.date = name, date
        self._expected = rows

    def exists(self) -> bool:
        found = self.rows()
        return found > 0 if self._expected is None else found == self._expected

    def rows(self) -> int:
        """Rows of the partition; 0 where there is none."""
        if self.name not in clients.warehouse().tables():
            return 0
        found = self.query(f"SELECT COUNT(*) AS found FROM `{self.name}` WHERE date = @date")
        return int(found["found"][0].as_py())

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> "pa.Table":
        """Runs one SELECT in BigQuery's dialect, in which @date is the day. Raises QueryError, CostError."""
        return clients.warehouse().query(sql, {"date": self.date, **(parameters or {})})

    def __repr__(self) -> str:
        return f"BigQueryTarget({self.name}, {self.date})"

"""Files that pipelines read and write: Arrow tables in Parquet, on a local disk or any Beam file system.

A pipeline never lists what it wrote: a bundle that a runner retries may leave a second copy of a file. Each written
file travels as a `Written` element to the partition's result. A file that has its name is never written again, however
late a bundle is retried: a second copy with other bytes gets a path of its own (results.late), and its element says so.
"""

import contextlib
import filecmp
import functools
import glob
import itertools
import json
import os
import secrets
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import IO, Any, BinaryIO, NamedTuple, Protocol, cast

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics.metric import Metrics

from millrace.beam import gcs
from millrace.common import folders
from millrace.common.checksums import Input
from millrace.common.partitions import inputs
from millrace.common.results import File, Written, late, read_result
from millrace.errors import AccessError, DamagedError, MillraceError, SourceError

#: An object of Cloud Storage up to this size is read whole, in one request; of a larger one, only what is asked for.
_WHOLE = 16 << 20
#: Parquet's name for columns whose distinct values are stored once.
_DICTIONARY = "RLE_DICTIONARY"
#: Files read or written at once, where each takes a request or two; a client keeps ten connections.
_AT_ONCE = 8
#: Lines that are Python's at a time, because they take several times as much memory as Arrow's.
_LINES = 1 << 16

_rows_read = Metrics.counter("millrace", "rows_read")


def expand(spec: str) -> list[Input]:
    """Return the files named by an `--input`: a JSON list, `@FILE` that holds one, or a pattern. Raises SourceError for
    none.

    In a list a file is a path, or [path, CRC-32C, bytes], which is checked when the file is read.
    """
    spec = text_of(spec)
    if spec.lstrip().startswith("["):
        return inputs(json.loads(spec))
    if spec.startswith("gs://"):
        paths = [found.uri for found in gcs.match(spec)]
    elif "://" in spec:
        paths = [m.path for m in FileSystems.match([spec])[0].metadata_list]
    else:
        paths = glob.glob(spec)
    if not paths:
        raise SourceError(f"--input {spec} matches no file")
    return [Input(path) for path in sorted(paths)]


def text_of(option: str) -> str:
    """Return an option's text, which may be too long for a command line: `@FILE` stands for what is in the file."""
    return read_input(option[1:]).decode() if option.startswith("@") else option


def partition_date(path: str) -> str:
    """Return the day of the partition that a file lies in, as text; "" where it has none."""
    date = folders.date_of_file(path)
    return str(date) if date else ""


def folder_of(output: str, dataset: str) -> str:
    """Return the folder of a dataset: an `--output` with the dataset's name for the last `{dataset}` in it."""
    return dataset.join(output.rsplit("{dataset}", 1))


def rows_read(rows: int) -> None:
    """Count rows of input in the counter `rows_read`, by which a launcher tells progress; once a block."""
    _rows_read.inc(rows)


def open_input(path: str) -> BinaryIO:
    """Open a file for reading, its bytes as they are; on Cloud Storage each read is a request."""
    if "://" not in path:
        return open(path, "rb")
    if path.startswith("gs://"):
        return cast(BinaryIO, gcs.open_object(path))
    from apache_beam.io.filesystem import CompressionTypes

    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def open_checked(file: Input) -> BinaryIO:
    """Open a file for reading. Raises DamagedError if it is not as it was written.

    Cloud Storage tells what an object's bytes are; those of a file of this machine are read, once a process.
    """
    if "://" not in file.path:
        file.check_here()
        return open_input(file.path)
    with _missing_is_damaged(file):
        stream = open_input(file.path)
    if isinstance(stream, gcs.Reader):
        file.check(stream.size, stream.crc32c)
    return stream


@contextlib.contextmanager
def _missing_is_damaged(file: Input) -> Iterator[None]:
    """Raise a DamagedError for an object that is not there although it was written."""
    try:
        yield
    except SourceError as error:
        if not file.crc32c:
            raise
        raise DamagedError(f"{file.path} was written, but {error}") from None


def read_input(path: str) -> bytes:
    """Return all bytes of a file, as they are."""
    if path.startswith("gs://"):
        return gcs.read(path)
    with open_input(path) as stream:
        return stream.read()


class Sink(Protocol):
    """What a file is written to. One that an exception ends does not come to be.

    A sink that closes may have another path than was asked for, because a file has that name: its attribute `path`.
    """

    def write(self, data: bytes, /) -> int: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> "Sink": ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


def open_output(path: str) -> Sink:
    """Open a file for writing, and make the folders above it where there are folders."""
    if "://" not in path:
        return _Beside(path)
    if path.startswith("gs://"):
        return gcs.Writer(path)
    from apache_beam.io.filesystem import CompressionTypes

    return cast(Sink, FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED))


def forget(result: str, output: str, keep: Sequence[Input]) -> None:
    """Delete a result, and the files in the folders of an `--output` that the result names; keep: what is to be read.

    A run by hand may be repeated; without this its files would lie beside the earlier ones.
    """
    before, _, after = output.rpartition("{dataset}")
    written = Written()
    with contextlib.suppress(MillraceError, OSError, ValueError, KeyError, TypeError):  # none, or one of an error
        written = read_result(read_input(result))
    ours = [file.path for file in written.files if file.path.startswith(before) and f"{after}/" in file.path]
    for path in {*ours, result} - {file.path for file in keep}:
        delete(path)


class _Beside:
    """A file of this machine being written, under a name that nobody else knows; `close` gives the file its own."""

    def __init__(self, path: str) -> None:
        self.path = path
        folder, name = os.path.split(path)
        os.makedirs(folder, exist_ok=True)
        # A process that dies leaves this file, which no list shows, in a folder that goes with its attempt.
        self._prepared = os.path.join(folder, f".{name}.{secrets.token_hex(8)}.tmp")
        self._file = open(self._prepared, "xb")  # noqa: SIM115

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Give the file its name, once and whole; where another file has that name, the other stays as it is."""
        if self._file.closed:
            return
        try:
            self._file.close()
            if not _claimed(self.path):
                if filecmp.cmp(self._prepared, self.path, shallow=False):
                    return
                self.path = late(self.path)
                os.makedirs(os.path.dirname(self.path))
            os.rename(self._prepared, self.path)
        finally:
            self._abandon()

    def __enter__(self) -> "_Beside":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        self._abandon()

    def _abandon(self) -> None:
        """Delete what has not got a name."""
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._prepared)


def _claimed(path: str) -> bool:
    """Return whether this process may give a file the name: it is the one that made an empty file so called.

    A link would need no empty file, but not every file system has links.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        return False
    return True


class _Checked:
    """A binary stream that counts and checksums what passes through it."""

    def __init__(self, path: str) -> None:
        self._asked, self._stream = path, open_output(path)
        self._crc = google_crc32c.Checksum()
        self.bytes = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        self._crc.update(data)
        self._stream.write(data)
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.closed = True
        self._stream.close()

    def abandon(self, error: BaseException) -> None:
        """End what an error broke off."""
        self.closed = True
        self._stream.__exit__(type(error), error, error.__traceback__)

    @property
    def path(self) -> str:
        # Beam's own streams write to the path that was asked for.
        return str(getattr(self._stream, "path", self._asked))

    @property
    def crc32c(self) -> str:
        return str(self._crc.hexdigest(), "ascii")


class ParquetFile:
    """A Parquet file being written: tables of one schema, a row group each; the row groups are what readers share out.

    `output` is the folder, with `{dataset}` where the dataset's name goes; `table` labels the file; `encodings` are
    Parquet's names for how columns are stored, where a file is to be small rather than written fast. `close` belongs
    within the `with`: a file that an exception breaks off does not come to be.
    """

    def __init__(
        self,
        output: str,
        dataset: str,
        name: str,
        schema: pa.Schema,
        *,
        table: str | None = None,
        encodings: Mapping[str, str] | None = None,
    ) -> None:
        self._table = table or dataset
        self._schema, given = schema, dict(encodings or {})
        self._rows = 0
        self._sink = _Checked(f"{folder_of(output, dataset)}/{name}.parquet")
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._sink, mode="w"),
            schema,
            compression="zstd" if encodings else "lz4",
            use_dictionary=[
                f.name for f in schema if pa.types.is_dictionary(f.type) or given.get(f.name) == _DICTIONARY
            ],
            write_statistics=False,
            column_encoding={name: encoding for name, encoding in given.items() if encoding != _DICTIONARY},
        )

    def __enter__(self) -> "ParquetFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self._sink.closed:
            self._writer.close()
            self._sink.abandon(error)

    def write(self, table: pa.Table) -> None:
        """Append a table as one row group; a table without rows appends nothing."""
        if table.num_rows:
            self._writer.write_table(table, row_group_size=table.num_rows)
            self._rows += table.num_rows

    def close(self) -> Written:
        """End the file and return what it holds."""
        if not self._rows:  # readers share out row groups, so that at least one must be there
            self._writer.write_table(self._schema.empty_table())
        self._writer.close()
        self._sink.close()
        file = File(self._sink.path, self._table, self._rows, self._sink.bytes, self._sink.crc32c)
        return Written([file], schemas=schemas(self._table, self._schema))


def schemas(table: str, schema: pa.Schema) -> Mapping[str, Mapping[str, str]]:
    """Return a table's columns as `Written` has them."""
    return {table: {field.name: str(field.type) for field in schema}}


def refusal(output: str) -> str:
    """Return why nothing can be written to an `--output`, as in "has the scheme …"; "" for nothing known beforehand."""
    scheme, there, rest = output.partition("://")
    if there and scheme == "gs":
        return "" if gcs.is_bucket(rest.partition("/")[0]) else "names no bucket; write gs://BUCKET/FOLDER"
    if there:
        try:
            FileSystems.get_filesystem(output)
        except ValueError:
            return f"has the scheme {scheme}://; allowed are a path and gs://"
    return ""


def replace(path: str, data: bytes) -> None:
    """Write a file, over what has its name: whole, or not at all. Raises AccessError where it can't be."""
    if "://" not in path:
        folder, name = os.path.split(path)
        prepared = os.path.join(folder, f".{name}.{secrets.token_hex(8)}.tmp")
        try:
            os.makedirs(folder or ".", exist_ok=True)
            with open(prepared, "xb") as file:
                file.write(data)
            os.replace(prepared, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(prepared)
            raise AccessError(f"{path} can't be written: {error.strerror}") from None
    elif path.startswith("gs://"):
        gcs.replace(path, data)
    else:
        with open_output(path) as sink:
            sink.write(data)


def delete(path: str) -> None:
    """Delete a file; one that is not there is deleted already."""
    if "://" not in path:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
    elif path.startswith("gs://"):
        gcs.delete(path)
    elif FileSystems.exists(path):
        FileSystems.delete([path])


def write_parquet(
    output: str,
    dataset: str,
    name: str,
    table: pa.Table,
    *,
    label: str | None = None,
    encodings: Mapping[str, str] | None = None,
) -> Written:
    """Write one table as one file of one row group; see ParquetFile."""
    with ParquetFile(output, dataset, name, table.schema, table=label, encodings=encodings) as file:
        file.write(table)
        return file.close()


def write_lines(output: str, dataset: str, name: str, lines: pa.ChunkedArray, *, label: str | None = None) -> Written:
    """Write lines as one file of text, in UTF-8; label: its table, the dataset unless given."""
    sink = _Checked(f"{folder_of(output, dataset)}/{name}")
    try:
        for at in range(0, len(lines), _LINES):
            sink.write("".join(f"{line}\n" for line in lines.slice(at, _LINES).to_pylist()).encode())
    except BaseException as error:
        sink.abandon(error)
        raise
    sink.close()
    return Written([File(sink.path, label or dataset, len(lines), sink.bytes, sink.crc32c)])


def read_parquet(file: Input | str, columns: Sequence[str] | None = None, dictionaries: Sequence[str] = ()) -> pa.Table:
    """Read a file; the columns in `dictionaries` come as dictionary arrays, one dictionary each."""
    with _whole(Input(file) if isinstance(file, str) else file) as stream:
        table = pq.ParquetFile(stream, read_dictionary=list(dictionaries)).read(list(columns) if columns else None)
    if any(column.num_chunks > 1 for column in table.columns):
        table = table.unify_dictionaries().combine_chunks()
    return table


def read_windows(windows: Sequence[Sequence[Input]]) -> Iterator[Iterator[pa.Table]]:
    """Yield, for each window of files, its tables in their order, which are to be gone through before the next window.

    A file of several windows is read once, and held until the last of them; of a single window a few tables are in
    memory at a time. Going through a window raises the error of a file that can't be read.
    """
    last = {file: number for number, window in enumerate(windows) for file in window}
    held: dict[Input, pa.Table] = {}

    def read(file: Input) -> pa.Table:
        return held[file] if file in held else read_parquet(file)

    def tables(number: int, window: Sequence[Input]) -> Iterator[pa.Table]:
        ahead: deque[tuple[Input, Future[pa.Table]]] = deque()
        for file in itertools.chain(window, [None] * at_once):
            if file is not None:
                ahead.append((file, pool.submit(read, file)))
            if ahead and (file is None or len(ahead) > at_once):
                done, future = ahead.popleft()
                table = future.result()
                if last[done] > number:
                    held[done] = table
                else:
                    held.pop(done, None)
                yield table

    at_once = threads([file.path for file in last])
    with ThreadPoolExecutor(at_once) as pool:  # Arrow and connections let threads run
        for number, window in enumerate(windows):
            yield tables(number, window)


def threads(paths: Sequence[str]) -> int:
    """Return the threads for reading or writing files: more than processors where each file takes a request or two."""
    return max(worker_threads(), _AT_ONCE if any("://" in path for path in paths) else 1)


def _whole(file: Input) -> IO[bytes] | pa.BufferReader:
    """Return a file of which most will be read."""
    if not file.path.startswith("gs://"):
        return open_checked(file)
    with _missing_is_damaged(file):
        data = read_input(file.path)
    file.check_bytes(data)
    return pa.BufferReader(data)


class RowGroup(NamedTuple):
    """A row group of a Parquet file: the file, its place in the partition's input, and the group's place in the file.

    bytes: how large it is when it is not compressed.
    """

    order: int
    file: Input
    number: int
    rows: int
    bytes: int


def row_groups(files: Sequence[Input]) -> list[RowGroup]:
    """Return the row groups of Parquet files, which are the units of work.

    The files' footers are read where the pipeline is built, so that no worker has to find out what there is to do.
    """
    with ThreadPoolExecutor(threads([file.path for file in files])) as pool:
        found = pool.map(_row_groups, range(len(files)), files)
    return [group for groups in found for group in groups]


def _row_groups(order: int, file: Input) -> list[RowGroup]:
    with open_checked(file) as stream:
        footer = pq.ParquetFile(stream).metadata
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    return [RowGroup(order, file, n, group.num_rows, group.total_byte_size) for n, group in enumerate(groups)]


def read_block(file: Input, group: int, columns: Sequence[str]) -> pa.Table:
    """Return one row group of a Parquet file, its rows counted as read."""
    with open_checked(file) as stream:
        source: Any = stream
        if isinstance(stream, gcs.Reader) and stream.size <= _WHOLE:
            data = stream.read()
            file.check_bytes(data)
            source = pa.BufferReader(data)
        # Beyond this machine, few large reads are better than one a column.
        table = pq.ParquetFile(source, pre_buffer="://" in file.path).read_row_group(group, columns=list(columns))
    rows_read(table.num_rows)
    return table


@functools.cache
def worker_threads() -> int:
    """Return the threads that one worker gives to DuckDB and Arrow: its processors."""
    return os.cpu_count() or 1

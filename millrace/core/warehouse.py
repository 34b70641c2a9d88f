"""Where tables live. `Warehouse` is the contract; `LocalWarehouse` keeps it with the datasets' own Parquet files, which
DuckDB queries (no lock, no server), `bigquery.BigQueryWarehouse` with BigQuery.

SQL is written in BigQuery's dialect; sqlglot translates it for DuckDB, where a table is a dataset, or `dataset_label`
for a file group of another name inside one (counts_words); only what a manifest names is seen. A table's partitions are
days, which its column `date` says, or names, in a column of their own; or the whole table is one.
"""

import hashlib
import importlib
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from millrace.common import folders
from millrace.common.checksums import Input
from millrace.common.tables import Table, type_of
from millrace.core import damage, keys, manifests
from millrace.core.keys import Key
from millrace.core.manifests import FileEntry, Manifest
from millrace.core.storage import Storage
from millrace.errors import DamagedError, ManifestError, QueryError

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection
    from sqlglot import exp

#: The column that names each row's file, within a view.
_FILE = "__file"
#: So many files are checked without a look at which of them a query reads, because the look costs more.
_CHECKED_ANYWAY = 64 << 20


class Warehouse(Protocol):
    """Tables with a partition a day, or a name, or with one alone. A key says which partition: its `by` and `value`."""

    #: Names the warehouse, in words or as a URI.
    uri: str

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> "pa.Table":
        """Run one SELECT in BigQuery's dialect; parameters: @name → value. Raises QueryError, CostError.

        Timestamps come without a zone and mean UTC.
        """

    def tables(self) -> list[str]:
        """Return the names of the tables that are there."""

    def check(self, tables: Mapping[str, Table]) -> None:
        """Raise SchemaError if a table that is there can't take rows like these; changes nothing.

        Raises SettingError or AccessError if nothing could be published at all.
        """

    def publish(self, name: str, table: Table, key: Key, digest: str, files: Sequence[str], rows: int) -> None:
        """Make the rows of some Parquet files, and no others, the table's partition of a key.

        digest: of the manifest that names the files; what was published once under it is not published again. files:
        URIs. rows: how many the files hold together, 0 if there are none. Raises SchemaError, ManifestError.
        """

    def rows(self, tables: Mapping[str, Table]) -> Mapping[str, Mapping[str, int]] | None:
        """Return the rows of every partition of some tables, table → a key's folder → rows, in few requests.

        None where the manifests' own files are the tables, so that there is nothing to compare.
        """

    def count(self, name: str, key: Key) -> int:
        """Return the rows that the table's partition has by itself, whatever a manifest says; 0 where it is missing."""

    def export(self, name: str, key: Key, folder: str) -> list[str]:
        """Return a day, or the whole table, as Parquet files for pipelines to read: their URIs, [] for no rows.

        folder: URI of a folder for this partition alone to write to, unless the partition has files of its own, which
        are good until it is made anew. Raises QueryError if there is no table, and for a name in BigQuery, which
        exports no part of a table but days.
        """

    def version(self, name: str) -> str:
        """Return a digest that is another when the table's rows are; "" where there is no table."""

    def delete(self, name: str, key: Key) -> None:
        """Empty the table's partition; no table is fine."""

    def columns(self) -> Mapping[str, Mapping[str, str]]:
        """Return what the tables are like: table → column → BigQuery's type."""


class LocalWarehouse:
    """DuckDB over the partitions of a storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.uri = storage.uri("")

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> "pa.Table":
        """Run one SELECT in BigQuery's dialect; parameters: @name → value. Raises QueryError.

        Timestamps come without a zone and mean UTC.
        """
        import duckdb

        import bigquery_sql

        statement = parse(sql)
        given = {name.lower(): _literal(name, value) for name, value in (parameters or {}).items()}
        try:
            with tempfile.TemporaryDirectory() as copies, duckdb.connect(":memory:") as connection:
                bigquery_sql.prepare(connection)
                names = sorted(table_names(statement))
                places = [place for name in names for place in self._make_view(connection, name, copies)]
                # From here on a query reaches the tables' files and nothing else of this machine.
                connection.execute(f"SET allowed_paths = {_listed([place.at for place in places])}")
                connection.execute("SET enable_external_access = false")
                translated = bigquery_sql.translate(connection, statement, given)
                self._check_files(_read_by(connection, translated, places, len(names)))
                found, _ = bigquery_sql.fetch(connection, translated)
        except bigquery_sql.DuplicateError as error:
            raise two_columns(error.names) from None
        except duckdb.Error as error:
            raise QueryError(f"the query can't be run: {bigquery_sql.told(error)}") from None
        except bigquery_sql.SqlError as error:
            raise QueryError(f"the query can't be run: {_first_line(error)}") from None
        return zoneless(found)

    def tables(self) -> list[str]:
        """Return the names of the tables that have partitions."""
        return sorted(
            {
                _table_name(manifest.partition.split("/")[0], file.table)
                for manifest in self._manifests("")
                if _holds_rows(manifest)
                for file in _own_files(manifest)
            }
        )

    def _manifests(self, dataset: str) -> list[Manifest]:
        found = []
        for _, each in manifests.read(self._storage, list(self._storage.list(dataset, manifests.NAME))):
            if isinstance(each, ManifestError):
                raise each
            found.append(each)
        return found

    def check(self, tables: Mapping[str, Table]) -> None:
        pass

    def publish(self, name: str, table: Table, key: Key, digest: str, files: Sequence[str], rows: int) -> None:
        pass

    def rows(self, tables: Mapping[str, Table]) -> None:
        return None

    def count(self, name: str, key: Key) -> int:
        """Return the rows of the files of that partition alone. Raises DamagedError, QueryError."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with tempfile.TemporaryDirectory() as copies:
            places = self._fetched(self._files(name, key), copies)
            self._check_files(places)
            try:
                return sum(pq.read_metadata(place.at).num_rows for place in places)
            except (pa.ArrowException, OSError) as error:  # a file that was written before files had checksums
                raise QueryError(f"the rows of {name}{keys.told(key)} can't be counted: {_first_line(error)}") from None

    def export(self, name: str, key: Key, folder: str) -> list[str]:
        places = self._files(name, key)
        if not places and not self._files(name):
            raise no_table(name, self.tables())
        for partition in {place.partition for place in places}:  # where the files lie, which may be in a bucket
            damage.check(self._storage, partition, [place.file for place in places if place.partition == partition])
        return [place.at for place in places]

    def version(self, name: str) -> str:
        files = sorted((place.file.path, place.file.crc32c) for place in self._files(name))
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16] if files else ""

    def delete(self, name: str, key: Key) -> None:
        pass

    def columns(self) -> Mapping[str, Mapping[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for manifest in self._manifests(""):
            for label in {file.table for file in _own_files(manifest)} if _holds_rows(manifest) else ():
                table = found.setdefault(_table_name(manifest.partition.split("/")[0], label), {})
                parts = _parts([manifest.partition])
                table |= {part: "STRING" for part in parts if part != "date"}
                table |= {name: type_of(kind) for name, kind in manifest.schemas.get(label, {}).items()}
                table |= {part: "DATE" for part in parts if part == "date"}
        return found

    def _make_view(self, connection: "DuckDBPyConnection", name: str, copies: str) -> list["_Place"]:
        """Make a table known; return its files. copies: a folder for them, where their paths are plain."""
        import duckdb

        places = self._fetched(self._files(name), copies)
        if not places:
            raise no_table(name, self.tables())
        try:
            parts = _parts(place.partition for place in places)
            _view(connection, name, {place.at: self._storage.uri(place.file.path) for place in places}, parts)
        except duckdb.Error:
            self._check_files(places)
            raise
        return places

    def _check_files(self, places: Sequence["_Place"]) -> None:
        """Raise DamagedError for a file that is not as it was written."""
        for place in places:
            known = Input(self._storage.uri(place.file.path), place.file.crc32c, place.file.bytes)
            try:
                known.check_here(place.at if "://" in known.path else "")
            except DamagedError as error:
                raise damage.told(place.partition, error) from None

    def _fetched(self, places: Sequence["_Place"], copies: str) -> list["_Place"]:
        """Return files as this machine has them. copies: a folder for those that lie elsewhere."""
        return [place._replace(at=self._storage.fetch(place.file.path, copies)) for place in places]

    def _files(self, name: str, key: Key = keys.NONE) -> list["_Place"]:
        """Return the files of a table, or of one partition of it; [] if there are none."""
        within = f"/{key.folder}" if key.folder else ""
        datasets = [name, *(name[:at] for at in range(len(name)) if name[at] == "_")]
        for dataset in datasets:
            files = [
                _Place(manifest.partition, file, self._storage.uri(file.path))
                for manifest in self._manifests(f"{dataset}{within}")
                for file in _own_files(manifest)
                if _table_name(dataset, file.table) == name
            ]
            if files:
                return files
        return []


class _Place(NamedTuple):
    """A file of a table: the partition that it belongs to, what the manifest says of it, and where it is read."""

    partition: str
    file: FileEntry
    at: str


def _read_by(connection: "DuckDBPyConnection", sql: str, places: Sequence[_Place], tables: int) -> Sequence[_Place]:
    """Return the files that a query of so many tables reads, by DuckDB's plan, so that those of other days stay closed.

    Where the plan does not tell, or there is little to check, all of them.
    """
    import duckdb

    if sum(place.file.bytes for place in places) <= _CHECKED_ANYWAY:
        return places
    (_, plan), *_ = connection.execute(f"EXPLAIN (FORMAT JSON) {sql}").fetchall()
    scans = [step.get("extra_info", {}) for step in _steps(json.loads(plan)) if "PARQUET" in step.get("name", "")]
    filters = [scan.get("File Filters") for scan in scans]
    # A table whose rows are counted by its files' metadata has no scan.
    if len(scans) < tables or not all(isinstance(each, str) for each in filters):
        return places
    wanted = " OR ".join(f"({each})" for each in filters)
    try:
        asked = f"SELECT {_FILE} FROM (SELECT unnest($paths) AS {_FILE}) WHERE {wanted}"
        read = {path for (path,) in connection.execute(asked, {"paths": [place.at for place in places]}).fetchall()}
    except duckdb.Error:
        return places
    return [place for place in places if place.at in read]


def _steps(plan: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield all steps of a plan."""
    for step in plan:
        yield step
        yield from _steps(step.get("children", []))


def preload() -> None:
    """Import what a query of a local warehouse needs."""
    for name in ("duckdb", "bigquery_sql", "sqlglot.dialects.bigquery", "sqlglot.dialects.duckdb"):
        importlib.import_module(name)


def parse(sql: str) -> "exp.Query":
    """Return a query in BigQuery's dialect, as a tree. Raises QueryError for what is not one SELECT."""
    from sqlglot import exp

    import bigquery_sql

    try:
        statements = bigquery_sql.parse(sql)
    except bigquery_sql.SqlError as error:
        raise QueryError(f"not a query: {_first_line(error)}") from None
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise QueryError("a query is one SELECT; the tables are written by the stages alone")
    return statements[0]


def table_names(statement: "exp.Query") -> set[str]:
    """Return the tables that a query reads."""
    from sqlglot import exp

    defined = {cte.alias_or_name for cte in statement.find_all(exp.CTE)}
    return {
        table.name
        for table in statement.find_all(exp.Table)
        if table.name and (table.name not in defined or _within_own_name(table))
    }


def renamed(sql: str, names: Mapping[str, str]) -> str:
    """Return a query that reads other tables, and is the same text else. names: of a table → of what is read for it.

    In the query a table goes by its own name as before. Raises QueryError for what is not one SELECT.
    """
    from sqlglot import exp

    statement = parse(sql)
    defined = {cte.alias_or_name for cte in statement.find_all(exp.CTE)}
    found = [
        (table.this.meta["start"], table.this.meta["end"] + 1, table)
        for table in statement.find_all(exp.Table)
        if table.name in names and not table.db and (table.name not in defined or _within_own_name(table))
    ]
    for start, end, table in sorted(found, key=lambda place: place[0], reverse=True):
        alias = "" if table.alias else f" AS `{table.name}`"
        sql = f"{sql[:start]}`{names[table.name]}`{alias}{sql[end:]}"
    return sql


def _within_own_name(table: "exp.Table") -> bool:
    """Return whether a table stands in the query that WITH gives its name to, and so means the stored table."""
    from sqlglot import exp

    around = table.find_ancestor(exp.CTE)
    while around and around.alias_or_name != table.name:
        around = around.find_ancestor(exp.CTE)
    return around is not None and not (around.parent and around.parent.args.get("recursive"))


def check_names(columns: Sequence[str]) -> None:
    """Raise QueryError if two columns of a result have the same name, even in other case."""
    if len({column.lower() for column in columns}) < len(columns):
        raise two_columns(columns)


def two_columns(columns: Sequence[str]) -> QueryError:
    """Return the error for a query whose result has two columns of one name."""
    return QueryError(f"two columns have one name in {', '.join(columns)}; name them with AS")


def no_table(name: str, there: Sequence[str]) -> QueryError:
    """Return the error for a query that reads a table that is not there."""
    return QueryError(f"there is no table {name}; there are: {', '.join(there) or 'none yet'}")


def _holds_rows(manifest: Manifest) -> bool:
    """Return whether a partition may be one of a table: of a day, of one name, or all there is of its dataset."""
    return folders.date_of(manifest.partition) is not None or manifest.partition.count("/") < 2


def _parts(partitions: Iterable[str]) -> list[str]:
    """Return what the names of partitions say of their rows: `source` and `date` of raw/source=…/date=…."""
    return sorted({part.partition("=")[0] for partition in partitions for part in partition.split("/") if "=" in part})


def _view(connection: "DuckDBPyConnection", name: str, files: Mapping[str, str], parts: Sequence[str]) -> None:
    """Make a table known: its files' columns, and the parts of their partitions' names. Raises QueryError.

    files: where each is read → its name. parts: of the partitions' names. The day comes from the last folder date=… of
    a file's path, which is the partition's, and so do other parts that are no columns of the files. Folders above the
    partition give no columns, whatever they are called, because where a storage lies says nothing of its rows.
    """
    scan = f"read_parquet({_listed(list(files))}, hive_partitioning=false, union_by_name=true, filename='{_FILE}')"
    columns = connection.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()
    _check_case(name, [column for column, *_ in columns], files)
    date = {"date"} & {*parts}
    shown = [_typed(column, kind) for column, kind, *_ in columns if column.lower() not in {*date, _FILE}]
    told = [f"CAST(regexp_extract({_FILE}, '.*/date=([0-9-]+)/', 1) AS DATE) AS date"] if date else []
    for part in (part for part in parts if part not in {*date, *(column.lower() for column, *_ in columns)}):
        told.append(f"regexp_extract({_FILE}, '.*/{re.escape(part)}=([^/]*)/', 1) AS \"{part}\"")
    connection.execute(f'CREATE VIEW "{name}" AS SELECT {", ".join([*shown, *told])} FROM {scan}')


def _check_case(name: str, columns: list[str], files: Mapping[str, str]) -> None:
    """Raise QueryError for a file with two columns that differ only in case, which BigQuery does not load either.

    DuckDB calls the second one NAME_1, so that only tables with such a column have their files looked at.
    """
    there = {column.lower() for column in columns}
    if not any(re.sub(r"_\d+$", "", column) in there - {column} for column in there):
        return
    import pyarrow.parquet as pq

    for at, file in files.items():
        found = pq.read_schema(at).names
        twice = [column for column in found if [each.lower() for each in found].count(column.lower()) > 1]
        if twice:
            told = f"columns of {name} differ only in case, which BigQuery refuses"
            raise QueryError(f"{told}: {', '.join(twice)} in {file}")


def _typed(column: str, kind: str) -> str:
    """Return a column as one of BigQuery's types; a time without a zone is in UTC, like all our times."""
    quoted = '"' + column.replace('"', '""') + '"'
    if kind.startswith("TIMESTAMP") and not kind.endswith("WITH TIME ZONE"):
        return f"timezone('UTC', CAST({quoted} AS TIMESTAMP)) AS {quoted}"
    wide = "BIGINT" if re.fullmatch(r"U?(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)", kind) else kind
    wide = "DECIMAL(38,9)" if kind.startswith("DECIMAL") else "DOUBLE" if kind == "FLOAT" else wide
    return quoted if wide == kind else f"CAST({quoted} AS {wide}) AS {quoted}"


def _listed(files: list[str]) -> str:
    """Return paths as a list in SQL."""
    return "[" + ", ".join("'" + file.replace("'", "''") + "'" for file in files) + "]"


def zoneless(table: "pa.Table") -> "pa.Table":
    """Return a table whose timestamps have no zone, because all our times are UTC."""
    import pyarrow as pa

    def plain(kind: "pa.DataType") -> "pa.DataType":
        if pa.types.is_timestamp(kind):
            return pa.timestamp("us")
        if pa.types.is_list(kind):
            return pa.list_(plain(kind.value_type))
        return pa.struct([(each.name, plain(each.type)) for each in kind]) if pa.types.is_struct(kind) else kind

    schema = pa.schema([pa.field(each.name, plain(each.type)) for each in table.schema])
    # Casting loads pyarrow.compute, which takes longer than a small query.
    return table if table.schema == schema else table.cast(schema)


def _literal(name: str, value: object) -> "exp.Expr":
    """Return a parameter's value as an expression. Raises QueryError for a type that parameters do not have."""
    import bigquery_sql

    found = bigquery_sql.literal(value)
    if found is None:
        raise QueryError(f"parameter @{name} is {value!r}, a {type(value).__name__}, which a query can't take")
    return found


def _own_files(manifest: Manifest) -> list[FileEntry]:
    """Return the Parquet files of a partition; a manifest also names those of further datasets."""
    return [file for file in manifest.files_in(manifest.partition) if file.path.endswith(".parquet")]


def _table_name(dataset: str, label: str) -> str:
    return dataset if label == dataset else f"{dataset}_{label}"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]

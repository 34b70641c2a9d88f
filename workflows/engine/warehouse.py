"""Where tables live. On one machine: the datasets' own Parquet files, which DuckDB queries; no lock, no server.

SQL is written in BigQuery's dialect; sqlglot translates it. A table is a dataset, or `dataset_label` for a file group
of another name inside one (counts_words); only what a manifest names is seen. Each has the column `date`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.errors import QueryError
from workflows.engine import manifests
from workflows.engine.manifests import FileEntry, Manifest
from workflows.engine.storage import Storage

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection


class LocalWarehouse:
    """DuckDB over the partitions of a storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> "pa.Table":
        """Runs one SELECT in BigQuery's dialect; parameters: @name → value. Raises QueryError.

        Timestamps come without a zone and mean UTC.
        """
        import duckdb
        import sqlglot
        from sqlglot import exp

        parameters = dict(parameters or {})
        try:
            statements = [s for s in sqlglot.parse(sql, read="bigquery") if s is not None]
        except sqlglot.errors.SqlglotError as error:
            raise QueryError(f"not a query: {_first_line(error)}") from None
        if len(statements) != 1 or not isinstance(statements[0], exp.Query):
            raise QueryError("a query is one SELECT; the tables are written by the stages alone")
        statement = statements[0]
        defined = {cte.alias_or_name for cte in statement.find_all(exp.CTE)}
        names = {table.name for table in statement.find_all(exp.Table) if table.name} - defined
        translated = statement.transform(_zoneless).sql(dialect="duckdb")
        try:
            with duckdb.connect(":memory:") as connection:
                files = [file for name in sorted(names) for file in self._make_view(connection, name)]
                # From here on a query reaches the tables' files and nothing else of this machine.
                connection.execute(f"SET allowed_paths = {_listed(files)}")
                connection.execute("SET enable_external_access = false")
                found = _with_int64(connection.sql(translated, params=parameters or None).to_arrow_table())
        except duckdb.Error as error:
            raise QueryError(f"the query can't be run: {_first_line(error)}") from None
        if len(set(found.column_names)) < len(found.column_names):
            raise QueryError(f"two columns have one name in {', '.join(found.column_names)}; name them with AS")
        return found

    def tables(self) -> list[str]:
        """Names of the tables that have partitions."""
        return sorted(
            {
                _table_name(manifest.partition.split("/")[0], file.table)
                for manifest in self._manifests("")
                if "/date=" in manifest.partition
                for file in _own_files(manifest)
            }
        )

    def _manifests(self, dataset: str) -> list[Manifest]:
        found = []
        for path in self._storage.list(dataset, manifests.NAME):
            read = self._storage.read(path)
            if read is not None:
                found.append(Manifest.from_json(read.data, path))
        return found

    def _make_view(self, connection: "DuckDBPyConnection", name: str) -> list[str]:
        """Makes a table known; its files."""
        datasets = [name, *(name[:at] for at in range(len(name)) if name[at] == "_")]
        for dataset in datasets:
            files = [
                self._storage.uri(file.path)
                for manifest in self._manifests(dataset)
                for file in _own_files(manifest)
                if _table_name(dataset, file.table) == name
            ]
            if files:
                _view(connection, name, files)
                return files
        there = ", ".join(self.tables()) or "none yet"
        raise QueryError(f"there is no table {name}; there are: {there}")


def _view(connection: "DuckDBPyConnection", name: str, files: list[str]) -> None:
    scan = f"read_parquet({_listed(files)}, hive_partitioning=true, hive_types={{'date': DATE}}, union_by_name=true)"
    columns = connection.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()
    replaced = [
        f'CAST("{column}" AS TIMESTAMP) AS "{column}"'
        for column, kind, *_ in columns
        if kind.endswith("WITH TIME ZONE")
    ]
    replace = f" REPLACE ({', '.join(replaced)})" if replaced else ""
    connection.execute(f'CREATE VIEW "{name}" AS SELECT *{replace} FROM {scan}')


def _listed(files: list[str]) -> str:
    """Paths as a list in SQL."""
    return "[" + ", ".join("'" + file.replace("'", "''") + "'" for file in files) + "]"


def _with_int64(table: "pa.Table") -> "pa.Table":
    """A SUM or COUNTIF of whole numbers is an INT64 in BigQuery; DuckDB's HUGEINT arrives as a decimal."""
    import pyarrow as pa

    fields = [pa.field(f.name, pa.int64()) if f.type == pa.decimal128(38, 0) else f for f in table.schema]
    try:
        return table.cast(pa.schema(fields))
    except pa.ArrowInvalid:  # a sum beyond INT64
        return table


def _own_files(manifest: Manifest) -> list[FileEntry]:
    """The Parquet files of a partition; a manifest also names those of further datasets."""
    return [f for f in manifest.files if f.path.startswith(f"{manifest.partition}/") and f.path.endswith(".parquet")]


def _table_name(dataset: str, label: str) -> str:
    return dataset if label == dataset else f"{dataset}_{label}"


def _zoneless(node: Any) -> Any:
    """Types and literals of BigQuery's TIMESTAMP become DuckDB's without a zone: all our times are UTC."""
    from sqlglot import exp

    if isinstance(node, exp.DataType) and node.this in (exp.DataType.Type.TIMESTAMPTZ, exp.DataType.Type.TIMESTAMPLTZ):
        return exp.DataType.build("TIMESTAMP", dialect="duckdb")
    return node


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]

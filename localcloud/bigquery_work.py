"""What the local BigQuery's jobs do to its tables: load, query, extract and copy."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from localcloud import bigquery_files, bigquery_sql
from localcloud.bigquery_files import Objects
from localcloud.bigquery_sql import Source
from localcloud.bigquery_tables import (
    ApiError,
    Field,
    Name,
    Table,
    Write,
    arrow_schema,
    check_shape,
    conform,
    days_of,
    merge,
    millis,
    normal,
    only,
    table_bytes,
    unsupported,
)

#: An extract job with a wildcard begins another file after so many rows; the real one after a GB.
ROWS_PER_FILE = 10_000


@dataclass
class Catalog:
    """Datasets (project, name → as the API shows it) and tables; denied: the permissions that are refused."""

    datasets: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    tables: dict[Name, Table] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)

    def need(self, permission: str, what: str) -> None:
        """Raise ApiError if a permission is denied; what: the resource, as in "Table p:d.t"."""
        if permission in self.denied:
            kind, _, name = what.partition(" ")
            why = f"Permission {permission} denied on {kind.lower()} {name} (or it may not exist)."
            raise ApiError("accessDenied", f"Access Denied: {what}: {why}")

    def dataset(self, project: str, name: str, location: str = "") -> dict[str, Any]:
        """Return a dataset, in that location if one is named. Raises ApiError if there is none there."""
        found = self.datasets.get((project, name))
        if found is None or (location and found["location"].upper() != location.upper()):
            where = f" was not found in location {location}" if location else ""
            raise ApiError("notFound", f"Not found: Dataset {project}:{name}{where}")
        return found

    def add(self, project: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Make a dataset as is said, in US where no location is. Raises ApiError if it is there."""
        name = given["datasetReference"]["datasetId"]
        if not re.fullmatch(r"\w{1,1024}", name):
            raise ApiError("invalid", f'Invalid dataset ID "{name}".')
        if (project, name) in self.datasets:
            raise ApiError("duplicate", f"Already Exists: Dataset {project}:{name}")
        now = time.time()
        self.datasets[project, name] = {
            "labels": {},
            **given,
            "kind": "bigquery#dataset",
            "etag": f'"{now}"',
            "id": f"{project}:{name}",
            "datasetReference": {"projectId": project, "datasetId": name},
            "location": given.get("location") or "US",
            "creationTime": millis(now),
            "lastModifiedTime": millis(now),
        }
        return self.datasets[project, name]

    def table(self, name: Name) -> Table:
        """Return a table. Raises ApiError if there is none."""
        location = self.dataset(name.project, name.dataset)["location"]
        if name.whole not in self.tables:
            raise ApiError("notFound", f"Not found: Table {name.whole} was not found in location {location}")
        return self.tables[name.whole]

    def stored(self, name: Name) -> Table:
        """Return a table that holds its rows. Raises ApiError for a view, and if there is none."""
        found = self.table(name)
        if found.is_view:
            raise unsupported(f"reading a view, as {name.whole} is one")
        return found

    def within(self, project: str, dataset: str) -> list[Table]:
        """Return the tables of a dataset, by name."""
        found = [t for name, t in self.tables.items() if (name.project, name.dataset) == (project, dataset)]
        return sorted(found, key=lambda table: table.name.table)

    def new(self, name: Name, about: Mapping[str, Any]) -> Table:
        """Return a table that is not in the catalog yet. Raises ApiError for one that can't be."""
        self.need("bigquery.tables.create", f"Dataset {name.project}:{name.dataset}")
        fields = normal((about.get("schema") or {}).get("fields", []))
        whole = {**about, "schema": {"fields": fields}}
        check_shape(whole)
        now = time.time()
        location = self.dataset(name.project, name.dataset)["location"]
        return Table(name.whole, whole, arrow_schema(fields).empty_table(), location, now, now)

    def write(self, name: Name, rows: pa.Table, fields: Sequence[Field], write: Write, job: Mapping[str, Any]) -> None:
        """Write rows to a table or a partition of it, all or nothing. Raises ApiError.

        job: the configuration, which may say createDisposition, timePartitioning, clustering.
        """
        shape = {key: job[key] for key in ("timePartitioning", "clustering") if job.get(key)}
        table = self.tables.get(name.whole)
        if table is None:
            if job.get("createDisposition") == "CREATE_NEVER":
                raise ApiError("notFound", f"Not found: Table {name.whole}")
            table = self.new(name, {"schema": {"fields": fields}, **shape})
            if name.day and not table.day_field:
                raise unsupported("partitions other than by the day of a field")
        elif table.is_view:
            kind = table.about["type"]
            raise ApiError(
                "invalid", f"{name.whole} is not allowed for this operation because it is currently a {kind}."
            )
        elif "timePartitioning" in shape and shape["timePartitioning"].get("field") != table.day_field:
            message = f"Destination table exists with partitioning by {table.day_field}, the job's is by"
            given = shape["timePartitioning"].get("field")
            raise ApiError("invalid", f"Incompatible table partitioning specification. {message} {given}.")
        self.need("bigquery.tables.updateData", f"Table {name.whole}")
        merged, whole = write.apply(table, name.day, rows, fields)
        self.change(table, {**table.about, "schema": {"fields": merged}}, table.unexpired(whole))
        if table.day_field:
            days = [name.day] if name.day else days_of(conform(rows, merged), table.day_field).unique().to_pylist()
            table.touch(days)
        self.tables[name.whole] = table

    def change(self, table: Table, about: dict[str, Any], rows: pa.Table) -> None:
        """Give a table another description and other rows."""
        table.about, table.rows, table.changed, table.version = about, rows, time.time(), table.version + 1


@dataclass
class Outcome:
    """What a job leaves: its part of the statistics, and a query's rows."""

    statistics: dict[str, Any]
    rows: pa.Table | None = None
    fields: list[Field] = field(default_factory=list)


class Work(Protocol):
    """What a job of some kind does."""

    #: The tables that it reads or writes.
    names: list[Name]

    def check(self) -> None:
        """Raise ApiError for what BigQuery refuses before there is a job."""

    def run(self) -> Outcome:
        """Do the work, all or nothing. Raises ApiError for what the job fails with."""


class Load:
    """Files, of Cloud Storage or uploaded, into a table."""

    def __init__(self, catalog: Catalog, objects: Objects, config: Mapping[str, Any], data: bytes | None) -> None:
        only(
            config,
            "destinationTable sourceUris sourceFormat writeDisposition createDisposition schema autodetect "
            "schemaUpdateOptions timePartitioning clustering parquetOptions skipLeadingRows fieldDelimiter "
            "destinationEncryptionConfiguration",
            "a load job",
        )
        self._catalog, self._objects, self._config, self._data = catalog, objects, config, data
        self._name = Name.of(config["destinationTable"])
        self.names = [self._name]

    def check(self) -> None:
        self._catalog.need("bigquery.tables.updateData", f"Table {self._name.whole}")
        if self._data is None and not self._config.get("sourceUris"):
            raise ApiError("required", "Required parameter is missing: sourceUris")

    def run(self) -> Outcome:
        files = {"the upload": self._data} if self._data is not None else self._fetch()
        given = self._given_fields()
        tables, fields = [], list(given)
        for at, (where, data) in enumerate(files.items()):
            rows, found = bigquery_files.read(data, where, self._config, given)
            if at == 0:
                fields = found
            merge(self._name, fields, found, ())
            tables.append(conform(rows, fields))
        rows = pa.concat_tables(tables)
        write = Write(
            self._config.get("writeDisposition", "WRITE_APPEND"), tuple(self._config.get("schemaUpdateOptions", ()))
        )
        self._catalog.write(self._name, rows, fields, write, self._config)
        return Outcome(
            {
                "load": {
                    "inputFiles": str(len(files)),
                    "inputFileBytes": str(sum(map(len, files.values()))),
                    "outputRows": str(rows.num_rows),
                    "outputBytes": str(sum(table_bytes(rows).values())),
                    "badRecords": "0",
                }
            }
        )

    def _fetch(self) -> dict[str, bytes]:
        location = self._catalog.dataset(self._name.project, self._name.dataset)["location"]
        uris = [uri for given in self._config["sourceUris"] for uri in self._objects.matching(given)]
        for uri in {uri.split("/")[2]: uri for uri in uris}.values():
            self._objects.check_location(uri, location)
        return {uri: self._objects.read(uri) for uri in uris}

    def _given_fields(self) -> list[Field]:
        """Return the fields that the job or else the table says the files have; [] if the files are to say so
        themselves.
        """
        given = normal(self._config.get("schema", {}).get("fields", []))
        table = self._catalog.tables.get(self._name.whole)
        if given or self._config.get("autodetect"):
            return given
        there = table.fields if table else []
        if not there and self._config.get("sourceFormat", "CSV") != "PARQUET":
            raise ApiError("invalid", "No schema specified on job or table.")
        return there


class Query:
    """A statement of GoogleSQL."""

    def __init__(self, catalog: Catalog, objects: Objects, config: Mapping[str, Any], project: str) -> None:
        only(
            config,
            "query tableDefinitions useLegacySql parameterMode queryParameters defaultDataset destinationTable "
            "writeDisposition createDisposition maximumBytesBilled priority useQueryCache timePartitioning clustering "
            "schemaUpdateOptions allowLargeResults destinationEncryptionConfiguration",
            "a query job",
        )
        self._catalog, self._objects, self._config = catalog, objects, config
        self._statement = bigquery_sql.parse(config["query"], config, project)
        self._target = self._statement.target
        if config.get("destinationTable"):
            if self._target:
                raise ApiError("invalidQuery", "Cannot set destination table in jobs with DDL or DML statements")
            self._target = Name.of(config["destinationTable"])
        named = [name for name in self._statement.names if name.dataset]
        self.names = named + ([self._target] if self._target else [])

    def check(self) -> None:
        self._statement.run(self._sources(), only_types=True)
        if self._target:
            self._catalog.need("bigquery.tables.updateData", f"Table {self._target.whole}")
            if self._target.whole not in self._catalog.tables or self._statement.replaces:
                self._catalog.need("bigquery.tables.create", f"Dataset {self._target.project}:{self._target.dataset}")

    def _sources(self) -> list[Source]:
        return [self._source(name) for name in self._statement.names]

    def _source(self, name: Name) -> Source:
        if not name.dataset:
            return self._of_files(self._config["tableDefinitions"][name.table])
        if bigquery_sql.is_information(name):
            self._catalog.need("bigquery.tables.list", f"Dataset {name.project}:{name.dataset}")
            return bigquery_sql.information(name.table, self._catalog.within(name.project, name.dataset))
        self._catalog.need("bigquery.tables.getData", f"Table {name}")
        table = self._catalog.stored(name)
        return Source(table.rows, table.fields)

    def _of_files(self, defined: Mapping[str, Any]) -> Source:
        """Return the rows of files, as a definition of a table in the job's own configuration says."""
        only(defined, "sourceFormat sourceUris schema autodetect", "a definition of a table")
        if defined.get("sourceFormat") != "PARQUET":
            raise unsupported(f"a query of files in {defined.get('sourceFormat')}")
        fields = normal(defined.get("schema", {}).get("fields", []))
        tables = []
        for uri in [uri for given in defined["sourceUris"] for uri in self._objects.matching(given)]:
            rows, found = bigquery_files.read(self._objects.read(uri), uri, defined, fields)
            fields = fields or found
            tables.append(conform(rows, fields))
        return Source(pa.concat_tables(tables), fields)

    def estimate(self) -> Outcome:
        """Return what a dry run tells: the bytes and the types."""
        sources = self._sources()
        rows, fields = self._statement.run(sources, only_types=True)
        return self._outcome(self._statement.bytes_processed(sources), rows, fields)

    def run(self) -> Outcome:
        sources = self._sources()
        processed = self._statement.bytes_processed(sources)
        billed = bigquery_sql.bytes_billed(processed)
        limit = self._config.get("maximumBytesBilled")
        if limit is not None and billed > int(limit):
            message = f"Query exceeded limit for bytes billed: {limit}. {billed} or higher required."
            raise ApiError("bytesBilledLimitExceeded", message)
        rows, fields = self._statement.run(sources)
        outcome = self._outcome(processed, rows, fields)
        if self._statement.kind in ("DELETE", "MERGE"):
            table = self._catalog.table(self.names[-1])
            inserted, kept = table.rows.slice(0, 0), rows
            if self._statement.deletion:
                inserted = conform(rows, table.fields)
                kept, _ = self._statement.deletion.run([Source(table.rows, table.fields)])
            deleted = table.rows.num_rows - kept.num_rows
            rows = pa.concat_tables([conform(kept, table.fields), inserted])
            counts = {
                "insertedRowCount": str(inserted.num_rows),
                "deletedRowCount": str(deleted),
                "updatedRowCount": "0",
            }
            outcome.statistics["query"] |= {
                "numDmlAffectedRows": str(inserted.num_rows + deleted),
                "dmlStats": counts,
            }
            self._catalog.change(table, table.about, rows)
        elif self._target:
            if self._statement.replaces:
                self._catalog.tables.pop(self._target, None)
            elif self._statement.target and self._target in self._catalog.tables:
                raise ApiError("duplicate", f"Already Exists: Table {self._target}")
            disposition = self._config.get("writeDisposition", "WRITE_EMPTY")
            write = Write(disposition, tuple(self._config.get("schemaUpdateOptions", ())))
            self._catalog.write(self._target, rows, fields, write, self._config)
        if self._statement.kind != "SELECT":
            outcome.rows, outcome.fields = None, []
        return outcome

    def _outcome(self, processed: Sequence[int], rows: pa.Table, fields: list[Field]) -> Outcome:
        about = {
            "totalBytesProcessed": str(sum(processed)),
            "totalBytesBilled": str(bigquery_sql.bytes_billed(processed)),
            "cacheHit": False,
            "statementType": self._statement.kind,
            "referencedTables": [name.reference for name in self._statement.names if name.dataset],
            "schema": {"fields": fields},
        }
        return Outcome({"totalBytesProcessed": str(sum(processed)), "query": about}, rows, fields)


class Extract:
    """A table or a partition into Parquet files of Cloud Storage."""

    def __init__(self, catalog: Catalog, objects: Objects, config: Mapping[str, Any]) -> None:
        only(config, "sourceTable destinationUris destinationUri destinationFormat compression", "an extract job")
        self._catalog, self._objects, self._config = catalog, objects, config
        if config.get("destinationFormat", "CSV") != "PARQUET":
            raise unsupported(f"extracting {config.get('destinationFormat', 'CSV')}")
        self._uris = config.get("destinationUris") or [config.get("destinationUri", "")]
        if len(self._uris) != 1 or self._uris[0].count("*") > 1:
            raise unsupported("an extract job with several URIs or wildcards")
        self._name = Name.of(config["sourceTable"])
        self.names = [self._name]

    def check(self) -> None:
        self._catalog.need("bigquery.tables.export", f"Table {self._name.whole}")
        self._catalog.stored(self._name).read(self._name.day)

    def run(self) -> Outcome:
        table = self._catalog.table(self._name)
        rows = table.read(self._name.day)
        uri = self._uris[0]
        size = ROWS_PER_FILE if "*" in uri else max(rows.num_rows, 1)
        starts = range(0, max(rows.num_rows, 1), size)
        self._objects.check_location(uri, table.location)
        for at, start in enumerate(starts):
            data = bigquery_files.parquet(rows.slice(start, size), self._config.get("compression", "NONE"))
            self._objects.write(uri.replace("*", f"{at:012d}"), data)
        counts = {"destinationUriFileCounts": [str(len(starts))], "inputBytes": str(sum(table_bytes(rows).values()))}
        return Outcome({"extract": counts})


class Copy:
    """Tables or partitions into another."""

    def __init__(self, catalog: Catalog, config: Mapping[str, Any]) -> None:
        only(config, "sourceTable sourceTables destinationTable writeDisposition createDisposition", "a copy job")
        self._catalog, self._config = catalog, config
        self._sources = [Name.of(each) for each in config.get("sourceTables") or [config["sourceTable"]]]
        self._target = Name.of(config["destinationTable"])
        self.names = [*self._sources, self._target]

    def check(self) -> None:
        for name in self._sources:
            self._catalog.need("bigquery.tables.getData", f"Table {name.whole}")
            self._catalog.stored(name).read(name.day)
        self._catalog.need("bigquery.tables.updateData", f"Table {self._target.whole}")

    def run(self) -> Outcome:
        first = self._catalog.table(self._sources[0])
        parts = []
        for name in self._sources:
            table = self._catalog.table(name)
            merge(table.name, first.fields, table.fields, ())
            parts.append(conform(table.read(name.day), first.fields))
        rows = pa.concat_tables(parts)
        job = {**first.about, **self._config} if self._target.whole not in self._catalog.tables else self._config
        write = Write(self._config.get("writeDisposition", "WRITE_EMPTY"))
        self._catalog.write(self._target, rows, first.fields, write, job)
        return Outcome({"copy": {"copiedRows": str(rows.num_rows)}})


def work(
    catalog: Catalog, objects: Objects, kind: str, config: Mapping[str, Any], project: str, data: bytes | None
) -> Work:
    """Return what a job is to do. kind: load, query, extract or copy; data: what was uploaded with it.

    Raises ApiError.
    """
    makers: dict[str, Callable[[], Work]] = {
        "load": lambda: Load(catalog, objects, config, data),
        "query": lambda: Query(catalog, objects, config, project),
        "extract": lambda: Extract(catalog, objects, config),
        "copy": lambda: Copy(catalog, config),
    }
    return makers[kind]()

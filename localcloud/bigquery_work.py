"""What the local BigQuery's jobs do to its tables: load, query, extract and copy."""

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from localcloud import bigquery_files
from localcloud.bigquery_catalog import Catalog, Outcome, Work
from localcloud.bigquery_errors import ApiError, only, unsupported
from localcloud.bigquery_fields import Field, conform, merge, normal, table_bytes
from localcloud.bigquery_files import Objects
from localcloud.bigquery_query import Query
from localcloud.bigquery_tables import Name, Write

#: An extract job with a wildcard begins another file after so many rows; the real one after a GB.
ROWS_PER_FILE = 10_000


class Load:
    """Files, of Cloud Storage or uploaded, into a table."""

    def __init__(self, catalog: Catalog, objects: Objects, config: Mapping[str, Any], data: bytes | None) -> None:
        only(
            config,
            "destinationTable sourceUris sourceFormat writeDisposition createDisposition schema autodetect "
            "schemaUpdateOptions timePartitioning clustering parquetOptions skipLeadingRows fieldDelimiter "
            "destinationEncryptionConfiguration useAvroLogicalTypes ignoreUnknownValues allowQuotedNewlines quote "
            "nullMarker allowJaggedRows encoding",
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
        if not there and self._config.get("sourceFormat", "CSV") not in ("PARQUET", "AVRO"):
            raise ApiError("invalid", "No schema specified on job or table.")
        return there


class Extract:
    """A table or a partition into files of Cloud Storage."""

    def __init__(self, catalog: Catalog, objects: Objects, config: Mapping[str, Any]) -> None:
        only(
            config,
            "sourceTable destinationUris destinationUri destinationFormat compression printHeader fieldDelimiter "
            "useAvroLogicalTypes",
            "an extract job",
        )
        self._catalog, self._objects, self._config = catalog, objects, config
        if config.get("destinationFormat", "CSV") not in ("AVRO", "CSV", "NEWLINE_DELIMITED_JSON", "PARQUET"):
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
            data = bigquery_files.written(rows.slice(start, size), table.fields, self._config)
            self._objects.write(uri.replace("*", f"{at:012d}"), data)
        counts = {"destinationUriFileCounts": [str(len(starts))], "inputBytes": str(sum(table_bytes(rows).values()))}
        return Outcome({"extract": counts})


class Copy:
    """Tables or partitions into another."""

    def __init__(self, catalog: Catalog, config: Mapping[str, Any]) -> None:
        only(
            config,
            "sourceTable sourceTables destinationTable writeDisposition createDisposition operationType "
            "destinationEncryptionConfiguration",
            "a copy job",
        )
        if config.get("operationType", "COPY") not in ("COPY", "OPERATION_TYPE_UNSPECIFIED"):
            raise unsupported(f"the operationType {config['operationType']} of a copy job")
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

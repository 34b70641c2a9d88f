"""What the local BigQuery has: its datasets and tables, and what may be done with them."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from localcloud.bigquery_errors import ApiError, unsupported
from localcloud.bigquery_fields import Field, arrow_schema, conform, millis, normal
from localcloud.bigquery_tables import Name, Table, Write, check_shape, days_of


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

    def describe(self, project: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Give a dataset another description, in which None takes something away. Raises ApiError."""
        now = time.time()
        found = {**self.dataset(project, name), **given, "etag": f'"{now}"', "lastModifiedTime": millis(now)}
        self.datasets[project, name] = {key: value for key, value in found.items() if value is not None}
        return self.datasets[project, name]

    def drop(self, project: str, name: str, *, contents: bool) -> None:
        """Take a dataset away, with its tables where contents is said. Raises ApiError."""
        self.need("bigquery.datasets.delete", f"Dataset {project}:{name}")
        self.dataset(project, name)
        tables = self.within(project, name)
        if tables and not contents:
            raise ApiError("resourceInUse", f"Dataset {project}:{name} is still in use")
        for table in tables:
            del self.tables[table.name]
        del self.datasets[project, name]

    def table(self, name: Name) -> Table:
        """Return a table. Raises ApiError if there is none."""
        location = self.dataset(name.project, name.dataset)["location"]
        self._expire()
        if name.whole not in self.tables:
            raise ApiError("notFound", f"Not found: Table {name.whole} was not found in location {location}")
        return self.tables[name.whole]

    def stored(self, name: Name) -> Table:
        """Return a table that holds its rows. Raises ApiError for a view, and if there is none."""
        found = self.table(name)
        if found.is_view:
            kind = found.about["type"]
            message = f"{name.whole} is not allowed for this operation because it is currently a {kind}."
            raise ApiError("invalid", message)
        return found

    def within(self, project: str, dataset: str) -> list[Table]:
        """Return the tables of a dataset, by name."""
        self._expire()
        found = [t for name, t in self.tables.items() if (name.project, name.dataset) == (project, dataset)]
        return sorted(found, key=lambda table: table.name.table)

    def _expire(self) -> None:
        """Take away the tables whose time is over."""
        now = time.time() * 1000
        for name, table in list(self.tables.items()):
            if int(table.about.get("expirationTime") or now + 1) <= now:
                del self.tables[name]

    def new(self, name: Name, about: Mapping[str, Any]) -> Table:
        """Return a table that is not in the catalog yet. Raises ApiError for one that can't be."""
        self.need("bigquery.tables.create", f"Dataset {name.project}:{name.dataset}")
        fields = normal((about.get("schema") or {}).get("fields", []))
        whole = {**about, "schema": {"fields": fields}}
        check_shape(whole)
        now = time.time()
        dataset = self.dataset(name.project, name.dataset)
        if dataset.get("defaultTableExpirationMs") and not whole.get("expirationTime") and "type" not in whole:
            whole["expirationTime"] = str(int(now * 1000) + int(dataset["defaultTableExpirationMs"]))
        return Table(name.whole, whole, arrow_schema(fields).empty_table(), dataset["location"], now, now)

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
    #: Of a script's statements.
    children: "list[Outcome]" = field(default_factory=list)


class Work(Protocol):
    """What a job of some kind does."""

    #: The tables that it reads or writes.
    names: list[Name]

    def check(self) -> None:
        """Raise ApiError for what BigQuery refuses before there is a job."""

    def run(self) -> Outcome:
        """Do the work, all or nothing. Raises ApiError for what the job fails with."""

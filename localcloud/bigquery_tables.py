"""What the local BigQuery holds: tables as Arrow, their partitions, and which writes they take."""

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from localcloud.bigquery_errors import ApiError, only, unsupported
from localcloud.bigquery_fields import Field, conform, merge, millis, table_bytes

NO_DAY = "__NULL__"


@dataclass(frozen=True)
class Name:
    """A table's name; day: the partition (YYYYMMDD) where the name has one, as in table$20261119."""

    project: str
    dataset: str
    table: str
    day: str = ""

    @staticmethod
    def of(reference: Mapping[str, str]) -> "Name":
        """Return the name that a tableReference of the API gives. Raises ApiError for a bad partition."""
        table, _, day = reference["tableId"].partition("$")
        if day and not re.fullmatch(rf"\d{{8}}|{NO_DAY}", day):
            raise ApiError("invalid", f"Invalid partition decorator: {reference['tableId']} is not a day's partition")
        if not re.fullmatch(r"[\w\- ]{1,1024}", table):
            raise ApiError("invalid", f'Invalid table ID "{table}".')
        return Name(reference["projectId"], reference["datasetId"], table, day)

    @property
    def whole(self) -> "Name":
        """The table's name without a partition."""
        return Name(self.project, self.dataset, self.table)

    @property
    def reference(self) -> dict[str, str]:
        """As the API writes it."""
        table = f"{self.table}${self.day}" if self.day else self.table
        return {"projectId": self.project, "datasetId": self.dataset, "tableId": table}

    def __str__(self) -> str:
        return f"{self.project}:{self.dataset}.{self.reference['tableId']}"


@dataclass
class Table:
    """A table. about: schema, timePartitioning, clustering, labels, description, as in the request that made it."""

    name: Name
    about: dict[str, Any]
    rows: pa.Table
    location: str
    created: float
    changed: float
    version: int = 1
    #: Partition → when rows were last written to it.
    written: dict[str, float] = field(default_factory=dict)
    #: The insertIds of the rows that were streamed into it, as the keys.
    streamed: dict[str, bool] = field(default_factory=dict)

    @property
    def is_view(self) -> bool:
        """Whether it is a view, which holds no rows itself."""
        return bool(self.about.get("type", "TABLE") != "TABLE")

    @property
    def fields(self) -> list[Field]:
        """The schema."""
        return list(self.about.get("schema", {}).get("fields", []))

    def touch(self, days: Sequence[str]) -> None:
        """Note that rows of these partitions were written."""
        self.written |= dict.fromkeys(days, self.changed)

    @property
    def day_field(self) -> str | None:
        """The field that its partitions go by; None for a table without partitions."""
        return (self.about.get("timePartitioning") or {}).get("field")

    def days(self) -> pa.ChunkedArray:
        """Return the partition of every row. Raises ApiError for a table without partitions."""
        if not self.day_field:
            raise ApiError("invalid", f"Table {self.name} is not partitioned.")
        return days_of(self.rows, self.day_field)

    def unexpired(self, rows: pa.Table) -> pa.Table:
        """Return the rows whose partition has not expired, of rows in the table's schema."""
        kept = (self.about.get("timePartitioning") or {}).get("expirationMs")
        if not kept:
            return rows
        gone = datetime.datetime.now(datetime.UTC) - datetime.timedelta(milliseconds=int(kept))
        return rows.filter(pc.greater(days_of(rows, str(self.day_field)), f"{gone:%Y%m%d}"))

    def partitions(self) -> dict[str, pa.Table]:
        """Return day → its rows, in order; {"": all} for a table without partitions."""
        if not self.day_field:
            return {"": self.rows}
        days = self.days()
        return {day: self.rows.filter(pc.equal(days, day)) for day in sorted(pc.unique(days).to_pylist())}

    def read(self, day: str) -> pa.Table:
        """Return the rows of a partition; "" is all."""
        return self.rows.filter(pc.equal(self.days(), day)) if day else self.rows

    def resource(self, day: str = "") -> dict[str, Any]:
        """Return the table as the API shows it; the size is the partition's where one is named."""
        name = Name(**{**self.name.__dict__, "day": day})
        rows = self.read(day)
        return {
            "kind": "bigquery#table",
            "etag": f'"{self.created}-{self.version}"',
            "id": str(name),
            "type": "TABLE",
            **self.about,
            "tableReference": name.reference,
            "location": self.location,
            "creationTime": millis(self.created),
            "lastModifiedTime": millis(self.changed),
            "numRows": str(rows.num_rows),
            "numBytes": str(sum(table_bytes(rows).values())),
        }


@dataclass
class Source:
    """A table as a query reads it."""

    rows: pa.Table
    fields: list[Field]
    is_view: bool = False


@dataclass(frozen=True)
class Write:
    """How rows come into a table, as a job's configuration says it."""

    disposition: str
    updates: Sequence[str] = field(default_factory=tuple)

    def apply(self, table: Table, day: str, rows: pa.Table, fields: Sequence[Field]) -> tuple[list[Field], pa.Table]:
        """Return the schema and all rows that the table has afterwards. Raises ApiError; changes nothing.

        fields: of the rows. day: the partition written to; "" is the whole table.
        """
        if self.disposition not in ("WRITE_APPEND", "WRITE_EMPTY", "WRITE_TRUNCATE"):
            raise unsupported(self.disposition)
        replaces = self.disposition == "WRITE_TRUNCATE"
        if self.updates and not (self.disposition == "WRITE_APPEND" or (replaces and day)):
            raise ApiError(
                "invalid",
                "Schema update options should only be specified with WRITE_APPEND disposition, or with WRITE_TRUNCATE "
                "disposition on a table partition.",
            )
        if self.disposition == "WRITE_EMPTY" and table.read(day).num_rows:
            raise ApiError("duplicate", f"Already Exists: Table {table.name}")
        fresh = not table.fields or (replaces and not day)
        merged = list(fields) if fresh else merge(table.name, table.fields, fields, self.updates)
        if table.day_field and table.day_field not in {each["name"] for each in merged}:
            raise ApiError("invalid", "The field specified for partitioning cannot be found in the schema.")
        incoming = conform(rows, merged)
        if day:
            table.days()
            if pc.any(pc.not_equal(days_of(incoming, str(table.day_field)), day)).as_py():
                raise ApiError(
                    "invalid", f"Some rows belong to different partitions rather than destination partition {day}"
                )
        kept = table.rows
        if replaces:
            kept = kept.filter(pc.not_equal(table.days(), day)) if day else kept.slice(0, 0)
        return merged, incoming if fresh else pa.concat_tables([conform(kept, merged), incoming])


def days_of(rows: pa.Table, name: str) -> pa.ChunkedArray:
    """Return the partition that a DATE, TIMESTAMP or DATETIME field puts each row into."""
    return pc.fill_null(pc.strftime(rows.column(name).cast(pa.date32()), format="%Y%m%d"), NO_DAY)


def check_shape(about: Mapping[str, Any]) -> None:
    """Raise ApiError if a table can't be partitioned and clustered as is said."""
    kinds = {each["name"]: each["type"] for each in about.get("schema", {}).get("fields", [])}
    if partitioning := about.get("timePartitioning"):
        only(partitioning, "type field expirationMs", "timePartitioning")
        if partitioning.get("type", "DAY") != "DAY" or not partitioning.get("field"):
            raise unsupported("partitions other than by the day of a field")
        if partitioning["field"] not in kinds:
            raise ApiError("invalid", "The field specified for partitioning cannot be found in the schema.")
        if kinds[partitioning["field"]] not in ("DATE", "TIMESTAMP", "DATETIME"):
            raise ApiError("invalid", f"The field {partitioning['field']} for partitioning is no date or time.")
    clustered = (about.get("clustering") or {}).get("fields", [])
    for name in clustered:
        if name not in kinds:
            raise ApiError("invalid", f"The field specified for clustering cannot be found in the schema: {name}")
    if len(clustered) > 4:
        raise ApiError("invalid", "Too many fields specified for clustering, at most 4 are allowed.")

"""The warehouse in BigQuery: a dataset's tables, one partition a day or a name, or one alone.

A partition is published by one job, which replaces it as a whole: a day, or a whole table, by a load job, a name by a
MERGE. The job's id is derived from the partition and the manifest's digest (bigquery_jobs.py), so that publishing again
is the same job. Reading is by SQL, after a dry run that says what it would cost.
"""

import contextlib
import datetime
import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from millrace.beam.google_errors import reason, said
from millrace.common import folders
from millrace.common.tables import Table
from millrace.core.keys import Key, told
from millrace.core.warehouse import check_names, no_table, parse, table_names, zoneless
from millrace.errors import (
    AccessError,
    Command,
    CostError,
    ManifestError,
    MillraceError,
    QueryError,
    SchemaError,
    SettingError,
)
from millrace.gcloud import bigquery_filling, bigquery_jobs, bigquery_tables
from millrace.gcloud.bigquery_jobs import LABELS, TIMEOUT, Refusal
from millrace.gcloud.clients import Google

if TYPE_CHECKING:
    import pyarrow as pa
    from google.cloud import bigquery as api
    from sqlglot import exp

#: Permissions that a load needs on a table that is there.
_FILLING = ("bigquery.tables.update", "bigquery.tables.updateData")


class BigQueryWarehouse:
    """The tables of a dataset of BigQuery; uri: bigquery://PROJECT/DATASET.

    files: returns the URIs of what lies in a folder of Cloud Storage.
    """

    def __init__(self, uri: str, google: Google, files: Callable[[str], Collection[str]]) -> None:
        self.uri = uri
        self._project, _, self._dataset = uri.removeprefix("bigquery://").partition("/")
        self._google, self._files = google, files
        self._location = ""

    def location(self) -> str:
        """Return where the dataset lies, and so where its jobs run. Raises SettingError, AccessError.

        The dataset is asked once in a process.
        """
        from google.api_core.exceptions import NotFound

        if self._location:
            return self._location
        given = self._google.config.bigquery.location
        name = f"{self._project}.{self._dataset}"
        with self._google.told(f"read dataset {name}"):
            try:
                there = (
                    self._google.bigquery.get_dataset(name, retry=self._google.retry(), timeout=TIMEOUT).location
                    or given
                )
            except NotFound:
                raise SettingError(
                    f"dataset {name} does not exist (warehouse = {self.uri} in [millrace], "
                    f"{self._google.config.origin('millrace', 'warehouse')}); make it with "
                    f"`bq --location={given or 'US'} mk --dataset {self._project}:{self._dataset}`"
                ) from None
        if given and given.lower() != there.lower():
            raise SettingError(
                f"dataset {name} lies in {there}, but location = {given} in [bigquery], "
                f"{self._google.config.origin('bigquery', 'location')}; set it to {there}, or leave it out"
            )
        self._location = there
        return there

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> "pa.Table":
        """Run one SELECT in BigQuery's dialect; parameters: @name → value. Raises QueryError, CostError, AccessError.

        Timestamps come without a zone and mean UTC. A query that would read more than [bigquery] max_bytes_billed is
        not run.
        """
        statement = parse(sql)
        typed = [bigquery_jobs.parameter(name, value) for name, value in (parameters or {}).items()]
        limit = self._google.config.bigquery.max_bytes_billed
        with self._google.told("query BigQuery"), self._explained(statement):
            dry = self._config(typed, dry_run=True)
            estimate = self._google.bigquery.query(
                sql,
                job_config=dry,
                location=self.location(),
                retry=self._google.retry(),
                timeout=TIMEOUT,
                job_retry=None,
            )
            check_names([field.name for field in estimate.schema or ()])
            if (estimate.total_bytes_processed or 0) > limit:
                raise self._too_costly(f"the query would read {_size(estimate.total_bytes_processed or 0)}")
            return zoneless(self._run(sql, self._config(typed, maximum_bytes_billed=limit)))

    def tables(self) -> list[str]:
        """Return the names of the dataset's tables; views are left out."""
        self.location()
        with self._google.told(f"list the tables of {self.uri}"):
            listed = self._google.bigquery.list_tables(self._reference(), retry=self._google.retry(), timeout=TIMEOUT)
            return sorted(table.table_id for table in listed if table.table_type == "TABLE")

    def check(self, tables: Mapping[str, Table]) -> None:
        """Raise SchemaError if a table that is there can't take rows like these; changes nothing.

        Raises SettingError or AccessError if nothing could be published at all. Two requests a table, and two more.
        """
        from google.api_core.exceptions import NotFound

        location = self.location()
        with self._google.told("run a job in BigQuery"):
            self._google.bigquery.query(
                "SELECT 1",
                job_config=self._config(dry_run=True),
                location=location,
                retry=self._google.retry(),
                timeout=TIMEOUT,
                job_retry=None,
            )
        wrong = []
        for name, table in tables.items():
            with self._google.told(f"read table {self._name(name)}"), contextlib.suppress(NotFound):
                there = self._table(name)
                wrong += bigquery_tables.differences(there, table)
                found = self._google.bigquery.test_iam_permissions(
                    there, _FILLING, retry=self._google.retry(), timeout=TIMEOUT
                )
                if missing := [each for each in _FILLING if each not in found.get("permissions", ())]:
                    raise AccessError(
                        f"table {self._name(name)} can't be loaded: permission is missing ({', '.join(missing)})",
                        Command("doctor"),
                        mend="{0} names the role",
                    )
        if wrong:
            raise self._unfit(wrong)

    def publish(self, name: str, table: Table, key: Key, digest: str, files: Sequence[str], rows: int) -> None:
        """Make the rows of some Parquet files, and no others, the table's partition of a key.

        The table is created if need be; a column that it lacks is added. digest: of the manifest that names the files;
        what was published once under it is not published again, unless something else was since. files: URIs. rows: how
        many the files hold together, 0 if there are none. Raises SchemaError, ManifestError.
        """
        there = self._make(name, table)
        if not files:
            self.delete(name, key)
            return
        if rows and key.date:
            bigquery_tables.check_stays(there, key.date)
        where = self._partition(name, key)
        fill = bigquery_filling.merging if key.by not in ("", "date") else bigquery_filling.loading
        start = fill(self._google, self.location(), there, where, table, key, files)
        target = f"{self._project}.{self._dataset}.{where.table_id}"

        def refused(why: Refusal) -> MillraceError:
            if "different locations" in why.message:  # invalid too
                what = f"{target} can't be loaded from {files[0]}: {why.message}"
                return SettingError(what, Command("doctor"), mend="{0} says what to do")
            # A table that was changed meanwhile is named by the job, and what is wrong with a file is said of the file.
            if (
                why.reason == "invalid"
                and not why.location
                and why.message.startswith("Provided Schema does not match")
            ):
                return SchemaError(f"{target} can't take these rows: {why.message}")
            return ManifestError(
                f"{target} can't be loaded from {files[0]}: {why.message or why.reason}; make its stage again"
            )

        job = bigquery_jobs.finish(
            self._google,
            self.location(),
            self._job_id("load", name, key, digest),
            start,
            f"load {self._name(name)}{told(key)}",
            still_good=lambda job: self._holds(name, key, job),
            refused=refused,
        )
        got = bigquery_filling.written(job)
        if got is None:  # an answer may leave it out
            state = self._state(name, key)
            got = state[0] if state else 0
        if got != rows:
            raise ManifestError(
                f"{self._name(name)} got {got:,} rows{told(key)} from {files[0]}, but its manifest says {rows:,}; make "
                "its stage again"
            )

    def rows(self, tables: Mapping[str, Table]) -> Mapping[str, Mapping[str, int]]:
        """Return the rows of every partition of some tables, table → a key's folder → rows, in one request, and one
        more the first time, and one more where a table's partitions are names.

        BigQuery answers for at most 1,000 tables, of which the dataset may have more.
        """
        found: dict[str, dict[str, int]] = {}
        if not tables:
            return found
        given = {f"table_{n}": name for n, name in enumerate(tables)}
        asked = (
            f"SELECT table_name, partition_id, total_rows FROM {self._partitions} "
            f"WHERE table_name IN ({', '.join(f'@{each}' for each in given)})"
        )
        doing = "count the rows of the partitions"
        named = {}
        for row in self._select(asked, doing, given):
            name, partition = row["table_name"], row["partition_id"]
            by = tables[name].by
            if by == "date" and re.fullmatch(r"\d{8}", partition or ""):
                # Other ids are of partitions by hour or month, or of rows without a date (__NULL__, __UNPARTITIONED__).
                date = datetime.datetime.strptime(partition, "%Y%m%d").date()
                found.setdefault(name, {})[folders.of(date)] = row["total_rows"]
            elif not by:
                found.setdefault(name, {})[""] = found.get(name, {}).get("", 0) + row["total_rows"]
            elif by != "date":
                named[name] = f"SELECT '{name}' AS name, `{by}` AS part, COUNT(*) AS found FROM `{name}` GROUP BY part"
        for row in self._select(" UNION ALL ".join(named.values()), doing) if named else ():
            found.setdefault(row["name"], {})[f"{tables[row['name']].by}={row['part']}"] = row["found"]
        return found

    def count(self, name: str, key: Key) -> int:
        """Return the rows of the table's partition; 0 where there is none. Counting days reads no bytes."""
        if name not in self.tables():
            return 0
        which, value = bigquery_tables.where(key)
        found = self.query(f"SELECT COUNT(*) AS found FROM `{name}` WHERE {which}", value)
        return int(found["found"][0].as_py())

    def export(self, name: str, key: Key, folder: str) -> list[str]:
        """Return the table's partition as Parquet files for pipelines to read: their URIs, [] for no rows.

        folder: gs:// URI of a folder to write to, for this partition alone. Exported again into the same folder, the
        table unchanged, the job is the same, unless a file of it has gone since. Raises QueryError if there is no
        table.
        """
        from google.api_core.exceptions import NotFound
        from google.cloud import bigquery as api

        if key.by not in ("", "date"):
            what = f"{self._name(name)} can't be exported{told(key)} alone: BigQuery exports days and whole tables"
            raise QueryError(f"{what}; export all of it, or ask for the rows by a query")
        location = self.location()
        doing = f"export {self._name(name)}{told(key)}"
        with self._google.told(doing):
            try:
                table = self._table(name)
            except NotFound:
                raise no_table(name, self.tables()) from None
        if not (self._state(name, key) if key.by else table.num_rows):
            return []
        config = api.ExtractJobConfig(  # type: ignore[no-untyped-call]
            destination_format="PARQUET", compression="SNAPPY", labels=LABELS
        )

        first = self._job_id("export", name, key, f"{folder} {table.etag} {table.modified}")

        def place(job_id: str) -> str:
            # Not where an earlier job's files lie, because any that this job does not write would be taken for its own.
            return f"{folder}/part{job_id.removeprefix(first)}-*.parquet"

        def files(job: "api.ExtractJob") -> list[str]:
            # BigQuery numbers the files in place of the asterisk, with twelve digits.
            count = sum(job.destination_uri_file_counts or ())
            return [place(job.job_id).replace("*", f"{number:012d}") for number in range(count)]

        def start(job_id: str) -> "api.ExtractJob":
            return self._google.bigquery.extract_table(
                self._partition(name, key),
                place(job_id),
                job_id=job_id,
                location=location,
                job_config=config,
                retry=self._google.retry(),
                timeout=TIMEOUT,
            )

        job = bigquery_jobs.finish(
            self._google,
            location,
            first,
            start,
            doing,
            still_good=lambda job: {*files(job)} <= {*self._files(folder)},
            refused=lambda why: QueryError(f"could not {doing} to {folder}: {why.message or why.reason}"),
        )
        return files(job)

    def version(self, name: str) -> str:
        """Return a digest that is another when the table has been changed; "" where there is no table."""
        from google.api_core.exceptions import NotFound

        with self._google.told(f"read table {self._name(name)}"):
            try:
                table = self._table(name)
            except NotFound:
                return ""
        told = f"{table.etag} {table.modified} {table.num_rows}"
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def delete(self, name: str, key: Key) -> None:
        """Empty the table's partition; no table is fine."""
        with self._google.told(f"empty {self._name(name)}{told(key)}"):
            if key.by == "date":
                self._google.bigquery.delete_table(
                    self._partition(name, key), retry=self._google.retry(), timeout=TIMEOUT, not_found_ok=True
                )
            elif name in self.tables():
                which, value = bigquery_tables.where(key)
                parameters = [bigquery_jobs.parameter(name, each) for name, each in value.items()]
                self._run(f"DELETE FROM `{name}` WHERE {which}", self._config(parameters))

    def columns(self) -> Mapping[str, Mapping[str, str]]:
        found = {}
        for name in self.tables():
            with self._google.told(f"look at table {self._name(name)}"):
                table = self._table(name)
            found[name] = bigquery_tables.columns(table)
        return found

    # --- tables and partitions

    def _make(self, name: str, table: Table) -> "api.Table":
        """Create a table unless it is there, and return it as it is. Raises SchemaError if what is there can't take the
        rows.
        """
        from google.api_core.exceptions import NotFound
        from google.cloud import bigquery as api

        with self._google.told(f"read table {self._name(name)}"):
            try:
                there = self._table(name)
            except NotFound:
                self.location()  # raises an error that names the dataset, if that is missing
                wanted = api.Table(self._reference().table(name), schema=bigquery_tables.schema(table))
                if table.by == "date":
                    wanted.time_partitioning = api.TimePartitioning(api.TimePartitioningType.DAY, field="date")
                wanted.clustering_fields = bigquery_tables.clustering(table)
                wanted.labels = LABELS
                wanted.encryption_configuration = self._encryption()
                # Another host may have been first; its table is as good.
                there = self._google.bigquery.create_table(
                    wanted, exists_ok=True, retry=self._google.retry(), timeout=TIMEOUT
                )
        if wrong := bigquery_tables.differences(there, table):
            raise self._unfit(wrong)
        return there

    def _holds(self, name: str, key: Key, job: "api.LoadJob | api.QueryJob") -> bool:
        """Return whether the partition still holds what a load job wrote.

        The job's id says what the job loaded, not that nobody loaded something else since: published as A, then as B,
        then as A again, the partition needs another job, although A's is done. BigQuery says when a partition was last
        written; later than the job's end means by somebody else. In doubt the partition is loaded again, which does no
        harm.
        """
        state = self._state(name, key)
        if state is None:
            return not bigquery_filling.written(job)
        rows, written = state
        # A job's times are whole milliseconds.
        return bool(rows == bigquery_filling.written(job) and written < job.ended + datetime.timedelta(milliseconds=1))

    def _state(self, name: str, key: Key) -> tuple[int, datetime.datetime] | None:
        """Return a partition's rows and when it was last written, or of a name its table; None where there is none."""
        if key.by != "date":
            with self._google.told(f"read table {self._name(name)}"):
                table = self._table(name)
            rows = self.count(name, key) if key.by else table.num_rows
            return (rows, table.modified) if rows else None
        found = self._select(
            f"SELECT total_rows, last_modified_time FROM {self._partitions} "
            "WHERE table_name = @name AND partition_id = @day",
            f"read the partitions of {self._name(name)}",
            {"name": name, "day": f"{key.date:%Y%m%d}"},
        )
        return (found[0]["total_rows"], found[0]["last_modified_time"]) if found else None

    @property
    def _partitions(self) -> str:
        return f"`{self._project}`.`{self._dataset}`.INFORMATION_SCHEMA.PARTITIONS"

    def _reference(self) -> "api.DatasetReference":
        from google.cloud import bigquery as api

        return api.DatasetReference(self._project, self._dataset)

    def _table(self, name: str) -> "api.Table":
        """Return a table as BigQuery describes it. Raises what the client raises, NotFound for none."""
        return self._google.bigquery.get_table(
            self._reference().table(name), retry=self._google.retry(), timeout=TIMEOUT
        )

    def _partition(self, name: str, key: Key) -> "api.TableReference":
        """Return a day's partition; for other keys the table, because BigQuery has no other partitions of ours."""
        return self._reference().table(f"{name}${key.date:%Y%m%d}" if key.by == "date" else name)

    def _name(self, name: str) -> str:
        return f"{self._project}.{self._dataset}.{name}"

    def _job_id(self, kind: str, name: str, key: Key, what: str) -> str:
        """Return an id of letters, digits, _ and - that is the same for the same job.

        In another location the id is another, because a dataset may be made anew elsewhere, where the first job is not
        found.
        """
        whole = hashlib.sha256(f"{self._name(name)}${key.value} {self.location()} {what}".encode()).hexdigest()
        said = f"{key.date:%Y%m%d}" if key.date else str(key.value)[:100]
        what = "_".join(filter(None, [name[:200], said]))
        return f"millrace_{kind}_{re.sub(r'[^A-Za-z0-9_-]', '_', what)}_{whole[:16]}"

    # --- queries

    def _config(self, parameters: "Sequence[api.ScalarQueryParameter]" = (), **options: Any) -> "api.QueryJobConfig":
        from google.cloud import bigquery as api

        if key := self._encryption():  # the result is a table for a day; naming it takes one more request
            options["destination_encryption_configuration"] = key
        return api.QueryJobConfig(
            default_dataset=self._reference(), query_parameters=list(parameters), labels=LABELS, **options
        )

    def _run(self, sql: str, config: "api.QueryJobConfig") -> "pa.Table":
        found = self._google.bigquery.query_and_wait(
            sql,
            job_config=config,
            location=self.location(),
            retry=self._google.retry(),
            api_timeout=TIMEOUT,
            job_retry=self._google.retry(),
        )
        return found.to_arrow(create_bqstorage_client=False)

    def _select(self, sql: str, doing: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
        """Return the rows of a query about the dataset itself."""
        typed = [bigquery_jobs.parameter(name, value) for name, value in (parameters or {}).items()]
        with self._google.told(doing):
            found: list[dict[str, Any]] = self._run(sql, self._config(typed)).to_pylist()
        return found

    @contextlib.contextmanager
    def _explained(self, statement: "exp.Query") -> Iterator[None]:
        """Raise what is wrong with a query as QueryError or CostError."""
        from google.api_core.exceptions import BadRequest, GoogleAPICallError, NotFound

        try:
            yield
        except GoogleAPICallError as error:
            if reason(error) == "bytesBilledLimitExceeded":
                raise self._too_costly(f"the query is too large ({said(error)})") from None
            if isinstance(error, BadRequest) and "duplicate column name" in said(error).lower():
                check_names(statement.named_selects)
            if isinstance(error, NotFound):
                there = self.tables()
                if missing := sorted(table_names(statement) - set(there)):
                    raise no_table(missing[0], there) from None
            if isinstance(error, BadRequest | NotFound):
                raise QueryError(f"the query can't be run: {said(error)}") from None
            raise

    def _encryption(self) -> "api.EncryptionConfiguration | None":
        """Return how tables are encrypted, by [gcp] kms_key if one is set."""
        from google.cloud import bigquery as api

        key = self._google.config.gcp.kms_key
        return api.EncryptionConfiguration(key) if key else None

    def _unfit(self, wrong: Sequence[str]) -> SchemaError:
        return SchemaError(
            f"{'; '.join(wrong)}; give the table these columns, rename or delete it, or name another dataset "
            f"(warehouse in [millrace], {self._google.config.origin('millrace', 'warehouse')})"
        )

    def _too_costly(self, what: str) -> CostError:
        limit = self._google.config.bigquery.max_bytes_billed
        origin = self._google.config.origin("bigquery", "max_bytes_billed")
        return CostError(
            f"{what}, but max_bytes_billed in [bigquery], {origin}, allows {_size(limit)}; "
            "ask for fewer days (WHERE date = ...) or columns, or raise it"
        )


def _size(count: int) -> str:
    """Return a number of bytes, for people and exactly."""
    size, unit = float(count), "bytes"
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{count:,} bytes" if unit == "bytes" else f"{size:,.1f} {unit} ({count:,} bytes)"

"""The warehouse in BigQuery: a dataset's tables, one partition a day.

A partition is published by one load job, which replaces it as a whole. The job's id is derived from the partition and
the manifest's digest (bigquery_jobs.py), so that publishing again is the same job. Reading is by SQL, after a dry run
that says what it would cost.
"""

import contextlib
import datetime
import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from millrace.beam.google_errors import reason, said
from millrace.common.tables import Table
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
from millrace.gcloud import bigquery_jobs, bigquery_tables
from millrace.gcloud.bigquery_jobs import TIMEOUT, Refusal
from millrace.gcloud.clients import Google

if TYPE_CHECKING:
    import pyarrow as pa
    from google.cloud import bigquery as api
    from sqlglot import exp

_LABELS = {"millrace": "true"}
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
        typed = [_parameter(name, value) for name, value in (parameters or {}).items()]
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

    def publish(
        self, name: str, table: Table, date: datetime.date, digest: str, files: Sequence[str], rows: int
    ) -> None:
        """Make the rows of some Parquet files, and no others, the table's partition of a day.

        The table is created if need be; a column that it lacks is added. digest: of the manifest that names the files;
        what was published once under it is not published again, unless something else was since. files: URIs. rows: how
        many the files hold together, 0 if there are none. Raises SchemaError, ManifestError.
        """
        from google.cloud import bigquery as api

        there = self._make(name, table)
        if not files:
            self.delete(name, date)
            return
        if rows:
            bigquery_tables.check_stays(there, date)
        config = api.LoadJobConfig(
            source_format=api.SourceFormat.PARQUET,
            write_disposition=api.WriteDisposition.WRITE_TRUNCATE,
            # A table that somebody deletes meanwhile would come back without its partitioning.
            create_disposition=api.CreateDisposition.CREATE_NEVER,
            schema=bigquery_tables.merged(there, table),
            schema_update_options=[api.SchemaUpdateOption.ALLOW_FIELD_ADDITION],
            # A partition is encrypted as its table is, which may have been made when the settings named no key.
            destination_encryption_configuration=there.encryption_configuration,
            labels=_LABELS,
        )
        partition = self._partition(name, date)
        location = self.location()

        def start(job_id: str) -> "api.LoadJob":
            return self._google.bigquery.load_table_from_uri(
                files,
                partition,
                job_id=job_id,
                location=location,
                job_config=config,
                retry=self._google.retry(),
                timeout=TIMEOUT,
            )

        def refused(why: Refusal) -> MillraceError:
            where = f"{self._project}.{self._dataset}.{partition.table_id}"
            if "different locations" in why.message:  # invalid too
                what = f"{where} can't be loaded from {files[0]}: {why.message}"
                return SettingError(what, Command("doctor"), mend="{0} says what to do")
            # A table that was changed meanwhile is named by the job, and what is wrong with a file is said of the file.
            if (
                why.reason == "invalid"
                and not why.location
                and why.message.startswith("Provided Schema does not match")
            ):
                return SchemaError(f"{where} can't take these rows: {why.message}")
            return ManifestError(
                f"{where} can't be loaded from {files[0]}: {why.message or why.reason}; make its stage again"
            )

        job = bigquery_jobs.finish(
            self._google,
            location,
            self._job_id("load", name, date, digest),
            start,
            f"load {self._name(name)} for {date}",
            still_good=lambda job: self._holds(name, date, job),
            refused=refused,
        )
        got = job.output_rows
        if got is None:  # an answer may leave it out
            state = self._state(name, date)
            got = state[0] if state else 0
        if got != rows:
            raise ManifestError(
                f"{self._name(name)} got {got:,} rows for {date} from {files[0]}, but its manifest says {rows:,}; make "
                "its stage again"
            )

    def rows(self, names: Sequence[str]) -> Mapping[str, Mapping[datetime.date, int]]:
        """Return the rows of every partition of some tables, table → day → rows, in one request, and one more the first
        time.

        BigQuery answers for at most 1,000 tables, of which the dataset may have more.
        """
        found: dict[str, dict[datetime.date, int]] = {}
        if not names:
            return found
        given = {f"table_{n}": name for n, name in enumerate(names)}
        asked = (
            f"SELECT table_name, partition_id, total_rows FROM {self._partitions} "
            f"WHERE table_name IN ({', '.join(f'@{each}' for each in given)})"
        )
        for row in self._select(asked, "count the rows of the partitions", given):
            # Other ids are of partitions by hour or month, or of rows without a date (__NULL__, __UNPARTITIONED__).
            if re.fullmatch(r"\d{8}", row["partition_id"] or ""):
                date = datetime.datetime.strptime(row["partition_id"], "%Y%m%d").date()
                found.setdefault(row["table_name"], {})[date] = row["total_rows"]
        return found

    def count(self, name: str, date: datetime.date) -> int:
        """Return the rows of the table's partition of a day; 0 where there is none. Counting reads no bytes."""
        if name not in self.tables():
            return 0
        found = self.query(f"SELECT COUNT(*) AS found FROM `{name}` WHERE date = @date", {"date": date})
        return int(found["found"][0].as_py())

    def export(self, name: str, date: datetime.date, folder: str) -> list[str]:
        """Return the table's partition of a day as Parquet files for pipelines to read: their URIs.

        folder: gs:// URI of a folder to write to, for this partition alone. Exported again into the same folder, the
        table unchanged, the job is the same, unless a file of it has gone since. Raises QueryError if there is no
        table.
        """
        from google.api_core.exceptions import NotFound
        from google.cloud import bigquery as api

        location = self.location()
        doing = f"export {self._name(name)} for {date}"
        with self._google.told(doing):
            try:
                table = self._table(name)
            except NotFound:
                raise no_table(name, self.tables()) from None
        if self._state(name, date) is None:
            return []
        config = api.ExtractJobConfig(  # type: ignore[no-untyped-call]
            destination_format="PARQUET", compression="SNAPPY", labels=_LABELS
        )

        first = self._job_id("export", name, date, f"{folder} {table.etag} {table.modified}")

        def place(job_id: str) -> str:
            # Not where an earlier job's files lie, because any that this job does not write would be taken for its own.
            return f"{folder}/part{job_id.removeprefix(first)}-*.parquet"

        def files(job: "api.ExtractJob") -> list[str]:
            # BigQuery numbers the files in place of the asterisk, with twelve digits.
            count = sum(job.destination_uri_file_counts or ())
            return [place(job.job_id).replace("*", f"{number:012d}") for number in range(count)]

        def start(job_id: str) -> "api.ExtractJob":
            return self._google.bigquery.extract_table(
                self._partition(name, date),
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

    def delete(self, name: str, date: datetime.date) -> None:
        """Empty the table's partition of a day; no table is fine."""
        with self._google.told(f"empty {self._name(name)} for {date}"):
            self._google.bigquery.delete_table(
                self._partition(name, date), retry=self._google.retry(), timeout=TIMEOUT, not_found_ok=True
            )

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
                wanted.time_partitioning = api.TimePartitioning(api.TimePartitioningType.DAY, field="date")
                wanted.clustering_fields = list(table.cluster_by) or None
                wanted.labels = _LABELS
                wanted.encryption_configuration = self._encryption()
                # Another host may have been first; its table is as good.
                there = self._google.bigquery.create_table(
                    wanted, exists_ok=True, retry=self._google.retry(), timeout=TIMEOUT
                )
        if wrong := bigquery_tables.differences(there, table):
            raise self._unfit(wrong)
        return there

    def _holds(self, name: str, date: datetime.date, job: "api.LoadJob") -> bool:
        """Return whether the partition still holds what a load job wrote.

        The job's id says what the job loaded, not that nobody loaded something else since: published as A, then as B,
        then as A again, the partition needs another job, although A's is done. BigQuery says when a partition was last
        written; later than the job's end means by somebody else. In doubt the partition is loaded again, which does no
        harm.
        """
        state = self._state(name, date)
        if state is None:
            return not job.output_rows
        rows, written = state
        # A job's times are whole milliseconds.
        return bool(rows == job.output_rows and written < job.ended + datetime.timedelta(milliseconds=1))

    def _state(self, name: str, date: datetime.date) -> tuple[int, datetime.datetime] | None:
        """Return a partition's rows and when it was last written; None where there is none."""
        found = self._select(
            f"SELECT total_rows, last_modified_time FROM {self._partitions} "
            "WHERE table_name = @name AND partition_id = @day",
            f"read the partitions of {self._name(name)}",
            {"name": name, "day": f"{date:%Y%m%d}"},
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

    def _partition(self, name: str, date: datetime.date) -> "api.TableReference":
        return self._reference().table(f"{name}${date:%Y%m%d}")

    def _name(self, name: str) -> str:
        return f"{self._project}.{self._dataset}.{name}"

    def _job_id(self, kind: str, name: str, date: datetime.date, what: str) -> str:
        """Return an id of letters, digits, _ and - that is the same for the same job.

        In another location the id is another, because a dataset may be made anew elsewhere, where the first job is not
        found.
        """
        whole = hashlib.sha256(f"{self._name(name)}${date} {self.location()} {what}".encode()).hexdigest()
        return f"millrace_{kind}_{re.sub(r'[^A-Za-z0-9_-]', '_', name)[:200]}_{date:%Y%m%d}_{whole[:16]}"

    # --- queries

    def _config(self, parameters: "Sequence[api.ScalarQueryParameter]" = (), **options: Any) -> "api.QueryJobConfig":
        from google.cloud import bigquery as api

        if key := self._encryption():  # the result is a table for a day; naming it takes one more request
            options["destination_encryption_configuration"] = key
        return api.QueryJobConfig(
            default_dataset=self._reference(), query_parameters=list(parameters), labels=_LABELS, **options
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
        typed = [_parameter(name, value) for name, value in (parameters or {}).items()]
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


def _parameter(name: str, value: object) -> "api.ScalarQueryParameter":
    """Return a query's parameter with the type that its value has in Python. Raises QueryError for any other."""
    from google.cloud import bigquery as api

    # A bool is an int too, and a datetime a date.
    kinds: dict[type[Any], str] = {
        bool: "BOOL",
        int: "INT64",
        float: "FLOAT64",
        str: "STRING",
        bytes: "BYTES",
        datetime.datetime: "TIMESTAMP",
        datetime.date: "DATE",
    }
    for kind, called in kinds.items():
        if isinstance(value, kind):
            return api.ScalarQueryParameter(name, called, cast("Any", value))
    raise QueryError(f"parameter @{name} is {value!r}, a {type(value).__name__}, which no query takes")

"""The jobs that make some Parquet files a partition of a table in BigQuery, and replace what the partition had.

A day, and a whole table, are loaded. BigQuery has no partitions by a name: one MERGE whose condition never holds
deletes the name's rows and inserts those of the files, both or neither ("constant false predicate" in Google's
documentation of MERGE); it reads the files as a table that exists as long as the job does.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias, Union

from millrace.common.tables import Table
from millrace.core.keys import Key
from millrace.gcloud import bigquery_tables
from millrace.gcloud.bigquery_jobs import LABELS, TIMEOUT, parameter
from millrace.gcloud.clients import Google

if TYPE_CHECKING:
    from google.cloud import bigquery as api

#: A job that fills a table.
Filling: TypeAlias = Union["api.LoadJob", "api.QueryJob"]
#: What a MERGE calls the files that it reads.
_FILES = "millrace_files"


def loading(
    google: Google,
    location: str,
    there: "api.Table",
    partition: "api.TableReference",
    table: Table,
    key: Key,
    files: Sequence[str],
) -> Callable[[str], Filling]:
    """Return what starts the load job, under an id, that replaces a day of a table, or the whole table."""
    from google.cloud import bigquery as api

    config = api.LoadJobConfig(
        source_format=api.SourceFormat.PARQUET,
        write_disposition=api.WriteDisposition.WRITE_TRUNCATE,
        # A table that somebody deletes meanwhile would come back without its partitioning.
        create_disposition=api.CreateDisposition.CREATE_NEVER,
        schema=bigquery_tables.merged(there, table),
        # A partition is encrypted as its table is, which may have been made when the settings named no key.
        destination_encryption_configuration=there.encryption_configuration,
        labels=LABELS,
    )
    if key.by:
        config.schema_update_options = [api.SchemaUpdateOption.ALLOW_FIELD_ADDITION]
    else:  # a job that replaces a whole table says all that the table is to be
        config.clustering_fields = there.clustering_fields

    def start(job_id: str) -> "api.LoadJob":
        return google.bigquery.load_table_from_uri(
            files,
            partition,
            job_id=job_id,
            location=location,
            job_config=config,
            retry=google.retry(),
            timeout=TIMEOUT,
        )

    return start


def merging(
    google: Google,
    location: str,
    there: "api.Table",
    partition: "api.TableReference",
    table: Table,
    key: Key,
    files: Sequence[str],
) -> Callable[[str], Filling]:
    """Return what starts the job, under an id, that replaces the rows of a name; a column that the table lacks is added
    at once.
    """
    from google.cloud import bigquery as api

    name = f"{partition.project}.{partition.dataset_id}.{partition.table_id}"
    columns = bigquery_tables.merged(there, table)
    if len(columns) > len(there.schema):
        there.schema = columns
        with google.told(f"add columns to {name}"):
            google.bigquery.update_table(there, ["schema"], retry=google.retry(), timeout=TIMEOUT)
    source = api.ExternalConfig(api.SourceFormat.PARQUET)
    source.source_uris = [*files]
    source.schema = bigquery_tables.schema(table)
    config = api.QueryJobConfig(
        table_definitions={_FILES: source}, query_parameters=[parameter("value", key.value)], labels=LABELS
    )
    # The rows are of the name, whatever the files say.
    values = ", ".join("@value" if column == key.by else f"files.`{column}`" for column in table.columns)
    sql = (
        f"MERGE `{name}` AS there USING `{_FILES}` AS files ON FALSE "
        f"WHEN NOT MATCHED BY SOURCE AND there.`{key.by}` = @value THEN DELETE "
        f"WHEN NOT MATCHED THEN INSERT ({', '.join(f'`{column}`' for column in table.columns)}) VALUES ({values})"
    )

    def start(job_id: str) -> "api.QueryJob":
        return google.bigquery.query(
            sql,
            job_id=job_id,
            location=location,
            job_config=config,
            retry=google.retry(),
            timeout=TIMEOUT,
            job_retry=None,
        )

    return start


def written(job: Filling) -> int | None:
    """Return how many rows a job has written into a table; None where its answer leaves that out."""
    from google.cloud import bigquery as api

    if isinstance(job, api.QueryJob):
        return job.dml_stats.inserted_row_count if job.dml_stats else None
    rows: int | None = job.output_rows
    return rows

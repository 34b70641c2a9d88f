"""Rows that a step of a pipeline puts into BigQuery, once however often the step is tried.

Stages need none of this: their tables are published by the launcher, from the files of a manifest. A template has no
launcher, so that its last step does it.
"""

import datetime
from typing import Any

from millrace.beam.gcs import PATIENCE
from millrace.beam.google_errors import retry, told
from millrace.common.tables import Table

#: Jobs at most of one step, as many as a runner tries it: one that has failed is never run again.
_TRIES = 4
#: What a MERGE calls the file that it reads.
_FILE = "millrace_file"


def replace_rows(name: str, table: Table, uri: str, column: str, value: datetime.datetime, job: str) -> None:
    """Replace the rows of a table whose column has a value by those of a Parquet file of Cloud Storage.

    name: PROJECT.DATASET.TABLE; it is made, partitioned by `date`, if it is not there. job: the job's id, the same for
    each try of a step; where the job of an earlier try has failed, "-2" and so on follow it. Deletion and insertion are
    one statement, a MERGE whose condition never holds ("constant false predicate" in Google's documentation of MERGE).
    Raises AccessError, ServiceError, SourceError.
    """
    from google.api_core.exceptions import Conflict
    from google.cloud import bigquery as api

    project, dataset, _ = name.rsplit(".", 2)
    columns = [api.SchemaField(each, kind) for each, kind in table.columns.items()]
    source = api.ExternalConfig(api.SourceFormat.PARQUET)
    source.source_uris, source.schema = [uri], columns
    config = api.QueryJobConfig(
        table_definitions={_FILE: source},
        query_parameters=[api.ScalarQueryParameter("value", "TIMESTAMP", value)],
    )
    named = ", ".join(f"`{each}`" for each in table.columns)
    sql = (
        f"MERGE `{name}` AS there USING `{_FILE}` AS file ON FALSE "
        f"WHEN NOT MATCHED BY SOURCE AND there.`{column}` = @value THEN DELETE "
        f"WHEN NOT MATCHED THEN INSERT ({named}) VALUES ({', '.join(f'file.`{each}`' for each in table.columns)})"
    )
    with told(f"write rows to {name}"):
        client, again = api.Client(project=project), retry(PATIENCE)
        location = client.get_dataset(f"{project}.{dataset}", retry=again).location
        wanted = api.Table(name, columns)
        wanted.time_partitioning = api.TimePartitioning(api.TimePartitioningType.DAY, "date")
        wanted.clustering_fields = [*table.cluster_by] or None
        client.create_table(wanted, exists_ok=True, retry=again)
        running: Any = None
        for each in (job, *(f"{job}-{number}" for number in range(2, _TRIES + 1))):
            try:
                running = client.query(sql, config, job_id=each, location=location, retry=again, job_retry=None)
            except Conflict:  # an earlier try of the step has begun the job
                running = client.get_job(each, location=location, retry=again)
                if running.error_result:  # and it has failed, as it would for ever
                    continue
            break
        running.result(retry=again)
